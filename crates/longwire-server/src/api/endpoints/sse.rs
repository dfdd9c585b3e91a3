//! `GET /v1/receipts/stream` and `GET /v1/presence/stream`: streams as server-sent events. A reader pulls pages, so one that is slow
//! holds one page of memory and nothing else.

use super::streams::{cursor, not_given};
use crate::api::exchange::caller::Caller;
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::api::exchange::query::Query;
use crate::api::{Api, InWork};
use crate::delivery::truth::{Stream, event};
use crate::domain::{App, Position};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use utoipa::IntoParams;

/// Events of one write.
const EVENTS_MAX: u16 = 100;
/// A comment after so long without an event, so that proxies and readers see that the connection lives.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long after a failure of the store the page is asked for again.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Where to begin.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct SseQuery {
    /// After this cursor. The header `Last-Event-ID`, which a browser sends when it connects again, goes before it. Not given: from the
    /// oldest that is kept.
    after: Option<String>,
}

/// Receipts as they come: `event: receipt`, `id` = cursor, `data` = a receipt as in `GET /v1/receipts`. `event: lost` with
/// `{"lost": n}`: so many after the place where the reader was are gone. At most 16 event streams per app; it ends when the node drains.
#[utoipa::path(
    get, path = "/v1/receipts/stream", tag = "receipts", params(SseQuery),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = String, content_type = "text/event-stream", description = "Events, without end; a comment every 15 s."),
        (status = 400, body = FaultBody, description = "A cursor that this app was not given."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 429, body = FaultBody, description = "`too_many_streams`, or too many requests at once."),
        (status = 503, body = FaultBody, description = "The store is unavailable, or the node is draining."),
    )
)]
pub(in crate::api) async fn receipts(
    State(api): State<Arc<Api>>,
    caller: Caller,
    headers: HeaderMap,
    Query(query): Query<SseQuery>,
) -> Result<Response, Fault> {
    begin(api, &caller.app, Stream::Receipts, &headers, query.after.as_deref()).await
}

/// Presence as it comes: `event: presence`, `id` = cursor, `data` = an event as in `GET /v1/presence/events`. Otherwise like
/// `/v1/receipts/stream`.
#[utoipa::path(
    get, path = "/v1/presence/stream", tag = "presence", params(SseQuery),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = String, content_type = "text/event-stream", description = "Events, without end; a comment every 15 s."),
        (status = 400, body = FaultBody, description = "A cursor that this app was not given."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 429, body = FaultBody, description = "`too_many_streams`, or too many requests at once."),
        (status = 503, body = FaultBody, description = "The store is unavailable, or the node is draining."),
    )
)]
pub(in crate::api) async fn presence(
    State(api): State<Arc<Api>>,
    caller: Caller,
    headers: HeaderMap,
    Query(query): Query<SseQuery>,
) -> Result<Response, Fault> {
    begin(api, &caller.app, Stream::Presence, &headers, query.after.as_deref()).await
}

async fn begin(
    api: Arc<Api>,
    app: &Arc<App>,
    stream: Stream,
    headers: &HeaderMap,
    after: Option<&str>,
) -> Result<Response, Fault> {
    let last = match headers.get("last-event-id") {
        Some(value) => Some(value.to_str().map_err(|_| Fault::invalid("last-event-id: is no cursor"))?),
        None => None,
    };
    // A browser sends an empty one when it has had no event yet.
    let (field, text) = match last.filter(|text| !text.is_empty()) {
        Some(text) => ("last-event-id", Some(text)),
        None => ("after", after),
    };
    let after = text.map(|text| cursor(field, text)).transpose()?;
    let ending = api.hub.ending();
    if *ending.borrow() {
        return Err(Fault::draining());
    }
    let place = api.enter_stream(app.id)?;
    let head = api.hub.watch_stream(app, stream);
    let mut reader =
        Reader { api, app: app.clone(), stream, after, head, ending, first: None, _place: place };
    // The first page is read before the answer begins, so that a bad cursor is told as one.
    let (text, _) = reader.page().await?.ok_or_else(not_given)?;
    reader.first = Some(text);
    let events = futures_util::stream::unfold(reader, |mut reader| async move {
        let piece = reader.next().await?;
        Some((Ok::<_, Infallible>(piece), reader))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // Nginx would hold events back.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(events)).into_response())
}

/// One who reads a stream.
struct Reader {
    api: Arc<Api>,
    app: Arc<App>,
    stream: Stream,
    after: Option<Position>,
    head: watch::Receiver<Position>,
    ending: watch::Receiver<bool>,
    first: Option<String>,
    _place: InWork,
}

impl Reader {
    /// What is written next; `None`: it is over.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            // A comment at once, so that a reader of an empty stream sees the answer begin.
            return Some(Bytes::from(format!(": longwire\n\n{first}")));
        }
        loop {
            if *self.ending.borrow() {
                return None;
            }
            // Before the page is read, so that what comes meanwhile is seen.
            self.head.borrow_and_update();
            match self.page().await {
                Ok(Some((text, events))) if events > 0 => return Some(Bytes::from(text)),
                // The store is an older copy than the cursor; the reader begins anew.
                Ok(None) => return None,
                Ok(Some(_)) => {}
                Err(_) => {
                    tokio::time::sleep(STORE_PAUSE).await;
                    continue;
                }
            }
            // Cancel-safe: changes stay seen as such until they are taken.
            tokio::select! {
                changed = self.head.changed() => changed.ok()?,
                changed = self.ending.changed() => changed.ok()?,
                () = tokio::time::sleep(HEARTBEAT) => return Some(Bytes::from_static(b": \n\n")),
            }
        }
    }

    /// A page as text, and how many events are in it.
    async fn page(&mut self) -> Result<Option<(String, usize)>, Fault> {
        let (app, after) = (&self.app, self.after);
        let (mut text, next, count) = match self.stream {
            Stream::Receipts => {
                let Some(page) = self.api.hub.receipts(app, after, EVENTS_MAX).await? else {
                    return Ok(None);
                };
                let mut text = lost(page.lost, after);
                page.events.iter().for_each(|one| write(&mut text, "receipt", &one.cursor, one));
                (text, page.next, page.events.len() + usize::from(page.lost > 0))
            }
            Stream::Presence => {
                let Some(page) = self.api.hub.presence(app, after, EVENTS_MAX).await? else {
                    return Ok(None);
                };
                let mut text = lost(page.lost, after);
                page.events.iter().for_each(|one| write(&mut text, "presence", &one.cursor, one));
                (text, page.next, page.events.len() + usize::from(page.lost > 0))
            }
        };
        if after.is_none() {
            // A reader of an empty stream that is cut off goes on from here.
            text.push_str(&format!("id: {}\n\n", event::cursor(next)));
        }
        self.after = Some(next);
        Ok(Some((text, count)))
    }
}

fn lost(count: u64, after: Option<Position>) -> String {
    match after {
        Some(_) if count > 0 => format!("event: lost\ndata: {{\"lost\":{count}}}\n\n"),
        _ => String::new(),
    }
}

/// JSON has no line ends, so an event is one line of data.
fn write(text: &mut String, event: &str, id: &str, body: &impl Serialize) {
    let data = serde_json::to_string(body).unwrap_or_default();
    text.push_str(&format!("id: {id}\nevent: {event}\ndata: {data}\n\n"));
}
