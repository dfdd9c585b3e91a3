//! When a device beats, under virtual time: growth, falling back, misses, probe, padding.

#![allow(clippy::unwrap_used)]

use longwire_proto::id::{ClientId, Kind, MessageId, Position, Source, TraceId};
use longwire_proto::session::{ClientSession, Credentials, HeartbeatPlan, Memory, Millis, Tick};
use longwire_proto::wire::{
    AckKind, Assembler, BackOff, Class, DeviceFrame, Network, Push, ServerFrame, Upstream, Welcome,
};

const DEVICE: ClientId = ClientId(42);
const GROWING: HeartbeatPlan = HeartbeatPlan { start_s: 60, longest_s: 600, assigned: false, padded: false };

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Said {
    Ping { bytes: usize },
    Interval(u16),
    Other,
}

struct Talk {
    device: ClientSession,
    now: Millis,
    /// When the server last heard of the device, and the longest silence that it allows (004-11).
    heard: Millis,
    limit_ms: u64,
}

impl Talk {
    fn login(plan: HeartbeatPlan) -> Talk {
        Talk::login_at(plan, &welcome())
    }

    fn login_at(plan: HeartbeatPlan, welcome: &Welcome) -> Talk {
        let credentials = Credentials {
            app_key: "app-1".into(),
            token: "token".into(),
            client: DEVICE,
            network: Network::G4,
            class: Class::Phone,
            heartbeat_s: plan.start_s,
        };
        let mut device = ClientSession::begin(&credentials, Memory::default(), Millis(0), &mut Vec::new());
        device.beat_by(plan);
        let limit_ms = limit_ms(plan.start_s);
        let mut talk = Talk { device, now: Millis(0), heard: Millis(0), limit_ms };
        talk.server_says(&ServerFrame::Welcome(welcome.clone()));
        talk
    }

    fn server_says(&mut self, frame: &ServerFrame<'_>) -> Vec<Said> {
        let (mut bytes, mut out) = (Vec::new(), Vec::new());
        frame.encode(DEVICE, &mut bytes);
        self.device.receive(&mut &bytes[..], self.now, &mut out).unwrap().unwrap();
        self.server_hears(&out)
    }

    /// Time goes on to the deadline.
    fn tick(&mut self) -> (Tick, Vec<Said>) {
        self.now = self.device.deadline().max(self.now);
        let mut out = Vec::new();
        let tick = self.device.tick(self.now, &mut out);
        (tick, self.server_hears(&out))
    }

    /// The next PING is sent; how long the device was waiting for it, in seconds. It is answered `round_trip_ms` later.
    fn beat(&mut self, round_trip_ms: u64) -> u64 {
        let before = self.now;
        let (tick, said) = self.tick();
        assert_eq!(tick, Tick::Live);
        assert_eq!(said, [Said::Ping { bytes: 16 }]);
        let waited = self.now.0 - before.0;
        self.now.0 += round_trip_ms;
        self.server_says(&ServerFrame::Pong);
        waited.div_ceil(1000)
    }

    /// A padded PING, answered at once; its size on the wire.
    fn beat_padded(&mut self) -> usize {
        let (_, said) = self.tick();
        let [Said::Ping { bytes }] = said[..] else { panic!("{said:?}") };
        self.server_says(&ServerFrame::Pong);
        bytes
    }

    fn server_hears(&mut self, mut input: &[u8]) -> Vec<Said> {
        let mut said = Vec::new();
        let mut assembler = Assembler::default();
        while let Some(frame) = assembler.next(&mut input, 65_536).unwrap() {
            assert!(self.now.0 - self.heard.0 <= self.limit_ms, "a server would have closed it as idle");
            self.heard = self.now;
            said.push(match DeviceFrame::decode(&frame.header, frame.body).unwrap() {
                DeviceFrame::Ping => Said::Ping { bytes: 16 + frame.body.len() },
                DeviceFrame::Interval(seconds) => {
                    self.limit_ms = limit_ms(seconds);
                    Said::Interval(seconds)
                }
                _ => Said::Other,
            });
        }
        said
    }

    /// Beats until the interval is this.
    fn grow_to(&mut self, seconds: u16) {
        for _ in 0..100 {
            if self.device.heartbeat_s() == seconds {
                return;
            }
            self.beat(20);
        }
        panic!("it never grew to {seconds} s");
    }
}

fn limit_ms(heartbeat_s: u16) -> u64 {
    (3 * u64::from(heartbeat_s) + 20) * 1000
}

fn welcome() -> Welcome {
    Welcome {
        node: "node-a".into(),
        heartbeat_s: 60,
        phase: 0x8000,
        padding_max: 0,
        heartbeat_min_s: 5,
        heartbeat_max_s: 1200,
        window: 32,
        server_time_ms: 0,
        back_off: BackOff::default(),
    }
}

fn push() -> ServerFrame<'static> {
    ServerFrame::Push(Push {
        source: Some(Source::Mailbox),
        position: Position::new(1, 1),
        previous: Position::new(1, 0),
        ttl_s: 60,
        flags: 0,
        message: MessageId(7),
        kind: Kind::Text,
        trace: TraceId(0),
        replaces: None,
        collapse_key: "",
        payload: b"hello",
    })
}

#[test]
fn the_interval_grows_by_successes_to_its_longest_and_never_beyond_what_was_announced() {
    let mut talk = Talk::login(GROWING);
    let mut intervals = Vec::new();
    for _ in 0..200 {
        talk.beat(20);
        intervals.push(talk.device.heartbeat_s());
    }
    intervals.dedup();
    assert_eq!(intervals, [60, 120, 240, 480, 600]);
}

#[test]
fn growth_stays_within_the_servers_range() {
    let mut talk = Talk::login_at(GROWING, &Welcome { heartbeat_max_s: 180, ..welcome() });
    for _ in 0..50 {
        talk.beat(20);
    }
    assert_eq!(talk.device.heartbeat_s(), 180);
    assert_eq!(talk.device.next_plan(), GROWING, "another server may allow more");
}

#[test]
fn an_assigned_heartbeat_is_the_servers() {
    let plan = HeartbeatPlan { assigned: true, ..GROWING };
    let asked = Welcome { heartbeat_s: 180, ..welcome() };
    assert_eq!(Talk::login_at(plan, &asked).device.heartbeat_s(), 180);
    assert_eq!(Talk::login_at(GROWING, &asked).device.heartbeat_s(), 60);
}

#[test]
fn a_fixed_plan_never_changes() {
    let mut talk = Talk::login(HeartbeatPlan::fixed(60));
    talk.beat(0);
    for _ in 0..50 {
        assert_eq!(talk.beat(0), 60);
    }
}

#[test]
fn business_brings_it_back_to_the_start_and_says_so() {
    for by_server in [true, false] {
        let mut talk = Talk::login(GROWING);
        talk.grow_to(480);
        talk.now.0 += 1_000;
        let said = if by_server {
            talk.server_says(&push())
        } else {
            let up = Upstream { client_message: 1, mode: 1, kind: "text", to: "", payload: b"x" };
            let mut out = Vec::new();
            // What the device says has the time of the last event.
            talk.device.tick(talk.now, &mut out);
            assert!(talk.device.send(&up, &mut out));
            talk.server_hears(&out)
        };
        assert!(said.contains(&Said::Interval(60)), "{said:?}");
        assert_eq!(talk.device.deadline(), Millis(talk.now.0 + 60_000));
        for _ in 0..2 {
            talk.beat(20);
            assert_eq!(talk.device.heartbeat_s(), 60, "successes count from the beginning");
        }
    }
}

#[test]
fn misses_shorten_it_and_end_in_a_quick_probe() {
    let mut talk = Talk::login(GROWING);
    talk.grow_to(480);
    let (_, said) = talk.tick();
    assert_eq!(said, [Said::Ping { bytes: 16 }]);
    let first = talk.now;
    let (_, said) = talk.tick();
    assert_eq!(said, [Said::Interval(60), Said::Ping { bytes: 16 }]);
    assert_eq!(talk.now.0 - first.0, 60_000, "an answer is not awaited for a whole grown interval");
    let (_, said) = talk.tick();
    assert_eq!((talk.now.0 - first.0, said), (120_000, vec![Said::Ping { bytes: 16 }]));
    assert_eq!(talk.tick().0, Tick::Lost);
    assert_eq!(talk.now.0 - first.0, 130_000, "the third is a quick probe");
}

#[test]
fn a_server_that_was_stopped_for_two_periods_is_not_given_up() {
    let mut talk = Talk::login(HeartbeatPlan::fixed(60));
    for _ in 0..3 {
        assert_eq!(talk.tick().0, Tick::Live);
    }
    let last_ping = talk.now;
    talk.now.0 += 9_000;
    talk.server_says(&ServerFrame::Pong);
    assert_eq!(talk.device.deadline(), Millis(last_ping.0 + 60_000), "as if nothing had been");
    assert_eq!(talk.beat(20), 51);
}

#[test]
fn a_network_that_forgets_silent_connections_is_learned() {
    // It bears 300 s: 240 are answered, 480 are not.
    let mut talk = Talk::login(GROWING);
    talk.grow_to(480);
    while talk.tick().0 == Tick::Live {}
    let plan = talk.device.next_plan();
    assert_eq!((plan.start_s, plan.longest_s), (60, 240));
    let mut talk = Talk::login(plan);
    for _ in 0..50 {
        talk.beat(20);
    }
    assert_eq!(talk.device.heartbeat_s(), 240);
}

#[test]
fn a_late_answer_after_a_miss_goes_on_at_the_start() {
    let mut talk = Talk::login(GROWING);
    talk.grow_to(240);
    talk.tick();
    talk.tick();
    talk.server_says(&ServerFrame::Pong);
    assert_eq!(talk.device.heartbeat_s(), 60);
    for _ in 0..50 {
        talk.beat(20);
    }
    assert_eq!(talk.device.heartbeat_s(), 120, "no further than what was answered before");
}

#[test]
fn a_probe_finds_out_within_ten_seconds() {
    let mut talk = Talk::login(GROWING);
    talk.grow_to(240);
    talk.now.0 += 5_000;
    talk.device.probe(talk.now);
    let (tick, said) = talk.tick();
    assert_eq!((tick, talk.device.deadline()), (Tick::Live, Millis(talk.now.0 + 10_000)));
    assert_eq!(said.last(), Some(&Said::Ping { bytes: 16 }));
    assert_eq!(talk.tick().0, Tick::Lost);

    let mut talk = Talk::login(GROWING);
    talk.device.probe(talk.now);
    talk.beat(20);
    assert_eq!(talk.tick().0, Tick::Live);
}

#[test]
fn an_answer_that_nobody_asked_for_is_no_success() {
    let mut talk = Talk::login(GROWING);
    for _ in 0..20 {
        assert_eq!(talk.server_says(&ServerFrame::Pong), []);
    }
    assert_eq!(talk.device.heartbeat_s(), 60);
}

#[test]
fn padded_heartbeats_have_many_lengths_within_their_range() {
    let mut talk = Talk::login(HeartbeatPlan { padded: true, ..HeartbeatPlan::fixed(60) });
    let mut lengths = Vec::new();
    for _ in 0..200 {
        let (_, said) = talk.tick();
        let [Said::Ping { bytes }] = said[..] else { panic!("{said:?}") };
        assert!((64..=128).contains(&bytes), "{bytes}");
        lengths.push(bytes);
        talk.now.0 += 20;
        talk.server_says(&ServerFrame::Pong);
    }
    lengths.sort_unstable();
    lengths.dedup();
    assert!(lengths.len() > 40, "{lengths:?}");
}

/// Beats of a device that is asked to pad: the sizes of its PINGs and the times between them, in milliseconds.
fn padded_beats(count: usize) -> (Vec<usize>, Vec<f64>) {
    let mut talk = Talk::login_at(HeartbeatPlan::fixed(60), &Welcome { padding_max: 48, ..welcome() });
    let (mut sizes, mut intervals) = (Vec::new(), Vec::new());
    talk.beat_padded();
    for _ in 0..count {
        let before = talk.now;
        sizes.push(talk.beat_padded());
        intervals.push((talk.now.0 - before.0) as f64);
    }
    (sizes, intervals)
}

#[test]
fn beats_padded_as_the_server_asks_have_no_size_and_no_rhythm_of_their_own() {
    let (sizes, intervals) = padded_beats(10_000);
    for size in 16..=64 {
        let share = sizes.iter().filter(|bytes| **bytes == size).count();
        assert!((1..=3_000).contains(&share), "{share} of 10000 have {size} bytes");
    }
    assert!(sizes.iter().all(|bytes| (16..=64).contains(bytes)));
    let mean = intervals.iter().sum::<f64>() / intervals.len() as f64;
    let variance = intervals.iter().map(|ms| (ms - mean).powi(2)).sum::<f64>() / intervals.len() as f64;
    let variation = variance.sqrt() / mean;
    assert!(variation >= 0.05, "coefficient of variation {variation}");
    assert!(
        intervals.iter().all(|ms| (48_000.0..=60_000.0).contains(ms)),
        "never late, never more than a fifth early"
    );
}

#[test]
fn without_padding_beats_have_one_size_and_a_steady_rhythm() {
    let mut talk = Talk::login(HeartbeatPlan::fixed(60));
    talk.beat(0);
    for _ in 0..100 {
        let before = talk.now;
        talk.beat(0);
        assert_eq!(talk.now.0 - before.0, 60_000);
    }
}

#[test]
fn the_first_beat_comes_at_the_part_of_the_interval_that_the_server_says() {
    for (phase, first_ms) in [(0, 0), (0x3FFF, 15_000), (0x7FFF, 30_000), (0xFFFF, 60_000)] {
        let talk = Talk::login_at(HeartbeatPlan::fixed(60), &Welcome { phase, ..welcome() });
        assert_eq!(talk.device.deadline(), Millis(first_ms));
    }
    let halfway = Welcome { phase: 0x7FFF, heartbeat_s: 180, ..welcome() };
    let assigned = HeartbeatPlan { assigned: true, ..GROWING };
    assert_eq!(Talk::login_at(assigned, &halfway).device.deadline(), Millis(90_000));
    assert_eq!(Talk::login_at(GROWING, &halfway).device.deadline(), Millis(30_000), "of the interval in use");
}

#[test]
fn nothing_goes_up_before_login() {
    let credentials = Credentials {
        app_key: "app-1".into(),
        token: "token".into(),
        client: DEVICE,
        network: Network::Unknown,
        class: Class::Iot,
        heartbeat_s: 60,
    };
    let mut device = ClientSession::begin(&credentials, Memory::default(), Millis(0), &mut Vec::new());
    let mut out = Vec::new();
    let up = Upstream { client_message: 1, mode: 1, kind: "text", to: "", payload: b"x" };
    assert!(!device.send(&up, &mut out));
    device.ack(AckKind::Received, &[MessageId(1)], &mut out);
    assert!(out.is_empty());
}
