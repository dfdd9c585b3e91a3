//! Random conversations, compared with a model that is too simple to be wrong. A failure prints the shortest one found.
#![allow(clippy::unwrap_used, missing_docs)]

mod store_stage;

use longwire_proto::id::Kind;
use longwire_proto::wire::GapReason;
use longwire_server::domain::{ClientId, Counts, DropReason, Position, Source};
use longwire_server::store::port::{Accepted, Destination, End};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use store_stage::{RELEASED, Stage, id, ids};

const CLIENTS: u64 = 3;
const SHORT_MS: u64 = 1000;
const LONG_MS: u64 = 1_000_000;

#[derive(Clone, Debug)]
enum Step {
    Mail { clients: u8, short: bool, topic: bool },
    Log { tags: u8, short: bool },
    Settle { client: u64, message: usize, gap: bool },
    SettleTwice { client: u64, message: usize },
    Receive { client: u64, message: usize },
    EndSession { client: u64 },
    Retag { client: u64, tags: u8 },
    Pass,
    Reopen,
    Look { client: u64, at_a_time: u16 },
}

fn step() -> impl Strategy<Value = Step> {
    let client = 1..=CLIENTS;
    prop_oneof![
        4 => (1..8_u8, any::<bool>(), any::<bool>())
            .prop_map(|(clients, short, topic)| Step::Mail { clients, short, topic }),
        4 => (0..4_u8, any::<bool>()).prop_map(|(tags, short)| Step::Log { tags, short }),
        8 => (client.clone(), 0..40_usize, any::<bool>())
            .prop_map(|(client, message, gap)| Step::Settle { client, message, gap }),
        2 => (client.clone(), 0..40_usize).prop_map(|(client, message)| Step::SettleTwice { client, message }),
        3 => (client.clone(), 0..40_usize).prop_map(|(client, message)| Step::Receive { client, message }),
        1 => client.clone().prop_map(|client| Step::EndSession { client }),
        1 => (client.clone(), 0..4_u8).prop_map(|(client, tags)| Step::Retag { client, tags }),
        1 => Just(Step::Pass),
        1 => Just(Step::Reopen),
        3 => (client, 1..5_u16).prop_map(|(client, at_a_time)| Step::Look { client, at_a_time }),
    ]
}

fn names(mask: u8) -> Vec<&'static str> {
    ["a", "b"]
        .into_iter()
        .enumerate()
        .filter(|(bit, _)| mask & (1 << bit) != 0)
        .map(|(_, name)| name)
        .collect()
}

/// A mailbox delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mail {
    Waiting,
    Marker,
    Released,
    Gone,
}

struct Message {
    accepted: Accepted,
    deadline: u64,
    /// Tags of a log message.
    log: Option<u8>,
    topic: bool,
    mail: BTreeMap<u64, Mail>,
    counts: Counts,
}

#[derive(Default)]
struct Reader {
    tags: u8,
    cursor: usize,
    settled: BTreeSet<usize>,
}

/// Messages by the order of acceptance; a log's order is theirs.
#[derive(Default)]
struct Model {
    messages: Vec<Message>,
    readers: BTreeMap<u64, Reader>,
}

impl Model {
    fn matches(&self, client: u64, message: usize) -> bool {
        self.messages[message].log.is_some_and(|tags| tags == 0 || tags & self.readers[&client].tags != 0)
    }

    fn settle(&mut self, client: u64, at: usize, end: End) {
        let message = &mut self.messages[at];
        if message.log.is_none() {
            let Some(mail) = message.mail.get_mut(&client) else { return };
            if *mail == Mail::Waiting {
                count(&mut message.counts, end);
            }
            *mail = match (end, *mail) {
                (_, Mail::Gone) => Mail::Gone,
                (End::Received, _) => Mail::Released,
                _ => Mail::Gone,
            };
            return;
        }
        let reader = &self.readers[&client];
        if at < reader.cursor || reader.settled.contains(&at) {
            return;
        }
        self.messages[at].counts.created += 1;
        count(&mut self.messages[at].counts, end);
        self.readers.get_mut(&client).unwrap().settled.insert(at);
        let reader = &self.readers[&client];
        let unsettled = (reader.cursor..self.messages.len())
            .find(|&other| self.matches(client, other) && !reader.settled.contains(&other))
            .unwrap_or(usize::MAX);
        let reader = self.readers.get_mut(&client).unwrap();
        if let Some(&last) = reader.settled.range(..unsettled).next_back() {
            reader.cursor = last + 1;
            reader.settled.retain(|&other| other > last);
        }
    }

    fn end_session(&mut self, client: u64) {
        for message in self.messages.iter_mut().filter(|message| message.topic) {
            let Some(mail) = message.mail.get_mut(&client) else { continue };
            message.counts.dropped.add(DropReason::SessionEnded, u64::from(*mail == Mail::Waiting));
            *mail = Mail::Gone;
        }
    }

    fn pass(&mut self, now: u64) {
        for message in self.messages.iter_mut().filter(|message| message.deadline <= now) {
            for mail in message.mail.values_mut().filter(|mail| **mail == Mail::Waiting) {
                *mail = Mail::Marker;
                message.counts.expired += 1;
            }
        }
    }

    fn page(&self, client: u64, source: Source, now: u64) -> Vec<i128> {
        let reader = &self.readers[&client];
        let waits = |at: &usize| match source {
            Source::Mailbox => {
                let mail = self.messages[*at].mail.get(&client);
                matches!(mail, Some(Mail::Waiting | Mail::Marker | Mail::Released))
            }
            Source::AppLog => {
                *at >= reader.cursor && self.matches(client, *at) && !reader.settled.contains(at)
            }
        };
        let shown = |at| {
            let message: &Message = &self.messages[at];
            match message.mail.get(&client) {
                Some(Mail::Released) => RELEASED + id(&message.accepted),
                _ if message.deadline <= now => -id(&message.accepted),
                _ => id(&message.accepted),
            }
        };
        (0..self.messages.len()).filter(waits).map(shown).collect()
    }
}

fn count(counts: &mut Counts, end: End) {
    match end {
        End::Delivered | End::Received => counts.delivered += 1,
        End::Dropped(reason) => counts.dropped.add(reason, 1),
        End::GapNoted(_) => counts.expired += 1,
    }
}

async fn take(stage: &mut Stage, model: &mut Model, folder: &std::path::Path, step: &Step) {
    match *step {
        Step::Mail { clients, short, topic } => {
            let wanted: Vec<u64> =
                (1..=CLIENTS).filter(|client| clients & (1 << (client - 1)) != 0).collect();
            let ttl = if short { SHORT_MS } else { LONG_MS };
            let to = Destination::Mailboxes(wanted.iter().map(|&client| ClientId(client)).collect());
            let mut accept = stage.accept(to, ttl, b"body");
            accept.kind = if topic { Kind::Topic } else { Kind::Text };
            let accepted = stage.store.accept(accept).await.unwrap();
            model.messages.push(Message {
                accepted,
                deadline: stage.now() + ttl,
                log: None,
                topic,
                counts: Counts { created: wanted.len() as u64, ..Counts::default() },
                mail: wanted.into_iter().map(|client| (client, Mail::Waiting)).collect(),
            });
        }
        Step::Log { tags, short } => {
            let ttl = if short { SHORT_MS } else { LONG_MS };
            let accepted = stage.push(store_stage::to_tags(&names(tags)), ttl).await;
            let deadline = stage.now() + ttl;
            let (mail, counts) = (BTreeMap::new(), Counts::default());
            model.messages.push(Message { accepted, deadline, log: Some(tags), topic: false, mail, counts });
        }
        Step::Settle { client, message, gap } => {
            let end = if gap { End::GapNoted(GapReason::Expired) } else { End::Delivered };
            settle(stage, model, client, message, end).await;
        }
        Step::SettleTwice { client, message } => {
            settle(stage, model, client, message, End::Delivered).await;
            settle(stage, model, client, message, End::Delivered).await;
        }
        Step::Receive { client, message } => settle(stage, model, client, message, End::Received).await,
        Step::EndSession { client } => {
            stage.store.end_session(ClientId(client)).await.unwrap();
            model.end_session(client);
        }
        Step::Retag { client, tags } => {
            stage.register(client, &names(tags)).await;
            model.readers.get_mut(&client).unwrap().tags = tags;
        }
        Step::Pass => {
            stage.pass(SHORT_MS);
            model.pass(stage.now());
            for message in &model.messages {
                stage.wait_for_expired(&message.accepted, message.counts.expired).await;
            }
        }
        Step::Reopen => stage.reopen(folder).await,
        Step::Look { client, at_a_time } => look(stage, model, client, at_a_time).await,
    }
}

async fn settle(stage: &Stage, model: &mut Model, client: u64, message: usize, end: End) {
    let Some(found) = model.messages.get(message) else { return };
    let source = if found.log.is_some() { Source::AppLog } else { Source::Mailbox };
    // A device acks only what it was sent.
    if source == Source::AppLog && !model.matches(client, message)
        || source == Source::Mailbox && !found.mail.contains_key(&client)
    {
        return;
    }
    stage.settle(client, source, &found.accepted, end).await;
    model.settle(client, message, end);
}

/// Logs in and pulls both sources to their ends.
async fn look(stage: &Stage, model: &Model, client: u64, at_a_time: u16) {
    let view = stage.login(client).await;
    for (source, start) in [(Source::Mailbox, view.mailbox), (Source::AppLog, view.log)] {
        let expected = model.page(client, source, stage.now());
        assert_eq!(start.waiting, !expected.is_empty(), "{source:?} of {client}");
        let (mut after, mut seen) = (start.last, Vec::new());
        loop {
            let page = stage.page_of(client, source, after, at_a_time, u32::MAX).await;
            seen.extend(ids(&page));
            assert!(page.end || !page.entries.is_empty(), "a page that brings nothing and is not the end");
            after = page.entries.last().map_or(after, position);
            if page.end {
                break;
            }
        }
        assert_eq!(seen, expected, "{source:?} of {client}");
    }
}

fn position(entry: &longwire_server::store::port::PageEntry) -> Position {
    use longwire_server::store::port::PageEntry;
    match entry {
        PageEntry::Message { position, .. }
        | PageEntry::Released { position, .. }
        | PageEntry::Gap { position, .. } => *position,
    }
}

async fn converse(steps: Vec<Step>) {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::open(folder.path());
    let mut model = Model::default();
    for client in 1..=CLIENTS {
        stage.register(client, &names(client as u8)).await;
        model.readers.insert(client, Reader { tags: client as u8 & 3, ..Reader::default() });
    }
    // Not more than retention allows, so that nothing is forgotten here.
    let mut passes = 0;
    for step in &steps {
        passes += u32::from(matches!(step, Step::Pass));
        if passes > 8 && matches!(step, Step::Pass) {
            continue;
        }
        take(&mut stage, &mut model, folder.path(), step).await;
    }
    for client in 1..=CLIENTS {
        look(&stage, &model, client, 32).await;
    }
    for message in &model.messages {
        assert_eq!(stage.counts(&message.accepted).await, message.counts, "{:?}", message.accepted.message);
    }
    stage.store.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_the_model_does(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(converse(steps));
    }
}
