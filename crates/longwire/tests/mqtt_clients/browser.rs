//! MQTT.js in a page of a real browser: headless Chromium.
//!
//! The page comes from a server of the test's own and asks it for flows; Chromium speaks to loopback and nobody else.

use super::kit::{Door, FLOW_PATIENCE, ends_well, home, program, script};
use super::loopback::{self, Answer, Request};
use super::stage::{Behind, Secured};
use super::support::{PATIENCE, TestServer, WEB_FRONT, until};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::json;
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tempfile::TempDir;

const JAVASCRIPT: &str = "text/javascript";
const TEXT: &str = "text/plain";

/// A browser with the page open. Killed when dropped.
struct Browser {
    child: Child,
    orders: SyncSender<String>,
    outcomes: Receiver<String>,
    profile: TempDir,
}

impl Browser {
    #[track_caller]
    fn start() -> Browser {
        Browser::launch(tempfile::tempdir().unwrap())
    }

    /// One that trusts the door's authority, and shows its certificate there if it has one.
    #[track_caller]
    fn with_keys(door: &Door) -> Browser {
        let profile = tempfile::tempdir().unwrap();
        let keys = profile.path().join(".pki/nssdb");
        std::fs::create_dir_all(&keys).unwrap();
        let keys = format!("sql:{}", keys.display());
        let nss = |name: &str, words: &[&str], file: Option<&Path>| {
            let mut command = program(name);
            command.args(["-d", &keys]).args(words).args(file);
            ends_well(command);
        };
        nss("certutil", &["-N", "--empty-password"], None);
        nss("certutil", &["-A", "-n", "ca", "-t", "C,,", "-i"], door.ca.as_deref());
        if let (Some(certificate), Some(key)) = (&door.certificate, &door.key) {
            let bundle = profile.path().join("keys.p12");
            let mut pack = program("openssl");
            pack.args(["pkcs12", "-export", "-passout", "pass:", "-in"]).arg(certificate);
            pack.arg("-inkey").arg(key).arg("-out").arg(&bundle);
            ends_well(pack);
            nss("pk12util", &["-W", "", "-i"], Some(&bundle));
        }
        // Shown without a question: nobody is there to answer it.
        let any = json!({ "last_modified": "0", "setting": { "filters": [{}] } });
        let site = format!("https://{}:{},*", door.host, door.port);
        let exceptions = json!({ "auto_select_certificate": { site: any } });
        let preferences = json!({ "profile": { "content_settings": { "exceptions": exceptions } } });
        std::fs::create_dir(profile.path().join("Default")).unwrap();
        std::fs::write(profile.path().join("Default/Preferences"), preferences.to_string()).unwrap();
        Browser::launch(profile)
    }

    #[track_caller]
    fn launch(profile: TempDir) -> Browser {
        let (orders, ordered) = sync_channel(1);
        let (outcome, outcomes) = sync_channel(1);
        let page = serve(ordered, outcome);
        let mut command = program("chromium");
        // Root has no sandbox; a container has a small /dev/shm.
        command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
        command.args(["--no-first-run", "--disable-background-networking", "--disable-component-update"]);
        command.args([
            "--disable-sync",
            "--disable-extensions",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ]);
        command.arg(format!("--user-data-dir={}", profile.path().display())).env("HOME", profile.path());
        command.arg(format!("http://{page}/"));
        let log = File::create(profile.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.process_group(0).spawn().unwrap();
        Browser { child, orders, outcomes, profile }
    }

    /// Runs a flow in the page; it must end well.
    #[track_caller]
    fn flow(&self, flow: &str, door: &Door) {
        self.orders.send(json!({ "flow": flow, "door": door }).to_string()).unwrap();
        match self.outcomes.recv_timeout(FLOW_PATIENCE) {
            Ok(outcome) => assert_eq!(outcome, "well", "{flow}"),
            Err(_) => {
                let log = std::fs::read_to_string(self.profile.path().join("log")).unwrap_or_default();
                // That there is no desktop is no news.
                let said = Vec::from_iter(log.lines().filter(|line| !line.contains("dbus"))).join("\n");
                panic!("{flow}: the page says nothing; chromium says:\n{said}");
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its helpers too, which would go on writing into the profile for a moment.
        if let Some(group) = Pid::from_raw(self.child.id() as i32) {
            kill_process_group(group, Signal::KILL).ok();
        }
        self.child.wait().ok();
        let _ = until(PATIENCE, || std::fs::remove_dir_all(self.profile.path()).is_ok());
    }
}

/// The page, and what it asks and tells.
fn serve(orders: Receiver<String>, outcomes: SyncSender<String>) -> SocketAddr {
    let library = home().join("node/node_modules/mqtt/dist/mqtt.min.js");
    let file = |path| std::fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let (library, page, flows) = (file(library), file(script("page.html")), file(script("mqttjs_flows.mjs")));
    let orders = Mutex::new(orders);
    loopback::serve(move |Request { method, path, body }| -> Answer {
        match (method.as_str(), path.as_str()) {
            ("GET", "/") => (200, "text/html", page.clone()),
            ("GET", "/mqtt.min.js") => (200, JAVASCRIPT, library.clone()),
            ("GET", "/mqttjs_flows.mjs") => (200, JAVASCRIPT, flows.clone()),
            ("GET", "/next") => match orders.lock().unwrap().recv() {
                Ok(order) => (200, "application/json", order.into_bytes()),
                Err(_) => (410, TEXT, vec![]),
            },
            ("POST", "/done") => {
                outcomes.send(String::from_utf8_lossy(&body).into_owned()).ok();
                (200, TEXT, vec![])
            }
            _ => (404, TEXT, vec![]),
        }
    })
}

#[test]
fn a_page_exchanges_every_qos_keeps_retained_leaves_wills_and_shares() {
    let (browser, server) = (Browser::start(), TestServer::start());
    let door = Door::open(server.device);
    for flow in ["basic", "retained", "will", "shared"] {
        browser.flow(flow, &door);
    }
    browser.flow("will-delay", &door.versions(&[5]));
}

#[test]
fn a_page_finds_its_session_after_kill9() {
    let folder = tempfile::tempdir().unwrap();
    let (browser, mut server) = (Browser::start(), TestServer::start_in(folder.path()));
    browser.flow("session-begin", &Door::open(server.device));
    server.kill9();
    let server = TestServer::start_in(folder.path());
    browser.flow("session-resume", &Door::open(server.device));
}

#[test]
fn a_page_is_known_by_its_certificate() {
    Secured::start().tried_by(|flow, door| Browser::with_keys(door).flow(flow, door));
}

#[test]
fn a_page_keeps_its_address_behind_nginx() {
    let (browser, behind) = (Browser::start(), Behind::start());
    browser.flow("basic", &behind.door());
    behind.all_came_from("127.0.0.1");
    // An answer is remembered by user name and password, so these are new.
    let password = Some("another password".to_owned());
    browser.flow("basic", &Door { port: behind.nginx.web.port(), password, ..behind.door() });
    behind.all_came_from(WEB_FRONT);
}
