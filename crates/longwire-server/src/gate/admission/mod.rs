//! Who may come in, and when a device that may not is to come again (LIMITS 7.2). Shared by the shards; nothing here locks,
//! waits or grows with the number of peers.
//!
//! - `addresses`: what each address has open, in fixed sketches.
//! - `awaiting`: a shard's connections that have not said CONNECT, oldest first.
//! - `pace`: logins per second for the node, adapted to what it is measured to carry.
//! - `refusal`: why a connection is not taken, and when it may come again.

mod addresses;
mod awaiting;
mod pace;
mod refusal;

pub(super) use addresses::Address;
pub(super) use awaiting::Awaiting;
pub(super) use pace::{Load, Pace, STRAINED_TURN_US};
pub use refusal::Rejection;

use super::GateOptions;
use addresses::Addresses;
use refusal::Retry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

/// What all shards know together about who is connected.
pub(super) struct Admission {
    pub(super) pace: Pace,
    retry: Retry,
    began: Instant,
    addresses: Addresses,
    connections: AtomicUsize,
    connections_max: usize,
    address_connections_max: u32,
    address_awaiting_max: u32,
}

/// How a connection meets the door.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meeting {
    /// The node has no headroom: the rate of an address binds.
    pub(super) pressed: bool,
    /// Half of the places for connections without CONNECT are taken by old ones: the bound of an address binds.
    pub(super) awaiting_crowd: bool,
    /// Monotonic microseconds.
    pub(super) now_us: u64,
}

impl Admission {
    pub(super) fn new(options: &GateOptions) -> Admission {
        Admission {
            pace: Pace::new(options.login_rate_min, options.login_rate_max),
            retry: Retry::default(),
            began: Instant::now(),
            addresses: Addresses::new(options.address_rate),
            connections: AtomicUsize::new(0),
            connections_max: options.connections_max,
            address_connections_max: options.address_connections_max,
            address_awaiting_max: options.address_awaiting_max,
        }
    }

    /// Monotonic microseconds, the clock of everything here; at least one second.
    pub(super) fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64 + 1_000_000
    }

    /// Seconds after which a device may come again that was refused for this; more than 0.
    pub(super) fn retry_after_s(&self, rejection: Rejection) -> u16 {
        self.retry.after_s(rejection, self.pace.rate(), self.now_us())
    }

    /// The same for a login that ended without success, where nobody has said more.
    pub(super) fn retry_soon_s(&self) -> u16 {
        self.retry.soon_s()
    }

    /// The cells of an address.
    pub(super) fn address(&self, ip: IpAddr) -> Address {
        self.addresses.of(ip)
    }

    /// Takes a place for a connection that has not said CONNECT; [`Admission::leave`] gives it back.
    ///
    /// # Errors
    /// The limit that it meets; then no place is taken.
    pub(super) fn enter(&self, address: Address, meeting: Meeting) -> Result<(), Rejection> {
        if self.connections.fetch_add(1, Relaxed) >= self.connections_max {
            self.connections.fetch_sub(1, Relaxed);
            return Err(Rejection::Full);
        }
        let judged = self.judge_address(address, meeting);
        match judged {
            Ok(()) => self.addresses.enter(address),
            Err(_) => _ = self.connections.fetch_sub(1, Relaxed),
        }
        judged
    }

    /// The same for a load balancer, which stands for many: the bounds of an address do not bind until it says whose.
    ///
    /// # Errors
    /// The node is full.
    pub(super) fn enter_proxied(&self, balancer: Address) -> Result<(), Rejection> {
        if self.connections.fetch_add(1, Relaxed) >= self.connections_max {
            self.connections.fetch_sub(1, Relaxed);
            return Err(Rejection::Full);
        }
        self.addresses.enter(balancer);
        Ok(())
    }

    /// The load balancer has said whose the connection is, which has not said CONNECT: it takes its place there.
    ///
    /// # Errors
    /// The limit that it meets; then it keeps its place with the load balancer.
    pub(super) fn move_to(&self, from: Address, to: Address, meeting: Meeting) -> Result<(), Rejection> {
        self.judge_address(to, meeting)?;
        self.addresses.enter(to);
        self.addresses.awaits_no_more(from);
        self.addresses.leave(from);
        Ok(())
    }

    fn judge_address(&self, address: Address, meeting: Meeting) -> Result<(), Rejection> {
        if self.addresses.open(address) >= self.address_connections_max {
            return Err(Rejection::AddressConnections);
        }
        if meeting.awaiting_crowd && self.addresses.awaiting(address) >= self.address_awaiting_max {
            return Err(Rejection::AddressAwaiting);
        }
        if !self.addresses.keeps_rate(address, meeting.now_us) && meeting.pressed {
            return Err(Rejection::AddressRate);
        }
        Ok(())
    }

    /// The connection has said CONNECT, or ends without it.
    pub(super) fn awaits_no_more(&self, address: Address) {
        self.addresses.awaits_no_more(address);
    }

    /// The connection has ended, after [`Admission::awaits_no_more`].
    pub(super) fn leave(&self, address: Address) {
        self.addresses.leave(address);
        self.connections.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn admission(options: GateOptions) -> Admission {
        Admission::new(&options)
    }

    const CALM: Meeting = Meeting { pressed: false, awaiting_crowd: false, now_us: 1 };

    #[test]
    fn a_connection_that_is_refused_takes_no_place() {
        let door = admission(GateOptions {
            connections_max: 3,
            address_connections_max: 2,
            ..GateOptions::default()
        });
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|ip| door.address(ip.parse().unwrap()));
        assert_eq!([door.enter(one, CALM), door.enter(one, CALM)], [Ok(()), Ok(())]);
        for _ in 0..100 {
            assert_eq!(door.enter(one, CALM), Err(Rejection::AddressConnections));
        }
        assert_eq!(door.enter(other, CALM), Ok(()));
        assert_eq!(door.enter(other, CALM), Err(Rejection::Full));
        for address in [one, one, other] {
            door.awaits_no_more(address);
            door.leave(address);
        }
        assert_eq!(door.connections.load(Relaxed), 0);
        assert_eq!([door.enter(one, CALM), door.enter(one, CALM)], [Ok(()), Ok(())]);
    }

    #[test]
    fn the_bounds_of_an_address_that_bind_only_in_need_let_a_fleet_in_before_it() {
        let door =
            admission(GateOptions { address_rate: 10, address_awaiting_max: 5, ..GateOptions::default() });
        let fleet = door.address("192.0.2.1".parse().unwrap());
        for _ in 0..1000 {
            assert_eq!(door.enter(fleet, CALM), Ok(()));
        }
        let crowd = Meeting { awaiting_crowd: true, ..CALM };
        assert_eq!(door.enter(fleet, crowd), Err(Rejection::AddressAwaiting));
        let pressed = Meeting { pressed: true, ..CALM };
        assert_eq!(door.enter(fleet, pressed), Err(Rejection::AddressRate));
        let other = door.address("192.0.2.2".parse().unwrap());
        let both = Meeting { pressed: true, awaiting_crowd: true, now_us: 1 };
        assert_eq!(door.enter(other, both), Ok(()), "who kept to it is not touched");
    }
}
