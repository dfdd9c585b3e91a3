//! The run: a server that is killed and started again in the same data directory, devices that come and go, callers that
//! push to one, some and all of them.

use crate::checker::check;
use crate::history::{Audience, Counts, DeviceNo, Event, Fleet, Line, Place, PushNo, Recorder, hash};
use crate::support::{Api, Dice, Seen, TestDevice, TestServer, count_of, push_body, until};
use longwire_proto::id::MessageId;
use longwire_proto::wire::GapReason;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

const DEVICES: u32 = 50;
const TAGS: u32 = 5;
const CALLERS: u64 = 4;
/// `LONGWIRE_CHAOS_ROUNDS` changes it.
const ROUNDS: u64 = 30;

/// Where the server of this round is.
struct Address {
    device: SocketAddr,
    api: Api,
}

struct Run {
    fleet: Fleet,
    recorder: Recorder,
    current: Mutex<Address>,
    pushing: AtomicBool,
    /// Devices stay and ack everything.
    draining: AtomicBool,
    ended: AtomicBool,
    in_flight: AtomicU64,
    accepted: AtomicU64,
    received: AtomicU64,
    holes: AtomicU64,
    pushes: AtomicU64,
    sessions: AtomicU64,
}

#[test]
fn nothing_accepted_is_lost_when_the_server_is_killed_at_random_moments() {
    let mut dice = Dice::new("chaos");
    let rounds = std::env::var("LONGWIRE_CHAOS_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(ROUNDS);
    let folder = tempfile::tempdir().unwrap();
    let mut server = TestServer::start_in(folder.path());
    let credentials = (server.app_key.clone(), server.app_secret.clone());
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
            *run.current.lock().unwrap() = Address::of(&server, &credentials);
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
    fn of(server: &TestServer, (key, secret): &(String, String)) -> Address {
        Address { device: server.device, api: Api::new(server.api_address, key, secret) }
    }
}

impl Run {
    fn new(fleet: Fleet, server: &TestServer) -> Run {
        Run {
            fleet,
            recorder: Recorder::new(),
            current: Mutex::new(Address { device: server.device, api: server.api.clone() }),
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
    fn api(&self) -> Api {
        self.current.lock().unwrap().api.clone()
    }
    fn add(&self, event: Event) {
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

/// One caller of the API.
fn call(run: &Run, mut dice: Dice) {
    while run.pushing.load(SeqCst) {
        let audience = match dice.within(0..10) {
            0 => Audience::All,
            1 | 2 => Audience::Tag(dice.within(0..u64::from(TAGS)) as u32),
            _ => Audience::Device(dice.within(0..u64::from(DEVICES)) as DeviceNo),
        };
        let ttl_s = if dice.one_in(12) { dice.within(1..4) as u32 } else { 86_400 };
        let push = run.pushes.fetch_add(1, SeqCst);
        let filler = "x".repeat(dice.within(0..400) as usize);
        push_once(run, push, audience, ttl_s, &format!("push {push} {} {filler}", dice.bits()));
        std::thread::sleep(Duration::from_micros(dice.within(1_000..12_000)));
    }
}

fn push_once(run: &Run, push: PushNo, audience: Audience, ttl_s: u32, text: &str) {
    let whom = match audience {
        Audience::Device(device) => json!({ "registration_id": [format!("d{device}")] }),
        Audience::Tag(tag) => json!({ "tag": [format!("t{tag}")] }),
        Audience::All => json!("all"),
    };
    let body = push_body(whom, text, Some(ttl_s));
    let api = run.api();
    let ttl_us = u64::from(ttl_s) * 1_000_000;
    run.add(Event::Invoked { push, audience, ttl_us, hash: hash(text.as_bytes()) });
    run.in_flight.fetch_add(1, SeqCst);
    let answer = api.try_post("/v1/push", &body);
    run.in_flight.fetch_sub(1, SeqCst);
    let event = match answer {
        Ok(answer) if answer.status == 202 => {
            run.accepted.fetch_add(1, SeqCst);
            Event::Accepted { push, message: MessageId::parse(&answer.message_id()).unwrap() }
        }
        Ok(answer) if matches!(answer.status, 500 | 504) => Event::Unknown { push },
        Ok(answer) => Event::Refused { push, status: answer.status },
        // Nobody listened, so nobody was asked.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Event::Refused { push, status: 0 },
        Err(_) => Event::Unknown { push },
    };
    run.add(event);
}

/// One device and its habits.
struct Side<'a> {
    run: &'a Run,
    number: DeviceNo,
    device: TestDevice,
    dice: Dice,
}

/// How a session treats what it gets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Habit {
    AcksAtOnce,
    AcksAtTheEnd,
    NeverAcks,
}

impl Side<'_> {
    fn live(mut self) {
        while !self.run.ended.load(SeqCst) {
            self.device.to = self.run.current.lock().unwrap().device;
            let logged_in = self.device.try_connect().is_ok()
                && matches!(self.device.next(Duration::from_secs(2)), Some(Seen::Welcome(_)));
            if logged_in {
                self.session();
            }
            self.device.drop_connection();
            // Away for a while; a device that finds nobody backs off too.
            std::thread::sleep(Duration::from_millis(self.dice.within(5..60)));
        }
    }

    fn session(&mut self) {
        let (device, session) = (self.number, self.run.sessions.fetch_add(1, SeqCst) + 1);
        self.run.add(Event::Login { device, session });
        let habit = match self.dice.within(0..8) {
            0 => Habit::NeverAcks,
            1 | 2 => Habit::AcksAtTheEnd,
            _ => Habit::AcksAtOnce,
        };
        let leaves = Instant::now() + Duration::from_millis(self.dice.within(20..2_500));
        let mut kept = Vec::new();
        loop {
            let draining = self.run.draining.load(SeqCst);
            if self.run.ended.load(SeqCst) || (!draining && Instant::now() > leaves) {
                break;
            }
            if draining && habit != Habit::AcksAtOnce {
                break;
            }
            match self.device.next(Duration::from_millis(20)) {
                Some(Seen::Ended | Seen::Closed(_) | Seen::Broken(_)) => break,
                Some(seen) => {
                    let Some(message) = self.take(session, &seen) else { continue };
                    if habit == Habit::AcksAtOnce {
                        self.ack(session, &[message]);
                    } else {
                        kept.push(message);
                    }
                }
                None => {}
            }
        }
        if habit == Habit::AcksAtTheEnd {
            // No more than a window can be unacked, so they fit into one frame.
            self.ack(session, &kept);
        }
        self.run.add(Event::Closed { device, session });
    }

    fn ack(&mut self, session: u64, messages: &[MessageId]) {
        for message in messages {
            self.run.add(Event::Acked { device: self.number, session, message: *message });
        }
        if !messages.is_empty() {
            self.device.ack(messages);
        }
    }

    /// Writes down what came; the id of a delivery that wants an ack.
    fn take(&mut self, session: u64, seen: &Seen) -> Option<MessageId> {
        let device = self.number;
        match seen {
            Seen::Push { source, position, previous, message, payload, hole, .. } => {
                let place = Place { source: (*source)?, position: *position, previous: *previous };
                let (message, hash) = (*message, hash(payload));
                self.run.add(Event::Received { device, session, message, place, hash });
                self.run.received.fetch_add(1, SeqCst);
                self.run.holes.fetch_add(u64::from(*hole), SeqCst);
                Some(message)
            }
            Seen::Gap(gap) => {
                let place = Place { source: gap.source, position: gap.position, previous: gap.previous };
                let (message, count) = (gap.message, gap.count);
                let expired = gap.reason == GapReason::Expired;
                self.run.add(Event::Gap { device, session, message, place, count, expired });
                self.run.received.fetch_add(1, SeqCst);
                None
            }
            _ => None,
        }
    }
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

/// Asks the server for its record of every accepted message.
fn count_all(run: &Run) {
    let audiences: HashMap<PushNo, Audience> = run
        .recorder
        .lines()
        .iter()
        .filter_map(|line| match line.event {
            Event::Invoked { push, audience, .. } => Some((push, audience)),
            _ => None,
        })
        .collect();
    let accepted: Vec<(MessageId, Audience)> = run
        .recorder
        .lines()
        .iter()
        .filter_map(|line| match line.event {
            Event::Accepted { push, message } => Some((message, audiences[&push])),
            _ => None,
        })
        .collect();
    let api = run.api();
    std::thread::scope(|scope| {
        for part in accepted.chunks(accepted.len().div_ceil(4).max(1)) {
            let api = api.clone();
            scope.spawn(move || {
                part.iter().for_each(|(message, audience)| count_one(run, &api, *message, *audience))
            });
        }
    });
}

fn count_one(run: &Run, api: &Api, message: MessageId, audience: Audience) {
    let members = run.fleet.members(audience).count() as u64;
    let mut story = Value::Null;
    // Acks ride on the next commit; what is not settled after this is judged as it stands.
    let _ = until(Duration::from_secs(3), || {
        let answer = api.get(&format!("/v1/messages/{message}"));
        story = if answer.status == 200 { answer.json } else { Value::Null };
        count_of(&story, "delivered") + count_of(&story, "expired") + count_of(&story, "dropped") >= members
    });
    if story.is_null() {
        return;
    }
    let count = |state| count_of(&story, state);
    let counts = Counts {
        created: count("created"),
        delivered: count("delivered"),
        expired: count("expired"),
        dropped: count("dropped"),
        pending: count("pending"),
    };
    run.add(Event::Counted { message, counts });
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
