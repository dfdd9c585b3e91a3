//! What the sessions of one shard want of topics, in their order.

use super::super::border::Command;
use super::super::border::topics::{From, PublishOutcome, SubscribeOutcome, TopicCommand, TopicEvent};
use super::super::hub::Core;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Wants of one shard that may wait; beyond it the answer is `unavailable`.
pub(super) const WAITING_MAX: usize = 8192;
/// Wants served together.
const TOGETHER: usize = 256;

/// Takes what comes; never waits.
pub(super) struct TopicDesk {
    asks: mpsc::Sender<(From, TopicEvent)>,
}

impl TopicDesk {
    pub(super) fn new(asks: mpsc::Sender<(From, TopicEvent)>) -> TopicDesk {
        TopicDesk { asks }
    }

    pub(super) fn take(&mut self, from: From, event: TopicEvent) {
        let _full = self.asks.try_send((from, event));
    }
}

/// Runs until the pump has ended and every want is answered.
pub(super) async fn run(core: Arc<Core>, mut asked: mpsc::Receiver<(From, TopicEvent)>) {
    let mut batch = Vec::with_capacity(TOGETHER);
    while asked.recv_many(&mut batch, TOGETHER).await > 0 {
        for (from, event) in batch.drain(..) {
            if let Some(answer) = serve(from, event) {
                core.posts.send(from.handle.shard(), Command::Topic(answer)).await;
            }
        }
    }
}

fn serve(from: From, event: TopicEvent) -> Option<TopicCommand> {
    let to = from.handle;
    Some(match event {
        TopicEvent::Publish { packet_id, .. } => {
            TopicCommand::Published { to, packet_id: packet_id?, outcome: PublishOutcome::Taken }
        }
        TopicEvent::Release { packet_id } => TopicCommand::Released { to, packet_id },
        TopicEvent::Subscribe { packet_id, wishes, .. } => {
            let outcomes = vec![SubscribeOutcome::Done; wishes.len()];
            TopicCommand::Answered { to, packet_id, subscribed: true, outcomes }
        }
        TopicEvent::Unsubscribe { packet_id, filters, .. } => {
            let outcomes = vec![SubscribeOutcome::Done; filters.len()];
            TopicCommand::Answered { to, packet_id, subscribed: false, outcomes }
        }
        TopicEvent::Received { source, position, .. } => TopicCommand::Recorded { to, source, position },
        TopicEvent::Shared { .. } | TopicEvent::Expiry { .. } => return None,
    })
}
