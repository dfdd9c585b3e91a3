//! A crew of MQTT clients talks with a small broker made of the server's end of the protocol, over real sockets.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use longwire_proto::id::{ClientId, Position};
use longwire_proto::session::FeedStart;
use longwire_proto::session::mqtt::{Awaiting, FromClient, Granted, PacketAssembler, Session, Terms};
use longwire_proto::wire::mqtt::{Limits, Packet, Properties, Publish as Message, QoS, Reason, encode};

use crate::fleet::Play as _;
use crate::fleet::crew::Crew;
use crate::order::{Clients, Order, Play, Publish, Report, Tally};

const PATIENCE: Duration = Duration::from_secs(20);

type Subscribers = Arc<Mutex<Vec<TcpStream>>>;

/// Gives every message to every subscriber, with QoS 0.
fn broker(refuse: Option<Reason>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let subscribers = Subscribers::default();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let subscribers = subscribers.clone();
            std::thread::spawn(move || serve(socket.unwrap(), &subscribers, refuse));
        }
    });
    address
}

fn serve(mut socket: TcpStream, subscribers: &Subscribers, refuse: Option<Reason>) {
    let (mut buffer, mut out, limits) = ([0; 16 * 1024], Vec::new(), Limits::default());
    let mut awaiting = Awaiting::default();
    let terms = loop {
        let Ok(bytes @ 1..) = socket.read(&mut buffer) else { return };
        if let Some(connect) = awaiting.receive(&mut &buffer[..bytes], &limits).unwrap() {
            break Terms::of(&connect);
        }
    };
    let deciding = awaiting.decide(terms, &[]);
    if let Some(reason) = refuse {
        deciding.refuse(reason, &mut out);
        socket.write_all(&out).unwrap();
        return;
    }
    let start = FeedStart { last: Position::new(1, 0), waiting: false };
    let granted = Granted {
        session_present: false,
        assigned: None,
        expiry_s: None,
        keep_alive_s: None,
        packet_bytes_max: 65_536,
        response: None,
    };
    let (mut session, _) = deciding.accept(ClientId(1), start, start, &granted, &mut out);
    let mut assembler = PacketAssembler::default();
    loop {
        socket.write_all(&out).unwrap();
        out.clear();
        let Ok(bytes @ 1..) = socket.read(&mut buffer) else { return };
        let mut input = &buffer[..bytes];
        let decoder = session.decoder(&limits);
        while let Some(packet) = assembler.next(&mut input, &decoder, false).unwrap() {
            answer(&mut session, packet, (&socket, subscribers), &mut out);
        }
    }
}

fn answer(
    session: &mut Session,
    packet: Packet<'_>,
    (socket, subscribers): (&TcpStream, &Subscribers),
    out: &mut Vec<u8>,
) {
    let version = session.terms().version;
    let (mut published, mut subscribed) = (None, None);
    match session.receive(packet, out).unwrap() {
        FromClient::Publish(incoming) => {
            let copy = Message {
                dup: false,
                qos: QoS::AtMostOnce,
                retain: false,
                topic: incoming.topic,
                packet_id: 0,
                properties: Properties::default(),
                payload: incoming.content,
            };
            let mut bytes = Vec::new();
            encode(&Packet::Publish(copy), version, &mut bytes).unwrap();
            for subscriber in subscribers.lock().unwrap().iter_mut() {
                subscriber.write_all(&bytes).unwrap();
            }
            published = (incoming.qos != QoS::AtMostOnce).then_some(incoming.packet_id);
        }
        FromClient::Subscribe(subscribe) => subscribed = Some(subscribe.packet_id),
        _ => {}
    }
    if let Some(packet_id) = published {
        session.published(packet_id, Reason::Success, out);
    }
    if let Some(packet_id) = subscribed {
        subscribers.lock().unwrap().push(socket.try_clone().unwrap());
        session.subscribed(packet_id, &[Reason::Success], out);
    }
}

fn clients(target: SocketAddr, part: Play, count: usize, v5: bool) -> Clients {
    Clients {
        target,
        source: Ipv4Addr::LOCALHOST,
        prefix: "test".into(),
        first: 0,
        count,
        v5,
        user: None,
        password: None,
        devices: Vec::new(),
        transport: crate::transport::Transport::Tcp,
        keep_alive_s: 60,
        in_flight_max: 4,
        under_way_max: 8,
        part,
        count_welcomes: false,
    }
}

fn report(crew: &mut Crew) -> Report {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "no report within {PATIENCE:?}");
        crew.turn(Duration::from_millis(1)).unwrap();
        if let Some(report) = crew.reports().into_iter().next() {
            return report;
        }
    }
}

fn tally(crew: &mut Crew) -> Tally {
    match crew.follow(Order::Tally).pop() {
        Some(Report::Held(tally)) => tally,
        other => panic!("expected a tally, got {other:?}"),
    }
}

fn publishing(qos: u8, messages_max: u64) -> Order {
    Order::Publish(Publish {
        topic: "t".into(),
        topics: 0,
        first: 0,
        bytes: 40,
        qos,
        per_s: 0.0,
        window: 8,
        fan: 3,
        messages_max,
        within_ms: PATIENCE.as_millis() as u64,
    })
}

#[test]
fn what_is_published_reaches_every_subscriber_once() {
    for (v5, qos) in [(false, 0), (true, 1), (true, 2)] {
        let target = broker(None);
        let mut crew = Crew::new().unwrap();
        let part = Play::Subscriber { topic: "t".into(), each: false, qos: 0 };
        assert!(crew.follow(Order::Clients(clients(target, part, 3, v5))).is_empty());
        let opened = report(&mut crew);
        assert!(matches!(opened, Report::Opened { connections: 3, failed: 0, .. }), "{opened:?}");
        crew.follow(Order::Clients(clients(target, Play::Publisher, 1, v5)));
        let opened = report(&mut crew);
        assert!(matches!(opened, Report::Opened { connections: 4, failed: 0, .. }), "{opened:?}");
        assert!(matches!(crew.follow(publishing(qos, 100))[..], [Report::Armed]));
        let deadline = Instant::now() + PATIENCE;
        let mut sum = tally(&mut crew);
        while sum.messages < 300 {
            assert!(Instant::now() < deadline, "{sum:?}");
            crew.turn(Duration::from_millis(1)).unwrap();
            let more = tally(&mut crew);
            sum.messages += more.messages;
            sum.published += more.published;
            sum.latency_us.extend(more.latency_us);
        }
        assert_eq!((sum.messages, sum.published, sum.repeated, sum.closed), (300, 100, 0, 0));
        assert_eq!(
            sum.latency_us.iter().map(|(_, count)| count).sum::<u64>(),
            300,
            "every message is stamped"
        );
    }
}

#[test]
fn a_welcome_counts_as_a_message_when_it_is_what_is_measured() {
    let target = broker(None);
    let mut crew = Crew::new().unwrap();
    crew.follow(Order::Expect { messages: 5, within_ms: PATIENCE.as_millis() as u64 });
    let order = Clients { count_welcomes: true, ..clients(target, Play::Idle, 5, true) };
    crew.follow(Order::Clients(order));
    let deadline = Instant::now() + PATIENCE;
    let mut reports = Vec::new();
    while reports.len() < 2 {
        assert!(Instant::now() < deadline, "only {reports:?} within {PATIENCE:?}");
        crew.turn(Duration::from_millis(1)).unwrap();
        reports.append(&mut crew.reports());
    }
    match &reports[..] {
        [Report::Opened { connections: 5, failed: 0, .. }, Report::Held(tally)] => {
            assert_eq!((tally.messages, tally.latency_us.iter().map(|(_, count)| count).sum()), (5, 5_u64));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refused_client_is_a_failure_with_its_reason() {
    let mut crew = Crew::new().unwrap();
    let target = broker(Some(Reason::NotAuthorized));
    crew.follow(Order::Clients(clients(target, Play::Idle, 2, true)));
    match report(&mut crew) {
        Report::Opened { connections: 0, failed: 2, why } => assert!(why.contains("not authorized"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_fleet_without_publishers_cannot_publish() {
    let reports = Crew::new().unwrap().follow(publishing(0, 1));
    assert!(matches!(&reports[..], [Report::Failed { .. }]), "{reports:?}");
}
