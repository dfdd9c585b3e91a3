//! The calls that a shard makes on sockets: listen, read, write, refuse. All are non-blocking.

use crate::gate::GateOptions;
use longwire_proto::close::CloseReason;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

/// Connections that the kernel may hold ready for one shard; the system's `somaxconn` caps it.
const BACKLOG: i32 = 4096;

/// A listening socket of its own for one shard (004-33). Options are set here once: accepted sockets inherit them, so an
/// accept costs one system call.
pub(in crate::gate) fn listen(
    address: SocketAddr,
    options: &GateOptions,
) -> io::Result<mio::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(user_timeout(options.write_stall_s)))?;
    if options.socket_buffer_bytes > 0 {
        socket.set_send_buffer_size(options.socket_buffer_bytes)?;
        socket.set_recv_buffer_size(options.socket_buffer_bytes)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(mio::net::TcpListener::from_std(socket.into()))
}

/// What the kernel's own deadline, `TCP_USER_TIMEOUT`, has beyond the write-stall deadline, seconds. It ends the connections that
/// the shard does not judge: those whose bytes are all in the kernel's queue.
const USER_TIMEOUT_AFTER_S: u32 = 2;
/// The kernel's deadline in write-stall deadlines while the shard judges. The kernel counts from the first time that it met a full
/// receiver, also when the peer has taken bytes since then, so it would end peers that are only slow.
const USER_TIMEOUTS_WHEN_JUDGED: u32 = 10;

fn user_timeout(stall_s: u32) -> Duration {
    Duration::from_secs(u64::from(stall_s) + u64::from(USER_TIMEOUT_AFTER_S))
}

/// An outbox stands: the shard says when the peer has taken nothing for too long, the kernel only in the last resort.
pub(in crate::gate) fn shard_judges(socket: &mio::net::TcpStream, stall_s: u32) {
    // A socket that refuses has broken, and says so at the next read or write.
    let timeout = user_timeout(stall_s * USER_TIMEOUTS_WHEN_JUDGED);
    let _ = SockRef::from(socket).set_tcp_user_timeout(Some(timeout));
}

/// The outbox is empty again: what the kernel still holds is the kernel's to judge.
pub(in crate::gate) fn kernel_judges(socket: &mio::net::TcpStream, stall_s: u32) {
    let _ = SockRef::from(socket).set_tcp_user_timeout(Some(user_timeout(stall_s)));
}

/// Why a connection broke. Nothing but `TCP_USER_TIMEOUT` makes a connection of ours time out.
pub(in crate::gate) fn broken_reason(error: &io::Error) -> CloseReason {
    match error.kind() {
        io::ErrorKind::TimedOut => CloseReason::WriteStall,
        _ => CloseReason::PeerLost,
    }
}

/// What one read brought.
pub(in crate::gate) enum ReadOutcome {
    /// So many bytes; fewer than asked for means that the socket is drained.
    Bytes(usize),
    /// Nothing now.
    Drained,
    /// The peer will send no more.
    Ended,
    /// The connection broke, for this reason.
    Broken(CloseReason),
}

pub(in crate::gate) fn read_once(socket: &mut mio::net::TcpStream, into: &mut [u8]) -> ReadOutcome {
    loop {
        match socket.read(into) {
            Ok(0) => return ReadOutcome::Ended,
            Ok(count) => return ReadOutcome::Bytes(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return ReadOutcome::Drained,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return ReadOutcome::Broken(broken_reason(&error)),
        }
    }
}

/// Writes as much as the socket takes now; a full socket takes 0.
pub(in crate::gate) fn write_slices(
    socket: &mut mio::net::TcpStream,
    slices: &[IoSlice<'_>],
) -> io::Result<usize> {
    loop {
        let written = if let [one] = slices { socket.write(one) } else { socket.write_vectored(slices) };
        match written {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Tells a connection a last word, as far as its socket takes it at once, and drops it. What it sent is read first: closing over
/// unread bytes would reset the connection and could destroy the answer on its way.
pub(in crate::gate) fn say_and_drop(mut socket: mio::net::TcpStream, word: &[u8]) {
    let mut unread = [0; 2048];
    let _ = socket.read(&mut unread);
    let _ = socket.write(word);
    let _ = socket.shutdown(std::net::Shutdown::Write);
}
