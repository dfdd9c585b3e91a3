//! TLS 1.2 and 1.3 by rustls: records in, plaintext out, and back.
//!
//! - `terms`: what a listener offers; certificates are read from files and swapped while connections live.
//! - `files`: PEM files, with errors that say what to do.
//! - `connection`: one connection.
//! - `subject`: the name in a client's certificate.

mod connection;
mod files;
mod subject;
mod terms;

pub use connection::{
    HANDSHAKE_BYTES_MAX, TLS_RECORD_BYTES_MAX, TlsConnection, TlsError, TlsProgress, sealed_bytes_max,
};
pub use files::{Clients, TlsFileError, TlsFiles};
pub use subject::Subject;
pub use terms::TlsTerms;
