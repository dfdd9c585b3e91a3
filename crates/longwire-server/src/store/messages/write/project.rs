//! Keeping the profiles that logins and pushes read.

use super::turn::{Traits, Turn};
use crate::domain::Device;
use crate::store::messages::engine::Fault;
use crate::store::messages::layout::keys;
use crate::store::messages::layout::rows;
use crate::store::messages::layout::space::Space;
use std::sync::Arc;

/// Adds a profile to the turn. A device that is new begins at the head of its app's log.
pub(crate) fn project(turn: &mut Turn<'_>, device: &Device) -> Result<(), Fault> {
    let key = keys::client(device.client);
    if let Some(row) = turn.get(Space::Profiles, &key)? {
        let before = rows::decode_profile(&row).ok_or_else(|| Fault::damaged(Space::Profiles))?;
        if before.alias != device.alias
            && let Some(alias) = &before.alias
        {
            turn.remove(Space::Aliases, keys::alias(before.app, alias.as_str(), device.client));
        }
        if before.name != device.name {
            turn.remove(Space::Names, keys::name(before.app, before.name.as_str()));
        }
    }
    if let Some(alias) = &device.alias {
        turn.put(Space::Aliases, keys::alias(device.app, alias.as_str(), device.client), []);
    }
    turn.put(Space::Names, keys::name(device.app, device.name.as_str()), device.client.0.to_be_bytes());
    turn.put(Space::Profiles, key, rows::encode_profile(device));
    turn.remember_traits(device.client, Arc::new(Traits::of(device)));
    let head = turn.head(device.app)?;
    let row = turn.device(device.client)?;
    if row.cursor.is_none() {
        row.cursor = Some(head);
    }
    Ok(())
}
