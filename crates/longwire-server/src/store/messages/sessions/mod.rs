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
use crate::store::port::{Accept, Accepted, Claim, Settle, StoreError};
use crate::store::sessions::{Change, Done, KeptSession, Retained, SessionView, Work};
use crate::store::upstream::{Upstream, UpstreamOutcome};
use tokio::sync::oneshot;

impl MessageStore {
    /// Queues work that is made durable in one commit and in this order. When this returns, all that is queued later comes
    /// later.
    pub async fn queue(&self, work: Vec<Work>) -> Outcomes {
        let (mut queued, mut answers) = (Vec::with_capacity(work.len()), Vec::with_capacity(work.len()));
        for work in work {
            let (one, answer) = match work {
                Work::Accept(accept) => {
                    let (reply, answer) = oneshot::channel();
                    (Queued::Accept(accept, reply), Waiting::Accepted(answer))
                }
                Work::Change(change) => {
                    let (reply, answer) = oneshot::channel();
                    (Queued::Change(change, reply), Waiting::Changed(answer))
                }
                Work::Claim(claim) => {
                    let (reply, answer) = oneshot::channel();
                    (Queued::Claim(claim, reply), Waiting::Changed(answer))
                }
                Work::Upstream(message, received) => {
                    let (reply, answer) = oneshot::channel();
                    (Queued::Upstream(message, received, reply), Waiting::Upstream(answer))
                }
            };
            queued.push(one);
            answers.push(answer);
        }
        let sent = if queued.is_empty() { Ok(()) } else { self.send(Operation::Together(queued)).await };
        Outcomes { sent, answers }
    }

    /// Makes all of it durable in one commit and in this order. One outcome for each, in order; messages are answered by
    /// the dispatcher, as with [`MessageStore::accept`].
    pub async fn together(&self, work: Vec<Work>) -> Vec<Result<Done, StoreError>> {
        self.queue(work).await.outcomes().await
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
        Ok(self.sessions_of(vec![client]).await?.into_iter().next().flatten())
    }

    /// The kept sessions of devices, in their order; `None` for one that has none.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn sessions_of(&self, clients: Vec<ClientId>) -> Result<Vec<Option<SessionView>>, StoreError> {
        self.ask(|reply| Question::SessionsOf(clients, reply)).await
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

/// Work under way.
#[must_use]
pub struct Outcomes {
    sent: Result<(), StoreError>,
    answers: Vec<Waiting>,
}

impl Outcomes {
    /// Waits until it is durable. One outcome for each piece of work, in order.
    pub async fn outcomes(self) -> Vec<Result<Done, StoreError>> {
        let mut outcomes = Vec::with_capacity(self.answers.len());
        for answer in self.answers {
            // A store that is closed drops the replies.
            let gone =
                || self.sent.clone().err().unwrap_or(StoreError::Unknown("the store stopped".to_owned()));
            outcomes.push(match answer {
                Waiting::Accepted(answer) => answer.await.unwrap_or_else(|_| Err(gone())).map(Done::Accepted),
                Waiting::Changed(answer) => {
                    answer.await.unwrap_or_else(|_| Err(gone())).map(|()| Done::Changed)
                }
                Waiting::Upstream(answer) => answer.await.unwrap_or_else(|_| Err(gone())).map(Done::Upstream),
            });
        }
        outcomes
    }
}

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;
type Answer<T> = oneshot::Receiver<Result<T, StoreError>>;

/// Work in the writer's queue.
pub(super) enum Queued {
    Accept(Accept, Reply<Accepted>),
    Change(Change, Reply<()>),
    Claim(Claim, Reply<()>),
    Upstream(Upstream, Option<(ClientId, u16)>, Reply<UpstreamOutcome>),
}

enum Waiting {
    Accepted(Answer<Accepted>),
    Changed(Answer<()>),
    Upstream(Answer<UpstreamOutcome>),
}
