//! Callers of the API: pushes to one, some and all devices, and what the server says of them in the end.

use crate::history::{Asked, Audience, Counts, DeviceNo, Event, PushNo, hash};
use crate::storm::{DEVICES, Run, TAGS};
use crate::support::{Api, Dice, count_of, push_body, until};
use longwire_proto::id::MessageId;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// One caller of the API.
pub fn call(run: &Run, mut dice: Dice) {
    while run.pushing.load(SeqCst) {
        let audience = match dice.within(0..10) {
            0 => Audience::All,
            1 | 2 => Audience::Tag(dice.within(0..u64::from(TAGS)) as u32),
            _ => Audience::Device(dice.within(0..u64::from(DEVICES)) as DeviceNo),
        };
        let ttl_s = if dice.one_in(12) { dice.within(1..4) as u32 } else { 86_400 };
        let push = run.pushes.fetch_add(1, SeqCst);
        let filler = "x".repeat(dice.within(0..400) as usize);
        push_once(run, push, audience, ttl_s, &format!("push {push} {} {filler}", dice.bits()));
        std::thread::sleep(Duration::from_micros(dice.within(1_000..12_000)));
    }
}

fn push_once(run: &Run, push: PushNo, audience: Audience, ttl_s: u32, text: &str) {
    let whom = match audience {
        Audience::Device(device) => json!({ "registration_id": [format!("d{device}")] }),
        Audience::TagWithout(with, without) => {
            json!({ "tag": [format!("t{with}")], "tag_not": [format!("t{without}")] })
        }
        Audience::Tag(tag) => json!({ "tag": [format!("t{tag}")] }),
        Audience::All => json!("all"),
    };
    let body = push_body(whom, text, Some(ttl_s));
    let api = run.api();
    let ttl_us = u64::from(ttl_s) * 1_000_000;
    let asked = Asked::default();
    run.add(Event::Invoked { push, audience, ttl_us, hash: hash(text.as_bytes()), asked });
    run.in_flight.fetch_add(1, SeqCst);
    let answer = api.try_post("/v1/push", &body);
    run.in_flight.fetch_sub(1, SeqCst);
    let event = match answer {
        Ok(answer) if answer.status == 202 => {
            run.accepted.fetch_add(1, SeqCst);
            Event::Accepted { push, message: MessageId::parse(&answer.message_id()).unwrap() }
        }
        Ok(answer) if matches!(answer.status, 500 | 504) => Event::Unknown { push },
        Ok(answer) => Event::Refused { push, status: answer.status },
        // Nobody listened, so nobody was asked.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Event::Refused { push, status: 0 },
        Err(_) => Event::Unknown { push },
    };
    run.add(event);
}

/// Asks the server for its record of every accepted message.
pub fn count_all(run: &Run) {
    let audiences: HashMap<PushNo, Audience> = run
        .recorder
        .lines()
        .iter()
        .filter_map(|line| match line.event {
            Event::Invoked { push, audience, .. } => Some((push, audience)),
            _ => None,
        })
        .collect();
    let accepted: Vec<(MessageId, Audience)> = run
        .recorder
        .lines()
        .iter()
        .filter_map(|line| match line.event {
            Event::Accepted { push, message } => Some((message, audiences[&push])),
            _ => None,
        })
        .collect();
    let api = run.api();
    std::thread::scope(|scope| {
        for part in accepted.chunks(accepted.len().div_ceil(4).max(1)) {
            let api = api.clone();
            scope.spawn(move || {
                part.iter().for_each(|(message, audience)| count_one(run, &api, *message, *audience))
            });
        }
    });
}

fn count_one(run: &Run, api: &Api, message: MessageId, audience: Audience) {
    let members = run.fleet.members(audience).count() as u64;
    let mut story = Value::Null;
    // Acks ride on the next commit; what is not settled after this is judged as it stands.
    let _ = until(Duration::from_secs(3), || {
        let answer = api.get(&format!("/v1/messages/{message}"));
        story = if answer.status == 200 { answer.json } else { Value::Null };
        count_of(&story, "delivered") + count_of(&story, "expired") + count_of(&story, "dropped") >= members
    });
    if story.is_null() {
        return;
    }
    let count = |state| count_of(&story, state);
    let counts = Counts {
        created: count("created"),
        delivered: count("delivered"),
        expired: count("expired"),
        collapsed: count("collapsed"),
        recalled: count("recalled"),
        dropped: count("dropped"),
        pending: count("pending"),
    };
    run.add(Event::Counted { message, counts });
}
