//! Certificates and keys in PEM files, read at the start and at a reload, never by a shard. What is wrong is said with what to do.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use std::io::Read;
use std::path::{Path, PathBuf};

/// A PEM file, bytes; a longer one is refused.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
const DAY_S: u64 = 24 * 60 * 60;

/// Where a listener's certificates lie.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsFiles {
    /// The server's certificate and its chain, the server's own first.
    pub certificate: PathBuf,
    /// Its private key, unencrypted: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
    /// What is asked of clients.
    pub clients: Clients,
}

/// Whether a client shows a certificate.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Clients {
    /// It is not asked for one.
    #[default]
    Unasked,
    /// It may show one, of an authority in this file; one that does not verify is refused.
    Asked(PathBuf),
    /// It must show one, of an authority in this file.
    Required(PathBuf),
}

/// The operator's fault; at a reload the certificates in use stay.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    /// The file cannot be read.
    #[error("{path}: {cause}: check the path and that the server's user may read it")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
    /// The file is longer than 1 MiB.
    #[error("{0}: longer than 1 MiB: this is not a certificate or key file")]
    TooLong(PathBuf),
    /// No certificate in the file.
    #[error("{0}: holds no certificate: a PEM block BEGIN CERTIFICATE is expected")]
    NoCertificate(PathBuf),
    /// No usable key in the file.
    #[error(
        "{0}: holds no private key: a PEM block BEGIN PRIVATE KEY (or RSA or EC PRIVATE KEY) without password is expected"
    )]
    NoKey(PathBuf),
    /// A block of the file does not read.
    #[error("{path}: {what}: write the file again from its source")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not read.
        what: String,
    },
    /// The key belongs to another certificate.
    #[error(
        "{key} does not belong to the first certificate in {certificate}: give the key of that certificate, and put the server's own certificate first"
    )]
    Mismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// The certificate is past its end.
    #[error("{path}: the certificate expired {days} days ago: renew it")]
    Expired {
        /// The file.
        path: PathBuf,
        /// Whole days since its end.
        days: u64,
    },
    /// The certificate is not valid yet.
    #[error(
        "{path}: the certificate is valid in {days} days only: check the clock of this machine, or use another certificate"
    )]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// Whole days until its beginning.
        days: u64,
    },
    /// rustls does not take what the files hold.
    #[error("{path}: {cause}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// What rustls says.
        cause: rustls::Error,
    },
    /// The system gave no random numbers.
    #[error("no keys for session tickets: {0}")]
    Tickets(rustls::Error),
}

fn read(path: &Path) -> Result<Vec<u8>, TlsFileError> {
    let failed = |cause| TlsFileError::Unreadable { path: path.to_owned(), cause };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(TlsFileError::TooLong(path.to_owned()));
    }
    Ok(bytes)
}

fn damaged(path: &Path, what: impl ToString) -> TlsFileError {
    TlsFileError::Damaged { path: path.to_owned(), what: what.to_string() }
}

/// All certificates of a file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let found = found.map_err(|cause| damaged(path, cause))?;
    if found.is_empty() { Err(TlsFileError::NoCertificate(path.to_owned())) } else { Ok(found) }
}

/// The first private key of a file.
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|cause| match cause {
        rustls::pki_types::pem::Error::NoItemsFound => TlsFileError::NoKey(path.to_owned()),
        cause => damaged(path, cause),
    })
}

/// Whether the server's own certificate reads and is valid at `now`.
pub(super) fn judge_validity(
    path: &Path,
    certificate: &CertificateDer<'_>,
    now: UnixTime,
) -> Result<(), TlsFileError> {
    let parsed = webpki::EndEntityCert::try_from(certificate).map_err(|cause| damaged(path, cause))?;
    let days = |later: UnixTime, earlier: UnixTime| later.as_secs().saturating_sub(earlier.as_secs()) / DAY_S;
    let path = path.to_owned();
    // Without an anchor the path can only fail; validity is judged before that.
    let usage = webpki::KeyUsage::server_auth();
    match parsed.verify_for_usage(&[], &[], &[], now, usage, None, None) {
        Err(webpki::Error::CertExpired { not_after, .. }) => {
            Err(TlsFileError::Expired { path, days: days(now, not_after) })
        }
        Err(webpki::Error::CertNotValidYet { not_before, .. }) => {
            Err(TlsFileError::NotYetValid { path, days: days(not_before, now) })
        }
        _ => Ok(()),
    }
}
