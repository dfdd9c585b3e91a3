//! Keys and values. Big-endian, as in the other spaces.

use crate::domain::{AppId, ClientId, DropReason, MessageId, Position, ReceiptMode, TraceId, WallMs};
use crate::store::messages::layout::rows::{Fields, put_text};
use crate::store::truth::{PresenceState, Story, Stream, Told};

const STREAM: u8 = b's';
const CURSOR: u8 = b'c';
const DEVICE: u8 = b'd';

/// Everything in `streams` that says where a stream stands begins with this.
pub(crate) const STREAMS: [u8; 1] = [STREAM];

/// A device's story of a message.
pub(crate) fn story(message: MessageId, client: ClientId) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&message.0.to_be_bytes());
    key[16..].copy_from_slice(&client.0.to_be_bytes());
    key
}

/// The device at the end of a key of `stories`, or of one of a device in `streams`.
pub(crate) fn last_client(key: &[u8]) -> Option<ClientId> {
    key.last_chunk::<8>().map(|bytes| ClientId(u64::from_be_bytes(*bytes)))
}

/// Where a stream stands.
pub(crate) fn stream(app: AppId, stream: Stream) -> [u8; 6] {
    let mut key = [STREAM; 6];
    key[1..5].copy_from_slice(&app.0.to_be_bytes());
    key[5] = stream as u8;
    key
}

/// What a key of a stream's standing is of.
pub(crate) fn read_stream(key: &[u8]) -> Option<(AppId, Stream)> {
    let (app, which) = key.strip_prefix(&STREAMS)?.split_first_chunk::<4>()?;
    let stream = match which {
        [0] => Stream::Receipts,
        [1] => Stream::Presence,
        _ => return None,
    };
    Some((AppId(u32::from_be_bytes(*app)), stream))
}

/// Where a reader of a stream stands.
pub(crate) fn cursor(app: AppId, stream: Stream, reader: &str) -> Vec<u8> {
    let mut key = vec![CURSOR];
    key.extend_from_slice(&app.0.to_be_bytes());
    key.push(stream as u8);
    key.extend_from_slice(reader.as_bytes());
    key
}

/// What the keys of an app's devices begin with.
pub(crate) fn devices(app: AppId) -> [u8; 5] {
    let mut key = [DEVICE; 5];
    key[1..].copy_from_slice(&app.0.to_be_bytes());
    key
}

/// How a device's sessions stand.
pub(crate) fn device(app: AppId, client: ClientId) -> [u8; 13] {
    let mut key = [0; 13];
    key[..5].copy_from_slice(&devices(app));
    key[5..].copy_from_slice(&client.0.to_be_bytes());
    key
}

/// How a stream stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct StreamRow {
    pub(crate) last: Position,
    pub(crate) gone: Position,
    pub(crate) events: u64,
    pub(crate) dropped: u64,
    /// Of receipts.
    pub(crate) mode: ReceiptMode,
    /// Of presence.
    pub(crate) on: bool,
    /// Of presence: what a device's row must say to be of now.
    pub(crate) era: u64,
}

impl StreamRow {
    pub(crate) fn new(incarnation: u16) -> StreamRow {
        let begin = Position::new(incarnation, 0);
        let mode = ReceiptMode::Off;
        StreamRow { last: begin, gone: begin, events: 0, dropped: 0, mode, on: false, era: 0 }
    }
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(42);
        for field in [self.last.0, self.gone.0, self.events, self.dropped, self.era] {
            row.extend_from_slice(&field.to_be_bytes());
        }
        row.push(self.mode as u8);
        row.push(u8::from(self.on));
        row
    }
    pub(crate) fn decode(row: &[u8]) -> Option<StreamRow> {
        let mut fields = Fields(row);
        let (last, gone) = (Position(fields.u64()?), Position(fields.u64()?));
        let (events, dropped, era) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let mode = match fields.byte()? {
            0 => ReceiptMode::Off,
            1 => ReceiptMode::Ends,
            2 => ReceiptMode::All,
            _ => return None,
        };
        let on = fields.byte()? != 0;
        fields.end(StreamRow { last, gone, events, dropped, mode, on, era })
    }
}

/// How a device's sessions stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct DeviceState {
    pub(crate) era: u64,
    pub(crate) epoch: u64,
    pub(crate) at: WallMs,
    pub(crate) online: bool,
}

impl DeviceState {
    pub(crate) fn encode(&self) -> [u8; 25] {
        let mut row = [0; 25];
        row[..8].copy_from_slice(&self.era.to_be_bytes());
        row[8..16].copy_from_slice(&self.epoch.to_be_bytes());
        row[16..24].copy_from_slice(&self.at.0.to_be_bytes());
        row[24] = u8::from(self.online);
        row
    }
    pub(crate) fn decode(row: &[u8]) -> Option<DeviceState> {
        let mut fields = Fields(row);
        let (era, epoch, at) = (fields.u64()?, fields.u64()?, WallMs(fields.u64()?));
        let online = fields.byte()? != 0;
        fields.end(DeviceState { era, epoch, at, online })
    }
}

fn put_told(into: &mut Vec<u8>, told: Told) {
    let (code, reason) = match told {
        Told::Delivered => (1, 0),
        Told::Expired => (2, 0),
        Told::Collapsed => (3, 0),
        Told::Recalled => (4, 0),
        Told::Dropped(reason) => (5, reason as u8),
        Told::Displayed => (6, 0),
        Told::Clicked => (7, 0),
        Told::Dismissed => (8, 0),
    };
    into.extend_from_slice(&[code, reason]);
}

fn read_told(fields: &mut Fields<'_>) -> Option<Told> {
    let (code, reason) = (fields.byte()?, fields.byte()?);
    Some(match code {
        1 => Told::Delivered,
        2 => Told::Expired,
        3 => Told::Collapsed,
        4 => Told::Recalled,
        5 => Told::Dropped(*DropReason::ALL.get(usize::from(reason))?),
        6 => Told::Displayed,
        7 => Told::Clicked,
        8 => Told::Dismissed,
        _ => return None,
    })
}

/// A story; what the device said of it follows only if it said something.
pub(crate) fn encode_story(story: &Story) -> Vec<u8> {
    let mut row = Vec::with_capacity(42);
    row.extend_from_slice(&story.sent.0.to_be_bytes());
    row.extend_from_slice(&story.ended.0.to_be_bytes());
    put_told(&mut row, story.told);
    let words = [story.displayed.0, story.clicked.0, story.dismissed.0];
    if words != [0; 3] {
        words.iter().for_each(|at| row.extend_from_slice(&at.to_be_bytes()));
    }
    row
}

/// Reads what [`encode_story`] wrote.
pub(crate) fn decode_story(row: &[u8]) -> Option<Story> {
    let mut fields = Fields(row);
    let (sent, ended) = (WallMs(fields.u64()?), WallMs(fields.u64()?));
    let told = read_told(&mut fields)?;
    let mut words = [WallMs(0); 3];
    if !fields.0.is_empty() {
        for word in &mut words {
            *word = WallMs(fields.u64()?);
        }
    }
    let [displayed, clicked, dismissed] = words;
    fields.end(Story { sent, ended, told, displayed, clicked, dismissed })
}

/// A receipt as it is stored. Every event begins with its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ReceiptRow<'a> {
    pub(crate) at: WallMs,
    pub(crate) message: MessageId,
    pub(crate) client: ClientId,
    pub(crate) told: Told,
    pub(crate) trace: TraceId,
    pub(crate) label: &'a str,
}

impl<'a> ReceiptRow<'a> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(51 + self.label.len());
        row.extend_from_slice(&self.at.0.to_be_bytes());
        row.extend_from_slice(&self.message.0.to_be_bytes());
        row.extend_from_slice(&self.client.0.to_be_bytes());
        put_told(&mut row, self.told);
        row.extend_from_slice(&self.trace.0.to_be_bytes());
        put_text(&mut row, self.label);
        row
    }
    pub(crate) fn decode(row: &'a [u8]) -> Option<ReceiptRow<'a>> {
        let mut fields = Fields(row);
        let (at, message) = (WallMs(fields.u64()?), MessageId(fields.u128()?));
        let client = ClientId(fields.u64()?);
        let told = read_told(&mut fields)?;
        let (trace, label) = (TraceId(fields.u128()?), fields.text()?);
        fields.end(ReceiptRow { at, message, client, told, trace, label })
    }
}

/// An event of presence as it is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PresenceRow<'a> {
    pub(crate) at: WallMs,
    pub(crate) client: ClientId,
    pub(crate) state: PresenceState,
    pub(crate) epoch: u64,
    pub(crate) reason: &'a str,
}

impl<'a> PresenceRow<'a> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(26 + self.reason.len());
        row.extend_from_slice(&self.at.0.to_be_bytes());
        row.extend_from_slice(&self.client.0.to_be_bytes());
        row.push(self.state as u8);
        row.extend_from_slice(&self.epoch.to_be_bytes());
        put_text(&mut row, self.reason);
        row
    }
    pub(crate) fn decode(row: &'a [u8]) -> Option<PresenceRow<'a>> {
        let mut fields = Fields(row);
        let (at, client) = (WallMs(fields.u64()?), ClientId(fields.u64()?));
        let state = match fields.byte()? {
            1 => PresenceState::Online,
            2 => PresenceState::Offline,
            3 => PresenceState::Lost,
            _ => return None,
        };
        let (epoch, reason) = (fields.u64()?, fields.text()?);
        fields.end(PresenceRow { at, client, state, epoch, reason })
    }
}

/// The time that every event of a stream begins with.
pub(crate) fn event_time(row: &[u8]) -> Option<WallMs> {
    Fields(row).u64().map(WallMs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rows_are_read_as_they_were_written_and_torn_ones_are_not() {
        let mut story = Story {
            sent: WallMs(1),
            ended: WallMs(2),
            told: Told::Dropped(DropReason::Frequency),
            displayed: WallMs(0),
            clicked: WallMs(0),
            dismissed: WallMs(0),
        };
        let short = encode_story(&story);
        assert_eq!((short.len(), decode_story(&short)), (18, Some(story)));
        story.clicked = WallMs(9);
        let long = encode_story(&story);
        assert_eq!(decode_story(&long), Some(story));
        assert!(
            (1..long.len()).filter(|length| *length != 18).all(|end| decode_story(&long[..end]).is_none())
        );
        let (at, message, client) = (WallMs(7), MessageId(8), ClientId(9));
        let receipt =
            ReceiptRow { at, message, client, told: Told::Clicked, trace: TraceId(3), label: "spring" };
        let row = receipt.encode();
        assert_eq!((ReceiptRow::decode(&row), event_time(&row)), (Some(receipt), Some(at)));
        assert!((0..row.len()).all(|end| ReceiptRow::decode(&row[..end]).is_none()));
        let event = PresenceRow { at, client, state: PresenceState::Offline, epoch: 4, reason: "kicked" };
        let row = event.encode();
        assert_eq!(PresenceRow::decode(&row), Some(event));
        assert!((0..row.len()).all(|end| PresenceRow::decode(&row[..end]).is_none()));
    }

    #[test]
    fn keys_of_streams_cursors_and_devices_do_not_meet() {
        let app = AppId(0x6364_7300);
        let key = stream(app, Stream::Presence);
        assert_eq!(read_stream(&key), Some((app, Stream::Presence)));
        assert_eq!(read_stream(&cursor(app, Stream::Receipts, "hook")), None);
        assert_eq!(read_stream(&device(app, ClientId(1))), None);
        assert_eq!(last_client(&device(app, ClientId(5))), Some(ClientId(5)));
    }
}
