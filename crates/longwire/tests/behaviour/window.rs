//! At most 32 unacked messages per connection; the rest waits in the store and comes in order.

use crate::support::{Seen, TestServer};
use longwire_proto::limit::WINDOW_MESSAGES_MAX;
use serde_json::{Value, json};

fn a_slow_device_gets_all(audience: &Value) {
    const MESSAGES: usize = 200;
    let server = TestServer::start();
    let mut device = server.device("d1").silent();
    device.connect();
    let push = |number: usize| server.api.push_text(audience.clone(), &number.to_string()).message_id();
    // Some live into the window, the rest beyond it.
    let ids: Vec<String> = (0..MESSAGES).map(push).collect();
    let mut number = 0;
    while number < MESSAGES {
        let mut unacked = Vec::new();
        while unacked.len() < WINDOW_MESSAGES_MAX && number < MESSAGES {
            let seen = device.expect_text(&number.to_string());
            assert!(matches!(seen, Seen::Push { repeated: false, hole: false, .. }), "{seen:?}");
            unacked.push(seen.message().unwrap());
            number += 1;
        }
        device.expect_nothing();
        device.ack(&unacked);
    }
    device.expect_nothing();
    for id in ids {
        server.await_count(&id, "delivered", 1);
    }
}

#[test]
fn addressed_messages_beyond_the_window_come_in_order_and_once() {
    a_slow_device_gets_all(&json!({ "registration_id": ["d1"] }));
}

#[test]
fn broadcasts_beyond_the_window_come_in_order_and_once() {
    a_slow_device_gets_all(&json!("all"));
}

#[test]
fn a_device_that_never_acks_holds_up_nobody_else() {
    let server = TestServer::start();
    let mut stuck = server.device("stuck").silent();
    let mut quick = server.device("quick");
    stuck.connect();
    quick.connect();
    for number in 0..100 {
        server.api.push_text(json!("all"), &number.to_string()).message_id();
        quick.expect_text(&number.to_string());
    }
    for number in 0..WINDOW_MESSAGES_MAX {
        stuck.expect_text(&number.to_string());
    }
    stuck.expect_nothing();
    assert_eq!(quick.next(std::time::Duration::ZERO), None);
}

#[test]
fn a_full_mailbox_refuses_and_loses_nothing() {
    let server = TestServer::start();
    let mut device = server.device("d1");
    let whom = json!({ "registration_id": ["d1"] });
    let mut accepted = 0;
    let refused = loop {
        let answer = server.api.push_text(whom.clone(), &accepted.to_string());
        if answer.status != 202 {
            break answer;
        }
        accepted += 1;
        assert!(accepted <= 1000, "a mailbox without a bound");
    };
    assert_eq!((refused.status, refused.code()), (429, "device_queue_full"), "{}", refused.text);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(accepted, 1000);
    device.connect();
    for number in 0..accepted {
        device.expect_text(&number.to_string());
    }
    device.expect_nothing();
}
