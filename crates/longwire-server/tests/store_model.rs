//! Random conversations, compared with a model that is too simple to be wrong. A failure prints the shortest one found.
#![allow(clippy::unwrap_used, missing_docs)]

mod store_stage;

use bytes::Bytes;
use longwire_proto::id::Kind;
use longwire_proto::wire::GapReason;
use longwire_server::domain::{ClientId, Counts, DropReason, Position, Recalled, Source};
use longwire_server::store::port::{Accepted, Destination, End, StoreError};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store_stage::{APP, RECALL_TTL_MS, RELEASED, Stage, id, ids};

const CLIENTS: u64 = 3;
const SHORT_MS: u64 = 1000;
const LONG_MS: u64 = 1_000_000;
/// So small that many a message finds no room.
const STORED_BYTES_MAX: u64 = 100;

/// What a message takes the place of.
#[derive(Clone, Copy, Debug)]
struct Newer {
    /// Its collapse key; 0 = none.
    key: u8,
    replaces: Option<usize>,
}

fn newer() -> impl Strategy<Value = Newer> {
    (0..3_u8, prop::option::weighted(0.25, 0..40_usize)).prop_map(|(key, replaces)| Newer { key, replaces })
}

#[derive(Clone, Debug)]
enum Step {
    Mail { clients: u8, short: bool, topic: bool, newer: Newer },
    Log { tags: u8, short: bool, newer: Newer },
    Recall { message: usize, windows: u8, in_hand: bool },
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
        4 => (1..8_u8, any::<bool>(), any::<bool>(), newer())
            .prop_map(|(clients, short, topic, newer)| Step::Mail { clients, short, topic, newer }),
        4 => (0..4_u8, any::<bool>(), newer()).prop_map(|(tags, short, newer)| Step::Log { tags, short, newer }),
        2 => (0..40_usize, 0..8_u8, any::<bool>())
            .prop_map(|(message, windows, in_hand)| Step::Recall { message, windows, in_hand }),
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

#[derive(Clone)]
struct Message {
    accepted: Accepted,
    deadline: u64,
    bytes: u64,
    /// Tags of a log message.
    log: Option<u8>,
    /// Why readers of the log pass it, if they do.
    passed: Option<GapReason>,
    key: u8,
    kind: Kind,
    recalled: Option<Recalled>,
    mail: BTreeMap<u64, Mail>,
    counts: Counts,
}

impl Message {
    /// Ends what waits in a mailbox; false: nothing does.
    fn leave_out(&mut self, client: u64, now: u64, count: impl Fn(&mut Counts)) -> bool {
        match self.mail.get_mut(&client) {
            Some(mail) if *mail == Mail::Waiting && self.deadline > now => {
                *mail = Mail::Marker;
                count(&mut self.counts);
                true
            }
            _ => false,
        }
    }

    /// Readers of the log pass it from now on.
    fn pass(&mut self, reason: GapReason, now: u64) {
        if self.log.is_some() && self.deadline > now {
            self.passed.get_or_insert(reason);
        }
    }

    /// Bytes of its body, as long as somebody may need it.
    fn stored(&self, now: u64) -> u64 {
        let is_needed = match self.log {
            Some(_) => self.passed.is_none(),
            None => self.counts.pending() > 0,
        };
        if is_needed && self.recalled.is_none() && self.deadline > now { self.bytes } else { 0 }
    }

    /// What a device that takes note of it is told.
    fn gap(&self) -> GapReason {
        self.passed.unwrap_or(GapReason::Expired)
    }
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
    fn stored(&self, now: u64) -> u64 {
        self.messages.iter().map(|message| message.stored(now)).sum()
    }

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

    /// A newer message is accepted: what it takes the place of ends, where it has no end.
    fn accept(&mut self, newer: Message, replaces: Option<usize>, now: u64) {
        for client in newer.mail.keys().filter(|_| newer.key != 0) {
            let same = |message: &&mut Message| message.key == newer.key && message.mail.contains_key(client);
            if let Some(older) = self.messages.iter_mut().rev().find(same) {
                older.leave_out(*client, now, |counts| counts.collapsed += 1);
            }
        }
        if newer.key != 0 && newer.log.is_some() {
            let same = |message: &&mut Message| message.key == newer.key && message.log == newer.log;
            if let Some(older) = self.messages.iter_mut().rev().find(same) {
                older.pass(GapReason::Collapsed, now);
            }
        }
        if let Some(at) = replaces {
            let meant = |client: &u64| match newer.log {
                Some(tags) => tags == 0 || tags & self.readers[client].tags != 0,
                None => newer.mail.contains_key(client),
            };
            let clients: Vec<u64> = self.messages[at].mail.keys().copied().filter(meant).collect();
            let older = &mut self.messages[at];
            for client in clients {
                older.leave_out(client, now, |counts| counts.collapsed += 1);
            }
            if newer.log.is_some_and(|tags| tags == 0 || older.log == Some(tags)) && older.log.is_some() {
                older.pass(GapReason::Collapsed, now);
            }
        }
        self.messages.push(newer);
    }

    /// What a recall comes to, and whom a message follows to.
    fn recall(&mut self, at: usize, windows: &[u64], in_hand: bool, now: u64) -> (Recalled, Vec<u64>) {
        let message = &mut self.messages[at];
        let delivered = message.counts.delivered > 0;
        let mut told = Vec::new();
        let mut ended = 0;
        for (client, mail) in message.mail.clone() {
            let has = match mail {
                Mail::Waiting => in_hand || windows.contains(&client),
                Mail::Released => true,
                Mail::Marker => false,
                Mail::Gone => delivered,
            };
            if has {
                told.push(client);
            }
            ended += u32::from(message.leave_out(client, now, |counts| counts.recalled += 1));
        }
        message.pass(GapReason::Recalled, now);
        let is_followed = !matches!(message.kind, Kind::Topic | Kind::Recall);
        if !is_followed {
            told.clear();
        }
        let to_log = message.log.is_some() && is_followed && (delivered || in_hand || !windows.is_empty());
        let following = if to_log { None } else { Some(told.len() as u32) };
        let recalled = Recalled { now: ended, following, refused: 0 };
        message.recalled = Some(recalled);
        (recalled, told)
    }

    fn end_session(&mut self, client: u64) {
        for message in self.messages.iter_mut().filter(|message| message.kind == Kind::Topic) {
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
                Some(Mail::Marker) => -id(&message.accepted),
                None if message.passed.is_some() => -id(&message.accepted),
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
        End::GapNoted(GapReason::Collapsed) => counts.collapsed += 1,
        End::GapNoted(GapReason::Recalled) => counts.recalled += 1,
        End::GapNoted(_) => counts.expired += 1,
    }
}

async fn take(stage: &mut Stage, model: &mut Model, folder: &std::path::Path, step: &Step) {
    match *step {
        Step::Mail { clients, short, topic, newer } => {
            let wanted = named(clients);
            let to = Destination::Mailboxes(wanted.iter().map(|&client| ClientId(client)).collect());
            let kind = if topic { Kind::Topic } else { Kind::Text };
            let newer = Newer { key: if topic { 0 } else { newer.key }, ..newer };
            let mail = wanted.into_iter().map(|client| (client, Mail::Waiting)).collect();
            push(stage, model, to, None, (mail, kind, short), newer).await;
        }
        Step::Log { tags, short, newer } => {
            let to = store_stage::to_tags(&names(tags));
            push(stage, model, to, Some(tags), (BTreeMap::new(), Kind::Text, short), newer).await;
        }
        Step::Recall { message, windows, in_hand } => recall(stage, model, message, windows, in_hand).await,
        Step::Settle { client, message, gap } => {
            let told = model.messages.get(message).map_or(GapReason::Expired, Message::gap);
            let end = if gap { End::GapNoted(told) } else { End::Delivered };
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
            let until = Instant::now() + Duration::from_secs(10);
            while stage.store.stored_bytes(APP) != model.stored(stage.now()) {
                assert!(Instant::now() < until, "bodies stayed after their deadline");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        Step::Reopen => {
            stage.reopen(folder).await;
            stage.store.limit_stored_bytes(APP, Some(STORED_BYTES_MAX));
        }
        Step::Look { client, at_a_time } => look(stage, model, client, at_a_time).await,
    }
}

fn named(clients: u8) -> Vec<u64> {
    (1..=CLIENTS).filter(|client| clients & (1 << (client - 1)) != 0).collect()
}

async fn push(
    stage: &Stage,
    model: &mut Model,
    to: Destination,
    log: Option<u8>,
    (mail, kind, short): (BTreeMap<u64, Mail>, Kind, bool),
    newer: Newer,
) {
    let ttl = if short { SHORT_MS } else { LONG_MS };
    let replaces = newer.replaces.filter(|at| *at < model.messages.len());
    let body = vec![7; 1 + 7 * model.messages.len() % 23];
    let bytes = body.len() as u64;
    let mut accept = stage.accept(to, ttl, &body);
    accept.kind = kind;
    accept.collapse_key = ["", "k", "kk"][usize::from(newer.key)].into();
    accept.replaces = replaces.map(|at| model.messages[at].accepted.message);
    let (now, accepted) = (stage.now(), stage.store.accept(accept).await);
    let used = model.stored(now);
    if used + bytes > STORED_BYTES_MAX {
        assert_eq!(accepted.unwrap_err(), StoreError::AppQuota { used, most: STORED_BYTES_MAX });
        return;
    }
    let accepted = accepted.unwrap();
    let counts = Counts { created: mail.len() as u64, ..Counts::default() };
    let (passed, recalled, key, deadline) = (None, None, newer.key, now + ttl);
    let message = Message { accepted, deadline, bytes, log, passed, key, kind, recalled, mail, counts };
    model.accept(message, replaces, now);
}

async fn recall(stage: &Stage, model: &mut Model, at: usize, windows: u8, in_hand: bool) {
    let Some(found) = model.messages.get(at) else { return };
    let (message, before, log) = (found.accepted.message, found.recalled, found.log);
    let windows = named(windows);
    let now = stage.now();
    let (follower, outcome) = stage.recall(message, &windows, in_hand).await;
    if before.is_some() {
        assert_eq!(outcome, before, "a second recall answers as the first");
        assert!(stage.store.message(APP, follower).await.unwrap().is_none());
        return;
    }
    let (expected, told) = model.recall(at, &windows, in_hand, now);
    assert_eq!(outcome, Some(expected));
    let view = stage.store.message(APP, follower).await.unwrap();
    assert_eq!(view.is_some(), expected.following != Some(0), "{expected:?}");
    let Some(view) = view else { return };
    let accepted = Accepted {
        message: follower,
        record: view.record,
        filter: Arc::default(),
        shared: Bytes::new(),
        refused: Arc::default(),
    };
    let mail: BTreeMap<u64, Mail> = told.into_iter().map(|client| (client, Mail::Waiting)).collect();
    let counts = Counts { created: mail.len() as u64, ..Counts::default() };
    let (deadline, kind, passed) = (now + RECALL_TTL_MS, Kind::Recall, None);
    model.messages.push(Message {
        accepted,
        deadline,
        bytes: b"recall".len() as u64,
        log,
        passed,
        key: 0,
        kind,
        recalled: None,
        mail,
        counts,
    });
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
    stage.store.limit_stored_bytes(APP, Some(STORED_BYTES_MAX));
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
        stage.settled().await;
        assert_eq!(stage.store.stored_bytes(APP), model.stored(stage.now()), "{step:?}");
    }
    for client in 1..=CLIENTS {
        look(&stage, &model, client, 32).await;
    }
    for message in &model.messages {
        assert_eq!(stage.counts(&message.accepted).await, message.counts, "{:?}", message.accepted.message);
    }
    let mut totals = Counts::default();
    model.messages.iter().for_each(|message| totals.absorb(&message.counts));
    let report = stage.store.check_books().await.unwrap();
    assert_eq!((report.gap, stage.store.books(APP).await.unwrap()), (0, totals));
    let book = report.apps.get(&APP).copied().unwrap_or_default();
    assert_eq!((book.totals, book.pending), (totals, totals.pending()));
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
