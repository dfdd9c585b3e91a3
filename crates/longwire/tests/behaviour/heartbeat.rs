//! The articles' heartbeat, byte by byte (004-10, 004-13, 004-32).

use crate::support::{Dice, RawDevice, Start, TestServer};
use std::io::Read;

const PING: [u8; 8] = [0xCA, 0xFE, 0xBA, 0xBE, 0x01, 0, 0, 0];
const PONG: [u8; 8] = [0xCA, 0xFE, 0xBA, 0xBE, 0x02, 0, 0, 0];

fn expect_pong(device: &mut RawDevice) {
    let mut answer = [0; 16];
    device.stream.read_exact(&mut answer).expect("16 bytes");
    assert_eq!(answer[..8], PONG);
    assert_eq!(answer[8..], device.client.0.to_be_bytes());
}

#[test]
fn sixteen_bytes_are_answered_by_sixteen_bytes() {
    let server = TestServer::start();
    let mut device = server.raw_device("d");
    let ping = [PING, device.client.0.to_be_bytes()].concat();
    // Twice: were the first answer longer than 16 bytes, the second would begin in the wrong place.
    for _ in 0..2 {
        device.send(&ping);
        expect_pong(&mut device);
    }
}

#[test]
fn a_padded_heartbeat_is_a_heartbeat() {
    let server = Start::default().arg("--set").arg("limits.ping_s=0").start();
    let mut device = server.raw_device("d");
    let mut dice = Dice::new("padded");
    for length in 48..=112_usize {
        let mut ping = PING;
        ping[7] = length as u8;
        device.send(&[&ping[..], &device.client.0.to_be_bytes(), &dice.bytes(length)].concat());
        expect_pong(&mut device);
    }
}

#[test]
fn the_cut_of_the_bytes_does_not_matter() {
    let server = Start::default().arg("--set").arg("limits.ping_s=0").start();
    let mut device = server.raw_device("d");
    let mut dice = Dice::new("cuts");
    let mut padded = PING;
    padded[7] = 48;
    let id = device.client.0.to_be_bytes();
    let bytes = [&PING[..], &id, &padded, &id, &dice.bytes(48), &PING, &id].concat();
    for _ in 0..20 {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let length = dice.within(1..8).min(rest.len() as u64) as usize;
            device.send(&rest[..length]);
            rest = &rest[length..];
        }
        (0..3).for_each(|_| expect_pong(&mut device));
    }
}
