//! An MQTT client of a fleet: a subscriber, a publisher, or one that only connects.
//!
//! - `publishing`: what those that publish send, and when.
//! - `conversation`: tests against a server's end of the protocol.

#[cfg(test)]
mod conversation;
mod publishing;

pub(super) use publishing::Publishing;

use longwire_proto::session::Millis;
use longwire_proto::session::mqtt_client::{FromServer, Login, MqttClient, NotSent, Publication, Tick, Wish};
use longwire_proto::wire::mqtt::{Options, Properties, QoS, Version};

use super::crew::Count;
use super::peer::Over;
use crate::clock;
use crate::latency::read_stamp;
use crate::order::{Clients, Play};

/// A client after its CONNECT.
#[derive(Debug)]
pub(super) struct MqttTalk {
    client: MqttClient,
    part: Part,
    /// When it began to connect, if its welcome counts as a message; else 0.
    begun_ns: u64,
}

#[derive(Debug)]
enum Part {
    Idle,
    /// What it subscribes to when it is welcomed.
    Subscriber(Box<str>, QoS),
    Publisher,
}

impl MqttTalk {
    /// The client of a number: CONNECT goes to `out`.
    pub(super) fn begin(
        clients: &Clients,
        number: usize,
        now: Millis,
        out: &mut Vec<u8>,
    ) -> Result<MqttTalk, Over> {
        let version = if clients.v5 { Version::V5 } else { Version::V311 };
        let device = clients.devices.get(number - clients.first);
        let client_id = if device.is_some() { String::new() } else { format!("{}-{number}", clients.prefix) };
        let password = device.map(|device| &device.token).or(clients.password.as_ref());
        let login = Login {
            user_name: clients.user.as_deref(),
            password: password.map(|password| password.as_bytes()),
            keep_alive_s: clients.keep_alive_s,
            in_flight_max: clients.in_flight_max,
            ..Login::clean(version, &client_id)
        };
        let client = MqttClient::begin(&login, now, out).map_err(|error| Over(error.to_string()))?;
        let part = match &clients.part {
            Play::Idle => Part::Idle,
            Play::Publisher => Part::Publisher,
            Play::Subscriber { topic, each, qos } => {
                let topic = if *each { format!("{topic}/{number}") } else { topic.clone() };
                Part::Subscriber(topic.into(), QoS::from_bits(*qos).unwrap_or(QoS::AtMostOnce))
            }
        };
        let begun_ns = if clients.count_welcomes { clock::now_ns() } else { 0 };
        Ok(MqttTalk { client, part, begun_ns })
    }

    pub(super) fn is_publisher(&self) -> bool {
        matches!(self.part, Part::Publisher)
    }

    /// Takes what came; true when the client is now where it is to be: welcomed, and subscribed if it subscribes.
    pub(super) fn receive(
        &mut self,
        mut input: &[u8],
        now: Millis,
        unsent: &mut Vec<u8>,
        count: &mut Count,
    ) -> Result<bool, Over> {
        let read_ns = clock::now_ns();
        let (mut live, mut welcomed) = (false, false);
        while let Some(from) = self
            .client
            .receive(&mut input, unsent)
            .map_err(|broken| Over(format!("the server broke the protocol: {broken}")))?
        {
            match from {
                FromServer::Welcome(_) => welcomed = true,
                FromServer::Refused(reason) | FromServer::Closed(reason) => {
                    return Err(Over(format!("refused or closed: {}", reason.name())));
                }
                FromServer::Message { publish, repeated } => {
                    count.message(publish.payload.len() as u64, read_stamp(publish.payload), read_ns);
                    count.repeated += u64::from(repeated);
                }
                FromServer::Published { reason, .. } if reason.is_error() => {
                    return Err(Over(format!("a message was refused: {}", reason.name())));
                }
                FromServer::Subscribed { reasons, .. } => {
                    if let Some(reason) = reasons.iter().find(|reason| reason.is_error()) {
                        return Err(Over(format!("the subscription was refused: {}", reason.name())));
                    }
                    live = true;
                }
                _ => {}
            }
        }
        self.client.rest();
        if welcomed {
            if self.begun_ns > 0 {
                count.message(0, Some(self.begun_ns), read_ns);
            }
            live = self.welcomed(now, unsent)?;
        }
        Ok(live)
    }

    /// Subscribes, if that is its part; true when nothing more is to be awaited.
    fn welcomed(&mut self, now: Millis, unsent: &mut Vec<u8>) -> Result<bool, Over> {
        let Part::Subscriber(topic, qos) = &self.part else { return Ok(true) };
        let wish = Wish { filter: topic, options: Options::plain(*qos) };
        self.client.subscribe(&[wish], now, unsent).map_err(|error| Over(error.to_string()))?;
        // The name is not needed again, and a big fleet has many.
        self.part = Part::Idle;
        Ok(false)
    }

    /// Publishes; false when its window is full.
    pub(super) fn publish(
        &mut self,
        (topic, content, qos): (&str, &[u8], QoS),
        now: Millis,
        unsent: &mut Vec<u8>,
    ) -> Result<bool, Over> {
        let publication =
            Publication { topic, qos, retain: false, properties: Properties::default(), content };
        match self.client.publish(&publication, now, unsent) {
            Ok(_) => Ok(true),
            Err(NotSent::WindowFull) => Ok(false),
            Err(error) => Err(Over(error.to_string())),
        }
    }

    /// Its clock: PINGREQ when due.
    pub(super) fn tick(&mut self, now: Millis, unsent: &mut Vec<u8>) -> Result<(), Over> {
        match self.client.tick(now, unsent) {
            Tick::Go => Ok(()),
            Tick::Lost => Err(Over("the server does not answer".into())),
        }
    }
}
