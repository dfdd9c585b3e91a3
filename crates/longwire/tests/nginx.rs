//! A real nginx in front, with the files of `deploy/nginx`: a load balancer for TCP that names the peer, and a WebSocket at a path.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "support/mod.rs"]
mod support;

use serde_json::json;
use support::{
    LayeredDevice, Nginx, PATIENCE, Pipe, STREAM_FRONT, Start, TestServer, framed, mqtt_lives, socket, until,
};

const NATIVE: &str = "longwire.v1";

fn login(server: &TestServer, name: &str, pipe: Box<dyn Pipe>) -> LayeredDevice {
    LayeredDevice::login(pipe, &server.app_key, &server.register(name, None, &[]))
}

#[test]
fn devices_behind_both_fronts_get_what_is_pushed() {
    let server =
        Start::default().arg("--set").arg(&format!("listener.device.proxy_from={STREAM_FRONT}")).start();
    let nginx = Nginx::start(server.device);
    let mut devices = [
        login(&server, "stream", Box::new(socket(nginx.stream))),
        login(&server, "stream-web", Box::new(framed(socket(nginx.stream), NATIVE))),
        login(&server, "web", Box::new(framed(socket(nginx.web), NATIVE))),
    ];
    for text in ["first", "second"] {
        let answer = server.api.push_text(json!("all"), text);
        assert_eq!(answer.status, 202, "{}", answer.text);
        for device in &mut devices {
            assert!(String::from_utf8_lossy(&device.push()).contains(text));
            device.beat();
        }
    }
    mqtt_lives(socket(nginx.stream), "stream-mqtt");
    mqtt_lives(framed(socket(nginx.stream), "mqtt"), "stream-web-mqtt");
    mqtt_lives(framed(socket(nginx.web), "mqtt"), "web-mqtt");
    // The fronts pass an end on: nothing is left behind.
    drop(devices);
    assert!(until(PATIENCE, || server.metric("longwire_sessions", &[]) == 0.0));
}
