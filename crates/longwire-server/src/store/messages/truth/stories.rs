//! The story of an ended delivery, what devices say of it, and what is told on. In the batch of the end.

use super::rows::{self, ReceiptRow};
use super::streams;
use crate::domain::{AppId, ClientId, Kind, MessageId, ReceiptMode, TraceId, WallMs};
use crate::store::messages::engine::Fault;
use crate::store::messages::layout::keys;
use crate::store::messages::layout::rows::decode_record;
use crate::store::messages::layout::space::Space;
use crate::store::messages::stats::{StoreStats, add};
use crate::store::messages::write::turn::Turn;
use crate::store::truth::{Feedback, Story, Stream, Told};
use longwire_proto::wire::AckKind;
use std::collections::HashMap;
use std::sync::Arc;

/// Messages of which the writer remembers what is to be told, about 100 bytes each; all are forgotten when there are more.
const MESSAGES_CACHED_MAX: usize = 16_384;

/// What the writer keeps between batches.
#[derive(Default)]
pub(crate) struct Memory {
    /// The time of this batch.
    pub(crate) now: WallMs,
    /// How long stories are kept after a message's deadline, milliseconds; 0 = there are none.
    pub(crate) story_ms: u64,
    /// What apps' streams take: receipts, and the era of presence.
    pub(crate) terms: HashMap<AppId, (ReceiptMode, Option<u64>)>,
    /// Streams that have grown since the last commit.
    pub(crate) risen: HashMap<(AppId, Stream), crate::domain::Position>,
    /// No stream is compared with the time that it is kept before this, milliseconds.
    pub(crate) look_at: u64,
    told: HashMap<MessageId, Arc<ToTell>>,
    /// Up to where the stories of a message are gone, while it is long work.
    going: Option<(MessageId, ClientId)>,
}

/// What is to be told of a message.
struct ToTell {
    kind: Kind,
    trace: TraceId,
    deadline: WallMs,
    callback: bool,
    label: Arc<str>,
}

fn to_tell(turn: &mut Turn<'_>, message: MessageId) -> Result<Option<Arc<ToTell>>, Fault> {
    if let Some(known) = turn.memory.truth.told.get(&message) {
        return Ok(Some(known.clone()));
    }
    let Some(row) = turn.get(Space::Messages, &keys::message(message))? else { return Ok(None) };
    let record = decode_record(&row).ok_or_else(|| Fault::damaged(Space::Messages))?;
    let known = Arc::new(ToTell {
        kind: record.kind,
        trace: record.trace,
        deadline: record.deadline,
        callback: record.report.callback,
        label: record.report.label,
    });
    let told = &mut turn.memory.truth.told;
    if told.len() >= MESSAGES_CACHED_MAX {
        told.clear();
    }
    told.insert(message, known.clone());
    Ok(Some(known))
}

fn story(turn: &Turn<'_>, message: MessageId, client: ClientId) -> Result<Option<Story>, Fault> {
    match turn.get(Space::Stories, &rows::story(message, client))? {
        Some(row) => rows::decode_story(&row).map(Some).ok_or_else(|| Fault::damaged(Space::Stories)),
        None => Ok(None),
    }
}

/// A delivery has ended. What was published to a topic has no story: nobody could ask for it.
pub(crate) fn ended(
    turn: &mut Turn<'_>,
    (app, client, message): (AppId, ClientId, MessageId),
    told: Told,
    sent: WallMs,
    stats: &StoreStats,
) -> Result<(), Fault> {
    let (mode, _) = streams::terms(turn, app)?;
    let (now, story_ms) = (turn.memory.truth.now, turn.memory.truth.story_ms);
    let Some(about) = to_tell(turn, message)? else { return Ok(()) };
    if about.kind == Kind::Topic {
        return Ok(());
    }
    // A later end, of a hole that a device notes long afterwards, would be a story that nothing takes away.
    if story_ms > 0 && now.0 < about.deadline.0.saturating_add(story_ms) {
        let unsaid = WallMs(0);
        let story = Story { sent, ended: now, told, displayed: unsaid, clicked: unsaid, dismissed: unsaid };
        turn.put(Space::Stories, rows::story(message, client), rows::encode_story(&story));
    }
    if about.callback || mode != ReceiptMode::Off {
        tell(turn, (app, client, message), told, &about, stats)?;
    }
    Ok(())
}

fn tell(
    turn: &mut Turn<'_>,
    (app, client, message): (AppId, ClientId, MessageId),
    told: Told,
    about: &ToTell,
    stats: &StoreStats,
) -> Result<(), Fault> {
    let at = turn.memory.truth.now;
    let receipt = ReceiptRow { at, message, client, told, trace: about.trace, label: &about.label };
    streams::append(turn, app, Stream::Receipts, receipt.encode(), stats)
}

/// A device says something of a message: counted once per device and word, if the device has the message.
pub(crate) fn said(turn: &mut Turn<'_>, word: Feedback, stats: &StoreStats) -> Result<(), Fault> {
    let Feedback { client, app, message, kind } = word;
    let now = turn.memory.truth.now;
    let known = story(turn, message, client)?.filter(|story| story.told == Told::Delivered);
    let about = to_tell(turn, message)?;
    let (Some(mut story), Some(about)) = (known, about) else {
        add(&stats.feedback_ignored, 1);
        return Ok(());
    };
    let Some(counts) = turn.counts(message)? else { return Ok(()) };
    let (told, at, count) = match kind {
        AckKind::Displayed => (Told::Displayed, &mut story.displayed, &mut counts.displayed),
        AckKind::Clicked => (Told::Clicked, &mut story.clicked, &mut counts.clicked),
        AckKind::Dismissed => (Told::Dismissed, &mut story.dismissed, &mut counts.dismissed),
        AckKind::Received => return Ok(()),
    };
    if at.0 != 0 {
        add(&stats.feedback_repeated, 1);
        return Ok(());
    }
    *at = now;
    *count += 1;
    turn.put(Space::Stories, rows::story(message, client), rows::encode_story(&story));
    let (mode, _) = streams::terms(turn, app)?;
    if about.callback || mode == ReceiptMode::All {
        tell(turn, (app, client, message), told, &about, stats)?;
    }
    Ok(())
}

/// Takes away a message's stories, at most `budget` of them. True: there are more.
pub(crate) fn forget(turn: &mut Turn<'_>, message: MessageId, budget: usize) -> Result<bool, Fault> {
    // Without it each turn would step over all that those before it took away.
    let from = match turn.memory.truth.going {
        Some((going, client)) if going == message => client,
        _ => ClientId(0),
    };
    let range = rows::story(message, from)..=rows::story(message, ClientId(u64::MAX));
    let mut last = None;
    for (count, entry) in turn.engine.spaces.of(Space::Stories).range(range).enumerate() {
        if count >= budget {
            turn.memory.truth.going = last.map(|client| (message, client));
            return Ok(true);
        }
        let key = entry.key()?;
        last = rows::last_client(&key);
        turn.remove(Space::Stories, key.to_vec());
    }
    turn.memory.truth.going = None;
    turn.memory.truth.told.remove(&message);
    Ok(false)
}

/// Whether a message has stories.
pub(crate) fn any(turn: &Turn<'_>, message: MessageId) -> Result<bool, Fault> {
    let mut entries = turn.engine.spaces.of(Space::Stories).prefix(keys::message(message));
    Ok(entries.next().map(|entry| entry.key()).transpose()?.is_some())
}
