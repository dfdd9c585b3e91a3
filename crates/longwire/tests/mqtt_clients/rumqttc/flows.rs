//! What both faces of rumqttc go through.

use super::v4::V4;
use super::v5::V5;
use super::{Message, Peer, Will, Wish};
use crate::kit::Door;
use crate::stage::{Behind, Lasting, Secured};
use crate::support::{PATIENCE, TestServer, until};
use std::time::Duration;

const NO_WISH: Wish<'static> = Wish { keep: false, will: None };
const KEEP: Wish<'static> = Wish { keep: true, will: None };
const SHARED: u32 = 60;

#[track_caller]
fn peer<P: Peer>(door: &Door, name: &str) -> P {
    wishing(door, name, NO_WISH)
}

#[track_caller]
fn wishing<P: Peer>(door: &Door, name: &str, wish: Wish<'_>) -> P {
    P::open(door, name, wish).unwrap()
}

#[track_caller]
fn message<P: Peer>(peer: &mut P) -> Message {
    peer.message_within(PATIENCE).expect("a message in time")
}

fn shown(topic: &str, payload: &str, qos: u8, retain: bool) -> Message {
    Message { topic: topic.to_owned(), payload: payload.to_owned(), qos, retain }
}

fn exchange<P: Peer>(door: &Door) {
    let (mut reader, mut writer): (P, P) = (peer(door, "reader"), peer(door, "writer"));
    let topic = format!("rumqttc/{}/qos", P::VERSION);
    reader.subscribe(&format!("rumqttc/{}/+", P::VERSION), 2);
    for qos in 0..3 {
        writer.publish(&topic, "a message", qos, false);
        assert_eq!(message(&mut reader), shown(&topic, "a message", qos, false));
    }
    reader.leave();
    writer.leave();
}

fn retain<P: Peer>(door: &Door) {
    let names = ["writer", "early", "late"];
    let [mut writer, mut early, mut late] = names.map(|name| peer::<P>(door, name));
    let [a, b, all] = ["a", "b", "#"].map(|level| format!("rumqttc/{}/{level}", P::VERSION));
    writer.publish(&a, "of a", 1, true);
    writer.publish(&b, "of b", 2, true);
    early.subscribe(&all, 1);
    let mut both = [message(&mut early), message(&mut early)];
    both.sort();
    assert_eq!(both, [shown(&a, "of a", 1, true), shown(&b, "of b", 1, true)]);
    writer.publish(&a, "", 1, true);
    assert_eq!(message(&mut early), shown(&a, "", 1, false));
    late.subscribe(&all, 1);
    writer.publish(&a, "not kept", 1, false);
    let got = [message(&mut late), message(&mut late)];
    assert_eq!(got, [shown(&b, "of b", 1, true), shown(&a, "not kept", 1, false)]);
    writer.publish(&b, "", 1, true);
}

fn leave_wills<P: Peer>(door: &Door) {
    let topic = format!("rumqttc/{}/will", P::VERSION);
    let will = |payload| Wish { keep: false, will: Some(Will { topic: &topic, payload, delay_s: 0 }) };
    let mut reader: P = peer(door, "reader");
    reader.subscribe(&topic, 1);
    wishing::<P>(door, "polite", will("polite")).leave();
    drop(wishing::<P>(door, "lost", will("lost")));
    assert_eq!(message(&mut reader).payload, "lost");
    reader.publish(&topic, "end", 1, false);
    assert_eq!(message(&mut reader).payload, "end");
}

fn share<P: Peer>(door: &Door) {
    let mut members = ["member0", "member1"].map(|name| peer::<P>(door, name));
    let mut writer: P = peer(door, "writer");
    let topic = format!("rumqttc/{}/shared", P::VERSION);
    for member in &mut members {
        member.subscribe(&format!("$share/group/{topic}"), 1);
    }
    for number in 0..SHARED {
        writer.publish(&topic, &number.to_string(), 1, false);
    }
    let mut got: [Vec<u32>; 2] = [vec![], vec![]];
    let complete = until(PATIENCE, || {
        for (member, its) in members.iter_mut().zip(&mut got) {
            let message = member.message_within(Duration::from_millis(50));
            its.extend(message.map(|message| message.payload.parse::<u32>().unwrap()));
        }
        got[0].len() + got[1].len() == SHARED as usize
    });
    assert!(complete && got.iter().all(|its| !its.is_empty()), "{got:?}");
    let mut all = got.concat();
    all.sort_unstable();
    assert_eq!(all, Vec::from_iter(0..SHARED));
}

fn begin_session<P: Peer>(door: &Door) {
    let mut reader: P = wishing(door, "kept", KEEP);
    assert!(!reader.session_present());
    reader.subscribe(&format!("rumqttc/{}/+", P::VERSION), 2);
    reader.leave();
    let mut writer: P = peer(door, "writer");
    for qos in [1, 2, 1] {
        writer.publish(&format!("rumqttc/{}/{qos}", P::VERSION), "waits", qos, false);
    }
    writer.leave();
}

fn resume_session<P: Peer>(door: &Door) {
    let mut reader: P = wishing(door, "kept", KEEP);
    assert!(reader.session_present());
    let waited = |qos| shown(&format!("rumqttc/{}/{qos}", P::VERSION), "waits", qos, false);
    let got = [message(&mut reader), message(&mut reader), message(&mut reader)];
    assert_eq!(got, [waited(1), waited(2), waited(1)]);
    let topic = format!("rumqttc/{}/1", P::VERSION);
    reader.publish(&topic, "end", 1, false);
    assert_eq!(message(&mut reader), shown(&topic, "end", 1, false));
    reader.leave();
}

/// Connected when the server dies, and on its own from there.
fn come_back<P: Peer>() {
    let mut server = Lasting::start();
    let mut device: P = wishing(&server.door(), "stays", KEEP);
    device.subscribe("rumqttc/+", 2);
    server.dies_and_publishes("rumqttc/stays");
    device.come_back();
    assert!(device.session_present());
    assert_eq!(message(&mut device), shown("rumqttc/stays", "after", 1, false));
    device.publish("rumqttc/own", "own", 2, false);
    assert_eq!(message(&mut device), shown("rumqttc/own", "own", 2, false));
}

/// What was pushed to the device comes without a subscription; its own topics are open to it.
fn be_a_device<P: Peer>(flow: &str, door: &Door) {
    if !door.versions.contains(&P::VERSION) {
        return;
    }
    if flow == "refused" {
        assert!(P::open(door, "refused", NO_WISH).is_err(), "let in");
        return;
    }
    let mut device: P = peer(door, "pushed");
    let name = door.device.clone().unwrap();
    assert_eq!(message(&mut device), shown("$push/text", &format!("for {name}"), 1, false));
    let own = format!("device/{name}/a");
    device.subscribe(&format!("device/{name}/+"), 1);
    device.publish(&own, "own", 1, false);
    assert_eq!(message(&mut device), shown(&own, "own", 1, false));
    device.leave();
}

/// In both versions, at one server.
fn in_both(door: &Door, four: impl Fn(&Door), five: impl Fn(&Door)) {
    four(door);
    five(door);
}

#[test]
fn exchanges_every_qos() {
    in_both(&Door::open(TestServer::start().device), exchange::<V4>, exchange::<V5>);
}

#[test]
fn keeps_and_clears_retained_messages() {
    in_both(&Door::open(TestServer::start().device), retain::<V4>, retain::<V5>);
}

#[test]
fn leaves_wills() {
    in_both(&Door::open(TestServer::start().device), leave_wills::<V4>, leave_wills::<V5>);
}

/// One whose client comes back in time is not sent; the next one is, a second after its client was lost.
#[test]
fn leaves_wills_that_wait() {
    let server = TestServer::start();
    let (door, topic) = (Door::open(server.device), "rumqttc/delay");
    let lost = |payload, delay_s| Wish { keep: true, will: Some(Will { topic, payload, delay_s }) };
    let mut reader: V5 = peer(&door, "reader");
    reader.subscribe(topic, 1);
    drop(wishing::<V5>(&door, "lost", lost("too early", 60)));
    let mut back: V5 = wishing(&door, "lost", lost("lost", 1));
    assert!(back.session_present());
    back.publish(topic, "back", 1, false);
    assert_eq!(message(&mut reader).payload, "back");
    drop(back);
    assert_eq!(message(&mut reader).payload, "lost");
    reader.publish(topic, "end", 1, false);
    assert_eq!(message(&mut reader).payload, "end");
}

#[test]
fn shares_a_subscription() {
    in_both(&Door::open(TestServer::start().device), share::<V4>, share::<V5>);
}

#[test]
fn finds_its_session_after_kill9() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = TestServer::start_in(folder.path());
    in_both(&Door::open(server.device), begin_session::<V4>, begin_session::<V5>);
    server.kill9();
    let server = TestServer::start_in(folder.path());
    in_both(&Door::open(server.device), resume_session::<V4>, resume_session::<V5>);
}

#[test]
fn comes_back_after_kill9() {
    come_back::<V4>();
    come_back::<V5>();
}

#[test]
fn is_known_by_its_certificate() {
    Secured::start().tried_by(|flow, door| {
        be_a_device::<V4>(flow, door);
        be_a_device::<V5>(flow, door);
    });
}

#[test]
fn keeps_its_address_behind_nginx() {
    let behind = Behind::start();
    in_both(&behind.door(), exchange::<V4>, exchange::<V5>);
    behind.all_came_from("127.0.0.1");
}
