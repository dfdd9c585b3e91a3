//! Deliveries of late, for the frequency caps of apps: counted when the device has a message, so that the count outlives
//! connections and restarts.

use super::turn::Turn;
use crate::domain::{AppId, ClientId, Kind, MessageId, Priority};
use crate::store::messages::engine::Fault;
use crate::store::messages::layout::space::Space;
use crate::store::messages::layout::{keys, rows};
use parking_lot::RwLock;
use std::collections::HashMap;

/// The spans of apps that have a cap, milliseconds.
#[derive(Default)]
pub(crate) struct Caps(RwLock<HashMap<AppId, u64>>);

impl Caps {
    /// From now on deliveries of this app are counted in spans of so many seconds; `None`: not at all.
    pub(crate) fn set(&self, app: AppId, per_s: Option<u32>) {
        match per_s {
            Some(per_s) => self.0.write().insert(app, u64::from(per_s) * 1000),
            None => self.0.write().remove(&app),
        };
    }

    fn span_ms(&self, app: AppId) -> Option<u64> {
        self.0.read().get(&app).copied()
    }
}

/// A device has a message: counted if its app has a cap and the message is one that caps hold.
pub(crate) fn delivered(
    turn: &mut Turn<'_>,
    app: AppId,
    client: ClientId,
    message: MessageId,
) -> Result<(), Fault> {
    let Some(span_ms) = turn.engine.caps.span_ms(app) else { return Ok(()) };
    let Some(row) = turn.get(Space::Messages, &keys::message(message))? else { return Ok(()) };
    let record = rows::decode_record(&row).ok_or_else(|| Fault::damaged(Space::Messages))?;
    let held = matches!(record.kind, Kind::Notification | Kind::Text | Kind::Custom);
    if !held || record.priority == Priority::High {
        return Ok(());
    }
    let now = (turn.engine.clock)();
    let device = turn.device(client)?;
    let is_over = now.0 >= device.counted_from.0.saturating_add(span_ms) || now < device.counted_from;
    if is_over {
        device.counted_from = now;
        device.counted = 0;
    }
    device.counted = device.counted.saturating_add(1);
    Ok(())
}
