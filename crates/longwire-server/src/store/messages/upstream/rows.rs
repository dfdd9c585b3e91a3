//! Keys and values. Big-endian, as in the other spaces.

use crate::domain::{AppId, ClientId, Position, TraceId, WallMs};
use crate::store::messages::layout::rows::Fields;
use crate::store::upstream::{UPSTREAM_BYTES_MAX, UPSTREAM_MESSAGES_MAX, Upstream, UpstreamWaiting};

/// What a device's rows in `upstream_ids` are, after its number.
const COUNT: u8 = 0;
const PLACE: u8 = 1;
const ID: u8 = 2;

/// How many ids were ever remembered of a device.
pub(crate) fn id_count(client: ClientId) -> [u8; 9] {
    let mut key = [COUNT; 9];
    key[..8].copy_from_slice(&client.0.to_be_bytes());
    key
}

/// A place in the ring of a device's ids.
pub(crate) fn id_place(client: ClientId, place: u64) -> [u8; 17] {
    remembered(client, PLACE, place)
}

/// A device's id that is in its ring.
pub(crate) fn id(client: ClientId, client_message: u64) -> [u8; 17] {
    remembered(client, ID, client_message)
}

fn remembered(client: ClientId, what: u8, number: u64) -> [u8; 17] {
    let mut key = [what; 17];
    key[..8].copy_from_slice(&client.0.to_be_bytes());
    key[9..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Where an app's messages stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct AppRow {
    /// The last place that was given.
    pub(crate) last: Position,
    /// Everything up to here is the business's, and may go.
    pub(crate) taken: Position,
    /// Everything up to here is gone.
    pub(crate) gone: Position,
    /// What is there, and not known to be taken when it was counted.
    pub(crate) waiting: UpstreamWaiting,
}

impl AppRow {
    pub(crate) fn new(incarnation: u16) -> AppRow {
        let begin = Position::new(incarnation, 0);
        AppRow { last: begin, taken: begin, gone: begin, waiting: UpstreamWaiting::default() }
    }
    pub(crate) fn fits(&self, bytes: u64) -> bool {
        self.waiting.messages < UPSTREAM_MESSAGES_MAX && self.waiting.bytes + bytes <= UPSTREAM_BYTES_MAX
    }
    pub(crate) fn encode(&self) -> [u8; 40] {
        let mut row = [0; 40];
        let fields = [self.last.0, self.taken.0, self.gone.0, self.waiting.messages, self.waiting.bytes];
        for (place, field) in row.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_be_bytes());
        }
        row
    }
    pub(crate) fn decode(row: &[u8]) -> Option<AppRow> {
        let mut fields = Fields(row);
        let app = AppRow {
            last: Position(fields.u64()?),
            taken: Position(fields.u64()?),
            gone: Position(fields.u64()?),
            waiting: UpstreamWaiting { messages: fields.u64()?, bytes: fields.u64()? },
        };
        fields.end(app)
    }
}

/// An app's number, from a key of `upstream_apps`; `None` for the space's mark.
pub(crate) fn app_of(key: &[u8]) -> Option<AppId> {
    key.try_into().ok().map(|bytes| AppId(u32::from_be_bytes(bytes)))
}

/// What a message counts for in its app's bound.
pub(crate) fn cost(kind: &str, payload: &[u8]) -> u64 {
    (kind.len() + payload.len()) as u64
}

/// A message.
pub(crate) fn encode(message: &Upstream) -> Vec<u8> {
    let mut row = Vec::with_capacity(41 + message.kind.len() + message.payload.len());
    row.extend_from_slice(&message.client.0.to_be_bytes());
    row.extend_from_slice(&message.client_message.to_be_bytes());
    row.extend_from_slice(&message.accepted_at.0.to_be_bytes());
    row.extend_from_slice(&message.trace.0.to_be_bytes());
    // A type word has at most 64 bytes (`LABEL_BYTES_MAX`).
    row.push(message.kind.len() as u8);
    row.extend_from_slice(message.kind.as_bytes());
    row.extend_from_slice(&message.payload);
    row
}

/// A message as it is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stored<'a> {
    pub(crate) client: ClientId,
    pub(crate) client_message: u64,
    pub(crate) accepted_at: WallMs,
    pub(crate) trace: TraceId,
    pub(crate) kind: &'a str,
    pub(crate) payload: &'a [u8],
}

impl<'a> Stored<'a> {
    /// Reads what [`encode`] wrote.
    pub(crate) fn decode(row: &'a [u8]) -> Option<Stored<'a>> {
        let mut fields = Fields(row);
        Some(Stored {
            client: ClientId(fields.u64()?),
            client_message: fields.u64()?,
            accepted_at: WallMs(fields.u64()?),
            trace: TraceId(fields.u128()?),
            kind: fields.text()?,
            payload: fields.0,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_app_is_full_at_its_bound_of_messages_or_bytes() {
        let mut row = AppRow::new(3);
        assert!(row.fits(UPSTREAM_BYTES_MAX) && !row.fits(UPSTREAM_BYTES_MAX + 1));
        row.waiting = UpstreamWaiting { messages: UPSTREAM_MESSAGES_MAX - 1, bytes: 10 };
        assert!(row.fits(0));
        row.waiting.messages += 1;
        assert!(!row.fits(0));
        assert_eq!(AppRow::decode(&row.encode()), Some(row));
        assert_eq!(AppRow::decode(&row.encode()[..39]), None);
    }

    #[test]
    fn a_message_is_read_as_it_was_written_and_a_torn_one_is_not() {
        let message = Upstream {
            client: ClientId(5),
            app: AppId(1),
            client_message: u64::MAX,
            kind: "image".into(),
            accepted_at: WallMs(7),
            trace: TraceId(9),
            payload: bytes::Bytes::from_static(b"\0\xff"),
        };
        let row = encode(&message);
        let read = Stored::decode(&row).unwrap();
        assert_eq!((read.client, read.client_message, read.kind), (ClientId(5), u64::MAX, "image"));
        assert_eq!((read.accepted_at, read.trace, read.payload), (WallMs(7), TraceId(9), &b"\0\xff"[..]));
        for length in 0..row.len() - 2 {
            assert_eq!(Stored::decode(&row[..length]), None, "{length}");
        }
    }
}
