//! The run: a server that is killed and started again in the same data directory, devices that come and go, callers that
//! push to one, some and all of them.

use crate::callers::{call, count_all};
use crate::checker::check;
use crate::history::{Event, Fleet, Line, Recorder};
use crate::sides::Side;
use crate::support::{Api, Dice, TestDevice, TestServer, until};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

pub const DEVICES: u32 = 50;
pub const TAGS: u32 = 5;
const CALLERS: u64 = 8;
/// `LONGWIRE_CHAOS_ROUNDS` changes it.
const ROUNDS: u64 = 30;

/// Where the server of this round is.
pub struct Address {
    pub device: SocketAddr,
    pub api: Api,
}

pub struct Run {
    pub fleet: Fleet,
    pub recorder: Recorder,
    pub current: Mutex<Address>,
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
    let mut dice = Dice::new("chaos");
    let rounds = std::env::var("LONGWIRE_CHAOS_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(ROUNDS);
    let folder = tempfile::tempdir().unwrap();
    let mut server = TestServer::start_in(folder.path());
    let fleet = fleet(&mut dice);
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
        for _ in 0..rounds {
            bitten += u64::from(kill_once(&run, &mut server, &mut dice));
            server = TestServer::start_in(folder.path());
            *run.current.lock().unwrap() = Address::of(&server);
        }
        run.pushing.store(false, SeqCst);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        run.draining.store(true, SeqCst);
        await_quiet(&run);
        count_all(&run);
        run.ended.store(true, SeqCst);
        live.into_iter().for_each(|device| device.join().unwrap());
    });
    judge(&run, rounds, bitten);
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
fn kill_once(run: &Run, server: &mut TestServer, dice: &mut Dice) -> bool {
    let before = run.accepted.load(SeqCst);
    assert!(
        until(Duration::from_secs(20), || run.accepted.load(SeqCst) > before),
        "nothing is accepted any more"
    );
    let moment = Instant::now() + Duration::from_micros(dice.within(0..900_000));
    // The random moment is the point of this test, not a wait for something.
    std::thread::sleep(moment.saturating_duration_since(Instant::now()));
    let bites = run.in_flight.load(SeqCst) > 0;
    server.kill9();
    bites
}

/// All devices stay connected and ack; quiet is when nothing new has come for two seconds.
fn await_quiet(run: &Run) {
    let mut last = (run.received.load(SeqCst), Instant::now());
    let quiet = until(Duration::from_secs(90), || {
        let now = run.received.load(SeqCst);
        if now != last.0 {
            last = (now, Instant::now());
        }
        last.1.elapsed() > Duration::from_secs(2)
    });
    assert!(quiet, "deliveries never come to an end");
}

fn judge(run: &Run, rounds: u64, bitten: u64) {
    let lines = run.recorder.lines();
    let tally = Tally::of(&lines);
    eprintln!("chaos: {rounds} kills, {bitten} of them with pushes under way; {tally:?}");
    let breaches = check(&run.fleet, &lines);
    if !breaches.is_empty() {
        let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("chaos-history.txt");
        let text: Vec<String> = lines.iter().map(|line| format!("{line:?}\n")).collect();
        std::fs::write(&file, text.concat()).unwrap();
        let first: Vec<String> =
            breaches.iter().take(20).map(|b| format!("{} {}", b.invariant, b.what)).collect();
        panic!("{} breaches, history in {}:\n{}", breaches.len(), file.display(), first.join("\n"));
    }
    assert_eq!(run.holes.load(SeqCst), 0, "a device's own proof of the chain failed");
    // A run in which the fault did not bite proves nothing.
    assert!(bitten * 2 >= rounds, "only {bitten} of {rounds} kills met pushes under way");
    assert!(tally.accepted >= rounds * 10, "too little was accepted: {tally:?}");
    assert!(tally.redelivered > 0 && tally.received > tally.accepted, "too little was delivered: {tally:?}");
}

#[derive(Default, Debug)]
struct Tally {
    accepted: u64,
    unknown: u64,
    refused: u64,
    sessions: u64,
    received: u64,
    redelivered: u64,
    gaps: u64,
    acked: u64,
}

impl Tally {
    fn of(lines: &[Line]) -> Tally {
        let mut tally = Tally::default();
        let mut seen = HashSet::new();
        for line in lines {
            match line.event {
                Event::Accepted { .. } => tally.accepted += 1,
                Event::Unknown { .. } => tally.unknown += 1,
                Event::Refused { .. } => tally.refused += 1,
                Event::Login { .. } => tally.sessions += 1,
                Event::Received { device, message, .. } => {
                    tally.received += 1;
                    tally.redelivered += u64::from(!seen.insert((device, message)));
                }
                Event::Gap { .. } => tally.gaps += 1,
                Event::Acked { .. } => tally.acked += 1,
                _ => {}
            }
        }
        tally
    }
}
