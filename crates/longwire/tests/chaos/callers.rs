//! Callers of the API: pushes to one, some and all devices, alone and in batches, repeated and recalled; and what the server
//! says of it all in the end.

use crate::history::{Asked, Audience, Counts, DeviceNo, Event, PushNo, hash};
use crate::storm::{AWAY, DEVICES, Run, TAGS};
use crate::support::{Answer, Api, Dice, push_body, until};
use longwire_proto::id::MessageId;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::io::{self, ErrorKind};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// Accepted messages that may still be recalled.
const RECENT_MAX: usize = 64;

/// A push as it will be asked for.
struct Wanted {
    audience: Audience,
    ttl_s: u32,
    text: String,
    asked: Asked,
}

/// One caller of the API.
pub fn call(run: &Run, mut dice: Dice) {
    while run.pushing.load(SeqCst) {
        match dice.within(0..24) {
            0 => recall(run, &mut dice),
            1 => batch(run, &mut dice),
            _ => single(run, &mut dice),
        }
        std::thread::sleep(Duration::from_micros(dice.within(1_000..12_000)));
    }
}

fn wanted(run: &Run, dice: &mut Dice, audience: Audience) -> Wanted {
    let ttl_s = if dice.one_in(12) { dice.within(1..4) as u32 } else { 86_400 };
    let filler = "x".repeat(dice.within(0..400) as usize);
    let number = run.pushes.fetch_add(1, SeqCst);
    let key = dice.one_in(6).then(|| dice.within(0..3) as u32);
    let once = dice.one_in(4).then_some(number);
    let text = format!("push {number} {} {filler}", dice.bits());
    Wanted { audience, ttl_s, text, asked: Asked { key, once } }
}

fn single(run: &Run, dice: &mut Dice) {
    let tag = |dice: &mut Dice| dice.within(0..u64::from(TAGS)) as u32;
    let audience = match dice.within(0..10) {
        0 => Audience::All,
        1 => Audience::Tag(tag(dice)),
        2 => Audience::TagWithout(tag(dice), tag(dice)),
        _ => Audience::Device(dice.within(0..u64::from(DEVICES)) as DeviceNo),
    };
    let wanted = wanted(run, dice, audience);
    let sure = push_once(run, &wanted);
    // Whoever has a key asks again until there is an answer, and now and then for nothing.
    if wanted.asked.once.is_some() && (!sure || dice.one_in(3)) {
        push_once(run, &wanted);
    }
}

fn body(wanted: &Wanted) -> Value {
    let whom = match wanted.audience {
        Audience::Device(device) => json!({ "registration_id": [format!("d{device}")] }),
        Audience::TagWithout(with, without) => {
            json!({ "tag": [format!("t{with}")], "tag_not": [format!("t{without}")] })
        }
        Audience::Tag(tag) => json!({ "tag": [format!("t{tag}")] }),
        Audience::All => json!("all"),
    };
    let mut body = push_body(whom, &wanted.text, Some(wanted.ttl_s));
    if let Some(key) = wanted.asked.key {
        body["options"]["collapse_key"] = json!(format!("k{key}"));
    }
    if let Some(once) = wanted.asked.once {
        body["cid"] = json!(format!("c{once}"));
    }
    body
}

fn invoke(run: &Run, wanted: &Wanted) -> PushNo {
    let push = run.pushes.fetch_add(1, SeqCst);
    let Wanted { audience, asked, .. } = *wanted;
    let ttl_us = u64::from(wanted.ttl_s) * 1_000_000;
    run.add(Event::Invoked { push, audience, ttl_us, hash: hash(wanted.text.as_bytes()), asked });
    push
}

/// Writes down what became of a push. False: that is not known.
fn outcome(run: &Run, push: PushNo, status: u16, message: Option<MessageId>) -> bool {
    let event = match (status, message) {
        (202, Some(message)) => {
            run.accepted.fetch_add(1, SeqCst);
            let mut recent = run.recent.lock().unwrap();
            if recent.len() >= RECENT_MAX {
                recent.remove(0);
            }
            recent.push(message);
            Event::Accepted { push, message }
        }
        (500 | 504, _) => Event::Unknown { push },
        (status, _) => Event::Refused { push, status },
    };
    run.add(event);
    !matches!(event, Event::Unknown { .. })
}

/// A request that did not come back. Nobody listened: nobody was asked.
fn unanswered(run: &Run, push: PushNo, error: &io::Error) -> bool {
    let refused = error.kind() == ErrorKind::ConnectionRefused;
    run.add(if refused { Event::Refused { push, status: 0 } } else { Event::Unknown { push } });
    refused
}

fn ask(run: &Run, path: &str, body: &Value) -> io::Result<Answer> {
    let api = run.api();
    run.in_flight.fetch_add(1, SeqCst);
    let answer = api.try_post(path, body);
    run.in_flight.fetch_sub(1, SeqCst);
    answer
}

fn message_of(answer: &Value) -> Option<MessageId> {
    answer["msg_id"].as_str().and_then(MessageId::parse)
}

/// False: what became of it is not known.
fn push_once(run: &Run, wanted: &Wanted) -> bool {
    let push = invoke(run, wanted);
    match ask(run, "/v1/push", &body(wanted)) {
        Ok(answer) => outcome(run, push, answer.status, message_of(&answer.json)),
        Err(error) => unanswered(run, push, &error),
    }
}

/// Many at once, most of them to a device that stays away, so that its mailbox fills and items are refused.
fn batch(run: &Run, dice: &mut Dice) {
    let away = Audience::Device(dice.within(0..u64::from(AWAY)) as DeviceNo);
    let items: Vec<Wanted> = (0..dice.within(5..80))
        .map(|_| {
            let other = Audience::Device(dice.within(0..u64::from(DEVICES)) as DeviceNo);
            let audience = if dice.one_in(4) { other } else { away };
            wanted(run, dice, audience)
        })
        .collect();
    let pushes: Vec<PushNo> = items.iter().map(|wanted| invoke(run, wanted)).collect();
    let bodies: Vec<Value> = items.iter().map(body).collect();
    let answer = ask(run, "/v1/push/batch", &json!({ "pushes": bodies }));
    for (at, push) in pushes.into_iter().enumerate() {
        match &answer {
            Ok(answer) if answer.status == 200 => {
                let item = &answer.json["results"][at];
                let status = item["status"].as_u64().expect("each item has its status") as u16;
                outcome(run, push, status, message_of(&item["body"]));
            }
            Ok(answer) => {
                outcome(run, push, answer.status, None);
            }
            Err(error) => {
                unanswered(run, push, error);
            }
        }
    }
}

fn recall(run: &Run, dice: &mut Dice) {
    let message = {
        let recent = run.recent.lock().unwrap();
        if recent.is_empty() {
            return;
        }
        recent[dice.within(0..recent.len() as u64) as usize]
    };
    run.add(Event::Recalling { message });
    let answer = run.api().request("DELETE", &format!("/v1/messages/{message}"), None);
    if answer.is_ok_and(|answer| answer.status == 200) {
        run.add(Event::Recalled { message });
    }
}

/// Asks the server for its record of every message that anybody knows of, and for the app's books.
pub fn count_all(run: &Run) {
    let lines = run.recorder.lines();
    let mut audiences = HashMap::new();
    let mut known: HashMap<MessageId, Option<Audience>> = HashMap::new();
    for line in &lines {
        match line.event {
            Event::Invoked { push, audience, .. } => drop(audiences.insert(push, audience)),
            Event::Accepted { push, message } => {
                known.insert(message, audiences.get(&push).copied());
            }
            Event::Received { message, .. } | Event::Gap { message, .. } | Event::Told { message, .. } => {
                known.entry(message).or_insert(None);
            }
            _ => {}
        }
    }
    known.remove(&MessageId(0));
    let known: Vec<(MessageId, Option<Audience>)> = known.into_iter().collect();
    let api = run.api();
    std::thread::scope(|scope| {
        for part in known.chunks(known.len().div_ceil(4).max(1)) {
            let api = api.clone();
            scope.spawn(move || {
                part.iter().for_each(|(message, audience)| count_one(run, &api, *message, *audience));
            });
        }
    });
    books(run, &api);
}

fn count_one(run: &Run, api: &Api, message: MessageId, audience: Option<Audience>) {
    let members = audience.map_or(0, |audience| run.fleet.members(audience).count() as u64);
    let mut counts = None;
    // Acks ride on the next commit; what is not settled after this is judged as it stands.
    let _ = until(Duration::from_secs(3), || {
        let answer = api.get(&format!("/v1/messages/{message}"));
        counts = (answer.status == 200).then(|| read_counts(&answer.json["counts"]));
        counts
            .is_some_and(|counts| counts.pending == 0 && counts.delivered + counts.ended_without() >= members)
    });
    if let Some(counts) = counts {
        run.add(Event::Counted { message, counts });
    }
}

fn read_counts(counts: &Value) -> Counts {
    let count = |state: &str| counts[state].as_u64().unwrap_or_else(|| panic!("{state} in {counts}"));
    Counts {
        created: count("created"),
        delivered: count("delivered"),
        expired: count("expired"),
        collapsed: count("collapsed"),
        recalled: count("recalled"),
        dropped: count("dropped"),
        pending: count("pending"),
    }
}

/// The app's books after a check that began when all was quiet.
fn books(run: &Run, api: &Api) {
    let checked = |answer: &Answer| answer.json["checked_at"].as_str().map(str::to_owned);
    let before = checked(&api.get("/v1/books"));
    let mut seen = HashSet::from([before]);
    let mut answer = api.get("/v1/books");
    // The first check after this moment may have begun before it; the one after that has not.
    let again = until(Duration::from_secs(30), || {
        answer = api.get("/v1/books");
        seen.insert(checked(&answer));
        seen.len() >= 3
    });
    assert!(again, "the books are not checked: {}", answer.text);
    let mut story = answer.json.clone();
    let reasons = answer.json["dropped"].as_object().expect("dropped, by reason");
    story["dropped"] = json!(reasons.values().filter_map(Value::as_u64).sum::<u64>());
    let gap = answer.json["gap"].as_u64().expect("the books say what gap was found");
    run.add(Event::Books { counts: read_counts(&story), gap });
}
