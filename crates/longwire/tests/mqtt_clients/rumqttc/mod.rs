//! rumqttc, which has one face for 3.1.1 and another for 5.0.
//!
//! - `flows`: what both go through.
//! - `v4`, `v5`: the two faces as a [`Peer`].

mod flows;
mod v4;
mod v5;

use super::kit::Door;
use ::rumqttc::tokio_rustls::rustls::pki_types::pem::PemObject;
use ::rumqttc::tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use ::rumqttc::tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
use ::rumqttc::{TlsConfiguration, Transport};
use std::sync::Arc;
use std::time::Duration;

const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEPT_S: u32 = 600;

/// A client with its connection. Dropped, it vanishes without a DISCONNECT.
trait Peer: Sized {
    const VERSION: u8;

    /// Connects; an error if it is not let in.
    fn open(door: &Door, name: &str, wish: Wish<'_>) -> Result<Self, String>;
    fn session_present(&self) -> bool;
    fn subscribe(&mut self, filter: &str, qos: u8);
    /// Until it is acked.
    fn publish(&mut self, topic: &str, payload: &str, qos: u8, retain: bool);
    /// The next message, if it comes in time.
    fn message_within(&mut self, patience: Duration) -> Option<Message>;
    /// The connection is lost; connects again as it did before.
    fn come_back(&mut self);
    /// With a DISCONNECT.
    fn leave(self);
}

/// What a client asks for when it connects.
#[derive(Clone, Copy, Default)]
struct Wish<'a> {
    keep: bool,
    will: Option<Will<'a>>,
}

#[derive(Clone, Copy)]
struct Will<'a> {
    topic: &'a str,
    payload: &'a str,
    /// For 5.0.
    delay_s: u32,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Message {
    topic: String,
    payload: String,
    qos: u8,
    retain: bool,
}

fn client_id(door: &Door, version: u8, name: &str) -> String {
    door.device.clone().unwrap_or_else(|| format!("rumqttc-{version}-{name}"))
}

/// TCP, or TLS with the door's files.
fn transport(door: &Door) -> Transport {
    let Some(ca) = &door.ca else { return Transport::Tcp };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.unwrap().with_root_certificates(roots);
    let config = match (&door.certificate, &door.key) {
        (Some(certificate), Some(key)) => {
            let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
        }
        _ => builder.with_no_client_auth(),
    };
    Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(config)))
}
