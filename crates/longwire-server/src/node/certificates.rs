//! Certificates of the devices' port: read at the start, and again when somebody says so; and the other files that are.

use super::config::Config;
use crate::api::operations::{Reloaded, ReloadedFiles};
use crate::delivery::hub::Hub;
use crate::gate::transport::{ListenerTerms, TlsFileError, TlsTerms};
use rustls::pki_types::UnixTime;
use std::sync::Arc;

/// Reads the certificates of the devices' port and puts them into what the gate is told; `None` where there are none.
///
/// # Errors
/// A file cannot be used; the text says what to do.
pub fn open_certificates(config: &mut Config) -> Result<Option<Arc<TlsTerms>>, TlsFileError> {
    let Some(files) = &config.device_tls else { return Ok(None) };
    let terms = Arc::new(TlsTerms::open(files.clone(), UnixTime::now())?);
    let listeners = config.gate.listeners.iter();
    config.gate.listeners =
        listeners.map(|listener| ListenerTerms { tls: Some(terms.clone()), ..listener.clone() }).collect();
    Ok(Some(terms))
}

/// Reads certificates and the apps' files of keys again; files that cannot be used leave the old ones in use.
pub(super) fn reload(certificates: Option<&TlsTerms>, hub: &Hub) -> ReloadedFiles {
    ReloadedFiles { certificates: reload_certificates(certificates), keys: reload_keys(hub) }
}

fn reload_keys(hub: &Hub) -> Reloaded {
    let (files, problems) = hub.reload_keys();
    if !problems.is_empty() {
        let problem = problems.join("; ");
        tracing::error!(problem, "keys for JWTs that were read before stay in use: new ones cannot be used");
        return Reloaded::Kept(problem);
    }
    if files == 0 {
        return Reloaded::Nothing;
    }
    tracing::info!(files, "keys for JWTs were read again");
    Reloaded::Read
}

fn reload_certificates(certificates: Option<&TlsTerms>) -> Reloaded {
    let Some(certificates) = certificates else {
        tracing::info!("told to reload: there are no certificates to read again");
        return Reloaded::Nothing;
    };
    match certificates.reload(UnixTime::now()) {
        Ok(()) => {
            tracing::info!("certificates were read again");
            Reloaded::Read
        }
        Err(error) => {
            tracing::error!(%error, "the certificates in use stay: new ones cannot be used");
            Reloaded::Kept(error.to_string())
        }
    }
}
