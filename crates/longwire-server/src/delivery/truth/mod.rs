//! What is told of deliveries and devices afterwards: streams, and who is sent them.
//!
//! - [`event`]: an event as callers read it, wherever they read it.
//! - `presence`: who came and went, on the way to the store.
//! - [`webhooks`]: streams sent outside; `address`: where they may go; `sender`: one webhook at work.
//! - `story`: what is known of one delivery.
//! - `ask`: what the API asks.

mod address;
mod ask;
pub mod event;
pub(super) mod presence;
mod sender;
mod story;
pub mod webhooks;

pub use crate::store::truth::{Stream, StreamStanding};
pub use story::{DeliveryStory, Step, TargetState};

use super::stats::HubStats;
use crate::domain::{App, AppId, WallMs};
use crate::store::messages::MessageStore;
use crate::store::truth::StreamTerms;
use parking_lot::Mutex;
use presence::Presences;
use std::sync::Arc;
use tokio::sync::watch;
use webhooks::Webhooks;

/// What the hub is told of this.
#[derive(Clone, Debug, Default)]
pub struct TruthOptions {
    /// This node's name.
    pub node: Box<str>,
    /// Webhooks may go to addresses that are not public, and to `http`.
    pub private_webhooks: bool,
}

/// What the hub's parts share of it.
pub(super) struct Truth {
    pub(super) node: Box<str>,
    pub(super) presences: Presences,
    pub(super) webhooks: Webhooks,
    /// True: whoever reads a stream without end is to end.
    pub(super) ending: watch::Sender<bool>,
    /// Held while an app's settings change.
    pub(super) settings_turn: tokio::sync::Mutex<()>,
    /// Tasks that end with the hub.
    pub(super) tasks: Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

impl Truth {
    pub(super) fn new(options: TruthOptions, presences: Presences, stats: Arc<HubStats>) -> Truth {
        Truth {
            node: options.node,
            presences,
            webhooks: Webhooks::new(options.private_webhooks, stats),
            ending: watch::Sender::new(false),
            settings_turn: tokio::sync::Mutex::default(),
            tasks: Mutex::default(),
        }
    }
}

/// What an app's streams take.
pub(super) fn terms(app: &App) -> StreamTerms {
    StreamTerms { receipts: app.settings.receipts, presence: app.settings.presence }
}

/// Ends, a page at a time, the sessions that the stream of presence holds for online from before.
pub(super) async fn end_stale(store: MessageStore, clock: Arc<dyn Fn() -> WallMs + Send + Sync>, app: AppId) {
    let mut after = None;
    loop {
        match store.end_stale(app, after, clock()).await {
            Ok(Some(next)) => after = Some(next),
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, app = app.0, "sessions of before were not ended in the stream of presence");
                return;
            }
        }
    }
}
