//! Cases of fields: texts that are not UTF-8, options, reasons, identifiers of clients.

/// Takes name, versions, statements and steps of one case.
pub(crate) type Put<'p> = &'p mut dyn FnMut(&str, &str, &str, &str);

const LOGIN: &str = "> CONNECT clean\n< CONNACK reason=0\n";

/// What is not a UTF-8 string of MQTT.
const FAULTS: &[(&str, &str)] = &[
    ("a lone continuation byte", "a\\x80b"),
    ("an overlong slash", "a\\xc0\\xafb"),
    ("a surrogate", "a\\xed\\xa0\\x80b"),
    ("a code point beyond the last", "a\\xf4\\x90\\x80\\x80"),
    ("a character that is not whole", "a\\xe2\\x82"),
    ("U+0000", "a\\x00b"),
];

/// Packet, statements of both versions for ill-formed text, and which versions.
const FIELDS: &[(&str, &str, &str)] = &[
    ("client id", "CONNECT clean id=@", "311:3.1.3-4 5:3.1.3-4"),
    ("user name", "CONNECT clean user=@", "311:3.1.3-11 5:3.1.3-12"),
    ("will topic", "CONNECT clean will.topic=@", "311:3.1.3-10 5:3.1.3-11"),
    ("topic name", "PUBLISH topic=@", "311:3.3.2-1 5:3.3.2-1"),
    ("filter of SUBSCRIBE", "SUBSCRIBE id=1 f=@@0", "311:3.8.3-1 5:3.8.3-1"),
    ("filter of UNSUBSCRIBE", "UNSUBSCRIBE id=1 f=@", "311:3.10.3-1 5:3.10.3-1"),
    ("user property's name in CONNECT", "CONNECT clean p.user=@:v", "5:1.5.7-1"),
    ("user property's value in CONNECT", "CONNECT clean p.user=n:@", "5:1.5.7-1"),
    ("content type of a will", "CONNECT clean will.topic=w w.content_type=@", "5:3.1.4-1"),
    ("response topic of a will", "CONNECT clean will.topic=w w.response_topic=@", "5:3.1.4-1"),
    ("user property of a will", "CONNECT clean will.topic=w w.user=@:v", "5:1.5.7-1"),
    ("content type", "PUBLISH topic=t p.content_type=@", "5:3.3.2-19"),
    ("response topic", "PUBLISH topic=t p.response_topic=@", "5:3.3.2-13"),
    ("user property's name in PUBLISH", "PUBLISH topic=t p.user=@:v", "5:1.5.7-1"),
    ("user property's value in PUBLISH", "PUBLISH topic=t p.user=n:@", "5:1.5.7-1"),
    ("reason string of PUBACK", "PUBACK id=1 reason=0 p.reason_string=@", "5:4.13.1-1"),
    ("reason string of DISCONNECT", "DISCONNECT reason=0 p.reason_string=@", "5:4.13.1-1"),
    ("user property of SUBSCRIBE", "SUBSCRIBE id=1 p.user=n:@ f=t@0", "5:1.5.7-1"),
    ("user property of UNSUBSCRIBE", "UNSUBSCRIBE id=1 p.user=n:@ f=t", "5:1.5.7-1"),
];

/// All of this page.
pub(crate) fn texts(put: Put<'_>) {
    for (field, packet, own) in FIELDS {
        let versions = if own.contains("311:") { "both" } else { "5" };
        for (fault, bytes) in FAULTS {
            let null = *fault == "U+0000";
            let topic = null && (field.contains("topic n") || field.contains("filter"));
            let (older, newer) = if null { ("1.5.3-2", "1.5.4-2") } else { ("1.5.3-1", "1.5.4-1") };
            let mut statements = format!("{own} 5:{newer}");
            if versions == "both" {
                statements += &format!(" 311:{older}");
            }
            if topic {
                statements += " 311:4.7.3-2 5:4.7.3-2";
            }
            let packet = packet.replacen('@', bytes, 1);
            let login = if packet.starts_with("CONNECT") { "" } else { LOGIN };
            let steps = format!("{login}> {packet}\n< refuse 0x81|0x82|0x85|0x86|0x90|0x8F");
            put(&format!("{field} with {fault}"), versions, &statements, &steps);
        }
    }
    options(put);
    reasons(put);
    for count in [1, 2, 9, 22, 23] {
        // Names must differ between runs: the last letters are the case's own, cut to length where there is room.
        let id = if count < 20 { format!("{{x*{count}}}") } else { format!("{{y*{}}}%c", count - 12) };
        let steps = format!("> CONNECT clean id={id}\n< CONNACK reason=0");
        let versions = if count < 20 { "311" } else { "both" };
        let statements = if count < 20 { "3.1.3-5" } else { "311:3.1.3-5 5:3.1.3-5" };
        put(&format!("a client id of about {count} bytes"), versions, statements, &steps);
    }
}

fn options(put: Put<'_>) {
    let refused = |put: Put<'_>, option: u8, version: &str, statements: &str| {
        let steps = format!("{LOGIN}> SUBSCRIBE id=1 f=%t/a@{option}\n< refuse 0x81|0x82");
        put(&format!("subscription options {option:#04x}"), version, statements, &steps);
    };
    for option in [0x03, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xFC, 0xFF] {
        refused(put, option, "311", "3.8.3-4");
    }
    for option in [0x40, 0x80, 0xC0, 0x41, 0x82] {
        refused(put, option, "5", "3.8.3-5 4.13.1-1");
    }
    for option in [0x03, 0x30, 0x33] {
        refused(put, option, "5", "4.13.1-1");
    }
    for option in (0..3u8).flat_map(|qos| (0..12).map(move |high| qos | high << 2)) {
        let steps = format!("{LOGIN}> SUBSCRIBE id=1 f=%t/a@{option}\n< SUBACK id=1 codes={}", option & 3);
        put(&format!("valid subscription options {option:#04x}"), "5", "3.8.4-7 3.9.3-2", &steps);
    }
}

/// Reasons that are not for the packet, from a client.
fn reasons(put: Put<'_>) {
    for (packet, own, wrong) in [
        ("PUBACK id=1", "3.4.2-1", &[0x01, 0x11, 0x81, 0x92, 0xFF][..]),
        ("PUBREC id=1", "3.5.2-1", &[0x01, 0x11, 0x81, 0x92, 0xFF]),
        ("PUBREL id=1", "3.6.2-1", &[0x01, 0x10, 0x80, 0x91, 0xFF]),
        ("PUBCOMP id=1", "3.7.2-1", &[0x01, 0x10, 0x80, 0x91, 0xFF]),
        ("DISCONNECT", "3.14.2-1", &[0x01, 0x10, 0x84, 0x8D, 0xFF]),
    ] {
        let kind = packet.split(' ').next().unwrap();
        for reason in wrong {
            let steps = format!("{LOGIN}> {packet} reason={reason:#04x}\n< refuse 0x81|0x82");
            put(&format!("{kind} with reason {reason:#04x}"), "5", &format!("{own} 4.13.1-1"), &steps);
        }
    }
    for reason in [0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99] {
        let steps = format!("{LOGIN}> DISCONNECT reason={reason:#04x}\n< close");
        put(&format!("DISCONNECT with valid reason {reason:#04x}"), "5", "3.14.2-1 3.14.4-2", &steps);
    }
}
