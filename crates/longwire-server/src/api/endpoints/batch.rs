//! `POST /v1/push/batch`: many different pushes, each answered for itself.

use super::push::{Asked, PushAnswer, push_one};
use crate::api::Api;
use crate::api::exchange::body::{Bounded, parse};
use crate::api::exchange::caller::Caller;
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::api::exchange::key;
use crate::api::exchange::trace::Trace;
use crate::delivery::hub::Place;
use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;
use utoipa::ToSchema;

/// Pushes of one batch.
const PUSHES_MAX: usize = 1000;
/// The body of a batch, bytes.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Pushes of one batch that are worked on at once; their commits are shared.
const AT_ONCE: usize = 64;

/// Many pushes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct BatchRequest {
    /// Each as `POST /v1/push` takes it, with a `cid` of its own. They are accepted in this order.
    #[schema(value_type = Vec<super::push_request::PushRequest>, min_items = 1, max_items = 1000)]
    pushes: Vec<Box<RawValue>>,
}

/// What became of each push.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct BatchAnswer {
    /// One for each push, in their order.
    results: Vec<BatchResult>,
    /// Accepted now.
    #[schema(example = 2)]
    accepted: usize,
    /// Told again: their keys made them before.
    #[schema(example = 0)]
    replayed: usize,
    /// Refused.
    #[schema(example = 1)]
    refused: usize,
}

/// What became of one push, as `POST /v1/push` would have answered it.
#[derive(Serialize, ToSchema)]
struct BatchResult {
    /// The status.
    #[schema(example = 202)]
    status: u16,
    /// `accepted`, `replayed`, `checked` (`validate_only`), or the code of the refusal.
    #[schema(example = "accepted")]
    code: &'static str,
    /// With 429 and 503: not before, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 30)]
    retry_after: Option<u32>,
    /// The answer, or the refusal.
    body: BatchBody,
}

/// The body that the push would have been answered with.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum BatchBody {
    Accepted(PushAnswer),
    Refused(#[schema(inline)] FaultBody<'static>),
}

/// Push many different messages. Each is judged and answered for itself; a bad one spoils no other.
#[utoipa::path(
    post, path = "/v1/push/batch", tag = "push", request_body = BatchRequest,
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = BatchAnswer, description = "What became of each; none is accepted but by its own status."),
        (status = 400, body = FaultBody, description = "Not JSON, no pushes, or a key for the whole; nothing was accepted."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 408, body = FaultBody, description = "The body did not come in time."),
        (status = 413, body = FaultBody, description = "More than 1,000 pushes or 4 MiB; nothing was accepted."),
        (status = 415, body = FaultBody, description = "Not JSON."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
    )
)]
pub(in crate::api) async fn batch(
    State(api): State<Arc<Api>>,
    Extension(trace): Extension<Trace>,
    caller: Caller,
    headers: HeaderMap,
    Bounded(body): Bounded<BATCH_BYTES_MAX>,
) -> Result<axum::Json<BatchAnswer>, Fault> {
    let request: BatchRequest = parse(&body)?;
    if headers.contains_key(key::HEADER) {
        return Err(Fault::invalid("Idempotency-Key: not for a batch; each push has a cid of its own"));
    }
    match request.pushes.len() {
        0 => return Err(Fault::invalid("pushes: must not be empty")),
        1..=PUSHES_MAX => {}
        many => return Err(Fault::too_large(format!("pushes: at most {PUSHES_MAX}, are {many}"))),
    }
    let places = Place::row(request.pushes.len());
    let none = HeaderMap::new();
    let work = request.pushes.into_iter().zip(places).map(|(push, place)| {
        let (api, caller, none) = (&api, &caller, &none);
        async move {
            match Asked::read(push.get().as_bytes(), none, trace.id, api.hub.now()) {
                Ok(asked) => push_one(api, caller, asked, place).await,
                Err(fault) => {
                    place.leave().await;
                    Err(fault)
                }
            }
        }
    });
    let answers: Vec<Result<PushAnswer, Fault>> =
        futures_util::stream::iter(work).buffered(AT_ONCE).collect().await;
    let (mut accepted, mut replayed, mut refused) = (0, 0, 0);
    let mut results = Vec::with_capacity(answers.len());
    for answer in answers {
        results.push(match answer {
            Ok(answer) => {
                let (status, code) = match (answer.msg_id.is_some(), answer.replayed) {
                    (false, _) => (200, "checked"),
                    (true, false) => (202, "accepted"),
                    (true, true) => (202, "replayed"),
                };
                accepted += usize::from(code == "accepted");
                replayed += usize::from(code == "replayed");
                BatchResult { status, code, retry_after: None, body: BatchBody::Accepted(answer) }
            }
            Err(fault) => {
                refused += 1;
                let (status, retry_after) = (fault.status().as_u16(), fault.retry_after_s());
                let body = fault.into_body(&trace);
                BatchResult { status, code: body.code, retry_after, body: BatchBody::Refused(body) }
            }
        });
    }
    Ok(axum::Json(BatchAnswer { results, accepted, replayed, refused }))
}
