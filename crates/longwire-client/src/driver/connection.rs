//! One connection from CONNECT to its end: the session's bytes over a socket, the session's time from the clock.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use longwire_proto::id::{Kind, MessageId};
use longwire_proto::session::{ClientSession, Credentials, FromServer, HeartbeatPlan, Memory, Millis, Tick};
use longwire_proto::wire::{AckKind, BackOff, Gap, GapReason, Push, UpAck, Welcome, push_flags};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::application::{Application, Order};
use super::changes::Changes;
use super::outgoing::Answer;
use super::random;
use super::unacked::Place;
use crate::incoming::{Ended, Incoming, Message, State};
use crate::storage::outbox::Pending;
use crate::upstream::UpstreamId;

/// A server that takes no byte for so long is lost.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes read from the socket at once.
const READ_BYTES: usize = 16 * 1024;
/// Bytes to be written, above which no more messages go up in the same turn.
const OUT_BYTES: usize = 64 * 1024;

/// What a connection leaves behind.
pub(crate) struct Report {
    /// Why it ended; `None`: the application left.
    pub(crate) ended: Option<Ended>,
    pub(crate) memory: Memory,
    /// The heartbeat for the next connection.
    pub(crate) heartbeat: HeartbeatPlan,
    /// The server's back-off, if the login was accepted.
    pub(crate) back_off: Option<BackOff>,
}

/// Talks until the connection ends.
pub(crate) async fn talk(
    stream: TcpStream,
    address: &str,
    credentials: &Credentials,
    heartbeat: HeartbeatPlan,
    memory: Memory,
    start: Instant,
    application: &mut Application,
) -> Report {
    let mut out = Vec::new();
    let now = Millis(start.elapsed().as_millis() as u64);
    let mut session = ClientSession::begin(credentials, memory, now, &mut out);
    session.beat_by(heartbeat);
    application.up.outgoing.reconnected();
    application.subscriptions.reconnected();
    application.changes.reconnected();
    let mut connection =
        Connection { stream, session, application, address, start, out, back_off: None, leave: None };
    let ended = loop {
        match connection.turn().await {
            Ok(()) => {}
            Err(End::Left) => {
                connection.leave().await;
                break None;
            }
            Err(End::Ended(ended)) => break Some(connection.translate(ended)),
        }
    };
    let heartbeat = connection.session.next_plan();
    Report { ended, memory: connection.session.into_memory(), heartbeat, back_off: connection.back_off }
}

struct Connection<'a> {
    stream: TcpStream,
    session: ClientSession,
    application: &'a mut Application,
    address: &'a str,
    start: Instant,
    out: Vec<u8>,
    back_off: Option<BackOff>,
    /// GOAWAY came: when to leave, and for which address.
    leave: Option<(Instant, String)>,
}

enum End {
    /// The application left.
    Left,
    Ended(Ended),
}

enum Event {
    Order(Option<Order>),
    Kept(Option<Arc<Pending>>),
    Taken,
    Readable(io::Result<()>),
    Tick,
    LeaveNow,
}

impl Connection<'_> {
    async fn turn(&mut self) -> Result<(), End> {
        self.send_up();
        self.flush().await?;
        let due = self.start + Duration::from_millis(self.due().0);
        let leave_at = self.leave.as_ref().map_or(due, |(at, _)| *at);
        let taken = self.application.backlog.is_empty();
        // Cancel-safe: both `recv`s, `reserve` and `readable` lose nothing when another branch wins. Nothing is read while the
        // application has not taken what was read before.
        let event = tokio::select! {
            order = self.application.orders.recv() => Event::Order(order),
            kept = self.application.up.kept.recv(), if !self.application.up.kept.is_closed() => Event::Kept(kept),
            place = self.application.incoming.reserve(), if !taken => {
                if let (Ok(place), Some(incoming)) = (place, self.application.backlog.pop_front()) {
                    place.send(incoming);
                }
                Event::Taken
            }
            ready = self.stream.readable(), if taken => Event::Readable(ready),
            () = sleep_until(leave_at), if self.leave.is_some() => Event::LeaveNow,
            () = sleep_until(due) => Event::Tick,
        };
        match event {
            Event::Order(None) => Err(End::Left),
            Event::Order(Some(order)) => {
                self.order(order);
                Ok(())
            }
            Event::Kept(kept) => {
                if let Some(pending) = kept {
                    self.application.up.outgoing.put(pending);
                }
                Ok(())
            }
            Event::Taken if self.application.incoming.is_closed() => Err(End::Left),
            Event::Taken => Ok(()),
            Event::Readable(Ok(())) => self.read(),
            Event::Readable(Err(error)) => Err(End::Ended(Ended::Broken(error.kind()))),
            Event::Tick => match self.session.tick(self.now(), &mut self.out) {
                Tick::Live => Ok(()),
                Tick::Lost => Err(End::Ended(Ended::Lost)),
            },
            Event::LeaveNow => {
                self.leave().await;
                Err(End::Ended(Ended::EndOfStream))
            }
        }
    }

    fn now(&self) -> Millis {
        Millis(self.start.elapsed().as_millis() as u64)
    }

    /// The session's deadline, or the outgoing messages' if that is earlier.
    fn due(&self) -> Millis {
        let session = self.session.deadline();
        let Application { up, subscriptions, changes, .. } = &*self.application;
        match [up.outgoing.due(), subscriptions.due(), changes.due()].into_iter().flatten().min() {
            Some(due) if self.session.is_live() && self.leave.is_none() => due.min(session),
            _ => session,
        }
    }

    fn send_up(&mut self) {
        self.application.up.tell_outbox();
        if !self.session.is_live() || self.leave.is_some() {
            return; // a node that goes away takes what is on its way, but nothing new
        }
        let now = self.now();
        // Before messages: what is published next is wanted by those who just subscribed.
        self.application.subscriptions.tick(now);
        while let Some((request, what)) = self.application.subscriptions.next(now) {
            self.session.ask(request, what, &mut self.out);
        }
        self.application.changes.tick(now);
        if let Some((request, what)) = self.application.changes.next(now) {
            self.session.ask(request, what, &mut self.out);
        }
        self.application.up.outgoing.tick(now);
        while self.out.len() < OUT_BYTES
            && let Some(pending) = self.application.up.outgoing.next(now)
        {
            self.session.say(&pending.frame(), &mut self.out);
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Say(kind, message) if self.session.is_live() => {
                self.application.settle(kind, message);
                self.session.ack(kind, &[message], &mut self.out);
            }
            Order::PublishNow(publication) => {
                self.session.publish(&publication.frame(0, false), &mut self.out);
            }
            Order::NetworkChanged => {
                self.application.network_changed = true;
                self.session.probe(self.now());
            }
            order => self.application.note_order(order),
        }
    }

    /// Reads what is there, into a buffer that lives no longer than this call: an idle device holds none.
    fn read(&mut self) -> Result<(), End> {
        let mut buffer = [0; READ_BYTES];
        match self.stream.try_read(&mut buffer) {
            Ok(0) => Err(End::Ended(Ended::EndOfStream)),
            Ok(count) => self.receive(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(End::Ended(Ended::Broken(error.kind()))),
        }
    }

    fn receive(&mut self, mut input: &[u8]) -> Result<(), End> {
        let now = self.now();
        let mut acks = Vec::new();
        let mut end = Ok(());
        while end.is_ok() {
            let received = self.session.receive(&mut input, now, &mut self.out);
            let Some(from) = received.map_err(|reason| End::Ended(Ended::Protocol(reason)))? else { break };
            match from {
                FromServer::Welcome(welcome) => {
                    self.back_off =
                        Some(welcomed(welcome, self.session.heartbeat_s(), self.application, self.address))
                }
                FromServer::Push { push, repeated, hole } => {
                    acks.extend(pushed(&push, repeated, hole, self.application));
                }
                FromServer::Gap(gap) => passed(gap, self.application),
                FromServer::GoAway { after_ms, to } => {
                    let wait = Duration::from_millis(u64::from(after_ms));
                    self.leave = Some((Instant::now() + wait, to.to_owned()));
                }
                FromServer::Redirect(to) => end = Err(End::Ended(Ended::Redirected { to: to.to_owned() })),
                FromServer::Refused(refusal) => end = Err(End::Ended(Ended::Refused(refusal))),
                FromServer::Closed(refusal) => end = Err(End::Ended(Ended::Closed(refusal))),
                FromServer::Pong { round_trip_ms } => tracing::trace!(round_trip_ms, "heartbeat answered"),
                FromServer::UpAck(answer) => answered(answer, now, self.application),
                FromServer::Result { request, code } => {
                    let Application { subscriptions, changes, .. } = &mut *self.application;
                    let told = match Changes::has(request) {
                        true => changes.answered(request, code, now, random()),
                        false => subscriptions.answered(request, code, now, random()),
                    };
                    self.application.tell_of_topic(told);
                }
            }
        }
        if self.session.is_live() {
            for (kind, message) in self.application.unacked.take_kept() {
                self.session.ack(kind, &[message], &mut self.out);
            }
        }
        self.session.ack(AckKind::Received, &acks, &mut self.out);
        end
    }

    async fn flush(&mut self) -> Result<(), End> {
        if self.out.is_empty() {
            return Ok(());
        }
        let written = timeout(WRITE_TIMEOUT, self.stream.write_all(&self.out)).await;
        self.out = Vec::new(); // an idle device holds no buffer
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(End::Ended(Ended::Broken(error.kind()))),
            Err(_) => Err(End::Ended(Ended::Lost)),
        }
    }

    /// An orderly end, as far as the socket still works.
    async fn leave(&mut self) {
        // What the application said before it left, such as its last acks, is still said.
        while let Ok(order) = self.application.orders.try_recv() {
            self.order(order);
        }
        self.session.close(&mut self.out);
        if self.flush().await.is_ok() {
            let _ = timeout(WRITE_TIMEOUT, self.stream.shutdown()).await;
        }
    }

    /// After a GOAWAY, an end is what was announced, whoever ends it; a refusal for good stays one.
    fn translate(&self, ended: Ended) -> Ended {
        let Some((at, to)) = &self.leave else { return ended };
        match ended {
            Ended::Closed(refusal) if !refusal.reason.may_retry() => ended,
            _ => Ended::GoAway { wait: at.saturating_duration_since(Instant::now()), to: to.clone() },
        }
    }
}

/// Shows a message, or gives the id to ack: the application acked it before, or has nothing to ack in it.
fn pushed(push: &Push<'_>, repeated: bool, hole: bool, application: &mut Application) -> Option<MessageId> {
    if repeated {
        return (!application.unacked.holds(push.message)).then_some(push.message);
    }
    if let Some(replaced) = push.replaces {
        application.withdraw(push.source, replaced);
    }
    if let Some(source) = push.source {
        let ahead = push.flags & push_flags::AHEAD != 0;
        application.unacked.show(push.message, Place { source, position: push.position, ahead });
    }
    if push.kind == Kind::Recall {
        let recalled = push.recalls();
        if let Some(recalled) = recalled {
            application.withdraw(push.source, recalled);
            application.tell(Incoming::Recall(recalled));
        }
        // Also one that says nothing: it comes no more.
        application.settle(AckKind::Received, push.message);
        return push.source.map(|_| push.message);
    }
    application.tell(Incoming::Message(Message::new(push, hole, Instant::now())));
    None
}

fn passed(gap: Gap, application: &mut Application) {
    if matches!(gap.reason, GapReason::Recalled | GapReason::Collapsed) && gap.message != MessageId(0) {
        application.withdraw(None, gap.message);
    }
    application.pass(gap.source, gap.position);
    application.tell(Incoming::Gap(gap));
}

fn answered(answer: UpAck, now: Millis, application: &mut Application) {
    let id = answer.client_message;
    match application.up.outgoing.answered(id, answer.outcome, now, random()) {
        Answer::Final(outcome) => {
            application.up.forget(id);
            application.tell(Incoming::Answered { id: UpstreamId(id), outcome });
        }
        Answer::Later | Answer::Unknown => {}
    }
}

/// Tells the application of the login; gives the server's back-off.
fn welcomed(welcome: Welcome, heartbeat_s: u16, application: &mut Application, address: &str) -> BackOff {
    let (address, node) = (address.to_owned(), welcome.node);
    application.tell(Incoming::State(State::Connected { address, node, heartbeat_s }));
    welcome.back_off
}
