//! The youngest positions of each index, in memory, so that recording an ack of a broadcast reads no table: thousands of
//! devices settle the same position, one after the other.

use crate::domain::{AppId, Position};
use crate::store::messages::engine::{Engine, Fault};
use crate::store::messages::layout::keys;
use crate::store::messages::layout::rows::Reference;
use crate::store::messages::layout::space::Space;
use std::collections::{HashMap, VecDeque};

/// Positions that are kept of an index; older ones are read from the engine.
const TAIL_MAX: usize = 256;
/// Indexes of which a tail is kept, about 2 KiB each when full; all are forgotten when there are more.
const TAILS_MAX: usize = 2048;

/// The end of one index: every entry after `since` is in `positions`, rising.
struct Tail {
    since: Position,
    positions: VecDeque<(Position, bool)>,
}

/// The tails by app and tag (empty = messages to all devices).
#[derive(Default)]
pub(crate) struct Tails {
    known: HashMap<(AppId, Box<str>), Tail>,
    /// Entries of the batch under way. The engine does not show them yet, so a tail that is read meanwhile would lack
    /// them for good.
    uncommitted: Vec<(AppId, Box<str>, (Position, bool))>,
}

impl Tails {
    /// A new entry of an index.
    pub(crate) fn push(&mut self, app: AppId, tag: &str, position: Position, filtered: bool) {
        self.uncommitted.push((app, Box::from(tag), (position, filtered)));
        let Some(tail) = self.known.get_mut(&(app, Box::from(tag))) else { return };
        if tail.positions.len() >= TAIL_MAX
            && let Some((oldest, _)) = tail.positions.pop_front()
        {
            tail.since = oldest;
        }
        tail.positions.push_back((position, filtered));
    }

    /// The engine shows all entries now.
    pub(crate) fn committed(&mut self) {
        self.uncommitted.clear();
    }

    /// An entry was trimmed.
    pub(crate) fn remove(&mut self, app: AppId, tag: &str, position: Position) {
        if let Some(tail) = self.known.get_mut(&(app, Box::from(tag))) {
            tail.positions.retain(|&(other, _)| other != position);
        }
    }

    /// The first entry of an index after `after` that is `wanted`, which is told whether its filter decides.
    pub(crate) fn first_after(
        &mut self,
        engine: &Engine,
        app: AppId,
        tag: &str,
        after: Position,
        wanted: &mut impl FnMut(Position, bool) -> Result<bool, Fault>,
    ) -> Result<Option<Position>, Fault> {
        let key = (app, Box::from(tag));
        if !self.known.contains_key(&key) {
            if self.known.len() >= TAILS_MAX {
                self.known.clear();
            }
            let mut tail = load(engine, app, tag)?;
            let of_this = |entry: &&(AppId, Box<str>, (Position, bool))| entry.0 == app && &*entry.1 == tag;
            tail.positions.extend(self.uncommitted.iter().filter(of_this).map(|entry| entry.2));
            self.known.insert(key.clone(), tail);
        }
        if let Some(tail) = self.known.get(&key)
            && after >= tail.since
        {
            let from = tail.positions.partition_point(|&(position, _)| position <= after);
            for &(position, filtered) in tail.positions.range(from..) {
                if wanted(position, filtered)? {
                    return Ok(Some(position));
                }
            }
            return Ok(None);
        }
        let range = keys::index(app, tag.as_bytes(), after.next())
            ..=keys::index(app, tag.as_bytes(), Position(u64::MAX));
        for entry in engine.spaces.of(Space::Index).range(range) {
            let (position, filtered) = place(entry)?;
            if wanted(position, filtered)? {
                return Ok(Some(position));
            }
        }
        Ok(None)
    }
}

fn load(engine: &Engine, app: AppId, tag: &str) -> Result<Tail, Fault> {
    let range = keys::index(app, tag.as_bytes(), Position::START)
        ..=keys::index(app, tag.as_bytes(), Position(u64::MAX));
    let mut positions = VecDeque::with_capacity(16);
    let mut since = Position::START;
    for entry in engine.spaces.of(Space::Index).range(range).rev() {
        let (position, filtered) = place(entry)?;
        if positions.len() >= TAIL_MAX {
            since = position;
            break;
        }
        positions.push_front((position, filtered));
    }
    Ok(Tail { since, positions })
}

/// A place of an index, and whether its filter decides who of its readers is meant.
fn place(entry: fjall::Guard) -> Result<(Position, bool), Fault> {
    let (key, value) = entry.into_inner()?;
    let position = keys::last_position(&key).ok_or_else(|| Fault::damaged(Space::Index))?;
    let reference = Reference::decode(&value).ok_or_else(|| Fault::damaged(Space::Index))?;
    Ok((position, reference.filtered))
}
