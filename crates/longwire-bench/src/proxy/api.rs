//! The HTTP side: connections, bodies, and the way to the desk.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::header::{CONTENT_TYPE, USER_AGENT};
use axum::http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::desk::{Answer, Ask, Desk, Fault};

/// API connections at once; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// Bytes of a request's body; more is answered 400.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Requests waiting for the desk; further ones wait in their connections.
const ASKS_MAX: usize = 64;
/// A head that takes longer ends the connection.
const HEAD_TIME: Duration = Duration::from_secs(15);
/// Pause after an accept that failed, for instance for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, desk: Desk) {
    let (asks, received) = mpsc::channel(ASKS_MAX);
    tokio::spawn(desk.run(received));
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let asks = asks.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, asks.clone()));
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
            // A caller that breaks off has nobody to be told.
            let _ = http.serve_connection(TokioIo::new(socket), service).await;
            drop(place);
        });
    }
}

async fn answer(request: Request<Incoming>, asks: mpsc::Sender<Ask>) -> Result<Response<Body>, Infallible> {
    let agent = request.headers().get(USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
    // A page in a browser on this host could send requests here; Toxiproxy refuses them by the same sign.
    if agent.starts_with(b"Mozilla/") {
        let mut refused = Response::new(Body::from("User agent not allowed\n"));
        *refused.status_mut() = StatusCode::FORBIDDEN;
        return Ok(refused);
    }
    let (head, body) = request.into_parts();
    let reply = match to_bytes(Body::new(body), BODY_BYTES_MAX).await {
        Err(error) => Some(Fault::body(error).answer()),
        Ok(body) => {
            let (answer, answered) = oneshot::channel();
            let (method, path) = (head.method.to_string(), head.uri.path().to_owned());
            let sent = asks.send(Ask { method, path, body: body.to_vec(), answer }).await;
            if sent.is_ok() { answered.await.ok() } else { None }
        }
    };
    Ok(response(reply))
}

/// `None`: the desk is gone, which is an end and not an answer.
fn response(reply: Option<Answer>) -> Response<Body> {
    let Answer { status, json } = reply.unwrap_or(Answer { status: 503, json: None });
    let body = json.map_or_else(Body::empty, |json| Body::from(json.to_string()));
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
