//! What goes up: outbox, answers, reconnects, restarts.

#![allow(clippy::unwrap_used)]

mod played;

use longwire_client::{Device, Incoming, ResultCode, SendError, UpstreamId, UpstreamMessage};
use played::{Node, Said, next};

fn text(content: &str) -> UpstreamMessage {
    UpstreamMessage::new("text", content.to_owned())
}

async fn next_answer(device: &mut Device) -> (UpstreamId, ResultCode) {
    match next(device).await {
        Incoming::Answered { id, outcome } => (id, outcome),
        other => panic!("unexpected {other:?}"),
    }
}

#[tokio::test]
async fn a_message_goes_up_and_its_answer_comes_back() {
    let node = Node::start().await;
    let mut device = node.device().connect().unwrap();
    let mut link = node.accept().await;
    let id = device.send(text("hello").to("phone-2")).await.unwrap();
    let up = link.next().await.unwrap();
    let (kind, to, payload) = ("text".to_owned(), "phone-2".to_owned(), b"hello".to_vec());
    assert_eq!(up, Said::Upstream { id: id.0, kind, to, mode: 1, payload });
    link.answer(id.0, ResultCode::Done).await;
    link.answer(id.0, ResultCode::Done).await; // an answer that comes twice is told once
    assert_eq!(next_answer(&mut device).await, (id, ResultCode::Done));
    let light = device.send(text("light").accepted_is_enough()).await.unwrap();
    assert!(matches!(link.next().await, Some(Said::Upstream { mode: 0, .. })));
    link.answer(light.0, ResultCode::NotAllowed).await;
    assert_eq!(next_answer(&mut device).await, (light, ResultCode::NotAllowed));
}

#[tokio::test]
async fn what_was_not_answered_goes_again_through_the_next_node_in_order() {
    let node = Node::start().await;
    let mut device = node.device().connect().unwrap();
    let sender = device.sender();
    let mut ids = Vec::new();
    for content in ["a", "b", "c"] {
        ids.push(sender.send(text(content)).await.unwrap().0);
    }
    let mut link = node.accept().await;
    let sent = link.upstream(3).await;
    assert_eq!(sent.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids);
    link.answer(ids[1], ResultCode::Done).await;
    assert_eq!(next_answer(&mut device).await.0, UpstreamId(ids[1]));
    drop(link);
    let mut link = node.accept().await;
    assert_eq!(link.upstream(2).await, [(ids[0], "a".into()), (ids[2], "c".into())]);
}

#[tokio::test]
async fn a_busy_server_gets_the_message_later_and_others_are_not_lost() {
    let node = Node::start().await;
    let mut device = node.device().connect().unwrap();
    let first = device.send(text("a")).await.unwrap();
    let mut link = node.accept().await;
    assert_eq!(link.upstream(1).await[0].0, first.0);
    link.answer(first.0, ResultCode::Busy).await;
    let second = device.send(text("b")).await.unwrap();
    let again: Vec<u64> = link.upstream(2).await.into_iter().map(|(id, _)| id).collect();
    let mut sorted = again.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [first.0, second.0], "each once more");
    for id in again {
        link.answer(id, ResultCode::Done).await;
        assert_eq!(next_answer(&mut device).await, (UpstreamId(id), ResultCode::Done));
    }
}

#[tokio::test]
async fn a_full_outbox_refuses_in_words_and_takes_again_after_an_answer() {
    let node = Node::start().await;
    let mut device = node.device().outbox(2, 8_000).connect().unwrap();
    let first = device.send(text("a")).await.unwrap();
    device.send(text("b")).await.unwrap();
    let full = device.send(text("c")).await.unwrap_err();
    assert!(matches!(full, SendError::Full { messages: 2, .. }), "{full}");
    let mut link = node.accept().await;
    link.upstream(2).await;
    link.answer(first.0, ResultCode::Done).await;
    next_answer(&mut device).await;
    device.send(text("c")).await.unwrap();
    let large = UpstreamMessage::new("text", vec![0; 7_950]);
    assert!(matches!(device.send(large).await, Err(SendError::Full { messages: 2, .. })));
}

#[tokio::test]
async fn what_no_server_would_take_is_refused_at_once() {
    let node = Node::start().await;
    let device = node.device().connect().unwrap();
    let send = |message| device.send(message);
    assert_eq!(send(UpstreamMessage::new("", "x")).await, Err(SendError::Kind));
    assert_eq!(send(UpstreamMessage::new("k".repeat(65), "x")).await, Err(SendError::Kind));
    assert_eq!(send(text("x").to("d".repeat(129))).await, Err(SendError::To));
    let long = UpstreamMessage::new("text", vec![0; 10 * 1024 + 1]);
    assert_eq!(send(long).await, Err(SendError::Payload { bytes: 10 * 1024 + 1 }));
    send(UpstreamMessage::new("text", vec![0; 10 * 1024])).await.unwrap();
}

#[tokio::test]
async fn after_a_restart_the_folder_gives_what_was_not_answered_and_no_number_twice() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start().await;
    let mut device = node.device().state(folder.path()).connect().unwrap();
    let mut link = node.accept().await;
    let (answered, kept) =
        (device.send(text("answered")).await.unwrap(), device.send(text("kept")).await.unwrap());
    link.upstream(2).await;
    link.answer(answered.0, ResultCode::Done).await;
    next_answer(&mut device).await;
    device.close().await;
    drop(link);

    let mut device = node.device().state(folder.path()).connect().unwrap();
    let new = device.send(text("new")).await.unwrap();
    assert!(new > kept, "{new:?} after {kept:?}");
    let mut link = node.accept().await;
    assert_eq!(link.upstream(2).await, [(kept.0, "kept".into()), (new.0, "new".into())]);
    for id in [kept, new] {
        link.answer(id.0, ResultCode::Done).await;
        assert_eq!(next_answer(&mut device).await, (id, ResultCode::Done));
    }
    device.close().await;

    let device = node.device().state(folder.path()).connect().unwrap();
    assert!(
        device.send(text("newest")).await.unwrap() > new,
        "an empty file still knows where its numbers go on"
    );
}

#[tokio::test]
async fn thousands_of_answered_messages_leave_a_small_file() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start().await;
    let mut device = node.device().state(folder.path()).connect().unwrap();
    let mut link = node.accept().await;
    for _ in 0..20 {
        for _ in 0..16 {
            device.send(UpstreamMessage::new("blob", vec![7; 3_000])).await.unwrap();
        }
        for (id, _) in link.upstream(16).await {
            link.answer(id, ResultCode::Done).await;
            next_answer(&mut device).await;
        }
    }
    device.close().await;
    let bytes = std::fs::metadata(folder.path().join("outbox")).unwrap().len();
    assert!(bytes < 400 * 1024, "{bytes} of {} written", 20 * 16 * 3_000);
}

#[tokio::test]
async fn a_state_folder_serves_one_device_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start().await;
    let device = node.device().state(folder.path()).connect().unwrap();
    let refused = node.device().state(folder.path()).connect().unwrap_err();
    assert!(refused.to_string().contains("in use"), "{refused}");
    device.close().await;
    let stranger = node.device().client(longwire_client::ClientId(7)).state(folder.path()).connect();
    let refused = stranger.unwrap_err();
    assert!(refused.to_string().contains("another device"), "{refused}");
    node.device().state(folder.path()).connect().unwrap();
}
