//! All cases against a broker, and against the list of those that it is known to fail.

use super::case::{self, Case};
use super::play::{Broker, play};
use super::support::{Dice, Start};
use super::text::Names;
use std::collections::{BTreeMap, BTreeSet};
use std::net::ToSocketAddrs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

const KNOWN_FAILURES: &str = "tests/mqtt_conformance/lists/known_failures.txt";
/// Cases that are played beside each other.
const PLAYERS: usize = 12;

/// What each case ended with; the failed ones only.
fn failures(cases: &[Case], broker: Broker) -> BTreeMap<String, String> {
    // Names that no earlier run against the same broker used.
    let run = Dice::new("mqtt_conformance").within(0..1 << 20);
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..PLAYERS {
            scope.spawn(|| {
                while let Some((at, case)) = {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    cases.get(at).map(|case| (at, case))
                } {
                    let names = Names {
                        client: format!("cf{run:x}n{at}"),
                        topic: format!("cf/{run:x}/{at}"),
                        ..Names::default()
                    };
                    if let Err(what) = play(case, names, broker) {
                        failed.lock().unwrap().insert(case.title(), what);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap()
}

/// Lines of `title — reason`.
fn known(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let parted = |line: &str| {
        let (title, reason) = line.split_once(" — ").unwrap_or_else(|| panic!("no reason: {line}"));
        (title.to_owned(), reason.to_owned())
    };
    lines.map(parted).collect()
}

#[track_caller]
fn judge(cases: &[Case], failed: &BTreeMap<String, String>, known: &BTreeMap<String, String>) {
    let titles: BTreeSet<String> = cases.iter().map(Case::title).collect();
    let mut wrong: Vec<String> = Vec::new();
    wrong.extend(
        failed
            .iter()
            .filter(|(title, _)| !known.contains_key(*title))
            .map(|(title, what)| format!("FAILS   {title}\n        {what}")),
    );
    wrong.extend(known.keys().filter(|title| !failed.contains_key(*title)).map(|title| {
        let what = if titles.contains(title) { "PASSES and is listed as failing" } else { "UNKNOWN" };
        format!("{what}: {title}")
    }));
    eprintln!("{} cases, {} fail as known", cases.len(), failed.len().min(known.len()));
    assert!(wrong.is_empty(), "{} cases are not as they should be:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn titles_are_unique() {
    let mut titles = BTreeSet::new();
    for case in case::all() {
        assert!(titles.insert(case.title()), "twice: {}", case.title());
        assert!(!case.steps.is_empty(), "no steps: {}", case.title());
    }
    assert!(titles.len() >= 600, "{} cases", titles.len());
}

/// Takes out of the list what passes now. Nothing is ever added to it but by hand, with a reason.
fn strike_out(failed: &BTreeMap<String, String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(KNOWN_FAILURES);
    let text = std::fs::read_to_string(&path).unwrap();
    let stays = |line: &&str| {
        line.starts_with('#') || line.split_once(" — ").is_some_and(|(title, _)| failed.contains_key(title))
    };
    let kept: String = text.lines().filter(stays).map(|line| format!("{line}\n")).collect();
    std::fs::write(path, kept).unwrap();
}

/// Longwire, or the broker that is named.
#[test]
fn a_broker_answers_as_the_specification_says() {
    let cases = case::all();
    let Ok(target) = std::env::var("LONGWIRE_CONFORMANCE_TARGET") else {
        // As low as keep alives of cases go.
        let server = Start::default().arg("--set=heartbeat.min=5").start();
        let failed = failures(&cases, Broker { address: server.device, gives_reasons: true });
        if std::env::var_os("UPDATE_DOCS").is_some() {
            strike_out(&failed);
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(KNOWN_FAILURES);
        return judge(&cases, &failed, &known(&std::fs::read_to_string(path).unwrap()));
    };
    let address = target.to_socket_addrs().unwrap().next().unwrap();
    let failed = failures(&cases, Broker { address, gives_reasons: false });
    let list = std::env::var("LONGWIRE_CONFORMANCE_KNOWN").map(|path| std::fs::read_to_string(path).unwrap());
    judge(&cases, &failed, &known(&list.unwrap_or_default()));
}
