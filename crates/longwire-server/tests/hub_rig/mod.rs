//! A hub on a real store, with shards that write down what they are told.
#![allow(dead_code, unreachable_pub)]

pub mod mqtt;

use longwire_proto::close::CloseReason;
use longwire_proto::id::{ClientId, Kind, MessageId, Position, Source, TraceId};
use longwire_proto::wire::{Class, Network};
use longwire_server::delivery::AuthOptions;
use longwire_server::delivery::border::{
    Attach, Closed, Command, Event, Events, Handle, Login, ShardId, Shards,
};
use longwire_server::delivery::hub::{Hub, Parts, Registered};
use longwire_server::domain::topic::Interests;
use longwire_server::domain::{
    Alias, App, AppId, AppKey, AppSecret, Audience, Condition, Content, DeviceName, DuplicateLogin,
    HeartbeatPolicy, HeartbeatRules, Priority, Push, Registration, SecretHash, Tag, WallMs,
};
use longwire_server::store::messages::MessageStore;
use longwire_server::store::port::{End, StoreOptions};
use longwire_server::store::registry::Registry;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// Nothing here takes this long; a test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);
pub const START_MS: u64 = 1_800_000_000_000;

/// The reserve of stores that are opened from now on. Of the whole process: a test that sets it has a file of its own.
pub static RESERVE_BYTES: AtomicU64 = AtomicU64::new(0);

pub struct FakeShards {
    queues: Vec<Mutex<VecDeque<Command>>>,
    interests: Arc<Interests>,
    came: Notify,
    /// Commands that a queue takes; more are given back.
    pub room: AtomicUsize,
    pub given_back: AtomicU64,
}

impl Shards for FakeShards {
    fn count(&self) -> usize {
        self.queues.len()
    }
    fn interests(&self) -> &Arc<Interests> {
        &self.interests
    }
    fn post(&self, shard: ShardId, command: Command) -> Result<(), Command> {
        // As from a shard that is busy: an estimate is given up.
        if matches!(command, Command::Count(_)) {
            return Ok(());
        }
        let mut queue = self.queues[usize::from(shard.0)].lock();
        if queue.len() >= self.room.load(Ordering::SeqCst) {
            self.given_back.fetch_add(1, Ordering::SeqCst);
            return Err(command);
        }
        queue.push_back(command);
        drop(queue);
        self.came.notify_waiters();
        Ok(())
    }
}

impl FakeShards {
    fn pop(&self, shard: u8) -> Option<Command> {
        self.queues[usize::from(shard)].lock().pop_front()
    }
    pub fn waiting(&self, shard: u8) -> usize {
        self.queues[usize::from(shard)].lock().len()
    }
    /// The shard's next command.
    pub async fn next(&self, shard: u8) -> Command {
        let wait = async {
            loop {
                let came = self.came.notified();
                tokio::pin!(came);
                came.as_mut().enable();
                if let Some(command) = self.pop(shard) {
                    return command;
                }
                came.await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("no command came")
    }
}

struct Told(mpsc::Receiver<Event>);

impl Events for Told {
    async fn take(&mut self, into: &mut Vec<Event>, max: usize) -> bool {
        self.0.recv_many(into, max).await > 0
    }
}

pub struct Rig {
    pub hub: Hub,
    pub shards: Arc<FakeShards>,
    pub events: Vec<mpsc::Sender<Event>>,
    pub app: Arc<App>,
    pub secret: AppSecret,
    pub now: Arc<AtomicU64>,
    pub store: MessageStore,
    pub registry: Registry,
    slots: AtomicU32,
    folder: tempfile::TempDir,
}

impl Rig {
    pub async fn new(shards: usize) -> Rig {
        Rig::with_policy(shards, DuplicateLogin::Takeover).await
    }

    /// With this policy for devices that log in twice.
    pub async fn with_policy(shards: usize, policy: DuplicateLogin) -> Rig {
        Rig::with(shards, policy, AuthOptions::default()).await
    }

    /// With these ways in for MQTT clients.
    pub async fn with_auth(shards: usize, auth: AuthOptions) -> Rig {
        Rig::with(shards, DuplicateLogin::Takeover, auth).await
    }

    async fn with(shards: usize, policy: DuplicateLogin, auth: AuthOptions) -> Rig {
        let rig = Rig::start(tempfile::tempdir().unwrap(), "messages", shards, policy, auth).await;
        let (app, secret) = rig.hub.create_app(AppKey::parse("shop").unwrap(), false).await.unwrap();
        Rig { app, secret, ..rig }
    }

    /// The same registry, with a message store that is empty.
    pub async fn with_lost_messages(self) -> Rig {
        self.again("other", AuthOptions::default()).await
    }

    /// Ends the node and starts it again, with these ways in. What came to the shards before is gone.
    pub async fn restarted_with(self, auth: AuthOptions) -> Rig {
        self.again("messages", auth).await
    }

    /// The same without other ways in.
    pub async fn restarted(self) -> Rig {
        self.restarted_with(AuthOptions::default()).await
    }

    /// The clock goes on.
    async fn again(self, messages: &str, auth: AuthOptions) -> Rig {
        self.hub.close().await;
        let (shards, now_ms) = (self.events.len(), self.now.load(Ordering::SeqCst));
        let Rig { secret, folder, app, events, store, registry, hub, .. } = self;
        drop((events, store, registry, hub));
        let rig = Rig::start_at(now_ms, folder, messages, shards, DuplicateLogin::Takeover, auth).await;
        let app = rig.hub.app(app.key.as_str()).unwrap();
        Rig { app, secret, ..rig }
    }

    async fn start(
        folder: tempfile::TempDir,
        messages: &str,
        shards: usize,
        duplicate_login: DuplicateLogin,
        auth: AuthOptions,
    ) -> Rig {
        Rig::start_at(START_MS, folder, messages, shards, duplicate_login, auth).await
    }

    async fn start_at(
        start_ms: u64,
        folder: tempfile::TempDir,
        messages: &str,
        shards: usize,
        duplicate_login: DuplicateLogin,
        auth: AuthOptions,
    ) -> Rig {
        let now = Arc::new(AtomicU64::new(start_ms));
        let clock: Arc<dyn Fn() -> WallMs + Send + Sync> = {
            let now = now.clone();
            Arc::new(move || WallMs(now.load(Ordering::SeqCst)))
        };
        let options = StoreOptions {
            folder: folder.path().join(messages),
            reserve_bytes: RESERVE_BYTES.load(Ordering::SeqCst),
            retention_ms: 86_400_000,
            story_ms: 0,
            clock: clock.clone(),
        };
        let (sender, committed) = mpsc::channel(256);
        let store = MessageStore::open(options, sender).unwrap();
        let url = format!("sqlite:{}", folder.path().join("registry.db").display());
        let registry = Registry::open(&url).await.unwrap();
        let shards = Arc::new(FakeShards {
            interests: Arc::new(Interests::new(shards)),
            queues: (0..shards).map(|_| Mutex::default()).collect(),
            came: Notify::new(),
            room: AtomicUsize::new(100_000),
            given_back: AtomicU64::new(0),
        });
        let parts = Parts {
            store: store.clone(),
            registry: registry.clone(),
            shards: shards.clone(),
            committed,
            clock,
            token_ttl_s: 3600,
            duplicate_login,
            heartbeat: HeartbeatRules::default(),
            auth,
            connections_per_device: 3,
            truth: Default::default(),
            limits: longwire_server::domain::Limits::NONE,
        };
        let hub = Hub::start(parts).await.unwrap();
        let mut events = Vec::new();
        for _ in 0..shards.count() {
            let (sender, told) = mpsc::channel(1024);
            let hub = hub.clone();
            tokio::spawn(async move { hub.serve_shard(Told(told)).await });
            events.push(sender);
        }
        let app = Arc::new(App {
            id: AppId(0),
            key: AppKey::parse("none").unwrap(),
            secret_hash: SecretHash([0; 32]),
            open_registration: false,
            duplicate_login: None,
            heartbeat: HeartbeatPolicy::default(),
            topic_rules: Arc::default(),
            login_ways: Arc::default(),
            settings: Arc::default(),
        });
        let secret = AppSecret::presented("");
        Rig { hub, shards, events, app, secret, now, store, registry, slots: AtomicU32::new(1), folder }
    }

    pub async fn register(&self, name: &str, alias: Option<&str>, tags: &[&str]) -> Registered {
        let registration = Registration {
            name: Some(DeviceName::parse("registration_id", name).unwrap()),
            alias: alias.map(|alias| Alias::parse("alias", alias).unwrap()),
            tags: Some(tags.iter().map(|tag| Tag::parse("tag", tag).unwrap()).collect()),
            attributes: None,
        };
        self.hub.register(&self.app, registration, true).await.unwrap()
    }

    /// A new connection of this shard.
    pub fn handle(&self, shard: u8) -> Handle {
        Handle::new(ShardId(shard), self.slots.fetch_add(1, Ordering::SeqCst), 1)
    }

    pub fn wish(&self, from: Handle, token: &str) -> Login {
        Login {
            from,
            client: ClientId(0),
            app_key: "shop".into(),
            token: token.as_bytes().to_vec(),
            heartbeat_s: 60,
            network: Network::Wifi,
            class: Class::Phone,
            resume: [Position::START; 2],
            peer: "127.0.0.1:9".parse().unwrap(),
            mqtt: None,
        }
    }

    pub async fn tell(&self, shard: u8, event: Event) {
        self.events[usize::from(shard)].send(event).await.unwrap();
    }

    /// Logs a device in and returns its connection.
    pub async fn login(&self, shard: u8, device: &Registered) -> (Handle, Box<Attach>) {
        let from = self.handle(shard);
        self.tell(shard, Event::Login(Box::new(self.wish(from, &device.token)))).await;
        match self.shards.next(shard).await {
            Command::Attach(attach) => {
                assert_eq!((attach.to, attach.client), (from, device.client));
                (from, attach)
            }
            other => panic!("not an Attach: {other:?}"),
        }
    }

    /// What a login that is not accepted is told.
    pub async fn refused(&self, login: Login) -> (CloseReason, u16) {
        let from = login.from;
        let shard = from.shard().0;
        self.tell(shard, Event::Login(Box::new(login))).await;
        match self.shards.next(shard).await {
            Command::Refuse { to, reason, retry_after_s } if to == from => (reason, retry_after_s),
            other => panic!("not a refusal of this login: {other:?}"),
        }
    }

    pub async fn close(&self, from: Handle, client: Option<ClientId>, unacked: Vec<MessageId>) {
        self.close_for(from, client, unacked, CloseReason::PeerLost).await;
    }

    pub async fn close_for(
        &self,
        from: Handle,
        client: Option<ClientId>,
        unacked: Vec<MessageId>,
        reason: CloseReason,
    ) {
        let (app, sent) = (self.app.id, [Position::START; 2]);
        let closed =
            Closed { from, client, app, reason, sent, unacked, shared: false, lived_s: 1, will: None };
        self.tell(from.shard().0, Event::Closed(Box::new(closed))).await;
    }

    /// Lets time pass, without waiting.
    pub fn pass(&self, ms: u64) {
        self.now.fetch_add(ms, Ordering::SeqCst);
    }

    pub async fn ack(
        &self,
        from: Handle,
        client: ClientId,
        source: Source,
        position: Position,
        message: MessageId,
    ) {
        let (app, end) = (self.app.id, End::Delivered);
        let settled = Event::Settled {
            from,
            client,
            app,
            source,
            position,
            message,
            end,
            shared: false,
            sent: WallMs(0),
        };
        self.tell(from.shard().0, settled).await;
    }

    pub fn push(&self, audience: Audience, ttl_s: u32) -> Push {
        Push {
            audience,
            content: Content { kind: Kind::Text, payload: bytes::Bytes::from_static(b"hello") },
            ttl_s,
            collapse_key: String::new(),
            trace: TraceId(7),
            priority: Priority::Normal,
            replaces: None,
            once: None,
            report: Default::default(),
            spread: None,
        }
    }
}

pub fn devices(names: &[&str]) -> Audience {
    Audience::devices(names.iter().map(|name| DeviceName::parse("registration_id", name).unwrap()).collect())
}

pub fn aliases(names: &[&str]) -> Audience {
    Audience::aliases(names.iter().map(|name| Alias::parse("alias", name).unwrap()).collect())
}

pub fn any_tag(names: &[&str]) -> Audience {
    Audience::of(Condition::any_tag(names.iter().map(|name| Tag::parse("tag", name).unwrap())))
}

/// Waits until `seen` holds; it is asked again whenever other tasks had a turn.
pub async fn until<F: Future<Output = bool>>(mut seen: impl FnMut() -> F) {
    let wait = async {
        while !seen().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("what was waited for did not come");
}
