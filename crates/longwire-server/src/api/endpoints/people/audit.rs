//! `GET /v1/admin/audit`: what administrators did.

use crate::api::Api;
use crate::api::exchange::caller::Operator;
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::api::exchange::page::{self, PageQuery};
use crate::api::exchange::query::Query;
use crate::api::exchange::rfc3339::rfc3339;
use crate::domain::audit::AuditLine;
use axum::extract::State;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// The list's word in its cursors.
const LIST: &str = "audit";

/// Lines of the audit log, oldest first.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct AuditAnswer {
    /// At most `limit`.
    #[schema(max_items = 1000)]
    lines: Vec<AuditLineAnswer>,
    /// Where the next page begins; null: this was the last.
    next: Option<String>,
}

/// A line. `hash` is BLAKE3 of: the hash before (32 bytes), `number` and `at_ms` (8 bytes each, big-endian), then `who`, `act`,
/// `target`, `outcome`, `remote` and `trace_id`, each with its length in front (4 bytes, big-endian).
#[derive(Serialize, ToSchema)]
struct AuditLineAnswer {
    /// Its number, from 1.
    #[schema(example = 7)]
    number: u64,
    /// When.
    #[schema(format = DateTime)]
    at: String,
    /// The same, milliseconds since 1970.
    #[schema(example = 1_780_000_000_000_u64)]
    at_ms: u64,
    /// Who: role and name of an operator's key, or app and name of its key.
    #[schema(example = "admin ann")]
    who: String,
    /// Method and path as in this document.
    #[schema(example = "POST /v1/apps/{app_key}/disable")]
    act: String,
    /// The path as it was asked for.
    #[schema(example = "/v1/apps/shop/disable")]
    target: String,
    /// `asked` before the act; after it a second line has the status of its answer.
    #[schema(example = "200")]
    outcome: String,
    /// From where.
    #[schema(example = "192.0.2.7:51312")]
    remote: String,
    /// The request's trace: both lines of an act have it.
    #[schema(example = "4bf92f3577b34da6a3ce929d0e0e4736")]
    trace_id: String,
    /// The hash of the line before, hexadecimal.
    previous: String,
    /// Its own hash, hexadecimal.
    hash: String,
}

impl From<AuditLine> for AuditLineAnswer {
    fn from(line: AuditLine) -> AuditLineAnswer {
        let hex = |hash: [u8; 32]| blake3::Hash::from_bytes(hash).to_hex().to_string();
        let entry = line.entry;
        AuditLineAnswer {
            number: line.number,
            at: rfc3339(entry.at),
            at_ms: entry.at.0,
            who: entry.who,
            act: entry.act,
            target: entry.target,
            outcome: entry.outcome,
            remote: entry.remote,
            trace_id: entry.trace,
            previous: hex(line.previous),
            hash: hex(line.hash),
        }
    }
}

/// What administrators did, and what was refused them.
#[utoipa::path(
    get, path = "/v1/admin/audit", tag = "admin", params(PageQuery),
    security(("admin" = []), ("admin_basic" = [])),
    responses(
        (status = 200, body = AuditAnswer, description = "A page."),
        (status = 400, body = FaultBody, description = "A cursor or limit that is none."),
        (status = 401, body = FaultBody, description = "Not an admin key."),
        (status = 503, body = FaultBody, description = "The registry is unavailable."),
    )
)]
pub(in crate::api) async fn lines(
    State(api): State<Arc<Api>>,
    _operator: Operator,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<AuditAnswer>, Fault> {
    let limit = page::limit(query.limit)?;
    let after: Option<u64> = page::after(LIST, query.after.as_deref())?;
    // What does not fit SQL's numbers is after all lines.
    let after = after.unwrap_or(0).min(u64::MAX >> 1);
    let lines = api.hub.audit_lines(after, limit + 1).await?;
    let (lines, next) = page::cut(lines, limit, LIST, |line| line.number);
    Ok(axum::Json(AuditAnswer { lines: lines.into_iter().map(AuditLineAnswer::from).collect(), next }))
}
