//! The device port's sockets by TCP state (000-21, 003-06), from the kernel's own table, when `/metrics` is asked for.

use super::Page;
use prometheus_client::metrics::MetricType;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};

/// The table is read no further than so many lines, some tens of milliseconds. A machine with more sockets has no counts here,
/// and says so; `ss -s` has them.
const LINES_MAX: usize = 20_000;
/// Bytes of a line of IPv6 at most, with room to spare.
const LINE_BYTES: u64 = 256;
const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
/// By the kernel's number, from 1.
const STATES: [&str; 11] = [
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
];

pub(super) fn sockets(page: &mut Page<'_>, port: u16) -> fmt::Result {
    let counts = of_machine(port);
    page.gauge(
        "longwire_sockets_counted",
        "1 if longwire_sockets is told; 0 if the machine has more than 20,000 sockets, too many to count here",
        counts.is_some().into(),
    )?;
    let help = "sockets of the device port by TCP state";
    let mut family = page.0.encode_descriptor("longwire_sockets", help, None, MetricType::Gauge)?;
    for (state, count) in STATES.iter().zip(counts.unwrap_or_default()) {
        family.encode_family(&[("state", *state)])?.encode_gauge(&count)?;
    }
    Ok(())
}

/// `None`: too many, or the kernel does not tell. A table that is not there (no IPv6) is empty.
fn of_machine(port: u16) -> Option<Vec<u64>> {
    let mut counts = vec![0; STATES.len()];
    let mut left = LINES_MAX;
    let mut told = false;
    for table in TABLES {
        let Ok(file) = File::open(table) else { continue };
        told = true;
        left = count(BufReader::new(file), port, left, &mut counts)?;
    }
    told.then_some(counts)
}

/// Adds the sockets of this local port; how many lines are left of `lines_max`, `None` when the table has more.
fn count(table: impl BufRead, port: u16, lines_max: usize, counts: &mut [u64]) -> Option<usize> {
    let bounded = table.take((lines_max as u64 + 2) * LINE_BYTES);
    let mut left = lines_max;
    for line in bounded.lines().skip(1) {
        left = left.checked_sub(1)?;
        let Some(state) = line.ok().and_then(|line| state_at(&line, port)) else { continue };
        if let Some(count) = state.checked_sub(1).and_then(|at| counts.get_mut(at)) {
            *count += 1;
        }
    }
    Some(left)
}

/// The state of the socket of a line, if it is of this local port: `sl local remote state …`, in hexadecimal.
fn state_at(line: &str, port: u16) -> Option<usize> {
    let mut words = line.split_ascii_whitespace();
    let (_, own) = words.nth(1)?.rsplit_once(':')?;
    let own = u16::from_str_radix(own, 16).ok()?;
    (own == port).then(|| usize::from_str_radix(words.nth(1)?, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue\n\
         0: 0100007F:49C8 0200007F:1F90 08 00000000\n\
         1: 0100007F:49C8 0200007F:1F91 01 00000000\n\
         2: 00000000000000000000000000000000:49C8 00000000000000000000000000000000:0000 0A 0\n\
         3: 0100007F:0050 0200007F:1F92 08 00000000\n\
         4: 0100007F:49C8 0200007F:1F93 FF 0\n\
         nonsense\n";

    #[test]
    fn sockets_of_the_port_are_counted_by_state_and_nonsense_is_passed_over() {
        let mut counts = vec![0; STATES.len()];
        assert_eq!(count(TABLE.as_bytes(), 0x49C8, 10, &mut counts), Some(4));
        let told: Vec<_> = STATES.iter().zip(&counts).filter(|(_, count)| **count > 0).collect();
        assert_eq!(told, [(&"established", &1), (&"close_wait", &1), (&"listen", &1)]);
    }

    #[test]
    fn a_table_that_is_too_long_is_not_counted() {
        let mut counts = vec![0; STATES.len()];
        assert_eq!(count(TABLE.as_bytes(), 0x49C8, 6, &mut counts), Some(0));
        assert_eq!(count(TABLE.as_bytes(), 0x49C8, 5, &mut counts), None);
    }
}
