//! Cases of topics: which names and filters are valid, which match, and which QoS arrives.

use super::fields::Put;

const LOGIN: &str = "> CONNECT clean\n< CONNACK reason=0\n";

/// Filter and name behind the case's own beginning, and whether they match.
const MATCHES: &[(&str, &str, bool)] = &[
    ("/a", "/a", true),
    ("/a", "/A", false),
    ("/a", "/a/", false),
    ("/a/", "/a", false),
    ("/a", "/ab", false),
    ("/a b", "/a b", true),
    ("/é", "/é", true),
    ("/é", "/e\u{301}", false),
    ("/+", "/a", true),
    ("/+", "/", true),
    ("/+", "/a/b", false),
    ("/+", "", false),
    ("/+/b", "/a/b", true),
    ("/+/b", "//b", true),
    ("/+/b", "/a/c", false),
    ("/+/+", "/a/b", true),
    ("/+/+", "/a", false),
    ("/a/+", "/a/", true),
    ("/a/+", "/a", false),
    ("/a/+/c", "/a/b/c", true),
    ("/a/+/c", "/a/b/d/c", false),
    ("/#", "/a", true),
    ("/#", "", true),
    ("/#", "/", true),
    ("/#", "/a/b/c", true),
    ("/a/#", "/a", true),
    ("/a/#", "/a/b", true),
    ("/a/#", "/ab", false),
    ("/a/#", "/b/a", false),
    ("/+/#", "/a/b/c", true),
    ("/+/#", "/a", true),
    ("/+/b/#", "/a/b", true),
    ("/+/b/#", "/a/c/b", false),
    ("/a//b", "/a//b", true),
    ("/a//b", "/a/b", false),
    ("/$x", "/$x", true),
    ("/+", "/$x", true),
    ("/#", "/$x/y", true),
];

const BAD_FILTERS: &[&str] = &[
    "a#", "#/a", "a/#/b", "a/b#", "##", "a/##", "+a", "a+", "a/+b", "a/b+/c", "++", "a/++", "#+", "+#", "/#/",
];
const BAD_NAMES: &[&str] = &["#", "+", "a/#", "a/+", "+/a", "a/+/b", "a#", "a+b"];
const BAD_SHARES: &[&str] =
    &["$share/g", "$share//a", "$share/g/", "$share/+/a", "$share/#/a", "$share/g+/a", "$share/"];

/// All of this page.
pub(crate) fn topics(put: Put<'_>) {
    for (filter, name, matched) in MATCHES {
        let came = if *matched { format!("< PUBLISH \"topic=%t{name}\" payload=1\n") } else { String::new() };
        // The end marker never matches the filter under test.
        let steps = format!(
            "{LOGIN}> SUBSCRIBE id=1 \"f=%t{filter}@0\" f=end/%t@0\n< SUBACK id=1 codes=0,0\n\
             > PUBLISH \"topic=%t{name}\" payload=1\n{came}> PUBLISH topic=end/%t\n< PUBLISH topic=end/%t"
        );
        let verb = if *matched { "matches" } else { "does not match" };
        let statements = "311:3.3.2-3 311:4.7.3-4 5:3.3.2-3 5:4.7.3-4";
        put(&format!("filter t{filter} {verb} name t{name}"), "both", statements, &steps);
    }
    for filter in BAD_FILTERS {
        let many = filter.contains('#');
        let statements =
            if many { "311:4.7.1-2 5:4.7.1-1 5:4.13.1-1" } else { "311:4.7.1-3 5:4.7.1-2 5:4.13.1-1" };
        let subscribe = format!("{LOGIN}> SUBSCRIBE id=1 f={filter}@0\n< refuse 0x8F|0x81|0x82");
        put(&format!("SUBSCRIBE to {filter}"), "both", statements, &subscribe);
        let unsubscribe = format!("{LOGIN}> UNSUBSCRIBE id=1 f={filter}\n< refuse 0x8F|0x81|0x82");
        put(&format!("UNSUBSCRIBE from {filter}"), "both", statements, &unsubscribe);
    }
    let empty = "311:4.7.3-1 5:4.7.3-1 5:4.13.1-1";
    put(
        "SUBSCRIBE to an empty filter",
        "both",
        empty,
        &format!("{LOGIN}> SUBSCRIBE id=1 f=@0\n< refuse 0x8F|0x81|0x82"),
    );
    put(
        "UNSUBSCRIBE from an empty filter",
        "both",
        empty,
        &format!("{LOGIN}> UNSUBSCRIBE id=1 f=\n< refuse 0x8F|0x81|0x82"),
    );
    for filter in BAD_SHARES {
        let steps = format!("{LOGIN}> SUBSCRIBE id=1 f={filter}@0\n< refuse 0x8F|0x81|0x82");
        put(&format!("shared SUBSCRIBE to {filter}"), "5", "4.8.2-1 4.8.2-2", &steps);
    }
    for name in BAD_NAMES {
        let refused = "< refuse 0x90|0x81|0x82";
        put(
            &format!("PUBLISH on {name}"),
            "both",
            "311:3.3.2-2 311:4.7.1-1 5:3.3.2-2 5:4.7.0-1",
            &format!("{LOGIN}> PUBLISH topic={name}\n{refused}"),
        );
        put(
            &format!("a will on {name}"),
            "both",
            "311:4.7.1-1 5:4.7.0-1",
            &format!("> CONNECT clean will.topic={name}\n{refused}"),
        );
        put(
            &format!("response topic {name}"),
            "5",
            "3.3.2-14",
            &format!("{LOGIN}> PUBLISH topic=%t/a p.response_topic={name}\n{refused}"),
        );
    }
    qos(put);
    properties(put);
}

/// Sends one message with this QoS to the end of its exchange.
fn published(qos: u8) -> String {
    let done = match qos {
        0 => "",
        1 => "b< PUBACK id=9\n",
        _ => "b< PUBREC id=9\nb> PUBREL id=9\nb< PUBCOMP id=9\n",
    };
    let id = if qos == 0 { "" } else { "id=9" };
    format!("b> PUBLISH topic=%t/a qos={qos} {id} payload=m\n{done}")
}

fn taken(qos: u8) -> &'static str {
    match qos {
        0 => "a< PUBLISH topic=%t/a qos=0 dup=0 retain=0 payload=m\n",
        1 => {
            "a< PUBLISH topic=%t/a qos=1 dup=0 retain=0 payload=m id=$p\na> PUBACK id=$p\na> PINGREQ\na< PINGRESP\n"
        }
        _ => {
            "a< PUBLISH topic=%t/a qos=2 dup=0 retain=0 payload=m id=$p\na> PUBREC id=$p\na< PUBREL id=$p\n\
             a> PUBCOMP id=$p\na> PINGREQ\na< PINGRESP\n"
        }
    }
}

fn qos(put: Put<'_>) {
    for (sent, granted) in (0..3).flat_map(|sent| (0..3).map(move |granted| (sent, granted))) {
        let arrives = sent.min(granted);
        let steps = format!(
            "a> CONNECT clean id=%ca\na< CONNACK reason=0\na> SUBSCRIBE id=1 f=%t/a@{granted}\na< SUBACK id=1 codes={granted}\n\
             b> CONNECT clean id=%cb\nb< CONNACK reason=0\n{}{}",
            published(sent),
            taken(arrives)
        );
        let own = match arrives {
            0 => "311:4.3.1-1 5:4.3.1-1",
            1 => "311:4.3.2-1 5:4.3.2-1 5:4.3.2-2",
            _ => "311:4.3.3-1 5:4.3.3-1 5:4.3.3-4",
        };
        let statements = format!("311:3.8.4-6 5:3.8.4-8 {own}");
        put(&format!("QoS {sent} to a subscription of QoS {granted}"), "both", &statements, &steps);
    }
}

/// What is passed on as it came, with every QoS.
fn properties(put: Put<'_>) {
    let all = [
        ("format=0", "3.3.2-4"),
        ("format=1", "3.3.2-4"),
        ("content_type=application/x", "3.3.2-20"),
        ("content_type=", "3.3.2-20"),
        ("response_topic=%t/r", "3.3.2-15"),
        ("correlation=\\x00\\x01\\xfe\\xff", "3.3.2-16"),
        ("correlation=", "3.3.2-16"),
        ("user=name:value", "3.3.2-17"),
        ("user=:", "3.3.2-17"),
    ];
    for (property, statement) in all {
        for qos in 0..3 {
            let id = if qos == 0 { "" } else { "id=9" };
            let done = match qos {
                0 => "",
                1 => "b< PUBACK id=9\n",
                _ => "b< PUBREC id=9\nb> PUBREL id=9\nb< PUBCOMP id=9\n",
            };
            let steps = format!(
                "a> CONNECT clean id=%ca\na< CONNACK reason=0\na> SUBSCRIBE id=1 f=%t/a@{qos}\na< SUBACK id=1\n\
                 b> CONNECT clean id=%cb\nb< CONNACK reason=0\nb> PUBLISH topic=%t/a qos={qos} {id} p.{property} payload=m\n\
                 {done}a< PUBLISH topic=%t/a qos={qos} p.{property} payload=m"
            );
            put(&format!("{property} is passed on with QoS {qos}"), "5", statement, &steps);
        }
    }
}
