//! Where a device stands when it logs in.
//!
//! One snapshot shows the log's head and what waits, so nothing lies between the two reads: what was committed after the
//! head that is told is also not in `waiting`, and the shard makes the feed behind when it has sent more.

use super::lookup::{profile, row, standing};
use super::page::is_meant;
use crate::domain::{ClientId, Device, Position, Tag};
use crate::planted::{Fault as Planted, planted};
use crate::store::messages::engine::{Engine, Fault};
use crate::store::messages::layout::rows::{DeviceRow, Reference};
use crate::store::messages::layout::space::Space;
use crate::store::messages::layout::{keys, rows};
use crate::store::port::LoginView;
use fjall::{Readable, Snapshot};
use longwire_proto::session::FeedStart;

/// One view per client.
pub(crate) fn views(engine: &Engine, clients: &[ClientId]) -> Result<Vec<Option<LoginView>>, Fault> {
    let snapshot = engine.database.snapshot();
    let view = |&client: &ClientId| {
        let Some(device) = profile(engine, &snapshot, client)? else { return Ok(None) };
        let standing = standing(engine, &snapshot, client)?;
        let log_head = head(engine, &snapshot, &device)?;
        let mailbox = mailbox_start(engine, &standing);
        let log = log_start(engine, &snapshot, &device, &standing, log_head)?;
        let mailbox_head = standing.last(engine.incarnation);
        let counted = (standing.counted_from, standing.counted);
        Ok(Some(LoginView { device, mailbox, mailbox_head, log, log_head, counted }))
    };
    clients.iter().map(view).collect()
}

fn head(engine: &Engine, snapshot: &Snapshot, device: &Device) -> Result<Position, Fault> {
    let head = row(engine, snapshot, Space::Heads, &keys::app(device.app), rows::decode_position)?;
    Ok(head.unwrap_or(Position::new(engine.incarnation, 0)))
}

fn mailbox_start(engine: &Engine, standing: &DeviceRow) -> FeedStart {
    let swept = standing.swept != Position::START;
    let waiting = standing.waiting > 0 || standing.markers > 0 || swept;
    if planted(Planted::ForgetsMailboxAtLogin) {
        return FeedStart { last: standing.last(engine.incarnation), waiting: false };
    }
    let last = match (waiting, swept) {
        (false, _) => standing.last(engine.incarnation),
        (true, false) => standing.floor,
        (true, true) => standing.swept_from,
    };
    FeedStart { last, waiting }
}

fn log_start(
    engine: &Engine,
    snapshot: &Snapshot,
    device: &Device,
    standing: &DeviceRow,
    head: Position,
) -> Result<FeedStart, Fault> {
    let cursor = standing.cursor.unwrap_or(head);
    if planted(Planted::ForgetsLogAtLogin) {
        return Ok(FeedStart { last: head, waiting: false });
    }
    let mut waiting = false;
    if head > cursor {
        for tag in std::iter::once("").chain(device.tags.iter().map(Tag::as_str)) {
            waiting = waits(engine, snapshot, device, tag, cursor, &standing.beyond)?;
            if waiting {
                break;
            }
        }
    }
    let settled_last = standing.beyond.last().copied().unwrap_or(cursor);
    Ok(FeedStart { last: if waiting { cursor } else { settled_last }, waiting })
}

/// Whether an index holds, or has lost, something after the cursor that the device has not settled.
fn waits(
    engine: &Engine,
    snapshot: &Snapshot,
    device: &Device,
    tag: &str,
    cursor: Position,
    settled: &[Position],
) -> Result<bool, Fault> {
    if floor(engine, snapshot, device, tag)? > cursor {
        return Ok(true);
    }
    let range = keys::index(device.app, tag.as_bytes(), cursor.next())
        ..=keys::index(device.app, tag.as_bytes(), Position(u64::MAX));
    for entry in snapshot.range(engine.spaces.of(Space::Index), range) {
        let (key, value) = entry.into_inner()?;
        let position = keys::last_position(&key).ok_or_else(|| Fault::damaged(Space::Index))?;
        let entry = Reference::decode(&value).ok_or_else(|| Fault::damaged(Space::Index))?;
        if settled.binary_search(&position).is_err()
            && (!entry.filtered || is_meant(engine, snapshot, device, position)?)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn floor(engine: &Engine, snapshot: &Snapshot, device: &Device, tag: &str) -> Result<Position, Fault> {
    let key = keys::floor(device.app, tag.as_bytes());
    Ok(row(engine, snapshot, Space::Floors, &key, rows::decode_position)?.unwrap_or_default())
}
