//! Epochs of devices: each login raises its device's, and the end of its last connection carries it.

use super::rows::{self, DeviceState, PresenceRow};
use super::streams;
use crate::domain::{AppId, ClientId, WallMs};
use crate::store::messages::engine::Fault;
use crate::store::messages::layout::space::Space;
use crate::store::messages::stats::StoreStats;
use crate::store::messages::write::turn::Turn;
use crate::store::truth::{Presence, PresenceNote, PresenceState, Stream};

/// Devices looked at in one step when the sessions of before are ended.
pub(crate) const STALE_PAGE: usize = 1000;
/// Why a device went whose end nobody saw.
const RESTARTED: &str = "not_seen_since_restart";

/// Adds a note to the turn, if the app has a stream of presence.
pub(crate) fn note(turn: &mut Turn<'_>, note: &PresenceNote, stats: &StoreStats) -> Result<(), Fault> {
    let PresenceNote { app, client, at, ref presence } = *note;
    let (_, Some(era)) = streams::terms(turn, app)? else { return Ok(()) };
    if let Presence::Lost(count) = presence {
        let event = (ClientId(0), PresenceState::Lost, *count, "");
        return append(turn, app, at, event, stats);
    }
    let mut state = state(turn, app, client)?;
    let was_stale = state.online && state.era != era;
    let ends = match presence {
        Presence::Stale | Presence::Online if was_stale => Some(RESTARTED),
        Presence::Offline(_) if was_stale => Some(RESTARTED),
        Presence::Offline(reason) if state.online => Some(&**reason),
        _ => None,
    };
    if let Some(reason) = ends {
        append(turn, app, at, (client, PresenceState::Offline, state.epoch, reason), stats)?;
        state = DeviceState { era, at, online: false, ..state };
    }
    if *presence == Presence::Online {
        state = DeviceState { era, epoch: state.epoch + 1, at, online: true };
        append(turn, app, at, (client, PresenceState::Online, state.epoch, "login"), stats)?;
    } else if ends.is_none() {
        return Ok(());
    }
    turn.put(Space::Streams, rows::device(app, client), state.encode());
    Ok(())
}

fn state(turn: &Turn<'_>, app: AppId, client: ClientId) -> Result<DeviceState, Fault> {
    match turn.get(Space::Streams, &rows::device(app, client))? {
        Some(row) => DeviceState::decode(&row).ok_or_else(|| Fault::damaged(Space::Streams)),
        None => Ok(DeviceState::default()),
    }
}

fn append(
    turn: &mut Turn<'_>,
    app: AppId,
    at: WallMs,
    (client, state, epoch, reason): (ClientId, PresenceState, u64, &str),
    stats: &StoreStats,
) -> Result<(), Fault> {
    let event = PresenceRow { at, client, state, epoch, reason };
    streams::append(turn, app, Stream::Presence, event.encode(), stats)
}
