//! What native devices may do with topics: asked once per connection, by those that have to do with topics.

use crate::delivery::border::Command;
use crate::delivery::border::topics::{From, TopicCommand, TopicEvent, TopicRights};
use crate::delivery::hub::Core;
use crate::domain::ClientId;

impl Core {
    /// Takes the questions out of a batch, and answers them with one read of the store. A device without a profile, or whose app is
    /// gone, is told nothing, like all if the store does not answer.
    pub(super) async fn tell_rights(&self, batch: &mut Vec<(From, TopicEvent)>) {
        let asking = |event: &TopicEvent| matches!(event, TopicEvent::Rights);
        let who: Vec<From> = batch.iter().filter(|(_, event)| asking(event)).map(|(from, _)| *from).collect();
        if who.is_empty() {
            return;
        }
        batch.retain(|(_, event)| !asking(event));
        let clients: Vec<ClientId> = who.iter().map(|from| from.client).collect();
        let views = match self.store.logins(clients).await {
            Ok(views) => views,
            Err(error) => {
                tracing::warn!(%error, devices = who.len(), "devices were not told what they may do with topics");
                Vec::new()
            }
        };
        let mut views = views.into_iter();
        let rules = self.topic_rules(&who.iter().map(|from| from.app).collect());
        for from in who {
            let rights = views.next().flatten().and_then(|view| {
                let name = view.device.name.as_str().into();
                Some(TopicRights { rules: rules.get(&from.app)?.clone(), name })
            });
            let answer = TopicCommand::Rights { to: from.handle, rights: rights.map(Box::new) };
            self.posts.send(from.handle.shard(), Command::Topic(answer)).await;
        }
    }
}
