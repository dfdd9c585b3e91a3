//! Peers that do not keep to the protocol: their connection ends with a named reason, and nobody else notices.

use crate::CLOSED;
use crate::support::{Dice, PATIENCE, RawDevice, TestServer, connect_bytes, until};
use longwire_proto::id::MessageId;
use longwire_proto::wire::AckKind;
use longwire_proto::wire::encode_acks;
use serde_json::json;
use std::net::Shutdown;

const INPUTS: u64 = 1000;

/// Sends bytes and the end of the stream; the server must close.
fn send_and_end(mut device: RawDevice, bytes: &[u8]) {
    device.send(bytes);
    device.stream.shutdown(Shutdown::Write).ok();
    assert!(device.closes(), "the connection stays open after {bytes:02x?}");
}

fn reason(name: &str) -> String {
    format!("reason=\"{name}\"")
}

/// The server still serves, has counted all these ends under names, and none of them as its own fault.
fn still_well(server: &mut TestServer, ends: u64) {
    let counted = until(PATIENCE, || server.metric(CLOSED, &[]) as u64 >= ends);
    assert!(counted, "{} ends of {ends} have a reason", server.metric(CLOSED, &[]));
    assert_eq!(server.metric(CLOSED, &[&reason("internal")]) as u64, 0);
    assert!(server.lives());
    let mut device = server.device("bystander");
    device.connect();
    server.api.push_text(json!({ "registration_id": ["bystander"] }), "still here").message_id();
    device.expect_text("still here");
}

#[test]
fn a_thousand_random_inputs_end_with_a_named_reason() {
    let mut server = TestServer::start();
    let mut dice = Dice::new("random");
    for _ in 0..INPUTS {
        let length = dice.within(1..300) as usize;
        let mut bytes = dice.bytes(length);
        // Every fourth begins like a frame, to come past the first check.
        if dice.one_in(4) {
            let start = [0xCA, 0xFE, 0xBA, 0xBE];
            bytes.splice(..start.len().min(length), start);
        }
        send_and_end(RawDevice::connect(server.device), &bytes);
    }
    still_well(&mut server, INPUTS);
    assert!(server.metric(CLOSED, &[&reason("bad_magic")]) > 0.0);
    assert!(server.metric(CLOSED, &[&reason("bad_command")]) > 0.0);
}

#[test]
fn a_thousand_truncated_inputs_end_with_a_named_reason() {
    let mut server = TestServer::start();
    let mut dice = Dice::new("truncated");
    let registered = server.register("d", None, &[]);
    let connect = connect_bytes(&server.app_key, &registered, 60);
    for _ in 0..INPUTS - 50 {
        let length = dice.within(0..connect.len() as u64) as usize;
        send_and_end(RawDevice::connect(server.device), &connect[..length]);
    }
    for _ in 0..50 {
        let device = RawDevice::login(server.device, &server.app_key, &registered);
        let mut acks = Vec::new();
        encode_acks(AckKind::Received, &[MessageId(7); 9], device.client, &mut acks);
        let length = dice.within(1..acks.len() as u64) as usize;
        send_and_end(device, &acks[..length]);
    }
    still_well(&mut server, INPUTS);
}

#[test]
fn a_thousand_logins_with_one_byte_changed_do_no_harm() {
    let mut server = TestServer::start();
    let mut dice = Dice::new("changed");
    let registered = server.register("d", None, &[]);
    let connect = connect_bytes(&server.app_key, &registered, 60);
    for _ in 0..INPUTS {
        let mut bytes = connect.clone();
        let at = dice.within(0..bytes.len() as u64) as usize;
        bytes[at] ^= 1 << dice.within(0..8);
        send_and_end(RawDevice::connect(server.device), &bytes);
    }
    still_well(&mut server, INPUTS);
    assert!(server.metric(CLOSED, &[&reason("bad_token")]) > 0.0);
}

#[test]
fn a_length_is_judged_before_the_body_is_awaited() {
    let server = TestServer::start();
    for (login, wanted) in [(false, "frame_too_long"), (true, "frame_too_long")] {
        let before = server.metric(CLOSED, &[&reason(wanted)]);
        let mut device = if login { server.raw_device("d") } else { RawDevice::connect(server.device) };
        let header = [0xCA, 0xFE, 0xBA, 0xBE, 0x10, 0xFF, 0xFF, 0xFF];
        device.send(&[header, device.client.0.to_be_bytes()].concat());
        assert!(device.closes());
        assert!(until(PATIENCE, || server.metric(CLOSED, &[&reason(wanted)]) > before), "{wanted}");
    }
}

#[test]
fn nothing_but_a_login_is_taken_before_login() {
    let server = TestServer::start();
    let mut device = RawDevice::connect(server.device);
    device.send(&[0xCA, 0xFE, 0xBA, 0xBE, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(device.closes());
    assert!(until(PATIENCE, || server.metric(CLOSED, &[&reason("out_of_order")]) > 0.0));
}

#[test]
fn a_frame_in_another_devices_name_ends_the_connection() {
    let server = TestServer::start();
    let mut device = server.raw_device("d");
    let other = device.client.0 + 1;
    device.send(&[[0xCA, 0xFE, 0xBA, 0xBE, 0x01, 0, 0, 0], other.to_be_bytes()].concat());
    assert!(device.closes());
    assert!(until(PATIENCE, || server.metric(CLOSED, &[&reason("wrong_client_id")]) > 0.0));
}

#[test]
fn a_refused_login_says_why() {
    let server = TestServer::start();
    let mut device = server.device("d");
    device.credentials().token.push('x');
    device.try_connect().unwrap();
    assert_eq!(device.expect_end().map(|reason| reason.label()), Some("bad_token"));
    let mut device = server.device("d");
    device.credentials().app_key = "nobody".to_owned();
    device.try_connect().unwrap();
    assert_eq!(device.expect_end().map(|reason| reason.label()), Some("unknown_app"));
}

#[test]
fn a_token_is_good_for_its_own_device_only() {
    let server = TestServer::start();
    let mut thief = server.device("thief");
    let stolen = server.device("victim").credentials().client;
    thief.credentials().client = stolen;
    thief.try_connect().unwrap();
    assert_eq!(thief.expect_end().map(|reason| reason.label()), Some("bad_token"));
}
