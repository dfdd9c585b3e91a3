//! What the server says of it all when all is quiet: its record of each message, what its schedules made, and the books.

use crate::history::{Audience, Counts, Event};
use crate::storm::Run;
use crate::support::{Answer, Api, PATIENCE, until};
use longwire_proto::id::MessageId;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// Requests at once.
const AT_ONCE: usize = 4;
/// Acks ride on the next commit. What does not change for so long is judged as it stands.
const STANDS: Duration = Duration::from_secs(3);

/// A message that somebody knows of, and how many devices it is for; 0 if that is not known.
type Known = (MessageId, u64);

/// Asks the server for its record of every message that anybody knows of, and for the app's books.
pub fn count_all(run: &Run) {
    let api = run.api();
    fired(run, &api);
    let mut left = known(run);
    let (mut last, mut changed) = (Counts::default(), Instant::now());
    loop {
        let read = read_all(&api, &left);
        let mut sum = Counts::default();
        read.iter().flatten().for_each(|counts| sum.add(counts));
        let stands = sum == last && changed.elapsed() > STANDS;
        if sum != last {
            (last, changed) = (sum, Instant::now());
        }
        let mut open = Vec::new();
        for ((message, members), counts) in left.into_iter().zip(read) {
            let settled =
                |counts: &Counts| counts.pending == 0 && counts.delivered + counts.ended_without() >= members;
            match counts {
                Some(counts) if stands || settled(&counts) => run.add(Event::Counted { message, counts }),
                _ => open.push((message, members)),
            }
        }
        if stands || open.is_empty() {
            break;
        }
        left = open;
        std::thread::sleep(Duration::from_millis(50));
    }
    books(run, &api);
}

fn known(run: &Run) -> Vec<Known> {
    let mut audiences = HashMap::new();
    let mut known: HashMap<MessageId, Option<Audience>> = HashMap::new();
    for line in &run.recorder.lines() {
        match line.event {
            Event::Invoked { push, audience, .. } => drop(audiences.insert(push, audience)),
            Event::Accepted { push, message } | Event::Fired { push, message } => {
                known.insert(message, audiences.get(&push).copied());
            }
            Event::Received { message, .. } | Event::Gap { message, .. } | Event::Told { message, .. } => {
                known.entry(message).or_insert(None);
            }
            _ => {}
        }
    }
    known.remove(&MessageId(0));
    let members = |audience: Audience| run.fleet.members(audience).count() as u64;
    known.into_iter().map(|(message, audience)| (message, audience.map_or(0, members))).collect()
}

fn read_all(api: &Api, messages: &[Known]) -> Vec<Option<Counts>> {
    let read = |(message, _): &Known| {
        let answer = api.get(&format!("/v1/messages/{message}"));
        (answer.status == 200).then(|| read_counts(&answer.json["counts"]))
    };
    std::thread::scope(|scope| {
        let parts = messages.chunks(messages.len().div_ceil(AT_ONCE).max(1));
        let parts: Vec<_> =
            parts.map(|part| scope.spawn(move || part.iter().map(read).collect::<Vec<_>>())).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    })
}

/// What each schedule made. All are due by now; those that are late have some time more, together.
fn fired(run: &Run, api: &Api) {
    let end = Instant::now() + PATIENCE;
    for (push, schedule) in run.planned.lock().unwrap().iter() {
        let path = format!("/v1/schedules/{schedule}");
        let mut runs = Value::Null;
        let _ = until(end.saturating_duration_since(Instant::now()), || {
            runs = api.get(&path).json["runs"].clone();
            runs.as_array().is_some_and(|runs| !runs.is_empty())
        });
        for one in runs.as_array().into_iter().flatten() {
            match one["msg_id"].as_str().and_then(MessageId::parse) {
                Some(message) => run.add(Event::Fired { push: *push, message }),
                None => run.add(Event::Refused { push: *push, status: 0 }),
            }
        }
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
