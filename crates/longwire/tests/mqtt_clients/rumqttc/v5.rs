//! rumqttc's face for 5.0.

use super::{Door, KEEP_ALIVE, KEPT_S, Message, Peer, Wish, client_id, transport};
use crate::support::{PATIENCE, until};
use ::rumqttc::Outgoing;
use ::rumqttc::v5::mqttbytes::v5::{LastWill, LastWillProperties, Packet};
use ::rumqttc::v5::mqttbytes::{QoS, qos};
use ::rumqttc::v5::{Client, Connection, Event, MqttOptions};
use std::collections::VecDeque;
use std::time::Duration;

pub(super) struct V5 {
    client: Client,
    connection: Connection,
    session_present: bool,
    arrived: VecDeque<Message>,
}

impl V5 {
    /// Goes on until `wanted`; messages that come meanwhile wait.
    fn go_on(
        &mut self,
        patience: Duration,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<Option<Event>, String> {
        loop {
            let Ok(event) = self.connection.recv_timeout(patience) else { return Ok(None) };
            let event = event.map_err(|error| error.to_string())?;
            if let Event::Incoming(Packet::Publish(publish)) = &event {
                self.arrived.push_back(Message {
                    topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                    payload: String::from_utf8_lossy(&publish.payload).into_owned(),
                    qos: publish.qos as u8,
                    retain: publish.retain,
                });
            }
            if wanted(&event) {
                return Ok(Some(event));
            }
        }
    }

    #[track_caller]
    fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        self.go_on(PATIENCE, wanted).unwrap().expect("a packet in time")
    }
}

impl Peer for V5 {
    const VERSION: u8 = 5;

    fn open(door: &Door, name: &str, wish: Wish<'_>) -> Result<V5, String> {
        let mut options = MqttOptions::new(client_id(door, V5::VERSION, name), &door.host, door.port);
        options.set_keep_alive(KEEP_ALIVE).set_clean_start(!wish.keep).set_transport(transport(door));
        options.set_session_expiry_interval(Some(if wish.keep { KEPT_S } else { 0 }));
        if let Some(user) = &door.user {
            options.set_credentials(user, door.password.as_deref().unwrap_or_default());
        }
        if let Some(will) = wish.will {
            let properties = LastWillProperties {
                delay_interval: Some(will.delay_s),
                payload_format_indicator: None,
                message_expiry_interval: None,
                content_type: None,
                response_topic: None,
                correlation_data: None,
                user_properties: vec![],
            };
            let will = LastWill::new(will.topic, will.payload, QoS::AtLeastOnce, false, Some(properties));
            options.set_last_will(will);
        }
        let (client, connection) = Client::new(options, 10);
        let mut peer = V5 { client, connection, session_present: false, arrived: VecDeque::new() };
        let answer = peer.go_on(PATIENCE, |event| matches!(event, Event::Incoming(Packet::ConnAck(_))))?;
        let Some(Event::Incoming(Packet::ConnAck(answer))) = answer else {
            return Err("no answer".to_owned());
        };
        peer.session_present = answer.session_present;
        Ok(peer)
    }

    fn session_present(&self) -> bool {
        self.session_present
    }

    #[track_caller]
    fn subscribe(&mut self, filter: &str, wanted: u8) {
        self.client.subscribe(filter, qos(wanted).unwrap()).unwrap();
        self.until(|event| matches!(event, Event::Incoming(Packet::SubAck(_))));
    }

    #[track_caller]
    fn publish(&mut self, topic: &str, payload: &str, wanted: u8, retain: bool) {
        self.client.publish(topic, qos(wanted).unwrap(), retain, payload.to_owned()).unwrap();
        self.until(|event| match wanted {
            0 => matches!(event, Event::Outgoing(Outgoing::Publish(_))),
            1 => matches!(event, Event::Incoming(Packet::PubAck(_))),
            _ => matches!(event, Event::Incoming(Packet::PubComp(_))),
        });
    }

    fn message_within(&mut self, patience: Duration) -> Option<Message> {
        if self.arrived.is_empty() {
            self.go_on(patience, |event| matches!(event, Event::Incoming(Packet::Publish(_)))).unwrap();
        }
        self.arrived.pop_front()
    }

    #[track_caller]
    fn come_back(&mut self) {
        self.session_present = false;
        let is_back = until(PATIENCE, || {
            let Ok(Ok(event)) = self.connection.recv_timeout(PATIENCE) else { return false };
            let Event::Incoming(Packet::ConnAck(answer)) = event else { return false };
            self.session_present = answer.session_present;
            true
        });
        assert!(is_back);
    }

    #[track_caller]
    fn leave(mut self) {
        self.client.disconnect().unwrap();
        self.until(|event| matches!(event, Event::Outgoing(Outgoing::Disconnect)));
    }
}
