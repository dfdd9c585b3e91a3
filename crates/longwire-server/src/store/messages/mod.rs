//! The embedded message store (fjall), on threads of its own.
//!
//! - [`write`]: the writer thread: group commit, and all that changes.
//! - [`read`]: the reader threads.
//! - [`devices`]: devices by name, alias and tag, and their counts.
//! - [`upstream`]: what devices send to the business.
//! - [`truth`]: stories of deliveries, receipts, presence.
//! - [`sessions`]: sessions that outlive their connections, and retained messages.
//! - `pace`: schedules, and messages that are spread over time.
//! - [`books`]: whether every delivery is accounted for.
//! - [`layout`]: keyspaces, keys, rows.
//! - [`engine`]: how the engine opens, and what is checked then.
//! - [`health`], [`stats`]: what others may see of it.

pub mod books;
pub mod devices;
mod engine;
mod health;
mod layout;
mod pace;
mod read;
mod sessions;
pub mod stats;
mod truth;
mod upstream;
mod write;

pub use self::truth::Heads;

use self::books::checker::{self, Books};
use self::health::Health;
use self::read::reader::{self, Question, Questions};
use self::stats::StoreStats;
use self::write::bodies::Stored;
use self::write::caps::Caps;
use self::write::writer::{Operation, Writer};
use super::port::{
    Accept, Accepted, Committed, DeviceView, LoginView, MessageView, OnceLook, Page, PageRequest, Recall,
    Settle, StoreError, StoreOptions,
};
use crate::domain::{Alias, AppId, ClientId, Device, DeviceName, MessageId, Recalled};
use parking_lot::Mutex;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

/// Operations that may wait for the writer; a caller beyond waits for room. With the largest bodies they are 40 MiB.
const OPERATIONS_QUEUED_MAX: usize = 4096;
/// Questions that may wait for the readers; a caller beyond waits for room.
const QUESTIONS_QUEUED_MAX: usize = 1024;
/// Threads that read.
const READERS: usize = 3;
/// Ends in one operation; a longer list is split, so that a batch stays bounded.
const SETTLES_PER_OPERATION: usize = 64;

/// Why the store did not open. Each text says which file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "{path} is in use by another process{holder}; stop it, or give this server a data directory of its own"
    )]
    Locked {
        /// The lock file.
        path: String,
        /// " (pid n)" where known.
        holder: String,
    },
    /// The folder cannot be made or written.
    #[error("cannot write to {path}: {cause}; check owner, mode and free space")]
    NotWritable {
        /// The folder.
        path: String,
        /// What the system said.
        cause: String,
    },
    /// A file does not hold what was written.
    #[error("{path} is damaged: {cause}; {remedy}")]
    Corrupt {
        /// The file or folder.
        path: String,
        /// What was found.
        cause: String,
        /// What to do.
        remedy: String,
    },
    /// The database server of the registry.
    #[error(transparent)]
    Registry(#[from] super::registry::ServerError),
}

/// A handle to the message store; clones share it. Every queue behind it is bounded: a call waits for room.
#[derive(Clone)]
pub struct MessageStore {
    inner: Arc<Inner>,
}

/// Holds no part of the engine: that belongs to the threads, and closes when the last of them ends.
struct Inner {
    operations: mpsc::Sender<Operation>,
    /// `None` once the store is closed.
    questions: Mutex<Option<mpsc::Sender<Question>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    health: Arc<Health>,
    stats: Arc<StoreStats>,
    books: Books,
    heads: Arc<Heads>,
    caps: Arc<Caps>,
    stored: Arc<Stored>,
}

impl MessageStore {
    /// What the engine's cache of blocks may hold, bytes.
    pub const CACHE_BYTES_MAX: u64 = engine::BLOCK_CACHE_BYTES_MAX;

    /// Opens or makes the store and starts its threads. Durable messages go to `committed` in the order of commits.
    /// Whoever takes them must not wait for this store meanwhile: the writer waits when `committed` is full.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        options: StoreOptions,
        committed: mpsc::Sender<Committed>,
    ) -> Result<MessageStore, OpenError> {
        let opened = engine::open(&options)?;
        let unable = |error: std::io::Error| OpenError::NotWritable {
            path: options.folder.display().to_string(),
            cause: format!("no thread for the store: {error}"),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(unable)?;
        let (operations, operations_end) = mpsc::channel(OPERATIONS_QUEUED_MAX);
        let (questions, questions_end) = mpsc::channel(QUESTIONS_QUEUED_MAX);
        let (caps, stored) = (opened.engine.caps.clone(), opened.engine.stored.clone());
        let engine = Arc::new(opened.engine);
        let health = Arc::new(Health::default());
        let stats = Arc::new(StoreStats::default());
        let heads = Arc::new(Heads::default());
        let writer = Writer {
            engine: engine.clone(),
            options: options.clone(),
            operations: operations_end,
            committed,
            stats: stats.clone(),
            health: health.clone(),
            meta: opened.meta,
            seal: opened.seal,
            heads: heads.clone(),
        };
        let spawn = |name: String, work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name).spawn(work).map_err(unable)
        };
        let mut threads = vec![spawn("longwire-store-w".to_owned(), Box::new(move || writer.run(&runtime)))?];
        let questions_end: Questions = Arc::new(Mutex::new(questions_end));
        for number in 0..READERS {
            let (engine, options, queue) = (engine.clone(), options.clone(), questions_end.clone());
            let work = move || reader::run(&engine, &options, &queue);
            threads.push(spawn(format!("longwire-store-r{number}"), Box::new(work))?);
        }
        let (books, desk) = Books::new();
        let own = options.clone();
        let work = move || checker::run(&engine, &own, &desk);
        threads.push(spawn("longwire-store-b".to_owned(), Box::new(work))?);
        let (questions, threads) = (Mutex::new(Some(questions)), Mutex::new(threads));
        Ok(MessageStore {
            inner: Arc::new(Inner {
                operations,
                questions,
                threads,
                health,
                stats,
                books,
                heads,
                caps,
                stored,
            }),
        })
    }

    /// What the store counts.
    #[must_use]
    pub fn stats(&self) -> Arc<StoreStats> {
        self.inner.stats.clone()
    }

    /// Makes a message durable (group commit); answered by the dispatcher after the fsync.
    ///
    /// # Errors
    /// See [`StoreError`]; only `Unknown` leaves open whether the message was stored.
    pub async fn accept(&self, accept: Accept) -> Result<Accepted, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Operation::Accept(Box::new(accept), reply)).await?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Unknown("the store stopped".to_owned())))
    }

    /// Recalls a message: what has no end ends as recalled, its body goes, and if a device has it or may have it, a message of
    /// kind recall follows by the same way, all in one commit. A second recall changes nothing and answers as the first.
    /// `None`: this app has no such message.
    ///
    /// # Errors
    /// See [`StoreError`]; only `Unknown` leaves open whether it was recalled.
    pub async fn recall(&self, recall: Recall) -> Result<Option<Recalled>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Operation::Recall(Box::new(recall), reply)).await?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Unknown("the store stopped".to_owned())))
    }

    /// Records ends; returns when they are queued. They ride on the next commit. An end that is lost with a crash is
    /// made good at the next login: the message is sent again, and acked again.
    ///
    /// # Errors
    /// The store is closed or broken: nothing was queued.
    pub async fn settle(&self, mut ends: Vec<Settle>) -> Result<(), StoreError> {
        self.inner.health.broken().map_or(Ok(()), Err)?;
        while ends.len() > SETTLES_PER_OPERATION {
            let rest = ends.split_off(SETTLES_PER_OPERATION);
            self.send(Operation::Settle(std::mem::replace(&mut ends, rest))).await?;
        }
        if ends.is_empty() { Ok(()) } else { self.send(Operation::Settle(ends)).await }
    }

    /// Writes the profiles that logins and pushes read. A device seen for the first time begins at the log's head.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn project(&self, devices: Vec<Device>) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Operation::Project(devices, reply)).await?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the store stopped".to_owned())))
    }

    /// One view per client, in order; `None` for a client without a profile.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn logins(&self, clients: Vec<ClientId>) -> Result<Vec<Option<LoginView>>, StoreError> {
        self.ask(|reply| Question::Logins(clients, reply)).await
    }

    /// What waits after a position.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn page(&self, request: PageRequest) -> Result<Page, StoreError> {
        self.ask(|reply| Question::Page(request, reply)).await
    }

    /// One answer per name, in order.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn resolve_names(
        &self,
        app: AppId,
        names: Vec<DeviceName>,
    ) -> Result<Vec<Option<ClientId>>, StoreError> {
        self.ask(|reply| Question::Names(app, names, reply)).await
    }

    /// The devices of each alias, in order; of each at most one more than a push may address.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn resolve_aliases(
        &self,
        app: AppId,
        aliases: Vec<Alias>,
    ) -> Result<Vec<Vec<ClientId>>, StoreError> {
        self.ask(|reply| Question::Aliases(app, aliases, reply)).await
    }

    /// A message of this app and its counts.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn message(&self, app: AppId, message: MessageId) -> Result<Option<MessageView>, StoreError> {
        self.ask(|reply| Question::Message(app, message, reply)).await
    }

    /// A device of this app and what waits for it.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn device(&self, app: AppId, name: DeviceName) -> Result<Option<DeviceView>, StoreError> {
        self.ask(|reply| Question::Device(app, name, reply)).await
    }

    /// From now on the deliveries of an app are counted in spans of so many seconds, for its frequency cap; `None`: not at all. To be
    /// told anew after each open.
    pub fn count_deliveries(&self, app: AppId, per_s: Option<u32>) {
        self.inner.caps.set(app, per_s);
    }

    /// From now on each app may have so many bytes of bodies stored, 0 = without a limit, unless [`MessageStore::limit_stored_bytes`]
    /// says otherwise of it. To be told anew after each open.
    pub fn limit_stored_bytes_of_any(&self, most: u64) {
        self.inner.stored.limit_any(most);
    }

    /// The same of one app; `None`: as any. What is there stays.
    pub fn limit_stored_bytes(&self, app: AppId, most: Option<u64>) {
        self.inner.stored.limit(app, most);
    }

    /// Bytes of bodies that an app has stored, each once, as the writer's last batch left them.
    #[must_use]
    pub fn stored_bytes(&self, app: AppId) -> u64 {
        self.inner.stored.of(app)
    }

    /// What is known of a caller's key.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn once(&self, app: AppId, key: [u8; 16]) -> Result<OnceLook, StoreError> {
        self.ask(|reply| Question::Once(app, key, reply)).await
    }

    /// Whether the store takes pushes now; the error says why not.
    ///
    /// # Errors
    /// `Full` or `Unavailable`.
    pub fn usable(&self) -> Result<(), StoreError> {
        self.inner.health.usable()
    }

    /// Commits what is queued and ends the threads. Returns when the folder is free; a second call returns at once.
    pub async fn close(&self) {
        let threads = std::mem::take(&mut *self.inner.threads.lock());
        self.inner.questions.lock().take();
        self.inner.books.close();
        // It fails only if the writer has ended already.
        let _ = self.inner.operations.send(Operation::Close).await;
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                let _ = thread.join();
            }
        });
        let _ = joined.await;
    }

    async fn send(&self, operation: Operation) -> Result<(), StoreError> {
        let closed = |_| StoreError::Unavailable("the store is closed".to_owned());
        self.inner.operations.send(operation).await.map_err(closed)
    }

    async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Question,
    ) -> Result<T, StoreError> {
        let closed = || StoreError::Unavailable("the store is closed".to_owned());
        let questions = self.inner.questions.lock().clone().ok_or_else(closed)?;
        let (reply, answer) = oneshot::channel();
        questions.send(question(reply)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}
