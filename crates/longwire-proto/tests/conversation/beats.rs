//! Heartbeats of both ends, and who waits too long.

use super::*;

#[test]
fn heartbeats_are_answered_and_timed() {
    let mut talk = Conversation::fresh();
    let first = talk.device.deadline().0;
    assert_eq!(first, 30_000, "the server said that the first beat comes after half an interval");
    assert_eq!(talk.tick_at_deadline(), Tick::Live);
    assert_eq!(talk.to_server.len(), 16);
    talk.server_reads().unwrap();
    talk.now.0 += 25;
    assert_eq!(talk.device_reads(), [Saw::Pong(25)]);
    assert_eq!(talk.device.deadline().0, first + 60_000);
}

#[test]
fn three_heartbeats_without_answer_lose_the_server() {
    let mut talk = Conversation::fresh();
    for _ in 0..3 {
        assert_eq!(talk.tick_at_deadline(), Tick::Live);
    }
    assert_eq!(talk.to_server.len(), 3 * 16);
    assert_eq!(talk.tick_at_deadline(), Tick::Lost);

    let mut talk = Conversation::fresh();
    for _ in 0..10 {
        assert_eq!(talk.tick_at_deadline(), Tick::Live);
        talk.server_reads().unwrap();
        talk.device_reads();
    }
}

#[test]
fn an_ack_puts_the_next_heartbeat_off_unless_one_is_unanswered() {
    let mut talk = Conversation::fresh();
    talk.now = Millis(29_000);
    talk.say_push(1, place(0));
    talk.device_reads();
    talk.ack(&[1]);
    assert_eq!(talk.device.deadline(), Millis(89_000));
    talk.tick_at_deadline();
    talk.ack(&[1]);
    assert_eq!(talk.device.deadline(), Millis(149_000));
}

#[test]
fn a_heartbeat_outside_the_servers_range_is_changed_and_announced() {
    for (planned, used) in [(5, 30), (60, 60), (1200, 120)] {
        let start = FeedStart { last: place(0), waiting: false };
        let mut talk = Conversation::login(Memory::default(), planned, start);
        assert_eq!(talk.device.heartbeat_s(), used);
        talk.server_reads().unwrap();
        assert_eq!(talk.server.idle_limit_s(), 3 * u32::from(used) + 20);
    }
}

#[test]
fn no_answer_to_connect_within_ten_seconds_loses_the_server() {
    let credentials = Credentials {
        app_key: "app-1".into(),
        token: "token".into(),
        client: DEVICE,
        network: Network::Unknown,
        class: Class::Iot,
        heartbeat_s: 60,
    };
    let mut out = Vec::new();
    let mut device = ClientSession::begin(&credentials, Memory::default(), Millis(5), &mut out);
    assert_eq!(device.deadline(), Millis(10_005));
    assert_eq!(device.tick(Millis(10_004), &mut out), Tick::Live);
    assert_eq!(device.tick(Millis(10_005), &mut out), Tick::Lost);
}
