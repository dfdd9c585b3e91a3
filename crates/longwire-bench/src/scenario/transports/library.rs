//! Handshakes of rustls without a network: both ends in one thread, the server's part timed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::crypto::aws_lc_rs;
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, HandshakeKind, ServerConfig, ServerConnection, SupportedCipherSuite};

use crate::clock::thread_cpu_ns;
use crate::error::BenchError;
use crate::tls::{Certificate, connection};

/// What a turn did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    pub(super) handshakes: u64,
    pub(super) resumed: u64,
    /// Processor time of the server's side.
    pub(super) cpu_ns: u64,
}

impl Spent {
    /// Microseconds of a handshake.
    pub(super) fn each_us(&self) -> f64 {
        self.cpu_ns as f64 / 1000.0 / self.handshakes.max(1) as f64
    }
}

/// Whose order of suites holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Suites {
    /// The client's, as rustls does by itself: AES-256 with SHA-384 first.
    AsTheyCome,
    /// The server's, as ours does: those with SHA-384 last.
    AsOurs,
}

/// A server as ours is told to be: the same certificate, tickets without a store, one of them for each handshake.
pub(super) fn server_config(
    certificate: &Certificate,
    suites: Suites,
) -> Result<Arc<ServerConfig>, BenchError> {
    let (chain, key) = certificate.read()?;
    let mut provider = aws_lc_rs::default_provider();
    let last = |suite: &SupportedCipherSuite| format!("{:?}", suite.suite()).ends_with("SHA384");
    if suites == Suites::AsOurs {
        provider.cipher_suites.sort_by_key(last);
    }
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![chain], key))
        .map_err(broken)?;
    config.ignore_client_order = suites == Suites::AsOurs;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(broken)?;
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

/// Handshakes one after the other for so long.
pub(super) fn handshakes(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
    length: Duration,
) -> Result<Spent, BenchError> {
    let (begin, mut spent) = (Instant::now(), Spent::default());
    while begin.elapsed() < length {
        handshake(server, client, &mut spent)?;
    }
    Ok(spent)
}

fn handshake(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
    spent: &mut Spent,
) -> Result<(), BenchError> {
    let full = |error: std::io::Error| BenchError::Options(format!("rustls takes no more: {error}"));
    let mut client = connection(client).map_err(broken)?;
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    let mut server_end = None;
    while client.wants_write() {
        to_server.clear();
        while client.wants_write() {
            client.write_tls(&mut to_server).map_err(full)?;
        }
        to_client.clear();
        let begin_ns = thread_cpu_ns();
        let mut end = match server_end.take() {
            Some(end) => end,
            None => ServerConnection::new(server.clone()).map_err(broken)?,
        };
        let mut rest = &to_server[..];
        while !rest.is_empty() {
            end.read_tls(&mut rest).map_err(full)?;
            end.process_new_packets().map_err(broken)?;
        }
        while end.wants_write() {
            end.write_tls(&mut to_client).map_err(full)?;
        }
        spent.cpu_ns += thread_cpu_ns() - begin_ns;
        server_end = Some(end);
        let mut rest = &to_client[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).map_err(full)?;
            client.process_new_packets().map_err(broken)?;
        }
    }
    if client.is_handshaking() {
        return Err(BenchError::Options("the library's own handshake does not end".into()));
    }
    spent.handshakes += 1;
    spent.resumed += u64::from(client.handshake_kind() == Some(HandshakeKind::Resumed));
    let begin_ns = thread_cpu_ns();
    drop(server_end);
    spent.cpu_ns += thread_cpu_ns() - begin_ns;
    Ok(())
}

fn broken(error: rustls::Error) -> BenchError {
    BenchError::Options(format!("the library's own handshake: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tls::{Version, client_config};

    #[test]
    fn full_handshakes_are_full_and_those_with_tickets_are_resumed() {
        let certificate = Certificate::make().unwrap();
        let server = server_config(&certificate, Suites::AsOurs).unwrap();
        for version in [Version::Tls12, Version::Tls13] {
            for tickets in [false, true] {
                let client = client_config(version, tickets);
                let mut spent = Spent::default();
                for _ in 0..4 {
                    handshake(&server, &client, &mut spent).unwrap();
                }
                let resumed = if tickets { 3 } else { 0 };
                assert_eq!((spent.handshakes, spent.resumed), (4, resumed), "{version:?}");
            }
        }
    }
}
