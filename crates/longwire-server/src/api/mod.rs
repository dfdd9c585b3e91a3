//! HTTP for the business: strict HTTP/1.1 and JSON; the hub is all that this room calls.
//!
//! In the order of a request:
//!
//! - [`listen`]: connections, their limits, the end.
//! - [`exchange`]: what every request meets: trace, caller, body, fault.
//! - `endpoints`: what can be asked.
//! - [`operations`]: what an operator asks of the node around.
//! - [`contract`]: the routes, and the OpenAPI document made from them.

pub mod contract;
mod endpoints;
pub mod exchange;
pub mod listen;
pub mod operations;
mod stats;

pub use stats::ApiStats;

use crate::delivery::hub::Hub;
use crate::delivery::over_time::ReadPush;
use crate::domain::{AppId, SecretHash};
use exchange::fault::Fault;
use operations::Operations;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// What the API is told at its making.
#[derive(Clone, Debug)]
pub struct ApiOptions {
    /// Connections at once; beyond it a new one gets 503 and is closed.
    pub connections_max: usize,
    /// Requests of one app in work at once; beyond it 429.
    pub requests_per_app_max: usize,
    /// A head must be complete after this, also between two requests of a connection; then it is closed.
    pub header: Duration,
    /// A body must be complete after this; then 408.
    pub body: Duration,
    /// Back-off told to devices at registration: seconds before each attempt, the last repeats.
    pub back_off_steps_s: Vec<u16>,
    /// A random part of so many milliseconds is added.
    pub back_off_jitter_ms: u16,
}

/// The API's state; one per node.
pub struct Api {
    hub: Hub,
    options: ApiOptions,
    entry_nodes: Vec<String>,
    metrics: Page,
    /// Held while a page is made: one at a time.
    metrics_turn: tokio::sync::Mutex<()>,
    ready: Arc<AtomicBool>,
    alive: Alive,
    overloaded: Box<dyn Fn() -> bool + Send + Sync>,
    stats: Arc<ApiStats>,
    operations: Box<dyn Operations>,
    admin_key: Option<SecretHash>,
    /// Requests in work by app; as many entries as there are apps.
    in_work: Mutex<HashMap<AppId, Arc<AtomicUsize>>>,
    /// Event streams by app; as many entries as there are apps.
    streams: Mutex<HashMap<AppId, Arc<AtomicUsize>>>,
}

/// Event streams of one app at once; beyond it 429 `too_many_streams`.
pub const STREAMS_PER_APP_MAX: usize = 16;

/// How the hub reads a stored push: as it was read when it came. The word is what a run says of one that cannot be pushed.
#[must_use]
pub fn push_reader() -> ReadPush {
    Arc::new(endpoints::read_push)
}

/// Makes a page. It reads the kernel's table of sockets, milliseconds, so never on a thread that serves requests.
pub type Page = Arc<dyn Fn() -> String + Send + Sync>;

/// A look at the node's threads: what stands still, if anything does.
pub type Alive = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What an API is made of.
pub struct Parts {
    /// All that it calls.
    pub hub: Hub,
    /// Limits and what devices are told.
    pub options: ApiOptions,
    /// Where devices connect, told at registration.
    pub entry_nodes: Vec<String>,
    /// The text of `/metrics`.
    pub metrics: Page,
    /// Whether the node has started and does not drain.
    pub ready: Arc<AtomicBool>,
    /// Whether its threads go on; says what stands still.
    pub alive: Alive,
    /// Whether pushes are shed now (429).
    pub overloaded: Box<dyn Fn() -> bool + Send + Sync>,
    /// Counters of this room.
    pub stats: Arc<ApiStats>,
    /// The node around.
    pub operations: Box<dyn Operations>,
    /// What the admin key must hash to; `None`: nobody is the operator.
    pub admin_key: Option<SecretHash>,
}

impl Api {
    /// An API over its parts.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Api> {
        Arc::new(Api {
            hub: parts.hub,
            options: parts.options,
            entry_nodes: parts.entry_nodes,
            metrics: parts.metrics,
            metrics_turn: tokio::sync::Mutex::new(()),
            ready: parts.ready,
            alive: parts.alive,
            overloaded: parts.overloaded,
            stats: parts.stats,
            operations: parts.operations,
            admin_key: parts.admin_key,
            in_work: Mutex::new(HashMap::new()),
            streams: Mutex::new(HashMap::new()),
        })
    }

    /// Takes a place among the app's requests in work.
    fn enter(&self, app: AppId) -> Result<InWork, Fault> {
        let count = self.in_work.lock().entry(app).or_default().clone();
        let place = InWork(count);
        if place.0.fetch_add(1, Ordering::Relaxed) >= self.options.requests_per_app_max {
            return Err(Fault::too_many_requests(self.options.requests_per_app_max));
        }
        Ok(place)
    }
}

impl Api {
    /// Takes a place among the app's event streams.
    fn enter_stream(&self, app: AppId) -> Result<InWork, Fault> {
        let count = self.streams.lock().entry(app).or_default().clone();
        let place = InWork(count);
        if place.0.fetch_add(1, Ordering::Relaxed) >= STREAMS_PER_APP_MAX {
            return Err(Fault::too_many_streams(STREAMS_PER_APP_MAX));
        }
        Ok(place)
    }
}

/// A request in work; dropping it gives the place back.
struct InWork(Arc<AtomicUsize>);

impl Drop for InWork {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
