//! Source addresses of fleets. A server limits what one address may do, so a fleet's connections come from many in turn, as those
//! of real devices do.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// Source addresses of one fleet process: with 18,000 connections no address has 300 of them.
pub(crate) const SOURCES_EACH: usize = 64;

/// The address of a fleet's connection by its number; `first` is the fleet's first address.
pub(crate) fn source_of(first: Ipv4Addr, connection: usize) -> Ipv4Addr {
    let [a, b, c, d] = first.octets();
    Ipv4Addr::new(a, b, c, d.saturating_add((connection % SOURCES_EACH) as u8))
}

/// A blocking connection from an address of the loopback, with deadlines for connecting, reading and writing.
pub(crate) fn connect_from(
    source: Ipv4Addr,
    target: SocketAddr,
    patience: Duration,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    if target.ip().is_loopback() && target.is_ipv4() {
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.connect_timeout(&target.into(), patience)?;
    socket.set_read_timeout(Some(patience))?;
    socket.set_write_timeout(Some(patience))?;
    Ok(socket.into())
}

/// The first address of the `fleet`th process of a team: 127.0.`net`.2 and on. Three fleets have addresses of their own.
pub(crate) fn first_of(net: u8, fleet: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, net, (2 + fleet * SOURCES_EACH).min(255 - SOURCES_EACH) as u8)
}

/// Which of `slices` equal parts of a team of `fleets` processes an address belongs to.
pub(crate) fn slice_of(source: Ipv4Addr, fleets: usize, slices: usize) -> usize {
    let place = usize::from(source.octets()[3].saturating_sub(2));
    (place * slices / (fleets.max(1) * SOURCES_EACH)).min(slices.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_spread_evenly_over_addresses_and_slices() {
        let mut sizes = [0; 10];
        for fleet in 0..2 {
            for connection in 0..5_000 {
                sizes[slice_of(source_of(first_of(2, fleet), connection), 2, 10)] += 1;
            }
        }
        assert!(sizes.iter().all(|size| (900..=1_100).contains(size)), "{sizes:?}");
        assert_eq!(slice_of(first_of(2, 1), 2, 1), 0);
    }

    #[test]
    fn no_address_is_out_of_range() {
        assert_eq!(source_of(first_of(9, 7), 63).octets()[3], 254);
        assert_eq!(source_of(Ipv4Addr::LOCALHOST, 64), Ipv4Addr::LOCALHOST);
    }
}
