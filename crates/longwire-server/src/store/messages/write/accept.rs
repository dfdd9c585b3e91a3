//! Accepting a message.

use super::once;
use super::turn::Turn;
use crate::domain::{ClientId, Counts, Filter, Kind, MessageRecord, Position, Tag, Target};
use crate::store::messages::engine::Fault;
use crate::store::messages::layout::filters;
use crate::store::messages::layout::keys::{self, Stage};
use crate::store::messages::layout::rows::{self, Reference, State};
use crate::store::messages::layout::space::Space;
use crate::store::messages::sessions::write as sessions;
use crate::store::port::{
    Accept, Accepted, Destination, MAILBOX_BYTES_MAX, MAILBOX_MESSAGES_MAX, StoreError,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Adds a message to the turn. The inner error is the caller's: nothing of the message is in the turn then.
pub(crate) fn accept(turn: &mut Turn<'_>, accept: Accept) -> Result<Result<Accepted, StoreError>, Fault> {
    if let Some((client, packet_id)) = accept.received
        && sessions::is_received(turn, client, packet_id)?
    {
        return Ok(Err(StoreError::Repeated));
    }
    if let Some(keyed) = &accept.once
        && let Err(error) = once::judge(turn, accept.app, accept.accepted_at, keyed)?
    {
        return Ok(Err(error));
    }
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
    };
    let mut refused = Vec::new();
    let mut filter = Arc::default();
    match &accept.destination {
        Destination::Mailboxes(clients) => {
            for &client in clients {
                match refer(turn, &accept, client)? {
                    Some(position) => record.targets.push(Target { client, position }),
                    None => refused.push(client),
                }
            }
            if record.targets.is_empty() {
                return Ok(Err(StoreError::MailboxFull));
            }
        }
        Destination::Log(wanted) => {
            filter = wanted.clone();
            record.log_position = append(turn, &accept, wanted)?;
        }
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
    turn.put(Space::Bodies, key, accept.shared.as_ref());
    turn.set_counts(accept.message, Counts { created: record.targets.len() as u64, ..Counts::default() });
    turn.schedule(accept.deadline.0, Stage::Expire, accept.message);
    Ok(Ok(Accepted {
        message: accept.message,
        record: Arc::new(record),
        filter,
        shared: accept.shared,
        refused: refused.into(),
    }))
}

/// Puts a reference into a mailbox; `None` when it is full.
fn refer(turn: &mut Turn<'_>, accept: &Accept, client: ClientId) -> Result<Option<Position>, Fault> {
    let incarnation = turn.engine.incarnation;
    let bytes = accept.shared.len() as u32;
    let row = turn.device(client)?;
    let bytes_after = row.waiting_bytes + u64::from(bytes);
    if row.waiting >= MAILBOX_MESSAGES_MAX || bytes_after > MAILBOX_BYTES_MAX {
        return Ok(None);
    }
    let position = Position::new(incarnation, row.next);
    row.next += 1;
    row.waiting += 1;
    row.waiting_bytes = bytes_after;
    let reference = reference(accept, bytes, false);
    turn.put(Space::Mailbox, keys::mailbox(client, position), reference.encode());
    Ok(Some(position))
}

fn reference(accept: &Accept, bytes: u32, filtered: bool) -> Reference {
    let topic = accept.kind == Kind::Topic;
    let (message, deadline) = (accept.message, accept.deadline);
    Reference { message, deadline, bytes, state: State::Waiting, topic, filtered }
}

/// Puts the message into its app's log and the indexes that those read whom it is for.
fn append(turn: &mut Turn<'_>, accept: &Accept, filter: &Filter) -> Result<Position, Fault> {
    // A store that was restored has a younger incarnation than its logs.
    let position = turn.head(accept.app)?.max(Position::new(turn.engine.incarnation, 0)).next();
    turn.set_head(accept.app, position);
    turn.put(Space::Log, keys::log(accept.app, position), filters::encode(filter));
    let bytes = accept.shared.len() as u32;
    let indexes = Indexes::of(filter);
    let entry = reference(accept, bytes, indexes.filtered);
    for tag in indexes.names() {
        turn.put(Space::Index, keys::index(accept.app, tag.as_bytes(), position), entry.encode());
        turn.memory.tails.push(accept.app, tag, position, indexes.filtered);
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
