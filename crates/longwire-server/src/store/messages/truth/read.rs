//! Pages of streams, and what is known of one delivery.

use super::rows::{self, DeviceState, PresenceRow, ReceiptRow, StreamRow};
use super::streams::space;
use super::{Ask, StalePage};
use crate::domain::{AppId, ClientId, DeviceName, DropReason, MessageId, MessageRecord, Position, WallMs};
use crate::store::messages::engine::{Engine, Fault};
use crate::store::messages::layout::rows::{Reference, State, decode_client, decode_counts, decode_record};
use crate::store::messages::layout::space::Space;
use crate::store::messages::layout::{filters, keys};
use crate::store::messages::read::lookup::{get, profile, row, standing};
use crate::store::messages::read::reader::give;
use crate::store::messages::write::accept::Indexes;
use crate::store::truth::{
    Explained, InMailbox, PresenceEvent, Receipt, Stream, StreamPage, StreamRequest, StreamStanding,
    TargetRow, TargetsPage, TargetsRequest, Told,
};
use fjall::{Readable, Snapshot};
use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;

/// Answers a question.
pub(crate) fn answer(engine: &Engine, now: WallMs, ask: Ask) {
    match ask {
        Ask::Explain(app, message, name, reply) => {
            give(reply, || explain(engine, now, (app, message), &name))
        }
        Ask::Targets(request, reply) => give(reply, || targets(engine, &request)),
        Ask::Receipts(request, reply) => give(reply, || receipts(engine, &request)),
        Ask::Presence(request, reply) => give(reply, || presence(engine, &request)),
        Ask::Standing(app, stream, reader, reply) => {
            give(reply, || standing_of(engine, app, stream, &reader))
        }
        Ask::Stale(app, after, max, reply) => give(reply, || stale(engine, app, after, max)),
    }
}

fn stream_row(engine: &Engine, snapshot: &Snapshot, app: AppId, stream: Stream) -> Result<StreamRow, Fault> {
    let row = row(engine, snapshot, Space::Streams, &rows::stream(app, stream), StreamRow::decode)?;
    Ok(row.unwrap_or_else(|| StreamRow::new(engine.incarnation)))
}

fn standing_of(engine: &Engine, app: AppId, stream: Stream, reader: &str) -> Result<StreamStanding, Fault> {
    let snapshot = engine.database.snapshot();
    let StreamRow { last, gone, events, dropped, .. } = stream_row(engine, &snapshot, app, stream)?;
    let key = rows::cursor(app, stream, reader);
    let cursor = row(engine, &snapshot, Space::Streams, &key, decode_client)?;
    let cursor = cursor.map(|number| Position(number.0));
    Ok(StreamStanding { last, gone, events, dropped, cursor })
}

/// Names of devices, each looked up once a page.
#[derive(Default)]
struct Names(HashMap<ClientId, Option<DeviceName>>);

impl Names {
    fn of(
        &mut self,
        engine: &Engine,
        snapshot: &Snapshot,
        client: ClientId,
    ) -> Result<Option<DeviceName>, Fault> {
        if let Some(known) = self.0.get(&client) {
            return Ok(known.clone());
        }
        let name = profile(engine, snapshot, client)?.map(|device| device.name);
        self.0.insert(client, name.clone());
        Ok(name)
    }
}

/// A page of a stream; `None`: the request's place lies after the last.
fn page<T>(
    engine: &Engine,
    stream: Stream,
    request: &StreamRequest,
    mut event: impl FnMut(&Snapshot, Position, &[u8]) -> Result<T, Fault>,
) -> Result<Option<StreamPage<T>>, Fault> {
    let snapshot = engine.database.snapshot();
    let standing = stream_row(engine, &snapshot, request.app, stream)?;
    let after = request.after.unwrap_or(standing.gone);
    if after > standing.last {
        return Ok(None);
    }
    // From another incarnation only that something is lost is known.
    let lost = match after < standing.gone {
        false => 0,
        true if after.incarnation() == standing.gone.incarnation() => {
            standing.gone.sequence() - after.sequence()
        }
        true => standing.dropped.max(1),
    };
    let after = after.max(standing.gone);
    let mut page = StreamPage { events: Vec::new(), next: after, lost, more: false };
    let range = (
        Bound::Excluded(keys::log(request.app, after)),
        Bound::Included(keys::log(request.app, standing.last)),
    );
    for entry in snapshot.range(engine.spaces.of(space(stream)), range) {
        if page.events.len() >= usize::from(request.max) {
            page.more = true;
            break;
        }
        let (key, value) = entry.into_inner()?;
        let position = keys::last_position(&key).ok_or_else(|| Fault::damaged(space(stream)))?;
        page.events.push(event(&snapshot, position, &value)?);
        page.next = position;
    }
    Ok(Some(page))
}

fn receipts(engine: &Engine, request: &StreamRequest) -> Result<Option<StreamPage<Receipt>>, Fault> {
    let mut names = Names::default();
    page(engine, Stream::Receipts, request, |snapshot, position, value| {
        let row = ReceiptRow::decode(value).ok_or_else(|| Fault::damaged(Space::Receipts))?;
        let device = names.of(engine, snapshot, row.client)?;
        let ReceiptRow { at, message, told, trace, label, .. } = row;
        Ok(Receipt { position, message, device, told, at, trace, label: label.into() })
    })
}

fn presence(engine: &Engine, request: &StreamRequest) -> Result<Option<StreamPage<PresenceEvent>>, Fault> {
    let mut names = Names::default();
    page(engine, Stream::Presence, request, |snapshot, position, value| {
        let row = PresenceRow::decode(value).ok_or_else(|| Fault::damaged(Space::Presence))?;
        let device = names.of(engine, snapshot, row.client)?;
        let PresenceRow { at, state, epoch, reason, .. } = row;
        Ok(PresenceEvent { position, device, state, epoch, reason: reason.into(), at })
    })
}

/// Devices that are noted as online since before the app's stream began anew.
fn stale(engine: &Engine, app: AppId, after: Option<ClientId>, max: usize) -> Result<StalePage, Fault> {
    let snapshot = engine.database.snapshot();
    let era = stream_row(engine, &snapshot, app, Stream::Presence)?.era;
    let from = after.map_or(Bound::Included(rows::device(app, ClientId(0))), |client| {
        Bound::Excluded(rows::device(app, client))
    });
    let range = (from, Bound::Included(rows::device(app, ClientId(u64::MAX))));
    let mut found = Vec::new();
    for (looked, entry) in snapshot.range(engine.spaces.of(Space::Streams), range).enumerate() {
        let (key, value) = entry.into_inner()?;
        let client = rows::last_client(&key).ok_or_else(|| Fault::damaged(Space::Streams))?;
        let state = DeviceState::decode(&value).ok_or_else(|| Fault::damaged(Space::Streams))?;
        if state.online && state.era != era {
            found.push(client);
        }
        if looked + 1 >= max {
            return Ok((found, Some(client)));
        }
    }
    Ok((found, None))
}

fn record_of(
    engine: &Engine,
    snapshot: &Snapshot,
    app: AppId,
    message: MessageId,
) -> Result<Option<MessageRecord>, Fault> {
    let record = row(engine, snapshot, Space::Messages, &keys::message(message), decode_record)?;
    Ok(record.filter(|record| record.app == app))
}

fn told_of(state: State) -> Option<Told> {
    match state {
        State::Waiting => None,
        State::Released => Some(Told::Delivered),
        State::Expired => Some(Told::Expired),
        State::Collapsed => Some(Told::Collapsed),
        State::Recalled => Some(Told::Recalled),
        // The marker has no reason; this is the only one that leaves a marker.
        State::Dropped => Some(Told::Dropped(DropReason::Frequency)),
    }
}

fn reference(
    engine: &Engine,
    snapshot: &Snapshot,
    client: ClientId,
    position: Position,
    message: MessageId,
) -> Result<Option<Reference>, Fault> {
    let key = keys::mailbox(client, position);
    let row = row(engine, snapshot, Space::Mailbox, &key, Reference::decode)?;
    Ok(row.filter(|row| row.message == message))
}

fn explain(
    engine: &Engine,
    now: WallMs,
    (app, message): (AppId, MessageId),
    name: &DeviceName,
) -> Result<Option<Explained>, Fault> {
    let snapshot = engine.database.snapshot();
    let Some(record) = record_of(engine, &snapshot, app, message)? else { return Ok(None) };
    let key = keys::name(app, name.as_str());
    let Some(client) = row(engine, &snapshot, Space::Names, &key, decode_client)? else { return Ok(None) };
    let Some(device) = profile(engine, &snapshot, client)? else { return Ok(None) };
    let counts = row(engine, &snapshot, Space::Counts, &keys::message(message), decode_counts)?;
    let key = rows::story(message, client);
    let story = row(engine, &snapshot, Space::Stories, &key, rows::decode_story)?;
    let target = record.targets.iter().find(|target| target.client == client);
    let target = target.map(|target| target.position);
    let mailbox = match target {
        Some(position) => in_mailbox(engine, &snapshot, now, (client, position), message)?,
        None => None,
    };
    let mut explained = Explained {
        record: Arc::new(record),
        counts: counts.unwrap_or_default(),
        device,
        story,
        target,
        mailbox,
        filter: None,
        marked: None,
        passed: false,
        presence: None,
    };
    if explained.record.log_position != Position::START {
        in_log(engine, &snapshot, &mut explained)?;
    }
    if stream_row(engine, &snapshot, app, Stream::Presence)?.on {
        let key = rows::device(app, client);
        let state = row(engine, &snapshot, Space::Streams, &key, DeviceState::decode)?;
        explained.presence = state.map(|state| (state.online, state.at));
    }
    Ok(Some(explained))
}

/// What stands in a mailbox, and how many wait before it.
fn in_mailbox(
    engine: &Engine,
    snapshot: &Snapshot,
    now: WallMs,
    (client, position): (ClientId, Position),
    message: MessageId,
) -> Result<Option<InMailbox>, Fault> {
    let Some(reference) = reference(engine, snapshot, client, position, message)? else { return Ok(None) };
    let told = told_of(reference.state);
    let mut ahead = 0;
    if told.is_none() {
        let floor = standing(engine, snapshot, client)?.floor;
        // A mailbox holds at most so many waiting messages and markers as its bounds say.
        let before = keys::mailbox(client, floor.next())..keys::mailbox(client, position);
        for entry in snapshot.range(engine.spaces.of(Space::Mailbox), before) {
            let (_, value) = entry.into_inner()?;
            let row = Reference::decode(&value).ok_or_else(|| Fault::damaged(Space::Mailbox))?;
            ahead += u32::from(row.state == State::Waiting && row.deadline > now);
        }
    }
    Ok(Some(InMailbox { told, ahead }))
}

fn in_log(engine: &Engine, snapshot: &Snapshot, explained: &mut Explained) -> Result<(), Fault> {
    let (app, position) = (explained.record.app, explained.record.log_position);
    let standing = standing(engine, snapshot, explained.device.client)?;
    explained.passed = standing.cursor.is_some_and(|cursor| position <= cursor)
        || standing.beyond.binary_search(&position).is_ok();
    let Some(row) = get(engine, snapshot, Space::Log, &keys::log(app, position))? else { return Ok(()) };
    let filter = filters::decode(&row).ok_or_else(|| Fault::damaged(Space::Log))?;
    let indexes = Indexes::of(&filter);
    if let Some(tag) = indexes.names().next() {
        let key = keys::index(app, tag.as_bytes(), position);
        if let Some(entry) = get(engine, snapshot, Space::Index, &key)? {
            let entry = Reference::decode(&entry).ok_or_else(|| Fault::damaged(Space::Index))?;
            explained.marked = told_of(entry.state);
        }
    }
    explained.filter = Some(Arc::new(filter));
    Ok(())
}

/// Devices of a message: all that it addressed, or those of a log message that have a story.
fn targets(engine: &Engine, request: &TargetsRequest) -> Result<Option<TargetsPage>, Fault> {
    let snapshot = engine.database.snapshot();
    let message = request.message;
    let Some(record) = record_of(engine, &snapshot, request.app, message)? else { return Ok(None) };
    let (mut found, mut next) = (Vec::new(), None);
    let max = usize::from(request.max);
    if record.log_position == Position::START {
        let mut targets = record.targets.clone();
        targets.sort_by_key(|target| target.client);
        let rest =
            targets.into_iter().filter(|target| request.after.is_none_or(|after| target.client > after));
        for target in rest {
            if found.len() >= max {
                next = found.last().map(|row: &TargetRow| row.client);
                break;
            }
            let client = target.client;
            let key = rows::story(message, client);
            let story = row(engine, &snapshot, Space::Stories, &key, rows::decode_story)?;
            let reference = reference(engine, &snapshot, client, target.position, message)?;
            let told = story.map(|story| story.told);
            let told = told.or_else(|| reference.and_then(|reference| told_of(reference.state)));
            // Neither story nor place: it has ended, and nothing says how.
            let name = profile(engine, &snapshot, client)?.map(|device| device.name);
            found.push(TargetRow { client, name, story, told, waits: reference.is_some() && told.is_none() });
        }
    } else {
        let from = request.after.map_or(Bound::Included(rows::story(message, ClientId(0))), |client| {
            Bound::Excluded(rows::story(message, client))
        });
        let range = (from, Bound::Included(rows::story(message, ClientId(u64::MAX))));
        for entry in snapshot.range(engine.spaces.of(Space::Stories), range) {
            if found.len() >= max {
                next = found.last().map(|row: &TargetRow| row.client);
                break;
            }
            let (key, value) = entry.into_inner()?;
            let damaged = || Fault::damaged(Space::Stories);
            let client = rows::last_client(&key).ok_or_else(damaged)?;
            let story = rows::decode_story(&value).ok_or_else(damaged)?;
            let name = profile(engine, &snapshot, client)?.map(|device| device.name);
            found.push(TargetRow { client, name, story: Some(story), told: Some(story.told), waits: false });
        }
    }
    Ok(Some(TargetsPage { record: Arc::new(record), rows: found, next }))
}
