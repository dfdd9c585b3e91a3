//! Keeping the profiles that logins and pushes read, and what is found by them: names, aliases, tags and their counts.

use super::ends::Ended;
use super::settle::drop_reference;
use super::turn::{Traits, Turn};
use crate::domain::{AppId, ClientId, Device, DropReason, Tag};
use crate::store::messages::engine::Fault;
use crate::store::messages::layout::keys;
use crate::store::messages::layout::rows;
use crate::store::messages::layout::space::Space;
use crate::store::messages::sessions::write as sessions;
use crate::store::messages::stats::StoreStats;
use crate::store::sessions::Change;
use std::sync::Arc;

/// Adds a profile to the turn. A device that is new begins at the head of its app's log.
pub(crate) fn project(turn: &mut Turn<'_>, device: &Device) -> Result<(), Fault> {
    let before = profile(turn, device.client)?;
    if let Some(before) = &before {
        if before.alias != device.alias
            && let Some(alias) = &before.alias
        {
            turn.remove(Space::Aliases, keys::alias(before.app, alias.as_str(), device.client));
        }
        if before.name != device.name {
            turn.remove(Space::Names, keys::name(before.app, before.name.as_str()));
        }
    } else {
        count(turn, device.app, None, true)?;
    }
    let tags_before = before.as_ref().map_or(&[][..], |before| &before.tags);
    retag(turn, (device.app, device.client), tags_before, &device.tags)?;
    if let Some(alias) = &device.alias {
        turn.put(Space::Aliases, keys::alias(device.app, alias.as_str(), device.client), []);
    }
    turn.put(Space::Names, keys::name(device.app, device.name.as_str()), device.client.0.to_be_bytes());
    turn.put(Space::Profiles, keys::client(device.client), rows::encode_profile(device));
    turn.remember_traits(device.client, Arc::new(Traits::of(device)));
    let head = turn.head(device.app)?;
    let row = turn.device(device.client)?;
    if row.cursor.is_none() {
        row.cursor = Some(head);
    }
    Ok(())
}

/// Takes a device out: its deliveries without an end are dropped, its session ends, and nothing is found by it any more.
/// Of one that has no profile, what lies in its mailbox goes all the same.
pub(crate) fn remove(
    turn: &mut Turn<'_>,
    app: AppId,
    client: ClientId,
    stats: &StoreStats,
) -> Result<(), Fault> {
    let ended = Ended::Dropped(DropReason::DeviceRemoved);
    for (position, row) in sessions::mailbox_rows(turn, client)? {
        drop_reference(turn, app, (client, position), &row, ended, stats)?;
    }
    sessions::apply(turn, &Change::End(client), stats)?;
    turn.remove(Space::UpstreamIds, keys::client(client));
    if let Some(device) = profile(turn, client)? {
        if let Some(alias) = &device.alias {
            turn.remove(Space::Aliases, keys::alias(device.app, alias.as_str(), client));
        }
        retag(turn, (device.app, client), &device.tags, &[])?;
        count(turn, device.app, None, false)?;
        turn.remove(Space::Names, keys::name(device.app, device.name.as_str()));
        turn.remove(Space::Profiles, keys::client(client));
    }
    turn.forget_device(client);
    Ok(())
}

fn profile(turn: &Turn<'_>, client: ClientId) -> Result<Option<Device>, Fault> {
    match turn.get(Space::Profiles, &keys::client(client))? {
        Some(row) => rows::decode_profile(&row).map(Some).ok_or_else(|| Fault::damaged(Space::Profiles)),
        None => Ok(None),
    }
}

/// Members and counts of the tags that a device has no more, or has now. A tag that stays costs nothing.
fn retag(
    turn: &mut Turn<'_>,
    (app, client): (AppId, ClientId),
    before: &[Tag],
    now: &[Tag],
) -> Result<(), Fault> {
    for gone in before.iter().filter(|tag| !now.contains(tag)) {
        turn.remove(Space::TagMembers, keys::tag_member(app, gone.as_str(), client));
        count(turn, app, Some(gone), false)?;
    }
    for new in now.iter().filter(|tag| !before.contains(tag)) {
        turn.put(Space::TagMembers, keys::tag_member(app, new.as_str(), client), []);
        count(turn, app, Some(new), true)?;
    }
    Ok(())
}

/// One device more or less for a tag, or for the app; a count of none has no row.
fn count(turn: &mut Turn<'_>, app: AppId, tag: Option<&Tag>, more: bool) -> Result<(), Fault> {
    let key = keys::tag_count(app, tag.map_or("", Tag::as_str));
    let before = match turn.get(Space::TagCounts, &key)? {
        Some(row) => rows::decode_count(&row).ok_or_else(|| Fault::damaged(Space::TagCounts))?,
        None => 0,
    };
    match if more { before + 1 } else { before.saturating_sub(1) } {
        0 => turn.remove(Space::TagCounts, key),
        after => turn.put(Space::TagCounts, key, after.to_be_bytes()),
    }
    Ok(())
}
