//! A server that stands still, and one whose log nobody reads: neither costs a connection.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod support;

use serde_json::json;
use std::io::Read;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};
use support::{PATIENCE, Start, TestDevice, TestServer, until};

/// Devices of the test that stops the server.
const DEVICES: usize = 300;
/// The shortest heartbeat that the protocol allows, seconds.
const HEARTBEAT_S: u16 = 5;
/// Longer than the idle limit of that heartbeat: 3 x 5 + 20 s (004-11).
const STOP: Duration = Duration::from_secs(37);

#[test]
fn a_server_that_stood_still_longer_than_the_idle_limit_keeps_its_devices() {
    let server = Start::default().arg("--set=heartbeat.min=5").start();
    let mut devices: Vec<TestDevice> = (0..DEVICES)
        .map(|number| {
            let mut device = server.device(&format!("d{number}"));
            device.credentials().heartbeat_s = HEARTBEAT_S;
            device.connect();
            device
        })
        .collect();
    server.stand_still();
    let (stopped, mut beats) = (Instant::now(), 0_u32);
    let over = until(STOP + PATIENCE, || {
        if stopped.elapsed() >= u32::from(HEARTBEAT_S) * Duration::from_secs(1) * beats {
            devices.iter_mut().for_each(TestDevice::ping);
            beats += 1;
        }
        stopped.elapsed() >= STOP
    });
    assert!(over && beats > 7, "the devices went on sending");
    server.go_on();
    server.api.push_text(json!("all"), "still there").message_id();
    for device in &mut devices {
        // On the same connection: a device that was closed would meet its end instead.
        device.expect_text("still there");
    }
    assert_eq!(server.metric("longwire_connections_closed_total", &[]), 0.0);
    assert_eq!(server.metric("longwire_sessions", &[]), DEVICES as f64);
}

/// Reads a pipe to its end in a thread of its own, line by line.
fn lines_of(mut pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = sync_channel(100_000);
    std::thread::spawn(move || {
        let (mut held, mut chunk) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = pipe.read(&mut chunk) {
            held.extend_from_slice(&chunk[..count]);
            while let Some(end) = held.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = held.drain(..=end).collect();
                sender.send(String::from_utf8(line).unwrap()).ok();
            }
        }
    });
    lines
}

fn dropped(server: &TestServer) -> f64 {
    server.metric("longwire_log_lines_dropped_total", &[])
}

#[test]
fn a_log_that_nobody_reads_costs_lines_and_nothing_else() {
    let start = Start::default().stderr_pipe().arg("--set=log.level=debug").arg("--set=log.buffer_lines=64");
    let mut server = start.arg("--set=log.format=json").start();
    let mut device = server.device("d1");
    device.connect();
    let to = || json!({ "registration_id": ["d1"] });
    // Each push is at least one line of the log; the pipe holds 64 KiB.
    let mut pushes = 0;
    let overflowed = until(PATIENCE, || {
        for _ in 0..50 {
            server.api.push_text_ttl(to(), "provokes a line", 0);
            device.expect_text("provokes a line");
            pushes += 1;
        }
        dropped(&server) >= 100.0
    });
    assert!(overflowed, "no line was dropped after {pushes} pushes");
    assert!(server.lives());
    for number in 0..20 {
        server.api.push_text(to(), &format!("stored {number}")).message_id();
        device.expect_text(&format!("stored {number}"));
        device.expect_nothing(); // a heartbeat there and back
    }
    let lost = dropped(&server);
    let lines = lines_of(server.stderr_pipe());
    let summary = |line: &String| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        (line["target"] == "longwire_log").then(|| line["lines"].as_f64().unwrap())
    };
    let next = |what: &str| lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no {what} in the log"));
    let mut told = 0.0;
    while told < lost {
        told += summary(&next("summary")).unwrap_or(0.0);
    }
    assert_eq!(told, dropped(&server), "each dropped line is told of once");
    let after = server.api.push_text_ttl(to(), "read again", 0).message_id();
    while !next("line of the last push").contains(&after) {}
}
