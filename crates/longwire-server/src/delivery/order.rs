//! Pushes that are accepted in the order in which they were given, though they are worked on side by side.

use tokio::sync::oneshot;

/// A place in a row of pushes: what is accepted there comes behind all that is accepted at the places before it.
#[derive(Debug, Default)]
pub struct Place {
    before: Option<oneshot::Receiver<()>>,
    behind: Option<oneshot::Sender<()>>,
}

impl Place {
    /// So many places in a row, the first one first.
    #[must_use]
    pub fn row(places: usize) -> Vec<Place> {
        let mut row = Vec::with_capacity(places);
        let mut before = None;
        for _ in 0..places {
            let (behind, next) = oneshot::channel();
            row.push(Place { before: before.replace(next), behind: Some(behind) });
        }
        row
    }

    /// Waits until all before have passed, or are gone.
    pub(super) async fn come(&mut self) {
        if let Some(before) = self.before.take() {
            // It is dropped by one that is gone.
            let _ = before.await;
        }
    }

    /// Lets the next one come.
    pub(super) fn pass(&mut self) {
        if let Some(behind) = self.behind.take() {
            let _ = behind.send(());
        }
    }

    /// The end, also of one that never came: those before it go before those behind it.
    pub async fn leave(mut self) {
        self.come().await;
        self.pass();
    }
}
