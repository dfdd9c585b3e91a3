//! Pages for the business.

use super::rows::{AppRow, Stored};
use crate::domain::{ClientId, DeviceName, Position};
use crate::store::messages::engine::{Engine, Fault};
use crate::store::messages::layout::keys;
use crate::store::messages::layout::space::Space;
use crate::store::messages::read::lookup::{profile, row};
use crate::store::upstream::{UpstreamItem, UpstreamPage, UpstreamRequest};
use bytes::Bytes;
use fjall::Readable;
use std::collections::HashMap;
use std::ops::Bound;

/// What waits after the request's place; `None` when that lies after all that was ever stored.
pub(crate) fn page(engine: &Engine, request: &UpstreamRequest) -> Result<Option<UpstreamPage>, Fault> {
    let snapshot = engine.database.snapshot();
    let standing = row(engine, &snapshot, Space::UpstreamApps, &keys::app(request.app), AppRow::decode)?;
    let standing = standing.unwrap_or_else(|| AppRow::new(engine.incarnation));
    let after = request.after.unwrap_or(standing.taken).max(standing.taken);
    if after > standing.last {
        return Ok(None);
    }
    let mut page = UpstreamPage { items: Vec::new(), cursor: after, end: true, waiting: standing.waiting };
    let mut names: HashMap<ClientId, Option<DeviceName>> = HashMap::new();
    let mut bytes = 0_u64;
    let range = (
        Bound::Excluded(keys::log(request.app, after)),
        Bound::Included(keys::log(request.app, Position(u64::MAX))),
    );
    for entry in snapshot.range(engine.spaces.of(Space::Upstream), range) {
        let (key, value) = entry.into_inner()?;
        let position = keys::last_position(&key).ok_or_else(|| Fault::damaged(Space::Upstream))?;
        let stored = Stored::decode(&value).ok_or_else(|| Fault::damaged(Space::Upstream))?;
        bytes += stored.payload.len() as u64;
        let too_long = bytes > u64::from(request.bytes_max) && !page.items.is_empty();
        if too_long || page.items.len() >= usize::from(request.messages_max) {
            page.end = false;
            break;
        }
        let device = match names.get(&stored.client) {
            Some(name) => name.clone(),
            None => {
                let name = profile(engine, &snapshot, stored.client)?.map(|device| device.name);
                names.insert(stored.client, name.clone());
                name
            }
        };
        page.cursor = position;
        page.items.push(UpstreamItem {
            position,
            device,
            client_message: stored.client_message,
            kind: stored.kind.into(),
            accepted_at: stored.accepted_at,
            trace: stored.trace,
            payload: Bytes::copy_from_slice(stored.payload),
        });
    }
    Ok(Some(page))
}
