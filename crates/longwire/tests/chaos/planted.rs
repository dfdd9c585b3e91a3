//! Each planted fault of the server must be found by the checker, in a short run of the same storm. A checker that finds nothing
//! in a broken server would find nothing in ours.

use crate::storm::{Plan, storm};
use crate::support::Dice;
use longwire_server::planted::Fault;
use std::sync::Mutex;

/// Runs at once.
const AT_ONCE: usize = 3;
/// Kills of a run, and how long a round lives at most after its first acceptance.
const ROUNDS: u64 = 4;
const ROUND_US: u64 = 900_000;
/// Messages a second: all that the callers send.
const RATE: u64 = 5_000;
/// Tries, of which one must find it: a short run may miss what shows itself seldom.
const TRIES: u64 = 4;

/// What must be named for a fault; any of these.
fn named(fault: Fault) -> &'static [&'static str] {
    match fault {
        Fault::AnswersBeforeCommit => &["I1"],
        Fault::RefusesWhatItStored => &["I3"],
        Fault::RenumbersAfterRestart => &["I6", "I7", "I1", "I12"],
        Fault::ForgetsMailboxAtLogin => &["I13", "I7", "I1"],
        Fault::ForgetsLogAtLogin => &["I7", "I1"],
        Fault::IgnoresFilterOnReturn => &["I2"],
        Fault::ExpiresEarly => &["I9"],
        Fault::HidesGaps => &["I7"],
        Fault::SendsTwice => &["I5"],
        Fault::SwapsContent => &["I2"],
        Fault::AckEndsOldest | Fault::AckEndsAll => &["I8", "I7", "I1"],
        Fault::LosesEnds => &["I12", "I13"],
        Fault::CountsTwice => &["I12"],
        Fault::KeepsDisplaced => &["I11"],
        Fault::SendsReplaced => &["collapse"],
        Fault::SendsRecalled => &["recall"],
        Fault::RecallsUncounted => &["I12"],
        Fault::ForgetsCallersKeys => &["I4"],
        Fault::AcceptsWhatItRefused => &["I1", "I4"],
        Fault::DropsOldest => &["I1", "I7", "I12"],
    }
}

fn plan(fault: Option<&'static str>) -> Plan {
    Plan { rounds: ROUNDS, round_us: ROUND_US, fault, rate: RATE }
}

fn found(fault: Fault, dice: &mut Dice) -> Result<(), String> {
    let name: &'static str = format!("{fault:?}").leak();
    let mut last = String::new();
    for tried in 1..=TRIES {
        let report = storm(dice, &plan(Some(name)));
        let first = report.breaches.iter().find(|breach| named(fault).contains(&breach.invariant));
        if let Some(first) = first {
            eprintln!("{fault:?}: found in run {tried}: {} {}", first.invariant, first.what);
            eprintln!("    {:?}", report.spent);
            return Ok(());
        }
        last = format!("{:?}; {:?}", report.tally, report.breaches.iter().take(5).collect::<Vec<_>>());
    }
    Err(format!("{name} was not found: {last}"))
}

/// The same run of the same build, without a fault: what is found in the others is theirs.
#[test]
fn nothing_is_found_where_nothing_is_planted() {
    let report = storm(&mut Dice::new("unplanted"), &plan(None));
    assert!(report.tally.accepted > 0, "{:?}", report.tally);
    assert_eq!(report.breaches, []);
}

#[test]
fn every_planted_fault_is_found() {
    let mut dice = Dice::new("planted");
    let waiting = Mutex::new(Fault::ALL.to_vec());
    let missed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            let mut dice = Dice::from_seed(dice.bits());
            let (waiting, missed) = (&waiting, &missed);
            scope.spawn(move || {
                loop {
                    let Some(fault) = waiting.lock().unwrap().pop() else { return };
                    if let Err(missing) = found(fault, &mut dice) {
                        missed.lock().unwrap().push(missing);
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
