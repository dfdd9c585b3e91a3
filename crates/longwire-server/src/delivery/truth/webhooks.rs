//! The webhooks of all apps: one task each, started and ended as settings change.

use super::super::hub::Core;
use super::super::stats::HubStats;
use super::address;
use super::sender::{self, Sender};
use crate::domain::{App, AppId, Invalid, WallMs, Webhook};
use crate::store::truth::{Stream, StreamStanding};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Requests of all webhooks of a node under way at once.
const REQUESTS_MAX: usize = 64;
/// A webhook's name, bytes.
const ID_BYTES_MAX: usize = 32;

/// What is seen of a webhook from outside.
#[derive(Clone, Debug, Default)]
pub struct Sendings {
    /// Requests that were answered with 2xx.
    pub delivered: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Events that were given up after failing for so long.
    pub skipped: u64,
    /// Events that fell off the stream's end before they were sent.
    pub lost: u64,
    /// Failures since the last request that was answered with 2xx.
    pub failures: u32,
    /// When the last request was answered with 2xx.
    pub delivered_at: Option<WallMs>,
    /// Why the last request failed, and when.
    pub error: Option<(String, WallMs)>,
    /// When it is tried again.
    pub next_try: Option<WallMs>,
}

/// A webhook and how it stands.
#[derive(Clone, Debug)]
pub struct WebhookView {
    /// What was set.
    pub webhook: Webhook,
    /// How it stands since the node started.
    pub sendings: Sendings,
    /// Its streams.
    pub streams: Vec<(Stream, StreamStanding)>,
}

struct Running {
    webhook: Webhook,
    sendings: Arc<Mutex<Sendings>>,
    task: tokio::task::AbortHandle,
}

/// All of them.
pub(in super::super) struct Webhooks {
    pub(super) private: bool,
    running: Mutex<HashMap<(AppId, String), Running>>,
    places: Arc<Semaphore>,
    stats: Arc<HubStats>,
}

impl Webhooks {
    pub(super) fn new(private: bool, stats: Arc<HubStats>) -> Webhooks {
        let places = Arc::new(Semaphore::new(REQUESTS_MAX));
        Webhooks { private, running: Mutex::default(), places, stats }
    }

    /// Whether a webhook may be set.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn check(&self, id: &str, url: &str) -> Result<(), Invalid> {
        check_id(id)?;
        address::parse(url, self.private).map(drop)
    }

    /// Makes what runs what the app's settings say. One that did not change goes on.
    pub(in super::super) fn set(&self, core: &Core, app: &App) {
        let wanted = &app.settings.webhooks;
        let mut running = self.running.lock();
        running.retain(|(owner, _), one| {
            let stays = *owner != app.id || wanted.contains(&one.webhook);
            if !stays {
                one.task.abort();
            }
            stays
        });
        for webhook in wanted {
            let key = (app.id, webhook.id.clone());
            if running.contains_key(&key) {
                continue;
            }
            let sender = self.sender(core, app, webhook);
            let sendings = sender.sendings.clone();
            let task = tokio::spawn(sender::run(sender)).abort_handle();
            running.insert(key, Running { webhook: webhook.clone(), sendings, task });
        }
    }

    /// A sender for a webhook.
    pub(super) fn sender(&self, core: &Core, app: &App, webhook: &Webhook) -> Sender {
        Sender {
            app: app.id,
            app_key: app.key.as_str().into(),
            webhook: webhook.clone(),
            private: self.private,
            store: core.store.clone(),
            clock: core.clock.clone(),
            node: core.truth.node.clone(),
            sendings: Arc::default(),
            places: self.places.clone(),
            stats: self.stats.clone(),
        }
    }

    /// How a webhook stands.
    pub(super) fn sendings(&self, app: AppId, id: &str) -> Sendings {
        let running = self.running.lock();
        running.get(&(app, id.to_owned())).map(|one| one.sendings.lock().clone()).unwrap_or_default()
    }

    /// Ends them all.
    pub(in super::super) fn close(&self) {
        self.running.lock().drain().for_each(|(_, one)| one.task.abort());
    }
}

/// Whether a word may name a webhook.
///
/// # Errors
/// It may not.
pub(super) fn check_id(id: &str) -> Result<(), Invalid> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if id.is_empty() || id.len() > ID_BYTES_MAX || !id.bytes().all(allowed) {
        let problem = format!("1 to {ID_BYTES_MAX} letters, digits, - and _");
        return Err(Invalid::new("id", problem));
    }
    Ok(())
}
