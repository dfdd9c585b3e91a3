//! A real nginx in front, with the files of `deploy/nginx`: a load balancer for TCP that names the peer, and a WebSocket at a path.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "support/mod.rs"]
mod support;

use serde_json::json;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use support::{LayeredDevice, PATIENCE, Pipe, Start, TestServer, framed, mqtt_lives, socket, until};

const NATIVE: &str = "longwire.v1";
/// From where the WebSocket front connects: not a load balancer that sends PROXY headers.
const WEB_FRONT: &str = "127.0.0.2";
const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

struct Nginx {
    child: Child,
    stream: SocketAddr,
    web: SocketAddr,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A file of `deploy/nginx` with other ports than its own.
fn deployed(name: &str, listen: (&str, SocketAddr), device: SocketAddr) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/nginx").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    let changed = text.replace(listen.0, &format!("    listen {};", listen.1));
    assert_ne!(changed, text, "{name} listens");
    let replaced = changed.replace("server 127.0.0.1:7800;", &format!("server {device};"));
    assert_ne!(replaced, changed, "{name} names Longwire");
    replaced
}

impl Nginx {
    #[track_caller]
    fn start(folder: &Path, device: SocketAddr) -> Nginx {
        let (stream, web) = (free(), free());
        let streams = deployed("stream.conf", ("    listen 7443;", stream), device);
        let sites = deployed("websocket.conf", ("    listen 8443;", web), device);
        let load =
            if Path::new(MODULE).exists() { format!("load_module {MODULE};\n") } else { String::new() };
        let place = folder.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {place}/{kind};\n"))
            .concat();
        let text = format!(
            "{load}daemon off;\nmaster_process off;\npid {place}/pid;\nerror_log {place}/error.log info;\n\
             events {{ worker_connections 512; }}\n\
             stream {{\n{streams}\n}}\n\
             http {{\naccess_log off;\nproxy_bind {WEB_FRONT};\n{temporary}{sites}\n}}\n"
        );
        let file = folder.join("nginx.conf");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-p").arg(folder).arg("-c").arg(&file);
        command.arg("-g").arg(format!("error_log {place}/error.log;"));
        let log = std::fs::File::create(folder.join("stderr")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let child = child.expect("nginx is installed: `cargo xtask test` does that");
        let nginx = Nginx { child, stream, web };
        let listens = || TcpStream::connect(stream).is_ok() && TcpStream::connect(web).is_ok();
        let said = || std::fs::read_to_string(folder.join("stderr")).unwrap_or_default();
        assert!(until(PATIENCE, listens), "nginx does not listen: {}", said());
        nginx
    }
}

fn login(server: &TestServer, name: &str, pipe: Box<dyn Pipe>) -> LayeredDevice {
    LayeredDevice::login(pipe, &server.app_key, &server.register(name, None, &[]))
}

#[test]
fn devices_behind_both_fronts_get_what_is_pushed() {
    let server = Start::default().arg("--set").arg("listener.device.proxy_from=127.0.0.1").start();
    let folder = tempfile::tempdir().unwrap();
    let nginx = Nginx::start(folder.path(), server.device);
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
