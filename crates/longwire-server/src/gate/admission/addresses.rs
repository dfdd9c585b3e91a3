//! What each address has open, has not yet heard a CONNECT from, and how fast it comes: two rows of counters under a random
//! key (a count-min sketch). Memory is fixed, 1 MiB, whoever comes; a count is never too small, and too large only for an
//! address that shares both its cells with a busy one. Nobody can choose such a pair without the key.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Cells of one row. With a million peers spread evenly a count is too large by about thirty, far below the bounds that
/// it is held against.
const CELLS: usize = 1 << 15;
const ROWS: usize = 2;
/// So many seconds of its rate may come from an address at once.
const BURST_S: u64 = 2;

/// The cells of an address; kept in a connection's record so that what it took is given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::gate) struct Address(u32);

impl Address {
    fn cells(self) -> [usize; ROWS] {
        [self.0 as usize % CELLS, CELLS + (self.0 as usize >> 15) % CELLS]
    }
}

#[derive(Default)]
struct Cell {
    open: AtomicU32,
    awaiting: AtomicU32,
    /// When the cell has room for its whole burst again, microseconds (GCRA).
    due_us: AtomicU64,
}

/// See the module.
pub(super) struct Addresses {
    key: RandomState,
    cells: Box<[Cell]>,
    period_us: u64,
}

impl Addresses {
    /// `rate`: new connections per second of one address.
    pub(super) fn new(rate: u32) -> Addresses {
        Addresses {
            key: RandomState::new(),
            cells: (0..ROWS * CELLS).map(|_| Cell::default()).collect(),
            period_us: 1_000_000 / u64::from(rate.max(1)),
        }
    }

    /// An IPv4 address counts by itself, an IPv6 address by its /64: whoever has one has all others of it.
    pub(super) fn of(&self, ip: IpAddr) -> Address {
        let network = match ip.to_canonical() {
            IpAddr::V4(v4) => u128::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.to_bits() >> 64 << 64,
        };
        Address(self.key.hash_one(network) as u32)
    }

    pub(super) fn open(&self, address: Address) -> u32 {
        self.least(address, |cell| cell.open.load(Relaxed))
    }

    pub(super) fn awaiting(&self, address: Address) -> u32 {
        self.least(address, |cell| cell.awaiting.load(Relaxed))
    }

    pub(super) fn enter(&self, address: Address) {
        for cell in self.both(address) {
            cell.open.fetch_add(1, Relaxed);
            cell.awaiting.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn awaits_no_more(&self, address: Address) {
        for cell in self.both(address) {
            cell.awaiting.fetch_sub(1, Relaxed);
        }
    }

    pub(super) fn leave(&self, address: Address) {
        for cell in self.both(address) {
            cell.open.fetch_sub(1, Relaxed);
        }
    }

    /// Counts an arrival; false if the address comes faster than its rate and has used up its burst. One that came much
    /// faster while that was allowed is not made to pay for it later: its debt ends with the burst.
    pub(super) fn keeps_rate(&self, address: Address, now_us: u64) -> bool {
        let burst_us = BURST_S * 1_000_000;
        let mut keeps = false;
        for cell in self.both(address) {
            let due_us = cell.due_us.load(Relaxed).max(now_us);
            let next_us = due_us + self.period_us;
            if next_us <= now_us + burst_us {
                keeps = true;
                // Two shards may count two arrivals as one here: the rate is a little kinder then, never wrong for good.
                cell.due_us.store(next_us, Relaxed);
            }
        }
        keeps
    }

    fn least(&self, address: Address, of: impl Fn(&Cell) -> u32) -> u32 {
        self.both(address).map(of).into_iter().min().unwrap_or(0)
    }

    fn both(&self, address: Address) -> [&Cell; ROWS] {
        address.cells().map(|at| &self.cells[at])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn v4(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[test]
    fn a_fleet_behind_one_address_leaves_others_their_own_counts() {
        let addresses = Addresses::new(200);
        let fleet = addresses.of(v4(1));
        for _ in 0..10_000 {
            addresses.enter(fleet);
        }
        assert_eq!((addresses.open(fleet), addresses.awaiting(fleet)), (10_000, 10_000));
        let touched = (2..1002).filter(|n| addresses.open(addresses.of(v4(*n))) > 0).count();
        assert_eq!(touched, 0, "a thousand others share both cells with it in one case of a million");
        for _ in 0..10_000 {
            addresses.awaits_no_more(fleet);
            addresses.leave(fleet);
        }
        assert_eq!((addresses.open(fleet), addresses.awaiting(fleet)), (0, 0));
    }

    #[test]
    fn a_hundred_thousand_peers_take_no_more_memory_and_hardly_raise_each_others_counts() {
        let addresses = Addresses::new(200);
        for n in 0..100_000 {
            addresses.enter(addresses.of(v4(n)));
        }
        let most = (0..100_000).map(|n| addresses.open(addresses.of(v4(n)))).max().unwrap();
        assert!(most < 30, "an address with one connection counts {most}");
        for n in 0..100_000 {
            addresses.awaits_no_more(addresses.of(v4(n)));
            addresses.leave(addresses.of(v4(n)));
        }
        assert!(
            addresses.cells.iter().all(|cell| cell.open.load(Relaxed) + cell.awaiting.load(Relaxed) == 0)
        );
        assert_eq!(size_of_val(&*addresses.cells), 1 << 20);
    }

    #[test]
    fn an_address_keeps_its_rate_after_its_burst() {
        let addresses = Addresses::new(100);
        let one = addresses.of(v4(7));
        let kept = |from_us: u64, count: u64, step_us: u64| {
            (0..count).filter(|n| addresses.keeps_rate(one, from_us + n * step_us)).count()
        };
        assert_eq!(kept(1_000_000, 1000, 0), 200, "two seconds of it at once");
        assert_eq!(
            kept(2_000_000, 1000, 1000),
            199,
            "then as fast as the rate: a second has gone, one goes by"
        );
        assert_eq!(kept(60_000_000, 1000, 0), 200, "no debt beyond the burst");
        assert!(addresses.keeps_rate(addresses.of(v4(8)), 60_000_000));
    }

    #[test]
    fn ipv6_counts_by_its_network() {
        let addresses = Addresses::new(1);
        let of = |text: &str| addresses.of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
