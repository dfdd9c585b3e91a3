//! Conversations of MQTT clients (`docs/mqtt-core.md`).
//!
//! - `login`: CONNECT, and its answer.
//! - `inbound`: packets of clients that are logged in.
//! - `publish`: what a client publishes, to whom it goes.
//! - `feedback`: what a client says of its pushes.
//! - `deliver`: messages to the subscribers of this shard.
//! - `stored`: messages out of the store, and pushes.
//! - `subscribe`: SUBSCRIBE and UNSUBSCRIBE.
//! - `answers`: what the hub says about topics.

mod answers;
mod deliver;
mod feedback;
mod inbound;
mod login;
mod publish;
mod stored;
mod subscribe;

pub(super) use deliver::Listener;
pub(super) use login::CONNECT;
pub(super) use subscribe::Wanted;

use super::Shard;
use crate::delivery::border::topics::{From, TopicEvent, Will};
use crate::delivery::border::{Event, Handle};
use crate::domain::topic::Act;
use crate::gate::connection::Connection;
use crate::gate::stats::TopicDrop;
use longwire_proto::wire::mqtt::Limits;
use std::sync::atomic::Ordering::Relaxed;

impl Shard {
    /// What a client may send in one packet.
    fn packet_limits(&self) -> Limits {
        let packet_bytes_max = u32::try_from(self.options.frame_body_bytes_max).unwrap_or(u32::MAX);
        Limits { packet_bytes_max, ..Limits::default() }
    }

    /// The session of a slot, as the hub knows it.
    pub(super) fn from(&mut self, slot: u32) -> Option<From> {
        let handle = self.handle(slot);
        let connection = self.slab.at(slot)?;
        let app = connection.app;
        let (client, _) = connection.deliveries()?;
        Some(From { handle, client, app })
    }

    /// A connection has gone: its subscriptions end, what a shared group gave it is given back. Returns the will that is to be
    /// published.
    pub(super) fn leave_topics(
        &mut self,
        slot: u32,
        handle: Handle,
        connection: &mut Connection,
    ) -> Option<Box<Will>> {
        let app = connection.app;
        let (client, _) = connection.deliveries()?;
        let from = From { handle, client, app };
        for number in connection.mqtt().iter().flat_map(|live| live.session.unstored()) {
            if number != 0 {
                self.tell_topic(from, TopicEvent::Shared { number, acked: false });
            }
        }
        let topical = connection.topical()?;
        let queued = topical.burden.iter().flat_map(|burden| burden.queue.numbers());
        for number in queued.filter(|number| *number != 0) {
            self.tell_topic(from, TopicEvent::Shared { number, acked: false });
        }
        self.unsubscribe_all(slot, app, topical);
        self.fanout.slot_left(slot);
        let live = connection.mqtt()?;
        self.stats.own().topics.sessions.fetch_sub(1, Relaxed);
        let will = live.will.take()?;
        if !live.topical.may(Act::Publish, will.shared.topic()) {
            self.drop_topic(TopicDrop::NotAllowed, 1);
            return None;
        }
        Some(Box::new(will.due(app, from.client, (self.wall)())))
    }

    pub(super) fn tell_topic(&mut self, from: From, event: TopicEvent) {
        self.outlet.tell(Event::Topic(from, Box::new(event)));
    }
}
