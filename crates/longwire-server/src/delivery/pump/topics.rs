//! What the sessions of one shard want of topics, in their order.

use super::super::border::Command;
use super::super::border::topics::{From, PublishOutcome, SubscribeOutcome, TopicCommand, TopicEvent};
use super::super::hub::Core;
use super::super::memory::senders::Senders;
use super::super::topics;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::mpsc;

/// Wants of one shard that may wait; beyond it the answer is `unavailable`.
pub(super) const WAITING_MAX: usize = 8192;
/// Wants served together. While they become durable, the next ones gather.
const TOGETHER: usize = 256;

/// Takes what comes; never waits.
pub(super) struct TopicDesk {
    core: Arc<Core>,
    /// How fast devices publish to the business.
    senders: Senders,
    asks: mpsc::Sender<(From, TopicEvent)>,
}

impl TopicDesk {
    pub(super) fn new(core: Arc<Core>, asks: mpsc::Sender<(From, TopicEvent)>) -> TopicDesk {
        TopicDesk { core, senders: Senders::default(), asks }
    }

    pub(super) fn take(&mut self, from: From, event: TopicEvent) {
        // Before the connection's end, which may be the next event.
        if let TopicEvent::Expiry { seconds } = event {
            self.core.session_expiry(from.client, seconds);
            return;
        }
        // Also before the end, which gives what is unacked to others. The want goes on, to give what waits the room.
        if let TopicEvent::Shared { number, acked } = event {
            self.core.shared_settled(number, acked);
        }
        if let TopicEvent::Publish { message, packet_id, .. } = &event
            && message.shared.topic().starts_with("$up/")
            && !self.senders.admit(from.client, (self.core.clock)())
        {
            self.core.topics.count(PublishOutcome::Quota);
            self.offer(from, packet_id.map(|packet_id| published(from, packet_id, PublishOutcome::Quota)));
            return;
        }
        if let Err(error) = self.asks.try_send((from, event)) {
            let (from, event) = error.into_inner();
            self.offer(from, refusal(from, &event));
        }
    }

    fn offer(&self, from: From, answer: Option<TopicCommand>) {
        let Some(answer) = answer else { return };
        if !self.core.posts.offer(from.handle.shard(), Command::Topic(answer)) {
            self.core.topics.stats.unanswered.fetch_add(1, Relaxed);
        }
    }
}

fn published(from: From, packet_id: u16, outcome: PublishOutcome) -> TopicCommand {
    TopicCommand::Published { to: from.handle, packet_id, outcome }
}

/// What is answered when there is no room to ask. What has no answer that says no is asked again by the client.
fn refusal(from: From, event: &TopicEvent) -> Option<TopicCommand> {
    let to = from.handle;
    let unavailable = |count| vec![SubscribeOutcome::Unavailable; count];
    match event {
        TopicEvent::Publish { packet_id, .. } => {
            packet_id.map(|packet_id| published(from, packet_id, PublishOutcome::Unavailable))
        }
        TopicEvent::Subscribe { packet_id, wishes, .. } => {
            let (packet_id, outcomes) = (*packet_id, unavailable(wishes.len()));
            Some(TopicCommand::Answered { to, packet_id, subscribed: true, outcomes, retained: vec![] })
        }
        TopicEvent::Unsubscribe { packet_id, filters, .. } => {
            let (packet_id, outcomes) = (*packet_id, unavailable(filters.len()));
            Some(TopicCommand::Answered { to, packet_id, subscribed: false, outcomes, retained: vec![] })
        }
        TopicEvent::Rights => Some(TopicCommand::Rights { to, rights: None }),
        _ => None,
    }
}

/// Runs until the pump has ended and every want is answered.
pub(super) async fn run(core: Arc<Core>, mut asked: mpsc::Receiver<(From, TopicEvent)>) {
    let mut batch = Vec::with_capacity(TOGETHER);
    while asked.recv_many(&mut batch, TOGETHER).await > 0 {
        topics::serve(&core, &mut batch).await;
    }
}
