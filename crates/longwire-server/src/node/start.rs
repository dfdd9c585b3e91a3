//! Rooms opened in order, ports last; closed in the opposite order, ports first.

use super::certificates::{open_certificates, reload};
use super::clock::wall_clock;
use super::config::Config;
use super::credentials::{AppSeed, prepare_admin, prepare_apps};
use super::metrics::{Sources, render};
use super::operator::Operator;
use super::telemetry::DroppedLines;
use super::{capacity, service, stores, watch};
use crate::api::listen::{self, Bound, Listening};
use crate::api::{Api, ApiOptions, ApiStats, Parts as ApiParts, push_reader};
use crate::delivery::hub::{Hub, Parts as HubParts, TruthOptions};
use crate::delivery::over_time::OverTime;
use crate::delivery::people::AuditCheck;
use crate::domain::{AppSecret, Invalid, SecretHash};
use crate::gate::transport::{TlsFileError, TlsTerms};
use crate::gate::{Gate, GateError, Level};
use crate::store::messages::OpenError;
use crate::store::port::StoreError;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Durable messages that may wait for the dispatcher; the store's writer waits when it is full.
const COMMITTED_QUEUE: usize = 4096;

/// How a node is started.
pub struct ServeOptions {
    /// The configuration.
    pub config: Config,
    /// An app to be made if missing.
    pub app: Option<AppSeed>,
    /// The admin key from now on; `None`: the one that is stored, or a new one.
    pub admin_key: Option<AppSecret>,
    /// The log's count of dropped lines, for `/metrics`.
    pub log_dropped: Option<DroppedLines>,
    /// Started to be tried (`--dev`): a small machine is no news.
    pub for_trying: bool,
}

/// Why a node did not start. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data folder.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The engine, after it was opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Shards or the devices' port.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// The devices' certificates.
    #[error("TLS for devices: {0}")]
    Certificates(#[from] TlsFileError),
    /// The API's port.
    #[error(
        "cannot listen for HTTP on {address}: {cause}; choose another address (api.bind) or stop what holds it"
    )]
    ApiBind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The app is there with another secret.
    #[error("app {0} exists and has another secret; give the secret it was made with, or another key")]
    OtherSecret(String),
    /// A name that cannot be an app's.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// No random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}

/// A node at work.
pub struct Running {
    /// Where devices connect.
    pub device: SocketAddr,
    /// Every listener of devices by its name, the first of them `device`.
    pub listeners: Vec<(&'static str, SocketAddr)>,
    /// Where the API listens.
    pub api: SocketAddr,
    /// The app "default", if this was the first start: its secret is shown once and kept nowhere.
    pub first_app: Option<AppSeed>,
    /// The admin key, if this start made it: it is shown once and kept nowhere.
    pub first_admin_key: Option<AppSecret>,
    config: Config,
    certificates: Option<Arc<TlsTerms>>,
    ready: Arc<AtomicBool>,
    exit: tokio::sync::watch::Receiver<Option<Duration>>,
    listening: Listening,
    gate: Arc<Gate>,
    hub: Hub,
    shards: Vec<JoinHandle<()>>,
    /// The watchdog over the shards, and signs of life to the service manager.
    watches: Vec<JoinHandle<()>>,
}

/// The runtime of everything but the shards: half the cores, at least two threads, so that shards and runtime together
/// do not crowd a small machine.
///
/// # Errors
/// The system's.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads((cores / 2).max(2))
        .max_blocking_threads(16)
        .thread_name("longwire-async")
        .enable_all()
        .build()
}

/// Starts a node: store → registry → shards, closed → hub → API's port → devices' port → ready.
///
/// # Errors
/// See [`ServeError`]; nothing is left running or listening.
pub async fn serve(options: ServeOptions) -> Result<Running, ServeError> {
    let ServeOptions { mut config, app, admin_key, log_dropped, for_trying } = options;
    capacity::fit(&mut config, for_trying);
    let certificates = open_certificates(&mut config)?;
    let clock = wall_clock();
    let (commits, committed) = tokio::sync::mpsc::channel(COMMITTED_QUEUE);
    let (store, registry) = stores::open(&config, clock.clone(), commits).await?;
    let store_stats = store.stats();
    let first_app = prepare_apps(&registry, &config, app).await?;
    let (admin_key, first_admin_key) = prepare_admin(&registry, &config, admin_key).await?;
    let (gate, shards, events) = Gate::prepare(config.gate.clone(), clock.clone())?;
    let parts = HubParts {
        store,
        registry,
        shards,
        committed,
        clock,
        token_ttl_s: config.token_ttl.as_secs(),
        duplicate_login: config.duplicate_login,
        heartbeat: config.heartbeat,
        auth: config.auth.clone(),
        connections_per_device: config.connections_per_device,
        truth: truth_options(&config),
        limits: config.limits,
    };
    let hub = start_hub(parts, &gate).await?;
    let shards = events
        .into_iter()
        .map(|events| {
            let hub = hub.clone();
            tokio::spawn(async move { hub.serve_shard(events).await })
        })
        .collect();
    let (bound, device, listeners) = match open_ports(&config, &gate).await {
        Ok(ports) => ports,
        Err(error) => {
            hub.close().await;
            return Err(error);
        }
    };
    let memory_limit = watch::memory_limit(config.memory_limit_bytes);
    let mut watches = vec![tokio::spawn(watch::run(gate.stats(), memory_limit))];
    let (ready, gate) = (Arc::new(AtomicBool::new(false)), Arc::new(gate));
    let (mut operator, exit) = Operator::new(&hub, &gate, store_stats, &ready, config.drain, memory_limit);
    operator.certificates.clone_from(&certificates);
    let api = make_api(&config, operator, device, log_dropped, admin_key);
    let listening = bound.serve(api);
    ready.store(true, Ordering::Release);
    let api = listening.address();
    tracing::info!(%device, %api, node = config.gate.node, shards = config.gate.shards, "ready");
    service::ready(format!("devices on {device}, API on {api}")).await;
    let shards_go_on = gate.stats();
    watches.extend(service::watch(Arc::new(move || watch::look(&shards_go_on).is_ok())));
    Ok(Running {
        device,
        listeners,
        api,
        first_app,
        first_admin_key,
        config,
        certificates,
        ready,
        exit,
        listening,
        gate,
        hub,
        shards,
        watches,
    })
}

fn truth_options(config: &Config) -> TruthOptions {
    TruthOptions { node: config.gate.node.as_str().into(), private_webhooks: config.private_webhooks }
}

/// What was due while the node was down fires now. Slices of what is spread wait while it has much to do.
async fn start_hub(parts: HubParts, gate: &Gate) -> Result<Hub, StoreError> {
    let hub = Hub::start(parts).await?;
    let stats = gate.stats();
    let pressed = Box::new(move || stats.pressure.level() >= Level::Busy);
    hub.run_over_time(OverTime { read: push_reader(), pressed }).await?;
    Ok(hub)
}

/// Every listener of devices by its name, and where it listens.
type Listeners = Vec<(&'static str, SocketAddr)>;

/// Binds all ports. The API's callers wait in its backlog until the devices' ports are open too.
async fn open_ports(config: &Config, gate: &Gate) -> Result<(Bound, SocketAddr, Listeners), ServeError> {
    let address = config.api.bind;
    let bound = listen::bind(address).await.map_err(|cause| ServeError::ApiBind { address, cause })?;
    let listeners = config.listeners.iter().enumerate();
    let opened: Result<Listeners, GateError> =
        listeners.map(|(number, listener)| Ok((listener.name, gate.open(number, listener.bind)?))).collect();
    let opened = opened?;
    for (name, address) in &opened[1..] {
        tracing::info!(%address, "devices also connect at listener.{name}");
    }
    Ok((bound, opened[0].1, opened))
}

fn make_api(
    config: &Config,
    operator: Operator,
    device: SocketAddr,
    log_dropped: Option<DroppedLines>,
    admin_key: Option<SecretHash>,
) -> Arc<Api> {
    let stats = Arc::new(ApiStats::default());
    let Operator { hub, gate, store, ready, .. } = &operator;
    let sources = Sources {
        gate: gate.stats(),
        hub: hub.stats(),
        names: hub.clone(),
        apps_named: config.apps_named,
        store: store.clone(),
        api: stats.clone(),
        device_port: device.port(),
        log_dropped,
    };
    tokio::spawn(check_audit(hub.clone(), stats.clone()));
    let options = ApiOptions {
        connections_max: config.api.connections_max,
        requests_per_app_max: config.api.requests_per_app_max,
        header: config.api.header,
        body: config.api.body,
        back_off_steps_s: config.gate.back_off.steps_s.clone(),
        back_off_jitter_ms: config.gate.back_off.jitter_ms,
    };
    let (hub, ready) = (hub.clone(), ready.clone());
    Api::new(ApiParts {
        hub,
        options,
        entry_nodes: vec![device.to_string()],
        metrics: Arc::new(move || render(&sources)),
        ready,
        alive: {
            let stats = gate.stats();
            Box::new(move || watch::look(&stats))
        },
        overloaded: {
            let stats = gate.stats();
            Box::new(move || stats.pressure.level() >= Level::Overloaded)
        },
        stats,
        operations: Box::new(operator),
        admin_key,
    })
}

/// Looks at the whole audit log once, beside the start: a broken one is told, and keeps nobody out.
async fn check_audit(hub: Hub, stats: Arc<ApiStats>) {
    match hub.check_audit().await {
        Ok(AuditCheck { broken_at: Some(line), lines }) => {
            stats.audit_broken.store(1, Ordering::Relaxed);
            tracing::error!(
                line,
                lines,
                "the audit log is broken: this line does not follow the one before it"
            );
        }
        Ok(AuditCheck { lines, .. }) => tracing::debug!(lines, "the audit log is whole"),
        Err(error) => tracing::warn!(%error, "the audit log could not be checked"),
    }
}

impl Running {
    /// Waits until the operator has said that this node is to be drained and to end; for ever if that is never said.
    pub async fn told_to_exit(&self) {
        let mut exit = self.exit.clone();
        if exit.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Reads the certificates and the files of keys for JWTs again; new handshakes and logins use them, connections stay as they
    /// are. Files that cannot be used leave the old ones in use, and the log says so.
    pub fn reload(&self) {
        reload(self.certificates.as_deref(), &self.hub);
    }

    /// Ends the node in order: not ready, API closed and its requests finished, devices told, store flushed. Takes at
    /// most about twice `node.drain_s`, and the window if the operator gave one.
    pub async fn shutdown(self) {
        self.ready.store(false, Ordering::Release);
        let window = *self.exit.borrow();
        tracing::info!("draining");
        let patience = self.config.drain;
        let for_devices = window.unwrap_or_default() + patience;
        service::stopping(for_devices + patience).await;
        // Readers of streams would stay for ever.
        self.hub.end_streams();
        // The port closes first and what is in flight ends as it began; only then does the hub refuse.
        let in_time = self.listening.finish(patience).await;
        self.hub.drain();
        self.gate.stop(window.unwrap_or(self.config.goaway_spread), for_devices).await;
        for watch in self.watches {
            watch.abort();
        }
        served_to_the_end(self.shards).await;
        self.hub.close().await;
        tracing::info!(in_time, "stopped");
    }
}

async fn served_to_the_end(shards: Vec<JoinHandle<()>>) {
    for shard in shards {
        if let Err(ended) = shard.await {
            tracing::error!(%ended, "a shard's events were not served to the end");
        }
    }
}
