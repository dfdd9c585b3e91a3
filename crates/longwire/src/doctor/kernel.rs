//! Descriptors, kernel settings and memory.

use super::Look;
use super::advice::{DESCRIPTORS, SYSCTLS, Sysctl, words};
use super::finding::{Finding, Level};
use longwire_server::node::capacity::{CONNECTION_BYTES, Capacity, MEMORY_PERCENT};

const GIB: f64 = (1024 * 1024 * 1024) as f64;
/// Bytes of a page where the kernel counts in pages; the same on every machine that Longwire is built for.
const PAGE_BYTES: u64 = 4096;
/// Socket memory for a device that reads nothing: a full outbox's worth waits in the kernel (LIMITS 7.1).
const STUCK_BYTES: u64 = 64 * 1024;
/// Kernel settings that count devices or what each of them needs one of.
const COUNT_DEVICES: &[&str] =
    &["fs.nr_open", "fs.file-max", "fs.epoll.max_user_watches", "net.netfilter.nf_conntrack_max"];

/// The limit of the process, and what that carries.
pub(super) fn descriptors(look: &Look) -> Vec<Finding> {
    let process = look.process.as_deref().unwrap_or("self");
    let whose = look
        .process
        .as_ref()
        .map_or_else(|| "of this shell".to_owned(), |pid| format!("of the server (pid {pid})"));
    let Some((soft, hard)) = look.machine.descriptor_limits(process) else {
        return vec![Finding::new(
            Level::Advice,
            "descriptor limit",
            "cannot be read",
            "/proc has no limits of the process",
        )];
    };
    let carried =
        Capacity::of(&look.machine, hard, look.config.api.connections_max, look.config.memory_limit_bytes)
            .by_descriptors;
    let found = format!("{hard} {whose} (soft {soft}, which the server raises): {carried} devices");
    let level = if carried < look.plan.connections {
        look.plan.shortage()
    } else if hard < DESCRIPTORS && !look.plan.promised {
        Level::Advice
    } else {
        return vec![Finding::well("descriptor limit", found)];
    };
    let why = format!(
        "each device takes one; {} are wanted. Beyond the limit devices are answered `full`",
        look.plan.connections
    );
    let mend = format!(
        "mkdir -p /etc/systemd/system/longwire.service.d && printf '[Service]\\nLimitNOFILE={DESCRIPTORS}\\n' > \
         /etc/systemd/system/longwire.service.d/descriptors.conf && systemctl daemon-reload && systemctl restart longwire   \
         # without systemd: ulimit -n {DESCRIPTORS} as root, before it starts"
    );
    vec![Finding::new(level, "descriptor limit", found, why).mended_by(mend)]
}

/// Every kernel setting of the table that this machine has.
pub(super) fn sysctls(look: &Look) -> Vec<Finding> {
    let read = SYSCTLS.iter().filter_map(|sysctl| Some((sysctl, look.machine.sysctl(sysctl.key)?)));
    read.map(|(sysctl, numbers)| judge(look, sysctl, &numbers)).collect()
}

fn judge(look: &Look, sysctl: &Sysctl, numbers: &[u64]) -> Finding {
    if sysctl.is_met(numbers) {
        return Finding::well(sysctl.key, words(numbers));
    }
    let first = numbers.first().copied().unwrap_or(0);
    // These count devices, so the plan says how bad it is.
    let counts_devices = COUNT_DEVICES.contains(&sysctl.key);
    let level = match (counts_devices, first < look.plan.connections) {
        (true, true) => look.plan.shortage(),
        (true, false) => Level::Advice,
        (false, _) => sysctl.level,
    };
    let (key, value) = (sysctl.key, sysctl.value());
    Finding::new(level, key, words(numbers), sysctl.why)
        .mended_by(format!("sysctl -w {key}=\"{value}\"   # to stay: deploy/sysctl.d/60-longwire.conf"))
}

/// The memory of all TCP sockets together. It depends on the machine, so no file can say it.
pub(super) fn tcp_memory(look: &Look) -> Option<Finding> {
    let numbers = look.machine.sysctl("net.ipv4.tcp_mem")?;
    let (most, memory) = (*numbers.get(2)?, look.machine.memory_line("MemTotal")?);
    let (bytes, wanted) = (most.saturating_mul(PAGE_BYTES), memory / 16);
    let found = format!(
        "{} pages: {:.1} GiB, {} devices that read nothing with {} KiB each",
        words(&numbers),
        bytes as f64 / GIB,
        bytes / STUCK_BYTES,
        STUCK_BYTES / 1024
    );
    if bytes >= wanted {
        return Some(Finding::well("net.ipv4.tcp_mem", found));
    }
    let pages = memory / PAGE_BYTES;
    let (low, pressure, high) = (pages / 16, pages / 12, pages / 8);
    let why = "bytes in all sockets' buffers; above the third number the kernel throws data of every connection away. An eighth \
               of the memory is the kernel's own choice";
    Some(
        Finding::new(Level::Warning, "net.ipv4.tcp_mem", found, why)
            .mended_by(format!("sysctl -w net.ipv4.tcp_mem=\"{low} {pressure} {high}\"")),
    )
}

/// Whether memory holds the devices that are wanted.
pub(super) fn memory(look: &Look) -> Option<Finding> {
    let bytes = look.machine.memory_bytes()?;
    let carried = Capacity::of(&look.machine, 0, 0, look.config.memory_limit_bytes).by_memory?;
    let limit = match look.config.memory_limit_bytes {
        0 => String::new(),
        bytes => format!(" and node.memory_limit {:.1} GiB", bytes as f64 / GIB),
    };
    let found = format!(
        "{:.1} GiB{limit}: {carried} idle devices ({CONNECTION_BYTES} bytes each, of {MEMORY_PERCENT} %)",
        bytes as f64 / GIB
    );
    if carried >= look.plan.connections {
        return Some(Finding::well("memory", found));
    }
    let why = format!(
        "{} devices are wanted; more than memory carries end the process when it is needed most. Without more memory, let \
         fewer in",
        look.plan.connections
    );
    let mend = format!("longwire serve --set listener.device.connections_max={carried}");
    Some(Finding::new(look.plan.shortage(), "memory", found, why).mended_by(mend))
}

/// Whether the firewall's table is filling up now.
pub(super) fn tracking(look: &Look) -> Option<Finding> {
    let count = look.machine.sysctl("net.netfilter.nf_conntrack_count")?.first().copied()?;
    let most = look.machine.sysctl("net.netfilter.nf_conntrack_max")?.first().copied()?;
    let found = format!("{count} of {most} entries in use");
    if count < most / 10 * 9 {
        return Some(Finding::well("connection tracking", found));
    }
    let why = "at the end of the table packets of new devices are dropped; better still, do not track the devices' port";
    let port = look.config.device_bind().port();
    let mend = format!(
        "nft add table ip longwire && nft 'add chain ip longwire in {{ type filter hook prerouting priority raw; }}' && nft add \
         rule ip longwire in tcp dport {port} notrack && nft 'add chain ip longwire out {{ type filter hook output priority \
         raw; }}' && nft add rule ip longwire out tcp sport {port} notrack"
    );
    Some(Finding::new(Level::Error, "connection tracking", found, why).mended_by(mend))
}
