//! Prints the bytes of this process per idle TLS connection: `cargo run --release --example tls_memory -- [connections]`.
//!
//! With the allocator of the command. Server ends only: each client is dropped when its handshake is done. The figure is the slope of the resident set from
//! a tenth of the connections to all, so what the first ones cost once is left out.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use longwire_server::gate::transport::{Clients, TlsConnection, TlsFiles, TlsProgress, TlsTerms};
use rcgen::{CertifiedKey, KeyPair};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let connections: usize = std::env::args().nth(1).map_or(10_000, |count| count.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = TlsFiles {
        certificate: folder.path().join("cert.pem"),
        key: folder.path().join("key.pem"),
        clients: Clients::Unasked,
    };
    std::fs::write(&files.certificate, cert.pem()).unwrap();
    std::fs::write(&files.key, KeyPair::serialize_pem(&signing_key)).unwrap();
    let terms = TlsTerms::open(files, UnixTime::now()).unwrap();
    // All are kept to the end: what the first version gave back would hide what the second takes.
    let mut held = Vec::with_capacity(2 * connections);
    for version in [&TLS12, &TLS13] {
        let client = client(version, cert.der().clone());
        let few = connections / 10;
        held.extend((0..few).map(|_| open(&terms, &client)));
        let before = resident_bytes();
        held.extend((few..connections).map(|_| open(&terms, &client)));
        let bytes = resident_bytes().saturating_sub(before) / (connections - few).max(1);
        println!("{:?}: {bytes} bytes per idle connection ({connections} connections)", version.version);
    }
}

fn client(
    version: &'static SupportedProtocolVersion,
    root: rustls::pki_types::CertificateDer<'static>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    // Full handshakes, without a store of tickets that would grow here.
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

/// A connection after its handshake, one heartbeat each way, at rest.
fn open(terms: &TlsTerms, client: &Arc<ClientConfig>) -> TlsConnection {
    let mut client =
        ClientConnection::new(client.clone(), ServerName::try_from("localhost").unwrap()).unwrap();
    let mut server = terms.accept().unwrap();
    let (mut plaintext, mut outgoing) = (Vec::new(), Vec::new());
    std::io::Write::write_all(&mut client.writer(), &[1; 16]).unwrap();
    while plaintext.is_empty() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        server.receive(&mut bytes, &mut plaintext, &mut outgoing).unwrap();
        let mut rest = &outgoing[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets().unwrap();
        }
        outgoing.clear();
    }
    server.send(&[&plaintext], &mut Vec::new(), &mut outgoing).unwrap();
    assert_eq!((server.progress(), server.held_bytes()), (TlsProgress::Open, 0));
    server
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}
