//! What the API asks of the hub, and what the hub's parts share.

use super::auth::{self, Auth, AuthOptions, Enrolment, WaysOfApps};
use super::border::{Command, Events, Handle, Shards};
use super::devices::Turns;
use super::dispatcher;
use super::memory::guard::{self, Guard};
use super::memory::ids::MessageIds;
use super::memory::labels::{LABELS_MAX, Labels};
use super::memory::live::{self, Live};
use super::memory::meters::Meters;
use super::memory::returns::Returns;
use super::memory::sessions::Sessions;
use super::once::KeyTurns;
use super::over_time::Paced;
use super::people::{DISABLED_RETRY_S, People};
use super::posts::Posts;
use super::pump;
use super::stats::HubStats;
use super::topics::{self, Topics};
use super::truth::presence::Presences;
use super::truth::{self, Truth};
use crate::domain::audience::Estimate;
use crate::domain::topic::Rules;
use crate::domain::{
    App, AppId, AppKey, AppSecret, DuplicateLogin, HeartbeatRules, Invalid, Limits, MessageId, Push,
    SecretHash, TokenKey, TraceId, WallMs,
};
use crate::store::messages::MessageStore;
use crate::store::port::{Committed, StoreError};
use crate::store::registry::{Registry, RegistryHealth};

pub use super::devices::{Cleared, ConnectionStatus, DeviceStatus, Registered};
pub use super::order::Place;
pub use super::story::MessageStory;
pub use super::topics::{Publication, Sent, SessionStart, SessionWish, TopicCensus, TopicStats};
pub use super::truth::TruthOptions;
pub use crate::store::messages::books::{AppBook, BooksReport};
pub use crate::store::registry::RegisterError;
pub use crate::store::upstream::{UpstreamItem, UpstreamPage, UpstreamWaiting};

use longwire_proto::close::CloseReason;
use longwire_proto::id::ClientId;
use parking_lot::RwLock;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;
use tokio::sync::mpsc;

/// A device that is refused for a fault of ours waits this long at least, seconds, and up to [`RETRY_SPREAD_S`] longer,
/// so that a fleet does not come back as one.
const RETRY_MIN_S: u16 = 5;
const RETRY_SPREAD_S: u16 = 10;

/// The hub; clones share it.
#[derive(Clone)]
pub struct Hub {
    pub(super) core: Arc<Core>,
}

/// What a hub is made of.
pub struct Parts {
    /// The message store.
    pub store: MessageStore,
    /// The registry.
    pub registry: Registry,
    /// The shards.
    pub shards: Arc<dyn Shards>,
    /// Durable messages in the order of commits.
    pub committed: mpsc::Receiver<Committed>,
    /// The wall clock.
    pub clock: Arc<dyn Fn() -> WallMs + Send + Sync>,
    /// How long a device token is valid, seconds.
    pub token_ttl_s: u64,
    /// What meets a second login of a device whose app does not say.
    pub duplicate_login: DuplicateLogin,
    /// Heartbeats of devices whose app does not say, and the range for all.
    pub heartbeat: HeartbeatRules,
    /// How MQTT clients may log in.
    pub auth: AuthOptions,
    /// Connections that a device may have under [`DuplicateLogin::Many`]; a newer one displaces the oldest.
    pub connections_per_device: usize,
    /// About streams and webhooks.
    pub truth: TruthOptions,
    /// Quotas of apps that do not say.
    pub limits: Limits,
}

/// What a push came to.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The message.
    pub message: MessageId,
    /// Whom it met.
    pub audience: Estimate,
    /// Targets whose mailbox was full.
    pub refused: u64,
    /// "local" (fsynced here) or "memory" (online only).
    pub durability: &'static str,
    /// The ttl that holds, seconds (clipped to the limit).
    pub ttl_s: u32,
    /// The trace that the message belongs to.
    pub trace: TraceId,
    /// The caller's key made this message before; this says what was said then.
    pub replayed: bool,
}

/// Why a push was not accepted; nothing was stored, except for `Store(Unknown)`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PushError {
    /// No device matches any address, and what is asked beside.
    #[error("no device has any of these registration ids or aliases, and fits what is asked beside")]
    NobodyMatches,
    /// An alias matches more devices than one push may address.
    #[error("the aliases match {0} devices; one push may address 1000")]
    TooManyTargets(usize),
    /// Topics: a bound is reached. Too many kept sessions or filters meet the topic, what is retained is full, all mailboxes are,
    /// or no member of a shared group has room.
    #[error("a limit of topics is reached: mailboxes, retained messages, or subscribers of one topic")]
    TopicQuota,
    /// The app has too many messages that are spread over time and not over.
    #[error("too many messages of this app are being spread")]
    TooManySpreads,
    /// The app sends more than it may; how long to wait, seconds.
    #[error("more {1} than this app may; nothing was stored")]
    AppRate(u32, &'static str),
    /// The node is stopping.
    #[error("the node is draining")]
    Draining,
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a setting of an app was not made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SetError {
    /// It is not allowed.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The registry failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the hub's tables hold.
#[derive(Clone, Debug)]
pub struct Census {
    /// Sessions of each app, those being decided included; most first. A device may have several.
    pub sessions: Vec<(AppId, AppKey, u64)>,
    /// The table of sessions, bytes.
    pub session_table_bytes: u64,
    /// Messages whose live counts are kept.
    pub live_counts: u64,
    /// Deliveries sent to live connections and not acked.
    pub unacked: u64,
    /// Devices and networks that the guards remember.
    pub guarded: u64,
}

/// What the hub's parts share.
pub(super) struct Core {
    pub(super) store: MessageStore,
    pub(super) registry: Registry,
    pub(super) clock: Arc<dyn Fn() -> WallMs + Send + Sync>,
    pub(super) token_key: TokenKey,
    pub(super) token_ttl_s: u64,
    pub(super) duplicate_login: DuplicateLogin,
    pub(super) heartbeat: HeartbeatRules,
    pub(super) auth: Auth,
    pub(super) connections_per_device: usize,
    /// Devices whose connections displace each other.
    pub(super) conflicts: Guard<ClientId>,
    /// Devices that come back.
    pub(super) returns: Returns,
    /// Networks that bring bad logins.
    pub(super) bad_logins: Guard<IpAddr>,
    began: Instant,
    pub(super) posts: Posts,
    pub(super) sessions: Sessions,
    pub(super) labels: Labels,
    pub(super) live: Live,
    pub(super) ids: MessageIds,
    pub(super) turns: Turns,
    pub(super) key_turns: KeyTurns,
    pub(super) topics: Topics,
    pub(super) truth: Truth,
    pub(super) paced: Paced,
    pub(super) stats: Arc<HubStats>,
    /// Rises when the tags or attributes of a connected device change.
    pub(super) retags: AtomicU64,
    /// Read by every push, written by the close.
    pub(super) under_way: tokio::sync::RwLock<()>,
    pub(super) meters: Arc<Meters>,
    pub(super) limits: Limits,
    pub(super) people: People,
    pub(super) apps: RwLock<HashMap<Box<str>, Arc<App>>>,
}

impl Core {
    pub(super) fn app(&self, key: &str) -> Option<Arc<App>> {
        self.apps.read().get(key).cloned()
    }

    /// Puts another in the place of an app.
    pub(super) fn change_app(&self, key: &str, change: impl FnOnce(&App) -> App) -> Option<Arc<App>> {
        let mut apps = self.apps.write();
        let app = apps.get_mut(key)?;
        *app = Arc::new(change(app));
        Some(app.clone())
    }

    pub(super) fn app_of(&self, id: AppId) -> Option<Arc<App>> {
        self.apps.read().values().find(|app| app.id == id).cloned()
    }

    pub(super) fn all_apps(&self) -> Vec<Arc<App>> {
        self.apps.read().values().cloned().collect()
    }

    pub(super) fn forget_app(&self, key: &str) {
        self.apps.write().remove(key);
    }

    /// The topic rules of these apps; one look at all apps, whoever asks.
    pub(super) fn topic_rules(&self, ids: &HashSet<AppId>) -> HashMap<AppId, Arc<Rules>> {
        let apps = self.apps.read();
        let meant = apps.values().filter(|app| ids.contains(&app.id));
        meant.map(|app| (app.id, app.topic_rules.clone())).collect()
    }

    /// Those of these apps whose devices may change themselves.
    pub(super) fn self_service(&self, ids: &HashSet<AppId>) -> HashSet<AppId> {
        let apps = self.apps.read();
        let allowing = apps.values().filter(|app| app.settings.self_service && ids.contains(&app.id));
        allowing.map(|app| app.id).collect()
    }

    /// Nanoseconds of the buckets' clock.
    pub(super) fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn retry_after_s(&self) -> u16 {
        RETRY_MIN_S + self.ids.spread(RETRY_SPREAD_S + 1)
    }

    /// The guards' clock, which stands for nothing but itself.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Refuses a login.
    pub(super) async fn refuse(&self, to: Handle, reason: CloseReason) {
        let later = matches!(
            reason,
            CloseReason::StoreUnavailable
                | CloseReason::Draining
                | CloseReason::Full
                | CloseReason::AlreadyConnected
                | CloseReason::AuthUnavailable
                | CloseReason::DeviceQuota
                | CloseReason::AppQuota
        );
        let retry_after_s = match reason {
            CloseReason::AppDisabled => DISABLED_RETRY_S,
            _ if later => self.retry_after_s(),
            _ => 0,
        };
        self.refuse_until(to, reason, retry_after_s).await;
    }

    /// Refuses a login, and says when to come again.
    pub(super) async fn refuse_until(&self, to: Handle, reason: CloseReason, retry_after_s: u16) {
        self.stats.login_refused(reason);
        self.posts.send(to.shard(), Command::Refuse { to, reason, retry_after_s }).await;
    }
}

impl Hub {
    /// Starts the dispatcher; loads apps and token key.
    ///
    /// # Errors
    /// The store's.
    pub async fn start(parts: Parts) -> Result<Hub, StoreError> {
        let Parts { store, registry, shards, committed, clock, token_ttl_s, heartbeat, .. } = parts;
        let (duplicate_login, connections_per_device) = (parts.duplicate_login, parts.connections_per_device);
        let (lists, listed) = mpsc::channel(auth::LISTS_WAITING_MAX);
        let apps = registry.apps().await?;
        let ways = WaysOfApps::load(apps.iter());
        let apps: Vec<Arc<App>> = apps.into_iter().map(Arc::new).collect();
        let by_key = apps.iter().map(|app| (Box::from(app.key.as_str()), app.clone())).collect();
        let stats = Arc::new(HubStats::default());
        let meters = Arc::new(Meters::default());
        let people = People::new(registry.keys().await?);
        let enrolment = Enrolment::new(lists, registry.automatic_devices().await?);
        enrolment.count(std::iter::empty(), &stats);
        let seed = RandomState::new().hash_one(0_u8);
        let topics = Topics::load(&store, shards.interests().clone(), clock(), seed).await?;
        let (presences, presence_notes) = Presences::new();
        for app in &apps {
            store.set_stream_terms(app.id, truth::terms(app), true).await?;
            presences.set(app.id, app.settings.presence);
        }
        let core = Arc::new(Core {
            token_key: registry.token_key().await?,
            store,
            registry,
            clock,
            token_ttl_s,
            duplicate_login,
            heartbeat,
            connections_per_device,
            auth: Auth::new(parts.auth, enrolment, ways),
            conflicts: Guard::new(guard::TAKEOVERS),
            returns: Returns::new(),
            bad_logins: Guard::new(guard::BAD_LOGINS),
            began: Instant::now(),
            posts: Posts::new(shards, stats.clone()),
            sessions: Sessions::new(stats.clone(), meters.clone()),
            labels: Labels::new(LABELS_MAX),
            live: Live::new(live::MESSAGES_MAX, stats.clone()),
            ids: MessageIds::new(random_bytes()?),
            turns: Turns::new(),
            key_turns: KeyTurns::new(),
            topics,
            truth: Truth::new(parts.truth, presences, stats.clone()),
            paced: Paced::default(),
            stats,
            retags: AtomicU64::new(0),
            under_way: tokio::sync::RwLock::default(),
            meters,
            limits: parts.limits,
            people,
            apps: RwLock::new(by_key),
        });
        core.store.limit_stored_bytes_of_any(core.limits.stored_bytes);
        apps.iter().for_each(|app| core.tell_store(app));
        core.take_up_wills(&apps);
        tokio::spawn(dispatcher::run(core.clone(), committed));
        tokio::spawn(auth::watch_keys(Arc::downgrade(&core)));
        tokio::spawn(auth::enrol_waiting(Arc::downgrade(&core), listed));
        tokio::spawn(topics::run_clock(core.clone()));
        tokio::spawn(truth::presence::run(Arc::downgrade(&core), presence_notes));
        for app in &apps {
            core.truth.webhooks.set(&core, app);
            if app.settings.presence {
                let task = tokio::spawn(truth::end_stale(core.store.clone(), core.clock.clone(), app.id));
                core.truth.tasks.lock().push(task);
            }
        }
        Ok(Hub { core })
    }

    /// The hub's counters.
    #[must_use]
    pub fn stats(&self) -> Arc<HubStats> {
        self.core.stats.clone()
    }

    /// Serves one shard's events until the shard ends; one task per shard.
    pub async fn serve_shard(&self, events: impl Events) {
        pump::serve(self.core.clone(), events).await;
    }

    /// The app of these credentials, in the same time whether the key exists or not.
    #[must_use]
    pub fn authenticate(&self, key: &str, secret: &AppSecret) -> Option<Arc<App>> {
        let app = self.core.app(key);
        // No secret has this hash that anybody could find; the comparison is made all the same.
        let hash = app.as_ref().map_or(SecretHash([0; 32]), |app| app.secret_hash);
        let retired = app.as_ref().and_then(|app| app.settings.retired?.hash((self.core.clock)()));
        let is_retired = retired.is_some_and(|retired| retired.matches(secret));
        if hash.matches(secret) || is_retired { app } else { None }
    }

    /// The app of a public key, for open registration.
    #[must_use]
    pub fn app(&self, key: &str) -> Option<Arc<App>> {
        self.core.app(key)
    }

    /// How many apps there are.
    #[must_use]
    pub fn app_count(&self) -> usize {
        self.core.apps.read().len()
    }

    /// Makes an app and returns its secret, once.
    ///
    /// # Errors
    /// The registry's; also when the key is taken.
    pub async fn create_app(
        &self,
        key: AppKey,
        open_registration: bool,
    ) -> Result<(Arc<App>, AppSecret), StoreError> {
        let secret = AppSecret::from_random(random_bytes()?);
        let app = self.core.registry.create_app(&key, secret.hash(), open_registration).await?;
        let app = Arc::new(app);
        self.core.apps.write().insert(key.as_str().into(), app.clone());
        Ok((app, secret))
    }

    /// Logins of devices that were here before in this process's life: in all, and in the last minute (004-28).
    #[must_use]
    pub fn reconnects(&self) -> (u64, u64) {
        self.core.returns.counts(self.core.now_ms() / 1000)
    }

    /// What the hub's tables hold.
    #[must_use]
    pub fn census(&self) -> Census {
        let (by_app, session_table_bytes) = self.core.sessions.census();
        let (live_counts, unacked) = self.core.live.census();
        let apps = self.core.apps.read();
        let count = |app: AppId| by_app.get(&app).copied().unwrap_or(0);
        let mut sessions: Vec<(AppId, AppKey, u64)> =
            apps.values().map(|app| (app.id, app.key.clone(), count(app.id))).collect();
        sessions
            .sort_by(|(_, a, many), (_, b, more)| more.cmp(many).then_with(|| a.as_str().cmp(b.as_str())));
        let guarded = (self.core.conflicts.len() + self.core.bad_logins.len()) as u64;
        Census { sessions, session_table_bytes, live_counts, unacked, guarded }
    }

    /// The keys of these apps, in their order; `None` for one that is not known.
    #[must_use]
    pub fn app_keys(&self, ids: &[AppId]) -> Vec<Option<AppKey>> {
        let apps = self.core.apps.read();
        let keys: HashMap<AppId, &AppKey> = apps.values().map(|app| (app.id, &app.key)).collect();
        ids.iter().map(|id| keys.get(id).map(|key| (*key).clone())).collect()
    }

    /// The node's rules for heartbeats.
    #[must_use]
    pub fn heartbeat_rules(&self) -> HeartbeatRules {
        self.core.heartbeat
    }

    /// Accepts a push. Returns when it is durable (ttl 0: when it is handed to the shards).
    ///
    /// # Errors
    /// See [`PushError`].
    pub async fn push(&self, app: &App, push: Push) -> Result<Receipt, PushError> {
        self.push_at(app, push, Place::default()).await
    }

    /// The same for one of a row of pushes: whatever is accepted at the places before it is accepted before it.
    ///
    /// # Errors
    /// See [`PushError`].
    pub async fn push_at(&self, app: &App, push: Push, mut place: Place) -> Result<Receipt, PushError> {
        if let Err(refused) = self.spend_messages(app, 1, push.audience.broadcasts()) {
            place.leave().await;
            return Err(refused);
        }
        if let Some(once) = push.once {
            let receipt = self.core.push_once(app, push, once.key, place).await;
            self.core.count_refused(app.id, &receipt);
            return receipt;
        }
        let receipt = self.core.push_now_or_later(app, push, &mut place).await;
        place.leave().await;
        self.core.count_refused(app.id, &receipt);
        receipt
    }

    /// Whom a push would meet; nothing is accepted.
    ///
    /// # Errors
    /// As [`Hub::push`], but for what only an acceptance finds.
    pub async fn validate(&self, app: &App, push: &Push) -> Result<Estimate, PushError> {
        self.core.validate(app, push).await
    }

    /// Whether pushes can be taken; the error says why not.
    ///
    /// # Errors
    /// Draining, or the store's.
    pub fn usable(&self) -> Result<(), PushError> {
        if self.core.posts.stopping() {
            return Err(PushError::Draining);
        }
        Ok(self.core.store.usable()?)
    }

    /// Whether the registry answers. While it does not, devices and pushes go on.
    #[must_use]
    pub fn registry_health(&self) -> RegistryHealth {
        self.core.registry.health()
    }

    /// From now on pushes and logins are refused with `draining`.
    pub fn drain(&self) {
        self.core.posts.stop();
    }

    /// Waits for what is under way, writes the ends of sessions, then closes store and registry. The shards have ended before.
    pub async fn close(&self) {
        self.drain();
        self.core.truth.webhooks.close();
        self.core.truth.presences.flush().await;
        let tasks = std::mem::take(&mut *self.core.truth.tasks.lock());
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
        self.core.topics.close();
        let _all = self.core.under_way.write().await;
        topics::write_last_ends(&self.core).await;
        self.core.store.close().await;
        self.core.registry.close().await;
    }
}

pub(super) fn random_bytes() -> Result<[u8; 32], StoreError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| StoreError::Unavailable(format!("the system gives no random bytes: {error}")))?;
    Ok(bytes)
}

/// A new trace id, not zero (Trace Context, section 3.2.2.3). Unlike a secret it may be guessed, so it costs no system
/// call: each `RandomState` of a process has keys of its own.
#[must_use]
pub fn new_trace() -> TraceId {
    let half = || u128::from(RandomState::new().hash_one(0_u8));
    TraceId(((half() << 64) | half()).max(1))
}
