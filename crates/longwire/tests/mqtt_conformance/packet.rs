//! Words to bytes: `PUBLISH topic=%t/a qos=1 id=5 payload=x p.expiry=60`. Any packet can be made wrong on purpose:
//! `flags=` the low half of the first byte, `remlen=` the length's bytes in hex, `cut=` keeps so many bytes of the body,
//! `more=` adds bytes, `plen=` the properties' length in hex. `HEX 10 00` is as it stands.

use super::properties::{self, Form};
use super::text::{Names, bytes, hex, number, words};

/// The value of the first word that begins with `key=`.
fn value<'w>(words: &'w [String], key: &str) -> Option<&'w str> {
    words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

fn is_set(words: &[String], key: &str) -> bool {
    words.iter().any(|word| word == key)
}

/// A variable byte integer (1.5.5).
pub(crate) fn variable(mut value: u32) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}

fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn put_two(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&(value as u16).to_be_bytes());
}

/// One property: `name=value`, or `N=hex` for one that the table does not know.
fn property(word: &str, names: &Names) -> Vec<u8> {
    let (name, value) = word.split_once('=').expect("a property has a value");
    if let Ok(id) = name.parse::<u8>() {
        return [vec![id], hex(value)].concat();
    }
    let known = properties::named(name);
    let mut out = vec![known.id];
    match known.form {
        Form::Byte => out.push(number(value, names) as u8),
        Form::Two => put_two(&mut out, number(value, names)),
        Form::Four => out.extend_from_slice(&number(value, names).to_be_bytes()),
        Form::Var => out.extend(variable(number(value, names))),
        Form::Text | Form::Binary => put_binary(&mut out, &bytes(value, names)),
        Form::Pair => {
            let (name, value) = value.split_once(':').expect("name:value");
            put_binary(&mut out, &bytes(name, names));
            put_binary(&mut out, &bytes(value, names));
        }
    }
    out
}

/// All properties with `prefix`, with their length.
fn all_properties(words: &[String], prefix: &str, names: &Names) -> Vec<u8> {
    let own = words.iter().filter_map(|word| word.strip_prefix(prefix));
    let all: Vec<u8> = own.flat_map(|word| property(word, names)).collect();
    let length = value(words, &format!("{}len", &prefix[..1]));
    [length.map_or_else(|| variable(all.len() as u32), hex), all].concat()
}

fn connect(words: &[String], is_5: bool, names: &Names) -> Vec<u8> {
    let mut out = Vec::new();
    put_binary(&mut out, &bytes(value(words, "name").unwrap_or("MQTT"), names));
    let level = value(words, "level").map_or(if is_5 { 5 } else { 4 }, |level| number(level, names));
    let is_5 = level == 5;
    let will = value(words, "will.topic");
    let mut flags = u32::from(is_set(words, "clean")) << 1 | u32::from(will.is_some()) << 2;
    flags |= value(words, "will.qos").map_or(0, |qos| number(qos, names)) << 3;
    flags |= u32::from(is_set(words, "will.retain")) << 5;
    flags |= u32::from(value(words, "pass").is_some()) << 6 | u32::from(value(words, "user").is_some()) << 7;
    out.push(level as u8);
    out.push(value(words, "cflags").map_or(flags, |flags| number(flags, names)) as u8);
    put_two(&mut out, value(words, "keep").map_or(60, |keep| number(keep, names)));
    if is_5 {
        out.extend(all_properties(words, "p.", names));
    }
    put_binary(&mut out, &bytes(value(words, "id").unwrap_or("%c"), names));
    if let Some(topic) = will {
        if is_5 {
            out.extend(all_properties(words, "w.", names));
        }
        put_binary(&mut out, &bytes(topic, names));
        put_binary(&mut out, &bytes(value(words, "will.payload").unwrap_or("gone"), names));
    }
    for field in ["user", "pass"] {
        if let Some(text) = value(words, field) {
            put_binary(&mut out, &bytes(text, names));
        }
    }
    out
}

/// `1`, or `1+nl+rap+rh2`, or `0xFF`.
fn options(text: &str) -> u8 {
    let part = |part: &str| match part {
        "nl" => 4,
        "rap" => 8,
        "rh1" => 0x10,
        "rh2" => 0x20,
        _ => super::text::try_number(part).expect("options") as u8,
    };
    text.split('+').map(part).fold(0, |all, bit| all | bit)
}

fn filters(words: &[String], has_options: bool, names: &Names) -> Vec<u8> {
    let mut out = Vec::new();
    for filter in words.iter().filter_map(|word| word.strip_prefix("f=")) {
        let (filter, with) = if has_options {
            let (filter, with) = filter.rsplit_once('@').expect("filter@options");
            (filter, Some(options(with)))
        } else {
            (filter, None)
        };
        put_binary(&mut out, &bytes(filter, names));
        out.extend(with);
    }
    out
}

/// Reason and properties, left out as far as they may be.
fn ending(words: &[String], is_5: bool, names: &Names) -> Vec<u8> {
    let has_properties = words.iter().any(|word| word.starts_with("p.") || word.starts_with("plen="));
    let reason = value(words, "reason").map(|reason| number(reason, names) as u8);
    match (is_5, reason, has_properties) {
        (false, _, _) | (true, None, false) => Vec::new(),
        (true, Some(reason), false) => vec![reason],
        (true, _, true) => [vec![reason.unwrap_or(0)], all_properties(words, "p.", names)].concat(),
    }
}

/// Type and body of a packet, its flags.
fn body(kind: &str, words: &[String], is_5: bool, names: &Names) -> (u8, u8, Vec<u8>) {
    let mut out = Vec::new();
    if let Some(id) = value(words, "id").filter(|_| !matches!(kind, "CONNECT" | "PUBLISH")) {
        put_two(&mut out, number(id, names));
    }
    let properties = |out: &mut Vec<u8>| {
        if is_5 {
            out.extend(all_properties(words, "p.", names));
        }
    };
    let (number_of, flags) = match kind {
        "CONNECT" => (1, 0),
        "CONNACK" => (2, 0),
        "PUBLISH" => (3, 0),
        "PUBACK" => (4, 0),
        "PUBREC" => (5, 0),
        "PUBREL" => (6, 2),
        "PUBCOMP" => (7, 0),
        "SUBSCRIBE" => (8, 2),
        "SUBACK" => (9, 0),
        "UNSUBSCRIBE" => (10, 2),
        "UNSUBACK" => (11, 0),
        "PINGREQ" => (12, 0),
        "PINGRESP" => (13, 0),
        "DISCONNECT" => (14, 0),
        "AUTH" => (15, 0),
        "TYPE0" => (0, 0),
        _ => panic!("no packet {kind}"),
    };
    match kind {
        "CONNECT" => out = connect(words, is_5, names),
        "PUBLISH" => {
            let qos = value(words, "qos").map_or(0, |qos| number(qos, names));
            put_binary(&mut out, &bytes(value(words, "topic").unwrap_or(""), names));
            if let Some(id) = value(words, "id") {
                put_two(&mut out, number(id, names));
            }
            properties(&mut out);
            out.extend(bytes(value(words, "payload").unwrap_or(""), names));
            let bits = u32::from(is_set(words, "dup")) << 3 | qos << 1 | u32::from(is_set(words, "retain"));
            return (number_of, bits as u8, out);
        }
        "PUBACK" | "PUBREC" | "PUBREL" | "PUBCOMP" | "DISCONNECT" | "AUTH" => {
            out.extend(ending(words, is_5, names));
        }
        "SUBSCRIBE" => {
            properties(&mut out);
            out.extend(filters(words, true, names));
        }
        "UNSUBSCRIBE" => {
            properties(&mut out);
            out.extend(filters(words, false, names));
        }
        _ => {}
    }
    (number_of, flags, out)
}

/// The bytes of a packet.
pub(crate) fn encode(line: &str, is_5: bool, names: &Names) -> Vec<u8> {
    if let Some(digits) = line.strip_prefix("HEX ") {
        return hex(digits);
    }
    let words = words(line);
    let (kind, flags, mut body) = body(&words[0], &words[1..], is_5, names);
    if let Some(kept) = value(&words, "cut") {
        body.truncate(number(kept, names) as usize);
    }
    if let Some(more) = value(&words, "more") {
        body.extend(hex(more));
    }
    let flags = value(&words, "flags").map_or(flags, |flags| number(flags, names) as u8);
    let length = value(&words, "remlen").map_or_else(|| variable(body.len() as u32), hex);
    [vec![kind << 4 | flags], length, body].concat()
}

/// A word that makes a packet wrong on purpose.
pub(crate) fn is_bent(line: &str) -> bool {
    ["HEX ", "flags=", "remlen=", "cut=", "more=", "plen=", "wlen=", "cflags="]
        .iter()
        .any(|word| line.contains(word))
}
