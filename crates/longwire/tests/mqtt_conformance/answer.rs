//! A server's bytes to fields, and fields against a pattern. What a server must not send is refused whatever the
//! pattern says: reserved bits, reasons and properties that are not for the packet, lengths that do not add up.

use super::properties::{self, Form};
use super::text::{Names, bytes, shown, try_number, words};

/// A packet of the server.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) kind: &'static str,
    pub(crate) fields: Vec<(String, String)>,
}

const KINDS: [&str; 16] = [
    "TYPE0",
    "CONNECT",
    "CONNACK",
    "PUBLISH",
    "PUBACK",
    "PUBREC",
    "PUBREL",
    "PUBCOMP",
    "SUBSCRIBE",
    "SUBACK",
    "UNSUBSCRIBE",
    "UNSUBACK",
    "PINGREQ",
    "PINGRESP",
    "DISCONNECT",
    "AUTH",
];
const CONNECT_REASONS: &[u8] = &[
    0, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A,
    0x9B, 0x9C, 0x9D, 0x9F,
];
const PUBLISH_REASONS: &[u8] = &[0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
const RELEASE_REASONS: &[u8] = &[0, 0x92];
const SUBSCRIBE_REASONS: &[u8] = &[0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2];
const UNSUBSCRIBE_REASONS: &[u8] = &[0, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91];
/// Those that a server may give (3.14.2.1); 0x8C by 2.4.
const DISCONNECT_REASONS: &[u8] = &[
    0, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97,
    0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
];

/// Bytes taken off the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or("a field ends behind the packet")?;
        self.0 = rest;
        Ok(taken)
    }
    fn one(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }
    fn two(&mut self) -> Result<u32, String> {
        let two = self.take(2)?;
        Ok(u32::from(two[0]) << 8 | u32::from(two[1]))
    }
    fn variable(&mut self) -> Result<u32, String> {
        let mut value = 0;
        for at in 0..4 {
            let byte = self.one()?;
            value |= u32::from(byte & 0x7F) << (7 * at);
            if byte & 0x80 == 0 {
                return if at > 0 && byte == 0 {
                    Err("a length longer than needed".into())
                } else {
                    Ok(value)
                };
            }
        }
        Err("a length of five bytes".into())
    }
    fn binary(&mut self) -> Result<&'a [u8], String> {
        let count = self.two()?;
        self.take(count as usize)
    }
    fn text(&mut self) -> Result<&'a [u8], String> {
        let text = self.binary()?;
        match std::str::from_utf8(text) {
            Ok(valid) if !valid.contains('\0') => Ok(text),
            _ => Err("a text that is not UTF-8".into()),
        }
    }
}

/// The length of the first packet in `bytes`, header included; `None`: more bytes are needed.
pub(crate) fn packet_bytes(bytes: &[u8]) -> Result<Option<usize>, String> {
    let end = bytes.iter().skip(1).position(|byte| byte & 0x80 == 0);
    let Some(end) = end else {
        return if bytes.len() > 4 { Err("a length of five bytes".into()) } else { Ok(None) };
    };
    let body = Reader(&bytes[1..]).variable()? as usize;
    let whole = 2 + end + body;
    Ok((bytes.len() >= whole).then_some(whole))
}

/// Fields of one whole packet.
pub(crate) fn decode(packet: &[u8], is_5: bool) -> Result<Answer, String> {
    let (kind, flags) = (KINDS[usize::from(packet[0] >> 4)], packet[0] & 0x0F);
    let mut reader = Reader(&packet[1..]);
    reader.variable()?;
    let right_flags = match kind {
        "PUBLISH" => flags,
        "PUBREL" => 2,
        _ => 0,
    };
    if flags != right_flags {
        return Err(format!("{kind} with flags {flags}"));
    }
    // A refusal may come in the form of 3.1.1 although the client spoke another level.
    let is_5 = is_5 && !(kind == "CONNACK" && reader.0.len() == 2);
    let mut fields = Fields { kind, is_5, all: Vec::new() };
    match kind {
        "CONNACK" => fields.connack(&mut reader)?,
        "PUBLISH" => fields.publish(flags, &mut reader)?,
        "PUBACK" | "PUBREC" => fields.ack(&mut reader, PUBLISH_REASONS)?,
        "PUBREL" | "PUBCOMP" => fields.ack(&mut reader, RELEASE_REASONS)?,
        "SUBACK" => fields.codes(&mut reader, SUBSCRIBE_REASONS)?,
        "UNSUBACK" => fields.codes(&mut reader, UNSUBSCRIBE_REASONS)?,
        "PINGRESP" => {}
        "DISCONNECT" if is_5 => fields.ending(&mut reader, DISCONNECT_REASONS)?,
        "AUTH" if is_5 => fields.ending(&mut reader, &[0, 0x18])?,
        _ => return Err(format!("{kind} from a server")),
    }
    if reader.0.is_empty() {
        Ok(Answer { kind, fields: fields.all })
    } else {
        Err(format!("{kind} with bytes behind it"))
    }
}

struct Fields {
    kind: &'static str,
    is_5: bool,
    all: Vec<(String, String)>,
}

impl Fields {
    fn push(&mut self, name: &str, value: impl ToString) {
        self.all.push((name.to_owned(), value.to_string()));
    }

    fn reason(&mut self, reason: u8, allowed: &[u8]) -> Result<(), String> {
        if !allowed.contains(&reason) {
            return Err(format!("{} with reason {reason:#04x}", self.kind));
        }
        self.push("reason", reason);
        Ok(())
    }

    fn connack(&mut self, reader: &mut Reader<'_>) -> Result<(), String> {
        let flags = reader.one()?;
        let reason = reader.one()?;
        if flags > 1 || (flags == 1 && reason != 0) {
            return Err(format!("CONNACK with flags {flags} and reason {reason:#04x}"));
        }
        self.push("session", flags);
        if !self.is_5 {
            return self.reason(reason, &[0, 1, 2, 3, 4, 5]);
        }
        self.reason(reason, CONNECT_REASONS)?;
        self.properties(reader)
    }

    fn publish(&mut self, flags: u8, reader: &mut Reader<'_>) -> Result<(), String> {
        let qos = flags >> 1 & 3;
        if qos == 3 || (qos == 0 && flags & 8 != 0) {
            return Err(format!("PUBLISH with flags {flags}"));
        }
        self.push("dup", flags >> 3);
        self.push("qos", qos);
        self.push("retain", flags & 1);
        let topic = reader.text()?;
        if topic.iter().any(|byte| matches!(byte, b'+' | b'#')) {
            return Err("PUBLISH with a wildcard in its topic".into());
        }
        self.push("topic", shown(topic));
        if qos > 0 {
            let id = reader.two()?;
            if id == 0 {
                return Err("PUBLISH with packet identifier 0".into());
            }
            self.push("id", id);
        }
        if self.is_5 {
            self.properties(reader)?;
        }
        let payload = reader.take(reader.0.len())?;
        self.push("payload", shown(payload));
        self.push("bytes", payload.len());
        Ok(())
    }

    fn ack(&mut self, reader: &mut Reader<'_>, reasons: &[u8]) -> Result<(), String> {
        let id = reader.two()?;
        self.push("id", id);
        if self.is_5 { self.ending(reader, reasons) } else { Ok(()) }
    }

    fn ending(&mut self, reader: &mut Reader<'_>, reasons: &[u8]) -> Result<(), String> {
        let reason = if reader.0.is_empty() { 0 } else { reader.one()? };
        self.reason(reason, reasons)?;
        if reader.0.is_empty() { Ok(()) } else { self.properties(reader) }
    }

    fn codes(&mut self, reader: &mut Reader<'_>, reasons: &[u8]) -> Result<(), String> {
        let id = reader.two()?;
        self.push("id", id);
        if self.is_5 {
            self.properties(reader)?;
        } else if self.kind == "UNSUBACK" {
            return Ok(());
        }
        let codes = reader.take(reader.0.len())?;
        let allowed =
            |code: &u8| if self.is_5 { reasons.contains(code) } else { matches!(code, 0..=2 | 0x80) };
        if let Some(code) = codes.iter().find(|code| !allowed(code)) {
            return Err(format!("{} with code {code:#04x}", self.kind));
        }
        let codes: Vec<String> = codes.iter().map(u8::to_string).collect();
        self.push("codes", codes.join(","));
        Ok(())
    }

    fn properties(&mut self, reader: &mut Reader<'_>) -> Result<(), String> {
        let count = reader.variable()?;
        let mut own = Reader(reader.take(count as usize)?);
        let mut seen: Vec<u8> = Vec::new();
        while !own.0.is_empty() {
            let id = own.variable()?;
            let known = properties::ALL.iter().find(|known| u32::from(known.id) == id);
            let known = known.filter(|known| known.places.contains(&self.kind));
            let known = known.ok_or_else(|| format!("{} with property {id}", self.kind))?;
            if seen.contains(&known.id) && !known.repeats(self.kind) {
                return Err(format!("{} with {} twice", self.kind, known.name));
            }
            // MQTT-3.14.2-2.
            if self.kind == "DISCONNECT" && known.name == "session_expiry" {
                return Err("DISCONNECT of a server with a session expiry".into());
            }
            seen.push(known.id);
            let value = match known.form {
                Form::Byte => own.one()?.to_string(),
                Form::Two => own.two()?.to_string(),
                Form::Four => (own.two()? << 16 | own.two()?).to_string(),
                Form::Var => own.variable()?.to_string(),
                Form::Text => shown(own.text()?),
                Form::Binary => shown(own.binary()?),
                Form::Pair => format!("{}:{}", shown(own.text()?), shown(own.text()?)),
            };
            self.push(&format!("p.{}", known.name), value);
        }
        Ok(())
    }
}

/// Whether the answer is what the pattern says; what earlier answers held and `$x` here must agree, else it is noted.
///
/// `key=value`, `key=a|b`, `key=*` (present), `key!` (absent), `key<=n`, `key>=n`. A key that comes several times
/// (user properties) stands in that order; `key=…` of a key given once may match any of several values.
pub(crate) fn matches(answer: &Answer, pattern: &str, names: &mut Names) -> Result<(), String> {
    let words = words(pattern);
    if words[0] != answer.kind {
        return Err(format!("{} instead of {pattern}: {:?}", answer.kind, answer.fields));
    }
    let mut used = vec![false; answer.fields.len()];
    for word in &words[1..] {
        let failed = || format!("{word} does not hold: {} {:?}", answer.kind, answer.fields);
        if let Some(key) = word.strip_suffix('!') {
            if answer.fields.iter().any(|(name, _)| name == key) {
                return Err(failed());
            }
            continue;
        }
        let split = ["<=", ">=", "="].iter().find_map(|sign| Some((*sign, word.split_once(sign)?)));
        let Some((sign, (key, wanted))) = split else { return Err(format!("no condition in {word}")) };
        let fits = |value: &str, names: &Names| match sign {
            "<=" => value.parse::<u32>().is_ok_and(|value| Some(value) <= try_number(wanted)),
            ">=" => value.parse::<u32>().is_ok_and(|value| Some(value) >= try_number(wanted)),
            _ => wanted == "*" || wanted.split('|').any(|one| equals(value, one, names)),
        };
        let at = (0..answer.fields.len()).find(|&at| {
            !(used[at] && sign == "=") && answer.fields[at].0 == key && fits(&answer.fields[at].1, names)
        });
        let at = at.ok_or_else(failed)?;
        if sign != "=" {
            continue;
        }
        // Several of one key stand in order: none before this one may be used later.
        let passed = answer.fields.iter().zip(&mut used).take(at + 1);
        passed.filter(|((name, _), _)| name == key).for_each(|(_, used)| *used = true);
        if let Some(name) = variable(wanted) {
            names.bound.insert(name.to_owned(), answer.fields[at].1.clone());
        }
    }
    Ok(())
}

fn equals(value: &str, wanted: &str, names: &Names) -> bool {
    if let Some(name) = variable(wanted) {
        return names.bound.get(name).is_none_or(|bound| bound == value);
    }
    if let (Some(wanted), Ok(value)) = (try_number(wanted), value.parse::<u32>()) {
        return value == wanted;
    }
    value == wanted
        || shown(&bytes(wanted, names)) == value
        || value.contains(':') && pair(wanted, names) == value
}

fn pair(wanted: &str, names: &Names) -> String {
    let (name, value) = wanted.split_once(':').unwrap_or((wanted, ""));
    format!("{}:{}", shown(&bytes(name, names)), shown(&bytes(value, names)))
}

/// `$x`; topics that begin with a dollar hold more than letters.
fn variable(wanted: &str) -> Option<&str> {
    wanted.strip_prefix('$').filter(|name| name.chars().all(char::is_alphanumeric))
}
