//! Accepting a message.

use super::bodies;
use super::collapse::{collapse_log, collapse_mailbox, named, older, replace};
use super::ends::created;
use super::once;
use super::settle;
use super::turn::Turn;
use crate::domain::{
    AppId, ClientId, Filter, Kind, MessageId, MessageRecord, Position, Priority, Tag, Target,
};
use crate::planted::{Fault as Planted, planted};
use crate::store::messages::engine::Fault;
use crate::store::messages::layout::filters;
use crate::store::messages::layout::keys::{self, Stage};
use crate::store::messages::layout::rows::{self, Reference, State};
use crate::store::messages::layout::space::Space;
use crate::store::messages::pace::{schedules, spreads};
use crate::store::messages::sessions::write as sessions;
use crate::store::messages::stats::StoreStats;
use crate::store::port::{
    Accept, Accepted, Destination, MAILBOX_BYTES_MAX, MAILBOX_MESSAGES_MAX, StoreError,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Adds a message to the turn. The inner error is the caller's: nothing of the message is in the turn then.
pub(crate) fn accept(
    turn: &mut Turn<'_>,
    accept: Accept,
    stats: &StoreStats,
) -> Result<Result<Accepted, StoreError>, Fault> {
    let replaced = match judge(turn, &accept)? {
        Ok(replaced) => replaced,
        Err(error) => return Ok(Err(error)),
    };
    let mut record = MessageRecord {
        app: accept.app,
        kind: accept.kind,
        trace: accept.trace,
        accepted_at: accept.accepted_at,
        deadline: accept.deadline,
        log_position: Position::START,
        targets: Vec::new(),
        priority: accept.priority,
        collapse_key: accept.collapse_key.clone(),
        replaces: accept.replaces,
        refused: 0,
        recalled: None,
        report: accept.report.clone(),
    };
    let Some((filter, refused)) = place(turn, &accept, &mut record, stats)? else {
        return Ok(Err(StoreError::MailboxFull));
    };
    if let Some(step) = &accept.occurrence {
        schedules::change(turn, step)?;
    }
    record.refused = refused.len() as u32;
    if let Some(replaced) = &replaced {
        replace(turn, &accept, replaced, &record, stats)?;
    }
    if let Some((client, packet_id)) = accept.received {
        sessions::receive(turn, client, packet_id);
    }
    if let Some(keyed) = accept.once {
        let met = (record.targets.len() as u32, refused.len() as u32);
        once::record(turn, accept.app, accept.message, keyed, met)?;
    }
    let key = keys::message(accept.message);
    turn.put(Space::Messages, key, rows::encode_record(&record));
    bodies::put(turn, accept.app, accept.message, &accept.shared)?;
    created(turn, accept.app, accept.message, record.targets.len() as u64)?;
    turn.schedule(accept.deadline.0, Stage::Expire, accept.message);
    Ok(Ok(Accepted {
        message: accept.message,
        record: Arc::new(record),
        filter,
        shared: accept.shared,
        refused: refused.into(),
    }))
}

/// The message that a newer one names.
type Replaced = Option<(MessageId, MessageRecord)>;

/// What speaks against a message before anything of it is in the turn; else the message that it replaces, if it names one. A
/// repeat is told from what its first one came to, whatever became of that since.
fn judge(turn: &mut Turn<'_>, accept: &Accept) -> Result<Result<Replaced, StoreError>, Fault> {
    if let Some((client, packet_id)) = accept.received
        && sessions::is_received(turn, client, packet_id)?
    {
        return Ok(Err(StoreError::Repeated));
    }
    if let Some(step) = &accept.occurrence
        && !schedules::is_current(turn, step)?
    {
        return Ok(Err(StoreError::Repeated));
    }
    if let Some(keyed) = &accept.once
        && let Err(error) = once::judge(turn, accept.app, accept.accepted_at, keyed)?
    {
        return Ok(Err(error));
    }
    let replaced = match accept.replaces {
        Some(older) => match named(turn, accept.app, older)? {
            None => return Ok(Err(StoreError::NoSuchMessage)),
            known => known,
        },
        None => None,
    };
    Ok(bodies::judge(turn, accept)?.map(|()| replaced))
}

/// Whom a log message is for, and the devices that have no room.
type Placed = (Arc<Filter>, Vec<ClientId>);

/// Puts a message where it goes. `None`: no device has room.
fn place(
    turn: &mut Turn<'_>,
    accept: &Accept,
    record: &mut MessageRecord,
    stats: &StoreStats,
) -> Result<Option<Placed>, Fault> {
    let mut refused = Vec::new();
    match &accept.destination {
        Destination::Mailboxes(clients) => {
            for &client in clients {
                match refer(turn, accept, client, stats)? {
                    Some(position) => record.targets.push(Target { client, position }),
                    None => refused.push(client),
                }
            }
            Ok((!record.targets.is_empty()).then_some((Arc::default(), refused)))
        }
        Destination::Log(filter) => {
            record.log_position = append(turn, accept, filter)?;
            collapse_log(turn, accept, filter)?;
            Ok(Some((filter.clone(), refused)))
        }
        Destination::Spread(spreading) => {
            spreads::begin(turn, spreading);
            collapse_log(turn, accept, &spreading.filter)?;
            Ok(Some((spreading.filter.clone(), refused)))
        }
    }
}

/// Puts a reference into a mailbox; `None` when it is full.
fn refer(
    turn: &mut Turn<'_>,
    accept: &Accept,
    client: ClientId,
    stats: &StoreStats,
) -> Result<Option<Position>, Fault> {
    let incarnation = turn.engine.incarnation;
    let bytes = accept.shared.len() as u32;
    // The room of what it collapses is its own.
    let older = older(turn, accept, client)?;
    let (freed, freed_bytes) = older.as_ref().map_or((0, 0), |older| (1, older.reference.bytes));
    let row = turn.device(client)?;
    let bytes_after = row.waiting_bytes + u64::from(bytes);
    if row.waiting - freed >= MAILBOX_MESSAGES_MAX || bytes_after - u64::from(freed_bytes) > MAILBOX_BYTES_MAX
    {
        if !planted(Planted::DropsOldest) {
            return Ok(None);
        }
        drop_oldest(turn, client)?;
    }
    let reference = reference(accept, bytes, false);
    let row = turn.device(client)?;
    let position = Position::new(incarnation, row.next);
    row.next += 1;
    row.waiting += 1;
    row.waiting_bytes = bytes_after;
    if reference.high {
        row.high += 1;
    }
    turn.put(Space::Mailbox, keys::mailbox(client, position), reference.encode());
    if reference.high {
        turn.put(Space::Urgent, keys::high_in_mailbox(client, position), []);
    }
    collapse_mailbox(turn, accept, client, position, older, stats)?;
    Ok(Some(position))
}

/// The oldest of a mailbox goes without a word (a planted fault).
fn drop_oldest(turn: &mut Turn<'_>, client: ClientId) -> Result<(), Fault> {
    let incarnation = turn.engine.incarnation;
    let row = turn.device(client)?;
    let (mut position, last) = (row.floor.next(), row.last(incarnation));
    while position <= last {
        if let Some(oldest) = settle::reference(turn, client, position)? {
            return settle::remove_reference(turn, client, position, &oldest);
        }
        position = position.next();
    }
    Ok(())
}

fn reference(accept: &Accept, bytes: u32, filtered: bool) -> Reference {
    let topic = accept.kind == Kind::Topic;
    let (message, deadline) = (accept.message, accept.deadline);
    let high = accept.priority == Priority::High;
    Reference { message, deadline, bytes, state: State::Waiting, topic, filtered, high }
}

/// Puts the message into its app's log and the indexes that those read whom it is for.
fn append(turn: &mut Turn<'_>, accept: &Accept, filter: &Filter) -> Result<Position, Fault> {
    append_entry(turn, accept.app, reference(accept, accept.shared.len() as u32, false), filter)
}

/// Puts an entry into a log and its indexes; whether its filter decides is said here.
pub(crate) fn append_entry(
    turn: &mut Turn<'_>,
    app: AppId,
    entry: Reference,
    filter: &Filter,
) -> Result<Position, Fault> {
    // A store that was restored has a younger incarnation than its logs.
    let position = turn.head(app)?.max(Position::new(turn.engine.incarnation, 0)).next();
    turn.set_head(app, position);
    turn.put(Space::Log, keys::log(app, position), filters::encode(filter));
    let indexes = Indexes::of(filter);
    let entry = Reference { filtered: indexes.filtered, ..entry };
    if entry.high {
        turn.put(Space::Urgent, keys::high_in_log(app, position), []);
        turn.put(Space::Urgent, keys::last_high_in_log(app), position.0.to_be_bytes());
    }
    for tag in indexes.names() {
        turn.put(Space::Index, keys::index(app, tag.as_bytes(), position), entry.encode());
        turn.memory.tails.push(app, tag, position, indexes.filtered);
    }
    Ok(position)
}

/// The indexes that a log message is in: those of the tags that cover its condition, or the one that every device reads.
pub(crate) struct Indexes {
    cover: Option<BTreeSet<Tag>>,
    /// Not everybody who reads them is meant.
    pub(crate) filtered: bool,
}

impl Indexes {
    pub(crate) fn of(filter: &Filter) -> Indexes {
        Indexes { cover: filter.condition.cover(), filtered: !filter.is_its_cover() }
    }

    /// Their names; the empty one is for every device.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let for_all = self.cover.is_none().then_some("");
        self.cover.iter().flatten().map(Tag::as_str).chain(for_all)
    }
}
