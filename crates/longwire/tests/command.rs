//! The command: configuration, start, stop, and what it says when something is wrong.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use support::{Start, TestServer, until};

fn longwire(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_longwire")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A server that is ended with the test, whatever becomes of the test.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(folder: &Path, stderr: Stdio, more: &[&str]) -> Served {
    let child = Command::new(env!("CARGO_BIN_EXE_longwire"))
        .args(["serve", "--device-bind", "127.0.0.1:0", "--api-bind", "127.0.0.1:0", "--data-dir"])
        .arg(folder)
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn();
    Served(child.unwrap())
}

#[test]
fn the_printed_file_is_the_default_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("longwire.toml");
    std::fs::write(&file, out(&longwire(&["gen-config"]))).unwrap();
    let checked = longwire(&["check-config", "--config", file.to_str().unwrap()]);
    assert!(checked.status.success(), "{}", err(&checked));
    let values = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split("  #").next().unwrap_or("").to_owned()).collect()
    };
    assert_eq!(values(&out(&checked)), values(&out(&longwire(&["check-config"]))));
    assert_eq!(out(&longwire(&["config-doc"])), include_str!("../../../docs/configuration.md"));
    let version = out(&longwire(&["version"]));
    assert!(version.starts_with(concat!("longwire ", env!("CARGO_PKG_VERSION"))), "{version}");
    assert_eq!(out(&longwire(&["--version"])), version);
}

#[test]
fn the_effective_configuration_names_the_place_of_each_value() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("longwire.toml");
    std::fs::write(&file, "[limits]\nack_s = 11\nlogin_s = 12\n[sql]\nurl = \"sqlite:/s3cret\"\n").unwrap();
    let checked = Command::new(env!("CARGO_BIN_EXE_longwire"))
        .args(["check-config", "--api-bind", "127.0.0.1:9", "--config", file.to_str().unwrap()])
        .env("LONGWIRE_LIMITS__LOGIN_S", "22")
        .output()
        .unwrap();
    let text = out(&checked);
    assert!(text.contains(&format!("ack_s = 11  # {}:2", file.display())), "{text}");
    assert!(text.contains("login_s = 22  # environment LONGWIRE_LIMITS__LOGIN_S"), "{text}");
    assert!(text.contains("bind = \"127.0.0.1:9\"  # --api-bind"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
}

#[test]
fn a_wrong_configuration_is_named_with_file_and_line_and_nothing_starts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("longwire.toml");
    let data = folder.path().join("data");
    for (text, expected) in [
        ("[limits]\nak_s = 3\n", ":2: unknown key limits.ak_s; did you mean limits.ack_s?"),
        ("[limits]\nack_s = \"3\"\n", ":2: limits.ack_s: must be a whole number"),
        ("[limits]\nack_s = 0\n", ":2: limits.ack_s: must be a whole number"),
        ("limits = [\n", ":1: "),
        ("[api]\nbind = \"0.0.0.0:8080\"\n", ":2: api.bind: 0.0.0.0:8080 can be reached by others"),
        ("[listener.device]\nbind = \"[::]:7800\"\n", "insecure_plaintext = true"),
    ] {
        std::fs::write(&file, text).unwrap();
        for verb in ["serve", "check-config"] {
            let output =
                longwire(&[verb, "--config", file.to_str().unwrap(), "--data-dir", data.to_str().unwrap()]);
            assert_eq!(output.status.code(), Some(2), "{verb} {text}: {}", err(&output));
            assert!(err(&output).contains(expected), "{expected} in {}", err(&output));
            assert!(err(&output).contains(file.to_str().unwrap()), "{}", err(&output));
        }
    }
    assert!(!data.exists());
    for arguments in [
        &["check-config", "--config", "/nowhere/at/all.toml"][..],
        &["check-config", "--set", "limits.nothing=1"],
        &["check-config", "--set", "nonsense"],
        &["serve", "--dev", "--api-bind", "0.0.0.0:0", "--set", "api.insecure_plaintext=true"],
        &["serve", "--app-key", "k"],
        &["push", "--app-key", "k", "--app-secret", "s", "--all"],
        &["nothing"],
    ] {
        assert_eq!(longwire(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_port_in_use_is_one_clear_message() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--api-bind", "--device-bind"] {
        let output = longwire(&["serve", "--dev", flag, &address]);
        assert_eq!(output.status.code(), Some(1));
        let message = err(&output);
        assert!(message.contains(&address) && message.contains("stop what holds it"), "{message}");
    }
}

#[test]
fn the_app_of_a_first_start_is_shown_once_and_its_secret_kept_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = serve(folder.path(), Stdio::piped(), &[]);
    let mut lines = BufReader::new(server.0.stderr.take().unwrap()).lines().map_while(Result::ok);
    let after = |line: String, word: &str| line.split_once(word).map(|(_, rest)| rest.trim().to_owned());
    let key = lines.find_map(|line| after(line, "app key ")).unwrap();
    let secret = lines.find_map(|line| after(line, "app secret ")).unwrap();
    assert_eq!((key.as_str(), secret.len()), ("default", 64));
    let url = lines.find_map(|line| after(line, "http://")).unwrap();
    let api = support::Api::new(url.split('/').next().unwrap().parse().unwrap(), &key, &secret);
    assert_eq!(api.post("/v1/devices", &json!({"registration_id": "me"})).status, 201);
    terminate(&mut server.0);
    let again = tempfile::NamedTempFile::new().unwrap();
    let mut server = serve(folder.path(), again.reopen().unwrap().into(), &[]);
    let log = || std::fs::read_to_string(again.path()).unwrap();
    assert!(until(support::PATIENCE, || log().contains("ready")), "{}", log());
    terminate(&mut server.0);
    assert!(!log().contains("secret"), "{}", log());
    for entry in walk(folder.path()) {
        let bytes = std::fs::read(&entry).unwrap();
        assert!(
            !bytes.windows(secret.len()).any(|window| window == secret.as_bytes()),
            "{}",
            entry.display()
        );
    }
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}

fn terminate(child: &mut Child) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let mut status = None;
    assert!(until(support::PATIENCE, || {
        status = child.try_wait().unwrap();
        status.is_some()
    }));
    assert_eq!(status.unwrap().code(), Some(0));
}

#[test]
fn an_app_named_by_flags_keeps_its_secret() {
    let folder = tempfile::tempdir().unwrap();
    let named = |secret: &str| {
        Start::default().folder(folder.path()).arg("--app-key").arg("mine").arg("--app-secret").arg(secret)
    };
    let mut server = named("00ff").start();
    assert_eq!((server.app_key.as_str(), server.app_secret.as_str()), ("mine", "00ff"));
    server.register("d", None, &[]);
    assert!(server.terminate().success());
    let server = named("00ff").start();
    assert_eq!(server.api.get("/v1/devices/d").status, 200);
    drop(server);
    let (status, text) = named("ff00").must_fail();
    assert_eq!(status.code(), Some(1));
    assert!(text.contains("app mine exists and has another secret"), "{text}");
}

#[test]
fn a_fresh_folder_is_gone_after_the_end() {
    let home = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_longwire"))
        .args(["serve", "--dev"])
        .env("TMPDIR", home.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["ready"], true);
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
    terminate(&mut child);
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn a_log_that_nobody_reads_holds_up_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let more = [
        "--log-level",
        "trace",
        "--set",
        "log.buffer_lines=16",
        "--app-key",
        "k",
        "--app-secret",
        "0f",
        "--dev",
    ];
    let text = address.to_string();
    let more: Vec<&str> = more.into_iter().chain(["--set"]).collect();
    let bind = format!("api.bind={text}");
    let more: Vec<&str> = more.into_iter().chain([bind.as_str()]).collect();
    // The pipe's reading end is held and never read.
    let mut server = serve(folder.path(), Stdio::piped(), &more);
    let api = support::Api::new(address, "k", "0f");
    let answers = |path: &str| api.request("GET", path, None).map(|answer| answer.status);
    assert!(until(support::PATIENCE, || answers("/readyz").is_ok_and(|status| status == 200)));
    let dropped = || {
        let text = api.get("/metrics").text;
        let line = text.lines().find_map(|line| line.strip_prefix("longwire_log_lines_dropped_total "));
        line.unwrap().parse::<u64>().unwrap()
    };
    // Each push is a line of debug: until the pipe is full and the queue behind it too.
    let push = json!({"audience": "all", "message": {"msg_content": "x"}, "options": {"time_to_live": 0}});
    assert!(until(3 * support::PATIENCE, || {
        for _ in 0..100 {
            assert_eq!(api.post("/v1/push", &push).status, 202);
        }
        dropped() > 0
    }));
    terminate(&mut server.0);
}

#[test]
fn clients_without_credentials_are_refused_on_an_open_listener() {
    let output = longwire(&[
        "serve",
        "--device-bind",
        "0.0.0.0:0",
        "--set",
        "listener.device.insecure_plaintext=true",
        "--set",
        "auth.anonymous=true",
    ]);
    assert!(!output.status.success());
    let said = err(&output);
    assert!(said.contains("auth.anonymous") && said.contains("listener.device.bind"), "{said}");
}

/// A verb of a client of this server.
fn client(server: &TestServer, verb: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longwire"));
    command.arg(verb).args(more);
    command.env("LONGWIRE_API", server.api_address.to_string()).env("LONGWIRE_APP_KEY", &server.app_key);
    command.env("LONGWIRE_APP_SECRET", &server.app_secret).stdin(Stdio::null());
    command
}

#[test]
fn what_is_published_reaches_a_listener_of_its_topic() {
    let server = TestServer::start();
    let corner = ["--topic", "device/d/#", "--kept", "--registration-id", "d"];
    let mut listener = client(&server, "listen", &[&corner[..], &["--count", "3"]].concat());
    let mut listener = Served(listener.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut told = BufReader::new(listener.0.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(told.any(|line| line == "subscribed to device/d/#"));
    let publish = |more: &[&str]| {
        let published = client(&server, "publish", more).output().unwrap();
        (published.status.code(), err(&published), out(&published))
    };
    let (code, said, answer) = publish(&["--topic", "device/d/1", "--message", "kept"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(serde_json::from_str::<Value>(&answer).unwrap()["stored_for"], 1);
    let (code, said, _) = publish(&["--topic", "device/d/2", "--message", "now", "--qos", "0"]);
    assert_eq!(code, Some(0), "{said}");
    let device = ["--registration-id", "e", "--topic"];
    let (code, said, _) = publish(&[&device[..], &["device/d/3", "--message", "x"]].concat());
    assert!(code == Some(1) && said.contains("NotAllowed"), "not its own corner: {said}");
    let (code, said, _) = publish(&[&device[..], &["device/e/3", "--retain", "--message", "x"]].concat());
    assert_eq!(code, Some(0), "{said}");
    let (code, said, _) = publish(&[&device[..], &["a/+", "--message", "x"]].concat());
    assert!(code == Some(1) && said.contains("wildcards"), "{said}");
    publish(&["--topic", "device/d/4", "--message", "the last"]);
    let mut text = String::new();
    listener.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(listener.0.wait().unwrap().success());
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let contents: Vec<&Value> = lines.iter().map(|line| &line["content"]).collect();
    let of = |number: u8, text: &str| json!({"topic": format!("device/d/{number}"), "text": text});
    assert_eq!(contents, [&of(1, "kept"), &of(2, "now"), &of(4, "the last")]);
    assert_eq!((&lines[0]["source"], &lines[1]["source"]), (&json!("mailbox"), &Value::Null));
    assert!(lines[0]["msg_id"].is_string() && lines[1]["msg_id"].is_null());
    let refused =
        client(&server, "listen", &["--registration-id", "d", "--topic", "other"]).output().unwrap();
    assert!(refused.status.code() == Some(1) && err(&refused).contains("NotAllowed"), "{}", err(&refused));
    let wrong = client(&server, "listen", &["--registration-id", "d", "--topic", "a/#/b"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2), "{}", err(&wrong));
}

#[test]
fn a_file_of_pushes_is_answered_line_by_line_and_a_key_makes_one_message() {
    let server = TestServer::start();
    server.register("d1", None, &[]);
    let push = |more: &[&str]| client(&server, "push", more).output().unwrap();
    let keyed = ["--to", "d1", "--message", "m", "--priority", "high", "--cid", "k"];
    let lines = [push(&keyed), push(&keyed)].map(|made| serde_json::from_str::<Value>(&out(&made)).unwrap());
    assert_eq!(lines[0]["msg_id"], lines[1]["msg_id"]);
    assert_eq!((&lines[0]["replayed"], &lines[1]["replayed"]), (&json!(false), &json!(true)));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pushes");
    let one =
        |to: &str| json!({ "audience": { "registration_id": [to] }, "message": { "msg_content": "x" } });
    // More than one request takes, with an empty line between.
    let many: String = (0..1001).map(|_| format!("{}\n\n", one("d1"))).collect();
    std::fs::write(&file, many).unwrap();
    let pushed = push(&["--batch", file.to_str().unwrap()]);
    let codes: Vec<Value> = out(&pushed).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let accepted = codes.iter().filter(|line| line["status"] == 202).count();
    // One of the mailbox's thousand places is taken already.
    assert_eq!((codes.len(), accepted), (1001, 999));
    assert!(
        !pushed.status.success() && err(&pushed).contains("2 of 1001 pushes were refused"),
        "{}",
        err(&pushed)
    );
    std::fs::write(&file, format!("{}\nno json\n", one("d1"))).unwrap();
    let wrong = push(&["--batch", file.to_str().unwrap()]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(err(&wrong).contains("line 2") && out(&wrong).is_empty(), "{}", err(&wrong));
    assert_eq!(push(&["--batch", file.to_str().unwrap(), "--cid", "k"]).status.code(), Some(2));
    assert_eq!(push(&["--batch", "/nowhere/at/all"]).status.code(), Some(2));
}

#[test]
fn the_verbs_of_a_device_and_of_a_business_meet() {
    let server = TestServer::start();
    let with = |verb: &str, more: &[&str]| client(&server, verb, more);
    let registered = with("register", &["--registration-id", "d", "--tag", "t"]).output().unwrap();
    assert!(registered.status.success(), "{}", err(&registered));
    assert_eq!(serde_json::from_str::<Value>(&out(&registered)).unwrap()["registration_id"], "d");
    let mut listener = with("listen", &["--registration-id", "d", "--tag", "t", "--count", "3"]);
    let mut listener = Served(listener.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    assert!(until(support::PATIENCE, || server.api.get("/v1/devices/d").json["online"] == true));
    for (more, content) in [
        (&["--to", "d", "--title", "T"][..], json!({"title": "T"})),
        (&["--tag", "t", "--message", "hello"], json!("hello")),
        (&["--all", "--message", "AAH/", "--content-type", "binary"], json!({"hex": "0001ff"})),
    ] {
        let pushed = with("push", more).output().unwrap();
        assert!(pushed.status.success(), "{content}: {}", err(&pushed));
        assert_eq!(serde_json::from_str::<Value>(&out(&pushed)).unwrap()["durability"], "local");
    }
    let mut text = String::new();
    listener.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(listener.0.wait().unwrap().success());
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let contents: Vec<&Value> = lines.iter().map(|line| &line["content"]).collect();
    assert_eq!(contents, [&json!({"title": "T"}), &json!("hello"), &json!({"hex": "0001ff"})]);
    let nobody = with("push", &["--to", "gone", "--title", "T"]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(1));
    assert!(err(&nobody).contains("nobody_matches"), "{}", err(&nobody));
}
