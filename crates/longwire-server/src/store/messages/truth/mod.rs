//! What became of deliveries, one by one, and who came and went: stories, receipts, presence.
//!
//! - [`rows`]: keys and values.
//! - [`stories`]: the story of an ended delivery, what devices say of it, and what is told on.
//! - [`streams`]: events in order, with a bound, and the cursors of those who read them.
//! - [`presence`]: epochs of devices.
//! - [`read`]: pages and explanations.
//! - [`heads`]: who waits for a stream is woken.

pub(super) mod heads;
pub(super) mod presence;
pub(super) mod read;
pub(super) mod rows;
pub(super) mod stories;
pub(super) mod streams;

pub use heads::Heads;

use super::MessageStore;
use super::engine::Fault;
use super::read::reader::Question;
use super::stats::StoreStats;
use super::write::turn::Turn;
use super::write::writer::Operation;
use crate::domain::{AppId, ClientId, DeviceName, MessageId, Position, WallMs};
use crate::store::port::StoreError;
use crate::store::truth::{
    Explained, Feedback, PresenceEvent, PresenceNote, Receipt, Stream, StreamPage, StreamRequest,
    StreamStanding, StreamTerms, TargetsPage, TargetsRequest,
};
use std::sync::Arc;
use tokio::sync::oneshot;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What is asked of the writer.
pub(crate) enum Work {
    /// Nobody waits for it.
    Feedback(Vec<Feedback>),
    Presence(Vec<PresenceNote>),
    Terms {
        app: AppId,
        terms: StreamTerms,
        begins: bool,
    },
    Cursor {
        app: AppId,
        stream: Stream,
        reader: Box<str>,
        cursor: Option<Position>,
    },
}

/// What is asked of the readers.
pub(crate) enum Ask {
    Explain(AppId, MessageId, DeviceName, Reply<Option<Explained>>),
    Targets(TargetsRequest, Reply<Option<TargetsPage>>),
    Receipts(StreamRequest, Reply<Option<StreamPage<Receipt>>>),
    Presence(StreamRequest, Reply<Option<StreamPage<PresenceEvent>>>),
    Standing(AppId, Stream, Box<str>, Reply<StreamStanding>),
    Stale(AppId, Option<ClientId>, usize, Reply<StalePage>),
}

/// Devices whose sessions ended without a word, and where to go on.
pub(crate) type StalePage = (Vec<ClientId>, Option<ClientId>);

/// Adds a piece of work to the turn.
pub(crate) fn apply(turn: &mut Turn<'_>, work: Work, stats: &StoreStats) -> Result<(), Fault> {
    match work {
        Work::Feedback(words) => {
            for word in words {
                stories::said(turn, word, stats)?;
            }
        }
        Work::Presence(notes) => {
            for note in &notes {
                presence::note(turn, note, stats)?;
            }
        }
        Work::Terms { app, terms, begins } => streams::set_terms(turn, app, terms, begins)?,
        Work::Cursor { app, stream, reader, cursor } => {
            streams::set_cursor(turn, app, stream, &reader, cursor);
        }
    }
    Ok(())
}

impl MessageStore {
    /// Those who wait for streams.
    #[must_use]
    pub fn heads(&self) -> Arc<Heads> {
        self.inner.heads.clone()
    }

    /// Notes what devices say of messages that they have, each word once; returns when that is queued.
    ///
    /// # Errors
    /// The store is closed or broken: nothing was queued.
    pub async fn feedback(&self, words: Vec<Feedback>) -> Result<(), StoreError> {
        self.inner.health.broken().map_or(Ok(()), Err)?;
        if words.is_empty() { Ok(()) } else { self.send(Operation::Truth(Work::Feedback(words), None)).await }
    }

    /// Notes who came and went, durably.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn presence(&self, notes: Vec<PresenceNote>) -> Result<(), StoreError> {
        self.work(Work::Presence(notes)).await
    }

    /// What an app's streams take from now on. `begins`: no session of its devices is left from before.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn set_stream_terms(
        &self,
        app: AppId,
        terms: StreamTerms,
        begins: bool,
    ) -> Result<(), StoreError> {
        self.work(Work::Terms { app, terms, begins }).await
    }

    /// Notes where a reader of a stream stands; `None`: it is gone.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn set_cursor(
        &self,
        app: AppId,
        stream: Stream,
        reader: &str,
        cursor: Option<Position>,
    ) -> Result<(), StoreError> {
        self.work(Work::Cursor { app, stream, reader: reader.into(), cursor }).await
    }

    /// All that is known of a message and a device of this app; `None` when one of them is not known.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn explain(
        &self,
        app: AppId,
        message: MessageId,
        name: DeviceName,
    ) -> Result<Option<Explained>, StoreError> {
        self.ask(|reply| Question::Truth(Ask::Explain(app, message, name, reply))).await
    }

    /// Devices of a message; `None` when it is not known.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn targets(&self, request: TargetsRequest) -> Result<Option<TargetsPage>, StoreError> {
        self.ask(|reply| Question::Truth(Ask::Targets(request, reply))).await
    }

    /// A page of receipts; `None` for a cursor that lies after all of them.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn receipts(&self, request: StreamRequest) -> Result<Option<StreamPage<Receipt>>, StoreError> {
        self.ask(|reply| Question::Truth(Ask::Receipts(request, reply))).await
    }

    /// A page of presence; `None` for a cursor that lies after all of it.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn presence_page(
        &self,
        request: StreamRequest,
    ) -> Result<Option<StreamPage<PresenceEvent>>, StoreError> {
        self.ask(|reply| Question::Truth(Ask::Presence(request, reply))).await
    }

    /// How a stream stands, and a reader of it.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn standing(
        &self,
        app: AppId,
        stream: Stream,
        reader: &str,
    ) -> Result<StreamStanding, StoreError> {
        self.ask(|reply| Question::Truth(Ask::Standing(app, stream, reader.into(), reply))).await
    }

    /// Ends the sessions that the stream of presence still holds for online from before, a page at a time; `None` when all
    /// were looked at, else where to go on.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn end_stale(
        &self,
        app: AppId,
        after: Option<ClientId>,
        at: WallMs,
    ) -> Result<Option<ClientId>, StoreError> {
        let (stale, next) =
            self.ask(|reply| Question::Truth(Ask::Stale(app, after, presence::STALE_PAGE, reply))).await?;
        if !stale.is_empty() {
            let presence = || crate::store::truth::Presence::Stale;
            let note = |client| PresenceNote { app, client, at, presence: presence() };
            self.presence(stale.into_iter().map(note).collect()).await?;
        }
        Ok(next)
    }

    async fn work(&self, work: Work) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Operation::Truth(work, Some(reply))).await?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Unknown("the store stopped".to_owned())))
    }
}
