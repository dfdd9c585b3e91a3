//! Text of the cases that come in families.

mod crowds;
mod fields;
mod topics;

use super::properties::{self, Known};
use std::fmt::Write;

/// A case under construction.
struct Text(String);

const LOGIN: &str = "> CONNECT clean\n< CONNACK reason=0\n";

impl Text {
    fn case(&mut self, name: &str, versions: &str, statements: &str, steps: &str) {
        writeln!(self.0, "case | {name} | {versions} | {statements}\n{steps}").unwrap();
    }

    /// Logged in, it sends `packet` and is refused.
    fn refused(&mut self, name: &str, versions: &str, statements: &str, packet: &str, reasons: &str) {
        self.case(name, versions, statements, &format!("{LOGIN}> {packet}\n< refuse {reasons}"));
    }
}

/// All of them.
pub(crate) fn text() -> String {
    let mut text = Text(String::new());
    headers(&mut text);
    too_short(&mut text);
    too_long(&mut text);
    written_lengths(&mut text);
    fields::texts(&mut |name, versions, statements, steps| text.case(name, versions, statements, steps));
    properties_in_places(&mut text);
    topics::topics(&mut |name, versions, statements, steps| text.case(name, versions, statements, steps));
    crowds::crowds(&mut |name, versions, statements, steps| text.case(name, versions, statements, steps));
    text.0
}

/// Valid packets of a client that is logged in, by kind, with what holds their reserved flags in 5.0.
const PACKETS: &[(&str, &str, &str)] = &[
    ("PUBACK", "PUBACK id=1", "2.1.3-1"),
    ("PUBREC", "PUBREC id=1", "2.1.3-1"),
    ("PUBREL", "PUBREL id=1", "3.6.1-1"),
    ("PUBCOMP", "PUBCOMP id=1", "2.1.3-1"),
    ("SUBSCRIBE", "SUBSCRIBE id=1 f=%t/a@0", "3.8.1-1"),
    ("UNSUBSCRIBE", "UNSUBSCRIBE id=1 f=%t/a", "3.10.1-1"),
    ("PINGREQ", "PINGREQ", "2.1.3-1"),
    ("DISCONNECT", "DISCONNECT", "3.14.1-1"),
];

fn headers(text: &mut Text) {
    for (kind, packet, own) in PACKETS {
        let right = if matches!(*kind, "PUBREL" | "SUBSCRIBE" | "UNSUBSCRIBE") { 2 } else { 0 };
        for flags in [1, 2, 4, 8, 13].map(|wrong| right ^ wrong) {
            let older = match *own {
                "2.1.3-1" => String::new(),
                own => format!("311:{own}"),
            };
            let statements = format!("311:2.2.2-1 311:2.2.2-2 {older} 5:2.1.3-1 5:{own} 5:4.13.1-1");
            let name = format!("{kind} with header flags {flags}");
            text.refused(&name, "both", &statements, &format!("{packet} flags={flags}"), "0x81|0x82");
        }
    }
    for flags in [1, 2, 4, 8, 15] {
        let steps = format!("> CONNECT clean flags={flags}\n< refuse");
        let statements = "311:2.2.2-1 311:2.2.2-2 5:2.1.3-1 5:3.1.4-1";
        text.case(&format!("CONNECT with header flags {flags}"), "both", statements, &steps);
        let auth = format!("AUTH reason=0x18 p.auth_method=x flags={flags}");
        text.refused(&format!("AUTH with header flags {flags}"), "5", "3.15.1-1 2.1.3-1", &auth, "0x81|0x82");
    }
    let servers = [
        ("CONNACK", "HEX 20 02 00 00"),
        ("SUBACK", "HEX 90 03 00 01 00"),
        ("UNSUBACK", "HEX b0 02 00 01"),
        ("PINGRESP", "PINGRESP"),
        ("type 0", "HEX 00 00"),
    ];
    for (kind, packet) in servers {
        let name = format!("{kind} from a client");
        text.refused(&name, "both", "311:4.8.0-1 5:4.13.1-1", packet, "0x81|0x82");
    }
    text.refused("type 15", "311", "4.8.0-1 2.2.2-2", "HEX f0 00", "");
    let first = PACKETS.iter().map(|(kind, packet, _)| (*kind, *packet)).chain(servers);
    for (kind, packet) in first
        .chain([("PUBLISH", "PUBLISH topic=%t/a"), ("PUBLISH of QoS 1", "PUBLISH topic=%t/a qos=1 id=1")])
    {
        let name = format!("{kind} before CONNECT");
        text.case(&name, "both", "311:3.1.0-1 5:3.1.0-1", &format!("> {packet}\n< refuse"));
    }
}

/// Bodies that are too short.
fn too_short(text: &mut Text) {
    for cut in 0..17 {
        let only = if cut > 14 { "5" } else { "both" };
        let statements = if cut > 14 { "3.1.4-1" } else { "311:3.1.4-1 5:3.1.4-1" };
        // Before its level was read, a client cannot be answered in its version.
        let reasons = if cut < 7 { "" } else { "0x81|0x82" };
        let steps = format!("> CONNECT clean id=abcd cut={cut}\n< refuse {reasons}");
        text.case(&format!("CONNECT cut to {cut} bytes"), only, statements, &steps);
    }
    let bodies = [
        ("PUBLISH", "PUBLISH topic=cut qos=1 id=5", 7, "311:4.8.0-1 5:4.13.1-1", "both"),
        ("PUBLISH", "PUBLISH topic=cut qos=1 id=5", 8, "4.13.1-1", "5"),
        ("SUBSCRIBE", "SUBSCRIBE id=5 f=cut@0", 8, "311:4.8.0-1 5:4.13.1-1", "both"),
        ("SUBSCRIBE", "SUBSCRIBE id=5 f=cut@0", 9, "4.13.1-1", "5"),
        ("UNSUBSCRIBE", "UNSUBSCRIBE id=5 f=cut", 7, "311:4.8.0-1 5:4.13.1-1", "both"),
        ("UNSUBSCRIBE", "UNSUBSCRIBE id=5 f=cut", 8, "4.13.1-1", "5"),
        ("PUBACK", "PUBACK id=5", 2, "311:4.8.0-1 5:4.13.1-1", "both"),
        ("PUBREC", "PUBREC id=5", 2, "311:4.8.0-1 5:4.13.1-1", "both"),
        ("PUBREL", "PUBREL id=5", 2, "311:4.8.0-1 5:4.13.1-1", "both"),
        ("PUBCOMP", "PUBCOMP id=5", 2, "311:4.8.0-1 5:4.13.1-1", "both"),
    ];
    for (kind, packet, whole, statements, versions) in bodies {
        for cut in if versions == "both" { 0..whole } else { whole - 1..whole } {
            let name = format!(
                "{kind} cut to {cut} bytes{}",
                if versions == "both" { "" } else { ", with properties" }
            );
            text.refused(&name, versions, statements, &format!("{packet} cut={cut}"), "0x81|0x82|0x90|0x8F");
        }
    }
}

/// Bodies that are too long.
fn too_long(text: &mut Text) {
    for (kind, packet, _) in PACKETS {
        let more = if matches!(*kind, "PUBACK" | "PUBREC" | "PUBREL" | "PUBCOMP" | "DISCONNECT") {
            "00 00 ff"
        } else {
            "ff"
        };
        let name = format!("{kind} with bytes behind it");
        text.refused(
            &name,
            "both",
            "311:4.8.0-1 5:4.13.1-1",
            &format!("{packet} more={}", more.replace(' ', "")),
            "0x81|0x82|0x8F",
        );
    }
    text.case(
        "CONNECT with bytes behind it",
        "both",
        "311:3.1.4-1 5:3.1.4-1",
        "> CONNECT clean more=ff\n< refuse 0x81|0x82",
    );
}

/// Lengths written wrongly, and payloads around the edges of their forms.
fn written_lengths(text: &mut Text) {
    for (kind, head) in
        [("PUBLISH", "30"), ("SUBSCRIBE", "82"), ("PINGREQ", "c0"), ("DISCONNECT", "e0"), ("PUBACK", "40")]
    {
        let packet = format!("HEX {head} ff ff ff ff 01 00 00");
        text.refused(
            &format!("{kind} with a length of five bytes"),
            "both",
            "311:4.8.0-1 5:1.5.5-1 5:4.13.1-1",
            &packet,
            "0x81|0x82|0x95",
        );
    }
    for (name, packet) in [
        ("a length in two bytes that fits in one", "HEX c0 80 00"),
        ("a length in three bytes that fits in one", "HEX c0 80 80 00"),
        ("a length in four bytes that fits in one", "HEX c0 80 80 80 00"),
    ] {
        text.refused(name, "5", "1.5.5-1 4.13.1-1", packet, "0x81");
    }
    text.refused(
        "a properties length in two bytes that fits in one",
        "5",
        "1.5.5-1 4.13.1-1",
        "PUBLISH topic=%t/a plen=8000",
        "0x81",
    );
    text.refused(
        "a subscription identifier in two bytes that fits in one",
        "5",
        "1.5.5-1",
        "SUBSCRIBE id=1 p.11=8100 f=%t/a@0",
        "0x81|0x82",
    );
    text.refused(
        "properties longer than the packet",
        "5",
        "4.13.1-1 2.2.2-1",
        "PUBLISH topic=%t/a plen=7f",
        "0x81|0x82",
    );
    text.refused(
        "properties shorter than they are",
        "5",
        "4.13.1-1 2.2.2-1",
        "SUBSCRIBE id=1 plen=01 p.user=a:b f=%t/a@0",
        "0x81|0x82|0x8F",
    );
    for count in [0, 1, 90, 127, 128, 200, 16_000, 16_383, 16_384, 20_000] {
        let steps = format!(
            "{LOGIN}> SUBSCRIBE id=1 f=%t/a@0\n< SUBACK id=1\n> PUBLISH topic=%t/a payload={{x*{count}}}\n< PUBLISH topic=%t/a bytes={count}"
        );
        text.case(&format!("a payload of {count} bytes"), "both", "311:3.3.2-3 5:3.3.2-3 5:1.5.5-1", &steps);
    }
}

/// A packet of a client with this property.
fn with(place: &str, property: &str) -> String {
    match place {
        "CONNECT" => format!("CONNECT clean p.{property}"),
        "WILL" => format!("CONNECT clean will.topic=%t/w w.{property}"),
        "PUBLISH" => format!("PUBLISH topic=%t/a p.{property}"),
        "SUBSCRIBE" => format!("SUBSCRIBE id=1 p.{property} f=%t/a@0"),
        "UNSUBSCRIBE" => format!("UNSUBSCRIBE id=1 p.{property} f=%t/a"),
        "DISCONNECT" => format!("DISCONNECT reason=0 p.{property}"),
        ack => format!("{ack} id=1 reason=0 p.{property}"),
    }
}

fn steps_with(place: &str, packet: &str, reasons: &str) -> String {
    let login = if matches!(place, "CONNECT" | "WILL") { "" } else { LOGIN };
    format!("{login}> {packet}\n< refuse {reasons}")
}

const PLACES: &[&str] = &[
    "CONNECT",
    "WILL",
    "PUBLISH",
    "PUBACK",
    "PUBREC",
    "PUBREL",
    "PUBCOMP",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "DISCONNECT",
];

fn statement_of(place: &str) -> &'static str {
    if matches!(place, "CONNECT" | "WILL") { "3.1.4-1 4.13.1-1" } else { "4.13.1-1" }
}

fn properties_in_places(text: &mut Text) {
    for place in PLACES {
        let at_home = |known: &&Known| known.places.contains(place);
        for known in properties::ALL.iter().filter(|known| !at_home(known)) {
            let packet = with(place, &format!("{}={}", known.name, known.sample));
            let name = format!("{} in {place}", known.name);
            text.case(&name, "5", statement_of(place), &steps_with(place, &packet, "0x81|0x82"));
        }
        for unknown in [0, 4, 127] {
            let steps = steps_with(place, &with(place, &format!("{unknown}=00")), "0x81|0x82");
            text.case(&format!("property {unknown} in {place}"), "5", statement_of(place), &steps);
        }
        for known in properties::ALL.iter().filter(at_home).filter(|known| !known.repeats(place)) {
            // Those that a client may not send there, or that end otherwise.
            if matches!(known.name, "sub_id" | "server_reference" | "auth_method" | "auth_data") {
                continue;
            }
            let again = if matches!(*place, "WILL") { " w." } else { " p." };
            let one = format!("{}={}", known.name, known.sample);
            let packet = with(place, &format!("{one}{again}{one}"));
            let name = format!("{} twice in {place}", known.name);
            text.case(&name, "5", statement_of(place), &steps_with(place, &packet, "0x82|0x81"));
        }
    }
    for (place, property, reasons) in [
        ("CONNECT", "problem_info=2", "0x82|0x81"),
        ("CONNECT", "want_response_info=2", "0x82|0x81"),
        ("PUBLISH", "format=2", "0x82|0x81"),
        ("WILL", "format=2", "0x82|0x81"),
    ] {
        let steps = steps_with(place, &with(place, property), reasons);
        text.case(&format!("{property} in {place}"), "5", statement_of(place), &steps);
    }
}
