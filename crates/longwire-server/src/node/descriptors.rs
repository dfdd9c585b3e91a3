//! File descriptors: the limit raised as far as it goes, and what that leaves for devices.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors kept for API connections, store files and everything else (THREATS, descriptor exhaustion).
pub(super) const RESERVED: u64 = 512;
/// Fewer descriptors than this are worth a warning: a server of long-lived connections wants many.
pub(super) const FEW: u64 = 65_536;

/// Raises the soft limit to the hard one and returns the limit that holds now.
#[must_use]
pub(super) fn raise() -> u64 {
    let now = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: now.maximum, maximum: now.maximum };
    if now.current != now.maximum && setrlimit(Resource::Nofile, wanted).is_err() {
        return now.current.unwrap_or(u64::MAX);
    }
    now.maximum.unwrap_or(u64::MAX)
}

/// Device connections that so many descriptors leave room for, API connections apart.
#[must_use]
pub(super) fn capacity(limit: u64, api_connections: usize) -> usize {
    let taken = RESERVED + api_connections as u64;
    // A limit too low for the reserve still serves somebody: half of it.
    usize::try_from(limit.saturating_sub(taken).max(limit / 2)).unwrap_or(usize::MAX)
}
