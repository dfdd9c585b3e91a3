//! SUBSCRIBE, UNSUBSCRIBE and PUBLISH between both ends.

#![allow(clippy::unwrap_used)]

use longwire_proto::id::ClientId;
use longwire_proto::limit::{FRAME_BODY_BYTES_MAX, PUBLISH_BYTES_MAX};
use longwire_proto::session::{
    AwaitingConnect, ClientSession, Credentials, Established, FeedStart, FromDevice, FromServer, Memory,
    Millis,
};
use longwire_proto::wire::mqtt::RetainHandling;
use longwire_proto::wire::{
    BackOff, Class, Network, Publish, ResultCode, SelfService, ServerFrame, Subscribe, UpAck, Welcome,
};

const DEVICE: ClientId = ClientId(42);

fn server() -> Established {
    AwaitingConnect::default().decide(60).accept(DEVICE, FeedStart::default(), FeedStart::default())
}

/// A device that is logged in, and what it has to say already.
fn device() -> (ClientSession, Vec<u8>) {
    let credentials = Credentials {
        app_key: "app-1".into(),
        token: "token".into(),
        client: DEVICE,
        network: Network::Unknown,
        class: Class::Iot,
        heartbeat_s: 60,
    };
    let mut out = Vec::new();
    let mut device = ClientSession::begin(&credentials, Memory::default(), Millis(0), &mut out);
    assert!(!device.publish(&publish("a"), &mut out), "before WELCOME nothing is said");
    let welcome = Welcome {
        node: "node-a".into(),
        heartbeat_s: 60,
        phase: 0,
        padding_max: 0,
        heartbeat_min_s: 30,
        heartbeat_max_s: 1200,
        window: 32,
        server_time_ms: 0,
        back_off: BackOff::default(),
    };
    let mut bytes = Vec::new();
    ServerFrame::Welcome(welcome).encode(DEVICE, &mut bytes);
    out.clear();
    device.receive(&mut &bytes[..], Millis(0), &mut out).unwrap();
    (device, out)
}

fn subscribe(filter: &str) -> Subscribe<'_> {
    Subscribe { filter, kept: true, no_local: false, retained: RetainHandling::Send }
}

fn publish(topic: &str) -> Publish<'_> {
    Publish { client_message: 7, at_least_once: true, retain: false, ttl_s: 0, topic, payload: b"21.5" }
}

/// What the server answers at once to a request; `None`: it hands it on.
fn answered(what: SelfService<'_>) -> Option<ResultCode> {
    let ((mut device, mut out), mut server, mut answer) = (device(), server(), Vec::new());
    assert!(device.ask(5, what, &mut out));
    let mut input = &out[..];
    let from = server.receive(&mut input, FRAME_BODY_BYTES_MAX, &mut answer).unwrap().unwrap();
    match (from, what) {
        (FromDevice::Answered, _) => match device.receive(&mut &answer[..], Millis(1), &mut Vec::new()) {
            Ok(Some(FromServer::Result { request: 5, code })) => Some(code),
            other => panic!("{other:?}"),
        },
        (FromDevice::Subscribe { request: 5, wanted, filter }, SelfService::Subscribe(asked)) => {
            assert_eq!((wanted, filter.as_str()), (asked, asked.filter));
            None
        }
        (FromDevice::Unsubscribe { request: 5, filter }, SelfService::Unsubscribe(asked)) => {
            assert_eq!(filter, asked);
            None
        }
        (FromDevice::Own { request: 5, what }, asked) => {
            assert_eq!(what, asked);
            None
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_valid_filter_is_handed_on_and_a_bad_one_answered_here() {
    let long = format!("{0}/{0}/{0}/{0}", "x".repeat(63));
    let group = Subscribe { kept: false, ..subscribe("$share/g/a/#") };
    for good in ["a", "/", "a/+/b", "#", "+/+", &long[..255], "$push/#"] {
        assert_eq!(answered(SelfService::Subscribe(subscribe(good))), None, "{good}");
        assert_eq!(answered(SelfService::Unsubscribe(good)), None, "{good}");
    }
    assert_eq!(answered(SelfService::Subscribe(group)), None);
    assert_eq!(answered(SelfService::Unsubscribe("$share/g/a/#")), None);
    let deep = "a/".repeat(16);
    let wide = "x".repeat(65);
    for bad in ["a/#/b", "a+", "a#", "$share/g", "$share//a", "$share/+/a", &deep, &wide, "a\u{85}"] {
        assert_eq!(answered(SelfService::Subscribe(subscribe(bad))), Some(ResultCode::NotAllowed), "{bad}");
        assert_eq!(answered(SelfService::Unsubscribe(bad)), Some(ResultCode::NotAllowed), "{bad}");
    }
    let kept_group = subscribe("$share/g/a");
    let own_group = Subscribe { no_local: true, ..group };
    for what in [kept_group, own_group] {
        assert_eq!(answered(SelfService::Subscribe(what)), Some(ResultCode::NotAllowed));
    }
}

#[test]
fn what_a_device_wants_changed_of_itself_is_handed_on_as_it_came() {
    let set = SelfService::AttributeSet { name: "app_version", value: "3.2.1" };
    for what in [
        SelfService::Bind("alice"),
        SelfService::Unbind("alice"),
        SelfService::TagAdd("news"),
        SelfService::TagRemove("news"),
        set,
        SelfService::AttributeRemove("app_version"),
    ] {
        assert_eq!(answered(what), None, "{what:?}");
    }
}

#[test]
fn what_can_be_published_is_handed_on_and_the_rest_answered_if_an_answer_is_awaited() {
    let long = vec![7; PUBLISH_BYTES_MAX + 1];
    let most = Publish { payload: &long[1..], ..publish("a/b") };
    let once = Publish { at_least_once: false, ..publish("a/b") };
    for good in [publish("a/b"), publish("/"), most, once] {
        let ((mut device, mut out), mut server, mut answer) = (device(), server(), Vec::new());
        assert!(device.publish(&good, &mut out));
        let handed = server.receive(&mut &out[..], FRAME_BODY_BYTES_MAX, &mut answer);
        assert_eq!(handed, Ok(Some(FromDevice::Publish(good))));
        assert!(answer.is_empty(), "whoever takes it answers it");
    }
    let too_long = Publish { payload: &long, ..publish("a/b") };
    let deep = "a/".repeat(16);
    for bad in [publish("a/+"), publish("#"), publish("$up/text"), publish("$SYS"), publish(&deep), too_long]
    {
        for at_least_once in [true, false] {
            let ((mut device, mut out), mut server, mut answer) = (device(), server(), Vec::new());
            assert!(device.publish(&Publish { at_least_once, ..bad }, &mut out));
            let handed = server.receive(&mut &out[..], FRAME_BODY_BYTES_MAX, &mut answer);
            assert_eq!(handed, Ok(Some(FromDevice::Answered)), "{}", bad.topic);
            let said = device.receive(&mut &answer[..], Millis(1), &mut Vec::new()).unwrap();
            let refused = UpAck { client_message: 7, outcome: ResultCode::NotAllowed };
            assert_eq!(said, at_least_once.then_some(FromServer::UpAck(refused)), "{}", bad.topic);
        }
    }
}
