//! MQTT: the same clients against any broker.
//!
//! - here: options, the broker, its clients.
//! - `idle`: memory per connection; `load`: fan-out and unicast; `storm`: all connect at once.

pub(crate) mod idle;
pub(crate) mod load;
pub(crate) mod storm;

use std::net::SocketAddr;

use clap::{Args, ValueEnum};
use longwire_proto::session::mqtt_client::IN_FLIGHT_MAX;

use crate::args::ServerArgs;
use crate::error::BenchError;
use crate::order::{Clients, Play};
use crate::server::{self, Server};
use crate::transport::Transport;

/// Longer than any run, so that nobody pings while something is measured; brokers keep a deadline all the same.
const KEEP_ALIVE_S: u16 = 1200;
/// A publisher that goes flat out is what a server takes for an attack.
const UNLIMITED: [&str; 4] =
    ["--set", "limits.inbound_messages_per_s=0", "--set", "limits.inbound_bytes_per_s=0"];
/// Connections being opened at once where the opening is not what is measured.
const UNDER_WAY_MAX: usize = 128;

/// What devices speak, and how they log in to a broker.
#[derive(Clone, Debug, Args)]
pub(crate) struct MqttArgs {
    /// What devices speak. With mqtt any broker can be measured: only --target and, for memory and processor time, --pid.
    #[arg(long, value_enum, default_value_t = Protocol::Native, help_heading = "MQTT")]
    pub(crate) protocol: Protocol,
    /// The version of MQTT.
    #[arg(long, value_enum, default_value_t = Spoken::V5, help_heading = "MQTT")]
    mqtt_version: Spoken,
    /// QoS of publishers and subscribers.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2), help_heading = "MQTT")]
    pub(crate) qos: u8,
    /// User name of every client.
    #[arg(long, help_heading = "MQTT")]
    user: Option<String>,
    /// Password of every client.
    #[arg(long, requires = "user", help_heading = "MQTT")]
    password: Option<String>,
    /// Client ids are this, a hyphen and a number.
    #[arg(long, default_value = "bench", help_heading = "MQTT")]
    client_prefix: String,
}

/// What devices speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Protocol {
    /// Longwire's own protocol, registered devices.
    Native,
    /// MQTT.
    Mqtt,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Spoken {
    /// MQTT 3.1.1.
    #[value(name = "3.1.1", alias = "3")]
    V311,
    /// MQTT 5.0.
    #[value(name = "5", alias = "5.0")]
    V5,
}

impl MqttArgs {
    pub(crate) fn is_mqtt(&self) -> bool {
        self.protocol == Protocol::Mqtt
    }

    /// The version in words.
    fn version(&self) -> &'static str {
        match self.mqtt_version {
            Spoken::V311 => "3.1.1",
            Spoken::V5 => "5.0",
        }
    }

    /// Clients of this run; a team fills in sources and numbers.
    fn clients(&self, target: SocketAddr, part: Play) -> Clients {
        let kind = if matches!(part, Play::Publisher) { "-p" } else { "" };
        Clients {
            target,
            source: std::net::Ipv4Addr::LOCALHOST,
            prefix: format!("{}{kind}", self.client_prefix),
            first: 0,
            count: 0,
            v5: self.mqtt_version == Spoken::V5,
            user: self.user.clone(),
            password: self.password.clone(),
            devices: Vec::new(),
            transport: Transport::Tcp,
            keep_alive_s: KEEP_ALIVE_S,
            in_flight_max: IN_FLIGHT_MAX,
            under_way_max: UNDER_WAY_MAX,
            part,
            count_welcomes: false,
        }
    }
}

/// The broker that is measured: somebody's, or a Longwire of our own.
struct Broker {
    target: SocketAddr,
    pid: Option<u32>,
    /// Ends with the run.
    own: Option<Server>,
}

impl Broker {
    /// The one that is named, or a new `longwire serve --dev`, which takes clients without credentials.
    fn obtain(args: &ServerArgs) -> Result<Broker, BenchError> {
        if let Some(target) = args.target {
            return Ok(Broker { target, pid: args.pid, own: None });
        }
        let program = args.server_program.clone().map_or_else(server::program, Ok)?;
        let mut arguments = UNLIMITED.map(str::to_owned).to_vec();
        arguments.extend(args.serve_arg.iter().cloned());
        let server = Server::spawn(&program, &arguments)?;
        Ok(Broker { target: server.device, pid: server.pid, own: Some(server) })
    }

    /// In words.
    fn words(&self) -> String {
        let whose = if self.own.is_some() { ", started for the run" } else { "" };
        format!("{}{whose}", self.target)
    }
}
