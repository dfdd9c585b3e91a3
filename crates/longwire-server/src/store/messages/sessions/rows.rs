//! Values of sessions and of what is retained.

use crate::domain::topic::TopicWish;
use crate::domain::{AppId, ClientId, Position, WallMs};
use crate::store::messages::layout::rows::{Fields, put_text};
use crate::store::sessions::{KeptWill, Retained, WISHES_MAX};
use std::sync::Arc;

/// What the row of a session holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SessionRow {
    pub(crate) app: AppId,
    pub(crate) expiry_s: u32,
    pub(crate) ended_at: WallMs,
    pub(crate) sent: [Position; 2],
    /// Behind the others, if there is one.
    pub(crate) will: Option<Arc<KeptWill>>,
}

/// A row of a store that did not know yet what was sent: all may have been.
const NOT_KNOWN: [Position; 2] = [Position(u64::MAX); 2];

impl SessionRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(32);
        row.extend_from_slice(&self.app.0.to_be_bytes());
        row.extend_from_slice(&self.expiry_s.to_be_bytes());
        row.extend_from_slice(&self.ended_at.0.to_be_bytes());
        for position in self.sent {
            row.extend_from_slice(&position.0.to_be_bytes());
        }
        if let Some(will) = &self.will {
            encode_will(will, &mut row);
        }
        row
    }
    pub(crate) fn decode(row: &[u8]) -> Option<SessionRow> {
        let mut fields = Fields(row);
        let (app, expiry_s, ended_at) = (AppId(fields.u32()?), fields.u32()?, WallMs(fields.u64()?));
        let sent = match fields.0.is_empty() {
            true => NOT_KNOWN,
            false => [Position(fields.u64()?), Position(fields.u64()?)],
        };
        let will = if fields.0.is_empty() { None } else { Some(Arc::new(decode_will(fields)?)) };
        Some(SessionRow { app, expiry_s, ended_at, sent, will })
    }
}

/// Says of a will that something came with it that not all have.
const EXPIRES: u8 = 1;
const ANONYMOUS: u8 = 1 << 1;

fn encode_will(will: &KeptWill, row: &mut Vec<u8>) {
    let bit = |is: bool, bit: u8| if is { bit } else { 0 };
    row.push(bit(will.expiry_s.is_some(), EXPIRES) | bit(will.anonymous, ANONYMOUS));
    row.extend_from_slice(&will.delay_s.to_be_bytes());
    row.extend_from_slice(&will.expiry_s.unwrap_or(0).to_be_bytes());
    put_text(row, &will.name);
    put_text(row, &will.user);
    row.extend_from_slice(&will.body);
}

fn decode_will(mut fields: Fields<'_>) -> Option<KeptWill> {
    let flags = fields.byte().filter(|flags| *flags <= EXPIRES | ANONYMOUS)?;
    let (delay_s, expiry_s) = (fields.u32()?, fields.u32()?);
    let (name, user) = (fields.text()?.into(), fields.text()?.into());
    Some(KeptWill {
        body: bytes::Bytes::copy_from_slice(fields.0),
        delay_s,
        expiry_s: (flags & EXPIRES != 0).then_some(expiry_s),
        anonymous: flags & ANONYMOUS != 0,
        name,
        user,
    })
}

const NO_LOCAL: u8 = 1 << 2;
const RETAIN_AS_PUBLISHED: u8 = 1 << 3;

/// The subscriptions of a session; those beyond [`WISHES_MAX`] are left out.
pub(crate) fn encode_wishes(wishes: &[TopicWish]) -> Vec<u8> {
    let mut row = Vec::new();
    for wish in wishes.iter().take(WISHES_MAX) {
        let bit = |is: bool, bit: u8| if is { bit } else { 0 };
        let flags = wish.qos & 3 | bit(wish.no_local, NO_LOCAL);
        row.push(flags | bit(wish.retain_as_published, RETAIN_AS_PUBLISHED));
        row.extend_from_slice(&wish.identifier.to_be_bytes());
        // A filter comes in a field of two bytes of length.
        row.extend_from_slice(&(wish.filter.len() as u16).to_be_bytes());
        row.extend_from_slice(wish.filter.as_bytes());
    }
    row
}

/// Reads what [`encode_wishes`] wrote.
pub(crate) fn decode_wishes(row: &[u8]) -> Option<Vec<TopicWish>> {
    let mut fields = Fields(row);
    let mut wishes = Vec::new();
    while !fields.0.is_empty() {
        let flags = fields.byte()?;
        let identifier = fields.u32()?;
        let length = u16::from_be_bytes([fields.byte()?, fields.byte()?]);
        let filter = std::str::from_utf8(fields.bytes(usize::from(length))?).ok()?;
        if flags & 3 == 3 || flags > 15 || filter.is_empty() {
            return None;
        }
        wishes.push(TopicWish {
            filter: filter.into(),
            qos: flags & 3,
            no_local: flags & NO_LOCAL != 0,
            retain_as_published: flags & RETAIN_AS_PUBLISHED != 0,
            identifier,
        });
    }
    Some(wishes)
}

/// A retained message.
pub(crate) fn encode_retained(retained: &Retained) -> Vec<u8> {
    let mut row = Vec::with_capacity(16 + retained.body.len());
    row.extend_from_slice(&retained.publisher.0.to_be_bytes());
    row.extend_from_slice(&retained.deadline.0.to_be_bytes());
    row.extend_from_slice(&retained.body);
    row
}

/// Reads what [`encode_retained`] wrote.
pub(crate) fn decode_retained(app: AppId, topic: &str, row: &[u8]) -> Option<Retained> {
    let mut fields = Fields(row);
    Some(Retained {
        app,
        topic: topic.into(),
        publisher: ClientId(fields.u64()?),
        deadline: WallMs(fields.u64()?),
        body: bytes::Bytes::copy_from_slice(fields.0),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn subscriptions_are_read_as_they_were_written_and_torn_ones_are_not() {
        let wish = |filter: &str, qos, no_local, retain_as_published, identifier| TopicWish {
            filter: filter.into(),
            qos,
            no_local,
            retain_as_published,
            identifier,
        };
        let wishes = vec![
            wish("a/+/#", 2, true, false, 7),
            wish("$share/g/ü", 0, false, true, 0),
            wish("x", 1, false, false, u32::MAX),
        ];
        let row = encode_wishes(&wishes);
        assert_eq!(decode_wishes(&row), Some(wishes.clone()));
        assert_eq!(decode_wishes(&[]), Some(vec![]));
        let whole: Vec<usize> = wishes
            .iter()
            .scan(0, |end, wish| {
                *end += 7 + wish.filter.len();
                Some(*end)
            })
            .collect();
        for length in 1..row.len() {
            assert_eq!(decode_wishes(&row[..length]).is_some(), whole.contains(&length), "{length}");
        }
        assert_eq!(decode_wishes(&[3, 0, 0, 0, 0, 0, 1, b'a']), None, "no such QoS");
        let many = vec![wish("a", 0, false, false, 0); WISHES_MAX + 5];
        assert_eq!(decode_wishes(&encode_wishes(&many)).unwrap().len(), WISHES_MAX);
    }

    #[test]
    fn a_session_and_a_retained_message_are_read_as_they_were_written() {
        let sent = [Position(7), Position(8)];
        let session = SessionRow { app: AppId(9), expiry_s: u32::MAX, ended_at: WallMs(5), sent, will: None };
        let row = session.encode();
        assert_eq!(SessionRow::decode(&row), Some(session.clone()));
        let older = SessionRow { sent: NOT_KNOWN, ..session.clone() };
        assert_eq!(SessionRow::decode(&row[..16]), Some(older), "of a store that kept less");
        for length in (0..16).chain(17..32) {
            assert_eq!(SessionRow::decode(&row[..length]), None, "{length}");
        }
        let will = KeptWill {
            body: bytes::Bytes::from_static(b"body"),
            delay_s: 7,
            expiry_s: Some(0),
            anonymous: true,
            name: "pump".into(),
            user: "".into(),
        };
        let willful = SessionRow { will: Some(Arc::new(will)), ..session };
        let row = willful.encode();
        assert_eq!(SessionRow::decode(&row), Some(willful));
        assert_eq!(SessionRow::decode(&row[..36]), None);
        assert_eq!(SessionRow::decode(&[&row[..32], &[4], &row[33..]].concat()), None, "no such flag");
        let retained = Retained {
            app: AppId(9),
            topic: "a/b".into(),
            publisher: ClientId(4),
            deadline: WallMs(0),
            body: bytes::Bytes::from_static(b"body"),
        };
        let row = encode_retained(&retained);
        assert_eq!(decode_retained(AppId(9), "a/b", &row), Some(retained));
        assert_eq!(decode_retained(AppId(9), "a/b", &row[..15]), None);
    }
}
