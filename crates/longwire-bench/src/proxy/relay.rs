//! One proxy: its listener, its connections, its toxics.

use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::dice::Dice;
use super::link::{End, Link, Toxics};
use super::toxic::{Stream, Toxic};

/// The upstream must answer within this; else the client is reset.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// How long the sides of a cut connection may take to read the rest.
const LINGER: Duration = Duration::from_secs(1);
/// Asked of the kernel for each buffer of each socket.
const KERNEL_BYTES: usize = 64 * 1024;
/// Pause after an accept that failed, for instance for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A proxy. It listens while it is enabled.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) name: String,
    pub(super) listen: String,
    pub(super) upstream: String,
    toxics: watch::Sender<Toxics>,
    running: Option<JoinHandle<()>>,
    connections_max: usize,
}

impl Relay {
    /// Not listening yet.
    pub(super) fn new(name: &str, listen: &str, upstream: &str, connections_max: usize) -> Relay {
        let toxics = watch::Sender::new(Toxics::default());
        let (name, listen, upstream) = (name.to_owned(), listen.to_owned(), upstream.to_owned());
        Relay { name, listen, upstream, toxics, running: None, connections_max }
    }

    /// Whether it listens.
    pub(super) fn is_enabled(&self) -> bool {
        self.running.is_some()
    }

    /// Its toxics, in the order in which they were added.
    pub(super) fn toxics(&self) -> Toxics {
        self.toxics.borrow().clone()
    }

    /// Puts other toxics in force, for living connections too.
    pub(super) fn set_toxics(&self, toxics: Vec<Toxic>) {
        self.toxics.send_replace(Arc::new(toxics));
    }

    /// Listens. An address without host is the loopback; port 0, or no address, is a free port, shown afterwards.
    pub(super) fn start(&mut self) -> io::Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let address = match self.listen.strip_prefix(':') {
            Some(port) => format!("127.0.0.1:{port}"),
            None if self.listen.is_empty() => "127.0.0.1:0".to_owned(),
            None => self.listen.clone(),
        };
        let listener = StdListener::bind(&address)?;
        listener.set_nonblocking(true)?;
        self.listen = listener.local_addr()?.to_string();
        let listener = TcpListener::from_std(listener)?;
        let accepting = accept(listener, self.upstream.clone(), self.toxics.clone(), self.connections_max);
        self.running = Some(tokio::spawn(accepting));
        Ok(())
    }

    /// Stops listening and drops its connections; both are done when this returns.
    pub(super) async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
            let _ = running.await;
        }
    }
}

/// Owns all connections of a proxy: they end with it. At `connections_max` a new one is reset.
async fn accept(
    listener: TcpListener,
    upstream: String,
    toxics: watch::Sender<Toxics>,
    connections_max: usize,
) {
    let upstream: Arc<str> = upstream.into();
    let mut dice = Dice::seeded();
    let mut connections = JoinSet::new();
    loop {
        // Both may be dropped at their await: an accepted socket is returned at once, a joined task was over.
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) if connections.len() < connections_max => {
                    connections.spawn(relay(client, upstream.clone(), toxics.subscribe(), dice.bits()));
                }
                Ok((client, _)) => reset(&client),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn relay(mut client: TcpStream, upstream: Arc<str>, toxics: watch::Receiver<Toxics>, draw: u64) {
    let Ok(Ok(mut server)) = timeout(CONNECT_TIME, TcpStream::connect(&*upstream)).await else {
        return reset(&client);
    };
    prepare(&client);
    prepare(&server);
    let hidden = AtomicU8::new(0);
    let ended = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = Link::new((from_client, to_server), toxics.clone(), Stream::Upstream, draw, &hidden);
        let down = Link::new((from_server, to_client), toxics, Stream::Downstream, draw, &hidden);
        tokio::try_join!(up.carry(), down.carry())
    };
    match ended {
        Ok(_) => {}
        Err(End::Reset) => {
            reset(&client);
            reset(&server);
        }
        Err(End::Cut) => {
            let _ = timeout(LINGER, async { tokio::join!(cut(&mut client), cut(&mut server)) }).await;
        }
    }
}

/// Small kernel buffers, so that a side that does not read is felt by the other after kilobytes and not megabytes, and
/// no putting together of slices. A socket that refuses is only less exact.
fn prepare(socket: &TcpStream) {
    let socket = SockRef::from(socket);
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_recv_buffer_size(KERNEL_BYTES);
    let _ = socket.set_send_buffer_size(KERNEL_BYTES);
}

/// Makes the socket send a RST when it is dropped.
fn reset(socket: &TcpStream) {
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// Says the end and reads what still comes: a socket closed with unread bytes would send a RST, and the other side
/// might lose what was written to it.
async fn cut(socket: &mut TcpStream) {
    let _ = socket.shutdown().await;
    let mut rest = [0; 4096];
    while let Ok(1..) = socket.read(&mut rest).await {}
}
