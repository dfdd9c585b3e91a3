//! The shortest way through: a device is registered, connects, gets a push, acks it.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::json;
use support::TestServer;

#[test]
fn a_push_reaches_a_device_and_its_ack_is_counted() {
    let server = TestServer::start();
    let mut device = server.device("d1");
    device.connect();
    let message = server.api.push_text(json!({ "registration_id": ["d1"] }), "hello").message_id();
    device.expect_text("hello");
    let story = server.await_count(&message, "delivered", 1);
    assert_eq!(story["counts"]["pending"].as_u64(), Some(0), "{story}");
}
