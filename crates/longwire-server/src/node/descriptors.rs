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

/// What so many descriptors leave for devices and for the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// Device connections.
    pub(super) devices: usize,
    /// API connections; fewer than configured if the limit is low.
    pub(super) api: usize,
}

/// Divides a limit: the reserve first, then the API, the rest for devices. A limit too low for that still serves somebody: a
/// quarter each for reserve and API at most, so that devices and API together can never take what store and log need.
#[must_use]
pub(super) fn shares(limit: u64, api_connections: usize) -> Shares {
    let api = (api_connections as u64).min(limit / 4);
    let devices = limit - RESERVED.min(limit / 4) - api;
    let fitting = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    Shares { devices: fitting(devices), api: fitting(api).max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_never_given_away() {
        for (limit, devices, api) in
            [(1_048_576, 1_047_040, 1024), (20_000, 18_464, 1024), (2048, 1024, 512), (256, 128, 64)]
        {
            assert_eq!(shares(limit, 1024), Shares { devices, api }, "{limit}");
        }
        for limit in 4..5000 {
            let Shares { devices, api } = shares(limit, 1024);
            assert!(devices as u64 + api as u64 + RESERVED.min(limit / 4) <= limit, "{limit}");
        }
    }
}
