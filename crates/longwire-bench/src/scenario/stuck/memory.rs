//! The server's memory and sockets while `bench stuck` runs.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::machine::Memory;
use crate::report::Figures;
use crate::series::spread;
use crate::slope::line;

/// The stuck peers' outboxes are full after this, counted from the cut; from here on memory must stay as it is.
const OUTBOXES_FULL: Duration = Duration::from_secs(2);
/// What the server has before the cut is judged over so many seconds.
const BEFORE_S: f64 = 20.0;

/// The server's memory each second, and the oldest CLOSE_WAIT of its device port in this network namespace.
#[derive(Default)]
pub(super) struct Samples {
    /// Seconds since the first login, MiB.
    rss_mib: Vec<(f64, f64)>,
    pub(super) oldest_close_wait: Duration,
}

pub(super) fn sample(pid: u32, port: u16, begin: Instant, over: &AtomicBool) -> Samples {
    let mut samples = Samples::default();
    let mut waiting: std::collections::HashMap<String, Instant> = std::collections::HashMap::new();
    while !over.load(Relaxed) {
        if let Some(memory) = Memory::read(pid) {
            samples.rss_mib.push((begin.elapsed().as_secs_f64(), memory.rss_kib as f64 / 1024.0));
        }
        let now = close_waits(&std::fs::read_to_string("/proc/self/net/tcp").unwrap_or_default(), port);
        waiting.retain(|pair, _| now.contains(pair));
        for pair in now {
            let since = waiting.entry(pair).or_insert_with(Instant::now);
            samples.oldest_close_wait = samples.oldest_close_wait.max(since.elapsed());
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    samples
}

/// Both ends of every socket of `port` that the peer has closed and we have not (state 8).
fn close_waits(table: &str, port: u16) -> Vec<String> {
    let local = format!(":{port:04X}");
    let sockets = table.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (from, to, state) = (fields.next()?, fields.next()?, fields.next()?);
        (state == "08" && from.ends_with(&local)).then(|| format!("{from} {to}"))
    });
    sockets.collect()
}

/// The rows on memory: `stuck_s` is when the peers were cut off, `last_s` after how many seconds the last was closed.
pub(super) fn report(figures: &mut Figures, samples: &Samples, stuck_s: f64, last_s: Option<f64>) {
    let rss = &samples.rss_mib;
    if let Some(rss) = spread(rss.iter().map(|sample| sample.1)) {
        let text = format!("min {:.1}, median {:.1}, max {:.1}", rss.min, rss.median, rss.max);
        figures.row(format!("server RSS, MiB, {} samples", rss.turns), text);
        figures.extra("rss_mib", rss);
    }
    let within = |from: f64, to: f64| -> Vec<(f64, f64)> {
        rss.iter().filter(|(at, _)| (from..to).contains(at)).copied().collect()
    };
    let well = within(stuck_s - BEFORE_S, stuck_s);
    let full = within(stuck_s + OUTBOXES_FULL.as_secs_f64(), stuck_s + last_s.unwrap_or(f64::INFINITY));
    if let Some(slope) = line(&full) {
        let text = format!("{:+.3} MiB a minute, {} samples", slope.slope * 60.0, full.len());
        figures.row("slope while outboxes are full", text);
        figures.extra("rss_slope_mib_per_min", slope.slope * 60.0);
    }
    let most = |samples: &[(f64, f64)]| samples.iter().map(|sample| sample.1).fold(0.0, f64::max);
    let (well, full) = (most(&well), most(&full));
    figures.row("RSS, MiB: most before the cut, most after", format!("{well:.1}, {full:.1}"));
    figures.extra("rss_rise_mib", full - well);
    figures.extra("rss_mib_each_second", rss.iter().map(|sample| sample.1).collect::<Vec<_>>());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_that_wait_for_our_close_are_told_from_others() {
        let table = "  sl  local_address rem_address   st tx_queue\n\
             0: 0100007F:49C8 0200007F:1F90 08 00000000\n\
             1: 0100007F:49C8 0200007F:1F91 01 00000000\n\
             2: 0100007F:0050 0200007F:1F92 08 00000000\n";
        assert_eq!(close_waits(table, 18888), ["0100007F:49C8 0200007F:1F90"]);
        assert!(close_waits("", 1).is_empty());
    }
}
