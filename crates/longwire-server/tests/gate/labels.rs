//! Filters as the shards judge them: conditions over labels, shares, and what only the store knows.

use crate::rig::{Device, Rig, attach, has, options, outgoing};
use longwire_proto::id::{ClientId, MessageId, Position, Source};
use longwire_server::delivery::border::{Command, Event, Handle, LabelId, Labelled, Reach};
use longwire_server::domain::{Condition, Filter};
use longwire_server::store::port::{Page, PageEntry};
use std::sync::Arc;

/// The bits of the client id are its labels, so that every combination of five is there.
fn by_bits(to: Handle, client: ClientId) -> Command {
    let labels: Vec<u32> = (0..5).filter(|bit| client.0 >> bit & 1 == 1).collect();
    attach(to, client, &labels, Position::START)
}

fn not(inner: Labelled) -> Labelled {
    Labelled::Not(Box::new(inner))
}

fn reach(condition: Labelled) -> Reach {
    Reach { condition, ..Reach::everyone() }
}

fn position(number: u64) -> Position {
    Position::new(1, number)
}

#[test]
fn a_condition_reaches_exactly_whom_it_fits_stored_or_online_only() {
    let rig = Rig::new(options(), by_bits);
    let mut devices: Vec<Device> = (1..32).map(|client| rig.login(client)).collect();
    let bit = |client: u64, bit: u64| client >> bit & 1 == 1;
    type Fits = Box<dyn Fn(u64) -> bool>;
    let cases: Vec<(Labelled, Fits)> = vec![
        (has(&[]), Box::new(|_| false)),
        (not(has(&[])), Box::new(|_| true)),
        (not(has(&[1])), Box::new(move |client| !bit(client, 1))),
        (
            Labelled::All(Box::new([has(&[0, 3]), not(has(&[2, 9]))])),
            Box::new(move |client| (bit(client, 0) || bit(client, 3)) && !bit(client, 2)),
        ),
        (
            not(Labelled::Any(Box::new([Labelled::All(Box::new([has(&[0]), has(&[1])])), not(has(&[4]))]))),
            Box::new(move |client| !(bit(client, 0) && bit(client, 1)) && bit(client, 4)),
        ),
    ];
    let mut expected: Vec<Vec<u128>> = vec![Vec::new(); devices.len()];
    for (at, (condition, fits)) in cases.into_iter().enumerate() {
        for (half, place) in [(0, Position::START), (1, position(at as u64 + 1))] {
            let number = (2 * at + half) as u128 + 1;
            rig.broadcast_to(reach(condition.clone()), place, number, b"some");
            for (device, expected) in devices.iter().zip(&mut expected) {
                if fits(device.client.0) {
                    expected.push(number);
                }
            }
        }
    }
    for (device, expected) in devices.iter_mut().zip(expected) {
        for number in expected {
            assert_eq!(device.push(), number, "client {}", device.client.0);
        }
        device.nothing_before_pong();
    }
}

#[test]
fn a_sample_is_stable_and_a_greater_one_contains_it() {
    let rig = Rig::new(options(), by_bits);
    let mut devices: Vec<Device> = (1..=60).map(|client| rig.login(client)).collect();
    let sample = |sample| Filter { sample, ..Filter::of(Condition::Everyone) };
    let (few, more) = (sample(16_384), sample(49_152));
    for (number, filter) in [(1, &few), (2, &few), (3, &more)] {
        let reach = Reach { filter: Arc::new(filter.clone()), ..Reach::everyone() };
        rig.broadcast_to(reach, Position::START, number, b"some");
    }
    let mut reached = 0;
    for device in &mut devices {
        if few.shares(device.client) {
            assert_eq!([device.push(), device.push()], [1, 2]);
            reached += 1;
        }
        if more.shares(device.client) {
            assert_eq!(device.push(), 3);
        }
        device.nothing_before_pong();
    }
    assert!((1..30).contains(&reached), "{reached} of 60");
}

/// Of two connections that a condition cannot judge, one has a label that is younger, one a value without a label of its own.
#[test]
fn whom_only_the_store_knows_pulls_and_misses_what_is_online_only() {
    let rig = Rig::new(options(), |to, client| {
        let labels: &[u32] = match client.0 {
            1 => &[1],
            2 => &[1, 7],
            3 => &[5],
            _ => &[],
        };
        attach(to, client, labels, Position::START)
    });
    let mut devices: Vec<Device> = (1..=4).map(|client| rig.login(client)).collect();
    let condition = Labelled::Has { labels: Box::new([LabelId(1)]), perhaps: Some(LabelId(5)) };
    let reach = Reach { labels_known: LabelId(7), ..reach(condition) };
    rig.broadcast_to(reach.clone(), Position::START, 1, b"now");
    rig.broadcast_to(reach, position(9), 2, b"stored");
    assert_eq!([devices[0].push(), devices[0].push()], [1, 2]);
    for (client, message) in [(2, 2_u64), (3, 2)] {
        let pulled = rig.until(|rig| {
            rig.events.lock().unwrap().iter().find_map(|event| match event {
                Event::Pull { from, client: of, pull, .. } if of.0 == client => Some((*from, *pull)),
                _ => None,
            })
        });
        let (to, pull) = pulled.expect("it asks the store");
        assert_eq!((pull.source, pull.after), (Source::AppLog, Position::START));
        let entry = PageEntry::Message {
            position: position(9),
            message: MessageId(message.into()),
            deadline: longwire_server::domain::WallMs(65_000),
            shared: outgoing(message.into(), b"stored").shared.clone(),
            high: false,
        };
        let page = Some(Box::new(Page { entries: vec![entry], end: true, ..Page::default() }));
        rig.shards.post(to.shard(), Command::Page { to, source: Source::AppLog, page }).unwrap();
        assert_eq!(devices[client as usize - 1].push(), 2);
    }
    for device in &mut devices {
        device.nothing_before_pong();
    }
    let told = rig.until(|rig| {
        let events = rig.events.lock().unwrap();
        let (mut sent_now, mut dropped_now) = (0, 0);
        for event in events.iter() {
            if let Event::Sent { message: MessageId(1), sent, dropped } = event {
                (sent_now, dropped_now) = (sent_now + sent, dropped_now + dropped);
            }
        }
        (sent_now + dropped_now == 3).then_some((sent_now, dropped_now))
    });
    assert_eq!(told, Some((1, 2)), "what is not sent is counted");
}

#[test]
fn new_labels_hold_for_the_next_broadcast() {
    let rig = Rig::new(options(), by_bits);
    let mut device = rig.login(2);
    let to = rig.handle(2);
    rig.broadcast_to(reach(has(&[1])), position(1), 1, b"red");
    assert_eq!(device.push(), 1);
    rig.shards.post(to.shard(), Command::Retag { to, labels: Box::new([LabelId(6)]) }).unwrap();
    rig.broadcast_to(reach(has(&[1])), position(2), 2, b"red");
    rig.broadcast_to(reach(has(&[6])), position(3), 3, b"blue");
    assert_eq!(device.push(), 3);
    rig.shards.post(to.shard(), Command::Retag { to, labels: Box::default() }).unwrap();
    rig.broadcast_to(reach(has(&[1, 6])), position(4), 4, b"both");
    rig.broadcast_to(reach(not(has(&[1, 6]))), position(5), 5, b"neither");
    assert_eq!(device.push(), 5);
    device.nothing_before_pong();
}
