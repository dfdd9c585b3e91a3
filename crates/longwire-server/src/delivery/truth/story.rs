//! What is known of one delivery: steps with their times, and a word for all of it.

use super::super::hub::Core;
use super::presence::UNKNOWN;
use crate::domain::device::Attribute;
use crate::domain::{App, ClientId, Condition, DeviceName, Filter, MessageId, Position, Tag, WallMs};
use crate::store::port::StoreError;
use crate::store::truth::{Explained, Story, TargetRow, TargetsRequest, Told};

/// A step of a story.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// Its word.
    pub step: &'static str,
    /// When; `None`: not known, or it is how things are now.
    pub at: Option<WallMs>,
    /// More about it.
    pub detail: Option<String>,
}

/// A message and a device: what happened, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeliveryStory {
    /// The steps.
    pub steps: Vec<Step>,
    /// How it stands.
    pub verdict: &'static str,
}

/// How a device of a message stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetState {
    /// Its number, for the cursor.
    pub client: ClientId,
    /// Its registration id; `None` if it is gone.
    pub name: Option<DeviceName>,
    /// `pending`, an end, or `ended` when it is not known how.
    pub state: &'static str,
    /// Why it was dropped.
    pub reason: Option<&'static str>,
    /// The times.
    pub story: Option<Story>,
}

impl Core {
    /// See [`super::super::hub::Hub::explain`].
    pub(in super::super) async fn explain(
        &self,
        app: &App,
        message: MessageId,
        name: DeviceName,
    ) -> Result<Option<DeliveryStory>, StoreError> {
        let Some(explained) = self.store.explain(app.id, message, name).await? else { return Ok(None) };
        let connections = self.sessions.of(explained.device.client).count();
        let mut telling = Telling { node: &self.truth.node, now: (self.clock)(), steps: Vec::new() };
        let verdict = telling.tell(&explained, connections);
        Ok(Some(DeliveryStory { steps: telling.steps, verdict }))
    }

    /// See [`super::super::hub::Hub::targets`].
    pub(in super::super) async fn targets(
        &self,
        request: TargetsRequest,
    ) -> Result<Option<(Vec<TargetState>, Option<ClientId>)>, StoreError> {
        let Some(page) = self.store.targets(request).await? else { return Ok(None) };
        Ok(Some((page.rows.into_iter().map(target).collect(), page.next)))
    }
}

fn target(row: TargetRow) -> TargetState {
    let state = match row.told {
        Some(told) => told.label(),
        None if row.waits => "pending",
        None => "ended",
    };
    let reason = row.told.and_then(Told::reason);
    TargetState { client: row.client, name: row.name, state, reason, story: row.story }
}

struct Telling<'a> {
    node: &'a str,
    now: WallMs,
    steps: Vec<Step>,
}

impl Telling<'_> {
    fn step(&mut self, step: &'static str, at: Option<WallMs>, detail: Option<String>) {
        self.steps.push(Step { step, at: at.filter(|at| *at != UNKNOWN), detail });
    }

    fn tell(&mut self, explained: &Explained, connections: usize) -> &'static str {
        let record = &explained.record;
        let in_log = record.log_position != Position::START;
        self.step("accepted", Some(record.accepted_at), None);
        let place = if in_log { "once, in the app's log" } else { "in the mailbox of each device" };
        self.step(
            "stored",
            Some(record.accepted_at),
            Some(format!("durable (fsynced) on this node, {place}")),
        );
        if let Some(story) = &explained.story {
            return self.told(in_log, story);
        }
        if in_log { self.in_log(explained, connections) } else { self.addressed(explained, connections) }
    }

    /// It has ended, and its story is kept.
    fn told(&mut self, in_log: bool, story: &Story) -> &'static str {
        let how = if in_log { "the audience fits the device" } else { "the device is among those addressed" };
        self.step("matched", None, Some(how.into()));
        if story.sent != UNKNOWN {
            self.step("sent", Some(story.sent), None);
        }
        let step = if story.told == Told::Delivered { "acked" } else { story.told.label() };
        self.step(step, Some(story.ended), story.told.reason().map(str::to_owned));
        let mut verdict = (story.told.label(), story.ended);
        let mut words =
            [("displayed", story.displayed), ("clicked", story.clicked), ("dismissed", story.dismissed)];
        words.sort_by_key(|(_, at)| *at);
        for (word, at) in words.into_iter().filter(|(_, at)| *at != UNKNOWN) {
            self.step(word, Some(at), None);
            verdict = (word, at);
        }
        verdict.0
    }

    fn addressed(&mut self, explained: &Explained, connections: usize) -> &'static str {
        if explained.target.is_none() {
            let why = "the device is not among those that the message was stored for: not named, without the alias then, not fitting the rest of the audience, or its mailbox was full";
            self.step("not_matched", None, Some(why.into()));
            return "not_matched";
        }
        self.step("matched", None, Some("the device is among those addressed".into()));
        match explained.mailbox {
            None => {
                self.step("ended", None, Some("no story of it is kept (story.days)".into()));
                "ended"
            }
            Some(place) => match place.told {
                Some(told) => {
                    self.step(told.label(), None, Some("the device has not taken note yet".into()));
                    told.label()
                }
                None if explained.record.deadline <= self.now => self.expired(explained),
                None => {
                    self.route(explained, connections);
                    let ahead = format!("{} before it in the device's mailbox", place.ahead);
                    self.step("waiting", None, Some(ahead));
                    "pending"
                }
            },
        }
    }

    fn in_log(&mut self, explained: &Explained, connections: usize) -> &'static str {
        let device = &explained.device;
        let Some(filter) = &explained.filter else {
            let why = "the log has forgotten whom the message was for (storage.retention)";
            self.step("forgotten", None, Some(why.into()));
            return "forgotten";
        };
        if let Some(why) = unfit(filter, device.client, &device.tags, &device.attributes) {
            self.step("not_matched", None, Some(why));
            return "not_matched";
        }
        self.step("matched", None, Some("the audience fits the device as it is now".into()));
        if let Some(told) = explained.marked {
            self.step(told.label(), None, Some("for every device that had not ended it".into()));
            return told.label();
        }
        if explained.passed {
            let why = "the device has passed its place without it: it did not fit then, was registered later, or the story is not kept";
            self.step("passed", None, Some(why.into()));
            return "passed";
        }
        if explained.record.deadline <= self.now {
            return self.expired(explained);
        }
        self.route(explained, connections);
        self.step("waiting", None, Some("the device reads the log up to it when it can".into()));
        "pending"
    }

    fn expired(&mut self, explained: &Explained) -> &'static str {
        let why = "not delivered before its deadline; the device takes note when it comes";
        self.step("expired", Some(explained.record.deadline), Some(why.into()));
        "expired"
    }

    fn route(&mut self, explained: &Explained, connections: usize) {
        let since = explained.presence.map(|(_, at)| at);
        if connections > 0 {
            let where_ = format!("connected to {} ({connections} connections)", self.node);
            let online = explained.presence.filter(|(online, _)| *online).map(|(_, at)| at);
            self.step("online", online, Some(where_));
        } else {
            let known = explained.presence.is_some_and(|(online, _)| !online);
            self.step(
                "offline",
                since.filter(|_| known),
                Some("no connection; it is sent when it returns".into()),
            );
        }
    }
}

/// Which part of an audience does not fit a device; `None`: all of it does.
fn unfit(filter: &Filter, client: ClientId, tags: &[Tag], attributes: &[Attribute]) -> Option<String> {
    if let Some(part) = failing(&filter.condition, tags, attributes) {
        return Some(format!("condition: {part}"));
    }
    let sample = Filter { slice: None, ..filter.clone() };
    if !sample.shares(client) {
        return Some("sample: the device is not in the sample".into());
    }
    (!filter.shares(client)).then(|| "slice: the device is in another slice of the spreading".into())
}

/// The first part of a condition for which the whole does not fit.
fn failing(condition: &Condition, tags: &[Tag], attributes: &[Attribute]) -> Option<String> {
    if condition.fits(tags, attributes) {
        return None;
    }
    Some(match condition {
        Condition::All(all) => return all.iter().find_map(|one| failing(one, tags, attributes)),
        Condition::Tag(tag) => format!("it has not the tag {}", tag.as_str()),
        Condition::Not(inner) => match &**inner {
            Condition::Tag(tag) => format!("it has the tag {}", tag.as_str()),
            _ => "it fits what is excluded".into(),
        },
        Condition::Attribute(name, ..) => match attributes.binary_search_by(|(other, _)| other.cmp(name)) {
            Ok(at) => format!("its attribute {} is {}", name.as_str(), attributes[at].1.as_str()),
            Err(_) => format!("it has no attribute {}", name.as_str()),
        },
        Condition::Any(any) => {
            let tag = |one: &Condition| match one {
                Condition::Tag(tag) => Some(tag.as_str().to_owned()),
                _ => None,
            };
            match any.iter().map(tag).collect::<Option<Vec<String>>>() {
                Some(names) => format!("it has none of the tags {}", names.join(", ")),
                None => "it fits none of the alternatives".into(),
            }
        }
        Condition::Everyone => return None,
    })
}
