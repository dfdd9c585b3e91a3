//! One connection of an MQTT client.

use super::answers::{Rest, agreed};
use super::flight::{Flight, Stage, first_stage};
use super::{
    Broken, LIMITS, Login, NotSent, PACKET_BYTES_MAX, PONG_WAIT_MS, RECEIVE_MAX, Tick, Wish, is_refusal,
};
use crate::session::Millis;
use crate::session::mqtt::PacketAssembler;
use crate::wire::mqtt::{
    Connect, Decoder, Disconnect, FiltersBuf, Packet, Properties, PropertiesBuf, Property, Publish, QoS,
    Reason, ReasonList, Side, Subscribe, Unsubscribe, Version, encode, encoded_bytes,
};

/// One connection of a client, from CONNECT on. Small and without allocation at rest, so that a process can hold tens of
/// thousands.
#[derive(Debug)]
pub struct MqttClient {
    assembler: PacketAssembler,
    flight: Option<Box<Flight>>,
    version: Version,
    logged_in: bool,
    keep_alive_s: u16,
    in_flight_max: u16,
    /// The largest packet that the server takes, bytes.
    packet_bytes_max: u32,
    last_id: u16,
    /// The last PINGREQ has no answer.
    pinging: bool,
    /// When the last packet went out.
    spoke: Millis,
}

/// What CONNACK said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Welcome {
    /// The server had a session of this client.
    pub session_present: bool,
    /// Messages of QoS 1 and 2 that may be unfinished from now on.
    pub in_flight_max: u16,
    /// Seconds between packets that are kept; 0 = none.
    pub keep_alive_s: u16,
}

/// What the server said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant, reason = "lives on the stack for one turn")]
pub enum FromServer<'a> {
    /// Logged in.
    Welcome(Welcome),
    /// Login refused; the connection is over.
    Refused(Reason),
    /// A message; its answer is in the output.
    Message {
        /// The message.
        publish: Publish<'a>,
        /// QoS 2: it came before and was not released yet.
        repeated: bool,
    },
    /// A message of ours is finished: PUBACK, PUBCOMP, or a PUBREC that refuses it.
    Published {
        /// Its identifier.
        packet_id: u16,
        /// What became of it.
        reason: Reason,
    },
    /// SUBACK: one code for each filter.
    Subscribed {
        /// The identifier of the SUBSCRIBE.
        packet_id: u16,
        /// The codes.
        reasons: ReasonList<'a>,
    },
    /// UNSUBACK; in 3.1.1 without codes.
    Unsubscribed {
        /// The identifier of the UNSUBSCRIBE.
        packet_id: u16,
        /// The codes.
        reasons: ReasonList<'a>,
    },
    /// PINGRESP.
    Pong,
    /// An ack for which nothing is under way.
    Stray,
    /// Nobody else needs to see it.
    Answered,
    /// DISCONNECT (5.0); the connection is over.
    Closed(Reason),
}

/// A message to the server.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// Topic name.
    pub topic: &'a str,
    /// QoS.
    pub qos: QoS,
    /// Keep it for later subscribers.
    pub retain: bool,
    /// Properties (5.0).
    pub properties: Properties<'a>,
    /// The application's bytes.
    pub content: &'a [u8],
}

impl MqttClient {
    /// Begins: CONNECT goes to `out`.
    ///
    /// # Errors
    /// [`NotSent::TooLarge`]: a text of the login is longer than 65,535 bytes.
    pub fn begin(login: &Login<'_>, now: Millis, out: &mut Vec<u8>) -> Result<MqttClient, NotSent> {
        let mut properties = PropertiesBuf::default();
        if login.version == Version::V5 {
            if login.session_expiry_s > 0 {
                properties.push(Property::SessionExpiry(login.session_expiry_s));
            }
            properties.push(Property::ReceiveMaximum(RECEIVE_MAX));
            properties.push(Property::MaximumPacketSize(PACKET_BYTES_MAX));
        }
        let connect = Connect {
            version: login.version,
            clean_start: login.clean_start,
            keep_alive_s: login.keep_alive_s,
            client_id: login.client_id,
            will: None,
            user_name: login.user_name,
            password: login.password,
            properties: properties.as_properties(),
        };
        encode(&Packet::Connect(connect), login.version, out).map_err(|_| NotSent::TooLarge)?;
        Ok(MqttClient {
            assembler: PacketAssembler::default(),
            flight: None,
            version: login.version,
            logged_in: false,
            keep_alive_s: login.keep_alive_s,
            in_flight_max: login.in_flight_max.max(1),
            packet_bytes_max: u32::MAX,
            last_id: 0,
            pinging: false,
            spoke: now,
        })
    }

    /// Takes one packet off the front of `input`; `None` when it is used up. Answers go to `out`.
    ///
    /// # Errors
    /// The server broke the protocol.
    pub fn receive<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<FromServer<'a>>, Broken> {
        let decoder = Decoder::new(self.version, Side::Server, &LIMITS);
        // Field by field, because the packet borrows the assembler.
        let Some(packet) = self.assembler.next(input, &decoder, false)? else { return Ok(None) };
        let mut rest = Rest { flight: &mut self.flight, version: self.version, out };
        let said = match packet {
            Packet::ConnAck(connack) if !self.logged_in => {
                if is_refusal(connack.reason) {
                    return Ok(Some(FromServer::Refused(connack.reason)));
                }
                self.logged_in = true;
                (self.keep_alive_s, self.in_flight_max, self.packet_bytes_max) =
                    agreed(&connack, self.keep_alive_s, self.in_flight_max);
                FromServer::Welcome(Welcome {
                    session_present: connack.session_present,
                    in_flight_max: self.in_flight_max,
                    keep_alive_s: self.keep_alive_s,
                })
            }
            // Nothing comes before CONNACK (MQTT-3.2.0-1).
            other if !self.logged_in => return Err(Broken::OutOfOrder(other.kind())),
            Packet::Publish(publish) => rest.publish(publish)?,
            Packet::PubAck(ack) => rest.ended(ack.packet_id, ack.reason, Stage::Ack),
            Packet::PubRec(ack) => rest.received(ack.packet_id, ack.reason),
            Packet::PubRel(ack) => rest.release(ack.packet_id),
            Packet::PubComp(ack) => rest.ended(ack.packet_id, ack.reason, Stage::Complete),
            Packet::SubAck(ack) if rest.end(ack.packet_id, Stage::Filters) => {
                FromServer::Subscribed { packet_id: ack.packet_id, reasons: ack.reasons }
            }
            Packet::UnsubAck(ack) if rest.end(ack.packet_id, Stage::Filters) => {
                FromServer::Unsubscribed { packet_id: ack.packet_id, reasons: ack.reasons }
            }
            Packet::PingResp => {
                self.pinging = false;
                FromServer::Pong
            }
            Packet::Disconnect(disconnect) => FromServer::Closed(disconnect.reason),
            other => return Err(Broken::OutOfOrder(other.kind())),
        };
        Ok(Some(said))
    }

    /// Sends a message; its identifier, 0 with QoS 0.
    ///
    /// # Errors
    /// [`NotSent`]; nothing was appended.
    pub fn publish(
        &mut self,
        message: &Publication<'_>,
        now: Millis,
        out: &mut Vec<u8>,
    ) -> Result<u16, NotSent> {
        let stage = first_stage(message.qos);
        if stage.is_some() && self.in_flight() >= usize::from(self.in_flight_max) {
            return Err(NotSent::WindowFull);
        }
        let mut publish = Publish {
            dup: false,
            qos: message.qos,
            retain: message.retain,
            topic: message.topic,
            packet_id: 0,
            properties: message.properties,
            payload: message.content,
        };
        self.fits(&Packet::Publish(publish))?;
        if let Some(stage) = stage {
            publish.packet_id = self.flight.get_or_insert_default().begin(&mut self.last_id, stage);
        }
        self.say(&Packet::Publish(publish), now, out)?;
        Ok(publish.packet_id)
    }

    /// Subscribes; the identifier that comes back with [`FromServer::Subscribed`].
    ///
    /// # Errors
    /// [`NotSent`]; nothing was appended.
    pub fn subscribe(&mut self, wishes: &[Wish<'_>], now: Millis, out: &mut Vec<u8>) -> Result<u16, NotSent> {
        let mut filters = FiltersBuf::default();
        for wish in wishes {
            text_fits(wish.filter)?;
            filters.subscribe(wish.filter, wish.options, self.version);
        }
        let (filters, properties) = (filters.subscriptions(), Properties::default());
        self.ask(now, out, |packet_id| Packet::Subscribe(Subscribe { packet_id, properties, filters }))
    }

    /// Unsubscribes; the identifier that comes back with [`FromServer::Unsubscribed`].
    ///
    /// # Errors
    /// [`NotSent`]; nothing was appended.
    pub fn unsubscribe(&mut self, names: &[&str], now: Millis, out: &mut Vec<u8>) -> Result<u16, NotSent> {
        let mut filters = FiltersBuf::default();
        for name in names {
            text_fits(name)?;
            filters.unsubscribe(name);
        }
        let (filters, properties) = (filters.unsubscriptions(), Properties::default());
        self.ask(now, out, |packet_id| Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters }))
    }

    /// Says goodbye; the connection is to be closed behind it (MQTT-3.14.4-1).
    ///
    /// # Errors
    /// [`NotSent`]; nothing was appended.
    pub fn disconnect(&mut self, now: Millis, out: &mut Vec<u8>) -> Result<(), NotSent> {
        let goodbye = Disconnect { reason: Reason::Success, properties: Properties::default() };
        self.say(&Packet::Disconnect(goodbye), now, out)
    }

    /// The moment of the next [`tick`](Self::tick) that has something to do; `None` without a keep alive.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        let wait_ms = if self.pinging { PONG_WAIT_MS } else { u64::from(self.keep_alive_s) * 1000 };
        (self.logged_in && wait_ms > 0).then(|| Millis(self.spoke.0.saturating_add(wait_ms)))
    }

    /// Sends PINGREQ when nothing went out for the keep alive (MQTT-3.1.2-20).
    pub fn tick(&mut self, now: Millis, out: &mut Vec<u8>) -> Tick {
        match self.deadline() {
            Some(deadline) if deadline <= now && self.pinging => return Tick::Lost,
            Some(deadline) if deadline <= now => self.pinging = self.say(&Packet::PingReq, now, out).is_ok(),
            _ => {}
        }
        Tick::Go
    }

    /// Messages of QoS 1 and 2 to the server that are not finished.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flight.as_ref().map_or(0, |flight| flight.messages())
    }

    /// Frees what a client at rest does not need.
    pub fn rest(&mut self) {
        self.assembler.release();
        if self.flight.as_ref().is_some_and(|flight| flight.is_empty()) {
            self.flight = None;
        }
    }

    fn fits(&self, packet: &Packet<'_>) -> Result<(), NotSent> {
        if !self.logged_in {
            return Err(NotSent::NotLoggedIn);
        }
        match encoded_bytes(packet, self.version) {
            Ok(bytes) if bytes <= self.packet_bytes_max => Ok(()),
            _ => Err(NotSent::TooLarge),
        }
    }

    fn say(&mut self, packet: &Packet<'_>, now: Millis, out: &mut Vec<u8>) -> Result<(), NotSent> {
        if !self.logged_in {
            return Err(NotSent::NotLoggedIn);
        }
        encode(packet, self.version, out).map_err(|_| NotSent::TooLarge)?;
        // The wait for an answer to PINGREQ counts from that, whatever else goes out.
        if !self.pinging {
            self.spoke = now;
        }
        Ok(())
    }

    fn ask<'p>(
        &mut self,
        now: Millis,
        out: &mut Vec<u8>,
        packet: impl Fn(u16) -> Packet<'p>,
    ) -> Result<u16, NotSent> {
        self.fits(&packet(1))?;
        let flight = self.flight.get_or_insert_default();
        if flight.filters() >= FILTERS_UNDER_WAY_MAX {
            return Err(NotSent::WindowFull);
        }
        let packet_id = flight.begin(&mut self.last_id, Stage::Filters);
        self.say(&packet(packet_id), now, out)?;
        Ok(packet_id)
    }
}

/// SUBSCRIBE and UNSUBSCRIBE that may wait for their answers.
const FILTERS_UNDER_WAY_MAX: usize = 1024;

fn text_fits(text: &str) -> Result<(), NotSent> {
    if text.len() <= usize::from(u16::MAX) { Ok(()) } else { Err(NotSent::TooLarge) }
}
