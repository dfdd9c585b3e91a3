//! The API and the command.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use clap::Parser;
use serde_json::{Value, json};

use super::rig::{Rig, connect, echo, is_reset, there_and_back};
use crate::proxy::{ProxyArgs, run};

/// The command as the main program embeds it.
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    proxy: ProxyArgs,
}

#[track_caller]
fn command(rig: &Rig, line: &str) {
    let host = rig.address.to_string();
    let words = std::iter::once("proxy").chain(line.split(' ')).chain(["--host", &host]);
    run(&Line::try_parse_from(words).unwrap().proxy).unwrap();
}

#[test]
fn the_commands_of_the_articles_work_as_printed() {
    let rig = Rig::start();
    let upstream = echo();
    command(&rig, &format!("create im_latency -l 127.0.0.1:0 -u {upstream}"));
    command(&rig, "toxic add im_latency -t latency -a latency=500 -a jitter=100");
    let shown = rig.call("GET", "/proxies/im_latency", Value::Null);
    assert_eq!(
        shown["toxics"],
        json!([{
            "name": "latency_downstream", "type": "latency", "stream": "downstream", "toxicity": 1.0,
            "attributes": { "latency": 500, "jitter": 100 },
        }])
    );
    command(&rig, "toxic update im_latency -n latency_downstream -a latency=1");
    command(&rig, "list");
    command(&rig, "toxic remove im_latency -n latency_downstream");
    assert_eq!(rig.call("GET", "/proxies/im_latency/toxics", Value::Null), json!([]));
    command(&rig, "toggle im_latency");
    assert_eq!(rig.call("GET", "/proxies/im_latency", Value::Null)["enabled"], false);
    command(&rig, "reset");
    assert_eq!(rig.call("GET", "/proxies/im_latency", Value::Null)["enabled"], true);
    command(&rig, "delete im_latency");
    assert_eq!(rig.call("GET", "/proxies", Value::Null), json!({}));
}

#[test]
fn every_mistake_has_its_status_and_says_what_it_is() {
    let rig = Rig::start();
    rig.proxy(echo());
    rig.toxic("latency", "downstream", json!({ "latency": 1 }));
    let toxic = "/proxies/p/toxics";
    for (method, path, body, status, text) in [
        ("POST", "/proxies", "{not json", 400, "bad request body"),
        ("POST", "/proxies", r#"{"upstream":"127.0.0.1:1"}"#, 400, "missing required field: name"),
        ("POST", "/proxies", r#"{"name":"q"}"#, 400, "missing required field: upstream"),
        ("POST", "/proxies", r#"{"name":"a/b","upstream":"127.0.0.1:1"}"#, 400, "bad request body"),
        ("POST", "/proxies", r#"{"name":"p","upstream":"127.0.0.1:1"}"#, 409, "proxy already exists"),
        (
            "POST",
            "/proxies",
            r#"{"name":"q","listen":"nowhere","upstream":"127.0.0.1:1"}"#,
            500,
            "q cannot listen",
        ),
        ("GET", "/proxies/q", "", 404, "proxy not found"),
        ("DELETE", "/proxies/q", "", 404, "proxy not found"),
        ("POST", "/proxies/q/toxics", r#"{"type":"latency"}"#, 404, "proxy not found"),
        ("POST", toxic, "[", 400, "bad request body"),
        ("POST", toxic, r#"{"type":"loss"}"#, 400, "invalid toxic type"),
        ("POST", toxic, r#"{"type":"latency","stream":"sideways"}"#, 400, "stream was invalid"),
        ("POST", toxic, r#"{"type":"latency","attributes":{"latency":-1}}"#, 400, "bad request body"),
        ("POST", toxic, r#"{"type":"latency","attributes":{"latency":1e12}}"#, 400, "bad request body"),
        ("POST", toxic, r#"{"type":"latency","toxicity":1.5}"#, 400, "bad request body"),
        ("POST", toxic, r#"{"type":"latency","name":"t"}"#, 409, "toxic already exists"),
        ("GET", "/proxies/p/toxics/u", "", 404, "toxic not found"),
        ("DELETE", "/proxies/p/toxics/u", "", 404, "toxic not found"),
        ("GET", "/nothing", "", 404, "no such path"),
        ("POST", "/populate", "{}", 400, "bad request body"),
    ] {
        let reply = rig.raw(method, path, body);
        let json = reply.json();
        assert_eq!(reply.status, status, "{method} {path} {body}: {json}");
        assert_eq!(json["status"], status, "{json}");
        assert!(json["error"].as_str().unwrap().contains(text), "{method} {path} {body}: {json}");
    }
}

#[test]
fn a_body_beyond_the_bound_is_refused() {
    let rig = Rig::start();
    assert_eq!(rig.raw("POST", "/proxies", &"x".repeat(70 * 1024)).status, 400);
}

#[test]
fn browsers_are_refused() {
    let rig = Rig::start();
    let mut socket = TcpStream::connect(rig.address).unwrap();
    let request = "GET /proxies HTTP/1.1\r\nHost: x\r\nUser-Agent: Mozilla/5.0\r\nConnection: close\r\n\r\n";
    socket.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 403 "), "{text}");
}

#[test]
fn a_disabled_proxy_refuses_and_an_enabled_one_serves_at_the_same_port() {
    let rig = Rig::start();
    // An address of its own: while the port is free, no connection of another test can happen to take it.
    let body = json!({ "name": "p", "listen": "127.0.0.77:0", "upstream": echo().to_string() });
    let made = rig.call("POST", "/proxies", body);
    let proxy: SocketAddr = made["listen"].as_str().unwrap().parse().unwrap();
    let mut living = connect(proxy);
    living.write_all(b"here").unwrap();
    living.read_exact(&mut [0; 4]).unwrap();
    assert_eq!(rig.call("POST", "/proxies/p", json!({ "enabled": false }))["enabled"], false);
    assert!(TcpStream::connect(proxy).is_err());
    assert!(matches!(living.read(&mut [0; 8]), Ok(0) | Err(_)), "an old connection lives on");
    rig.call("PATCH", "/proxies/p", json!({ "enabled": true }));
    assert_eq!(there_and_back(&mut connect(proxy), b"again"), b"again");
}

#[test]
fn populate_creates_replaces_and_keeps() {
    let rig = Rig::start();
    let (one, two) = (echo().to_string(), echo().to_string());
    let list = json!([{ "name": "a", "upstream": one }, { "name": "b", "upstream": one, "enabled": false }]);
    let made = rig.call("POST", "/populate", list);
    let listen = made["proxies"][0]["listen"].clone();
    assert_eq!(made["proxies"][1]["enabled"], false);
    let again = json!([
        { "name": "a", "listen": listen, "upstream": one },
        { "name": "b", "listen": "127.0.0.1:0", "upstream": two },
    ]);
    let made = rig.call("POST", "/populate", again);
    assert_eq!(made["proxies"][0]["listen"], listen);
    assert_eq!(
        (&made["proxies"][1]["upstream"], &made["proxies"][1]["enabled"]),
        (&json!(two), &json!(true))
    );
    assert_eq!(rig.call("GET", "/proxies", Value::Null).as_object().unwrap().len(), 2);
    assert!(rig.call("GET", "/version", Value::Null)["version"].is_string());
}

#[test]
fn reset_takes_all_toxics_away() {
    let rig = Rig::start();
    let proxy = rig.proxy(echo());
    rig.toxic("reset_peer", "upstream", json!({}));
    assert!(is_reset(&mut connect(proxy)));
    rig.call("POST", "/reset", Value::Null);
    assert_eq!(there_and_back(&mut connect(proxy), b"well"), b"well");
}
