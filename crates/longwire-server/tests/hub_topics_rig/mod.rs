//! A hub rig that speaks of topics.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use crate::hub_rig::Rig;
use bytes::Bytes;
use longwire_proto::close::CloseReason;
use longwire_proto::id::{ClientId, Position, Source};
use longwire_proto::wire::mqtt::SharedPublish;
use longwire_server::delivery::border::topics::{
    From, PublishOutcome, RetainedCopy, SubscribeOutcome, TopicCommand, TopicEvent, TopicMessage, TopicWish,
};
use longwire_server::delivery::border::{Closed, Command, Event, Handle};
use longwire_server::delivery::hub::{Registered, SessionStart, SessionWish, UpstreamItem};
use longwire_server::domain::WallMs;
use longwire_server::store::port::{PageEntry, PageRequest};
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

pub struct TopicRig {
    rig: Rig,
    kept: parking_lot::Mutex<HashMap<ClientId, bool>>,
    devices: parking_lot::Mutex<HashMap<String, Registered>>,
}

/// A device with a connection.
#[derive(Clone, Copy)]
pub struct Client {
    pub handle: Handle,
    pub client: ClientId,
    pub shard: u8,
}

impl Deref for TopicRig {
    type Target = Rig;
    fn deref(&self) -> &Rig {
        &self.rig
    }
}

impl TopicRig {
    pub async fn new(shards: usize) -> TopicRig {
        TopicRig { rig: Rig::new(shards).await, kept: Default::default(), devices: Default::default() }
    }

    pub async fn restarted(self) -> TopicRig {
        TopicRig { rig: self.rig.restarted().await, ..self }
    }

    /// Connects a device to the first shard.
    pub async fn connect(&self, name: &str, expiry_s: u32) -> Client {
        self.connect_to(0, name, expiry_s).await
    }

    pub async fn connect_to(&self, shard: u8, name: &str, expiry_s: u32) -> Client {
        let device = self.device(name).await;
        let (handle, _) = self.login(shard, &device).await;
        self.begin(name, false, expiry_s).await;
        self.kept.lock().insert(device.client, expiry_s > 0);
        Client { handle, client: device.client, shard }
    }

    /// A device, registered once.
    async fn device(&self, name: &str) -> Registered {
        if let Some(device) = self.devices.lock().get(name) {
            return device.clone();
        }
        let device = self.register(name, None, &[]).await;
        self.devices.lock().insert(name.to_owned(), device.clone());
        device
    }

    /// Begins a session, without a connection.
    pub async fn begin(&self, name: &str, clean_start: bool, expiry_s: u32) -> SessionStart {
        let client = self.device(name).await.client;
        let view = self.store.logins(vec![client]).await.unwrap().remove(0).unwrap();
        let heads = [view.mailbox_head, view.log_head];
        let (app, from) = (self.app.id, self.handle(0));
        let wish = SessionWish { client, app, clean_start, expiry_s, will: None, from, heads };
        self.hub.begin_session(wish).await.unwrap()
    }

    pub async fn close(&self, client: &Client) {
        self.close_having_sent(client, [Position::START; 2]).await;
    }

    /// Ends a connection that has sent mailbox and log up to there.
    pub async fn close_having_sent(&self, client: &Client, sent: [Position; 2]) {
        let closed = Closed {
            from: client.handle,
            client: Some(client.client),
            app: self.app.id,
            reason: CloseReason::PeerLost,
            sent,
            unacked: vec![],
            shared: false,
            lived_s: 1,
            will: None,
        };
        self.tell(client.shard, Event::Closed(Box::new(closed))).await;
        // The next event of the shard is taken after it.
        let leaving = async || self.hub.device(&self.app, self.name(client).await).await.unwrap().unwrap().1;
        crate::hub_rig::until(async || leaving().await == 0).await;
    }

    async fn name(&self, client: &Client) -> longwire_server::domain::DeviceName {
        let view = self.store.logins(vec![client.client]).await.unwrap().remove(0).unwrap();
        view.device.name
    }

    pub async fn ask(&self, client: &Client, event: TopicEvent) {
        let from = From { handle: client.handle, client: client.client, app: self.app.id };
        self.tell(client.shard, Event::Topic(from, Box::new(event))).await;
    }

    pub async fn subscribe(&self, client: &Client, filters: &[(&str, u8)]) -> Vec<SubscribeOutcome> {
        let wishes = filters.iter().map(|(filter, qos)| (wish(filter, *qos), 2)).collect();
        let is_kept = self.kept.lock().get(&client.client).copied().unwrap_or(false);
        self.ask(client, TopicEvent::Subscribe { packet_id: 77, wishes, is_kept }).await;
        self.answered(client, 77).await
    }

    pub async fn unsubscribe(&self, client: &Client, filters: &[&str]) -> Vec<SubscribeOutcome> {
        let filters = filters.iter().map(|filter| Box::from(*filter)).collect();
        let is_kept = self.kept.lock().get(&client.client).copied().unwrap_or(false);
        self.ask(client, TopicEvent::Unsubscribe { packet_id: 78, filters, is_kept }).await;
        match self.shards.next(client.shard).await {
            Command::Topic(TopicCommand::Answered { packet_id: 78, subscribed: false, outcomes, .. }) => {
                outcomes
            }
            other => panic!("{other:?}"),
        }
    }

    pub async fn answered(&self, client: &Client, id: u16) -> Vec<SubscribeOutcome> {
        self.answered_with(client, id).await.0
    }

    /// What a subscription was answered, and what is retained for it.
    pub async fn answered_with(
        &self,
        client: &Client,
        id: u16,
    ) -> (Vec<SubscribeOutcome>, Vec<RetainedCopy>) {
        match self.shards.next(client.shard).await {
            Command::Topic(TopicCommand::Answered {
                to,
                packet_id,
                subscribed: true,
                outcomes,
                retained,
            }) => {
                assert_eq!((to, packet_id), (client.handle, id));
                (outcomes, retained)
            }
            other => panic!("not an answer: {other:?}"),
        }
    }

    pub async fn tell_publish(
        &self,
        client: &Client,
        message: TopicMessage,
        packet_id: Option<u16>,
        remembers: bool,
    ) {
        let message = Arc::new(message);
        self.ask(client, TopicEvent::Publish { message, packet_id, remembers }).await;
    }

    /// What a publish was answered; nothing else may come to this shard before it.
    pub async fn published(&self, client: &Client, id: u16) -> PublishOutcome {
        match self.shards.next(client.shard).await {
            Command::Topic(TopicCommand::Published { to, packet_id, outcome }) => {
                assert_eq!((to, packet_id), (client.handle, id));
                outcome
            }
            other => panic!("not an answer: {other:?}"),
        }
    }

    pub async fn publish(&self, client: &Client, message: TopicMessage) -> PublishOutcome {
        self.tell_publish(client, message, Some(66), false).await;
        self.published(client, 66).await
    }

    pub async fn mailbox(&self, client: ClientId) -> Vec<PageEntry> {
        let request = PageRequest {
            client,
            app: self.app.id,
            source: Source::Mailbox,
            after: Position::START,
            messages_max: 1000,
            bytes_max: u32::MAX,
            ahead_max: 0,
            ahead: Box::default(),
            now: WallMs(self.now.load(SeqCst)),
        };
        self.store.page(request).await.unwrap().entries
    }

    pub async fn upstream(&self) -> Vec<UpstreamItem> {
        self.hub.upstream(&self.app, None, 1000, 1 << 20).await.unwrap().unwrap().items
    }
}

pub fn wish(filter: &str, qos: u8) -> TopicWish {
    TopicWish { filter: filter.into(), qos, no_local: false, retain_as_published: false, identifier: 0 }
}

pub fn content(rig: &TopicRig, from: &Client, topic: &str, qos: u8, content: &[u8]) -> TopicMessage {
    let shared = SharedPublish::stored(topic, &[], content).unwrap().map(Bytes::from);
    TopicMessage::new(rig.app.id, from.client, shared, (qos, false), WallMs(0))
}

pub fn message(rig: &TopicRig, from: &Client, topic: &str, qos: u8) -> TopicMessage {
    content(rig, from, topic, qos, b"hello")
}

pub fn retained(rig: &TopicRig, from: &Client, topic: &str, bytes: &[u8]) -> TopicMessage {
    let TopicMessage { app, shared, publisher, .. } = content(rig, from, topic, 1, bytes);
    TopicMessage::new(app, publisher, shared, (1, true), WallMs(0))
}
