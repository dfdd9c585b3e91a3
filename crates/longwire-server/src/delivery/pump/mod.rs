//! The events of one shard.
//!
//! The pump takes batches, does at once what needs memory only, and gives what must be read from the store to its
//! `desk`, so that a slow read holds up no ack.
//!
//! - `desk`: reads under way, bounded.
//! - `logins`: a login from token to answer.

mod desk;
mod logins;

use super::border::{Closed, Event, Events, Handle, Login};
use super::hub::Core;
use super::memory::deciding::Deciding;
use super::memory::live::Change;
use crate::store::port::{End, Settle};
use desk::Read;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::mpsc;

/// Events taken at once.
const BATCH: usize = 1024;
/// Reads that may wait for the desk; beyond it the shard's events wait too.
const READS_WAITING_MAX: usize = 4096;

/// Serves a shard until it ends and its last read is answered.
pub(super) async fn serve(core: Arc<Core>, events: impl Events) {
    let deciding = Arc::new(Deciding::default());
    let (reads, waiting) = mpsc::channel(READS_WAITING_MAX);
    let pump = Pump { core: core.clone(), deciding: deciding.clone(), reads };
    tokio::join!(pump.run(events), desk::run(core, deciding, waiting));
}

struct Pump {
    core: Arc<Core>,
    deciding: Arc<Deciding>,
    reads: mpsc::Sender<Read>,
}

/// What one batch of events leaves to be written down together.
#[derive(Default)]
struct Notes {
    ends: Vec<Settle>,
    changes: Vec<Change>,
}

impl Pump {
    async fn run(self, mut events: impl Events) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut notes = Notes::default();
        while events.take(&mut batch, BATCH).await {
            for event in batch.drain(..) {
                self.take(event, &mut notes).await;
            }
            self.write_down(&mut notes).await;
        }
    }

    async fn take(&self, event: Event, notes: &mut Notes) {
        let stats = &self.core.stats;
        match event {
            Event::Login(login) => self.login(*login).await,
            Event::Pull { from, client, app, pull } => {
                if self.core.sessions.is_current(client, from) {
                    self.read(Read::Page { from, client, app, pull }).await;
                } else {
                    stats.stale_acks.fetch_add(1, Relaxed);
                }
            }
            Event::Settled { from, client, app, source, position, message, gap } => {
                let end = if gap { End::GapNoted } else { End::Delivered };
                self.settled(from, Settle { client, app, source, position, message, end }, notes);
            }
            Event::Feedback { kind, .. } => stats.feedback_came(kind),
            Event::Sent { message, sent, dropped } => {
                stats.deliveries_sent.fetch_add(u64::from(sent), Relaxed);
                stats.deliveries_dropped.fetch_add(u64::from(dropped), Relaxed);
                notes.changes.push(Change::Sent { message, sent, dropped });
            }
            Event::Closed(closed) => self.closed(*closed, notes),
        }
    }

    async fn login(&self, login: Login) {
        match logins::verify(&self.core, &login) {
            Ok(wish) => {
                // Before the read is queued, so that an end of the connection meanwhile is seen.
                self.deciding.begin(wish.from, wish.token.client);
                self.read(Read::Login(wish)).await;
            }
            Err(reason) => self.core.refuse(login.from, reason).await,
        }
    }

    async fn read(&self, read: Read) {
        // The desk ends only after this side has: there is nobody to tell if it is gone.
        let _ = self.reads.send(read).await;
    }

    fn settled(&self, from: Handle, end: Settle, notes: &mut Notes) {
        // A GAP was never counted as sent. Also a displaced connection's delivery is in flight no more.
        if end.end == End::Delivered {
            notes.changes.push(Change::Landed(end.message));
        }
        if !self.core.sessions.is_current(end.client, from) {
            self.core.stats.stale_acks.fetch_add(1, Relaxed);
            return;
        }
        if end.end == End::Delivered {
            self.core.stats.deliveries_acked.fetch_add(1, Relaxed);
        }
        notes.ends.push(end);
    }

    fn closed(&self, closed: Closed, notes: &mut Notes) {
        let Closed { from, client, reason, unacked, lived_s } = closed;
        notes.changes.extend(unacked.into_iter().map(Change::Landed));
        let Some(client) = client else {
            if let Some(asked_for) = self.deciding.ended(from) {
                self.core.sessions.leave(asked_for, from);
            }
            return;
        };
        self.core.sessions.leave(client, from);
        tracing::info!(client = client.0, reason = reason.label(), lived_s, "session ended");
    }

    async fn write_down(&self, notes: &mut Notes) {
        self.core.live.apply(&notes.changes);
        notes.changes.clear();
        if notes.ends.is_empty() {
            return;
        }
        let ends = std::mem::take(&mut notes.ends);
        let count = ends.len() as u64;
        if let Err(error) = self.core.store.settle(ends).await {
            self.core.stats.settles_failed.fetch_add(count, Relaxed);
            tracing::warn!(%error, count, "acks were not recorded; these messages will be delivered again");
        }
    }
}
