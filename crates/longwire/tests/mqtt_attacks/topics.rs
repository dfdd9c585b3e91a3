//! Many subscriptions, wildcards, deep topics, and what is retained.

use crate::kit::{Honest, Peer, ends, server_with, set_rules};
use crate::packets::{PUBLISH, PUBLISH_QOS_1, RETAIN, packet, publish, publish_id, text, token_bytes};
use crate::support::TestServer;

#[test]
fn a_session_has_a_hundred_subscriptions_and_no_more() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    let mut bomber = Peer::login(server.device, "bomber");
    for round in 0..10 {
        let filters: Vec<String> = (0..10).map(|number| format!("bomb/{round}/{number}/+/#")).collect();
        assert_eq!(bomber.subscribe(&filters, 0), [0; 10]);
    }
    let more: Vec<String> = (0..10).map(|number| format!("bomb/more/{number}")).collect();
    assert_eq!(bomber.subscribe(&more, 0), [0x97; 10]);
    let shared: Vec<String> = (0..10).map(|number| format!("$share/g/bomb/{number}")).collect();
    assert_eq!(bomber.subscribe(&shared, 0), [0x97; 10], "groups count as well");
    drop(bomber);
    honest.are_alone(&server);
}

#[test]
fn filters_beyond_ten_in_a_packet_are_refused() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    let mut bomber = Peer::login(server.device, "bomber");
    let filters: Vec<String> = (0..12).map(|number| format!("a/{number}")).collect();
    let codes = bomber.subscribe(&filters, 0);
    assert_eq!((&codes[..10], &codes[10..]), (&[0; 10][..], &[0x97; 2][..]));
    drop(bomber);
    honest.are_alone(&server);
}

/// The worst filters that a few sessions can hold: every `+` doubles the ways through the trie. Who names the topic gets its messages.
#[test]
fn an_explosion_of_wildcards_does_not_stop_others() {
    const MESSAGES: usize = 100;
    let server = server_with(&["shards.count=1"]);
    let mut honest = Honest::meet(&server);
    let topic = ["a"; 16].join("/");
    let mut exact = Peer::login(server.device, "exact");
    assert_eq!(exact.subscribe(std::slice::from_ref(&topic), 0), [0]);
    let mut bombers: Vec<Peer> = Vec::new();
    for bomber in 0..64u32 {
        let mut peer = Peer::login(server.device, &format!("wild{bomber}"));
        for round in 0..10u32 {
            // Levels of `+` and `a` as the number's bits say, and then everything below.
            let filter = |number: u32| {
                let bits = bomber * 100 + round * 10 + number;
                let levels: Vec<&str> =
                    (0..15).map(|at| if bits >> at & 1 == 1 { "+" } else { "a" }).collect();
                levels.join("/") + "/#"
            };
            let filters: Vec<String> = (0..10).map(filter).collect();
            assert_eq!(peer.subscribe(&filters, 0), [0; 10]);
        }
        bombers.push(peer);
    }
    assert_eq!(server.metric("longwire_subscriptions", &[]) as usize, 64 * 100 + 2);
    let mut writer = Peer::login(server.device, "wild-writer");
    for _ in 0..MESSAGES {
        writer.send(&publish(&topic, b"boom"));
    }
    for _ in 0..10 {
        honest.still_talk();
    }
    for _ in 0..MESSAGES {
        assert!(exact.next_of(PUBLISH).ends_with(b"boom"));
    }
    // A match beyond its visits reaches no wildcard, and is counted.
    assert_eq!(crate::kit::drops(&server, "too_wide") as usize, MESSAGES);
    let heard = MESSAGES + 10;
    assert_eq!(server.metric("longwire_topic_delivered_total", &[]) as usize, heard, "nobody but those two");
    drop((bombers, writer, exact));
    honest.are_alone(&server);
}

/// Topics of one's own, as deep and as many as a session may have: the tree is cut back when their sessions go.
#[test]
fn a_tree_of_topics_goes_with_those_who_grew_it() {
    const PEERS: usize = 30;
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    for season in 0..3 {
        let mut growers = Vec::new();
        for number in 0..PEERS {
            let mut peer = Peer::login(server.device, &format!("grower{number}"));
            for round in 0..10 {
                let deep = |leaf: usize| {
                    let levels: Vec<String> =
                        (0..15).map(|level| format!("{season}.{number}.{level}")).collect();
                    format!("{}/{round}-{leaf}", levels.join("/"))
                };
                let filters: Vec<String> = (0..10).map(deep).collect();
                assert_eq!(peer.subscribe(&filters, 0), [0; 10]);
            }
            growers.push(peer);
        }
        assert_eq!(server.metric("longwire_subscriptions", &[]) as usize, PEERS * 100 + 1);
        honest.still_talk();
        drop(growers);
        honest.are_alone(&server);
    }
}

/// Sixteen levels, 64 bytes a level, 256 in all; one more of each ends the connection.
#[test]
fn topics_beyond_their_depth_or_length_end_the_connection() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    let long = format!("{0}/{0}/{0}/{0}", "l".repeat(64));
    for (number, bad) in [["a"; 17].join("/"), "l".repeat(65), long].iter().enumerate() {
        let mut peer = Peer::login(server.device, &format!("deep{number}"));
        peer.send(&publish(bad, b""));
        peer.is_ended_with(0x90);
        let mut peer = Peer::login(server.device, &format!("deep{number}"));
        peer.send(&crate::packets::subscribe_bytes(std::slice::from_ref(bad), 0));
        peer.is_ended_with(0x8F);
    }
    honest.are_alone(&server);
}

fn retain(topic: &str, id: u16, payload: &[u8]) -> Vec<u8> {
    publish_id(PUBLISH_QOS_1 | RETAIN, topic, id, payload)
}

/// Retains `count` messages, a window at a time; how many were refused with 0x97.
#[track_caller]
fn retain_many(peer: &mut Peer, count: usize, message: impl Fn(usize) -> (String, Vec<u8>)) -> usize {
    let mut refused = 0;
    for first in (0..count).step_by(30) {
        let window = first..count.min(first + 30);
        let mut out = Vec::new();
        for number in window.clone() {
            let (topic, payload) = message(number);
            out.extend(retain(&topic, (number - first + 1) as u16, &payload));
        }
        peer.send(&out);
        for _ in window {
            refused += usize::from(peer.next_of(0x40).get(4) == Some(&0x97));
        }
    }
    refused
}

const UNBRAKED: [&str; 2] = ["limits.inbound_messages_per_s=0", "limits.inbound_bytes_per_s=0"];

/// 10,000 topics an app; then no new one, and those that are there can be changed and cleared.
#[test]
fn retained_topics_are_bounded_and_a_subscription_gets_a_hundred() {
    const TOPICS_MAX: usize = 10_000;
    let server = server_with(&UNBRAKED);
    let mut honest = Honest::meet(&server);
    let mut writer = Peer::login(server.device, "writer");
    let refused =
        retain_many(&mut writer, TOPICS_MAX + 90, |number| (format!("kept/{number}"), b"x".to_vec()));
    assert_eq!(refused, 90);
    assert_eq!(server.metric("longwire_retained_topics", &[]) as usize, TOPICS_MAX);
    assert_eq!(server.metric("longwire_retained_refused_total", &[]) as usize, 90);
    honest.still_talk();
    let mut curious = Peer::login(server.device, "curious");
    assert_eq!(curious.subscribe(&["#".to_owned()], 0), [0]);
    for _ in 0..99 {
        curious.next_of(PUBLISH);
    }
    let last = curious.next_of(PUBLISH);
    let told = last.windows(18).any(|window| window == b"longwire-truncated");
    assert!(told, "the hundredth says that there are more: {last:02x?}");
    curious.send(&[0xC0, 0]);
    assert_eq!(curious.packet().unwrap(), [0xD0, 0], "nothing behind it");
    assert_eq!(server.metric("longwire_retained_truncated_total", &[]), 1.0);
    assert_eq!(retain_many(&mut writer, 1, |_| ("kept/0".into(), b"newer".to_vec())), 0);
    let refused = retain_many(&mut writer, TOPICS_MAX, |number| (format!("kept/{number}"), Vec::new()));
    assert_eq!((refused, server.metric("longwire_retained_topics", &[])), (0, 0.0));
    assert_eq!(server.metric("longwire_retained_bytes", &[]), 0.0);
    drop((writer, curious));
    honest.are_alone(&server);
}

/// 64 MiB an app.
#[test]
fn retained_bytes_are_bounded() {
    const BYTES_MAX: usize = 64 * 1024 * 1024;
    const MESSAGE: usize = 60 * 1024;
    let server = server_with(&UNBRAKED);
    let mut honest = Honest::meet(&server);
    let mut writer = Peer::login(server.device, "writer");
    let count = BYTES_MAX / MESSAGE + 60;
    let refused = retain_many(&mut writer, count, |number| (format!("big/{number}"), vec![b'x'; MESSAGE]));
    let (held, topics) =
        (server.metric("longwire_retained_bytes", &[]), server.metric("longwire_retained_topics", &[]));
    assert!(refused >= 60 && held <= BYTES_MAX as f64, "{refused} refused, {held} bytes");
    assert_eq!(topics as usize + refused, count);
    honest.still_talk();
    assert_eq!(retain_many(&mut writer, count, |number| (format!("big/{number}"), Vec::new())), 0);
    assert_eq!(server.metric("longwire_retained_bytes", &[]), 0.0);
    drop(writer);
    honest.are_alone(&server);
}

/// `%c` is the device's name as it is: names that would be wildcards or levels let nobody in, and one that looks like a placeholder
/// stays a name.
#[test]
fn a_name_widens_no_rule() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    set_rules(&server, &["allow all own/%c/#", "allow all by/%u/#"]);
    for name in ["+", "#", "a/b", "own/+", "\u{1}"] {
        let mut peer = Peer::open(server.device);
        let whole = token_bytes(&server, "carol", None);
        // The same token under another client id.
        let own = text("carol");
        let at = whole.windows(own.len()).position(|window| window == own).unwrap();
        let body = [&whole[2..at], &text(name), &whole[at + own.len()..]].concat();
        peer.send(&packet(0x10, if whole[1] & 0x80 == 0 { &body } else { &body[1..] }));
        let answer = peer.packet();
        assert!(answer.as_ref().is_none_or(|connack| connack[3] >= 0x80), "{name:?}: {answer:02x?}");
    }
    let mut carol = Peer::open(server.device).says_hello(&token_bytes(&server, "carol", None));
    let wanted =
        ["own/carol/#", "own/+/#", "own/#", "own/%c/#", "own/dave/x", "by/+/#", "by/%u/x", "#", "+/carol/#"];
    let wanted: Vec<String> = wanted.iter().map(|filter| (*filter).to_owned()).collect();
    assert_eq!(carol.subscribe(&wanted, 0), [0, 0x87, 0x87, 0x87, 0x87, 0x87, 0x87, 0x87, 0x87]);
    carol.send(&publish_id(PUBLISH_QOS_1, "own/dave/x", 1, b"x"));
    assert_eq!(carol.next_of(0x40)[4], 0x87);
    carol.send(&publish_id(PUBLISH_QOS_1, "own/carol/x", 2, b"mine"));
    assert!(carol.next_of(PUBLISH).ends_with(b"mine"));
    drop(carol);
    assert_eq!(ends(&server, "kicked"), 0);
    honest.are_alone(&server);
}
