//! The run: a server that is killed and started again in the same data directory, devices that come and go, callers that
//! push to one, some and all of them.

use crate::callers::{call, fill};
use crate::checker::{Breach, check};
use crate::counting::count_all;
use crate::history::{Event, Fleet, Line, PushNo, Recorder};
use crate::sides::Side;
use crate::support::{Api, Dice, Start, TestDevice, TestServer, until};
use crate::tally::{Tally, judge};
use longwire_proto::id::MessageId;
use serde_json::json;
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
/// Messages a second that the app may send: less than the callers try.
const RATE: u64 = 200;

/// How a run goes.
pub struct Plan {
    /// Kills.
    pub rounds: u64,
    /// A round lives at most so long after its first acceptance.
    pub round_us: u64,
    /// The fault that the server has.
    pub fault: Option<&'static str>,
    /// Messages that the app may send a second.
    pub rate: u64,
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
    /// Pushes refused because the app sends too many a second.
    pub over_rate: u64,
    /// Pushes refused because a mailbox was full.
    pub full: u64,
    pub spent: Spent,
}

/// Where the time went.
#[derive(Default, Debug)]
pub struct Spent {
    starting: Duration,
    /// From a start to the first acceptance.
    waiting: Duration,
    loaded: Duration,
    quieting: Duration,
    counting: Duration,
    checking: Duration,
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
    /// Accepted for later, with the ids of their schedules.
    pub planned: Mutex<Vec<(PushNo, String)>>,
    pub over_rate: AtomicU64,
    pub full: AtomicU64,
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
    let report = storm(&mut Dice::new("chaos"), &Plan { rounds, round_us: 400_000, fault: None, rate: RATE });
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
    let (mut bitten, mut spent) = (0, Spent::default());
    fill(&run, dice);
    allow(&server, plan.rate);
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
            bitten += u64::from(kill_once(&run, &mut server, dice, plan.round_us, &mut spent));
            server = timed(&mut spent.starting, &start);
            *run.current.lock().unwrap() = Address::of(&server);
        }
        run.pushing.store(false, SeqCst);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        run.draining.store(true, SeqCst);
        let quiet = timed(&mut spent.quieting, || await_quiet(&run, plan));
        // A server with a fault may never come to rest.
        assert!(quiet || plan.fault.is_some(), "deliveries never come to an end");
        timed(&mut spent.counting, || count_all(&run));
        run.ended.store(true, SeqCst);
        live.into_iter().for_each(|device| device.join().unwrap());
    });
    let lines = run.recorder.lines();
    let breaches = timed(&mut spent.checking, || check(&run.fleet, &lines));
    let (holes, over_rate, full) =
        (run.holes.load(SeqCst), run.over_rate.load(SeqCst), run.full.load(SeqCst));
    Report { breaches, tally: Tally::of(&lines), lines, bitten, holes, over_rate, full, spent }
}

/// Does it and adds the time that it took.
fn timed<T>(spent: &mut Duration, mut work: impl FnMut() -> T) -> T {
    let begun = Instant::now();
    let made = work();
    *spent += begun.elapsed();
    made
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
            planned: Mutex::new(Vec::new()),
            over_rate: AtomicU64::new(0),
            full: AtomicU64::new(0),
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

/// Sets how many messages a second the app may send.
fn allow(server: &TestServer, rate: u64) {
    let body = json!({ "app_key": server.app_key, "quotas": { "messages_per_s": rate } });
    let answer = server.operator().request("PUT", "/v1/quotas", Some(body.to_string().as_bytes()));
    assert_eq!(answer.map(|answer| answer.status).ok(), Some(200));
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
fn kill_once(run: &Run, server: &mut TestServer, dice: &mut Dice, round_us: u64, spent: &mut Spent) -> bool {
    let before = run.accepted.load(SeqCst);
    let accepts = || until(Duration::from_secs(20), || run.accepted.load(SeqCst) > before);
    assert!(timed(&mut spent.waiting, accepts), "nothing is accepted any more");
    let load = Duration::from_micros(dice.within(0..round_us));
    spent.loaded += load;
    let moment = Instant::now() + load;
    // The random moment is the point of this test, not a wait for something.
    std::thread::sleep(moment.saturating_duration_since(Instant::now()));
    let bites = run.in_flight.load(SeqCst) > 0;
    server.kill9();
    bites
}

/// All devices stay connected and ack; quiet is when nothing new has come for two seconds.
fn await_quiet(run: &Run, plan: &Plan) -> bool {
    let mut last = (run.received.load(SeqCst), Instant::now());
    until(Duration::from_secs(if plan.fault.is_some() { 15 } else { 90 }), || {
        let now = run.received.load(SeqCst);
        if now != last.0 {
            last = (now, Instant::now());
        }
        last.1.elapsed() > Duration::from_secs(2)
    })
}
