//! The calls that a shard makes on sockets: listen, read, write, refuse. All are non-blocking.

use crate::gate::GateOptions;
use longwire_proto::id::ClientId;
use longwire_proto::wire::{Refusal, ServerFrame};
use socket2::{Domain, Protocol, Socket, Type};
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
    socket.set_tcp_user_timeout(Some(Duration::from_secs(options.write_stall_s.into())))?;
    if options.socket_buffer_bytes > 0 {
        socket.set_send_buffer_size(options.socket_buffer_bytes)?;
        socket.set_recv_buffer_size(options.socket_buffer_bytes)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(mio::net::TcpListener::from_std(socket.into()))
}

/// What one read brought.
pub(in crate::gate) enum ReadOutcome {
    /// So many bytes; fewer than asked for means that the socket is drained.
    Bytes(usize),
    /// Nothing now.
    Drained,
    /// The peer will send no more.
    Ended,
    /// The connection broke.
    Broken,
}

pub(in crate::gate) fn read_once(socket: &mut mio::net::TcpStream, into: &mut [u8]) -> ReadOutcome {
    loop {
        match socket.read(into) {
            Ok(0) => return ReadOutcome::Ended,
            Ok(count) => return ReadOutcome::Bytes(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return ReadOutcome::Drained,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return ReadOutcome::Broken,
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

/// Tells a connection that it is not taken, as far as its socket takes it at once, and drops it. What it sent is read
/// first: closing over unread bytes would reset the connection and could destroy the answer on its way.
pub(in crate::gate) fn refuse_and_drop(mut socket: mio::net::TcpStream, refusal: Refusal) {
    let mut frame = Vec::with_capacity(64);
    ServerFrame::Refusal(refusal).encode(ClientId(0), &mut frame);
    let mut unread = [0; 1024];
    let _ = socket.read(&mut unread);
    let _ = socket.write(&frame);
    let _ = socket.shutdown(std::net::Shutdown::Write);
}
