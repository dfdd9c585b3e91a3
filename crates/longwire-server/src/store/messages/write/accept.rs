//! Accepting a message.

use super::turn::Turn;
use crate::domain::{ClientId, Counts, Kind, MessageRecord, Position, Tag, Target};
use crate::store::messages::engine::Fault;
use crate::store::messages::layout::keys::{self, Stage};
use crate::store::messages::layout::rows::{self, Reference, State};
use crate::store::messages::layout::space::Space;
use crate::store::messages::sessions::write as sessions;
use crate::store::port::{
    Accept, Accepted, Destination, MAILBOX_BYTES_MAX, MAILBOX_MESSAGES_MAX, StoreError,
};
use std::sync::Arc;

/// Adds a message to the turn. The inner error is the caller's: nothing of the message is in the turn then.
pub(crate) fn accept(turn: &mut Turn<'_>, accept: Accept) -> Result<Result<Accepted, StoreError>, Fault> {
    if let Some((client, packet_id)) = accept.received
        && sessions::is_received(turn, client, packet_id)?
    {
        return Ok(Err(StoreError::Repeated));
    }
    let mut record = MessageRecord {
        app: accept.app,
        kind: accept.kind,
        trace: accept.trace,
        accepted_at: accept.accepted_at,
        deadline: accept.deadline,
        log_position: Position::START,
        targets: Vec::new(),
    };
    let mut refused = Vec::new();
    let mut tags: Arc<[Tag]> = Arc::new([]);
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
            tags = wanted.as_slice().into();
            record.log_position = append(turn, &accept, wanted)?;
        }
    }
    if let Some((client, packet_id)) = accept.received {
        sessions::receive(turn, client, packet_id);
    }
    let key = keys::message(accept.message);
    turn.put(Space::Messages, key, rows::encode_record(&record));
    turn.put(Space::Bodies, key, accept.shared.as_ref());
    turn.set_counts(accept.message, Counts { created: record.targets.len() as u64, ..Counts::default() });
    turn.schedule(accept.deadline.0, Stage::Expire, accept.message);
    Ok(Ok(Accepted {
        message: accept.message,
        record: Arc::new(record),
        tags,
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
    let reference = reference(accept, bytes);
    turn.put(Space::Mailbox, keys::mailbox(client, position), reference.encode());
    Ok(Some(position))
}

fn reference(accept: &Accept, bytes: u32) -> Reference {
    let topic = accept.kind == Kind::Topic;
    Reference { message: accept.message, deadline: accept.deadline, bytes, state: State::Waiting, topic }
}

/// Puts the message into its app's log and the indexes of its tags.
fn append(turn: &mut Turn<'_>, accept: &Accept, tags: &[Tag]) -> Result<Position, Fault> {
    // A store that was restored has a younger incarnation than its logs.
    let position = turn.head(accept.app)?.max(Position::new(turn.engine.incarnation, 0)).next();
    turn.set_head(accept.app, position);
    turn.put(Space::Log, keys::log(accept.app, position), rows::encode_tags(tags));
    let bytes = accept.shared.len() as u32;
    let entry = reference(accept, bytes);
    for tag in index_tags(tags) {
        turn.put(Space::Index, keys::index(accept.app, tag.as_bytes(), position), entry.encode());
        turn.memory.tails.push(accept.app, tag, position);
    }
    Ok(position)
}

/// The indexes that a log message is in: its tags', or the one for all devices.
pub(crate) fn index_tags(tags: &[Tag]) -> impl Iterator<Item = &str> {
    let for_all = tags.is_empty().then_some("");
    tags.iter().map(Tag::as_str).chain(for_all)
}
