//! mosquitto_pub and mosquitto_sub.

use super::kit::{Door, Running, VERSIONS, ends_well, outcome, program, there};
use super::stage::{Behind, Lasting, Secured};
use super::support::{PATIENCE, TestServer, until};
use std::collections::VecDeque;
use std::process::Command;

/// Shows topic, QoS, retain flag and payload.
const FORMAT: &str = "got %t %q %r %p";
const KEPT: [&str; 5] = ["-c", "-x", "600", "-i", "kept"];

/// One of the programs at a door, in the door's first version.
fn client(name: &str, door: &Door, topic: &str, qos: u8) -> Command {
    there(name);
    // Its debug lines are waited for, so they must not stay in a buffer.
    let mut command = program("stdbuf");
    command.args(["-oL", name, "-h", &door.host, "-p", &door.port.to_string()]);
    command.args(["-V", if door.versions[0] == 5 { "mqttv5" } else { "mqttv311" }]);
    command.args(["-t", topic, "-q", &qos.to_string()]);
    let words = [("-u", &door.user), ("-P", &door.password), ("-i", &door.device), ("-A", &door.from)];
    for (flag, word) in words {
        command.args(word.iter().flat_map(|word| [flag, word]));
    }
    let files = [("--cafile", &door.ca), ("--cert", &door.certificate), ("--key", &door.key)];
    for (flag, file) in files {
        command.args(file.iter().flat_map(|file| [flag.as_ref(), file.as_os_str()]));
    }
    command
}

/// A subscriber that prints what it gets among debug lines.
struct Reader {
    running: Running,
    /// What came before it was subscribed: what had waited for the session.
    early: VecDeque<String>,
}

/// A subscriber that is known to be subscribed.
#[track_caller]
fn reader(door: &Door, topic: &str, more: &[&str]) -> Reader {
    let mut command = client("mosquitto_sub", door, topic, 2);
    command.args(["-d", "-F", FORMAT]).args(more);
    let mut reader = Reader { running: Running::start(command), early: VecDeque::new() };
    loop {
        let line = reader.running.line();
        if line.starts_with("Subscribed") {
            return reader;
        }
        reader.early.extend(shown(&line));
    }
}

/// The message on a line, if it holds one.
fn shown(line: &str) -> Option<String> {
    line.strip_prefix("got ").map(str::to_owned)
}

/// The next message.
#[track_caller]
fn message(reader: &mut Reader) -> String {
    let early = reader.early.pop_front();
    early.unwrap_or_else(|| {
        loop {
            if let Some(message) = shown(&reader.running.line()) {
                return message;
            }
        }
    })
}

#[track_caller]
fn publish(door: &Door, topic: &str, qos: u8, words: &[&str]) {
    let mut writer = client("mosquitto_pub", door, topic, qos);
    writer.args(words);
    ends_well(writer);
}

/// In both versions, at one server.
fn in_both(door: &Door, act: impl Fn(&Door, &str)) {
    for version in VERSIONS {
        act(&door.clone().versions(&[version]), &format!("mosquitto/{version}"));
    }
}

fn exchange(door: &Door, topic: &str) {
    let mut reader = reader(door, topic, &[]);
    for qos in 0..3 {
        publish(door, topic, qos, &["-m", &format!("message {qos}")]);
        assert_eq!(message(&mut reader), format!("{topic} {qos} 0 message {qos}"));
    }
}

#[test]
fn exchanges_every_qos() {
    in_both(&Door::open(TestServer::start().device), exchange);
}

#[test]
fn keeps_and_clears_retained_messages() {
    let server = TestServer::start();
    in_both(&Door::open(server.device), |door, topic| {
        let (a, b, all) = (format!("{topic}/a"), format!("{topic}/b"), format!("{topic}/#"));
        publish(door, &a, 1, &["-r", "-m", "of a"]);
        publish(door, &b, 2, &["-r", "-m", "of b"]);
        let mut early = reader(door, &all, &[]);
        let mut both = [message(&mut early), message(&mut early)];
        both.sort();
        assert_eq!(both, [format!("{a} 1 1 of a"), format!("{b} 2 1 of b")]);
        publish(door, &a, 1, &["-r", "-n"]);
        assert_eq!(message(&mut early), format!("{a} 1 0 "));
        let mut late = reader(door, &all, &[]);
        publish(door, &a, 1, &["-m", "not kept"]);
        assert_eq!(
            [message(&mut late), message(&mut late)],
            [format!("{b} 2 1 of b"), format!("{a} 1 0 not kept")]
        );
        publish(door, &b, 1, &["-r", "-n"]);
    });
}

/// A reader that is dropped is killed. Its will is sent, that of a client that says goodbye is not.
#[test]
fn leaves_wills() {
    let server = TestServer::start();
    in_both(&Door::open(server.device), |door, topic| {
        let with_will = |payload| ["--will-topic", topic, "--will-qos", "1", "--will-payload", payload];
        let mut watcher = reader(door, topic, &[]);
        // It subscribes and leaves.
        let mut polite = client("mosquitto_sub", door, "other", 1);
        polite.arg("-E").args(with_will("polite"));
        ends_well(polite);
        drop(reader(door, "other", &with_will("lost")));
        assert_eq!(message(&mut watcher), format!("{topic} 1 0 lost"));
        publish(door, topic, 1, &["-m", "end"]);
        assert_eq!(message(&mut watcher), format!("{topic} 1 0 end"));
    });
}

/// One whose client comes back in time is not sent; the next one is, a second after its client was lost.
#[test]
fn leaves_wills_that_wait() {
    let server = TestServer::start();
    let (door, topic) = (Door::open(server.device).versions(&[5]), "mosquitto/delay");
    let mut watcher = reader(&door, topic, &[]);
    let lost = |payload, delay| {
        let will = ["--will-topic", topic, "--will-qos", "1", "--will-payload", payload];
        let delay = ["-D", "will", "will-delay-interval", delay];
        reader(&door, "other", &[&KEPT[..], &will, &delay].concat())
    };
    drop(lost("too early", "60"));
    let back = lost("lost", "1");
    publish(&door, topic, 1, &["-m", "back"]);
    assert_eq!(message(&mut watcher), format!("{topic} 1 0 back"));
    drop(back);
    assert_eq!(message(&mut watcher), format!("{topic} 1 0 lost"));
    publish(&door, topic, 1, &["-m", "end"]);
    assert_eq!(message(&mut watcher), format!("{topic} 1 0 end"));
}

#[test]
fn shares_a_subscription() {
    let server = TestServer::start();
    in_both(&Door::open(server.device), |door, topic| {
        let filter = format!("$share/group/{topic}");
        let members = [reader(door, &filter, &[]), reader(door, &filter, &[])];
        // A message per line.
        let mut writer = Command::new("sh");
        writer.args(["-c", "seq 40 | exec \"$@\"", "sh"]);
        let lines = client("mosquitto_pub", door, topic, 1);
        writer.arg(lines.get_program()).args(lines.get_args()).arg("-l");
        ends_well(writer);
        let mut got = [vec![], vec![]];
        let complete = until(PATIENCE, || {
            for (member, its) in members.iter().zip(&mut got) {
                let new = member.running.line_if_any().and_then(|line| shown(&line));
                its.extend(new.and_then(|line| line.rsplit(' ').next()?.parse::<u32>().ok()));
            }
            got[0].len() + got[1].len() == 40
        });
        assert!(complete && got.iter().all(|its| !its.is_empty()), "{got:?}");
        let mut all = got.concat();
        all.sort_unstable();
        assert_eq!(all, Vec::from_iter(1..=40));
    });
}

#[test]
fn finds_its_session_after_kill9() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = TestServer::start_in(folder.path());
    in_both(&Door::open(server.device), |door, topic| {
        let mut subscriber = client("mosquitto_sub", door, &format!("{topic}/+"), 2);
        subscriber.arg("-E").args(kept(door));
        ends_well(subscriber);
        for qos in [1, 2, 1] {
            publish(door, &format!("{topic}/{qos}"), qos, &["-m", &format!("waits {qos}")]);
        }
    });
    server.kill9();
    let server = TestServer::start_in(folder.path());
    in_both(&Door::open(server.device), |door, topic| {
        let mut reader = reader(door, "other", &kept(door));
        let mut got = [message(&mut reader), message(&mut reader), message(&mut reader)];
        got.sort();
        let waited = |qos| format!("{topic}/{qos} {qos} 0 waits {qos}");
        assert_eq!(got, [waited(1), waited(1), waited(2)]);
        publish(door, &format!("{topic}/1"), 1, &["-m", "end"]);
        assert_eq!(message(&mut reader), format!("{topic}/1 1 0 end"));
    });
}

/// Connected when the server dies, and on its own from there.
#[test]
fn comes_back_after_kill9() {
    for version in VERSIONS {
        let mut server = Lasting::start();
        let door = server.door().versions(&[version]);
        let mut reader = reader(&door, "mosquitto/stays", &kept(&door));
        server.dies_and_publishes("mosquitto/stays");
        assert_eq!(message(&mut reader), "mosquitto/stays 1 0 after");
    }
}

/// A session of 3.1.1 has no expiry to name.
fn kept(door: &Door) -> Vec<&'static str> {
    if door.versions[0] == 5 { KEPT.to_vec() } else { vec!["-c", "-i", "kept-4"] }
}

#[test]
fn is_known_by_its_certificate() {
    Secured::start().tried_by(|flow, door| {
        for &version in &door.versions {
            let door = door.clone().versions(&[version]);
            if flow == "refused" {
                let mut stranger = client("mosquitto_pub", &door, "a", 1);
                stranger.args(["-m", "from outside"]);
                let (good, said) = outcome(stranger);
                assert!(!good, "{said}");
                continue;
            }
            let device = door.device.clone().unwrap();
            let own = format!("device/{device}/a");
            let mut reader = reader(&door, &own, &[]);
            assert_eq!(message(&mut reader), format!("$push/text 1 0 for {device}"));
            // One device is one session: the device itself is connected, so somebody else has to publish.
            drop(reader);
            publish(&door, &own, 1, &["-m", "own"]);
        }
    });
}

#[test]
fn keeps_its_address_behind_nginx() {
    let behind = Behind::start();
    let door = Door { from: Some("127.0.0.9".to_owned()), ..behind.door() };
    in_both(&door, |door, topic| {
        let version = door.versions[0];
        let named = |name| Door { device: Some(format!("{name}-{version}")), ..door.clone() };
        let mut reader = reader(&named("reader"), topic, &[]);
        for qos in 0..3 {
            publish(&named("writer"), topic, qos, &["-m", &format!("message {qos}")]);
            assert_eq!(message(&mut reader), format!("{topic} {qos} 0 message {qos}"));
        }
    });
    behind.all_came_from("127.0.0.9");
}
