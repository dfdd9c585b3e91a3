//! The writer's loop: gather, one batch, one sync, answers in order.

use super::accept::accept;
use super::bodies;
use super::once;
use super::project::{project, remove};
use super::recall::recall;
use super::seal::Seal;
use super::settle::settle;
use super::space_left::SpaceLeft;
use super::sweep::sweep;
use super::turn::{Memory, Turn};
use crate::domain::{AppId, ClientId, Device, Position, Recalled, WallMs};
use crate::planted::{Fault as Planted, planted};
use crate::store::messages::engine::{Engine, Fault};
use crate::store::messages::health::Health;
use crate::store::messages::layout::rows::Meta;
use crate::store::messages::pace::{schedules, spreads};
use crate::store::messages::sessions::{Queued, write as sessions};
use crate::store::messages::stats::{StoreStats, add};
use crate::store::messages::truth;
use crate::store::messages::upstream::write as upstream;
use crate::store::pace::{Changed, ScheduleChange, Spreading};
use crate::store::port::{
    Accept, Accepted, Claim, ClaimWith, Committed, Recall, Settle, StoreError, StoreOptions,
};
use crate::store::upstream::{Upstream, UpstreamOutcome, UpstreamWaiting};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Operations in one batch at most.
pub(crate) const BATCH_OPERATIONS_MAX: usize = 1024;
/// How long the writer waits for work before it looks at the calendar and at the disk.
const TICK: Duration = Duration::from_millis(50);

/// How long ends wait for a message to share its commit; nobody waits for them.
const SETTLES_WAIT: Duration = Duration::from_millis(5);

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What is asked of the writer.
pub(crate) enum Operation {
    Accept(Box<Accept>, Reply<Accepted>),
    Settle(Vec<Settle>),
    /// `None`: this app has no such message.
    Recall(Box<Recall>, Reply<Option<Recalled>>),
    /// In this order, in one commit.
    Together(Vec<Queued>),
    Project(Vec<Device>, Reply<()>),
    Remove(AppId, ClientId, Reply<()>),
    Upstream(Vec<Upstream>, Reply<Vec<UpstreamOutcome>>),
    TakeUpstream(AppId, Position, Reply<Option<UpstreamWaiting>>),
    Schedule(Box<ScheduleChange>, Reply<Changed>),
    Spreading(Box<Spreading>, Reply<bool>),
    Slice(Box<Spreading>, Reply<Accepted>),
    Truth(truth::Work, Option<Reply<()>>),
    Close,
}

/// What a batch owes when it is durable.
enum Answer {
    Accepted(Accepted, Reply<Accepted>),
    Refused(StoreError, Reply<Accepted>),
    Projected(Reply<()>),
    /// With the message that follows.
    Recalled(Option<Recalled>, Option<Accepted>, Reply<Option<Recalled>>),
    Denied(StoreError, Reply<()>),
    Upstream(Vec<UpstreamOutcome>, Reply<Vec<UpstreamOutcome>>),
    Rose(UpstreamOutcome, Reply<UpstreamOutcome>),
    Taken(Option<UpstreamWaiting>, Reply<Option<UpstreamWaiting>>),
    Scheduled(Changed, Reply<Changed>),
    Spread(bool, Reply<bool>),
    Sliced(Accepted, Reply<Accepted>),
}

/// The writer.
pub(crate) struct Writer {
    pub(crate) engine: Arc<Engine>,
    pub(crate) options: StoreOptions,
    pub(crate) operations: mpsc::Receiver<Operation>,
    pub(crate) committed: mpsc::Sender<Committed>,
    pub(crate) stats: Arc<StoreStats>,
    pub(crate) health: Arc<Health>,
    pub(crate) meta: Meta,
    pub(crate) seal: Seal,
    pub(crate) heads: Arc<truth::Heads>,
}

impl Writer {
    /// Runs until the store is closed, or every handle to it is gone.
    pub(crate) fn run(mut self, runtime: &tokio::runtime::Runtime) {
        let mut memory = Memory::new();
        let mut left = SpaceLeft::new(self.options.folder.clone(), self.options.reserve_bytes);
        let mut gathered = Vec::with_capacity(BATCH_OPERATIONS_MAX);
        let mut sweep_at = Instant::now();
        let mut open = true;
        let counted = upstream::count(&self.engine, &self.stats)
            .and_then(|()| sessions::count(&self.engine, &self.stats));
        if let Err(fault) = counted {
            self.health.fail(&fault.into());
        }
        self.adopt(&mut memory);
        while open {
            open = runtime.block_on(self.gather(&mut gathered));
            self.stats.queue_depth.store(self.operations.len() as u64, Ordering::Relaxed);
            let room = left.check(&self.stats);
            self.health.set_room(room.clone().err());
            if !gathered.is_empty() {
                open &= self.batch(&mut memory, &mut gathered, &room);
            }
            if Instant::now() >= sweep_at && self.health.broken().is_none() {
                let more = self.sweep(&mut memory);
                sweep_at = if more { Instant::now() } else { Instant::now() + TICK };
            }
        }
        // What was queued behind the close is told; the receiver's drop would leave the callers without a word.
        self.operations.close();
        while let Ok(operation) = self.operations.try_recv() {
            refuse(operation, &StoreError::Unavailable("the store is closed".to_owned()));
        }
    }

    /// Writes what was counted when the store opened.
    fn adopt(&mut self, memory: &mut Memory) {
        let mut turn = Turn::new(&self.engine, memory);
        let adopted = match bodies::adopt(&mut turn) {
            Ok(true) => commit(turn, &mut self.meta, &self.health).and_then(|_| self.seal()),
            Ok(false) => Ok(()),
            Err(fault) => Err(fault.into()),
        };
        if let Err(error) = adopted {
            self.health.fail(&error);
        }
    }

    /// Takes what is queued; waits a little if there is nothing. False: every handle is gone.
    async fn gather(&mut self, gathered: &mut Vec<Operation>) -> bool {
        // `recv_many` takes nothing when the time is over first.
        let first = self.operations.recv_many(gathered, BATCH_OPERATIONS_MAX);
        match tokio::time::timeout(TICK, first).await {
            Ok(0) => return false,
            Ok(_) => {}
            Err(_) => return true,
        }
        let until = tokio::time::Instant::now() + SETTLES_WAIT;
        while gathered.len() < BATCH_OPERATIONS_MAX
            && gathered.iter().all(|operation| matches!(operation, Operation::Settle(_)))
        {
            let more = self.operations.recv_many(gathered, BATCH_OPERATIONS_MAX);
            match tokio::time::timeout_at(until, more).await {
                Ok(0) => return false,
                Ok(_) => {}
                Err(_) => break,
            }
        }
        true
    }

    /// False: the store was closed.
    fn batch(
        &mut self,
        memory: &mut Memory,
        gathered: &mut Vec<Operation>,
        room: &Result<(), StoreError>,
    ) -> bool {
        let mut open = true;
        let count = gathered.len() as u64;
        if let Some(error) = self.health.broken() {
            for operation in gathered.drain(..) {
                open &= !matches!(operation, Operation::Close);
                refuse(operation, &error);
            }
            return open;
        }
        let mut answers = Vec::with_capacity(gathered.len());
        self.begin(memory);
        let mut turn = Turn::new(&self.engine, memory);
        let stats = &self.stats;
        let mut rest = std::mem::take(gathered).into_iter();
        let applied = catch_unwind(AssertUnwindSafe(|| {
            for operation in rest.by_ref() {
                open &= !matches!(operation, Operation::Close);
                apply(&mut turn, operation, room, stats, &mut answers)?;
            }
            Ok(())
        }));
        if planted(Planted::AnswersBeforeCommit) {
            for answer in answers.drain(..) {
                self.answer(answer, &Ok(()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let begun = Instant::now();
        let outcome = match applied {
            Ok(Ok(())) => commit(turn, &mut self.meta, &self.health),
            Ok(Err(Fault(text))) => Err(StoreError::Unavailable(text)),
            Err(_) => Err(StoreError::Unavailable("the engine could not read its tables".to_owned())),
        };
        let outcome = outcome.and_then(|changed| {
            if changed {
                self.stats.committed(count, begun.elapsed());
                self.heads.rose(&mut memory.truth.risen);
                self.seal()?;
            }
            Ok(())
        });
        if let Err(error) = &outcome {
            self.health.fail(error);
            // What the turn left in memory was never stored.
            *memory = Memory::new();
            for operation in rest {
                open &= !matches!(operation, Operation::Close);
                refuse(operation, error);
            }
        }
        for answer in answers {
            self.answer(answer, &outcome);
        }
        open
    }

    /// Notes the commit in the seal. Without it a later loss could not be seen, so its failure ends the taking of pushes;
    /// the commit itself stands, but the outcome is told as unknown.
    fn seal(&mut self) -> Result<(), StoreError> {
        self.seal.write(self.meta.commits).map_err(|error| StoreError::Unknown(format!("seal: {error}")))
    }

    fn answer(&self, answer: Answer, outcome: &Result<(), StoreError>) {
        match (answer, outcome) {
            (Answer::Accepted(accepted, reply), Ok(())) => self.hand_on(accepted, reply),
            (Answer::Recalled(recalled, follower, reply), Ok(())) => {
                if let Some(follower) = follower {
                    // Nobody waits for it but the devices.
                    self.hand_on(follower, oneshot::channel().0);
                }
                drop(reply.send(Ok(recalled)));
            }
            (Answer::Recalled(.., reply), Err(error)) => drop(reply.send(Err(error.clone()))),
            (Answer::Sliced(accepted, reply), Ok(())) => self.dispatch(accepted, reply),
            (Answer::Sliced(_, reply), Err(error)) => drop(reply.send(Err(error.clone()))),
            (Answer::Scheduled(changed, reply), _) => drop(reply.send(outcome.clone().map(|()| changed))),
            (Answer::Spread(done, reply), _) => drop(reply.send(outcome.clone().map(|()| done))),
            (Answer::Accepted(_, reply), Err(error)) => drop(reply.send(Err(error.clone()))),
            // What a key made is true only if this turn is: it may be of this turn.
            (Answer::Refused(StoreError::Replayed(_) | StoreError::ConflictingKey, reply), Err(error)) => {
                drop(reply.send(Err(error.clone())));
            }
            (Answer::Refused(error, reply), _) => drop(reply.send(Err(error))),
            (Answer::Denied(_, reply), Err(error)) => drop(reply.send(Err(error.clone()))),
            (Answer::Denied(error, reply), Ok(())) => drop(reply.send(Err(error))),
            (Answer::Projected(reply), outcome) => drop(reply.send(outcome.clone())),
            (Answer::Upstream(each, reply), outcome) => drop(reply.send(outcome.clone().map(|()| each))),
            (Answer::Rose(one, reply), outcome) => drop(reply.send(outcome.clone().map(|()| one))),
            (Answer::Taken(left, reply), outcome) => drop(reply.send(outcome.clone().map(|()| left))),
        }
    }

    /// Gives a durable message to the dispatcher.
    fn hand_on(&self, accepted: Accepted, reply: Reply<Accepted>) {
        add(&self.stats.accepted, 1);
        add(&self.stats.refused, accepted.refused.len() as u64);
        self.dispatch(accepted, reply);
    }

    /// Waits for room: a slow dispatcher slows the writer. Nobody there: the hub is gone, the message is durable all the same.
    fn dispatch(&self, accepted: Accepted, reply: Reply<Accepted>) {
        if let Err(unsent) = self.committed.blocking_send(Committed { accepted, reply }) {
            let Committed { accepted, reply } = unsent.0;
            let _ = reply.send(Ok(accepted));
        }
    }

    /// What a batch needs to know of its time.
    fn begin(&self, memory: &mut Memory) -> WallMs {
        let now = (self.options.clock)();
        memory.truth.now = now;
        memory.truth.story_ms = self.options.story_ms;
        now
    }

    fn sweep(&mut self, memory: &mut Memory) -> bool {
        let now = self.begin(memory);
        let mut turn = Turn::new(&self.engine, memory);
        let (retention_ms, stats) = (self.options.retention_ms, &self.stats);
        let applied = catch_unwind(AssertUnwindSafe(|| {
            let more = sweep(&mut turn, now, retention_ms, stats)?;
            let more = upstream::sweep(&mut turn, now, retention_ms, stats)? || more;
            Ok(truth::streams::sweep(&mut turn, now, stats)? || more)
        }));
        let begun = Instant::now();
        let outcome = match applied {
            Ok(Ok(more)) => commit(turn, &mut self.meta, &self.health).map(|changed| (more, changed)),
            Ok(Err(Fault(text))) => Err(StoreError::Unavailable(text)),
            Err(_) => Err(StoreError::Unavailable("the engine could not read its tables".to_owned())),
        };
        let outcome = outcome.and_then(|(more, changed)| {
            if changed {
                self.stats.committed(0, begun.elapsed());
                self.heads.rose(&mut memory.truth.risen);
                self.seal()?;
            }
            Ok(more)
        });
        match outcome {
            Ok(more) => more,
            Err(error) => {
                self.health.fail(&error);
                *memory = Memory::new();
                false
            }
        }
    }
}

fn commit(turn: Turn<'_>, meta: &mut Meta, health: &Health) -> Result<bool, StoreError> {
    health.commit_begins();
    let committed = catch_unwind(AssertUnwindSafe(|| turn.commit(meta)));
    health.commit_ends();
    match committed {
        Ok(Ok(changed)) => Ok(changed),
        // The engine had refused all writes before this one.
        Ok(Err(fjall::Error::Poisoned)) => Err(StoreError::Unavailable(
            "the engine stopped after a write error; restart the server".to_owned(),
        )),
        Ok(Err(error)) => Err(StoreError::Unknown(error.to_string())),
        Err(_) => Err(StoreError::Unknown("the engine gave up in the middle of a commit".to_owned())),
    }
}

fn apply(
    turn: &mut Turn<'_>,
    operation: Operation,
    room: &Result<(), StoreError>,
    stats: &StoreStats,
    answers: &mut Vec<Answer>,
) -> Result<(), Fault> {
    match operation {
        Operation::Accept(message, reply) => take_in(turn, *message, reply, (room, stats), answers)?,
        Operation::Recall(wish, reply) => {
            let (recalled, follower) = recall(turn, *wish, stats)?;
            answers.push(Answer::Recalled(recalled, follower, reply));
        }
        Operation::Together(work) => together(turn, work, (room, stats), answers)?,
        Operation::Settle(ends) => {
            for end in &ends {
                settle(turn, end, stats)?;
            }
        }
        Operation::Project(devices, reply) => {
            for device in &devices {
                project(turn, device)?;
            }
            answers.push(Answer::Projected(reply));
        }
        Operation::Remove(app, client, reply) => {
            answers.push(Answer::Projected(reply));
            remove(turn, app, client, stats)?;
        }
        Operation::Upstream(messages, reply) => {
            let stored = messages.iter().map(|message| upstream::store(turn, message, room.is_ok(), stats));
            let stored: Result<Vec<_>, Fault> = stored.collect();
            let fault = stored.as_ref().err().cloned();
            answers.push(Answer::Upstream(stored.unwrap_or_default(), reply));
            // The answer is the fault's then: nothing of this turn is committed.
            return fault.map_or(Ok(()), Err);
        }
        Operation::TakeUpstream(app, cursor, reply) => {
            answers.push(Answer::Taken(upstream::take(turn, app, cursor, stats)?, reply));
        }
        Operation::Schedule(..) | Operation::Spreading(..) | Operation::Slice(..) => {
            return over_time(turn, operation, room, answers);
        }
        Operation::Truth(work, reply) => {
            // Before it is applied, so that whoever waits hears of a fault too.
            answers.extend(reply.map(Answer::Projected));
            truth::apply(turn, work, stats)?;
        }
        Operation::Close => {}
    }
    Ok(())
}

fn over_time(
    turn: &mut Turn<'_>,
    operation: Operation,
    room: &Result<(), StoreError>,
    answers: &mut Vec<Answer>,
) -> Result<(), Fault> {
    match operation {
        // Steps of what is there go on when the disk is full; what is new waits for room.
        Operation::Schedule(change, reply) if change.read.is_none() && room.is_err() => {
            drop(reply.send(room.clone().map(|()| Changed::Stale)));
        }
        Operation::Schedule(change, reply) => match schedules::change(turn, &change) {
            Ok(changed) => answers.push(Answer::Scheduled(changed, reply)),
            Err(fault) => return told(fault, reply),
        },
        Operation::Spreading(after, reply) => match spreads::change(turn, &after) {
            Ok(done) => answers.push(Answer::Spread(done, reply)),
            Err(fault) => return told(fault, reply),
        },
        Operation::Slice(_, reply) if room.is_err() => {
            drop(reply.send(Err(room.clone().err().unwrap_or(StoreError::Repeated))));
        }
        Operation::Slice(after, reply) => match spreads::append(turn, &after) {
            Ok(Ok(accepted)) => answers.push(Answer::Sliced(accepted, reply)),
            Ok(Err(error)) => answers.push(Answer::Refused(error, reply)),
            Err(fault) => return told(fault, reply),
        },
        _ => {}
    }
    Ok(())
}

/// Whoever waits hears of a fault too.
fn told<T>(fault: Fault, reply: Reply<T>) -> Result<(), Fault> {
    drop(reply.send(Err(fault.clone().into())));
    Err(fault)
}

/// What is made durable in one commit.
fn together(
    turn: &mut Turn<'_>,
    work: Vec<Queued>,
    (room, stats): (&Result<(), StoreError>, &StoreStats),
    answers: &mut Vec<Answer>,
) -> Result<(), Fault> {
    let from = answers.len();
    for queued in work {
        match queued {
            Queued::Accept(message, reply) => {
                take_in(turn, message, reply, (room, stats), answers)?;
            }
            Queued::Claim(one, reply) => {
                let first = answers[from..].iter().find_map(|answer| match answer {
                    Answer::Accepted(accepted, _) => Some(accepted),
                    _ => None,
                });
                match claim(turn, one, first, room) {
                    Ok(Ok(())) => answers.push(Answer::Projected(reply)),
                    Ok(Err(error)) => answers.push(Answer::Denied(error, reply)),
                    Err(fault) => {
                        drop(reply.send(Err(fault.clone().into())));
                        return Err(fault);
                    }
                }
            }
            Queued::Change(change, reply) => {
                // Before it is applied, so that whoever waits hears of a fault too.
                answers.push(Answer::Projected(reply));
                sessions::apply(turn, &change, stats)?;
            }
            Queued::Upstream(message, received, reply) => {
                match sessions::upstream(turn, &message, received, room.is_ok(), stats) {
                    Ok(outcome) => answers.push(Answer::Rose(outcome, reply)),
                    Err(fault) => {
                        drop(reply.send(Err(fault.clone().into())));
                        return Err(fault);
                    }
                }
            }
        }
    }
    Ok(())
}

fn take_in(
    turn: &mut Turn<'_>,
    message: Accept,
    reply: Reply<Accepted>,
    (room, stats): (&Result<(), StoreError>, &StoreStats),
    answers: &mut Vec<Answer>,
) -> Result<(), Fault> {
    if let Err(full) = room {
        answers.push(Answer::Refused(full.clone(), reply));
        return Ok(());
    }
    match accept(turn, message, stats) {
        Ok(Ok(accepted)) => answers.push(Answer::Accepted(accepted, reply)),
        Ok(Err(error)) => answers.push(Answer::Refused(error, reply)),
        Err(fault) => {
            answers.push(Answer::Refused(fault.clone().into(), reply));
            return Err(fault);
        }
    }
    Ok(())
}

/// Takes a key for what is not stored as one message; `first`: the first message that was stored with it.
fn claim(
    turn: &mut Turn<'_>,
    claim: Claim,
    first: Option<&Accepted>,
    room: &Result<(), StoreError>,
) -> Result<Result<(), StoreError>, Fault> {
    let Claim { app, message, now, keyed, with } = claim;
    match (once::judge(turn, app, now, &keyed)?, with) {
        (Ok(()), ClaimWith::Nothing) => {
            if let Err(full) = room {
                return Ok(Err(full.clone()));
            }
        }
        (Ok(()), ClaimWith::Messages { taken: false }) if first.is_none() => return Ok(Ok(())),
        // Who is connected has the message already; how many keys there are was asked before.
        (Ok(()) | Err(StoreError::TooManyKeys), ClaimWith::Messages { .. }) => {}
        (Err(error), _) => return Ok(Err(error)),
    }
    let met = first.map_or((0, 0), |first| (first.record.targets.len() as u32, first.refused.len() as u32));
    once::record(turn, app, first.map_or(message, |first| first.message), keyed, met).map(Ok)
}

fn refuse(operation: Operation, error: &StoreError) {
    // Once the engine has failed, nothing more is stored, whatever the first failure was.
    let error = match error {
        StoreError::Unavailable(_) => error.clone(),
        other => StoreError::Unavailable(other.to_string()),
    };
    match operation {
        Operation::Accept(_, reply) => drop(reply.send(Err(error))),
        Operation::Recall(_, reply) => drop(reply.send(Err(error))),
        Operation::Project(_, reply) | Operation::Remove(.., reply) => drop(reply.send(Err(error))),
        Operation::Upstream(_, reply) => drop(reply.send(Err(error))),
        Operation::TakeUpstream(.., reply) => drop(reply.send(Err(error))),
        Operation::Together(work) => {
            for queued in work {
                match queued {
                    Queued::Accept(_, reply) => drop(reply.send(Err(error.clone()))),
                    Queued::Change(_, reply) | Queued::Claim(_, reply) => {
                        drop(reply.send(Err(error.clone())));
                    }
                    Queued::Upstream(.., reply) => drop(reply.send(Err(error.clone()))),
                }
            }
        }
        Operation::Schedule(_, reply) => drop(reply.send(Err(error))),
        Operation::Spreading(_, reply) => drop(reply.send(Err(error))),
        Operation::Slice(_, reply) => drop(reply.send(Err(error))),
        Operation::Truth(_, reply) => {
            if let Some(reply) = reply {
                let _ = reply.send(Err(error));
            }
        }
        Operation::Settle(_) | Operation::Close => {}
    }
}
