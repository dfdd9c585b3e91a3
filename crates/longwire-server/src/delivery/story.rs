//! What became of a message: the stored counts, and what only the hub knows.

use super::hub::{Core, Hub};
use super::memory::live::OnlineOnly;
use crate::domain::message::Report;
use crate::domain::{App, Counts, DropReason, Dropped, MessageId, MessageRecord, Position, Priority};
use crate::store::port::{MessageView, StoreError};
use std::sync::Arc;

/// A message and what became of it: the stored counts, plus what is in live windows.
#[derive(Clone, Debug)]
pub struct MessageStory {
    /// What the store has.
    pub view: MessageView,
    /// Times that it was given to a socket, repeats included, since this process started.
    pub sent: u64,
    /// Sent and not yet acked by connections that live.
    pub in_flight: u64,
    /// Online-only deliveries dropped because an outbox was full.
    pub dropped_now: u64,
    /// Online-only: never stored, counts are kept in memory only.
    pub online_only: bool,
}

impl Hub {
    /// What became of a message. In what is returned, created is what ended and what is pending.
    ///
    /// # Errors
    /// The store's.
    pub async fn message(&self, app: &App, message: MessageId) -> Result<Option<MessageStory>, StoreError> {
        self.core.message(app, message).await
    }
}

impl Core {
    /// See [`Hub::message`].
    pub(super) async fn message(
        &self,
        app: &App,
        message: MessageId,
    ) -> Result<Option<MessageStory>, StoreError> {
        let live = self.live.of(message);
        if let Some(kept) = &live.online_only {
            return Ok((kept.app == app.id).then(|| online_only_story(kept, live.sent, live.dropped)));
        }
        let Some(mut view) = self.store.message(app.id, message).await? else { return Ok(None) };
        let in_flight = live.in_flight.max(0) as u64;
        if view.record.log_position != Position::START {
            // A log delivery is stored together with its end; until then it exists in a window only.
            view.counts.created += in_flight;
        }
        Ok(Some(MessageStory { view, sent: live.sent, in_flight, dropped_now: 0, online_only: false }))
    }
}

fn online_only_story(kept: &OnlineOnly, sent: u64, dropped: u64) -> MessageStory {
    let record = MessageRecord {
        app: kept.app,
        kind: kept.kind,
        trace: kept.trace,
        accepted_at: kept.accepted_at,
        deadline: kept.accepted_at,
        log_position: Position::START,
        targets: Vec::new(),
        priority: Priority::Normal,
        collapse_key: Arc::from(""),
        replaces: None,
        refused: 0,
        recalled: None,
        report: Report::default(),
    };
    // What was sent has no end that anybody could know of, so only what was dropped is a delivery in the books.
    let counts = Counts {
        created: dropped,
        dropped: Dropped::of(DropReason::OutboxFull, dropped),
        ..Counts::default()
    };
    let view = MessageView { record: Arc::new(record), counts, spreading: None };
    MessageStory { view, sent, in_flight: 0, dropped_now: dropped, online_only: true }
}
