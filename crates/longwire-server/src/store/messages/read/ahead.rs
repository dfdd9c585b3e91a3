//! High messages that a page brings ahead of their turn.

use super::lookup::{get, row};
use super::page::{Filling, is_meant_by};
use crate::domain::{Device, Position};
use crate::store::messages::engine::Fault;
use crate::store::messages::layout::rows::{DeviceRow, Reference, State};
use crate::store::messages::layout::space::Space;
use crate::store::messages::layout::{filters, keys, rows};
use crate::store::messages::write::accept::Indexes;
use crate::store::port::PageEntry;

/// Places looked at for one page; what lies behind comes in its turn, or with a later page.
const LOOKS_MAX: usize = 256;
/// Places that a log sends ahead only while so many are settled out of order: each is settled out of order too, and what has no room
/// there is sent again.
const BEYOND_FOR_AHEAD_MAX: usize = rows::BEYOND_MAX / 2;

/// Of a mailbox. Nothing is read of a device without high messages.
pub(super) fn mailbox(filling: &mut Filling<'_>, standing: &DeviceRow, from: Position) -> Result<(), Fault> {
    if filling.request.ahead_max == 0 || standing.high == 0 {
        return Ok(());
    }
    let client = filling.request.client;
    let range =
        keys::high_in_mailbox(client, from.next())..=keys::high_in_mailbox(client, Position(u64::MAX));
    let places = places(filling, range)?;
    for position in places {
        let place = keys::mailbox(client, position);
        let entry = row(filling.engine, filling.snapshot, Space::Mailbox, &place, Reference::decode)?;
        if !add(filling, position, entry)? {
            break;
        }
    }
    Ok(())
}

/// Of a log. Nothing is read where no high message is behind the cursor.
pub(super) fn log(
    filling: &mut Filling<'_>,
    standing: &DeviceRow,
    device: &Device,
    from: Position,
) -> Result<(), Fault> {
    let app = filling.request.app;
    if filling.request.ahead_max == 0 || standing.beyond.len() > BEYOND_FOR_AHEAD_MAX {
        return Ok(());
    }
    let last = keys::last_high_in_log(app);
    let last = row(filling.engine, filling.snapshot, Space::Urgent, &last, rows::decode_position)?;
    if last.is_none_or(|last| last <= from) {
        return Ok(());
    }
    let range = keys::high_in_log(app, from.next())..=keys::high_in_log(app, Position(u64::MAX));
    let places = places(filling, range)?;
    for position in places {
        if standing.beyond.binary_search(&position).is_ok() {
            continue;
        }
        let place = keys::log(app, position);
        let filter = row(filling.engine, filling.snapshot, Space::Log, &place, filters::decode)?;
        let Some(filter) = filter.filter(|filter| is_meant_by(filter, device)) else { continue };
        let indexes = Indexes::of(&filter);
        let Some(tag) = indexes.names().next() else { continue };
        let place = keys::index(app, tag.as_bytes(), position);
        let entry = row(filling.engine, filling.snapshot, Space::Index, &place, Reference::decode)?;
        if !add(filling, position, entry)? {
            break;
        }
    }
    Ok(())
}

/// Places that have not gone ahead in the session.
fn places<const N: usize>(
    filling: &Filling<'_>,
    range: std::ops::RangeInclusive<[u8; N]>,
) -> Result<Vec<Position>, Fault> {
    let mut places = Vec::new();
    for entry in fjall::Readable::range(filling.snapshot, filling.engine.spaces.of(Space::Urgent), range)
        .take(LOOKS_MAX)
    {
        let position = keys::last_position(&entry.key()?).ok_or_else(|| Fault::damaged(Space::Urgent))?;
        if !filling.request.ahead.contains(&position) {
            places.push(position);
        }
    }
    Ok(places)
}

/// Adds what can be sent. False: there are as many as may come.
fn add(filling: &mut Filling<'_>, position: Position, entry: Option<Reference>) -> Result<bool, Fault> {
    let sendable = |entry: &Reference| entry.state == State::Waiting && entry.deadline > filling.now;
    let Some(Reference { message, deadline, .. }) = entry.filter(sendable) else { return Ok(true) };
    if filling.page.ahead.len() >= usize::from(filling.request.ahead_max) {
        filling.page.more_ahead = true;
        return Ok(false);
    }
    let body = get(filling.engine, filling.snapshot, Space::Bodies, &keys::message(message))?;
    let Some(body) = body else { return Ok(true) };
    let shared = bytes::Bytes::copy_from_slice(&body);
    filling.page.ahead.push(PageEntry::Message { position, message, deadline, shared, high: true });
    Ok(true)
}

impl Filling<'_> {
    /// What is the next of its source anyway comes in its turn.
    pub(super) fn leave_first_in_turn(&mut self) {
        let place = |entry: &PageEntry| match entry {
            PageEntry::Message { position, .. }
            | PageEntry::Gap { position, .. }
            | PageEntry::Released { position, .. } => *position,
        };
        let first = self.page.entries.first().map(place);
        self.page.ahead.retain(|entry| first != Some(place(entry)));
    }
}
