//! A newer message in the place of an older one: by a collapse key, or by name (`override_msg_id`).
//!
//! Only what has no end is ended. A device that has the older one keeps its end, gets the newer one and replaces it.

use super::bodies;
use super::ends::{Ended, Ending};
use super::leave_out::{is_kept, leave_out, mark_place};
use super::settle::reference;
use super::turn::Turn;
use crate::domain::{AppId, ClientId, Condition, Filter, MessageId, MessageRecord, Position};
use crate::store::messages::engine::Fault;
use crate::store::messages::layout::filters;
use crate::store::messages::layout::keys;
use crate::store::messages::layout::rows::{self, Reference, State};
use crate::store::messages::layout::space::Space;
use crate::store::messages::pace::spreads;
use crate::store::messages::stats::StoreStats;
use crate::store::pace::Phase;
use crate::store::port::{Accept, Destination};
use longwire_proto::id::Source;

/// What stands in the way of a newer message of the same key in a mailbox.
pub(crate) struct Older {
    pub(crate) position: Position,
    pub(crate) reference: Reference,
}

/// The waiting message of the same key in a mailbox, if there is one. What is past its deadline is the sweeper's.
pub(crate) fn older(turn: &Turn<'_>, accept: &Accept, client: ClientId) -> Result<Option<Older>, Fault> {
    if accept.collapse_key.is_empty() {
        return Ok(None);
    }
    let key = keys::collapse_mailbox(client, &accept.collapse_key);
    let Some(row) = turn.get(Space::Collapse, &key)? else { return Ok(None) };
    let position = rows::decode_position(&row).ok_or_else(|| Fault::damaged(Space::Collapse))?;
    let waits = |reference: &Reference| {
        reference.state == State::Waiting && reference.deadline.0 > accept.accepted_at.0
    };
    let reference = reference(turn, client, position)?.filter(waits);
    Ok(reference.map(|reference| Older { position, reference }))
}

/// A message went into a mailbox: it is the newest of its key there, and ends the one before.
pub(crate) fn collapse_mailbox(
    turn: &mut Turn<'_>,
    accept: &Accept,
    client: ClientId,
    position: Position,
    older: Option<Older>,
    stats: &StoreStats,
) -> Result<(), Fault> {
    if accept.collapse_key.is_empty() {
        return Ok(());
    }
    let key = keys::collapse_mailbox(client, &accept.collapse_key);
    turn.put(Space::Collapse, key, position.0.to_be_bytes());
    if let Some(older) = older {
        let ending = collapsed(accept.app, client, older.reference.message);
        leave_out(turn, ending, older.position, stats)?;
    }
    Ok(())
}

/// A message went into the log: it is the newest of its key for its filter, and readers pass the one before.
pub(crate) fn collapse_log(turn: &mut Turn<'_>, accept: &Accept, filter: &Filter) -> Result<(), Fault> {
    if accept.collapse_key.is_empty() {
        return Ok(());
    }
    let key = keys::collapse_log(accept.app, &of_filter(filter), &accept.collapse_key);
    let before = turn.get(Space::Collapse, &key)?;
    turn.put(Space::Collapse, key, keys::message(accept.message));
    let Some(before) = before else { return Ok(()) };
    let older = keys::read_message(&before).ok_or_else(|| Fault::damaged(Space::Collapse))?;
    // The slices of one message do not end each other.
    if older == accept.message {
        return Ok(());
    }
    let Some(record) = record(turn, older)? else { return Ok(()) };
    pass_log(turn, older, &record, accept)
}

/// A message names the one that it replaces.
pub(crate) fn replace(
    turn: &mut Turn<'_>,
    accept: &Accept,
    named: &(MessageId, MessageRecord),
    newer: &MessageRecord,
    stats: &StoreStats,
) -> Result<(), Fault> {
    let (older, record) = named;
    for target in &record.targets {
        let meant = match &accept.destination {
            Destination::Mailboxes(_) => newer.targets.iter().any(|taken| taken.client == target.client),
            destination => {
                let traits = turn.traits(target.client)?;
                let filter = destination.filter();
                filter.is_some_and(|filter| filter.fits(target.client, &traits.tags, &traits.attributes))
            }
        };
        if meant && record.deadline.0 > accept.accepted_at.0 {
            leave_out(turn, collapsed(accept.app, target.client, *older), target.position, stats)?;
        }
    }
    if record.log_position == Position::START {
        return Ok(());
    }
    // A place of the log stands for all who read it, so it is passed only where the newer one is for all of them.
    let Some(filter) = accept.destination.filter() else { return Ok(()) };
    let Some(before) = filter_at(turn, accept.app, record.log_position)? else { return Ok(()) };
    let for_all = Filter::of(Condition::Everyone);
    if **filter == before || **filter == for_all {
        pass_log(turn, *older, record, accept)?;
    }
    Ok(())
}

/// The message that another is to replace; `None`: this app has none of that id.
pub(crate) fn named(
    turn: &Turn<'_>,
    app: AppId,
    message: MessageId,
) -> Result<Option<(MessageId, MessageRecord)>, Fault> {
    Ok(record(turn, message)?.filter(|record| record.app == app).map(|record| (message, record)))
}

/// A message's rows go with it.
pub(crate) fn forget(turn: &mut Turn<'_>, message: MessageId, record: &MessageRecord) -> Result<(), Fault> {
    if record.collapse_key.is_empty() {
        return Ok(());
    }
    for target in &record.targets {
        let key = keys::collapse_mailbox(target.client, &record.collapse_key);
        let newest = turn.get(Space::Collapse, &key)?;
        if newest.is_some_and(|row| *row == target.position.0.to_be_bytes()) {
            turn.remove(Space::Collapse, key);
        }
    }
    if record.log_position != Position::START
        && let Some(filter) = filter_at(turn, record.app, record.log_position)?
    {
        let key = keys::collapse_log(record.app, &of_filter(&filter), &record.collapse_key);
        let newest = turn.get(Space::Collapse, &key)?;
        if newest.is_some_and(|row| *row == keys::message(message)) {
            turn.remove(Space::Collapse, key);
        }
    }
    Ok(())
}

/// What the store keeps of a message.
pub(crate) fn record(turn: &Turn<'_>, message: MessageId) -> Result<Option<MessageRecord>, Fault> {
    match turn.get(Space::Messages, &keys::message(message))? {
        Some(row) => rows::decode_record(&row).map(Some).ok_or_else(|| Fault::damaged(Space::Messages)),
        None => Ok(None),
    }
}

/// Whom a place of a log is for; `None`: retention took it.
pub(crate) fn filter_at(turn: &Turn<'_>, app: AppId, position: Position) -> Result<Option<Filter>, Fault> {
    match turn.get(Space::Log, &keys::log(app, position))? {
        Some(row) => filters::decode(&row).map(Some).ok_or_else(|| Fault::damaged(Space::Log)),
        None => Ok(None),
    }
}

/// Readers pass a message of the log from now on, and nobody needs its body.
fn pass_log(
    turn: &mut Turn<'_>,
    message: MessageId,
    record: &MessageRecord,
    newer: &Accept,
) -> Result<(), Fault> {
    if record.deadline.0 <= newer.accepted_at.0 {
        return Ok(());
    }
    spreads::stop(turn, message, Phase::Stopped)?;
    for position in spreads::places(turn, message, record)? {
        if let Some(filter) = filter_at(turn, record.app, position)? {
            mark_place(turn, record.app, position, &filter, State::Collapsed)?;
        }
    }
    if !is_kept(State::Collapsed) {
        bodies::gone(turn, record.app, message)?;
    }
    Ok(())
}

fn collapsed(app: AppId, client: ClientId, message: MessageId) -> Ending {
    Ending { app, client, message, source: Source::Mailbox, ended: Ended::Collapsed }
}

/// What a filter's rows are found by; all slices of a message have one.
fn of_filter(filter: &Filter) -> [u8; 16] {
    let whole = Filter { slice: None, ..filter.clone() };
    let mut hash = [0; 16];
    hash.copy_from_slice(&blake3::hash(&filters::encode(&whole)).as_bytes()[..16]);
    hash
}
