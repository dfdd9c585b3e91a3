//! Nothing of a recalled message goes out, wherever it was on its way: told by the store instead.

use crate::rig::{Rig, options, outgoing, welcome};
use longwire_proto::id::{MessageId, Position, Source};
use longwire_proto::wire::{AckKind, GapReason, ServerFrame, encode_acks};
use longwire_server::delivery::border::{Command, Event};
use longwire_server::domain::WallMs;
use longwire_server::store::port::{End, Page, PageEntry};
use std::io::Write as _;

/// Recalls a message, and waits until every shard knows.
fn recall(rig: &Rig, number: u128) {
    let (done, mut all) = tokio::sync::mpsc::channel(1);
    rig.to_all(|| Command::Recall { message: MessageId(number), done: done.clone() });
    drop(done);
    assert!(rig.runtime.block_on(all.recv()).is_none());
}

/// Waits for the pull that asks the store what is to be told instead.
fn pulled(rig: &Rig, wanted: Source) {
    let found = rig.until(|rig| {
        let events = rig.events.lock().unwrap();
        events
            .iter()
            .any(|event| matches!(event, Event::Pull { pull, .. } if pull.source == wanted))
            .then_some(())
    });
    assert!(found.is_some(), "no pull of {wanted:?}");
}

#[test]
fn a_live_delivery_and_a_broadcast_of_a_recalled_message_are_left_to_the_store() {
    let rig = Rig::new(options(), welcome);
    let mut device = rig.login(1);
    recall(&rig, 7);
    let (to, position) = (rig.handle(1), Position::new(1, 1));
    let deliver = Command::Deliver { to, position, message: outgoing(7, b"recalled") };
    rig.shards.post(to.shard(), deliver).unwrap();
    pulled(&rig, Source::Mailbox);
    let end = Page { entries: Vec::new(), end: true, ..Page::default() };
    let page = Command::Page { to, source: Source::Mailbox, page: Some(Box::new(end)) };
    rig.shards.post(to.shard(), page).unwrap();
    rig.broadcast(position, &[], 7, b"recalled");
    pulled(&rig, Source::AppLog);
    device.nothing_before_pong();
}

#[test]
fn a_page_that_was_read_before_the_recall_tells_of_a_gap_in_its_place() {
    let rig = Rig::new(options(), welcome);
    let mut device = rig.login(1);
    recall(&rig, 7);
    let to = rig.handle(1);
    let entry = |number: u64| PageEntry::Message {
        high: false,
        position: Position::new(1, number),
        message: MessageId(u128::from(number)),
        deadline: WallMs(65_000),
        shared: outgoing(u128::from(number), b"x").shared.clone(),
    };
    let page = Page { entries: vec![entry(6), entry(7), entry(8)], end: true, ..Page::default() };
    let page = Command::Page { to, source: Source::Mailbox, page: Some(Box::new(page)) };
    rig.shards.post(to.shard(), page).unwrap();
    assert_eq!(device.push(), 6);
    let Some(ServerFrame::Gap(gap)) = device.next() else { panic!("no gap") };
    assert_eq!((gap.message, gap.reason, gap.count), (MessageId(7), GapReason::Recalled, 1));
    assert_eq!((gap.previous, gap.position), (Position::new(1, 6), Position::new(1, 7)));
    assert_eq!(device.push(), 8);
    let mut ack = Vec::new();
    encode_acks(AckKind::Received, &[MessageId(7)], device.client, &mut ack);
    device.socket.write_all(&ack).unwrap();
    let noted = rig.until(|rig| {
        let events = rig.events.lock().unwrap();
        let mut ends = events.iter().filter_map(|event| match event {
            Event::Settled { message: MessageId(7), end, .. } => Some(*end),
            _ => None,
        });
        ends.next_back()
    });
    assert_eq!(noted, Some(End::GapNoted(GapReason::Recalled)));
}

#[test]
fn the_oldest_recall_makes_room_and_a_repeated_one_takes_none() {
    let rig = Rig::new(options(), welcome);
    let mut device = rig.login(1);
    recall(&rig, 1);
    for _ in 0..2000 {
        recall(&rig, 2);
    }
    let to = rig.handle(1);
    let deliver = |sequence, number| Command::Deliver {
        to,
        position: Position::new(1, sequence),
        message: outgoing(number, b"x"),
    };
    rig.shards.post(to.shard(), deliver(1, 1)).unwrap();
    pulled(&rig, Source::Mailbox);
    let empty = Page { entries: Vec::new(), end: true, ..Page::default() };
    rig.shards
        .post(to.shard(), Command::Page { to, source: Source::Mailbox, page: Some(Box::new(empty)) })
        .unwrap();
    device.nothing_before_pong();
    for number in 10..1034 {
        recall(&rig, number);
    }
    // Nobody knows of the first any more; it goes out, and the message of kind recall comes after it.
    rig.shards.post(to.shard(), deliver(1, 1)).unwrap();
    assert_eq!(device.push(), 1);
}
