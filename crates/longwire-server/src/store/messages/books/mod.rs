//! The books: per app `created = delivered + expired + collapsed + recalled + dropped + pending`, kept in the batches that change
//! them, and compared with what lies in the mailboxes, again and again.
//!
//! - [`walk`]: one comparison, over one snapshot.
//! - [`checker`]: the thread that makes it.

pub(super) mod checker;
mod walk;

use super::MessageStore;
use super::read::reader::Question;
use crate::domain::{AppId, Counts, MessageId, WallMs};
use crate::store::port::StoreError;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct BooksReport {
    /// Checks that were finished since the store was opened; 0: this is none.
    pub checks: u64,
    /// Checks that failed, because a table could not be read.
    pub failed: u64,
    /// When the snapshot of this one was taken.
    pub checked_at: WallMs,
    /// Deliveries that are missing or too many, of all apps; 0 is right.
    pub gap: u64,
    /// By app, as many as there are.
    pub apps: BTreeMap<AppId, AppBook>,
}

/// The books of one app in a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AppBook {
    /// The running totals.
    pub totals: Counts,
    /// Deliveries without an end, counted in the mailboxes.
    pub pending: u64,
    /// Deliveries that are missing or too many; 0 is right.
    pub gap: u64,
}

impl MessageStore {
    /// An app's running totals.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn books(&self, app: AppId) -> Result<Counts, StoreError> {
        self.ask(|reply| Question::Books(app, reply)).await
    }

    /// The app of each message, and whether it is in the log; `None`: not known.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn apps_of(&self, messages: Vec<MessageId>) -> Result<Vec<Option<(AppId, bool)>>, StoreError> {
        self.ask(|reply| Question::AppsOf(messages, reply)).await
    }

    /// What the last check found.
    #[must_use]
    pub fn books_report(&self) -> Arc<BooksReport> {
        self.inner.books.report()
    }

    /// From now on the books are checked this long after the last check.
    pub fn check_books_every(&self, interval: Duration) {
        self.inner.books.every(interval);
    }

    /// Checks the books now; returns what was found.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn check_books(&self) -> Result<Arc<BooksReport>, StoreError> {
        let closed = || StoreError::Unavailable("the store is closed".to_owned());
        let (reply, found) = oneshot::channel();
        self.inner.books.now(reply).map_err(|()| closed())?;
        found.await.map_err(|_| closed())?
    }
}
