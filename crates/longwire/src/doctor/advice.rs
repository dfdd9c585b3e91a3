//! What a machine should be set to, each with its reason. The files in `deploy/` say the same; a test compares them.

use super::finding::Level;

/// Descriptors of the process: a million devices, the API and a reserve. The kernel's default `fs.nr_open` is the same
/// number, so it needs no other setting.
pub(super) const DESCRIPTORS: u64 = 1_048_576;
/// Devices that a machine is measured by when nobody says how many it should carry.
pub(super) const CONNECTIONS_USUAL: u64 = 65_536;

/// A kernel setting.
pub(super) struct Sysctl {
    /// Its name.
    pub(super) key: &'static str,
    /// What it should be at least; for a range its first and last number.
    pub(super) wanted: &'static [u64],
    /// What falling short means.
    pub(super) level: Level,
    /// Why, with figures.
    pub(super) why: &'static str,
}

impl Sysctl {
    /// Whether these numbers are as good as the wanted ones.
    pub(super) fn is_met(&self, numbers: &[u64]) -> bool {
        match (self.wanted, numbers) {
            ([wanted], [number, ..]) => number >= wanted,
            ([first, last], [from, to]) => from <= first && to >= last,
            _ => false,
        }
    }

    /// The wanted value as it is written.
    pub(super) fn value(&self) -> String {
        words(self.wanted)
    }
}

/// Numbers as the kernel's files write them.
pub(super) fn words(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
}

/// Every kernel setting that is looked at. Those of modules that are not loaded are passed over.
pub(super) const SYSCTLS: &[Sysctl] = &[
    Sysctl {
        key: "fs.nr_open",
        wanted: &[DESCRIPTORS],
        level: Level::Warning,
        why: "no process may have more descriptors than this, whatever its limit says; one device takes one",
    },
    Sysctl {
        key: "fs.file-max",
        wanted: &[2 * DESCRIPTORS],
        level: Level::Warning,
        why: "descriptors of all processes together; one device takes one, and the rest of the machine needs some",
    },
    Sysctl {
        key: "fs.epoll.max_user_watches",
        wanted: &[DESCRIPTORS],
        level: Level::Warning,
        why: "sockets that all epolls of the server's user may watch; the kernel chooses one per 4,600 bytes of memory. A device \
              that comes after the last one is closed at once",
    },
    Sysctl {
        key: "net.core.somaxconn",
        wanted: &[4096],
        level: Level::Warning,
        why: "caps the 4,096 accepted connections that may wait for each shard; when it is full a returning device's \
              connection is dropped and tried again only after 1, 3, 7 s",
    },
    Sysctl {
        key: "net.ipv4.tcp_max_syn_backlog",
        wanted: &[8192],
        level: Level::Warning,
        why: "handshakes under way; 18,000 devices that return in one second over a 200 ms path have 3,600 of them",
    },
    Sysctl {
        key: "net.ipv4.tcp_syncookies",
        wanted: &[1],
        level: Level::Warning,
        why: "without cookies a flood of SYNs keeps honest devices out as soon as the handshake queue is full",
    },
    Sysctl {
        key: "net.ipv4.ip_local_port_range",
        wanted: &[10_240, 65_535],
        level: Level::Advice,
        why: "a proxy on this machine opens one port per device and address: the usual 28,232 become 55,296; devices that \
              connect directly need none",
    },
    Sysctl {
        key: "net.core.rps_sock_flow_entries",
        wanted: &[32_768],
        level: Level::Advice,
        why: "lets the kernel handle a packet on the core whose shard will read it; 0 leaves that to chance (needs \
              rps_flow_cnt per queue, see the network card)",
    },
    Sysctl {
        key: "net.netfilter.nf_conntrack_max",
        wanted: &[DESCRIPTORS],
        level: Level::Warning,
        why: "the firewall's table holds an entry for each connection; when it is full, packets of new devices are dropped \
              without a word to anybody",
    },
];
