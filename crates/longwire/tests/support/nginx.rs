//! A real nginx with the files of `deploy/nginx`.

use super::{PATIENCE, until};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// From where the front for TCP connects: a load balancer that sends PROXY headers.
pub const STREAM_FRONT: &str = "127.0.0.2";
/// From where the WebSocket front connects: it sends none.
pub const WEB_FRONT: &str = "127.0.0.3";
const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// A running nginx in front of a server. Killed when dropped.
pub struct Nginx {
    child: Child,
    /// Where its load balancer for TCP listens.
    pub stream: SocketAddr,
    /// Where its web server listens.
    pub web: SocketAddr,
    folder: TempDir,
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
    /// In front of the devices' port of a server, which must expect PROXY headers from [`STREAM_FRONT`].
    #[track_caller]
    pub fn start(device: SocketAddr) -> Nginx {
        let own = tempfile::tempdir().unwrap();
        let folder = own.path();
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
             stream {{\nproxy_bind {STREAM_FRONT};\n{streams}\n}}\n\
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
        let nginx = Nginx { child, stream, web, folder: own };
        let listens = || TcpStream::connect(stream).is_ok() && TcpStream::connect(web).is_ok();
        let said = || std::fs::read_to_string(nginx.folder.path().join("stderr")).unwrap_or_default();
        assert!(until(PATIENCE, listens), "nginx does not listen: {}", said());
        nginx
    }
}
