//! The run: a server that is killed and started again in the same data directory, devices that come and go, callers that
//! push to one, some and all of them.

use crate::callers::{call, count_all};
use crate::checker::{Breach, check};
use crate::history::{Asked, Event, Fleet, Line, Recorder, Why};
use crate::sides::Side;
use crate::support::{Api, Dice, Start, TestDevice, TestServer, until};
use longwire_proto::id::MessageId;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

pub const DEVICES: u32 = 50;
/// The first devices stay away until the end: their mailboxes fill.
pub const AWAY: u32 = 2;
pub const TAGS: u32 = 5;
const CALLERS: u64 = 8;
/// `LONGWIRE_CHAOS_ROUNDS` changes it.
const ROUNDS: u64 = 100;

/// How a run goes.
pub struct Plan {
    /// Kills.
    pub rounds: u64,
    /// A round lives at most so long after its first acceptance.
    pub round_us: u64,
    /// The fault that the server has.
    pub fault: Option<&'static str>,
}

/// What came of it.
pub struct Report {
    pub breaches: Vec<Breach>,
    pub lines: Vec<Line>,
    pub tally: Tally,
    /// Kills that met a push under way.
    pub bitten: u64,
    /// Times that a device's own proof of the chain failed.
    pub holes: u64,
}

/// Where the server of this round is.
pub struct Address {
    pub device: SocketAddr,
    pub api: Api,
}

pub struct Run {
    pub fleet: Fleet,
    pub recorder: Recorder,
    pub current: Mutex<Address>,
    /// Of late accepted, to be recalled or repeated.
    pub recent: Mutex<Vec<MessageId>>,
    pub pushing: AtomicBool,
    /// Devices stay and ack everything.
    pub draining: AtomicBool,
    pub ended: AtomicBool,
    pub in_flight: AtomicU64,
    pub accepted: AtomicU64,
    pub received: AtomicU64,
    pub holes: AtomicU64,
    pub pushes: AtomicU64,
    pub sessions: AtomicU64,
}

#[test]
fn nothing_accepted_is_lost_when_the_server_is_killed_at_random_moments() {
    let rounds = std::env::var("LONGWIRE_CHAOS_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(ROUNDS);
    let report = storm(&mut Dice::new("chaos"), &Plan { rounds, round_us: 500_000, fault: None });
    judge(&report, rounds);
}

/// Runs it.
pub fn storm(dice: &mut Dice, plan: &Plan) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let start = Start::default().folder(folder.path()).arg("--set").arg("storage.books_check=1");
        plan.fault.into_iter().fold(start, |start, fault| start.env("PLANTED_FAULT", fault)).start()
    };
    let mut server = start();
    let fleet = fleet(dice);
    let devices = register(&server, &fleet);
    let run = Run::new(fleet, &server);
    let mut bitten = 0;
    std::thread::scope(|scope| {
        let live: Vec<_> = devices
            .into_iter()
            .zip(0..)
            .map(|(device, number)| {
                let (run, dice) = (&run, Dice::from_seed(dice.bits()));
                scope.spawn(move || Side { run, number, device, dice }.live())
            })
            .collect();
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (run, dice) = (&run, Dice::from_seed(dice.bits()));
                scope.spawn(move || call(run, dice))
            })
            .collect();
        // However this ends, the threads must end too, or the scope waits for ever.
        let _guard = Ending(&run);
        for _ in 0..plan.rounds {
            bitten += u64::from(kill_once(&run, &mut server, dice, plan.round_us));
            server = start();
            *run.current.lock().unwrap() = Address::of(&server);
        }
        run.pushing.store(false, SeqCst);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        run.draining.store(true, SeqCst);
        let quiet = await_quiet(&run);
        // A server with a fault may never come to rest.
        assert!(quiet || plan.fault.is_some(), "deliveries never come to an end");
        count_all(&run);
        run.ended.store(true, SeqCst);
        live.into_iter().for_each(|device| device.join().unwrap());
    });
    let lines = run.recorder.lines();
    let breaches = check(&run.fleet, &lines);
    Report { breaches, tally: Tally::of(&lines), lines, bitten, holes: run.holes.load(SeqCst) }
}

struct Ending<'a>(&'a Run);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.pushing.store(false, SeqCst);
        self.0.ended.store(true, SeqCst);
    }
}

impl Address {
    fn of(server: &TestServer) -> Address {
        Address { device: server.device, api: server.api.clone() }
    }
}

impl Run {
    fn new(fleet: Fleet, server: &TestServer) -> Run {
        Run {
            fleet,
            recorder: Recorder::new(),
            current: Mutex::new(Address::of(server)),
            recent: Mutex::new(Vec::new()),
            pushing: AtomicBool::new(true),
            draining: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            in_flight: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            received: AtomicU64::new(0),
            holes: AtomicU64::new(0),
            pushes: AtomicU64::new(0),
            sessions: AtomicU64::new(0),
        }
    }
    pub fn api(&self) -> Api {
        self.current.lock().unwrap().api.clone()
    }
    pub fn add(&self, event: Event) {
        self.recorder.add(event);
    }
}

fn fleet(dice: &mut Dice) -> Fleet {
    let tags = (0..DEVICES).map(|_| (0..TAGS).filter(|_| dice.one_in(3)).collect()).collect();
    Fleet { tags }
}

fn register(server: &TestServer, fleet: &Fleet) -> Vec<TestDevice> {
    let name = |tag: &u32| format!("t{tag}");
    let register = |(number, tags): (usize, &Vec<u32>)| {
        let tags: Vec<String> = tags.iter().map(name).collect();
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        server.device_with(&format!("d{number}"), None, &tags).silent()
    };
    fleet.tags.iter().enumerate().map(register).collect()
}

/// Lets the load run for a random time, then kills. True: a push was under way at that moment.
fn kill_once(run: &Run, server: &mut TestServer, dice: &mut Dice, round_us: u64) -> bool {
    let before = run.accepted.load(SeqCst);
    assert!(
        until(Duration::from_secs(20), || run.accepted.load(SeqCst) > before),
        "nothing is accepted any more"
    );
    let moment = Instant::now() + Duration::from_micros(dice.within(0..round_us));
    // The random moment is the point of this test, not a wait for something.
    std::thread::sleep(moment.saturating_duration_since(Instant::now()));
    let bites = run.in_flight.load(SeqCst) > 0;
    server.kill9();
    bites
}

/// All devices stay connected and ack; quiet is when nothing new has come for two seconds.
fn await_quiet(run: &Run) -> bool {
    let mut last = (run.received.load(SeqCst), Instant::now());
    until(Duration::from_secs(90), || {
        let now = run.received.load(SeqCst);
        if now != last.0 {
            last = (now, Instant::now());
        }
        last.1.elapsed() > Duration::from_secs(2)
    })
}

fn judge(report: &Report, rounds: u64) {
    let Report { breaches, lines, tally, bitten, holes } = report;
    eprintln!("chaos: {rounds} kills, {bitten} of them with pushes under way; {tally:?}");
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
    let seen = [tally.expired, tally.collapsed, tally.recalled, tally.told, tally.repeated, tally.refused];
    assert!(seen.iter().all(|count| *count > 0), "something never happened: {tally:?}");
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
    acked: u64,
}

impl Tally {
    fn of(lines: &[Line]) -> Tally {
        let mut tally = Tally::default();
        let (mut seen, mut keys) = (HashSet::new(), HashSet::new());
        for line in lines {
            match line.event {
                Event::Invoked { asked: Asked { once: Some(once), .. }, .. } => {
                    tally.repeated += u64::from(!keys.insert(once));
                }
                Event::Accepted { .. } => tally.accepted += 1,
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
