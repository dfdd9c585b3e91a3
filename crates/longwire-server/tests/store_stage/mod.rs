//! A store in a folder of its own, with a clock that stands still and a dispatcher that answers in the order of commits.
#![allow(clippy::unwrap_used, dead_code, missing_docs, unreachable_pub)]

use bytes::Bytes;
use longwire_proto::id::Kind;
use longwire_server::domain::{
    Alias, AppId, ClientId, Condition, Counts, Device, DeviceName, Filter, MessageId, Position, Priority,
    Recalled, Source, Tag, TraceId, WallMs,
};
use longwire_server::store::messages::{MessageStore, OpenError};
use longwire_server::store::port::{
    Accept, Accepted, Committed, Destination, End, LoginView, Page, PageEntry, PageRequest, Recall, Settle,
    StoreError, StoreOptions,
};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

pub const APP: AppId = AppId(7);
/// 2026-06-01, so that incarnations are as in life.
pub const BEGIN_MS: u64 = 1_780_272_000_000;
pub const RETENTION_MS: u64 = 10_000;
pub const RECALL_TTL_MS: u64 = 1_000_000;

#[derive(Clone)]
pub struct Stage {
    pub store: MessageStore,
    pub clock: Arc<AtomicU64>,
    ids: Arc<AtomicU64>,
}

pub fn options(folder: &Path, clock: &Arc<AtomicU64>, reserve_bytes: u64) -> StoreOptions {
    let clock = clock.clone();
    StoreOptions {
        folder: folder.to_path_buf(),
        reserve_bytes,
        retention_ms: RETENTION_MS,
        story_ms: 0,
        clock: Arc::new(move || WallMs(clock.load(Ordering::SeqCst))),
    }
}

/// Answers in the order of commits.
pub async fn dispatch(mut committed: mpsc::Receiver<Committed>) {
    while let Some(Committed { accepted, reply }) = committed.recv().await {
        let _ = reply.send(Ok(accepted));
    }
}

pub fn try_open(folder: &Path, clock: &Arc<AtomicU64>, reserve: u64) -> Result<MessageStore, OpenError> {
    let (sender, receiver) = mpsc::channel(64);
    let store = MessageStore::open(options(folder, clock, reserve), sender)?;
    tokio::spawn(dispatch(receiver));
    Ok(store)
}

impl Stage {
    pub fn open(folder: &Path) -> Stage {
        let clock = Arc::new(AtomicU64::new(BEGIN_MS));
        Stage { store: try_open(folder, &clock, 0).unwrap(), clock, ids: Arc::new(AtomicU64::new(1)) }
    }
    /// Closes and opens again; the clock goes on.
    pub async fn reopen(&mut self, folder: &Path) {
        self.store.close().await;
        self.store = try_open(folder, &self.clock, 0).unwrap();
    }
    pub fn now(&self) -> u64 {
        self.clock.load(Ordering::SeqCst)
    }
    pub fn pass(&self, ms: u64) {
        self.clock.fetch_add(ms, Ordering::SeqCst);
    }
    pub fn accept(&self, destination: Destination, ttl_ms: u64, body: &[u8]) -> Accept {
        let message = MessageId(u128::from(self.ids.fetch_add(1, Ordering::SeqCst)));
        Accept {
            message,
            app: APP,
            kind: Kind::Text,
            trace: TraceId(9),
            accepted_at: WallMs(self.now()),
            deadline: WallMs(self.now() + ttl_ms),
            shared: Bytes::copy_from_slice(body),
            priority: Priority::Normal,
            collapse_key: Arc::from(""),
            replaces: None,
            once: None,
            occurrence: None,
            report: Default::default(),
            destination,
            received: None,
        }
    }
    pub async fn push(&self, destination: Destination, ttl_ms: u64) -> Accepted {
        self.try_push(destination, ttl_ms, b"body").await.unwrap()
    }
    pub async fn try_push(
        &self,
        destination: Destination,
        ttl_ms: u64,
        body: &[u8],
    ) -> Result<Accepted, StoreError> {
        self.store.accept(self.accept(destination, ttl_ms, body)).await
    }
    /// Recalls a message; the id is that of the message that may follow.
    pub async fn recall(
        &self,
        message: MessageId,
        windows: &[u64],
        in_hand: bool,
    ) -> (MessageId, Option<Recalled>) {
        let follower = MessageId(u128::from(self.ids.fetch_add(1, Ordering::SeqCst)));
        let recall = Recall {
            message,
            app: APP,
            at: WallMs(self.now()),
            windows: windows.iter().map(|&client| ClientId(client)).collect(),
            in_hand,
            follower,
            deadline: WallMs(self.now() + RECALL_TTL_MS),
            trace: TraceId(9),
            shared: Bytes::from_static(b"recall"),
        };
        (follower, self.store.recall(recall).await.unwrap())
    }
    pub async fn to(&self, client: u64) -> Accepted {
        self.push(Destination::Mailboxes(vec![ClientId(client)]), 60_000).await
    }
    pub async fn to_all(&self) -> Accepted {
        self.push(Destination::Log(Arc::default()), 60_000).await
    }
    pub async fn to_tags(&self, tags: &[&str]) -> Accepted {
        self.push(to_tags(tags), 60_000).await
    }
    pub async fn register(&self, client: u64, tags: &[&str]) {
        self.store.project(vec![device(client, tags)]).await.unwrap();
    }
    pub async fn settle(&self, client: u64, source: Source, accepted: &Accepted, end: End) {
        let position = match source {
            Source::AppLog => accepted.record.log_position,
            Source::Mailbox => {
                let own = |target: &&longwire_server::domain::Target| target.client == ClientId(client);
                accepted.record.targets.iter().find(own).unwrap().position
            }
        };
        let message = accepted.message;
        let client = ClientId(client);
        self.store
            .settle(vec![Settle { client, app: APP, source, position, message, end, sent: WallMs(0) }])
            .await
            .unwrap();
    }
    pub async fn delivered(&self, client: u64, source: Source, accepted: &Accepted) {
        self.settle(client, source, accepted, End::Delivered).await;
    }
    /// All that was queued before is committed: the writer is one thread, and this is answered after it.
    pub async fn settled(&self) {
        self.store.project(vec![device(u64::MAX - 9, &[])]).await.unwrap();
    }
    pub async fn counts(&self, accepted: &Accepted) -> Counts {
        self.settled().await;
        self.store.message(APP, accepted.message).await.unwrap().unwrap().counts
    }
    pub async fn login(&self, client: u64) -> LoginView {
        self.settled().await;
        self.store.logins(vec![ClientId(client)]).await.unwrap().remove(0).unwrap()
    }
    pub async fn page(&self, client: u64, source: Source, after: Position) -> Page {
        self.page_of(client, source, after, 32, 64 * 1024).await
    }
    pub async fn page_of(
        &self,
        client: u64,
        source: Source,
        after: Position,
        messages_max: u16,
        bytes_max: u32,
    ) -> Page {
        self.page_by(client, (source, after), (messages_max, bytes_max), (0, &[])).await
    }
    /// A page with so many ahead of their turn, without those that went.
    pub async fn page_by(
        &self,
        client: u64,
        (source, after): (Source, Position),
        (messages_max, bytes_max): (u16, u32),
        (ahead_max, ahead): (u8, &[Position]),
    ) -> Page {
        self.settled().await;
        let request = PageRequest {
            client: ClientId(client),
            app: APP,
            source,
            after,
            messages_max,
            bytes_max,
            ahead_max,
            ahead: ahead.into(),
            now: WallMs(self.now()),
        };
        self.store.page(request).await.unwrap()
    }
    /// Waits until the books of a message are as said.
    pub async fn wait_for_expired(&self, accepted: &Accepted, expired: u64) {
        let until = Instant::now() + Duration::from_secs(10);
        while self.counts(accepted).await.expired != expired {
            assert!(Instant::now() < until, "the sweeper did not come: {:?}", self.counts(accepted).await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    /// Waits until retention has taken a message.
    pub async fn wait_for_end(&self, accepted: &Accepted) {
        let until = Instant::now() + Duration::from_secs(10);
        while self.store.message(APP, accepted.message).await.unwrap().is_some() {
            assert!(Instant::now() < until, "the sweeper did not come");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub fn tag_list(tags: &[&str]) -> Vec<Tag> {
    tags.iter().map(|tag| Tag::parse("tag", tag).unwrap()).collect()
}

/// Once into the log, for devices with any of these tags; for all if there are none.
pub fn to_tags(tags: &[&str]) -> Destination {
    let condition = if tags.is_empty() { Condition::Everyone } else { Condition::any_tag(tag_list(tags)) };
    Destination::Log(Arc::new(Filter::of(condition)))
}

pub fn device(client: u64, tags: &[&str]) -> Device {
    Device {
        app: APP,
        client: ClientId(client),
        name: DeviceName::parse("name", &format!("device-{client}")).unwrap(),
        alias: Some(Alias::parse("alias", &format!("owner-{}", client / 10)).unwrap()),
        tags: tag_list(tags),
        attributes: Vec::new(),
        generation: 0,
    }
}

/// Added to the id of a message that the device has and that waits for its release.
pub const RELEASED: i128 = 1 << 100;

/// Message ids in a page, gaps as negative numbers; a gap without an id as 0.
pub fn ids(page: &Page) -> Vec<i128> {
    let id = |entry: &PageEntry| match entry {
        PageEntry::Message { message, .. } => message.0 as i128,
        PageEntry::Gap { message, .. } => -(message.0 as i128),
        PageEntry::Released { message, .. } => RELEASED + message.0 as i128,
    };
    page.entries.iter().map(id).collect()
}

pub fn id(accepted: &Accepted) -> i128 {
    accepted.message.0 as i128
}
