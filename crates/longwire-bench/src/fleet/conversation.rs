//! A crew talks with a server's end of the protocol over real sockets.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use longwire_proto::close::CloseReason;
use longwire_proto::id::{ClientId, Kind, MessageId, Position, Source, TraceId};
use longwire_proto::wire::{BackOff, Push, Refusal, ServerFrame, Welcome};

use super::Play;
use super::churner::Churner;
use super::crew::Crew;
use super::swarm::Swarm;
use crate::latency::stamp;
use crate::order::{Back, Churn, Gather, Login, Logins, Order, Report, Tally};
use crate::transport::Transport;

const PATIENCE: Duration = Duration::from_secs(20);

/// Turns the crew until it has reported so often.
fn reported<const COUNT: usize>(crew: &mut Crew) -> [Report; COUNT] {
    let deadline = Instant::now() + PATIENCE;
    let mut reports = Vec::new();
    while reports.len() < COUNT {
        assert!(Instant::now() < deadline, "only {reports:?} within {PATIENCE:?}");
        crew.turn(Duration::from_millis(1)).unwrap();
        reports.append(&mut crew.reports());
    }
    reports.sort_by_key(|report| matches!(report, Report::Held(_)));
    reports.try_into().unwrap()
}

fn log_in(crew: &mut Crew, target: SocketAddr, count: u64) {
    let devices = (1..=count).map(|client| Login { client, token: "token".into() }).collect();
    let order = Order::LogIn {
        target,
        source: Ipv4Addr::LOCALHOST,
        app_key: "app".into(),
        devices,
        heartbeat_s: 60,
        transport: Transport::Tcp,
    };
    assert!(crew.follow(order).is_empty());
}

fn tally(report: Report) -> Tally {
    match report {
        Report::Held(tally) => tally,
        other => panic!("expected a tally, got {other:?}"),
    }
}

/// Answers each connection with `frames`, then gives back what the device sent, up to `bytes` after the CONNECT.
fn serve(
    frames: Vec<u8>,
    connections: usize,
    bytes: usize,
) -> (SocketAddr, std::sync::mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (post, sent) = std::sync::mpsc::sync_channel(connections);
    std::thread::spawn(move || {
        for _ in 0..connections {
            let (mut socket, _) = listener.accept().unwrap();
            let (frames, post) = (frames.clone(), post.clone());
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                let connect = socket.read(&mut buffer).unwrap();
                assert!(connect > 16, "a CONNECT comes in one piece on the loopback");
                // In two cuts, so that a frame ends in another read than it began.
                let (first, second) = frames.split_at(frames.len() * 2 / 3);
                socket.write_all(first).unwrap();
                socket.write_all(second).unwrap();
                let mut rest = vec![0; bytes];
                if socket.read_exact(&mut rest).is_ok() {
                    post.send(rest).unwrap();
                }
                // Open until the device goes.
                while let Ok(1..) = socket.read(&mut buffer) {}
            });
        }
    });
    (address, sent)
}

fn welcome() -> Vec<u8> {
    let welcome = Welcome {
        node: "n1".into(),
        heartbeat_s: 60,
        phase: 0x8000,
        padding_max: 0,
        heartbeat_min_s: 5,
        heartbeat_max_s: 1200,
        window: 32,
        server_time_ms: 0,
        back_off: BackOff::default(),
    };
    let mut bytes = Vec::new();
    ServerFrame::Welcome(welcome).encode(ClientId(0), &mut bytes);
    bytes
}

fn push(message: u128, stored: bool, out: &mut Vec<u8>) {
    let payload = format!("payload {}", stamp(crate::clock::now_ns()));
    let sequence = if stored { message as u64 } else { 0 };
    let push = Push {
        source: stored.then_some(Source::Mailbox),
        position: Position(sequence),
        previous: Position(sequence.saturating_sub(1)),
        ttl_s: if stored { 60 } else { 0 },
        flags: 0,
        message: MessageId(message),
        kind: Kind::Text,
        trace: TraceId(0),
        replaces: None,
        collapse_key: "",
        payload: payload.as_bytes(),
    };
    ServerFrame::Push(push).encode(ClientId(0), out);
}

#[test]
fn devices_count_as_open_when_they_are_welcomed_and_ack_what_is_stored() {
    let mut frames = welcome();
    push(1, true, &mut frames);
    push(2, true, &mut frames);
    push(9, false, &mut frames);
    // The first ack alone: header, kind, count, one id.
    let (address, sent) = serve(frames, 3, 16 + 2 + 16);
    let mut crew = Crew::new().unwrap();
    crew.follow(Order::Expect { messages: 9, within_ms: PATIENCE.as_millis() as u64 });
    log_in(&mut crew, address, 3);
    let [opened, held] = reported(&mut crew);
    assert!(matches!(opened, Report::Opened { connections: 3, failed: 0, .. }), "{opened:?}");
    let held = tally(held);
    assert_eq!((held.messages, held.repeated, held.holes, held.closed), (9, 0, 0, 0), "{held:?}");
    assert_eq!(held.latency_us.iter().map(|(_, count)| count).sum::<u64>(), 9);
    for _ in 0..3 {
        let ack = sent.recv_timeout(PATIENCE).unwrap();
        assert_eq!(ack[16], 1, "the ack says received");
    }
}

#[test]
fn a_message_given_twice_in_a_session_is_counted_as_repeated() {
    let mut frames = welcome();
    push(1, true, &mut frames);
    push(1, true, &mut frames);
    let (address, _sent) = serve(frames, 1, 0);
    let mut crew = Crew::new().unwrap();
    log_in(&mut crew, address, 1);
    crew.follow(Order::Expect { messages: 2, within_ms: PATIENCE.as_millis() as u64 });
    let [_opened, held] = reported(&mut crew);
    let held = tally(held);
    assert_eq!((held.messages, held.repeated), (2, 1));
}

#[test]
fn a_refused_device_is_a_failure_with_its_reason() {
    let mut frames = Vec::new();
    let refusal = Refusal { reason: CloseReason::BadToken, retry_after_s: 0 };
    ServerFrame::Refusal(refusal).encode(ClientId(0), &mut frames);
    let (address, _sent) = serve(frames, 2, 0);
    let mut crew = Crew::new().unwrap();
    log_in(&mut crew, address, 2);
    match reported(&mut crew) {
        [Report::Opened { connections: 0, failed: 2, why }] => assert!(why.contains("BadToken"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_target_that_nobody_listens_on_is_a_failure() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut crew = Crew::new().unwrap();
    crew.follow(Order::Open { target: unused, source: Ipv4Addr::LOCALHOST, count: 5 });
    match reported(&mut crew) {
        [Report::Opened { connections: 0, failed: 5, why }] => assert!(!why.is_empty()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_order_for_the_writer_is_refused() {
    let reports = Crew::new().unwrap().follow(Order::Accept { count: 1, within_ms: 1 });
    assert!(matches!(&reports[..], [Report::Failed { .. }]), "{reports:?}");
}

#[test]
fn what_does_not_come_is_reported_when_the_time_is_over() {
    let mut crew = Crew::new().unwrap();
    crew.follow(Order::Expect { messages: 1, within_ms: 10 });
    let [held] = reported(&mut crew);
    assert_eq!(tally(held).messages, 0);
}

/// Turns a fleet until it has reported.
fn next_report(fleet: &mut impl Play) -> Report {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "no report within {PATIENCE:?}");
        fleet.turn(Duration::from_millis(1)).unwrap();
        if let Some(report) = fleet.reports().pop() {
            return report;
        }
    }
}

fn gather(target: SocketAddr, count: u64, back: Back) -> Order {
    Order::Gather(Gather {
        target,
        source: Ipv4Addr::LOCALHOST,
        app_key: "app".into(),
        devices: (1..=count).map(|client| Login { client, token: "token".into() }).collect(),
        heartbeat_s: 60,
        under_way_max: 2,
        back,
    })
}

fn logins(swarm: &mut Swarm) -> Logins {
    match swarm.follow(Order::Logins).pop() {
        Some(Report::Logins(logins)) => logins,
        other => panic!("expected logins, got {other:?}"),
    }
}

#[test]
fn a_swarm_counts_whom_the_server_welcomed() {
    let (address, _sent) = serve(welcome(), 3, 0);
    let mut swarm = Swarm::new().unwrap();
    assert!(swarm.follow(gather(address, 3, Back::Stay)).is_empty());
    let opened = next_report(&mut swarm);
    assert!(matches!(opened, Report::Opened { connections: 3, failed: 0, .. }), "{opened:?}");
    let logins = logins(&mut swarm);
    assert_eq!((logins.live, logins.welcomed.values().sum::<u64>(), logins.failed), (3, 3, 0));
}

#[test]
fn a_swarm_counts_refusals_with_what_they_said() {
    let mut refused = Vec::new();
    ServerFrame::Refusal(Refusal { reason: CloseReason::Full, retry_after_s: 30 })
        .encode(ClientId(0), &mut refused);
    let (address, _sent) = serve(refused, 2, 0);
    let mut swarm = Swarm::new().unwrap();
    swarm.follow(gather(address, 2, Back::AtOnce));
    let deadline = Instant::now() + PATIENCE;
    let mut told = Logins::default();
    while told.refused.get("full").is_none_or(|told| told.times < 2) {
        assert!(Instant::now() < deadline, "{told:?}");
        swarm.turn(Duration::from_millis(1)).unwrap();
        told.then(logins(&mut swarm));
    }
    let full = told.refused["full"];
    assert_eq!((full.times, full.retry_min_s, full.retry_max_s, told.live, told.given_up), (2, 30, 30, 0, 0));
}

/// Answers each connection as `each` says, then waits for its end; `false` ends it at once.
fn answer_each(each: impl Fn(usize) -> bool + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (index, socket) in listener.incoming().enumerate() {
            let (mut socket, stays) = (socket.unwrap(), each(index));
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                if let Ok(16..) = socket.read(&mut buffer) {
                    socket.write_all(&welcome()).unwrap();
                }
                // Anything but silence, a half that closes included, ends the connection.
                if stays {
                    let _ = socket.read(&mut buffer);
                }
            });
        }
    });
    address
}

#[test]
fn a_device_of_a_swarm_that_is_held_comes_back_when_it_may() {
    let address = answer_each(|index| index > 0);
    let mut swarm = Swarm::new().unwrap();
    swarm.follow(gather(address, 1, Back::AtOnce));
    swarm.follow(Order::Hold { on: true });
    let deadline = Instant::now() + PATIENCE;
    let mut told = Logins::default();
    while told.lost == 0 {
        assert!(Instant::now() < deadline, "{told:?}");
        swarm.turn(Duration::from_millis(1)).unwrap();
        told.then(logins(&mut swarm));
    }
    assert_eq!(told.live, 0);
    swarm.follow(Order::Hold { on: false });
    while told.live == 0 {
        assert!(Instant::now() < deadline, "{told:?}");
        swarm.turn(Duration::from_millis(1)).unwrap();
        told.then(logins(&mut swarm));
    }
    assert_eq!(told.welcomed.values().sum::<u64>(), 2);
}

#[test]
fn a_churner_ends_connections_in_every_quick_way() {
    let address = answer_each(|_| true);
    let mut churner = Churner::new().unwrap();
    let order = Churn {
        target: address,
        source: Ipv4Addr::LOCALHOST,
        app_key: "app".into(),
        api: address,
        app_secret: "secret".into(),
        devices: vec![Login { client: 1, token: "token".into() }],
        names: vec!["one".into()],
        takeovers: 0,
        // Without takeover and kick, which this server does not know.
        cycles: 4,
        rate: 0,
        within_ms: PATIENCE.as_millis() as u64,
        timeouts: false,
    };
    assert!(churner.follow(Order::Churn(order)).is_empty());
    match next_report(&mut churner) {
        Report::Churned(churned) => {
            assert!(churned.failed.is_empty(), "{churned:?}");
            let words: Vec<&str> = churned.ended.keys().map(String::as_str).collect();
            assert_eq!(words, ["bad_frame", "fin", "half_close", "reset"]);
        }
        other => panic!("{other:?}"),
    }
}
