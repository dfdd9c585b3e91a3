//! A device that begins again with its state folder: what was acked is not shown again, and a process that is killed with
//! messages in its outbox loses none.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod played;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use longwire_client::{
    Device, Incoming, Kind, MessageId, Position, ResultCode, Source, TraceId, UpstreamMessage,
};
use longwire_proto::wire::{Push, ServerFrame};
use played::{Node, PATIENCE, Said, next};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

fn push(sequence: u64) -> ServerFrame<'static> {
    ServerFrame::Push(Push {
        source: Some(Source::Mailbox),
        position: Position::new(1, sequence),
        previous: Position::new(1, sequence - 1),
        ttl_s: 60,
        flags: 0,
        message: MessageId(u128::from(sequence)),
        kind: Kind::Text,
        trace: TraceId(0),
        replaces: None,
        collapse_key: "",
        payload: b"hello",
    })
}

async fn next_message(device: &mut Device) -> (u128, bool) {
    match next(device).await {
        Incoming::Message(message) => (message.id.0, message.hole),
        other => panic!("unexpected {other:?}"),
    }
}

#[tokio::test]
async fn what_was_acked_is_not_shown_again_and_what_was_not_is() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start().await;
    let mut device = node.device().state(folder.path()).connect().unwrap();
    let mut link = node.accept().await;
    link.say(&[push(1), push(2), push(3)]).await;
    for expected in 1..=3 {
        assert_eq!(next_message(&mut device).await, (expected, false));
    }
    device.ack(MessageId(1)).await;
    device.ack(MessageId(3)).await;
    assert_eq!(link.next().await, Some(Said::Acks(vec![1])));
    device.close().await;

    let mut device = node.device().state(folder.path()).connect().unwrap();
    let mut link = node.accept().await;
    assert_eq!(link.resume, Position::new(1, 1).0, "it does not claim what it would still want");
    link.say(&[push(1), push(2), push(3), push(4)]).await;
    assert_eq!(next_message(&mut device).await, (2, false), "the application never said that it has it");
    assert_eq!(next_message(&mut device).await, (4, false));
    let mut acks = Vec::new();
    while acks.len() < 2 {
        if let Some(Said::Acks(ids)) = link.next().await {
            acks.extend(ids);
        }
    }
    assert_eq!(acks, [1, 3], "their acks may have been lost");
}

const CHILD: &str = "LONGWIRE_TEST_CHILD";

/// Sends until it is killed; says each number when it is in the outbox.
async fn child(place: &str) {
    let (address, folder) = place.split_once(' ').unwrap();
    let device = played::device(address).state(Path::new(folder)).outbox(50_000, 64 << 20).connect().unwrap();
    for number in 0_u64.. {
        let id = device.send(UpstreamMessage::new("text", number.to_string())).await.unwrap();
        println!("sent {} {number}", id.0);
    }
}

#[tokio::test]
async fn a_killed_process_loses_nothing_that_was_sent_and_repeats_only_by_number() {
    if let Ok(place) = std::env::var(CHILD) {
        return child(&place).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start().await;
    // What the business has, by the device's number, as a server that drops repeats keeps it.
    let mut received: BTreeMap<u64, String> = BTreeMap::new();
    let mut promised: BTreeMap<u64, String> = BTreeMap::new();
    for round in 0..3 {
        let place = format!("{} {}", node.address(), folder.path().display());
        let mut process = tokio::process::Command::from(Command::new(std::env::current_exe().unwrap()))
            .args([
                "--exact",
                "a_killed_process_loses_nothing_that_was_sent_and_repeats_only_by_number",
                "--nocapture",
            ])
            .env(CHILD, place)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut link = node.accept().await;
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let before = promised.len();
        while promised.len() < before + 40 {
            let line =
                timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().expect("the child goes on");
            // The harness writes its own words in front of the first line.
            if let Some((_, words)) = line.split_once("sent ") {
                let (id, number) = words.split_once(' ').unwrap();
                promised.insert(id.parse().unwrap(), number.to_owned());
            }
            // It answers few, so that most are still in the outbox at the end.
            if promised.len().is_multiple_of(20)
                && let Some((id, payload)) = link.upstream(1).await.pop()
            {
                take(&mut received, id, payload);
                link.answer(id, ResultCode::Done).await;
            }
        }
        process.start_kill().unwrap(); // SIGKILL
        process.wait().await.unwrap();
        // What it had promised in the pipe counts too.
        while let Some(line) = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap() {
            if let Some((id, number)) = line.strip_prefix("sent ").and_then(|words| words.split_once(' '))
                && let Ok(id) = id.parse()
            {
                promised.insert(id, number.to_owned());
            }
        }
        assert!(received.len() < promised.len(), "round {round}: something must be unsent");
    }

    let mut device = node.device().state(folder.path()).outbox(50_000, 64 << 20).connect().unwrap();
    let mut link = node.accept().await;
    while promised.keys().any(|id| !received.contains_key(id)) {
        let (id, payload) = link.upstream(1).await.pop().unwrap();
        take(&mut received, id, payload);
        link.answer(id, ResultCode::Done).await;
        next(&mut device).await;
    }
    for (id, number) in &promised {
        assert_eq!(received.get(id), Some(number));
    }
}

/// A repeat must be the same message under the same number.
fn take(received: &mut BTreeMap<u64, String>, id: u64, payload: String) {
    let before = received.insert(id, payload.clone());
    assert!(before.is_none_or(|before| before == payload), "number {id} stands for two messages");
}
