//! What a device may subscribe to, what it gets by it, and what takes the place of what.

use super::support::TestServer;
use super::{Census, publish, server, set_rules};
use longwire_proto::wire::mqtt::RetainHandling;
use longwire_proto::wire::{DeviceFrame, Publish, ResultCode, SelfService, Subscribe, push_flags};

#[test]
fn rules_hold_for_native_devices_from_the_moment_they_are_set() {
    let server = TestServer::start();
    let mut device = server.device("d1");
    device.connect();
    assert_eq!(device.subscribe("device/d1/#", true), ResultCode::Done, "its own corner");
    assert_eq!(device.publish("device/d1/x", "own"), ResultCode::Done);
    assert_eq!(device.expect_topic("device/d1/x", "own"), (true, 0));
    for filter in ["device/d2/#", "device/+/x", "#", "other", "$share/g/other", "$SYS/#"] {
        assert_eq!(device.subscribe(filter, false), ResultCode::NotAllowed, "{filter}");
    }
    assert_eq!(device.publish("device/d2/x", "x"), ResultCode::NotAllowed);
    assert_eq!(device.publish("other", "x"), ResultCode::NotAllowed);
    set_rules(&server, &["deny subscribe secret/#", "allow subscribe #", "allow publish out/%c/#"]);
    assert_eq!(device.subscribe("other", false), ResultCode::Done);
    assert_eq!(device.subscribe("#", false), ResultCode::NotAllowed, "it would meet secret/#");
    assert_eq!(device.subscribe("secret/x", true), ResultCode::NotAllowed);
    assert_eq!(device.publish("out/d1/x", "x"), ResultCode::Done);
    assert_eq!(device.publish("out/d2/x", "x"), ResultCode::NotAllowed);
    publish(&server, "other", "hello", 0);
    assert_eq!(device.expect_topic("other", "hello"), (false, 0));
    assert!(server.metric("longwire_topic_dropped_total", &["reason=\"not_allowed\""]) >= 3.0);
}

#[test]
fn bad_filters_too_many_and_unsubscribing_are_answered() {
    let server = server(&["allow all #"]);
    let mut device = server.device("d1");
    device.connect();
    for filter in ["a/#/b", "a+", "$share/g", "a/".repeat(20).as_str()] {
        assert_eq!(device.subscribe(filter, false), ResultCode::NotAllowed, "{filter}");
        assert_eq!(device.unsubscribe(filter), ResultCode::NotAllowed, "{filter}");
    }
    assert_eq!(device.unsubscribe("never/made"), ResultCode::Done);
    assert_eq!(device.publish("a/+", "x"), ResultCode::NotAllowed);
    for number in 0..100 {
        assert_eq!(device.subscribe(&format!("f/{number}"), number % 2 == 0), ResultCode::Done);
    }
    assert_eq!(device.subscribe("one/more", false), ResultCode::Quota);
    assert_eq!(device.subscribe("one/more", true), ResultCode::Quota);
    assert_eq!(device.subscribe("f/7", true), ResultCode::Done, "a change is no new one");
    for filter in ["f/6", "f/7", "f/9"] {
        assert_eq!(device.unsubscribe(filter), ResultCode::Done);
        publish(&server, filter, "too late", 1);
    }
    assert_eq!(device.subscribe("one/more", false), ResultCode::Done);
    publish(&server, "one/more", "hello", 1);
    assert_eq!(device.expect_topic("one/more", "hello"), (false, 0));
    device.expect_nothing();
}

#[test]
fn overlapping_subscriptions_give_one_copy_and_a_new_one_takes_the_place_of_the_old() {
    let server = server(&["allow all #"]);
    let mut device = server.device("d1");
    device.connect();
    assert_eq!(device.subscribe("a/#", false), ResultCode::Done);
    assert_eq!(device.subscribe("a/b", true), ResultCode::Done);
    publish(&server, "a/b", "once", 1);
    assert_eq!(device.expect_topic("a/b", "once"), (true, 0));
    publish(&server, "a/c", "live", 1);
    assert_eq!(device.expect_topic("a/c", "live"), (false, 0));
    assert_eq!(device.subscribe("a/b", false), ResultCode::Done);
    publish(&server, "a/b", "live now", 1);
    assert_eq!(device.expect_topic("a/b", "live now"), (false, 0));
    device.expect_nothing();
    let own = |filter| Subscribe { filter, kept: true, no_local: true, retained: RetainHandling::DoNotSend };
    assert_eq!(device.unsubscribe("a/#"), ResultCode::Done);
    assert_eq!(device.ask(SelfService::Subscribe(own("a/b"))), ResultCode::Done);
    assert_eq!(device.publish("a/b", "its own"), ResultCode::Done);
    publish(&server, "a/b", "another's", 1);
    assert_eq!(device.expect_topic("a/b", "another's"), (true, 0));
    device.close();
    server.await_online(0);
    publish(&server, "a/b", "kept", 1);
    device.connect();
    assert_eq!(device.expect_topic("a/b", "kept"), (true, push_flags::MAY_REPEAT));
    device.expect_nothing();
}

#[test]
fn retained_messages_come_when_a_device_subscribes() {
    let server = server(&["allow all #"]);
    let (mut device, mut other) = (server.device("d1"), server.device("d2"));
    device.connect();
    other.connect();
    let retain = |topic, payload: &'static str| {
        DeviceFrame::Publish(Publish {
            client_message: 77,
            at_least_once: true,
            retain: true,
            ttl_s: 3600,
            topic,
            payload: payload.as_bytes(),
        })
    };
    other.send_frame(&retain("state/1", "on"));
    assert_eq!(other.expect_upack(), (77, ResultCode::Done));
    for kept in [false, true] {
        assert_eq!(device.subscribe("state/+", kept), ResultCode::Done);
        assert_eq!(device.expect_topic("state/1", "on"), (false, push_flags::RETAINED), "kept: {kept}");
    }
    let quiet =
        Subscribe { filter: "state/#", kept: false, no_local: false, retained: RetainHandling::DoNotSend };
    assert_eq!(device.ask(SelfService::Subscribe(quiet)), ResultCode::Done);
    let again = Subscribe { filter: "state/+", kept: true, retained: RetainHandling::SendIfNew, ..quiet };
    assert_eq!(device.ask(SelfService::Subscribe(again)), ResultCode::Done);
    device.expect_nothing();
    other.send_frame(&retain("state/1", "off"));
    assert_eq!(other.expect_upack(), (77, ResultCode::Done));
    assert_eq!(device.expect_topic("state/1", "off"), (true, 0));
    other.send_frame(&retain("state/1", ""));
    assert_eq!(other.expect_upack(), (77, ResultCode::Done));
    assert_eq!(device.expect_topic("state/1", ""), (true, 0));
    assert_eq!(other.subscribe("state/+", false), ResultCode::Done);
    other.expect_nothing();
}
