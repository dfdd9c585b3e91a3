//! Callers of the API: pushes to one, some and all devices, alone and in batches, at once and later, repeated and recalled.

use crate::history::{Asked, Audience, DeviceNo, Event, PushNo, hash};
use crate::storm::{AWAY, DEVICES, Run, TAGS};
use crate::support::{Answer, Dice, push_body};
use longwire_proto::id::MessageId;
use serde_json::{Value, json};
use std::io::{self, ErrorKind};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, SystemTime};

/// Accepted messages that may still be recalled.
const RECENT_MAX: usize = 64;

/// Messages that wait for one device at most, as the limits say.
const MAILBOX_MESSAGES_MAX: u32 = 1_000;
const FILLED_AT_ONCE: u32 = 100;
/// A push that is not for now is due within so many milliseconds.
const LATER_MS: u64 = 1_200;

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
            2 => later(run, &mut dice),
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
    let audience = match dice.within(0..20) {
        0 => Audience::All,
        1 | 2 => Audience::Tag(tag(dice)),
        3 | 4 => Audience::TagWithout(tag(dice), tag(dice)),
        _ => Audience::Device(dice.within(0..u64::from(DEVICES)) as DeviceNo),
    };
    let wanted = wanted(run, dice, audience);
    let sure = push_once(run, &wanted);
    // Whoever has a key asks again until there is an answer, and now and then for nothing.
    if wanted.asked.once.is_some() && (!sure || dice.one_in(3)) {
        push_once(run, &wanted);
    }
}

/// A push to one device that is due in a moment, when the server may be down.
fn later(run: &Run, dice: &mut Dice) {
    let device = dice.within(u64::from(AWAY)..u64::from(DEVICES)) as DeviceNo;
    let mut wanted = wanted(run, dice, Audience::Device(device));
    (wanted.ttl_s, wanted.asked) = (86_400, Asked::default());
    let due = SystemTime::now() + Duration::from_millis(dice.within(100..LATER_MS));
    let mut body = body(&wanted);
    body["options"]["send_at"] = json!(jiff::Timestamp::try_from(due).unwrap().to_string());
    let push = invoke(run, &wanted);
    match ask(run, "/v1/push", &body) {
        Ok(answer) if answer.status == 202 => {
            let schedule = answer.json["schedule_id"].as_str().expect("schedule_id").to_owned();
            run.add(Event::Planned { push });
            run.planned.lock().unwrap().push((push, schedule));
        }
        Ok(answer) => {
            outcome(run, push, answer.status, &answer.json);
        }
        Err(error) => {
            unanswered(run, push, &error);
        }
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
fn outcome(run: &Run, push: PushNo, status: u16, body: &Value) -> bool {
    let event = match (status, body["msg_id"].as_str().and_then(MessageId::parse)) {
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
        (status, _) => {
            run.over_rate.fetch_add(u64::from(body["code"] == "app_rate"), SeqCst);
            run.full.fetch_add(u64::from(body["code"] == "device_queue_full"), SeqCst);
            Event::Refused { push, status }
        }
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

/// False: what became of it is not known.
fn push_once(run: &Run, wanted: &Wanted) -> bool {
    let push = invoke(run, wanted);
    match ask(run, "/v1/push", &body(wanted)) {
        Ok(answer) => outcome(run, push, answer.status, &answer.json),
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
    push_together(run, &items);
}

/// Fills the mailbox of the first device, which stays away.
pub fn fill(run: &Run, dice: &mut Dice) {
    for _ in 0..=MAILBOX_MESSAGES_MAX / FILLED_AT_ONCE {
        let items: Vec<Wanted> = (0..FILLED_AT_ONCE)
            .map(|_| {
                let wanted = wanted(run, dice, Audience::Device(0));
                // One that takes the place of another, or of itself, fills nothing.
                Wanted { ttl_s: 86_400, asked: Asked::default(), ..wanted }
            })
            .collect();
        push_together(run, &items);
    }
}

fn push_together(run: &Run, items: &[Wanted]) {
    let pushes: Vec<PushNo> = items.iter().map(|wanted| invoke(run, wanted)).collect();
    let bodies: Vec<Value> = items.iter().map(body).collect();
    let answer = ask(run, "/v1/push/batch", &json!({ "pushes": bodies }));
    for (at, push) in pushes.into_iter().enumerate() {
        match &answer {
            Ok(answer) if answer.status == 200 => {
                let item = &answer.json["results"][at];
                let status = item["status"].as_u64().expect("each item has its status") as u16;
                outcome(run, push, status, &item["body"]);
            }
            Ok(answer) => {
                outcome(run, push, answer.status, &answer.json);
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
