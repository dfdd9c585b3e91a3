//! Topics of a device, against a node that is played frame by frame.

#![allow(clippy::unwrap_used)]

mod played;

use longwire_client::{
    Incoming, Kind, MessageId, Position, Publication, ResultCode, SendError, State, Subscription, TopicError,
    TraceId,
};
use longwire_proto::wire::{Push, ServerFrame, TopicBody, push_flags};
use played::{Link, Node, Said, next};
use std::time::Duration;

fn subscribe(request: u32, filter: &str, kept: bool) -> Option<Said> {
    Some(Said::Subscribe { request, filter: filter.into(), kept })
}

/// The next frame, which must be a PUBLISH with this content; its number.
async fn published(link: &mut Link, content: &str) -> u64 {
    match link.next().await {
        Some(Said::Publish { id, at_least_once: true, topic, payload }) => {
            assert_eq!((topic.as_str(), payload.as_slice()), ("a/b", content.as_bytes()));
            id
        }
        other => panic!("instead of a PUBLISH {other:?}"),
    }
}

#[tokio::test]
async fn subscriptions_are_asked_for_on_every_connection_until_they_end() {
    let node = Node::start().await;
    let mut device = node.device().connect().unwrap();
    device.subscribe(Subscription::new("a/+")).await.unwrap();
    device.subscribe(Subscription::new("b/#").kept()).await.unwrap();
    device.subscribe(Subscription::new("c")).await.unwrap();
    let mut link = node.accept().await;
    assert_eq!(link.next().await, subscribe(1, "a/+", false));
    assert_eq!(link.next().await, subscribe(2, "b/#", true));
    assert_eq!(link.next().await, subscribe(3, "c", false));
    for (request, code) in [(2, ResultCode::Done), (1, ResultCode::Done), (3, ResultCode::NotAllowed)] {
        link.result(request, code).await;
        let Incoming::Subscribed { filter, outcome } = next(&mut device).await else { panic!("no answer") };
        assert_eq!((filter.as_str(), outcome), (["a/+", "b/#", "c"][request as usize - 1], code));
    }
    drop(link);
    let mut link = node.accept().await;
    assert_eq!(link.next().await, subscribe(4, "a/+", false), "the refused one is not asked for again");
    assert_eq!(link.next().await, subscribe(5, "b/#", true));
    device.unsubscribe("b/#").await.unwrap();
    assert_eq!(link.next().await, Some(Said::Unsubscribe { request: 6, filter: "b/#".into() }));
    link.result(6, ResultCode::Done).await;
    let told = next(&mut device).await;
    assert!(matches!(told, Incoming::Unsubscribed { filter, outcome: ResultCode::Done } if filter == "b/#"));
    drop(link);
    let mut link = node.accept().await;
    assert_eq!(link.next().await, subscribe(7, "a/+", false));
    device.close().await;
    assert_eq!(link.next().await, Some(Said::Close));
}

#[tokio::test]
async fn what_comes_from_a_topic_comes_with_its_topic() {
    let node = Node::start().await;
    let mut device = node.device().connect().unwrap();
    let mut link = node.accept().await;
    let body = |topic| TopicBody {
        topic,
        qos: 1,
        retain: true,
        for_member: false,
        expires: true,
        properties: b"",
        content: b"21.5",
    };
    let mut payload = Vec::new();
    body("a/b").encode(&mut payload).unwrap();
    for (flags, payload) in [(push_flags::RETAINED, payload.as_slice()), (0, &payload), (0, b"\0\x09short")] {
        let push = Push {
            source: None,
            position: Position::START,
            previous: Position::START,
            ttl_s: 0,
            flags,
            message: MessageId(0),
            kind: Kind::Topic,
            trace: TraceId(0),
            replaces: None,
            collapse_key: "",
            payload,
        };
        link.say(&[ServerFrame::Push(push)]).await;
        let Incoming::Message(message) = next(&mut device).await else { panic!("no message") };
        assert!(!message.needs_ack());
        let published = message.published.map(|published| {
            (published.topic, published.content.to_vec(), published.retain, published.is_older)
        });
        let whole = payload.ends_with(b"21.5");
        assert_eq!(published, whole.then(|| ("a/b".into(), b"21.5".to_vec(), true, flags != 0)));
    }
}

#[tokio::test]
async fn what_is_published_is_sent_until_it_is_answered_also_after_a_restart() {
    let (node, folder) = (Node::start().await, tempfile::tempdir().unwrap());
    let device = node.device().state(folder.path()).connect().unwrap();
    let first = device.publish(Publication::new("a/b", "one").retained()).await.unwrap();
    device.sender().publish(Publication::new("a/b", "two")).await.unwrap();
    let mut link = node.accept().await;
    assert_eq!(published(&mut link, "one").await, first.0);
    published(&mut link, "two").await;
    drop(link);
    let mut link = node.accept().await;
    let again = published(&mut link, "one").await;
    assert_eq!(again, first.0, "the same number");
    let second = published(&mut link, "two").await;
    device.close().await;
    drop(link);
    let mut device = node.device().state(folder.path()).connect().unwrap();
    let mut link = node.accept().await;
    assert_eq!(published(&mut link, "one").await, first.0);
    assert_eq!(published(&mut link, "two").await, second);
    link.answer(first.0, ResultCode::Quota).await;
    link.answer(second, ResultCode::Done).await;
    for (id, outcome) in [(first.0, ResultCode::Quota), (second, ResultCode::Done)] {
        let Incoming::Answered { id: answered, outcome: told } = next(&mut device).await else {
            panic!("no answer")
        };
        assert_eq!((answered.0, told), (id, outcome));
    }
    device.close().await;
    drop(link);
    let device = node.device().state(folder.path()).connect().unwrap();
    let mut link = node.accept().await;
    device.close().await;
    assert_eq!(link.next().await, Some(Said::Close), "nothing is left to be sent");
}

#[tokio::test]
async fn what_is_published_at_most_once_needs_a_connection() {
    let node = Node::start().await;
    let mut device = node.device().connect().unwrap();
    device.publish_now(Publication::new("a/b", "lost")).await.unwrap();
    let mut link = node.accept().await;
    loop {
        match device.next().await {
            Some(Incoming::State(State::Connected { .. })) => break,
            Some(Incoming::State(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    device.publish_now(Publication::new("a/b", "sent").expires_after(Duration::from_secs(9))).await.unwrap();
    let said = link.next().await;
    let sent = Said::Publish { id: 0, at_least_once: false, topic: "a/b".into(), payload: b"sent".to_vec() };
    assert_eq!(said, Some(sent));
}

#[tokio::test]
async fn what_no_node_would_take_is_refused_here() {
    let node = Node::start().await;
    let device = node.device().connect().unwrap();
    let long = "x".repeat(65);
    for filter in ["", "a/#/b", "a+", "$share/g", long.as_str(), "a\nb"] {
        assert_eq!(device.subscribe(Subscription::new(filter)).await, Err(TopicError::Filter), "{filter}");
        assert_eq!(device.unsubscribe(filter).await, Err(TopicError::Filter), "{filter}");
    }
    for topic in ["", "a/+", "#", "$up/text", long.as_str(), "a\nb"] {
        let publication = Publication::new(topic, "x");
        assert_eq!(device.publish(publication.clone()).await, Err(SendError::Topic), "{topic}");
        assert_eq!(device.publish_now(publication).await, Err(SendError::Topic), "{topic}");
    }
    let most = 10 * 1024;
    let publication = Publication::new("a", vec![0; most + 1]);
    assert_eq!(device.publish(publication).await, Err(SendError::Payload { bytes: most + 1 }));
    assert!(device.publish(Publication::new("a", vec![0; most])).await.is_ok());
}
