//! Values. Big-endian, fixed fields first, lists with their length before them.

use super::space::SPACE_COUNT;
use crate::domain::device::{AttributeName, AttributeValue};
use crate::domain::message::Report;
use crate::domain::{
    Alias, AppId, ClientId, Counts, Device, DeviceName, Dropped, Kind, MessageId, MessageRecord, Position,
    Priority, Recalled, Tag, Target, TraceId, WallMs,
};

/// Reads fields off the front; `None` when the row is too short.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(front)
    }
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*front)
    }
    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }
    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }
    pub(crate) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_be_bytes)
    }
    pub(crate) fn text(&mut self) -> Option<&'a str> {
        let length = self.byte()?;
        std::str::from_utf8(self.bytes(usize::from(length))?).ok()
    }
    pub(crate) fn end<T>(self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

pub(crate) fn put_text(into: &mut Vec<u8>, text: &str) {
    // Names have at most 128 bytes, labels 64.
    into.push(text.len() as u8);
    into.extend_from_slice(text.as_bytes());
}

/// The one row of `meta`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Meta {
    pub(crate) incarnation: u16,
    /// Number of the last commit.
    pub(crate) commits: u64,
    /// Number of the last commit that touched each space.
    pub(crate) touched: [u64; SPACE_COUNT],
}

/// The layout that this code reads and writes.
const FORMAT: u16 = 2;

impl Meta {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(12 + 8 * SPACE_COUNT);
        row.extend_from_slice(&FORMAT.to_be_bytes());
        row.extend_from_slice(&self.incarnation.to_be_bytes());
        row.extend_from_slice(&self.commits.to_be_bytes());
        for number in self.touched {
            row.extend_from_slice(&number.to_be_bytes());
        }
        row
    }
    pub(crate) fn decode(row: &[u8]) -> Option<Meta> {
        let mut fields = Fields(row);
        if u16::from_be_bytes(fields.array()?) != FORMAT {
            return None;
        }
        let incarnation = u16::from_be_bytes(fields.array()?);
        let commits = fields.u64()?;
        // A store of an older version knows fewer spaces; those it does not know are empty.
        let mut touched = [0; SPACE_COUNT];
        for number in &mut touched {
            if fields.0.is_empty() {
                break;
            }
            *number = fields.u64()?;
        }
        fields.end(Meta { incarnation, commits, touched })
    }
}

/// Deliveries that were settled although an earlier one was not; at most this many per device. Beyond it an end is not
/// recorded: the message is sent again at the next login, and acked again.
pub(crate) const BEYOND_MAX: usize = 64;

/// Where a device stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct DeviceRow {
    /// The sequence number of the next message in its mailbox.
    pub(crate) next: u64,
    /// Unsettled messages in its mailbox.
    pub(crate) waiting: u32,
    /// Their bytes.
    pub(crate) waiting_bytes: u64,
    /// Markers in its mailbox: expired, and released.
    pub(crate) markers: u32,
    /// No row of its mailbox is at or below this position.
    pub(crate) floor: Position,
    /// The last position that it settled before `swept`; counts only while `swept` is set.
    pub(crate) swept_from: Position,
    /// The highest position of a marker that retention took before the device noted it; 0 = none.
    pub(crate) swept: Position,
    /// All that its log held for it up to here is settled; `None` until its profile comes.
    pub(crate) cursor: Option<Position>,
    /// What is settled after the cursor, rising, at most [`BEYOND_MAX`].
    pub(crate) beyond: Vec<Position>,
    /// High messages in its mailbox, their markers included.
    pub(crate) high: u32,
    /// When the span began in which deliveries are counted for its app's frequency cap; 0 = none was.
    pub(crate) counted_from: WallMs,
    /// Deliveries counted in that span.
    pub(crate) counted: u32,
}

impl DeviceRow {
    /// A device that nothing was ever stored for.
    pub(crate) fn new(incarnation: u16) -> DeviceRow {
        let start = Position::new(incarnation, 0);
        DeviceRow {
            next: 1,
            waiting: 0,
            waiting_bytes: 0,
            markers: 0,
            floor: start,
            swept_from: Position::START,
            swept: Position::START,
            cursor: None,
            beyond: Vec::new(),
            high: 0,
            counted_from: WallMs(0),
            counted: 0,
        }
    }

    /// The last position that was given in its mailbox.
    pub(crate) fn last(&self, incarnation: u16) -> Position {
        Position::new(incarnation, self.next - 1)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(74 + 8 * self.beyond.len());
        row.extend_from_slice(&self.next.to_be_bytes());
        row.extend_from_slice(&self.waiting.to_be_bytes());
        row.extend_from_slice(&self.waiting_bytes.to_be_bytes());
        row.extend_from_slice(&self.markers.to_be_bytes());
        for position in [self.floor, self.swept_from, self.swept] {
            row.extend_from_slice(&position.0.to_be_bytes());
        }
        row.push(u8::from(self.cursor.is_some()));
        row.extend_from_slice(&self.cursor.unwrap_or_default().0.to_be_bytes());
        row.push(self.beyond.len() as u8);
        for position in &self.beyond {
            row.extend_from_slice(&position.0.to_be_bytes());
        }
        row.extend_from_slice(&self.high.to_be_bytes());
        row.extend_from_slice(&self.counted_from.0.to_be_bytes());
        row.extend_from_slice(&self.counted.to_be_bytes());
        row
    }

    pub(crate) fn decode(row: &[u8]) -> Option<DeviceRow> {
        let mut fields = Fields(row);
        let mut device = DeviceRow {
            next: fields.u64()?.max(1),
            waiting: fields.u32()?,
            waiting_bytes: fields.u64()?,
            markers: fields.u32()?,
            floor: Position(fields.u64()?),
            swept_from: Position(fields.u64()?),
            swept: Position(fields.u64()?),
            ..DeviceRow::new(0)
        };
        let has_cursor = fields.byte()? != 0;
        let cursor = Position(fields.u64()?);
        device.cursor = has_cursor.then_some(cursor);
        for _ in 0..fields.byte()? {
            device.beyond.push(Position(fields.u64()?));
        }
        // A row of an older version ends here.
        if !fields.0.is_empty() {
            device.high = fields.u32()?;
            device.counted_from = WallMs(fields.u64()?);
            device.counted = fields.u32()?;
        }
        fields.end(device)
    }
}

/// A reference in a mailbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reference {
    pub(crate) message: MessageId,
    pub(crate) deadline: WallMs,
    pub(crate) bytes: u32,
    pub(crate) state: State,
    /// The message was published to a topic: it goes with the session.
    pub(crate) topic: bool,
    /// Of a log: whoever reads the index may not be meant; the filter decides.
    pub(crate) filtered: bool,
    /// It may go ahead of its turn.
    pub(crate) high: bool,
}

/// Where a delivery of a mailbox is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Without an end.
    Waiting = 0,
    /// Its end was recorded at the deadline; it waits for the device to take note.
    Expired = 1,
    /// Its end was recorded when the device had it (PUBREC); it waits for PUBCOMP.
    Released = 2,
    /// Its end was recorded when a newer one replaced it; it waits for the device to take note. In an index, each device's
    /// end is recorded when it takes note.
    Collapsed = 3,
    /// The same, when it was recalled.
    Recalled = 4,
    /// The same, when its device had had as many as it may.
    Dropped = 5,
}

/// In the last byte of a reference, beside the state.
const OF_A_TOPIC: u8 = 0x80;
const FILTERED: u8 = 0x40;
const HIGH: u8 = 0x20;

impl Reference {
    pub(crate) fn encode(&self) -> [u8; 29] {
        let mut row = [0; 29];
        row[..16].copy_from_slice(&self.message.0.to_be_bytes());
        row[16..24].copy_from_slice(&self.deadline.0.to_be_bytes());
        row[24..28].copy_from_slice(&self.bytes.to_be_bytes());
        let (topic, filtered) = (u8::from(self.topic), u8::from(self.filtered));
        let high = u8::from(self.high);
        row[28] = self.state as u8 | (topic * OF_A_TOPIC) | (filtered * FILTERED) | (high * HIGH);
        row
    }
    pub(crate) fn decode(row: &[u8]) -> Option<Reference> {
        let mut fields = Fields(row);
        let message = MessageId(fields.u128()?);
        let deadline = WallMs(fields.u64()?);
        let bytes = fields.u32()?;
        let last = fields.byte()?;
        let state = match last & !(OF_A_TOPIC | FILTERED | HIGH) {
            0 => State::Waiting,
            1 => State::Expired,
            2 => State::Released,
            3 => State::Collapsed,
            4 => State::Recalled,
            5 => State::Dropped,
            _ => return None,
        };
        fields.end(Reference {
            message,
            deadline,
            bytes,
            state,
            topic: last & OF_A_TOPIC != 0,
            filtered: last & FILTERED != 0,
            high: last & HIGH != 0,
        })
    }
}

fn put_tags(row: &mut Vec<u8>, tags: &[Tag]) {
    // A device has at most 100.
    row.push(tags.len() as u8);
    for tag in tags {
        put_text(row, tag.as_str());
    }
}

fn read_tags(fields: &mut Fields<'_>) -> Option<Vec<Tag>> {
    let count = fields.byte()?;
    (0..count).map(|_| Tag::parse("tag", fields.text()?).ok()).collect()
}

/// What the store keeps of a message.
pub(crate) fn encode_record(record: &MessageRecord) -> Vec<u8> {
    let mut row = Vec::with_capacity(49 + 16 * record.targets.len());
    row.extend_from_slice(&record.app.0.to_be_bytes());
    row.push(record.kind as u8);
    row.extend_from_slice(&record.trace.0.to_be_bytes());
    row.extend_from_slice(&record.accepted_at.0.to_be_bytes());
    row.extend_from_slice(&record.deadline.0.to_be_bytes());
    row.extend_from_slice(&record.log_position.0.to_be_bytes());
    row.extend_from_slice(&(record.targets.len() as u32).to_be_bytes());
    for target in &record.targets {
        row.extend_from_slice(&target.client.0.to_be_bytes());
        row.extend_from_slice(&target.position.0.to_be_bytes());
    }
    row.push(u8::from(record.priority == Priority::High));
    row.extend_from_slice(&record.replaces.unwrap_or(MessageId(0)).0.to_be_bytes());
    put_text(&mut row, &record.collapse_key);
    row.extend_from_slice(&record.refused.to_be_bytes());
    row.push(u8::from(record.recalled.is_some()));
    if let Some(recalled) = &record.recalled {
        row.extend_from_slice(&recalled.now.to_be_bytes());
        // No audience has so many devices.
        row.extend_from_slice(&recalled.following.unwrap_or(u32::MAX).to_be_bytes());
        row.extend_from_slice(&recalled.refused.to_be_bytes());
    }
    // Most have none, and older rows never.
    if record.report != Report::default() {
        row.push(u8::from(record.report.callback));
        put_text(&mut row, &record.report.label);
    }
    row
}

/// Reads what [`encode_record`] wrote.
pub(crate) fn decode_record(row: &[u8]) -> Option<MessageRecord> {
    let mut fields = Fields(row);
    let app = AppId(fields.u32()?);
    let kind = Kind::from_code(fields.byte()?)?;
    let trace = TraceId(fields.u128()?);
    let accepted_at = WallMs(fields.u64()?);
    let deadline = WallMs(fields.u64()?);
    let log_position = Position(fields.u64()?);
    let count = fields.u32()? as usize;
    // The rest of the row bounds the list, whatever the count says.
    if fields.0.len() < count.checked_mul(16)? {
        return None;
    }
    let mut targets = Vec::with_capacity(count);
    for _ in 0..count {
        targets.push(Target { client: ClientId(fields.u64()?), position: Position(fields.u64()?) });
    }
    let priority = if fields.byte()? == 0 { Priority::Normal } else { Priority::High };
    let replaces = Some(MessageId(fields.u128()?)).filter(|replaced| *replaced != MessageId(0));
    let collapse_key = fields.text()?.into();
    let refused = fields.u32()?;
    let recalled = match fields.byte()? {
        0 => None,
        _ => Some(Recalled {
            now: fields.u32()?,
            following: Some(fields.u32()?).filter(|following| *following != u32::MAX),
            refused: fields.u32()?,
        }),
    };
    let mut report = Report::default();
    if !fields.0.is_empty() {
        report = Report { callback: fields.byte()? != 0, label: fields.text()?.into() };
    }
    fields.end(MessageRecord {
        app,
        kind,
        trace,
        accepted_at,
        deadline,
        log_position,
        targets,
        priority,
        collapse_key,
        replaces,
        refused,
        recalled,
        report,
    })
}

/// A message's counts, of one app or one message.
pub(crate) fn encode_counts(counts: &Counts) -> Vec<u8> {
    let fields = [
        counts.created,
        counts.delivered,
        counts.expired,
        counts.collapsed,
        counts.recalled,
        counts.displayed,
        counts.clicked,
        counts.dismissed,
    ];
    fields.into_iter().chain(counts.dropped.0).flat_map(u64::to_be_bytes).collect()
}

/// Reads what [`encode_counts`] wrote; reasons that are newer than the row count none.
pub(crate) fn decode_counts(row: &[u8]) -> Option<Counts> {
    let mut fields = Fields(row);
    let mut counts = Counts {
        created: fields.u64()?,
        delivered: fields.u64()?,
        expired: fields.u64()?,
        collapsed: fields.u64()?,
        recalled: fields.u64()?,
        displayed: fields.u64()?,
        clicked: fields.u64()?,
        dismissed: fields.u64()?,
        dropped: Dropped::default(),
    };
    for dropped in &mut counts.dropped.0 {
        if fields.0.is_empty() {
            break;
        }
        *dropped = fields.u64()?;
    }
    fields.end(counts)
}

/// A device's profile.
pub(crate) fn encode_profile(device: &Device) -> Vec<u8> {
    let mut row = Vec::with_capacity(64);
    row.extend_from_slice(&device.app.0.to_be_bytes());
    row.extend_from_slice(&device.client.0.to_be_bytes());
    row.extend_from_slice(&device.generation.to_be_bytes());
    put_text(&mut row, device.name.as_str());
    // No alias is empty, so an empty text stands for none.
    put_text(&mut row, device.alias.as_ref().map_or("", Alias::as_str));
    put_tags(&mut row, &device.tags);
    row.push(device.attributes.len() as u8);
    for (name, value) in &device.attributes {
        put_text(&mut row, name.as_str());
        put_text(&mut row, value.as_str());
    }
    row
}

/// Reads what [`encode_profile`] wrote.
pub(crate) fn decode_profile(row: &[u8]) -> Option<Device> {
    let mut fields = Fields(row);
    let app = AppId(fields.u32()?);
    let client = ClientId(fields.u64()?);
    let generation = fields.u32()?;
    let name = DeviceName::parse("name", fields.text()?).ok()?;
    let alias = match fields.text()? {
        "" => None,
        text => Some(Alias::parse("alias", text).ok()?),
    };
    let tags = read_tags(&mut fields)?;
    let attributes = (0..fields.byte()?).map(|_| {
        let name = AttributeName::parse("attributes", fields.text()?).ok()?;
        Some((name, AttributeValue::parse("attributes", fields.text()?).ok()?))
    });
    let attributes = attributes.collect::<Option<_>>()?;
    fields.end(Device { app, client, name, alias, tags, attributes, generation })
}

/// A position alone: `heads` and `floors`.
pub(crate) fn decode_position(row: &[u8]) -> Option<Position> {
    row.try_into().ok().map(|bytes| Position(u64::from_be_bytes(bytes)))
}

/// A number alone: `tag_counts`.
pub(crate) fn decode_count(row: &[u8]) -> Option<u64> {
    row.try_into().ok().map(u64::from_be_bytes)
}

/// A device's number alone: `names`.
pub(crate) fn decode_client(row: &[u8]) -> Option<ClientId> {
    row.try_into().ok().map(|bytes| ClientId(u64::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_store_made_before_the_newest_spaces_opens_and_a_torn_row_does_not() {
        let meta = Meta { incarnation: 3, commits: 9, touched: std::array::from_fn(|space| space as u64) };
        let row = meta.encode();
        assert_eq!(Meta::decode(&row), Some(meta.clone()));
        for newer in 1..=21 {
            let older = Meta::decode(&row[..row.len() - newer * 8]).unwrap();
            let known = SPACE_COUNT - newer;
            assert_eq!((older.commits, &older.touched[..known]), (9, &meta.touched[..known]));
            assert!(older.touched[known..].iter().all(|number| *number == 0));
        }
        assert_eq!(Meta::decode(&row[..row.len() - 1]), None);
        assert_eq!(Meta::decode(&[&row[..], &[0; 8]].concat()), None);
    }
}
