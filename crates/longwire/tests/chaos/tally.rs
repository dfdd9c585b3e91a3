//! How much of everything a run met, and whether that was enough.

use crate::history::{Asked, Event, Line, Why};
use crate::storm::Report;
use std::collections::HashSet;

/// No breach, and everything happened.
pub fn judge(report: &Report, rounds: u64) {
    let Report { breaches, lines, tally, bitten, holes, over_rate, full, spent } = report;
    eprintln!("chaos: {rounds} kills, {bitten} of them with pushes under way; {spent:?}");
    eprintln!("    {over_rate} over the rate, {full} without room; {tally:?}");
    if !breaches.is_empty() {
        let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("chaos-history.txt");
        let text: Vec<String> = lines.iter().map(|line| format!("{line:?}\n")).collect();
        std::fs::write(&file, text.concat()).unwrap();
        let first: Vec<String> =
            breaches.iter().take(20).map(|b| format!("{} {}", b.invariant, b.what)).collect();
        panic!("{} breaches, history in {}:\n{}", breaches.len(), file.display(), first.join("\n"));
    }
    assert_eq!(*holes, 0, "a device's own proof of the chain failed");
    // A run in which the fault did not bite proves nothing.
    assert!(bitten * 2 >= rounds, "only {bitten} of {rounds} kills met pushes under way");
    assert!(tally.accepted >= rounds * 10, "too little was accepted: {tally:?}");
    assert!(tally.redelivered > 0 && tally.received > tally.accepted, "too little was delivered: {tally:?}");
    let Tally { expired, collapsed, recalled, told, repeated, refused, fired, .. } = tally;
    let seen = [expired, collapsed, recalled, told, repeated, refused, fired, over_rate, full];
    assert!(seen.iter().all(|count| **count > 0), "something never happened: {seen:?} {tally:?}");
}

/// How much of everything there was.
#[derive(Default, Debug)]
pub struct Tally {
    pub accepted: u64,
    unknown: u64,
    refused: u64,
    /// Requests with a key that was used before.
    repeated: u64,
    sessions: u64,
    displaced: u64,
    received: u64,
    redelivered: u64,
    expired: u64,
    collapsed: u64,
    recalled: u64,
    told: u64,
    /// Became messages later than they were asked for.
    fired: u64,
    acked: u64,
}

impl Tally {
    pub fn of(lines: &[Line]) -> Tally {
        let mut tally = Tally::default();
        let (mut seen, mut keys) = (HashSet::new(), HashSet::new());
        for line in lines {
            match line.event {
                Event::Invoked { asked: Asked { once: Some(once), .. }, .. } => {
                    tally.repeated += u64::from(!keys.insert(once));
                }
                Event::Accepted { .. } => tally.accepted += 1,
                Event::Fired { .. } => tally.fired += 1,
                Event::Unknown { .. } => tally.unknown += 1,
                Event::Refused { status, .. } => tally.refused += u64::from(status > 0),
                Event::Login { .. } => tally.sessions += 1,
                Event::Displaced { .. } => tally.displaced += 1,
                Event::Received { device, message, .. } => {
                    tally.received += 1;
                    tally.redelivered += u64::from(!seen.insert((device, message)));
                }
                Event::Gap { why: Why::Expired, .. } => tally.expired += 1,
                Event::Gap { why: Why::Collapsed, .. } => tally.collapsed += 1,
                Event::Gap { why: Why::Recalled, .. } => tally.recalled += 1,
                Event::Told { .. } => tally.told += 1,
                Event::Acked { .. } => tally.acked += 1,
                _ => {}
            }
        }
        tally
    }
}
