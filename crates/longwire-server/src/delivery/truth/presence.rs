//! Who came and went, on the way to the store: a bounded queue and one task, so that the order of a device is kept.

use super::super::hub::Core;
use crate::domain::{AppId, ClientId, WallMs};
use crate::store::truth::{Presence, PresenceNote};
use parking_lot::{Mutex, RwLock};
use std::collections::{HashMap, HashSet};
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{mpsc, oneshot};

/// Notes that may wait for the store, about 60 bytes each; what comes beyond is dropped, counted, and told as `lost`.
const WAITING_MAX: usize = 65_536;
/// Notes of one commit.
const TOGETHER: usize = 512;

enum Waiting {
    Note(PresenceNote),
    /// Answered when all before it is written.
    Flush(oneshot::Sender<()>),
}

/// The queue's end that is written to.
pub(in super::super) struct Presences {
    apps: RwLock<HashSet<AppId>>,
    queue: mpsc::Sender<Waiting>,
    lost: Mutex<HashMap<AppId, u64>>,
    any_lost: AtomicBool,
}

/// The end that is read.
pub(in super::super) struct Queued(mpsc::Receiver<Waiting>);

impl Presences {
    pub(in super::super) fn new() -> (Presences, Queued) {
        let (queue, queued) = mpsc::channel(WAITING_MAX);
        let apps = RwLock::default();
        (Presences { apps, queue, lost: Mutex::default(), any_lost: AtomicBool::new(false) }, Queued(queued))
    }

    /// Whether an app's devices are noted from now on.
    pub(in super::super) fn set(&self, app: AppId, on: bool) {
        let mut apps = self.apps.write();
        if on {
            apps.insert(app);
        } else {
            apps.remove(&app);
        }
    }

    pub(in super::super) fn notes(&self, app: AppId) -> bool {
        self.apps.read().contains(&app)
    }

    fn lose(&self, app: AppId, count: u64) {
        *self.lost.lock().entry(app).or_default() += count;
        self.any_lost.store(true, Ordering::Release);
    }

    /// What was lost since the last look.
    fn take_lost(&self) -> HashMap<AppId, u64> {
        if self.any_lost.swap(false, Ordering::AcqRel) {
            std::mem::take(&mut *self.lost.lock())
        } else {
            HashMap::new()
        }
    }

    /// Returns when all notes up to now are written, or cannot be.
    pub(in super::super) async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.queue.send(Waiting::Flush(done)).await.is_ok() {
            let _ = wait.await;
        }
    }
}

impl Core {
    /// A device has logged in.
    pub(in super::super) fn came(&self, app: AppId, client: ClientId) {
        self.note_presence(app, client, || Presence::Online);
    }

    /// A connection of a device is over, and the device may have no other.
    pub(in super::super) fn went(&self, app: AppId, client: ClientId, reason: &str) {
        self.note_presence(app, client, || Presence::Offline(reason.into()));
    }

    fn note_presence(&self, app: AppId, client: ClientId, presence: impl FnOnce() -> Presence) {
        let presences = &self.truth.presences;
        if client == ClientId(0) || !presences.notes(app) {
            return;
        }
        let note = PresenceNote { app, client, at: (self.clock)(), presence: presence() };
        if presences.queue.try_send(Waiting::Note(note)).is_err() {
            self.stats.presence_dropped.fetch_add(1, Ordering::Relaxed);
            presences.lose(app, 1);
        }
    }
}

/// Writes notes until the hub is gone.
pub(in super::super) async fn run(core: Weak<Core>, mut queued: Queued) {
    let mut batch = Vec::with_capacity(TOGETHER);
    while queued.0.recv_many(&mut batch, TOGETHER).await > 0 {
        let Some(core) = core.upgrade() else { return };
        let mut notes = Vec::with_capacity(batch.len());
        let mut flushes = Vec::new();
        for (app, count) in core.truth.presences.take_lost() {
            let (client, at) = (ClientId(0), (core.clock)());
            notes.push(PresenceNote { app, client, at, presence: Presence::Lost(count) });
        }
        for waiting in batch.drain(..) {
            match waiting {
                // Another connection has taken its place, or is about to: whoever ends last says so.
                Waiting::Note(PresenceNote { client, presence: Presence::Offline(_), .. })
                    if core.sessions.is_online(client) => {}
                Waiting::Note(note) => notes.push(note),
                Waiting::Flush(done) => flushes.push(done),
            }
        }
        if !notes.is_empty() {
            write(&core, notes).await;
        }
        for done in flushes {
            let _ = done.send(());
        }
    }
}

async fn write(core: &Core, notes: Vec<PresenceNote>) {
    let counts = notes.iter().fold(HashMap::new(), |mut counts: HashMap<AppId, u64>, note| {
        let count = if let Presence::Lost(count) = note.presence { count } else { 1 };
        *counts.entry(note.app).or_default() += count;
        counts
    });
    if let Err(error) = core.store.presence(notes).await {
        tracing::warn!(%error, "who came and went was not written");
        for (app, count) in counts {
            core.stats.presence_dropped.fetch_add(count, Ordering::Relaxed);
            core.truth.presences.lose(app, count);
        }
    }
}

/// The time of an event that has none.
pub(super) const UNKNOWN: WallMs = WallMs(0);
