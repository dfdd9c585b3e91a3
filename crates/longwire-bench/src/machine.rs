//! What this machine is and how busy it is, from `/proc`.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

/// Ticks per second of `/proc/stat`; the kernel shows 100 to programs on every architecture we run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Where a figure was measured. Figures of different machines are not compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    pub(crate) processor: String,
}

impl Machine {
    /// This machine.
    pub(crate) fn read() -> Machine {
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = processor.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
        Machine {
            cores: cores(),
            memory_mib: kib_of(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemTotal") / 1024,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().into(),
            processor: model.trim_start_matches(['\t', ' ', ':']).into(),
        }
    }
}

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Raises the soft limit of descriptors to the hard one; children inherit it.
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Refusal changes nothing: a fleet that needs more says so when it opens its sockets.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Processor time of the whole machine, seconds since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Busy {
    /// User, nice, system, interrupts.
    pub(crate) busy_s: f64,
    /// The part of it in soft interrupts (sampled at ticks).
    pub(crate) softirq_s: f64,
    /// Taken by the host for other guests.
    pub(crate) stolen_s: f64,
}

impl Busy {
    /// Now.
    pub(crate) fn read() -> Busy {
        Busy::parse(&fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    fn parse(stat: &str) -> Busy {
        let line = stat.lines().next().unwrap_or_default();
        let fields: Vec<f64> =
            line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
        let at = |index: usize| fields.get(index).copied().unwrap_or_default() / TICKS_PER_SECOND;
        Busy { busy_s: at(0) + at(1) + at(2) + at(5) + at(6), softirq_s: at(6), stolen_s: at(7) }
    }
}

/// Processor time of a process's living threads, nanoseconds; 0 if it cannot be read. The kernel's work on the
/// loopback that runs in a thread's sends is part of it.
pub(crate) fn cpu_ns(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let nanoseconds = |task: fs::DirEntry| -> Option<u64> {
        fs::read_to_string(task.path().join("schedstat")).ok()?.split_whitespace().next()?.parse().ok()
    };
    tasks.filter_map(Result::ok).filter_map(nanoseconds).sum()
}

/// Memory of one process, KiB, from `/proc/<pid>/smaps_rollup`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Memory {
    pub(crate) rss_kib: u64,
    pub(crate) pss_kib: u64,
    pub(crate) anonymous_kib: u64,
}

impl Memory {
    /// Now; `None` when the process is gone or belongs to somebody else.
    pub(crate) fn read(pid: u32) -> Option<Memory> {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        Some(Memory {
            rss_kib: kib_of(&rollup, "Rss"),
            pss_kib: kib_of(&rollup, "Pss"),
            anonymous_kib: kib_of(&rollup, "Anonymous"),
        })
    }
}

/// Open descriptors of a process; `None` when it is gone or belongs to somebody else.
pub(crate) fn open_descriptors(pid: u32) -> Option<usize> {
    fs::read_dir(format!("/proc/{pid}/fd")).ok().map(Iterator::count)
}

/// Memory that new work could get, MiB.
pub(crate) fn available_mib() -> u64 {
    kib_of(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemAvailable") / 1024
}

/// Memory that the kernel holds for everybody, KiB: slab, and pages of socket buffers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct KernelMemory {
    pub(crate) slab_kib: u64,
    pub(crate) tcp_buffers_kib: u64,
}

impl KernelMemory {
    /// Now.
    pub(crate) fn read() -> KernelMemory {
        let sockets = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
        KernelMemory {
            slab_kib: kib_of(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "Slab"),
            tcp_buffers_kib: tcp_pages(&sockets) * 4,
        }
    }
}

fn tcp_pages(sockstat: &str) -> u64 {
    let tcp = sockstat.lines().find_map(|line| line.strip_prefix("TCP:")).unwrap_or_default();
    let mut words = tcp.split_whitespace().skip_while(|word| *word != "mem").skip(1);
    words.next().and_then(|pages| pages.parse().ok()).unwrap_or_default()
}

fn kib_of(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn kernel_text_is_read() {
        let stat = "cpu  100 10 200 900 5 1 49 7 0 0\ncpu0 1 1 1 1\n";
        let busy = Busy::parse(stat);
        assert!((busy.busy_s - 3.6).abs() < 1e-9, "{busy:?}");
        assert!((busy.stolen_s - 0.07).abs() < 1e-9 && (busy.softirq_s - 0.49).abs() < 1e-9);
        assert_eq!(kib_of("Rss:   812 kB\nPss_Dirty: 3 kB\nPss:  700 kB\n", "Pss"), 700);
        assert_eq!(
            tcp_pages("sockets: used 9\nTCP: inuse 5 orphan 0 tw 2 alloc 6 mem 17\nUDP: inuse 1 mem 9\n"),
            17
        );
    }

    #[test]
    fn missing_text_reads_as_nothing() {
        assert_eq!(Busy::parse(""), Busy::default());
        assert_eq!(kib_of("", "Rss"), 0);
        assert_eq!(tcp_pages("TCP: mem"), 0);
        assert_eq!(Memory::read(u32::MAX), None);
        assert_eq!(cpu_ns(u32::MAX), 0);
    }

    #[test]
    fn this_process_is_measured() {
        assert!(Memory::read(std::process::id()).unwrap().rss_kib > 0);
        assert!(cpu_ns(std::process::id()) > 0);
        assert!(Machine::read().memory_mib > 0);
    }
}
