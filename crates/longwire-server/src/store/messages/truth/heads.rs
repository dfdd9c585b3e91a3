//! The last places of streams, for those who wait for the next one.

use crate::domain::{AppId, Position};
use crate::store::truth::Stream;
use parking_lot::Mutex;
use std::collections::HashMap;
use tokio::sync::watch;

/// One place per app and stream that somebody has waited for.
#[derive(Debug, Default)]
pub struct Heads(Mutex<HashMap<(AppId, Stream), watch::Sender<Position>>>);

impl Heads {
    /// Changes when something is added to the stream and durable.
    #[must_use]
    pub fn watch(&self, app: AppId, stream: Stream) -> watch::Receiver<Position> {
        let mut heads = self.0.lock();
        heads.entry((app, stream)).or_insert_with(|| watch::Sender::new(Position::START)).subscribe()
    }

    pub(crate) fn rose(&self, risen: &mut HashMap<(AppId, Stream), Position>) {
        if risen.is_empty() {
            return;
        }
        let heads = self.0.lock();
        for (stream, head) in risen.drain() {
            if let Some(place) = heads.get(&stream) {
                place.send_replace(head);
            }
        }
    }
}
