//! The clocks: what the kernel counts time by, and whether somebody keeps the wall clock right.

use super::Look;
use super::finding::{Finding, Level};

const FOLDER: &str = "sys/devices/system/clocksource/clocksource0";
/// Clocks that are read without a call into the kernel.
const FAST: &[&str] =
    &["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "riscv_clocksource"];
/// Signs that somebody keeps the wall clock: a file of systemd-timesyncd, chrony, ntpd, openntpd.
const KEEPERS: &[(&str, &str)] = &[
    ("run/systemd/timesync/synchronized", "systemd-timesyncd, synchronised"),
    ("run/chrony/chronyd.pid", "chronyd runs"),
    ("run/chronyd.pid", "chronyd runs"),
    ("run/ntpd.pid", "ntpd runs"),
    ("var/run/ntpd.pid", "ntpd runs"),
    ("run/ntpd.sock", "openntpd runs"),
];

/// The clock source.
pub(super) fn source(look: &Look) -> Option<Finding> {
    let now = look.machine.text(format!("{FOLDER}/current_clocksource"))?;
    if FAST.contains(&now.as_str()) {
        return Some(Finding::well("clock source", now));
    }
    let there = look.machine.text(format!("{FOLDER}/available_clocksource")).unwrap_or_default();
    let better = there.split_whitespace().find(|name| FAST.contains(name));
    let why = "every look at this clock is a call into the kernel, some ten times slower; a shard looks at it in each turn, and so \
               does every log line";
    let finding = Finding::new(Level::Warning, "clock source", format!("{now} (there are: {there})"), why);
    Some(match better {
        Some(better) => finding.mended_by(format!(
            "echo {better} > /{FOLDER}/current_clocksource   # to stay: clocksource={better} on the kernel's command line"
        )),
        None => finding,
    })
}

/// Whether the wall clock is kept right.
pub(super) fn wall(look: &Look) -> Finding {
    if let Some((_, who)) = KEEPERS.iter().find(|(path, _)| look.machine.has(path)) {
        return Finding::well("wall clock", *who);
    }
    let why = "a message's ttl, a token's end and the times in logs go by the wall clock; one that is an hour off makes a message \
               with an hour to live expire at once. In a container the host may keep it, which cannot be seen from here";
    Finding::new(Level::Warning, "wall clock", "no sign that anybody keeps it right", why)
        .mended_by("timedatectl set-ntp true   # or: apt-get install chrony")
}
