//! The client's end of an MQTT conversation, 3.1.1 and 5.0, for tools that load or examine a server: [`MqttClient`].
//!
//! - `client`: login, packets of the server, what the caller sends.
//! - `answers`: what packets of the server mean for identifiers, and the acks to them.
//! - `flight`: packet identifiers under way; a client at rest has none.
//!
//! It acks what it gets at once, resumes nothing and takes no topic aliases.

mod answers;
mod client;
mod flight;

pub use client::{FromServer, MqttClient, Publication, Welcome};

use crate::wire::mqtt::{Fault, Kind, Limits, Options, Reason, Version};

/// The largest packet that a client takes, bytes; a longer one ends the connection. 5.0 tells the server (MQTT-3.1.2-24).
pub const PACKET_BYTES_MAX: u32 = 1024 * 1024;
/// Messages of QoS 1 and 2 from the server that a client takes unfinished (5.0 tells the server, MQTT-3.3.4-7).
pub const RECEIVE_MAX: u16 = 1024;
/// Messages of QoS 1 and 2 to the server that may be unfinished if the login asks for no fewer; a server of 5.0 may ask for fewer
/// still. What common clients and servers take without being asked.
pub const IN_FLIGHT_MAX: u16 = 20;
/// A server that has not answered a PINGREQ for so long is lost, milliseconds.
pub const PONG_WAIT_MS: u64 = 10_000;

const LIMITS: Limits = Limits { packet_bytes_max: PACKET_BYTES_MAX, ..Limits::SPECIFICATION };

/// What a client logs in with.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// The version to speak.
    pub version: Version,
    /// May be empty with a clean start: the server then chooses one.
    pub client_id: &'a str,
    /// User name.
    pub user_name: Option<&'a str>,
    /// Password; in 3.1.1 only with a user name.
    pub password: Option<&'a [u8]>,
    /// Clean start; in 3.1.1 clean session.
    pub clean_start: bool,
    /// Seconds that the session outlives its connection (5.0).
    pub session_expiry_s: u32,
    /// Seconds; 0 = no PINGREQ.
    pub keep_alive_s: u16,
    /// Messages of QoS 1 and 2 to the server that may be unfinished, 1 and up.
    pub in_flight_max: u16,
}

impl<'a> Login<'a> {
    /// A session that ends with its connection, without credentials or keep alive.
    #[must_use]
    pub const fn clean(version: Version, client_id: &'a str) -> Login<'a> {
        Login {
            version,
            client_id,
            user_name: None,
            password: None,
            clean_start: true,
            session_expiry_s: 0,
            keep_alive_s: 0,
            in_flight_max: IN_FLIGHT_MAX,
        }
    }
}

/// One entry of a SUBSCRIBE.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The filter.
    pub filter: &'a str,
    /// Its options.
    pub options: Options,
}

/// Why something was not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotSent {
    /// The login was not answered yet.
    #[error("not logged in")]
    NotLoggedIn,
    /// As many messages as may be are unfinished; one has to end first.
    #[error("too many messages are unfinished")]
    WindowFull,
    /// Longer than the server or MQTT takes.
    #[error("longer than the server takes")]
    TooLarge,
}

/// The server broke the protocol; the connection is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Broken {
    /// Bytes that are no packet.
    #[error("{0}")]
    Fault(#[from] Fault),
    /// A packet that has no place here.
    #[error("{0:?} has no place here")]
    OutOfOrder(Kind),
    /// An alias, although none was allowed (MQTT-3.2.2-18).
    #[error("a topic alias that was not allowed")]
    Alias,
    /// More unfinished messages than [`RECEIVE_MAX`] (MQTT-3.3.4-9).
    #[error("more messages at once than were allowed")]
    ReceiveMaximum,
}

/// What [`MqttClient::tick`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tick {
    /// Go on.
    Go,
    /// The server does not answer: close the connection.
    Lost,
}

/// A reason that says no; the codes of SUBACK that grant a QoS do not.
pub(super) const fn is_refusal(reason: Reason) -> bool {
    reason as u8 >= 0x80
}
