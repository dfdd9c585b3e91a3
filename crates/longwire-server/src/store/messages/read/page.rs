//! What waits for a device after a position.

use super::ahead;
use super::lookup::{get, profile, row, standing};
use crate::domain::{Device, Filter, Position, Tag, WallMs};
use crate::planted::{Fault as Planted, planted};
use crate::store::messages::engine::{Engine, Fault};
use crate::store::messages::layout::rows::{DeviceRow, Reference, State};
use crate::store::messages::layout::space::Space;
use crate::store::messages::layout::{filters, keys, rows};
use crate::store::port::{Page, PageEntry, PageRequest, StoreOptions};
use fjall::{Readable, Snapshot};
use longwire_proto::id::{MessageId, Source};
use longwire_proto::wire::GapReason;

/// Reads a page. It begins where the device's settled part ends, so it steps over at most the few settled out of order.
pub(crate) fn page(engine: &Engine, options: &StoreOptions, request: &PageRequest) -> Result<Page, Fault> {
    let snapshot = engine.database.snapshot();
    // The sweeper may be ahead of the request's clock, and has taken bodies by its own.
    let now = request.now.max((options.clock)());
    let standing = standing(engine, &snapshot, request.client)?;
    let mut filling =
        Filling { engine, snapshot: &snapshot, request, now, page: Page::default(), bytes: 0, gap: None };
    match request.source {
        Source::Mailbox => mailbox(&mut filling, &standing)?,
        Source::AppLog => log(&mut filling, &standing)?,
    }
    filling.leave_first_in_turn();
    Ok(filling.page)
}

/// A page being filled.
pub(super) struct Filling<'a> {
    pub(super) engine: &'a Engine,
    pub(super) snapshot: &'a Snapshot,
    pub(super) request: &'a PageRequest,
    pub(super) now: WallMs,
    pub(super) page: Page,
    bytes: u64,
    /// What retention took, not yet said: the last position of it.
    gap: Option<Position>,
}

impl Filling<'_> {
    fn is_full(&self) -> bool {
        self.page.entries.len() >= usize::from(self.request.messages_max)
    }

    /// Adds the gap of retention if it ends before `next`. False: there is no room for it.
    fn say_gap(&mut self, next: Position) -> bool {
        match self.gap {
            Some(position) if position < next => {
                if self.is_full() {
                    return false;
                }
                let (message, reason) = (MessageId(0), GapReason::Retention);
                self.page.entries.push(PageEntry::Gap { position, message, reason, count: 0 });
                self.gap = None;
                true
            }
            _ => true,
        }
    }

    /// Adds one entry. False: it does not fit, the page is over.
    fn add(&mut self, position: Position, entry: &Reference) -> Result<bool, Fault> {
        if self.request.ahead.contains(&position) {
            return Ok(true);
        }
        if !self.say_gap(position) || self.is_full() {
            return Ok(false);
        }
        let message = entry.message;
        let gap = |reason| PageEntry::Gap { position, message, reason, count: 1 };
        if entry.state == State::Released {
            self.page.entries.push(PageEntry::Released { position, message });
            return Ok(true);
        }
        let left_out = match entry.state {
            State::Collapsed => Some(GapReason::Collapsed),
            State::Recalled => Some(GapReason::Recalled),
            State::Dropped => Some(GapReason::Dropped),
            State::Expired => Some(GapReason::Expired),
            State::Waiting | State::Released => (entry.deadline <= self.now).then_some(GapReason::Expired),
        };
        if let Some(reason) = left_out {
            self.page.entries.push(gap(reason));
            return Ok(true);
        }
        let bytes = self.bytes + u64::from(entry.bytes);
        if bytes > u64::from(self.request.bytes_max) && !self.page.entries.is_empty() {
            return Ok(false);
        }
        let body = get(self.engine, self.snapshot, Space::Bodies, &keys::message(message))?;
        let Some(body) = body else {
            self.page.entries.push(gap(GapReason::Corrupt));
            return Ok(true);
        };
        self.bytes = bytes;
        let shared = bytes::Bytes::copy_from_slice(&body);
        let deadline = entry.deadline;
        let high = entry.high;
        self.page.entries.push(PageEntry::Message { position, message, deadline, shared, high });
        Ok(true)
    }

    /// Nothing more was there.
    fn finish(&mut self) {
        self.page.end = self.say_gap(Position(u64::MAX));
    }
}

fn mailbox(filling: &mut Filling<'_>, standing: &DeviceRow) -> Result<(), Fault> {
    let request = filling.request;
    filling.gap = (standing.swept > request.after).then_some(standing.swept);
    let from = request.after.max(standing.floor);
    ahead::mailbox(filling, standing, from)?;
    let range =
        keys::mailbox(request.client, from.next())..=keys::mailbox(request.client, Position(u64::MAX));
    for entry in filling.snapshot.range(filling.engine.spaces.of(Space::Mailbox), range) {
        let (key, value) = entry.into_inner()?;
        let position = keys::last_position(&key).ok_or_else(|| Fault::damaged(Space::Mailbox))?;
        let reference = Reference::decode(&value).ok_or_else(|| Fault::damaged(Space::Mailbox))?;
        if !filling.add(position, &reference)? {
            return Ok(());
        }
    }
    filling.finish();
    Ok(())
}

/// The indexes of `all` and of the device's tags, merged by position.
fn log(filling: &mut Filling<'_>, standing: &DeviceRow) -> Result<(), Fault> {
    let request = filling.request;
    // Without a cursor the device has no profile yet, and begins at the head.
    let Some(cursor) = standing.cursor else {
        filling.page.end = true;
        return Ok(());
    };
    let Some(device) = profile(filling.engine, filling.snapshot, request.client)? else {
        filling.page.end = true;
        return Ok(());
    };
    let from = request.after.max(cursor);
    ahead::log(filling, standing, &device, from)?;
    let mut indexes = Vec::with_capacity(1 + device.tags.len());
    for tag in std::iter::once("").chain(device.tags.iter().map(Tag::as_str)) {
        let floor_key = keys::floor(request.app, tag.as_bytes());
        let floor = row(filling.engine, filling.snapshot, Space::Floors, &floor_key, rows::decode_position)?;
        if let Some(floor) = floor
            && floor > from
        {
            filling.gap = filling.gap.max(Some(floor));
        }
        let range = keys::index(request.app, tag.as_bytes(), from.next())
            ..=keys::index(request.app, tag.as_bytes(), Position(u64::MAX));
        let mut entries = filling.snapshot.range(filling.engine.spaces.of(Space::Index), range);
        if let Some(first) = next_entry(&mut entries)? {
            indexes.push((first, entries));
        }
    }
    while let Some(least) = indexes.iter().map(|((position, _), _)| *position).min() {
        let mut found = None;
        let mut at = 0;
        // A message with several of the device's tags is in several indexes, and comes once.
        while at < indexes.len() {
            let (head, entries) = &mut indexes[at];
            if head.0 != least {
                at += 1;
                continue;
            }
            found = Some(head.1);
            match next_entry(entries)? {
                Some(next) => {
                    *head = next;
                    at += 1;
                }
                None => drop(indexes.swap_remove(at)),
            }
        }
        let Some(entry) = found else { break };
        let settled = standing.beyond.binary_search(&least).is_ok();
        if settled || (entry.filtered && !is_meant(filling.engine, filling.snapshot, &device, least)?) {
            continue;
        }
        if !filling.add(least, &entry)? {
            return Ok(());
        }
    }
    filling.finish();
    Ok(())
}

/// Whether a place of its app's log is for a device.
pub(crate) fn is_meant(
    engine: &Engine,
    snapshot: &Snapshot,
    device: &Device,
    position: Position,
) -> Result<bool, Fault> {
    let filter = row(engine, snapshot, Space::Log, &keys::log(device.app, position), filters::decode)?;
    Ok(filter.is_some_and(|filter| is_meant_by(&filter, device)))
}

/// Whether a filter fits a device.
pub(super) fn is_meant_by(filter: &Filter, device: &Device) -> bool {
    planted(Planted::IgnoresFilterOnReturn) || filter.fits(device.client, &device.tags, &device.attributes)
}

fn next_entry(entries: &mut fjall::Iter) -> Result<Option<(Position, Reference)>, Fault> {
    let Some(entry) = entries.next() else { return Ok(None) };
    let (key, value) = entry.into_inner()?;
    let position = keys::last_position(&key).ok_or_else(|| Fault::damaged(Space::Index))?;
    let reference = Reference::decode(&value).ok_or_else(|| Fault::damaged(Space::Index))?;
    Ok(Some((position, reference)))
}
