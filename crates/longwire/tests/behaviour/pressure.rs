//! A node that runs out of memory sheds what is cheapest to retry, keeps what it accepted, and comes back (LIMITS 7.3).

use crate::CLOSED;
use crate::support::{Answer, PATIENCE, RawDevice, Seen, Start, TestServer, until};
use longwire_proto::close::CloseReason;
use serde_json::{Value, json};

/// Devices that never read; each holds up to 64 KiB and one message.
const STUCK: usize = 600;
/// About the largest text that a push takes.
const TEXT_BYTES: usize = 10_000;
/// What the stuck devices hold in outboxes when these are full.
const HELD_BYTES: u64 = (STUCK * 70_000) as u64;
/// Durable pushes that bring the rest, at most.
const DURABLE_MAX: usize = 4_000;

fn memory(server: &TestServer) -> Value {
    server.operator().get("/v1/admin/memory").json
}

/// Full outboxes of the stuck devices bring it above 80 % of its limit.
fn server_short_of_memory() -> TestServer {
    let small = |limit: u64| {
        Start::default()
            .arg("--set")
            .arg(&format!("node.memory_limit={limit}"))
            .arg("--set")
            .arg("listener.device.socket_buffer_bytes=4096")
            .arg("--set")
            .arg("shards.count=1")
            .start()
    };
    let idle = memory(&small(0))["node"]["resident_bytes"].as_u64().unwrap();
    small((idle + HELD_BYTES) / 86 * 100)
}

fn level(server: &TestServer) -> String {
    memory(server)["node"]["level"].as_str().unwrap().to_owned()
}

/// Fills the outboxes with online-only texts, then pushes durable ones, which are not shed before pushes are refused. The refusal.
fn push_until_refused(server: &TestServer, stuck: &[String]) -> Answer {
    let text = "x".repeat(TEXT_BYTES);
    let full = until(PATIENCE, || {
        let answer = server.api.push_text_ttl(json!({ "registration_id": stuck }), &text, 0);
        answer.status == 429 || level(server) != "calm" && level(server) != "busy"
    });
    assert!(full, "the node is not pressed: {}", memory(server));
    for number in 0..DURABLE_MAX {
        let answer = server.api.push_text(json!({ "registration_id": [stuck[number % STUCK]] }), &text);
        if answer.status == 429 {
            return answer;
        }
        assert_eq!(answer.status, 202, "{}", answer.text);
    }
    panic!("pushes are never refused: {}", memory(server));
}

#[test]
fn a_node_short_of_memory_sheds_keeps_what_it_accepted_and_comes_back() {
    let server = server_short_of_memory();
    let mut sleeper = server.device("sleeper");
    let mut healthy = server.device("healthy");
    healthy.connect();
    let mut late = server.device("late");
    let kept = server.api.push_text(json!({ "registration_id": ["sleeper"] }), "kept").message_id();
    let names: Vec<String> = (0..STUCK).map(|number| format!("stuck{number}")).collect();
    let stuck: Vec<RawDevice> = names.iter().map(|name| server.raw_device(name)).collect();

    let refused = push_until_refused(&server, &names);
    assert_eq!((refused.status, refused.code()), (429, "node_overloaded"), "{}", refused.text);
    assert!(refused.header("retry-after").is_some_and(|wait| wait.parse::<u32>().is_ok_and(|wait| wait > 0)));

    // New connections are told when to come back.
    late.try_connect().unwrap();
    match late.next(PATIENCE) {
        Some(Seen::Refused(refusal)) => {
            assert_eq!(refusal.reason, CloseReason::Full);
            assert!((30..120).contains(&refusal.retry_after_s), "{refusal:?}");
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
    // Who holds it is told, and those who hold most are closed; the others stay.
    let holder = |server: &TestServer| memory(server)["apps"][0].clone();
    let told = until(PATIENCE, || holder(&server)["outbox_bytes"].as_u64() > Some(HELD_BYTES / 4));
    assert!(told, "{}", memory(&server));
    assert!(holder(&server)["outbox_connections"].as_u64() > Some(STUCK as u64 / 4), "{}", memory(&server));
    let of_app = format!("app=\"{}\"", server.app_key);
    assert!(server.metric("longwire_outbound_queue_bytes", &[&of_app]) > 0.0);
    assert!(until(PATIENCE, || server.metric(CLOSED, &["reason=\"shed\""]) >= 1.0));
    healthy.ping();
    assert_eq!(healthy.next(PATIENCE), Some(Seen::Pong));

    drop(stuck);
    assert!(until(PATIENCE, || level(&server) == "calm"), "{}", memory(&server));
    sleeper.connect();
    sleeper.expect_text("kept");
    server.await_count(&kept, "delivered", 1);
    late.connect();
    let after = server.api.push_text(json!({ "registration_id": ["late", "healthy"] }), "after").message_id();
    late.expect_text("after");
    healthy.expect_text("after");
    server.await_count(&after, "delivered", 2);
}
