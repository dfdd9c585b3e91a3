//! What devices sent, for the business that takes it.

use super::hub::{Hub, UpstreamPage, UpstreamWaiting};
use crate::domain::{App, Position};
use crate::store::port::StoreError;
use crate::store::upstream::UpstreamRequest;

impl Hub {
    /// What devices sent to this app's business; `None` for a cursor that lies after all of it.
    ///
    /// # Errors
    /// The store's.
    pub async fn upstream(
        &self,
        app: &App,
        after: Option<Position>,
        messages_max: u16,
        bytes_max: u32,
    ) -> Result<Option<UpstreamPage>, StoreError> {
        let request = UpstreamRequest { app: app.id, after, messages_max, bytes_max };
        self.core.store.upstream_page(request).await
    }

    /// The business has everything up to `cursor`, which may go; what is left. `None` for a cursor that lies after all.
    ///
    /// # Errors
    /// The store's.
    pub async fn take_upstream(
        &self,
        app: &App,
        cursor: Position,
    ) -> Result<Option<UpstreamWaiting>, StoreError> {
        self.core.store.take_upstream(app.id, cursor).await
    }
}
