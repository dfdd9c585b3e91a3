//! A recall: the shards first, then the store, then the answer.

use super::border::{Command, ShardId};
use super::hub::{Core, PushError};
use crate::domain::message::TTL_S_MAX;
use crate::domain::{App, ClientId, Kind, MessageId, Position, Recalled, TraceId, WallMs};
use crate::store::port::{MessageView, Recall};
use bytes::Bytes;
use longwire_proto::wire::PushShared;
use std::time::Duration;
use tokio::sync::mpsc;

/// A shard that has not taken the word after this is not waited for: it stands still, and sends nothing.
const SHARDS_WAIT: Duration = Duration::from_secs(2);

impl Core {
    /// See [`super::hub::Hub::recall`].
    pub(super) async fn recall(
        &self,
        app: &App,
        message: MessageId,
        trace: TraceId,
    ) -> Result<Option<Recalled>, PushError> {
        let _under_way = self.under_way.read().await;
        if self.posts.stopping() {
            return Err(PushError::Draining);
        }
        if let Some(kept) = self.live.of(message).online_only {
            // It waits nowhere, and nobody knows who has it.
            let nothing = Recalled { now: 0, following: Some(0), refused: 0 };
            return Ok((kept.app == app.id).then_some(nothing));
        }
        let Some(view) = self.store.message(app.id, message).await? else { return Ok(None) };
        if view.record.recalled.is_some() {
            return Ok(view.record.recalled);
        }
        // Before the store: from here on it goes out to nobody, so who may have it is known.
        self.stop_sending(message).await;
        let at = (self.clock)();
        let follower = self.ids.next(at);
        let (windows, in_hand) = self.holders(app, message, &view, at);
        let mut shared = Vec::with_capacity(64);
        let payload = message.0.to_be_bytes();
        let (kind, replaces, collapse_key) = (Kind::Recall, None, "");
        PushShared { message: follower, kind, trace, replaces, collapse_key, payload: &payload }
            .encode(&mut shared);
        let recall = Recall {
            message,
            app: app.id,
            at,
            windows,
            in_hand,
            follower,
            // As long as any message may live: a device that is away learns of it when it returns.
            deadline: WallMs(at.0.saturating_add(u64::from(TTL_S_MAX) * 1000)),
            trace,
            shared: Bytes::from(shared),
        };
        let recalled = self.store.recall(recall).await?;
        tracing::debug!(%message, %trace, ?recalled, "message recalled");
        Ok(recalled)
    }

    /// Tells every shard and waits until each knows, so that nothing of it is sent any more.
    async fn stop_sending(&self, message: MessageId) {
        let (done, mut all) = mpsc::channel(1);
        for shard in 0..self.posts.shards() {
            let done = done.clone();
            self.posts.send(ShardId(shard as u8), Command::Recall { message, done }).await;
        }
        drop(done);
        // It ends, with nothing, when the last of them is dropped.
        if tokio::time::timeout(SHARDS_WAIT, all.recv()).await.is_err() {
            tracing::warn!(%message, "a shard has not heard of a recall in time");
        }
    }

    /// Devices that may have it in a live window, and whether any other may have it without an ack.
    fn holders(
        &self,
        app: &App,
        message: MessageId,
        view: &MessageView,
        now: WallMs,
    ) -> (Vec<ClientId>, bool) {
        let online = |client: &ClientId| self.sessions.is_online(*client);
        let windows = view.record.targets.iter().map(|target| target.client).filter(online).collect();
        let began = now.0.saturating_sub(self.now_ms());
        let unknown = view.record.accepted_at.0 <= began;
        let unacked = self.live.of(message).sent > view.counts.delivered;
        // What a broadcast under way has sent is told in steps.
        let in_log = view.record.log_position != Position::START;
        let somebody = in_log && self.sessions.census().0.get(&app.id).is_some_and(|online| *online > 0);
        (windows, unknown || unacked || somebody)
    }
}
