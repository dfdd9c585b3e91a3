//! The books of apps, for whoever asks.

use super::hub::{BooksReport, Hub};
use crate::domain::{App, Counts};
use crate::store::port::StoreError;
use std::sync::Arc;

impl Hub {
    /// An app's books: its running totals, and log deliveries in live windows, which are not created yet.
    ///
    /// # Errors
    /// The store's.
    pub async fn books(&self, app: &App) -> Result<(Counts, u64), StoreError> {
        let moving = self.core.live.in_flight();
        let messages = moving.iter().map(|(message, _)| *message).collect();
        let apps = self.core.store.apps_of(messages).await?;
        let own = moving.iter().zip(apps).filter(|(_, of)| *of == Some((app.id, true)));
        let in_flight = own.map(|((_, count), _)| count).sum();
        Ok((self.core.store.books(app.id).await?, in_flight))
    }

    /// What the last check of the books found.
    #[must_use]
    pub fn books_report(&self) -> Arc<BooksReport> {
        self.core.store.books_report()
    }
}
