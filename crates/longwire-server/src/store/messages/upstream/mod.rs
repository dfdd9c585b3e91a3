//! What devices send to the business: kept until it is taken, or until retention ends.
//!
//! - [`rows`]: keys and values.
//! - [`write`]: storing, taking, and what time ends.
//! - [`read`]: pages for the business.

pub(super) mod read;
pub(super) mod rows;
pub(super) mod write;

use super::MessageStore;
use super::read::reader::Question;
use super::write::writer::Operation;
use crate::domain::{AppId, Position};
use crate::store::port::StoreError;
use crate::store::upstream::{Upstream, UpstreamOutcome, UpstreamPage, UpstreamRequest, UpstreamWaiting};
use tokio::sync::oneshot;

impl MessageStore {
    /// Makes messages of devices durable in this order (group commit), each once per device and id of its own among the
    /// last [`UPSTREAM_IDS_REMEMBERED`](crate::store::upstream::UPSTREAM_IDS_REMEMBERED). One outcome per message.
    ///
    /// # Errors
    /// See [`StoreError`]; only `Unknown` leaves open whether they were stored.
    pub async fn upstream(&self, messages: Vec<Upstream>) -> Result<Vec<UpstreamOutcome>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Operation::Upstream(messages, reply)).await?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Unknown("the store stopped".to_owned())))
    }

    /// What waits for the business of an app; `None` for a cursor that lies after all that was ever stored.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn upstream_page(&self, request: UpstreamRequest) -> Result<Option<UpstreamPage>, StoreError> {
        self.ask(|reply| Question::Upstream(request, reply)).await
    }

    /// The business has everything up to this place: it may go. Idempotent. `None` for a cursor that lies after all
    /// that was ever stored; nothing was taken then.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn take_upstream(
        &self,
        app: AppId,
        cursor: Position,
    ) -> Result<Option<UpstreamWaiting>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Operation::TakeUpstream(app, cursor, reply)).await?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Unknown("the store stopped".to_owned())))
    }
}
