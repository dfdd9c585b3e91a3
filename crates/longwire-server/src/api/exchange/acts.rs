//! What a request's caller is known by, between the place that knows who it is and the place that answers: how many requests it
//! has left, and the act that the audit log has to be told the end of.

use crate::api::Api;
use crate::api::exchange::fault::Fault;
use crate::api::exchange::trace::Trace;
use crate::delivery::Allowance;
use crate::domain::audit::AuditEntry;
use axum::extract::MatchedPath;
use axum::http::{HeaderMap, request};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A path in the audit log, bytes; what is longer is cut.
const TARGET_BYTES_MAX: usize = 1024;

/// The outcome of an act that has not been done yet.
const ASKED: &str = "asked";

/// What is noted of a request on its way.
#[derive(Default)]
pub(in crate::api) struct Notes {
    allowance: Option<Allowance>,
    act: Option<AuditEntry>,
}

/// The notes of one request, shared by those who write and read them.
#[derive(Clone)]
pub(in crate::api) struct Noted {
    notes: Arc<Mutex<Notes>>,
    remote: SocketAddr,
}

impl Noted {
    pub(in crate::api) fn new(remote: SocketAddr) -> Noted {
        Noted { notes: Arc::default(), remote }
    }

    /// What the caller has left.
    pub(in crate::api) fn allow(parts: &request::Parts, allowance: Allowance) {
        if let Some(noted) = parts.extensions.get::<Noted>() {
            noted.notes.lock().allowance = Some(allowance);
        }
    }

    /// The headers that say what the caller has left.
    pub(in crate::api) fn write_headers(&self, headers: &mut HeaderMap) {
        let Some(Allowance { limit, left, reset_s, .. }) = self.notes.lock().allowance else { return };
        if limit > 0 {
            headers.insert("x-rate-limit-limit", limit.into());
            headers.insert("x-rate-limit-remaining", left.into());
            headers.insert("x-rate-limit-reset", reset_s.into());
        }
    }

    /// Writes that somebody wants to do this. Without that line it is not done.
    ///
    /// # Errors
    /// The log cannot be written.
    pub(in crate::api) async fn begin(api: &Api, parts: &request::Parts, who: String) -> Result<(), Fault> {
        let Some(noted) = parts.extensions.get::<Noted>() else { return Err(Fault::audit_unavailable()) };
        let path = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
        let mut target = parts.uri.path().to_owned();
        // A path is ASCII on the wire.
        target.truncate(TARGET_BYTES_MAX);
        let entry = AuditEntry {
            who,
            act: format!("{} {path}", parts.method),
            target,
            outcome: ASKED.to_owned(),
            remote: noted.remote.to_string(),
            trace: parts.extensions.get::<Trace>().map(|trace| trace.id.to_string()).unwrap_or_default(),
            ..AuditEntry::default()
        };
        api.hub.audit(entry.clone()).await.map_err(|error| {
            api.stats.audit_failed.fetch_add(1, Relaxed);
            tracing::error!(%error, "the audit log cannot be written: what administrators ask is refused");
            Fault::audit_unavailable()
        })?;
        noted.notes.lock().act = Some(entry);
        Ok(())
    }

    /// Writes what became of it.
    pub(in crate::api) async fn end(&self, api: &Api, status: u16) {
        let act = self.notes.lock().act.take();
        let Some(entry) = act else { return };
        if let Err(error) = api.hub.audit(AuditEntry { outcome: status.to_string(), ..entry }).await {
            api.stats.audit_failed.fetch_add(1, Relaxed);
            tracing::error!(%error, status, "the end of an act is not in the audit log; its begin is");
        }
    }
}
