//! TLS for a measurement: a certificate for the server that is started, and clients that take whatever certificate they are shown.
//! What is measured is the server, so a client does not spend its time on verifying.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};

use crate::error::BenchError;
use crate::folder::Folder;

/// Whom the certificates of our servers name.
const NAME: &str = "localhost";

/// The version that a client offers, and no other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Version {
    Tls12,
    Tls13,
}

impl Version {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Version::Tls12 => "1.2",
            Version::Tls13 => "1.3",
        }
    }
}

/// A certificate with a P-256 key, signed by itself, in files that last as long as this.
#[derive(Debug)]
pub(crate) struct Certificate {
    folder: Folder,
}

impl Certificate {
    pub(crate) fn make() -> Result<Certificate, BenchError> {
        let folder = Folder::name("certificate")?;
        std::fs::create_dir(&folder.0).map_err(BenchError::system("a folder for a certificate"))?;
        let refused =
            |error: rcgen::Error| BenchError::Options(format!("no certificate can be made: {error}"));
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(refused)?;
        let params = CertificateParams::new(vec![NAME.to_owned()]).map_err(refused)?;
        let certificate = params.self_signed(&key).map_err(refused)?;
        let made = Certificate { folder };
        std::fs::write(made.certificate(), certificate.pem())
            .and_then(|()| std::fs::write(made.key(), key.serialize_pem()))
            .map_err(BenchError::system("write a certificate"))?;
        Ok(made)
    }

    fn certificate(&self) -> PathBuf {
        self.folder.0.join("cert.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.0.join("key.pem")
    }

    /// The flags with which `longwire serve` uses it.
    pub(crate) fn flags(&self) -> Vec<String> {
        let set = |key: &str, path: PathBuf| {
            ["--set".to_owned(), format!("listener.device.tls.{key}={}", path.display())]
        };
        [set("certificate", self.certificate()), set("key", self.key())].concat()
    }

    /// What the files hold, for the bare library.
    pub(crate) fn read(&self) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), BenchError> {
        let refused = |error| BenchError::Options(format!("our own certificate cannot be read: {error}"));
        let certificate = CertificateDer::from_pem_file(self.certificate()).map_err(refused)?;
        Ok((certificate, PrivateKeyDer::from_pem_file(self.key()).map_err(refused)?))
    }
}

/// What a client of one version is told; with `tickets` it keeps those of its connections, else each handshake is a full one.
pub(crate) fn client_config(version: Version, tickets: bool) -> Arc<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions = match version {
        Version::Tls12 => [&TLS12],
        Version::Tls13 => [&TLS13],
    };
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .expect("the provider has suites of both versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.resumption = if tickets { Resumption::in_memory_sessions(8) } else { Resumption::disabled() };
    Arc::new(config)
}

/// A client before its first flight, of full handshakes.
pub(crate) fn client(version: Version) -> Result<ClientConnection, Error> {
    static CONFIGS: [OnceLock<Arc<ClientConfig>>; 2] = [OnceLock::new(), OnceLock::new()];
    let config = CONFIGS[version as usize].get_or_init(|| client_config(version, false));
    connection(config)
}

/// A client of this configuration before its first flight.
pub(crate) fn connection(config: &Arc<ClientConfig>) -> Result<ClientConnection, Error> {
    let name = ServerName::try_from(NAME).map_err(|_| Error::General("a name that is none".into()))?;
    ClientConnection::new(config.clone(), name)
}

/// Takes every certificate and looks at no signature.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
