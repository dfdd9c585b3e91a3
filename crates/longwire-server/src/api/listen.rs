//! Connections of the API: bounded, strict HTTP/1.1, ended in order.

use super::Api;
use super::contract;
use super::exchange::acts::Noted;
use super::exchange::fault::Fault;
use super::exchange::trace::{TRACEPARENT, Trace};
use super::stats::Gauge;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower::Service as _;

/// A request's head, bytes; a longer one is answered with 431 and closed.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Headers of a request; more are answered with 431 and closed.
pub const HEADERS_MAX: usize = 100;
/// Pause after accept failed (descriptors, memory): it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const CROWDED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
content-type: application/json\r\ncontent-length: 100\r\n\r\n\
{\"code\":\"too_many_connections\",\"errno\":3005,\"message\":\"too many API connections\",\"trace_id\":\"\"}     ";

/// A bound port that nobody is served at yet.
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

/// The API at work.
pub struct Listening {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    places: Arc<Semaphore>,
    places_all: u32,
    accepting: tokio::task::JoinHandle<()>,
}

/// Binds the address (port 0: the kernel chooses).
///
/// # Errors
/// The system's.
pub async fn bind(address: SocketAddr) -> io::Result<Bound> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok(Bound { listener, address })
}

impl Bound {
    /// The address that callers can use.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins to accept.
    #[must_use]
    pub fn serve(self, api: Arc<Api>) -> Listening {
        let (stop, stopped) = watch::channel(false);
        let places_all = u32::try_from(api.options.connections_max).unwrap_or(u32::MAX);
        let places = Arc::new(Semaphore::new(places_all as usize));
        let accepting = tokio::spawn(accept(self.listener, api, places.clone(), stopped));
        Listening { address: self.address, stop, places, places_all, accepting }
    }
}

impl Listening {
    /// The address that callers can use.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the port, lets requests in flight finish, for at most `patience`, and returns whether all did.
    pub async fn finish(self, patience: Duration) -> bool {
        let _ = self.stop.send(true);
        let _ = self.accepting.await;
        let everybody_left = self.places.acquire_many(self.places_all);
        tokio::time::timeout(patience, everybody_left).await.is_ok()
    }
}

async fn accept(
    listener: TcpListener,
    api: Arc<Api>,
    places: Arc<Semaphore>,
    mut stop: watch::Receiver<bool>,
) {
    let router = contract::router(api.clone());
    loop {
        // Cancel-safe: accept loses no connection, changed loses no change.
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => return,
        };
        match accepted {
            Ok((stream, peer)) => match places.clone().try_acquire_owned() {
                Ok(place) => {
                    tokio::spawn(converse((stream, peer), api.clone(), router.clone(), place, stop.clone()));
                }
                Err(_) => {
                    api.stats.refused.fetch_add(1, Relaxed);
                    // The socket's buffer is empty: this fits or the peer is gone.
                    let _ = stream.try_write(CROWDED);
                }
            },
            Err(cause) => {
                if api.stats.accept_errors.fetch_add(1, Relaxed).is_multiple_of(1024) {
                    tracing::warn!(%cause, "the API cannot accept a connection");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(
    (stream, peer): (TcpStream, SocketAddr),
    api: Arc<Api>,
    router: Router,
    _place: OwnedSemaphorePermit,
    mut stop: watch::Receiver<bool>,
) {
    // An answer is one write: waiting for more of it would only delay it.
    let _ = stream.set_nodelay(true);
    let stats = api.stats.clone();
    let _counted = Gauge::up(&stats.connections);
    let header = api.options.header;
    let service = service_fn(move |request| {
        let (api, router) = (api.clone(), router.clone());
        async move { Ok::<Response, Infallible>(answer(&api, router, request, peer).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(header)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    // Cancel-safe: the connection is polled again after the other branch.
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stop.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(cause) = ended {
        tracing::debug!(%cause, "an API connection ended early");
    }
}

/// One request, from its trace to its counted answer.
async fn answer(api: &Api, mut router: Router, request: Request<Incoming>, peer: SocketAddr) -> Response {
    let trace = Trace::of(request.headers());
    // A caller that hangs up ends this future anywhere: the count must not stay.
    let _counted = Gauge::up(&api.stats.in_flight);
    let noted = Noted::new(peer);
    let mut response = match check_framing(request.headers()) {
        Err(fault) => fault.render(&trace),
        Ok(()) => {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(trace);
            request.extensions_mut().insert(noted.clone());
            let Ok(response) = router.call(request).await;
            response
        }
    };
    if let Some(fault) = response.extensions_mut().remove::<Fault>() {
        let allow = response.headers_mut().remove(header::ALLOW);
        response = fault.render(&trace);
        if let Some(allow) = allow {
            response.headers_mut().insert(header::ALLOW, allow);
        }
    }
    noted.end(api, response.status().as_u16()).await;
    noted.write_headers(response.headers_mut());
    response.headers_mut().insert(TRACEPARENT, trace.header());
    api.stats.answered(response.status().as_u16());
    response
}

/// Two statements of a body's length are how requests are smuggled past a proxy: no guess is made.
fn check_framing(headers: &HeaderMap) -> Result<(), Fault> {
    if headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH) {
        return Err(Fault::bad_framing("both transfer-encoding and content-length"));
    }
    Ok(())
}
