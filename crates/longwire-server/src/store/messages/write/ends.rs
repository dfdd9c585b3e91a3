//! The one place where a delivery ends: its message's counts, and whoever else keeps a book of it.

use super::bodies;
use super::caps;
use super::turn::Turn;
use crate::domain::{AppId, ClientId, Counts, DropReason, MessageId, WallMs};
use crate::planted::{Fault as Planted, planted_in};
use crate::store::messages::engine::Fault;
use crate::store::messages::layout::keys::Book;
use crate::store::messages::layout::rows::State;
use crate::store::messages::stats::{StoreStats, add};
use crate::store::messages::truth::stories;
use crate::store::port::End;
use crate::store::truth::Told;
use longwire_proto::id::Source;
use longwire_proto::wire::GapReason;

/// A delivery that ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ending {
    pub(crate) app: AppId,
    pub(crate) client: ClientId,
    pub(crate) message: MessageId,
    pub(crate) source: Source,
    pub(crate) ended: Ended,
}

/// How.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    Delivered,
    Expired,
    Collapsed,
    Recalled,
    Dropped(DropReason),
}

impl Ended {
    /// What an end that was told means for a delivery that had none.
    pub(crate) fn of(end: End) -> Ended {
        match end {
            End::Delivered | End::Received => Ended::Delivered,
            End::Dropped(reason) => Ended::Dropped(reason),
            End::GapNoted(reason) => match reason {
                GapReason::Expired | GapReason::Retention => Ended::Expired,
                GapReason::Collapsed => Ended::Collapsed,
                GapReason::Recalled => Ended::Recalled,
                GapReason::Dropped => Ended::Dropped(DropReason::Frequency),
                GapReason::Corrupt => Ended::Dropped(DropReason::Corrupt),
            },
        }
    }

    /// What is told of it.
    pub(crate) fn told(self) -> Told {
        match self {
            Ended::Delivered => Told::Delivered,
            Ended::Expired => Told::Expired,
            Ended::Collapsed => Told::Collapsed,
            Ended::Recalled => Told::Recalled,
            Ended::Dropped(reason) => Told::Dropped(reason),
        }
    }

    /// The marker that an end leaves in a mailbox until the device has taken note.
    pub(crate) fn marker(self) -> State {
        match self {
            Ended::Delivered => State::Released,
            Ended::Expired => State::Expired,
            Ended::Collapsed => State::Collapsed,
            Ended::Recalled => State::Recalled,
            Ended::Dropped(_) => State::Dropped,
        }
    }
}

/// A message is accepted: so many deliveries of it exist.
pub(crate) fn created(
    turn: &mut Turn<'_>,
    app: AppId,
    message: MessageId,
    created: u64,
) -> Result<(), Fault> {
    turn.book(app, Book::All)?.created += created;
    turn.set_counts(message, Counts { created, ..Counts::default() });
    Ok(())
}

/// Retention takes a message: its counts go to those of the forgotten.
pub(crate) fn forget(turn: &mut Turn<'_>, app: AppId, message: MessageId) -> Result<(), Fault> {
    if let Some(counts) = turn.counts(message)?.copied() {
        turn.book(app, Book::Forgotten)?.absorb(&counts);
    }
    turn.forget_counts(message);
    Ok(())
}

/// Records an end. A mailbox delivery was created at acceptance; one of a log is created here. The body goes with the
/// last addressed delivery. False: the message is past its retention, and nothing is counted.
pub(crate) fn end(turn: &mut Turn<'_>, ending: Ending, stats: &StoreStats) -> Result<bool, Fault> {
    end_sent(turn, ending, WallMs(0), stats)
}

/// The same, of a delivery that was sent at this time; 0 = it was not, or that is not known.
pub(crate) fn end_sent(
    turn: &mut Turn<'_>,
    ending: Ending,
    sent: WallMs,
    stats: &StoreStats,
) -> Result<bool, Fault> {
    let in_log = ending.source == Source::AppLog;
    let Some(counts) = turn.counts(ending.message)? else { return Ok(false) };
    counts.created += u64::from(in_log);
    count(counts, ending.ended);
    if planted_in(Planted::CountsTwice, 8) {
        count(counts, ending.ended);
    }
    let over = !in_log && counts.pending() == 0;
    let book = turn.book(ending.app, Book::All)?;
    book.created += u64::from(in_log);
    count(book, ending.ended);
    tally(stats, ending.ended);
    if over {
        bodies::gone(turn, ending.app, ending.message)?;
    }
    let whose = (ending.app, ending.client, ending.message);
    stories::ended(turn, whose, ending.ended.told(), sent, stats)?;
    if ending.ended == Ended::Delivered {
        caps::delivered(turn, ending.app, ending.client, ending.message)?;
    }
    Ok(true)
}

fn count(counts: &mut Counts, ended: Ended) {
    match ended {
        Ended::Delivered => counts.delivered += 1,
        Ended::Expired => counts.expired += 1,
        Ended::Collapsed => counts.collapsed += 1,
        Ended::Recalled => counts.recalled += 1,
        Ended::Dropped(reason) => counts.dropped.add(reason, 1),
    }
}

fn tally(stats: &StoreStats, ended: Ended) {
    match ended {
        Ended::Delivered => add(&stats.settled, 1),
        Ended::Expired => add(&stats.expired, 1),
        Ended::Collapsed => add(&stats.collapsed, 1),
        Ended::Recalled => add(&stats.recalled, 1),
        Ended::Dropped(reason) => add(&stats.dropped[reason as usize], 1),
    }
}
