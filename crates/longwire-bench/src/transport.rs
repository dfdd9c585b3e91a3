//! What lies between a device's conversation and its socket.

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::args::ServerArgs;
use crate::error::BenchError;
use crate::tls::Certificate;

/// The way to the server. TLS is 1.3 with a full handshake unless it is said otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Transport {
    /// A bare socket.
    #[default]
    Tcp,
    /// TLS 1.3.
    Tls,
    /// TLS 1.2.
    #[value(name = "tls1.2")]
    Tls12,
    /// A WebSocket.
    Ws,
    /// A WebSocket inside TLS 1.3.
    Wss,
}

impl Transport {
    pub(crate) fn is_secure(self) -> bool {
        matches!(self, Transport::Tls | Transport::Tls12 | Transport::Wss)
    }

    pub(crate) fn is_web(self) -> bool {
        matches!(self, Transport::Ws | Transport::Wss)
    }

    /// In words.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Tls12 => "tls1.2",
            Transport::Ws => "ws",
            Transport::Wss => "wss",
        }
    }
}

/// How devices reach the server that is measured.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct TransportArgs {
    /// What devices connect through. A server that is started for it gets a certificate (P-256); one that runs already must have its own,
    /// which is not verified.
    #[arg(long, value_enum, default_value_t = Transport::Tcp)]
    pub(crate) transport: Transport,
}

impl TransportArgs {
    /// A certificate for the server of our own, if it needs one; its flags are added to `server`.
    pub(crate) fn certify(self, server: &mut ServerArgs) -> Result<Option<Certificate>, BenchError> {
        if !self.transport.is_secure() || server.target.is_some() {
            return Ok(None);
        }
        let certificate = Certificate::make()?;
        server.serve_arg.extend(certificate.flags());
        Ok(Some(certificate))
    }
}
