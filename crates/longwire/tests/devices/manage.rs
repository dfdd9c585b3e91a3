//! What a caller of the API changes, lists and removes.

use super::support::{PATIENCE, TestServer, count_of, until};
use super::{ask, change, good, names, tag};
use longwire_proto::close::CloseReason;
use serde_json::{Value, json};

#[test]
fn a_change_is_seen_at_once_by_whoever_asks_and_by_the_next_push() {
    let server = TestServer::start();
    let mut device = server.device_with("d1", Some("ann"), &["red"]);
    device.connect();
    let now = change(
        &server,
        "d1",
        &json!({ "tags": { "add": ["blue", "beta"], "remove": ["red", "none"] }, "alias": "bob",
            "attributes": { "set": { "app_version": "3.2.1" } } }),
    );
    assert_eq!((&now["tags"], &now["alias"]), (&json!(["beta", "blue"]), &json!("bob")));
    assert_eq!(now["attributes"], json!({ "app_version": "3.2.1" }));
    assert_eq!((&now["online"], &now["connections"]), (&json!(true), &json!(1)));
    let session = &now["sessions"][0];
    assert_eq!((&session["network"], &session["class"]), (&json!("wired"), &json!("iot")));
    assert!(session["since"].is_string() && session["heard"].is_string(), "{session}");
    // Who is connected has its new tags, and its old ones no more.
    server.api.push_text(tag("red"), "red").message_id();
    server.api.push_text(tag("blue"), "blue").message_id();
    device.expect_text("blue");
    server.api.push_text(json!({ "alias": ["bob"] }), "bob").message_id();
    device.expect_text("bob");
    assert_eq!(server.api.push_text(json!({ "alias": ["ann"] }), "ann").status, 422);
    // Asked again it changes nothing; what is not given stays; null takes the alias.
    let again = change(&server, "d1", &json!({ "tags": { "add": ["blue"], "remove": ["red"] } }));
    assert_eq!((&again["tags"], &again["alias"]), (&now["tags"], &json!("bob")));
    let bare = change(&server, "d1", &json!({ "alias": null, "attributes": { "remove": ["app_version"] } }));
    assert_eq!((&bare["alias"], &bare["attributes"]), (&Value::Null, &json!({})));
    assert_eq!(bare["tags"], now["tags"]);
    device.expect_nothing();
}

#[test]
fn registration_takes_attributes_and_a_restart_keeps_all_that_was_changed() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = TestServer::start_in(folder.path());
    let body = json!({ "registration_id": "d1", "attributes": { "v": "1", "w": "2" }, "tags": ["a"] });
    assert_eq!(server.api.post("/v1/devices", &body).status, 201);
    change(&server, "d1", &json!({ "attributes": { "set": { "v": "10" }, "remove": ["w"] }, "alias": "x" }));
    // Given attributes replace all, as tags do; none given leaves them.
    assert_eq!(server.api.post("/v1/devices", &json!({ "registration_id": "d1" })).status, 200);
    server.kill9();
    let server = TestServer::start_in(folder.path());
    let device = good(&server, "GET", "/v1/devices/d1", None);
    assert_eq!((&device["attributes"], &device["alias"]), (&json!({ "v": "10" }), &json!("x")));
    assert_eq!((&device["online"], &device["sessions"]), (&json!(false), &json!([])));
}

#[test]
fn lists_come_in_pages_whose_counts_are_exact() {
    let server = TestServer::start();
    for number in 0..7 {
        let tags: &[&str] = if number % 2 == 0 { &["even", "all"] } else { &["all"] };
        server.register(&format!("d{number}"), Some("team"), tags);
    }
    let mut seen = Vec::new();
    let mut path = "/v1/devices?limit=3".to_owned();
    loop {
        let page = good(&server, "GET", &path, None);
        assert_eq!(page["total"], 7);
        seen.extend(names(&page).into_iter().map(str::to_owned));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/devices?limit=3&after={next}");
    }
    assert_eq!(seen, (0..7).map(|number| format!("d{number}")).collect::<Vec<_>>());
    let tags = good(&server, "GET", "/v1/tags?limit=1", None);
    assert_eq!(tags["tags"], json!([{ "tag": "all", "devices": 7 }]));
    let next = tags["next"].as_str().unwrap();
    let tags = good(&server, "GET", &format!("/v1/tags?after={next}"), None);
    assert_eq!((&tags["tags"], &tags["next"]), (&json!([{ "tag": "even", "devices": 4 }]), &Value::Null));
    let page = good(&server, "GET", "/v1/tags/even?limit=3", None);
    assert_eq!((names(&page), &page["total"]), (vec!["d0", "d2", "d4"], &json!(4)));
    let next = page["next"].as_str().unwrap();
    let page = good(&server, "GET", &format!("/v1/tags/even?limit=3&after={next}"), None);
    assert_eq!(names(&page), ["d6"]);
    assert_eq!(names(&good(&server, "GET", "/v1/aliases/team", None)).len(), 7);
    assert_eq!(names(&good(&server, "GET", "/v1/tags/nobody", None)).len(), 0);
    assert_eq!(names(&good(&server, "GET", "/v1/aliases/nobody", None)).len(), 0);
    // A cursor is of its own list.
    assert_eq!(ask(&server, "GET", &format!("/v1/devices?after={next}"), None).status, 400);
}

#[test]
fn a_tag_is_given_and_taken_in_bulk_and_each_says_what_became_of_it() {
    let server = TestServer::start();
    let mut device = server.device_with("d1", None, &[]);
    device.connect();
    server.register("d2", None, &["t"]);
    let full: Vec<String> = (0..100).map(|number| format!("t{number}")).collect();
    server.api.post("/v1/devices", &json!({ "registration_id": "d3", "tags": full }));
    let body = json!({ "add": ["d1", "d3", "ghost"], "remove": ["d2", "ghost2"] });
    let results = good(&server, "POST", "/v1/tags/t", Some(&body));
    let of = |name: &str, result: &str| json!({ "registration_id": name, "result": result });
    assert_eq!(
        results["results"],
        json!([
            of("d1", "done"),
            of("d3", "too_many_tags"),
            of("ghost", "unknown"),
            of("d2", "done"),
            of("ghost2", "unknown")
        ])
    );
    assert_eq!(names(&good(&server, "GET", "/v1/tags/t", None)), ["d1"]);
    server.api.push_text(tag("t"), "to t").message_id();
    device.expect_text("to t");
    let cleared = good(&server, "DELETE", "/v1/tags/t", None);
    assert_eq!(cleared, json!({ "cleared": 1, "left": 0 }));
    assert_eq!(good(&server, "DELETE", "/v1/tags/t", None), json!({ "cleared": 0, "left": 0 }));
    server.api.push_text(tag("t"), "to nobody").message_id();
    device.expect_nothing();
    assert_eq!(good(&server, "GET", "/v1/tags/t", None)["total"], 0);
}

#[test]
fn a_tag_and_an_alias_are_taken_from_more_devices_than_one_transaction_holds() {
    const DEVICES: usize = 300;
    let server = TestServer::start();
    let all: Vec<String> = (0..DEVICES).map(|number| format!("d{number:03}")).collect();
    for name in &all {
        server.register(name, Some("crowd"), &[]);
    }
    good(&server, "POST", "/v1/tags/t", Some(&json!({ "add": all })));
    assert_eq!(good(&server, "GET", "/v1/tags/t", None)["total"], DEVICES);
    for path in ["/v1/tags/t", "/v1/aliases/crowd"] {
        let mut cleared = 0;
        let done = until(PATIENCE * 2, || {
            let answer = ask(&server, "DELETE", path, None);
            cleared += answer.json["cleared"].as_u64().unwrap();
            // A machine that is slow answers 202 first.
            assert_eq!(answer.status == 202, answer.json["left"].as_u64().unwrap() > 0, "{}", answer.text);
            answer.status == 200
        });
        assert!(done && cleared == DEVICES as u64, "{path}: {cleared}");
        assert!(names(&good(&server, "GET", path, None)).is_empty());
    }
    assert_eq!(good(&server, "GET", "/v1/devices?limit=1", None)["total"], DEVICES);
}

#[test]
fn a_removed_device_is_gone_for_good_and_its_name_is_another_one_s() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = TestServer::start_in(folder.path());
    let registered = server.register("d1", Some("ann"), &["red"]);
    let mut device = server.device("d1").silent();
    device.connect();
    let message = server.api.push_text(json!({ "registration_id": ["d1"] }), "unacked").message_id();
    device.expect_text("unacked");
    assert_eq!(ask(&server, "DELETE", "/v1/devices/d1", None).status, 204);
    assert_eq!(device.expect_end(), Some(CloseReason::RevokedToken));
    let story = server.await_count(&message, "dropped", 1);
    assert_eq!((count_of(&story, "created"), count_of(&story, "pending")), (1, 0), "{story}");
    for (method, path) in
        [("GET", "/v1/devices/d1"), ("DELETE", "/v1/devices/d1"), ("POST", "/v1/devices/d1/revoke")]
    {
        assert_eq!(ask(&server, method, path, None).status, 404, "{method} {path}");
    }
    assert!(names(&good(&server, "GET", "/v1/aliases/ann", None)).is_empty());
    assert_eq!(good(&server, "GET", "/v1/tags", None)["tags"], json!([]));
    assert_eq!(server.api.push_text(json!({ "registration_id": ["d1"] }), "x").status, 422);
    server.kill9();
    let server = TestServer::start_in(folder.path());
    let refused = |device: &mut super::support::TestDevice| {
        device.try_connect().unwrap();
        device.expect_end()
    };
    let mut old = super::support::TestDevice::new(server.device, &server.app_key, "d1", &registered);
    assert_eq!(refused(&mut old), Some(CloseReason::BadToken));
    let anew = server.register("d1", None, &[]);
    assert_ne!(anew["client_id"], registered["client_id"]);
    assert_eq!(refused(&mut old), Some(CloseReason::BadToken));
    let mut new = super::support::TestDevice::new(server.device, &server.app_key, "d1", &anew);
    new.connect();
    new.expect_nothing();
}

#[test]
fn a_revoked_token_opens_nothing_and_a_new_one_finds_what_waits() {
    let server = TestServer::start();
    let registered = server.register("d1", None, &["t"]);
    let mut device = super::support::TestDevice::new(server.device, &server.app_key, "d1", &registered);
    device.connect();
    assert_eq!(ask(&server, "POST", "/v1/devices/d1/revoke", None).status, 204);
    assert_eq!(device.expect_end(), Some(CloseReason::RevokedToken));
    server.api.push_text(json!({ "registration_id": ["d1"] }), "waits").message_id();
    device.try_connect().unwrap();
    assert_eq!(device.expect_end(), Some(CloseReason::RevokedToken));
    let renewed = server.api.post("/v1/devices", &json!({ "registration_id": "d1" }));
    assert_eq!(renewed.json["client_id"], registered["client_id"]);
    let mut device = super::support::TestDevice::new(server.device, &server.app_key, "d1", &renewed.json);
    device.connect();
    device.expect_text("waits");
}

#[test]
fn the_status_of_many_says_of_each_where_it_is() {
    let server = TestServer::start();
    let mut device = server.device("on");
    device.connect();
    server.register("off", None, &[]);
    server.register("status", None, &[]);
    let body = json!({ "registration_ids": ["on", "off", "ghost", "on"] });
    let answer = good(&server, "POST", "/v1/devices/status", Some(&body));
    let all = answer["devices"].as_array().unwrap();
    let seen: Vec<_> = all.iter().map(|one| (one["known"] == true, one["online"] == true)).collect();
    assert_eq!(seen, [(true, true), (true, false), (false, false), (true, true)]);
    assert_eq!((&all[0]["connections"], &all[0]["sessions"][0]["network"]), (&json!(1), &json!("wired")));
    device.close();
    let offline = || {
        let answer =
            good(&server, "POST", "/v1/devices/status", Some(&json!({ "registration_ids": ["on"] })));
        answer["devices"][0]["online"] == false
    };
    assert!(until(PATIENCE, offline));
    // A device whose name is a word of the API's is reached by writing it otherwise.
    let change = good(&server, "POST", "/v1/devices/%73tatus", Some(&json!({ "alias": "s" })));
    assert_eq!(change["registration_id"], "status");
}
