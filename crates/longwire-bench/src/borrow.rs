//! The sockets of another process, duplicated: so the bare loop writes to the very connections that the server serves.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpStream};

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// State of an established connection in `/proc/<pid>/net/tcp`.
const ESTABLISHED: &str = "01";

/// Duplicates of the established sockets of local port `port` in the process `pid`, in the order of its descriptors, which is that of
/// the accepts. They share everything with the originals but the descriptor.
///
/// # Errors
/// The process is gone, or the system does not let us (it needs the right to trace the process).
pub(crate) fn borrow(pid: u32, port: u16) -> io::Result<Vec<TcpStream>> {
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp"))?;
    let peers = peers(&table, port);
    let mut descriptors: Vec<(i32, u16)> = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let Ok(link) = std::fs::read_link(entry.path()) else { continue };
        let inode =
            link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let (Some(number), Some(peer)) = (number, inode.and_then(|inode: u64| peers.get(&inode))) {
            descriptors.push((number, *peer));
        }
    }
    descriptors.sort_unstable();
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = process.ok_or_else(|| io::Error::other("no such process id"))?;
    let process = pidfd_open(process, PidfdFlags::empty())?;
    let mut sockets = Vec::with_capacity(descriptors.len());
    for (number, peer_port) in descriptors {
        let socket = TcpStream::from(pidfd_getfd(&process, number, PidfdGetfdFlags::empty())?);
        // The number may have been given to another socket since the table was read.
        if socket.peer_addr().is_ok_and(|peer| peer.port() == peer_port) {
            sockets.push(socket);
        }
    }
    Ok(sockets)
}

/// The address of a socket's other end.
pub(crate) fn peer_of(socket: &TcpStream) -> Ipv4Addr {
    match socket.peer_addr().map(|peer| peer.ip()) {
        Ok(IpAddr::V4(address)) => address,
        _ => Ipv4Addr::UNSPECIFIED,
    }
}

/// Inode to peer port of the established sockets of a local port.
fn peers(table: &str, port: u16) -> HashMap<u64, u16> {
    let local = format!(":{port:04X}");
    let rows = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (from, to, state, inode) = (fields.get(1)?, fields.get(2)?, fields.get(3)?, fields.get(9)?);
        let peer = u16::from_str_radix(to.rsplit_once(':')?.1, 16).ok()?;
        (from.ends_with(&local) && *state == ESTABLISHED).then(|| Some((inode.parse().ok()?, peer)))?
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn established_sockets_of_the_port_are_found_by_inode() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F90 0200007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4711 1\n\
             1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4712 1\n\
             2: 0100007F:0050 0200007F:C351 01 00000000:00000000 00:00000000 00000000     0        0 4713 1\n";
        assert_eq!(peers(table, 8080).into_iter().collect::<Vec<_>>(), [(4711, 50_000)]);
        assert!(peers("", 1).is_empty());
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(borrow(u32::MAX, 1).is_err());
    }
}
