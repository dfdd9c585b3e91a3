//! Recalling a message.
//!
//! What has no end ends as recalled; the body goes. A device that has the message, or may have it in hand, is told by a message
//! of kind recall that goes the same way, so that it comes after it, also when the device is offline now.

use super::accept::accept;
use super::bodies;
use super::collapse::{filter_at, record};
use super::ends::{Ended, Ending};
use super::leave_out::{is_kept, leave_out, mark_place};
use super::settle::reference;
use super::turn::Turn;
use crate::domain::message::Report;
use crate::domain::{ClientId, Kind, MessageRecord, Position, Priority, Recalled};
use crate::store::messages::engine::Fault;
use crate::store::messages::layout::keys;
use crate::store::messages::layout::rows::{self, State};
use crate::store::messages::layout::space::Space;
use crate::store::messages::pace::spreads;
use crate::store::messages::stats::StoreStats;
use crate::store::pace::Phase;
use crate::store::port::{Accept, Accepted, Destination, Recall};
use longwire_proto::id::Source;
use std::collections::HashSet;
use std::sync::Arc;

/// Adds a recall to the turn, with the message that follows. `None`: this app has no such message.
pub(crate) fn recall(
    turn: &mut Turn<'_>,
    wish: Recall,
    stats: &StoreStats,
) -> Result<(Option<Recalled>, Option<Accepted>), Fault> {
    let Some(mut known) = record(turn, wish.message)?.filter(|record| record.app == wish.app) else {
        return Ok((None, None));
    };
    if known.recalled.is_some() {
        return Ok((known.recalled, None));
    }
    let mut outcome = Recalled { now: 0, following: Some(0), refused: 0 };
    spreads::stop(turn, wish.message, Phase::Stopped)?;
    let destination = if known.targets.is_empty() {
        recall_log(turn, &wish, &known)?
    } else {
        recall_mailboxes(turn, &wish, &known, &mut outcome, stats)?
    };
    if !is_kept(State::Recalled) {
        bodies::gone(turn, wish.app, wish.message)?;
    }
    // Whoever subscribed to a topic knows no ids, and who has a recall has nothing to forget.
    let destination = destination.filter(|_| !matches!(known.kind, Kind::Topic | Kind::Recall));
    let follower = match destination {
        Some(destination) => follow(turn, wish_of(&wish, destination), &mut outcome, stats)?,
        None => None,
    };
    known.recalled = Some(outcome);
    turn.put(Space::Messages, keys::message(wish.message), rows::encode_record(&known));
    Ok((Some(outcome), follower))
}

/// Ends what waits in mailboxes. Those who have it, or may have it, are whom the recall follows to.
fn recall_mailboxes(
    turn: &mut Turn<'_>,
    wish: &Recall,
    known: &MessageRecord,
    outcome: &mut Recalled,
    stats: &StoreStats,
) -> Result<Option<Destination>, Fault> {
    let windows: HashSet<ClientId> = wish.windows.iter().copied().collect();
    let delivered = turn.counts(wish.message)?.is_some_and(|counts| counts.delivered > 0);
    let mut have = Vec::new();
    for target in &known.targets {
        let row = reference(turn, target.client, target.position)?;
        let has = match row.filter(|row| row.message == wish.message).map(|row| row.state) {
            Some(State::Waiting) => wish.in_hand || windows.contains(&target.client),
            Some(State::Released) => true,
            Some(_) => false,
            // It was acked, or what it was left out for was noted: which of both is not kept.
            None => delivered,
        };
        if has {
            have.push(target.client);
        }
        let ending = Ending {
            app: wish.app,
            client: target.client,
            message: wish.message,
            source: Source::Mailbox,
            ended: Ended::Recalled,
        };
        // What is past its deadline is the sweeper's.
        if known.deadline.0 > wish.at.0 {
            outcome.now += u32::from(leave_out(turn, ending, target.position, stats)?);
        }
    }
    Ok((!have.is_empty()).then_some(Destination::Mailboxes(have)))
}

/// Marks the places of the log. The recall follows in the log if any device has the message or may have it.
fn recall_log(
    turn: &mut Turn<'_>,
    wish: &Recall,
    known: &MessageRecord,
) -> Result<Option<Destination>, Fault> {
    let delivered = turn.counts(wish.message)?.is_some_and(|counts| counts.delivered > 0);
    let mut whole = None;
    for position in spreads::places(turn, wish.message, known)? {
        let Some(filter) = filter_at(turn, known.app, position)? else { continue };
        if known.deadline.0 > wish.at.0 {
            mark_place(turn, known.app, position, &filter, State::Recalled)?;
        }
        whole.get_or_insert(filter).slice = None;
    }
    let follows = delivered || wish.in_hand || !wish.windows.is_empty();
    Ok(whole.filter(|_| follows).map(|filter| Destination::Log(Arc::new(filter))))
}

fn wish_of(wish: &Recall, destination: Destination) -> Accept {
    Accept {
        message: wish.follower,
        app: wish.app,
        kind: Kind::Recall,
        trace: wish.trace,
        accepted_at: wish.at,
        deadline: wish.deadline,
        shared: wish.shared.clone(),
        destination,
        received: None,
        priority: Priority::Normal,
        collapse_key: Arc::from(""),
        replaces: None,
        once: None,
        report: Report::default(),
        occurrence: None,
    }
}

fn follow(
    turn: &mut Turn<'_>,
    wanted: Accept,
    outcome: &mut Recalled,
    stats: &StoreStats,
) -> Result<Option<Accepted>, Fault> {
    let asked = match &wanted.destination {
        Destination::Mailboxes(clients) => clients.len() as u32,
        Destination::Log(_) | Destination::Spread(_) => 0,
    };
    let Ok(accepted) = accept(turn, wanted, stats)? else {
        outcome.refused = asked;
        return Ok(None);
    };
    outcome.refused = accepted.refused.len() as u32;
    let in_log = accepted.record.log_position != Position::START;
    outcome.following = (!in_log).then_some(accepted.record.targets.len() as u32);
    Ok(Some(accepted))
}
