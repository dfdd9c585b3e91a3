//! A census of a server: what must be the same before and after connections came and went.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::BenchError;
use crate::http::Api;
use crate::machine::{Memory, open_descriptors};
use crate::metrics::{gauges, series};
use crate::order::Churned;
use crate::report::Figures;
use crate::scenario::idle::settle;

/// Every gauge is back within this.
const BACK_TIME: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(500);
/// Memory that has not come to rest after this is read as it is, and marked.
const SETTLE_TIME: Duration = Duration::from_secs(40);
const CLOSED: &str = "longwire_connections_closed_total";

/// Gauges that count nothing that a connection holds: maxima, a pace that adapts, logins of the last minute, the disk, sockets that the kernel
/// keeps in TIME_WAIT, and the process, which is read from outside. They are shown and not judged.
const NOT_HELD: [&str; 7] = [
    "longwire_reactor_loop_max_seconds",
    "longwire_store_commit_max_seconds",
    "longwire_store_free_bytes",
    "longwire_login_rate_allowed",
    "longwire_reconnects_last_minute",
    "longwire_sockets",
    "process_",
];

/// What the server held at one moment.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Census {
    pub(super) memory: Memory,
    /// Whether memory stood still.
    pub(super) settled: bool,
    pub(super) descriptors: usize,
    pub(super) gauges: BTreeMap<String, f64>,
    /// Connections closed so far, by the server's reason.
    pub(super) closed: BTreeMap<String, f64>,
}

impl Census {
    /// When memory stands still.
    pub(super) fn take(api: &Api, pid: u32) -> Result<Census, BenchError> {
        let level = settle(pid, 0, SETTLE_TIME)?;
        Ok(Census {
            memory: level.memory,
            settled: level.settled,
            descriptors: open_descriptors(pid).unwrap_or_default(),
            gauges: gauges(api)?,
            closed: series(api, CLOSED, "reason")?,
        })
    }

    /// What is judged and not what it was: name, before, after.
    pub(super) fn leaks(&self, after: &Census) -> Vec<(String, f64, f64)> {
        let mut leaks = differences(&self.gauges, &after.gauges);
        // Fewer is no leak: a server may close what it held for a while.
        if after.descriptors > self.descriptors {
            leaks.push(("descriptors".into(), self.descriptors as f64, after.descriptors as f64));
        }
        leaks
    }

    /// The rows of the gauges, of the descriptors and of the memory.
    pub(super) fn report(&self, after: &Census, figures: &mut Figures) {
        let growth = self.growth(after);
        let marks = [self.settled, after.settled].map(|settled| if settled { "" } else { " (still moving)" });
        let (old, new) = (self.memory, after.memory);
        let text = format!("{}{} {}{} ({growth:.3})", old.rss_kib, marks[0], new.rss_kib, marks[1]);
        figures.row("server RSS KiB, before and after", text);
        figures.row("server anonymous KiB", format!("{} {}", old.anonymous_kib, new.anonymous_kib));
        figures.row("descriptors", format!("{} {}", self.descriptors, after.descriptors));
        for (name, was, is) in union(&self.gauges, &after.gauges) {
            let mark = match (is_held(&name), same(was, is)) {
                (true, false) => "  NOT BACK",
                (false, _) => "  (not judged)",
                _ => "",
            };
            figures.row(format!("gauge {name}"), format!("{was} {is}{mark}"));
        }
        figures.extra("rss_growth", growth);
        figures.extra("before", self);
        figures.extra("after", after);
    }

    /// Memory afterwards, as a multiple of before.
    pub(super) fn growth(&self, after: &Census) -> f64 {
        after.memory.rss_kib as f64 / self.memory.rss_kib.max(1) as f64
    }

    /// Connections closed in between, by the server's reason, beside what the churners wanted.
    pub(super) fn report_reasons(&self, after: &Census, churned: &Churned, figures: &mut Figures) {
        let seen: BTreeMap<String, f64> = union(&self.closed, &after.closed)
            .map(|(reason, was, is)| (reason, is - was))
            .filter(|(_, count)| *count > 0.0)
            .collect();
        let mut wanted: BTreeMap<String, f64> = BTreeMap::new();
        for (ending, count) in &churned.ended {
            for reason in reasons(ending) {
                *wanted.entry((*reason).to_owned()).or_default() += *count as f64;
            }
        }
        for (reason, wanted, seen) in union(&wanted, &seen) {
            figures.row(format!("closed as {reason}: wanted, seen"), format!("{wanted} {seen}"));
        }
        figures.extra("closed_wanted", wanted);
        figures.extra("closed_seen", seen);
    }
}

/// What the server calls the ends of a cycle. A takeover has two connections; the second is closed by its device. Which
/// name a reset or an end before the login gets depends on what the server sees first.
fn reasons(ending: &str) -> &'static [&'static str] {
    match ending {
        "fin" | "half_close" | "early_fin" => &["peer_closed"],
        "reset" => &["peer_lost"],
        "bad_frame" => &["bad_magic"],
        "takeover" => &["taken_over", "peer_closed"],
        "kick" => &["kicked"],
        "login_timeout" => &["login_timeout"],
        "idle" => &["idle"],
        _ => &[],
    }
}

fn is_held(gauge: &str) -> bool {
    !NOT_HELD.iter().any(|name| gauge.starts_with(name))
}

fn same(was: f64, is: f64) -> bool {
    (was - is).abs() <= f64::EPSILON
}

fn union<'a>(
    before: &'a BTreeMap<String, f64>,
    after: &'a BTreeMap<String, f64>,
) -> impl Iterator<Item = (String, f64, f64)> + 'a {
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let at = |of: &BTreeMap<String, f64>, name: &str| of.get(name).copied().unwrap_or_default();
    names.into_iter().map(move |name| (name.clone(), at(before, name), at(after, name)))
}

fn differences(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> Vec<(String, f64, f64)> {
    union(before, after).filter(|(name, was, is)| is_held(name) && !same(*was, *is)).collect()
}

/// Waits until only `connections` are there, all of them logged in; how long it took, `None` if it did not happen.
pub(super) fn wait_for(api: &Api, connections: f64) -> Result<Option<f64>, BenchError> {
    wait(api, |now| {
        ["longwire_connections", "longwire_sessions"]
            .iter()
            .all(|name| now.get(*name).is_some_and(|count| *count <= connections))
    })
}

/// Waits until every judged gauge is what it was.
pub(super) fn wait_back(api: &Api, before: &Census) -> Result<Option<f64>, BenchError> {
    wait(api, |now| differences(&before.gauges, now).is_empty())
}

fn wait(api: &Api, is_so: impl Fn(&BTreeMap<String, f64>) -> bool) -> Result<Option<f64>, BenchError> {
    let begin = Instant::now();
    while begin.elapsed() < BACK_TIME {
        if is_so(&gauges(api)?) {
            return Ok(Some(begin.elapsed().as_secs_f64()));
        }
        std::thread::sleep(LOOK);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn census(descriptors: usize, gauges: &[(&str, f64)]) -> Census {
        let gauges = gauges.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        Census { memory: Memory::default(), settled: true, descriptors, gauges, closed: BTreeMap::new() }
    }

    #[test]
    fn a_gauge_that_is_not_back_is_a_leak_and_so_is_a_descriptor() {
        let before = census(10, &[("longwire_sessions", 3.0), ("process_open_fds", 10.0)]);
        assert_eq!(before.leaks(&before), []);
        let after = census(9, &[("longwire_sessions", 3.0), ("process_open_fds", 12.0)]);
        assert_eq!(before.leaks(&after), [], "fewer descriptors, and a gauge that is not judged");
        let after = census(11, &[("longwire_sessions", 2.0), ("longwire_connections_awaiting", 1.0)]);
        let names: Vec<String> = before.leaks(&after).into_iter().map(|leak| leak.0).collect();
        assert_eq!(names, ["longwire_connections_awaiting", "longwire_sessions", "descriptors"]);
    }
}
