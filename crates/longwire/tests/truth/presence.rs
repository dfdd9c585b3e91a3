//! Who came and went.

use super::support::{PATIENCE, TestServer, until};
use super::{Events, page, streams, texts};
use serde_json::{Value, json};

#[track_caller]
fn await_events(server: &TestServer, count: usize) -> Value {
    let mut last = Value::Null;
    let reached = until(PATIENCE, || {
        last = page(server, "/v1/presence/events?limit=1000");
        last["events"].as_array().unwrap().len() >= count
    });
    assert!(reached, "never {count} events: {last}");
    last["events"].clone()
}

fn epochs(events: &Value) -> Vec<u64> {
    events.as_array().unwrap().iter().map(|event| event["epoch"].as_u64().unwrap()).collect()
}

#[test]
fn logins_and_ends_are_told_in_order_with_rising_epochs() {
    let server = TestServer::start();
    let mut device = server.device("d1");
    device.connect();
    device.close();
    assert_eq!(page(&server, "/v1/presence/events")["events"], json!([]), "off until it is asked for");
    streams(&server, "off", true);
    device.connect();
    let online = await_events(&server, 1);
    assert_eq!((&online[0]["state"], &online[0]["reason"]), (&json!("online"), &json!("login")));
    let mut events = Events::open(&server, "/v1/presence/stream", "");
    let first = events.next().unwrap();
    assert_eq!((first.kind.as_str(), &first.data), ("presence", &online[0]));
    device.close();
    assert_eq!(events.next().unwrap().data["state"], "offline");
    device.connect();
    assert_eq!(events.next().unwrap().data["epoch"], 2);
    // A newer connection takes the place of an older one: the device never went.
    let mut newer = server.device("d1");
    newer.connect();
    assert_eq!((&events.next().unwrap().data["state"], 0), (&json!("online"), 0));
    newer.close();
    let all = await_events(&server, 5);
    assert_eq!(texts(&all, "state"), ["online", "offline", "online", "online", "offline"]);
    assert_eq!(epochs(&all), [1, 1, 2, 3, 3]);
    assert_eq!(texts(&all, "registration_id"), ["d1"; 5]);
    assert_eq!(texts(&all, "node"), ["longwire"; 5]);
}

#[test]
fn devices_that_were_online_when_the_node_was_killed_are_told_as_gone_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = TestServer::start_in(folder.path());
    streams(&server, "off", true);
    let (mut back, mut gone) = (server.device("back"), server.device("gone"));
    back.connect();
    gone.connect();
    await_events(&server, 2);
    server.kill9();
    back.drop_connection();
    gone.drop_connection();
    let server = TestServer::start_in(folder.path());
    let after = await_events(&server, 4);
    assert_eq!(texts(&after, "state"), ["online", "online", "offline", "offline"]);
    assert_eq!(texts(&after, "reason")[2..], ["not_seen_since_restart", "not_seen_since_restart"]);
    assert_eq!(epochs(&after), [1, 1, 1, 1]);
    back.to = server.device;
    back.connect();
    let last = await_events(&server, 5);
    assert_eq!((&last[4]["registration_id"], &last[4]["epoch"]), (&json!("back"), &json!(2)));
}

#[test]
fn a_drain_tells_that_its_devices_went() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = TestServer::start_in(folder.path());
    streams(&server, "off", true);
    let mut device = server.device("d1");
    device.connect();
    await_events(&server, 1);
    assert!(server.terminate().success());
    let server = TestServer::start_in(folder.path());
    let events = await_events(&server, 2);
    assert_eq!(texts(&events, "state"), ["online", "offline"]);
    assert_ne!(events[1]["reason"], "not_seen_since_restart");
}

#[test]
fn only_the_operator_sets_streams_and_only_of_apps_that_are_there() {
    let server = TestServer::start();
    let path = format!("/v1/admin/apps/{}/streams", server.app_key);
    let put = |api: &super::support::Api, path: &str, body: &str| {
        api.request("PUT", path, Some(body.as_bytes())).unwrap().status
    };
    assert_eq!(put(&server.api, &path, "{}"), 401);
    assert_eq!(put(&server.operator(), "/v1/admin/apps/nobody/streams", "{}"), 404);
    for body in ["{\"receipts\":\"some\"}", "{\"presence\":1}", "{\"x\":1}", "[]", "{"] {
        assert_eq!(put(&server.operator(), &path, body), 400, "{body}");
    }
    assert_eq!(put(&server.operator(), &path, "{}"), 200);
}
