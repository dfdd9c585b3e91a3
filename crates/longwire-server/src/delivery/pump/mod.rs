//! The events of one shard.
//!
//! The pump never waits for the store or for room in a shard's queue. A shard whose events are not taken takes no commands,
//! a dispatcher without room takes no commits, and a store whose commits are not taken takes no acks: a pump that waited
//! for any of them would close the ring, and all would stand still for ever. So it does at once what needs memory only
//! and hands on the rest.
//!
//! - `desk`: reads under way, bounded; answers to connections.
//! - `logins`: a login from token to answer.
//! - `strangers`: logins of MQTT clients, of which some name themselves.
//! - `ledger`: ends of deliveries on their way to the store.
//! - `topics`: what sessions want of topics.
//! - `own`: what devices change of themselves.
//! - `uplink`: messages from devices on their way to the store.

mod desk;
mod ledger;
mod logins;
mod own;
mod strangers;
mod topics;
mod uplink;

use super::border::{Closed, Event, Events, Handle, Login};
use super::hub::Core;
use super::memory::deciding::Deciding;
use super::memory::live::Change;
use crate::domain::AppId;
use crate::store::port::{End, Settle};
use crate::store::truth::Feedback;
use desk::Read;
use ledger::Written;
use logins::Verified;
use longwire_proto::close::CloseReason;
use longwire_proto::id::ClientId;
use own::OwnDesk;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::mpsc;
use topics::TopicDesk;
use uplink::Uplink;

/// Events taken at once.
const BATCH: usize = 1024;
/// Reads that may wait for the desk. A connection has one login or one pull per source under way, so this is never
/// reached by the connections of a node (two million, about 80 bytes each while they wait).
const READS_WAITING_MAX: usize = 1 << 22;
/// Batches of ends that may wait for the store; beyond it a batch is dropped and counted, and its devices get those
/// messages again in their next session.
const ENDS_WAITING_MAX: usize = 1024;

/// Serves a shard until it ends and its last read is answered.
pub(super) async fn serve(core: Arc<Core>, events: impl Events) {
    let deciding = Arc::new(Deciding::default());
    let (reads, waiting) = mpsc::channel(READS_WAITING_MAX);
    let (ends, ended) = mpsc::channel(ENDS_WAITING_MAX);
    let (upward, rising) = mpsc::channel(uplink::WAITING_MAX);
    let uplink = Uplink::new(core.clone(), upward);
    let (asks, asked) = mpsc::channel(topics::WAITING_MAX);
    let topics = TopicDesk::new(core.clone(), asks);
    let (changes, changing) = mpsc::channel(own::WAITING_MAX);
    let own = OwnDesk::new(core.clone(), changes);
    let pump = Pump { core: core.clone(), deciding: deciding.clone(), reads, ends, uplink, topics, own };
    tokio::join!(
        pump.run(events),
        desk::run(core.clone(), deciding, waiting),
        ledger::run(core.clone(), ended),
        uplink::run(core.clone(), rising),
        own::run(core.clone(), changing),
        topics::run(core, asked)
    );
}

struct Pump {
    core: Arc<Core>,
    deciding: Arc<Deciding>,
    reads: mpsc::Sender<Read>,
    ends: mpsc::Sender<Written>,
    uplink: Uplink,
    topics: TopicDesk,
    own: OwnDesk,
}

fn topics_from(handle: Handle, client: ClientId, app: AppId) -> super::border::topics::From {
    super::border::topics::From { handle, client, app }
}

/// What one batch of events leaves to be written down together.
#[derive(Default)]
struct Notes {
    ends: Vec<Settle>,
    words: Vec<Feedback>,
    changes: Vec<Change>,
}

impl Pump {
    async fn run(mut self, mut events: impl Events) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut notes = Notes::default();
        while events.take(&mut batch, BATCH).await {
            for event in batch.drain(..) {
                self.take(event, &mut notes).await;
            }
            self.write_down(&mut notes);
        }
    }

    async fn take(&mut self, event: Event, notes: &mut Notes) {
        let stats = &self.core.stats;
        match event {
            Event::Login(login) => self.login(*login).await,
            Event::Pull { from, client, app, pull, ahead } => {
                if self.core.sessions.is_current(client, from) {
                    self.read(Read::Page { from, client, app, pull, ahead }).await;
                } else {
                    stats.stale_acks.fetch_add(1, Relaxed);
                }
            }
            Event::Settled { from, client, app, source, position, message, end, shared, sent } => {
                let settle = Settle { client, app, source, position, message, end, sent };
                self.settled(from, settle, shared, notes);
            }
            Event::Held { client, message } => {
                if self.core.sessions.held(client, message) {
                    notes.changes.push(Change::Landed(message));
                }
            }
            Event::Feedback { client, app, message, kind } => {
                stats.feedback_came(kind);
                notes.words.push(Feedback { client, app, message, kind });
            }
            Event::Sent { message, sent, dropped } => {
                stats.deliveries_sent.fetch_add(u64::from(sent), Relaxed);
                stats.deliveries_dropped.fetch_add(u64::from(dropped), Relaxed);
                notes.changes.push(Change::Sent { message, sent, dropped });
            }
            Event::Counted(headcount) => headcount.tell(),
            Event::Upstream(message) => self.uplink.take(*message),
            Event::Own(asked) => self.own.take(*asked),
            Event::Topic(from, event) => self.topics.take(from, *event),
            Event::Closed(closed) => self.closed(*closed, notes),
        }
    }

    async fn login(&self, login: Login) {
        let (from, peer) = (login.from, login.peer.ip());
        match logins::verify(&self.core, login) {
            Ok(Verified::Wish(wish)) => {
                // Before the read is queued, so that an end of the connection meanwhile is seen.
                self.deciding.begin(wish.from(), (wish.token.client, wish.token.app));
                self.read(Read::Login(wish)).await;
            }
            Ok(Verified::Stranger(stranger)) => {
                self.deciding.begin(from, (ClientId(0), stranger.app.id));
                self.read(Read::Stranger(Box::new(stranger))).await;
            }
            Ok(Verified::Asking(asking)) => {
                self.deciding.begin(from, (ClientId(0), asking.app.id));
                let (core, deciding, reads) = (self.core.clone(), self.deciding.clone(), self.reads.clone());
                // Ends with the answer, or its time.
                tokio::spawn(strangers::ask(core, deciding, asking, reads));
            }
            Err(reason) => {
                let retry_after_s = logins::slowed(&self.core, reason, peer);
                self.read(Read::Refused { to: from, reason, retry_after_s }).await;
            }
        }
    }

    async fn read(&self, read: Read) {
        // The desk ends only after this side has, and has room for all that connections can ask.
        let _ = self.reads.send(read).await;
    }

    fn settled(&self, from: Handle, end: Settle, shared: bool, notes: &mut Notes) {
        // A GAP was never counted as sent, nor what was too large. Also a displaced connection's delivery is in flight no more.
        let delivered = end.end == End::Delivered;
        let settling = self.core.sessions.settled(end.client, from, end.message, delivered, shared);
        for _ in 0..settling.landed {
            notes.changes.push(Change::Landed(end.message));
        }
        let stats = &self.core.stats;
        if !settling.current {
            stats.stale_acks.fetch_add(1, Relaxed);
            return;
        }
        if !settling.first {
            stats.late_acks.fetch_add(1, Relaxed);
        } else if delivered {
            stats.deliveries_acked.fetch_add(1, Relaxed);
            self.core.meters.with(end.app, |meter| meter.delivered.fetch_add(1, Relaxed));
        }
        self.core.mail_ended(end.client, end.message);
        // Also a late one: if the store did not take the first, this one may do, and if it did, this one changes nothing.
        notes.ends.push(end);
    }

    fn closed(&self, closed: Closed, notes: &mut Notes) {
        let Closed { from, client, app, reason, sent, mut unacked, shared, lived_s, will } = closed;
        if let Some(client) = client.filter(|_| shared) {
            self.core.sessions.let_go(client, &mut unacked);
        }
        notes.changes.extend(unacked.into_iter().map(Change::Landed));
        let Some(client) = client else {
            if let Some((client, app)) = self.deciding.ended(from) {
                let was_current = self.core.sessions.leave(client, app, from);
                self.core.went(app, client, reason.label());
                if was_current {
                    // Its answer, with a session that began, reached nobody.
                    self.core.connection_ended(topics_from(from, client, app), None, sent, true);
                }
                self.count_takeover(client, reason);
            }
            return;
        };
        self.count_takeover(client, reason);
        let was_current = self.core.sessions.leave(client, app, from);
        self.core.went(app, client, reason.label());
        self.core.connection_ended(topics_from(from, client, app), will, sent, was_current);
        tracing::info!(client = client.0, reason = reason.label(), lived_s, "session ended");
    }

    /// A takeover counts when the older connection was there to be closed. One that had ended, and whose end comes to us
    /// after the newer login, is a device that reconnects.
    fn count_takeover(&self, client: ClientId, reason: CloseReason) {
        if reason != CloseReason::TakenOver {
            return;
        }
        let wait_s = self.core.conflicts.strike(client, self.core.now_ms());
        if wait_s > 0 {
            self.core.stats.device_id_conflicts.fetch_add(1, Relaxed);
            tracing::warn!(
                target: "audit",
                event = "device_id_conflict",
                client = client.0,
                wait_s,
                "connections of one device displace each other: two devices may have one id"
            );
        }
    }

    fn write_down(&self, notes: &mut Notes) {
        self.core.live.apply(&notes.changes);
        notes.changes.clear();
        if notes.ends.is_empty() && notes.words.is_empty() {
            return;
        }
        // Ends first: what a device says of a message comes after its ack.
        let written =
            Written { ends: std::mem::take(&mut notes.ends), words: std::mem::take(&mut notes.words) };
        if let Err(error) = self.ends.try_send(written) {
            let lost = error.into_inner();
            self.core.stats.settles_failed.fetch_add(lost.ends.len() as u64, Relaxed);
            self.core.stats.feedback_dropped.fetch_add(lost.words.len() as u64, Relaxed);
        }
    }
}
