//! How many device connections the machine carries, said before they come (003-03): by descriptors, by memory, by the
//! firewall's table, and by the ports of a proxy.

use super::config::Config;
use super::descriptors;
use super::machine::Machine;

/// Memory of one idle connection: about 4.1 KiB of the kernel's socket, measured with a million bare pairs, and less than
/// 0.5 KiB of ours (`longwire bench idle`).
pub const CONNECTION_BYTES: u64 = 4_700;
/// Share of the memory that may be planned with, in percent; the rest is for queues, buffers and the page cache (LIMITS 7.2).
pub const MEMORY_PERCENT: u64 = 70;
/// Our part of [`CONNECTION_BYTES`].
const RESIDENT_BYTES: u64 = 512;
/// Share of `node.memory_limit` at which new connections are refused (`Level::Crowded`), in percent.
const LIMIT_PERCENT: u64 = 80;

/// Device connections that each limit of a machine carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Descriptors, after the reserve and the API's.
    pub by_descriptors: u64,
    /// Memory, if every connection is idle: the machine's, kernel's part included, and the limit that the process was
    /// given, its own part only. `None` if neither is known.
    pub by_memory: Option<u64>,
    /// Entries of the firewall's connection table; `None` if it is not loaded.
    pub by_tracking: Option<u64>,
    /// Connections that a proxy on this machine can open from one of its addresses to one port of the server; others
    /// have ports of their own.
    pub per_proxy_address: Option<u64>,
}

impl Capacity {
    /// What this machine carries in a process with `descriptors_max` descriptors. `memory_limit_bytes`: resident memory of
    /// the process, 0 = not limited apart from the machine's.
    #[must_use]
    pub fn of(
        machine: &Machine,
        descriptors_max: u64,
        api_connections_max: usize,
        memory_limit_bytes: u64,
    ) -> Capacity {
        let on_machine = machine.memory_bytes().map(|bytes| bytes / 100 * MEMORY_PERCENT / CONNECTION_BYTES);
        let in_process =
            (memory_limit_bytes > 0).then(|| memory_limit_bytes / 100 * LIMIT_PERCENT / RESIDENT_BYTES);
        let ports = machine.sysctl("net.ipv4.ip_local_port_range");
        Capacity {
            by_descriptors: descriptors::shares(descriptors_max, api_connections_max).devices as u64,
            by_memory: [on_machine, in_process].into_iter().flatten().min(),
            by_tracking: machine
                .sysctl("net.netfilter.nf_conntrack_max")
                .and_then(|numbers| numbers.first().copied()),
            per_proxy_address: ports.and_then(|range| match range.as_slice() {
                [first, last] => (last + 1).checked_sub(*first),
                _ => None,
            }),
        }
    }

    /// Connections that all limits carry, and the name of the limit that is the nearest.
    #[must_use]
    pub fn least(&self) -> (u64, &'static str) {
        let limits = [
            (Some(self.by_descriptors), "descriptors"),
            (self.by_memory, "memory"),
            (self.by_tracking, "connection tracking"),
        ];
        let known = limits.into_iter().filter_map(|(limit, name)| Some((limit?, name)));
        known.min_by_key(|(limit, _)| *limit).unwrap_or((self.by_descriptors, "descriptors"))
    }
}

/// Raises the descriptor limit, lowers the configured numbers of connections to what it leaves room for, and says in one
/// line what the machine carries. A server for trying is not scolded for a small machine.
pub(super) fn fit(config: &mut Config, for_trying: bool) {
    let limit = descriptors::raise();
    let capacity =
        Capacity::of(&Machine::here(), limit, config.api.connections_max, config.memory_limit_bytes);
    config.api.connections_max = descriptors::shares(limit, config.api.connections_max).api;
    let room = usize::try_from(capacity.by_descriptors).unwrap_or(usize::MAX);
    let configured = config.gate.connections_max;
    config.gate.connections_max = configured.min(room);
    let (connections, api_connections) = (config.gate.connections_max, config.api.connections_max);
    let (least, nearest) = capacity.least();
    let Capacity { by_descriptors, by_memory, by_tracking, per_proxy_address } = capacity;
    tracing::info!(
        connections,
        configured,
        api_connections,
        nearest,
        by_descriptors,
        by_memory,
        by_tracking,
        per_proxy_address,
        "capacity for devices"
    );
    if for_trying {
        return;
    }
    if limit < descriptors::FEW {
        tracing::warn!(
            limit,
            connections,
            "few file descriptors: raise the hard limit (ulimit -Hn, LimitNOFILE) for more devices; longwire doctor says how"
        );
    }
    if least < connections as u64 && nearest != "descriptors" {
        tracing::warn!(
            nearest,
            least,
            connections,
            "more devices are let in than this limit carries; see longwire doctor"
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::Capacity;
    use crate::node::machine::Machine;

    #[test]
    fn the_nearest_limit_is_named() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let machine = Machine::below(root.path());
        let of = || Capacity::of(&machine, 1_048_576, 1024, 0);
        assert_eq!(of().least(), (1_047_040, "descriptors"));
        write("proc/meminfo", "MemTotal: 1048576 kB\n");
        assert_eq!(of().least(), (159_918, "memory"));
        let limited = |bytes| Capacity::of(&machine, 1_048_576, 1024, bytes).by_memory;
        assert_eq!(limited(64 * 1024 * 1024), Some(104_857), "four fifths of the limit, half a KiB each");
        assert_eq!(limited(1 << 40), Some(159_918), "the machine has less than the limit");
        write("proc/sys/net/netfilter/nf_conntrack_max", "65536\n");
        assert_eq!(of().least(), (65_536, "connection tracking"));
        write("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n");
        assert_eq!(of().per_proxy_address, Some(28_232));
        write("proc/sys/net/ipv4/ip_local_port_range", "9\t1\n");
        assert_eq!(of().per_proxy_address, None);
    }
}
