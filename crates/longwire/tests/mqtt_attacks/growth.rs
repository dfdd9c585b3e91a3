//! State that a peer could make grow: identifiers of QoS 2, aliases, windows, shared groups, sessions.

use crate::kit::{Honest, Peer, await_ends, drops, ends, server_with};
use crate::packets::{PUBLISH, PUBLISH_QOS_1, PUBLISH_QOS_2, packet, publish_id, resume_bytes, text};
use crate::support::{PATIENCE, TestServer, until};

#[test]
fn messages_of_qos_2_that_are_never_released_are_bounded() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    let mut grower = Peer::login(server.device, "grower");
    for id in 1..=33u16 {
        grower.send(&publish_id(PUBLISH_QOS_2, "grow", id, b"x"));
    }
    grower.is_ended_with(0x93);
    honest.are_alone(&server);
}

/// CVE-2023-28366: the same identifier again and again, and identifiers of a kept session over many connections.
#[test]
fn messages_of_qos_2_that_come_again_hold_one_place_each() {
    let server = server_with(&["limits.inbound_messages_per_s=0"]);
    let mut honest = Honest::meet(&server);
    let mut grower = Peer::login(server.device, "grower");
    let again = publish_id(PUBLISH_QOS_2 | 0x08, "grow", 7, b"x");
    for _ in 0..100 {
        grower.send(&again.repeat(50));
        for _ in 0..50 {
            assert_eq!(grower.next_of(0x50)[2..4], [0, 7]);
        }
    }
    // Nobody has subscribed, so the first was published to nobody, and only it.
    assert_eq!(server.metric("longwire_topic_published_total", &["qos=\"2\""]), 1.0);
    drop(grower);
    for round in 0..10u16 {
        let mut kept = Peer::open(server.device).says_hello(&resume_bytes("kept"));
        for id in 1..=3 {
            kept.send(&publish_id(PUBLISH_QOS_2, "grow", round * 3 + id, b"x"));
            kept.next_of(0x50);
        }
    }
    let mut kept = Peer::open(server.device).says_hello(&resume_bytes("kept"));
    for id in 31..=32 {
        kept.send(&publish_id(PUBLISH_QOS_2, "grow", id, b"x"));
        kept.next_of(0x50);
    }
    kept.send(&publish_id(PUBLISH_QOS_2, "grow", 33, b"x"));
    kept.is_ended_with(0x93);
    honest.are_alone(&server);
}

/// A subscriber that takes nothing: its window, its queue, and then it is passed over and ended.
#[test]
fn a_subscriber_that_never_acks_is_bounded_and_ended() {
    const MESSAGES: u16 = 1200;
    const WINDOW: usize = 32;
    const QUEUE: u64 = 1000;
    let server = server_with(&["limits.ack_s=3", "limits.inbound_messages_per_s=0"]);
    let mut honest = Honest::meet(&server);
    let mut silent = Peer::login(server.device, "silent");
    assert_eq!(silent.subscribe(&["work".to_owned()], 1), [1]);
    let mut writer = Peer::login(server.device, "writer");
    for first in (0..MESSAGES).step_by(30) {
        let window = first..MESSAGES.min(first + 30);
        let out: Vec<u8> = window
            .clone()
            .flat_map(|number| publish_id(PUBLISH_QOS_1, "work", number - first + 1, &number.to_be_bytes()))
            .collect();
        writer.send(&out);
        window.for_each(|_| _ = writer.next_of(0x40));
    }
    honest.still_talk();
    let over = u64::from(MESSAGES) - QUEUE - WINDOW as u64;
    assert!(until(PATIENCE, || drops(&server, "queue") == over), "{} of {over}", drops(&server, "queue"));
    await_ends(&server, "ack_timeout", 1);
    let packets = std::iter::from_fn(|| silent.packet());
    let taken = packets.filter(|packet| packet[0] & 0xF0 == PUBLISH).count();
    assert_eq!(taken, WINDOW, "what went out before the end");
    drop(writer);
    honest.are_alone(&server);
}

/// THREATS: a member that takes and never acks holds up 16 messages until its end, and none is lost.
#[test]
fn a_silent_member_of_a_group_is_passed_over_and_what_it_took_goes_to_others() {
    const MESSAGES: u16 = 90;
    const UNACKED_MAX: usize = 16;
    let server = server_with(&["limits.ack_s=3", "limits.inbound_messages_per_s=0"]);
    let mut honest = Honest::meet(&server);
    let group = ["$share/g/work".to_owned()];
    let mut silent = Peer::login(server.device, "silent");
    assert_eq!(silent.subscribe(&group, 1), [1]);
    let mut busy = Peer::login(server.device, "busy");
    assert_eq!(busy.subscribe(&group, 1), [1]);
    let mut writer = Peer::login(server.device, "writer");
    let mut got = Vec::new();
    let mut take = |busy: &mut Peer| {
        let message = busy.next_of(PUBLISH);
        let at = 4 + "work".len();
        busy.send(&packet(0x40, &message[at..at + 2]));
        got.push(u16::from_be_bytes(*message.last_chunk().unwrap()));
        got.len()
    };
    for number in 0..MESSAGES {
        writer.send(&publish_id(PUBLISH_QOS_1, "work", number % 30 + 1, &number.to_be_bytes()));
        assert!(writer.next_of(0x40).get(4).is_none_or(|code| *code == 0));
    }
    // All but what the silent one took.
    while take(&mut busy) < usize::from(MESSAGES) - UNACKED_MAX {}
    assert_eq!(ends(&server, "ack_timeout"), 0);
    honest.still_talk();
    // And then that as well.
    while take(&mut busy) < usize::from(MESSAGES) {}
    assert_eq!(ends(&server, "ack_timeout"), 1);
    got.sort_unstable();
    assert_eq!(got, (0..MESSAGES).collect::<Vec<u16>>(), "each once");
    drop((silent, busy, writer));
    honest.are_alone(&server);
}

/// 200 members a group.
#[test]
fn a_group_has_two_hundred_members_and_no_more() {
    const MEMBERS_MAX: usize = 200;
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    let group = ["$share/g/work".to_owned()];
    let mut members: Vec<Peer> =
        (0..MEMBERS_MAX + 5).map(|number| Peer::login(server.device, &format!("m{number}"))).collect();
    let refused =
        members.iter_mut().map(|member| member.subscribe(&group, 0)).filter(|codes| *codes == [0x97]).count();
    assert_eq!(refused, 5);
    assert_eq!(server.metric("longwire_shared_members", &[]) as usize, MEMBERS_MAX);
    drop(members);
    honest.are_alone(&server);
}

#[test]
fn an_alias_beyond_the_greatest_ends_the_connection() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    for alias in [0u16, 17, u16::MAX] {
        let mut peer = Peer::login(server.device, "aliaser");
        let body = [&text("a")[..], &[3, 0x23], &alias.to_be_bytes()].concat();
        peer.send(&packet(PUBLISH, &body));
        peer.is_ended_with(0x94);
    }
    honest.are_alone(&server);
}

/// Sixteen aliases, set again and again to the longest topics; none outlives its connection.
#[test]
fn aliases_are_a_connections_own_and_sixteen() {
    let server = server_with(&["limits.inbound_messages_per_s=0"]);
    let mut honest = Honest::meet(&server);
    let mut aliaser = Peer::login(server.device, "aliaser");
    let aliased = |topic: &str, alias: u16| {
        packet(PUBLISH, &[&text(topic)[..], &[3, 0x23], &alias.to_be_bytes(), b"x"].concat())
    };
    for round in 0..200 {
        for alias in 1..=16 {
            let level = format!("{round:03}{alias:02}{}", "l".repeat(50));
            aliaser.send(&aliased(&[level.as_str(); 4].join("/"), alias));
        }
    }
    aliaser.send(&[0xC0, 0]);
    assert_eq!(aliaser.packet().unwrap(), [0xD0, 0]);
    drop(aliaser);
    let mut next = Peer::login(server.device, "aliaser");
    next.send(&aliased("", 1));
    next.is_ended_with(0x82);
    honest.are_alone(&server);
}

/// One device comes and goes with its kept session: it has one session; and new names are bounded by the app's devices.
#[test]
fn sessions_that_are_kept_are_as_many_as_the_app_has_devices() {
    const DEVICES: usize = 20;
    let server = server_with(&[&format!("auth.automatic_devices={DEVICES}")]);
    let mut honest = Honest::meet(&server);
    for _ in 0..100 {
        let mut flapper = Peer::open(server.device).says_hello(&resume_bytes("flapper"));
        flapper.subscribe(&["flap".to_owned()], 1);
        flapper.send(&[0xE0, 0]);
        assert_eq!(flapper.packet(), None);
    }
    assert_eq!(server.metric("longwire_kept_sessions", &[]), 1.0);
    assert_eq!(server.metric("longwire_kept_subscriptions", &[]), 1.0);
    // Three names are taken.
    let mut refused = 0;
    for number in 0..DEVICES + 10 {
        let mut peer = Peer::open(server.device);
        peer.send(&resume_bytes(&format!("name{number}")));
        match peer.next_of(0x20)[3] {
            0 => peer.send(&[0xE0, 0]),
            code => {
                assert_eq!(code, 0x97);
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 13);
    assert_eq!(ends(&server, "device_quota"), 13);
    assert_eq!(server.metric("longwire_kept_sessions", &[]) as usize, DEVICES - 2);
    honest.are_alone(&server);
}

/// What waits for a device that is away: a thousand messages, then its publishers are refused.
#[test]
fn a_mailbox_is_bounded_and_the_publisher_is_told() {
    const MAILBOX: usize = 1000;
    let server = server_with(&["limits.inbound_messages_per_s=0"]);
    let mut honest = Honest::meet(&server);
    let mut away = Peer::open(server.device).says_hello(&resume_bytes("away"));
    assert_eq!(away.subscribe(&["mail".to_owned()], 1), [1]);
    away.send(&[0xE0, 0]);
    assert_eq!(away.packet(), None);
    let mut writer = Peer::login(server.device, "writer");
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..35 {
        let out: Vec<u8> = (1..=30).flat_map(|id| publish_id(PUBLISH_QOS_1, "mail", id, b"letter")).collect();
        writer.send(&out);
        for _ in 0..30 {
            match writer.next_of(0x40).get(4) {
                None | Some(0) => taken += 1,
                Some(0x97) => refused += 1,
                code => panic!("{code:02x?}"),
            }
        }
    }
    assert_eq!((taken, refused), (MAILBOX, 50));
    honest.still_talk();
    // A clean start lets go of all of it.
    let mut away = Peer::login(server.device, "away");
    away.send(&[0xE0, 0]);
    assert!(until(PATIENCE, || server.metric("longwire_kept_sessions", &[]) == 0.0));
    assert_eq!(
        server.metric("longwire_deliveries_dropped_total", &["reason=\"session_ended\""]) as usize,
        MAILBOX
    );
    drop((away, writer));
    honest.are_alone(&server);
}
