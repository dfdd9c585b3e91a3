//! Certificates made for a test, in a folder that goes with it; a client that meets the server in memory.

use longwire_server::gate::transport::{Clients, TlsConnection, TlsError, TlsFiles, TlsProgress, TlsTerms};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    pub(crate) fn identity(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names.push(SanType::URI("urn:device:7".try_into().unwrap()));
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { certificate, key: key.serialize_pem() }
    }
}

/// A folder with the files of a listener.
pub(crate) struct Folder {
    folder: tempfile::TempDir,
    pub(crate) authority: Authority,
}

impl Folder {
    pub(crate) fn new() -> Folder {
        let made = Folder { folder: tempfile::tempdir().unwrap(), authority: Authority::new("Test CA") };
        let server = made.authority.identity("server one", |_| {});
        made.write("cert.pem", &(server.certificate + &made.authority.pem));
        made.write("key.pem", &server.key);
        made.write("clients.pem", &made.authority.pem);
        made
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn files(&self, clients: fn(PathBuf) -> Clients) -> TlsFiles {
        TlsFiles {
            certificate: self.path("cert.pem"),
            key: self.path("key.pem"),
            clients: clients(self.path("clients.pem")),
        }
    }

    pub(crate) fn terms(&self, clients: fn(PathBuf) -> Clients) -> TlsTerms {
        TlsTerms::open(self.files(clients), UnixTime::now()).unwrap()
    }

    pub(crate) fn client(
        &self,
        version: &'static SupportedProtocolVersion,
        identity: Option<&Identity>,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap(),
                )
                .unwrap(),
        };
        Arc::new(config)
    }
}

pub(crate) fn unasked(_: PathBuf) -> Clients {
    Clients::Unasked
}

/// A rustls client and our server, joined in memory.
pub(crate) struct Pair {
    pub(crate) client: ClientConnection,
    pub(crate) server: TlsConnection,
    pub(crate) plaintext: Vec<u8>,
    /// The most bytes that reach the server at once.
    pub(crate) cut: usize,
}

impl Pair {
    pub(crate) fn new(terms: &TlsTerms, client: &Arc<ClientConfig>) -> Pair {
        let name = ServerName::try_from("localhost").unwrap();
        Pair {
            client: ClientConnection::new(client.clone(), name).unwrap(),
            server: terms.accept().unwrap(),
            plaintext: Vec::new(),
            cut: usize::MAX,
        }
    }

    /// What the client has to send now.
    pub(crate) fn said(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// Gives bytes to the client; what it says about them.
    pub(crate) fn tell(&mut self, mut bytes: &[u8]) -> Result<(), rustls::Error> {
        while !bytes.is_empty() {
            self.client.read_tls(&mut bytes).unwrap();
            self.client.process_new_packets()?;
        }
        Ok(())
    }

    /// Lets both talk until neither has anything to say.
    pub(crate) fn run(&mut self) -> Result<TlsProgress, TlsError> {
        loop {
            let mut bytes = self.said();
            if bytes.is_empty() {
                return Ok(self.server.progress());
            }
            let mut outgoing = Vec::new();
            let received = bytes.chunks_mut(self.cut).try_for_each(|piece| {
                self.server.receive(piece, &mut self.plaintext, &mut outgoing).map(|_| ())
            });
            let told = self.tell(&outgoing);
            received?;
            told.expect("a server without complaint satisfies the client");
        }
    }

    pub(crate) fn open(terms: &TlsTerms, client: &Arc<ClientConfig>) -> Pair {
        let mut pair = Pair::new(terms, client);
        assert_eq!(pair.run().unwrap(), TlsProgress::Open);
        pair
    }

    /// The client sends `bytes`; what the server reads.
    pub(crate) fn up(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut read = Vec::new();
        // The client buffers 64 KiB at most.
        for piece in bytes.chunks(32 * 1024) {
            self.client.writer().write_all(piece).unwrap();
            self.run().unwrap();
            read.append(&mut self.plaintext);
        }
        read
    }

    /// The server sends `pieces`; what the client reads, and the bytes on the wire.
    pub(crate) fn down(&mut self, pieces: &[&[u8]]) -> (Vec<u8>, usize) {
        let mut outgoing = Vec::new();
        self.server.send(pieces, &mut Vec::new(), &mut outgoing).unwrap();
        let mut read = Vec::new();
        let mut rest = &outgoing[..];
        while !rest.is_empty() {
            self.client.read_tls(&mut rest).unwrap();
            let state = self.client.process_new_packets().unwrap();
            let at = read.len();
            read.resize(at + state.plaintext_bytes_to_read(), 0);
            self.client.reader().read_exact(&mut read[at..]).unwrap();
        }
        (read, outgoing.len())
    }
}
