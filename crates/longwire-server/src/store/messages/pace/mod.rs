//! Schedules, and messages that are spread over time.
//!
//! - [`rows`]: keys and values.
//! - [`schedules`], [`spreads`]: what the writer does.
//! - [`read`]: what the readers answer.

pub(crate) mod read;
pub(crate) mod rows;
pub(crate) mod schedules;
pub(crate) mod spreads;

use super::write::writer::Operation;
use super::{MessageStore, Question};
use crate::domain::{AppId, MessageId, ScheduleId, WallMs};
use crate::store::pace::{Changed, DueAt, DuePage, Schedule, ScheduleChange, SchedulePage, Spreading};
use crate::store::port::{Accepted, StoreError};
use tokio::sync::oneshot;

impl MessageStore {
    /// Makes, changes or removes a schedule, durably.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn change_schedule(&self, change: ScheduleChange) -> Result<Changed, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Operation::Schedule(Box::new(change), reply)).await?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Unknown("the store stopped".to_owned())))
    }

    /// A schedule of this app, with its push.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn schedule(&self, app: AppId, id: ScheduleId) -> Result<Option<Schedule>, StoreError> {
        self.ask(|reply| Question::Schedule(app, id, reply)).await
    }

    /// Schedules of this app after one, at most `max` and about a mebibyte of pushes; without their runs.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn schedules(
        &self,
        app: AppId,
        after: Option<ScheduleId>,
        max: usize,
    ) -> Result<SchedulePage, StoreError> {
        self.ask(|reply| Question::Schedules(app, after, max, reply)).await
    }

    /// What is due up to `now` after a place in the calendar, at most `max`.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn due(&self, after: Option<DueAt>, now: WallMs, max: usize) -> Result<DuePage, StoreError> {
        self.ask(|reply| Question::Due(after, now, max, reply)).await
    }

    /// Changes where a spreading stands, durably: `after` is the next revision of what was read. False: that was stale, and
    /// nothing was done.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn change_spreading(&self, after: Spreading) -> Result<bool, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Operation::Spreading(Box::new(after), reply)).await?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Unknown("the store stopped".to_owned())))
    }

    /// Puts the next slice into the log, in the same commit as where the spreading stands after it; answered by the
    /// dispatcher.
    ///
    /// # Errors
    /// `Repeated`: what was read was stale, and nothing was done. Else see [`StoreError`].
    pub async fn append_slice(&self, after: Spreading) -> Result<Accepted, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Operation::Slice(Box::new(after), reply)).await?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Unknown("the store stopped".to_owned())))
    }

    /// A message's spreading, also when it is over.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn spreading(&self, message: MessageId) -> Result<Option<Spreading>, StoreError> {
        self.ask(|reply| Question::Spreading(message, reply)).await
    }

    /// All spreadings that are not over, of all apps, in the order of their messages, at most `max` after one.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn open_spreadings(
        &self,
        after: Option<MessageId>,
        max: usize,
    ) -> Result<Vec<Spreading>, StoreError> {
        self.ask(|reply| Question::Spreadings(after, max, reply)).await
    }
}
