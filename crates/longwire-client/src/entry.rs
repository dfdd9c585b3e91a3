//! Where a device may connect: several entry nodes, one chosen at random by weight at each attempt (004-24).

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpStream, lookup_host};

/// Addresses of one name that are tried in one attempt.
const ADDRESSES_MAX: usize = 8;

/// An entry node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EntryNode {
    /// `host:port`.
    pub address: String,
    /// Its share against the others'; 0 is chosen only if all have 0.
    pub weight: u32,
}

/// The chosen one; `None` only if there is none.
#[must_use]
pub fn choose(nodes: &[EntryNode], random: u64) -> Option<&EntryNode> {
    let total: u64 = nodes.iter().map(|node| u64::from(node.weight)).sum();
    if total == 0 {
        return nodes.get((random % nodes.len().max(1) as u64) as usize);
    }
    let mut mark = random % total;
    nodes.iter().find(|node| {
        let chosen = mark < u64::from(node.weight);
        mark = mark.saturating_sub(u64::from(node.weight));
        chosen
    })
}

/// Connects to one of the addresses behind a name, beginning with any of them, so that a name that stands for several
/// nodes spreads its devices.
pub(crate) async fn connect(address: &str, random: u64) -> io::Result<TcpStream> {
    let mut addresses: Vec<SocketAddr> = lookup_host(address).await?.take(ADDRESSES_MAX).collect();
    let first = (random % addresses.len().max(1) as u64) as usize;
    addresses.rotate_left(first);
    TcpStream::connect(&addresses[..]).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn nodes(weights: &[u32]) -> Vec<EntryNode> {
        let node =
            |(index, weight): (usize, &u32)| EntryNode { address: format!("n{index}:1"), weight: *weight };
        weights.iter().enumerate().map(node).collect()
    }

    #[test]
    fn each_node_gets_its_share() {
        let nodes = nodes(&[1, 0, 3]);
        let mut counts = [0; 3];
        for random in 0..400 {
            let chosen = choose(&nodes, random).unwrap();
            counts[nodes.iter().position(|node| node == chosen).unwrap()] += 1;
        }
        assert_eq!(counts, [100, 0, 300]);
    }

    #[test]
    fn nodes_without_weights_are_alike_and_no_node_is_none() {
        let nodes = nodes(&[0, 0]);
        assert_eq!((0..4).filter(|random| choose(&nodes, *random) == Some(&nodes[1])).count(), 2);
        assert_eq!(choose(&[], 7), None);
    }
}
