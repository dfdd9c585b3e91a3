//! Sessions that outlive their connections, with what belongs to them, and retained messages.
//!
//! - [`rows`]: how they are written.
//! - [`write`]: keeping, ending, remembering.
//! - [`read`]: at the start all of them, at a login one.

pub(super) mod read;
pub(super) mod rows;
pub(super) mod write;

use super::MessageStore;
use super::read::reader::Question;
use super::write::writer::Operation;
use crate::domain::{AppId, ClientId};
use crate::store::port::{Settle, StoreError};
use crate::store::sessions::{Change, Done, KeptSession, Retained, SessionView, Work};
use tokio::sync::oneshot;

impl MessageStore {
    /// Makes all of it durable in one commit and in this order. One outcome for each, in order; messages are answered by
    /// the dispatcher, as with [`MessageStore::accept`].
    pub async fn together(&self, work: Vec<Work>) -> Vec<Result<Done, StoreError>> {
        let (mut queued, mut answers) = (Vec::with_capacity(work.len()), Vec::with_capacity(work.len()));
        for work in work {
            match work {
                Work::Accept(accept) => {
                    let (reply, answer) = oneshot::channel();
                    queued.push(Queued::Accept(accept, reply));
                    answers.push(Waiting::Accepted(answer));
                }
                Work::Change(change) => {
                    let (reply, answer) = oneshot::channel();
                    queued.push(Queued::Change(change, reply));
                    answers.push(Waiting::Changed(answer));
                }
            }
        }
        // A store that is closed drops the replies, which says so below.
        let sent = self.send(Operation::Together(queued)).await;
        let mut outcomes = Vec::with_capacity(answers.len());
        for answer in answers {
            let gone = || match &sent {
                Err(error) => error.clone(),
                Ok(()) => StoreError::Unknown("the store stopped".to_owned()),
            };
            outcomes.push(match answer {
                Waiting::Accepted(answer) => answer.await.map_err(|_| gone()).flatten().map(Done::Accepted),
                Waiting::Changed(answer) => {
                    answer.await.map_err(|_| gone()).flatten().map(|()| Done::Changed)
                }
            });
        }
        outcomes
    }

    /// Makes changes durable in this order.
    ///
    /// # Errors
    /// See [`StoreError`]; only `Unknown` leaves open whether they were stored.
    pub async fn change(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let outcomes = self.together(changes.into_iter().map(Work::Change).collect()).await;
        outcomes.into_iter().try_for_each(|outcome| outcome.map(|_| ()))
    }

    /// Ends a kept session: its subscriptions and identifiers go, references of topic messages in its mailbox are dropped
    /// and counted, other pushes stay. Nothing happens if there is none but that such references go.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn end_session(&self, client: ClientId) -> Result<(), StoreError> {
        self.change(vec![Change::End(client)]).await
    }

    /// Records ends; returns when they are durable.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn settle_durably(&self, ends: Vec<Settle>) -> Result<(), StoreError> {
        self.change(ends.into_iter().map(Change::Settle).collect()).await
    }

    /// A device's kept session; `None` if it has none.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn session(&self, client: ClientId) -> Result<Option<SessionView>, StoreError> {
        self.ask(|reply| Question::Session(client, reply)).await
    }

    /// At most `max` kept sessions after a device, in the order of their numbers; for the start.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn sessions_after(
        &self,
        after: Option<ClientId>,
        max: usize,
    ) -> Result<Vec<KeptSession>, StoreError> {
        self.ask(|reply| Question::Sessions(after, max, reply)).await
    }

    /// At most `max` retained messages after one of them, by app and topic; for the start.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn retained_after(
        &self,
        after: Option<(AppId, Box<str>)>,
        max: usize,
    ) -> Result<Vec<Retained>, StoreError> {
        self.ask(|reply| Question::Retained(after, max, reply)).await
    }
}

/// Work in the writer's queue.
pub(super) enum Queued {
    Accept(crate::store::port::Accept, oneshot::Sender<Result<crate::store::port::Accepted, StoreError>>),
    Change(Change, oneshot::Sender<Result<(), StoreError>>),
}

enum Waiting {
    Accepted(oneshot::Receiver<Result<crate::store::port::Accepted, StoreError>>),
    Changed(oneshot::Receiver<Result<(), StoreError>>),
}
