//! Messages that are spread over time: everybody is in one slice, and pause, resume, speed, deadline and restart hold.
#![allow(clippy::unwrap_used, missing_docs)]

mod hub_rig;

use hub_rig::{Rig, any_tag, until};
use longwire_proto::id::{ClientId, MessageId, Position, Source};
use longwire_server::api::push_reader;
use longwire_server::delivery::border::Command;
use longwire_server::delivery::hub::PushError;
use longwire_server::delivery::over_time::{
    OverTime, SPREADS_OPEN_MAX, SpreadAsked, SpreadEdit, SpreadState,
};
use longwire_server::domain::message::Spread;
use longwire_server::domain::{Audience, Push, WallMs};
use longwire_server::store::port::{PageEntry, PageRequest};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

const PARTS: u32 = 65_536;

async fn rig() -> Rig {
    let rig = Rig::new(1).await;
    over_time(&rig, Arc::default()).await;
    rig
}

async fn over_time(rig: &Rig, pressed: Arc<AtomicBool>) {
    let pressed = Box::new(move || pressed.load(SeqCst));
    rig.hub.run_over_time(OverTime { read: push_reader(), pressed }).await.unwrap();
}

fn spread(rig: &Rig, audience: Audience, spread: Spread, ttl_s: u32) -> Push {
    Push { spread: Some(spread), ..rig.push(audience, ttl_s) }
}

async fn push(rig: &Rig, seconds: u32, ttl_s: u32) -> MessageId {
    let push = spread(rig, Audience::all(), Spread::Duration(seconds), ttl_s);
    rig.hub.push(&rig.app, push).await.unwrap().message
}

async fn state(rig: &Rig, message: MessageId) -> SpreadState {
    let story = rig.hub.message(&rig.app, message).await.unwrap().unwrap();
    rig.hub.spread_state(&story.view.spreading.unwrap())
}

/// One second passes, and its slice is in the log.
async fn second(rig: &Rig, message: MessageId) {
    let before = state(rig, message).await.parts_done;
    rig.pass(1000);
    until(async || state(rig, message).await.parts_done > before).await;
}

async fn edit(rig: &Rig, message: MessageId, paused: Option<bool>, spread: Option<Spread>) -> SpreadAsked {
    rig.hub.edit_spreading(&rig.app, message, SpreadEdit { paused, spread }).await.unwrap()
}

fn request(rig: &Rig, client: ClientId, after: Position) -> PageRequest {
    PageRequest {
        client,
        app: rig.app.id,
        source: Source::AppLog,
        after,
        messages_max: 32,
        bytes_max: 65_536,
        now: WallMs(rig.now.load(SeqCst)),
        ahead: Box::default(),
        ahead_max: 0,
    }
}

/// How often a device that returns now is given the message.
async fn given(rig: &Rig, client: ClientId, message: MessageId) -> usize {
    let mut count = 0;
    let mut after = Position::START;
    loop {
        let request = request(rig, client, after);
        let page = rig.store.page(request).await.unwrap();
        for entry in page.entries {
            let PageEntry::Message { position, message: other, .. } = entry else { panic!("{entry:?}") };
            count += usize::from(other == message);
            after = position;
        }
        if page.end {
            return count;
        }
    }
}

async fn all_given(rig: &Rig, clients: &[ClientId], message: MessageId) -> Vec<usize> {
    let mut each = Vec::new();
    for client in clients {
        each.push(given(rig, *client, message).await);
    }
    each
}

async fn crowd(rig: &Rig, count: usize, tags: &[&str]) -> Vec<ClientId> {
    let mut clients = Vec::new();
    for number in 0..count {
        clients.push(rig.register(&format!("d{number}-{}", tags.concat()), None, tags).await.client);
    }
    clients
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_in_exactly_one_slice_across_pause_resume_speed_and_restart() {
    let rig = rig().await;
    let clients = crowd(&rig, 200, &["t"]).await;
    let others = crowd(&rig, 20, &["u"]).await;
    let asked = spread(&rig, any_tag(&["t"]), Spread::Duration(20), 3600);
    let message = rig.hub.push(&rig.app, asked).await.unwrap().message;
    until(async || state(&rig, message).await.parts_done > 0).await;
    let mut before = 0;
    for _ in 0..5 {
        second(&rig, message).await;
        let each = all_given(&rig, &clients, message).await;
        assert!(each.iter().all(|count| *count <= 1), "{each:?}");
        let now: usize = each.iter().sum();
        assert!(now >= before && now < 200, "{now} after {before}");
        before = now;
    }
    let SpreadAsked::Done(paused) = edit(&rig, message, Some(true), None).await else { panic!() };
    assert_eq!((paused.word, paused.eta_s), ("paused", None));
    let rig = rig.restarted().await;
    over_time(&rig, Arc::default()).await;
    assert_eq!(state(&rig, message).await, paused);
    // Another message has its steps at the same looks.
    let probe = push(&rig, 100, 3600).await;
    until(async || state(&rig, probe).await.parts_done > 0).await;
    for _ in 0..3 {
        second(&rig, probe).await;
    }
    assert_eq!(state(&rig, message).await, paused);
    assert_eq!(all_given(&rig, &clients, message).await.iter().sum::<usize>(), before);
    let SpreadAsked::Done(resumed) = edit(&rig, message, Some(false), Some(Spread::Duration(5))).await else {
        panic!()
    };
    assert_eq!(resumed.word, "running");
    assert!(resumed.eta_s.is_some_and(|eta| (4..=5).contains(&eta)), "{resumed:?}");
    let mut steps = 0;
    while state(&rig, message).await.parts_done < PARTS {
        second(&rig, message).await;
        steps += 1;
    }
    assert!((4..=6).contains(&steps), "{steps}");
    assert_eq!(state(&rig, message).await.word, "done");
    assert_eq!(all_given(&rig, &clients, message).await, vec![1; 200]);
    assert_eq!(all_given(&rig, &others, message).await, vec![0; 20]);
    assert!(matches!(edit(&rig, message, Some(true), None).await, SpreadAsked::Over));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_speed_is_devices_a_second_of_those_connected() {
    let rig = rig().await;
    for number in 0..40 {
        let device = rig.register(&format!("d{number}"), None, &[]).await;
        rig.login(0, &device).await;
    }
    let asked = spread(&rig, Audience::all(), Spread::Speed(10), 3600);
    let message = rig.hub.push(&rig.app, asked).await.unwrap().message;
    for quarter in 1..=4 {
        let Command::Broadcast(slice) = rig.shards.next(0).await else { panic!() };
        assert_eq!(slice.message.message, message);
        until(async || state(&rig, message).await.parts_done == quarter * PARTS / 4).await;
        rig.pass(1000);
    }
    let SpreadState { word, speed, .. } = state(&rig, message).await;
    assert_eq!((word, speed), ("done", 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_it_and_the_rest_is_not_appended() {
    let rig = rig().await;
    let clients = crowd(&rig, 50, &[]).await;
    let message = push(&rig, 60, 5).await;
    until(async || state(&rig, message).await.parts_done > 0).await;
    second(&rig, message).await;
    let done = state(&rig, message).await.parts_done;
    rig.pass(10_000);
    until(async || state(&rig, message).await.word == "expired").await;
    assert_eq!(state(&rig, message).await.parts_done, done);
    assert!(matches!(edit(&rig, message, Some(false), None).await, SpreadAsked::Over));
    // Who is in a slice is told that it has expired, the others have no hole.
    let mut told = 0;
    for client in clients {
        let request = request(&rig, client, Position::START);
        told += rig.store.page(request).await.unwrap().entries.len();
    }
    assert!(told < 50, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_run_and_the_others_wait_for_their_turn() {
    let rig = rig().await;
    let (first, second_one, third) =
        (push(&rig, 10, 3600).await, push(&rig, 10, 3600).await, push(&rig, 10, 3600).await);
    for message in [first, second_one] {
        until(async || state(&rig, message).await.parts_done > 0).await;
    }
    for _ in 0..2 {
        second(&rig, second_one).await;
    }
    assert_eq!((state(&rig, third).await.word, state(&rig, third).await.parts_done), ("queued", 0));
    edit(&rig, first, Some(true), None).await;
    second(&rig, third).await;
    // It is behind the older one again.
    edit(&rig, first, Some(false), None).await;
    assert_eq!(state(&rig, third).await.word, "queued");
    while state(&rig, second_one).await.word != "done" {
        second(&rig, second_one).await;
    }
    until(async || state(&rig, third).await.word == "running").await;
    second(&rig, third).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_pressure_no_slice_goes_out() {
    let rig = Rig::new(1).await;
    let pressed = Arc::new(AtomicBool::new(true));
    over_time(&rig, pressed.clone()).await;
    let message = push(&rig, 10, 3600).await;
    // Its deadline is judged in the same looks.
    let short = push(&rig, 10, 1).await;
    rig.pass(2000);
    until(async || state(&rig, short).await.word == "expired").await;
    assert_eq!(state(&rig, message).await.parts_done, 0);
    pressed.store(false, SeqCst);
    second(&rig, message).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_spread_or_unknown_is_told_and_too_many_are_refused() {
    let rig = rig().await;
    let plain = rig.hub.push(&rig.app, rig.push(Audience::all(), 60)).await.unwrap().message;
    assert!(matches!(edit(&rig, plain, Some(true), None).await, SpreadAsked::NotSpread));
    assert!(matches!(edit(&rig, MessageId(7), Some(true), None).await, SpreadAsked::Unknown));
    let message = push(&rig, 60, 3600).await;
    let (stranger, _) =
        rig.hub.create_app(longwire_server::domain::AppKey::parse("other").unwrap(), false).await.unwrap();
    let theirs = SpreadEdit { paused: Some(true), spread: None };
    let asked = rig.hub.edit_spreading(&stranger, message, theirs).await.unwrap();
    assert!(matches!(asked, SpreadAsked::Unknown));
    for _ in 1..SPREADS_OPEN_MAX {
        push(&rig, 60, 3600).await;
    }
    let more = spread(&rig, Audience::all(), Spread::Speed(1), 60);
    assert_eq!(rig.hub.push(&rig.app, more).await.unwrap_err(), PushError::TooManySpreads);
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_takes_every_place_of_it() {
    let rig = rig().await;
    let clients = crowd(&rig, 50, &["t"]).await;
    let asked = spread(&rig, any_tag(&["t"]), Spread::Duration(8), 60);
    let message = rig.hub.push(&rig.app, asked).await.unwrap().message;
    until(async || state(&rig, message).await.parts_done > 0).await;
    while state(&rig, message).await.word != "done" {
        second(&rig, message).await;
    }
    rig.pass(60_000 + 86_400_000 + 1000);
    until(async || rig.hub.message(&rig.app, message).await.unwrap().is_none()).await;
    for client in clients {
        let request = request(&rig, client, Position::START);
        let entries = rig.store.page(request).await.unwrap().entries;
        let gap = |entry: &PageEntry| matches!(entry, PageEntry::Gap { message: MessageId(0), .. });
        assert!(entries.len() <= 1 && entries.iter().all(gap), "{entries:?}");
    }
}
