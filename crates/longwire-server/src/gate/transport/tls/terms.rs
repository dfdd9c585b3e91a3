//! What a listener offers to its peers.

use super::connection::{TlsConnection, TlsError};
use super::files::{self, Clients, TlsFileError, TlsFiles};
use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::{CipherSuite, InconsistentKeys, RootCertStore, ServerConfig};
use std::path::Path;
use std::sync::Arc;

/// Application protocols (ALPN), for peers that name some; `http/1.1` is what browsers name for a WebSocket.
const PROTOCOLS: [&[u8]; 3] = [b"mqtt", b"longwire.v1", b"http/1.1"];
/// Tickets sent after a TLS 1.3 handshake: a device has one connection.
const TICKETS: usize = 1;

/// TLS 1.2 and 1.3 with the certificates of some files; shared by all shards. Connections keep the terms that they began with.
pub struct TlsTerms {
    files: TlsFiles,
    current: ArcSwap<ServerConfig>,
}

impl TlsTerms {
    /// Reads the files.
    ///
    /// # Errors
    /// A file is missing or holds the wrong thing; the text says what to do.
    pub fn open(files: TlsFiles, now: UnixTime) -> Result<TlsTerms, TlsFileError> {
        let config = load(&files, now, tickets()?)?;
        Ok(TlsTerms { files, current: ArcSwap::from_pointee(config) })
    }

    /// Reads the files again. Connections from now on meet what they hold; those that are there do not notice.
    ///
    /// Session tickets go on, unless clients are asked for certificates: a ticket stands for a certificate that was
    /// verified under the old terms, so then every client verifies anew.
    ///
    /// # Errors
    /// As [`TlsTerms::open`]; what is in use stays in use.
    pub fn reload(&self, now: UnixTime) -> Result<(), TlsFileError> {
        let tickets = match self.files.clients {
            Clients::Unasked => self.current.load().ticketer.clone(),
            Clients::Asked(_) | Clients::Required(_) => tickets()?,
        };
        self.current.store(Arc::new(load(&self.files, now, tickets)?));
        Ok(())
    }

    /// A new connection under the terms of now. Touches no file.
    ///
    /// # Errors
    /// Only if the terms contradict themselves.
    pub fn accept(&self) -> Result<TlsConnection, TlsError> {
        TlsConnection::new(self.current.load_full())
    }
}

fn tickets() -> Result<Arc<dyn ProducesTickets>, TlsFileError> {
    aws_lc_rs::Ticketer::new().map_err(TlsFileError::Tickets)
}

fn load(
    files: &TlsFiles,
    now: UnixTime,
    tickets: Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, TlsFileError> {
    let chain = files::certificates(&files.certificate)?;
    files::judge_validity(&files.certificate, &chain[0], now)?;
    let key = files::key(&files.key)?;
    let provider = Arc::new(provider());
    let refused = |path: &Path| {
        let path = path.to_owned();
        move |cause| TlsFileError::Refused { path, cause }
    };
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(refused(&files.certificate))?;
    let builder = match &files.clients {
        Clients::Unasked => builder.with_no_client_auth(),
        Clients::Asked(path) => builder.with_client_cert_verifier(verifier(path, provider, true)?),
        Clients::Required(path) => builder.with_client_cert_verifier(verifier(path, provider, false)?),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|cause| match cause {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            TlsFileError::Mismatch { certificate: files.certificate.clone(), key: files.key.clone() }
        }
        cause => TlsFileError::Refused { path: files.key.clone(), cause },
    })?;
    config.ignore_client_order = true;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = tickets;
    config.send_tls13_tickets = TICKETS;
    Ok(config)
}

/// The suites of rustls, those with SHA-384 last. Most clients name AES-256 with SHA-384 first, which costs a sixth of a handshake on a
/// processor that has instructions for SHA-256 only, and protects a push no better; who names nothing else gets it.
fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| {
        matches!(
            suite.suite(),
            CipherSuite::TLS13_AES_256_GCM_SHA384
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
        )
    });
    provider
}

fn verifier(
    path: &Path,
    provider: Arc<CryptoProvider>,
    optional: bool,
) -> Result<Arc<dyn ClientCertVerifier>, TlsFileError> {
    let mut authorities = RootCertStore::empty();
    for certificate in files::certificates(path)? {
        authorities
            .add(certificate)
            .map_err(|cause| TlsFileError::Refused { path: path.to_owned(), cause })?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider);
    let builder = if optional { builder.allow_unauthenticated() } else { builder };
    builder.build().map_err(|cause| TlsFileError::Damaged { path: path.to_owned(), what: cause.to_string() })
}

impl std::fmt::Debug for TlsTerms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsTerms").field("files", &self.files).finish_non_exhaustive()
    }
}
