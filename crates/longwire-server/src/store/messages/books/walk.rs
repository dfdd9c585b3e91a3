//! One check: what the mailboxes of a snapshot hold, against what its counts and totals say.
//!
//! Three sums have to agree for each app: the running totals; those of the forgotten messages and the counts of all others; and
//! what waits in the mailboxes. For each message the rows that wait are its pending count. The rows are read in order, in slices,
//! with rests between, so that logins and pushes are not delayed; nothing is held but one number of each kind per app.

use super::{AppBook, BooksReport};
use crate::domain::{AppId, ClientId, Counts, MessageId, MessageRecord, Position, WallMs};
use crate::store::messages::engine::{Engine, Fault};
use crate::store::messages::layout::keys::{self, Book};
use crate::store::messages::layout::rows::{self, Reference, State};
use crate::store::messages::layout::space::Space;
use crate::store::messages::read::lookup::{profile, row};
use fjall::Readable;
use fjall::Snapshot;
use std::collections::BTreeMap;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Rows read between two rests.
const SLICE_ROWS: u32 = 1024;
/// A rest is so many times as long as the slice before it: a check takes at most a fifth of one core.
const REST_TIMES: u32 = 4;
/// The longest rest.
const REST_MAX: Duration = Duration::from_millis(50);
/// Gaps that one check logs; those beyond are counted.
const LOGGED_MAX: u32 = 10;

/// How fast a check goes.
pub(super) struct Pace {
    go_on: Weak<AtomicBool>,
    rows: u32,
    began: Instant,
}

impl Pace {
    pub(super) fn new(go_on: Weak<AtomicBool>) -> Pace {
        Pace { go_on, rows: 0, began: Instant::now() }
    }

    /// One more row. False: the store closes.
    fn step(&mut self) -> bool {
        self.rows += 1;
        if self.rows < SLICE_ROWS {
            return true;
        }
        std::thread::sleep((self.began.elapsed() * REST_TIMES).min(REST_MAX));
        (self.rows, self.began) = (0, Instant::now());
        self.go_on.upgrade().is_some_and(|go_on| go_on.load(Ordering::Relaxed))
    }
}

/// What is found of one app.
#[derive(Default)]
struct Found {
    totals: Counts,
    /// Of the forgotten messages and all others.
    counted: Counts,
    /// Rows that wait in mailboxes.
    waiting: u64,
    gap: u64,
    /// Messages of it whose own numbers do not agree.
    named: u32,
}

struct Walk<'a> {
    engine: &'a Engine,
    snapshot: Snapshot,
    pace: &'a mut Pace,
    apps: BTreeMap<AppId, Found>,
    logged: u32,
}

/// Checks; `None`: the store closes.
pub(super) fn walk(engine: &Engine, now: WallMs, pace: &mut Pace) -> Result<Option<BooksReport>, Fault> {
    let snapshot = engine.database.snapshot();
    let mut walk = Walk { engine, snapshot, pace, apps: BTreeMap::new(), logged: 0 };
    walk.totals()?;
    if !walk.messages()? || !walk.mailboxes()? || !walk.compare()? {
        return Ok(None);
    }
    let mut report = BooksReport { checked_at: now, ..BooksReport::default() };
    for (app, found) in walk.apps {
        report.gap += found.gap;
        let book = AppBook { totals: found.totals, pending: found.waiting, gap: found.gap };
        report.apps.insert(app, book);
    }
    Ok(Some(report))
}

impl Walk<'_> {
    fn of(&mut self, app: AppId) -> &mut Found {
        self.apps.entry(app).or_default()
    }

    /// The running totals, as many rows as two for each app.
    fn totals(&mut self) -> Result<(), Fault> {
        for entry in self.snapshot.iter(self.engine.spaces.of(Space::Books)) {
            let (key, value) = entry.into_inner()?;
            if *key == keys::MARK || keys::read_stored_bytes(&key).is_some() {
                continue;
            }
            let damaged = || Fault::damaged(Space::Books);
            let (app, book) = keys::read_book(&key).ok_or_else(damaged)?;
            let counts = rows::decode_counts(&value).ok_or_else(damaged)?;
            let found = self.apps.entry(app).or_default();
            match book {
                Book::All => found.totals = counts,
                Book::Forgotten => found.counted.absorb(&counts),
            }
        }
        Ok(())
    }

    /// Every message with its counts, side by side: both spaces are in the order of ids.
    fn messages(&mut self) -> Result<bool, Fault> {
        let mut records = self.snapshot.iter(self.engine.spaces.of(Space::Messages));
        let mut counts = self.snapshot.iter(self.engine.spaces.of(Space::Counts));
        let (mut record, mut count) = (next(&mut records)?, next(&mut counts)?);
        loop {
            if !self.pace.step() {
                return Ok(false);
            }
            let of_record = record.as_ref().map(|(id, _)| *id);
            let of_count = count.as_ref().map(|(id, _)| *id);
            match (of_record, of_count) {
                (None, None) => return Ok(true),
                (Some(id), other) if other.is_none_or(|other| id < other) => {
                    self.message(id, record.as_ref(), None)?;
                    record = next(&mut records)?;
                }
                (other, Some(id)) if other.is_none_or(|other| id < other) => {
                    // Counts without a record: of no app that could be asked.
                    self.name(AppId(0), id, "counts without a record");
                    self.of(AppId(0)).gap += 1;
                    count = next(&mut counts)?;
                }
                (Some(id), _) => {
                    self.message(id, record.as_ref(), count.as_ref())?;
                    (record, count) = (next(&mut records)?, next(&mut counts)?);
                }
                (None, Some(_)) => count = next(&mut counts)?,
            }
        }
    }

    fn message(&mut self, id: MessageId, record: Option<&Row>, counts: Option<&Row>) -> Result<(), Fault> {
        let Some((_, record)) = record else { return Ok(()) };
        let record = rows::decode_record(record).ok_or_else(|| Fault::damaged(Space::Messages))?;
        let app = record.app;
        let Some((_, counts)) = counts else {
            self.name(app, id, "a record without counts");
            self.of(app).gap += 1;
            return Ok(());
        };
        let counts = rows::decode_counts(counts).ok_or_else(|| Fault::damaged(Space::Counts))?;
        self.of(app).counted.absorb(&counts);
        // A row that waits although nothing is pending is found by the sum of the mailboxes, and then by name.
        let over = counts.ended() > counts.created;
        if counts.pending() == 0 && !over {
            return Ok(());
        }
        let waiting = self.waiting(id, &record)?;
        if over || waiting != counts.pending() {
            tracing::error!(pending = counts.pending(), waiting, "the books of a message do not agree");
            self.name(app, id, "its mailboxes hold another number than is pending");
            self.of(app).gap += waiting.abs_diff(counts.pending()).max(u64::from(over));
            self.of(app).named += 1;
        }
        Ok(())
    }

    /// Rows of a message that wait.
    fn waiting(&self, id: MessageId, record: &MessageRecord) -> Result<u64, Fault> {
        let mut waiting = 0;
        for target in &record.targets {
            let key = keys::mailbox(target.client, target.position);
            let reference = row(self.engine, &self.snapshot, Space::Mailbox, &key, Reference::decode)?;
            waiting +=
                u64::from(reference.is_some_and(|row| row.message == id && row.state == State::Waiting));
        }
        Ok(waiting)
    }

    /// What waits in all mailboxes, by app. A mailbox is of its device's app; without a profile, of its message's.
    fn mailboxes(&mut self) -> Result<bool, Fault> {
        let mut owner: Option<(ClientId, Option<AppId>)> = None;
        for entry in self.snapshot.iter(self.engine.spaces.of(Space::Mailbox)) {
            if !self.pace.step() {
                return Ok(false);
            }
            let (key, value) = entry.into_inner()?;
            let Some((client, _, reference)) = mail(&key, &value)? else { continue };
            if reference.state != State::Waiting {
                continue;
            }
            let app = match owner {
                Some((known, app)) if known == client => app,
                _ => profile(self.engine, &self.snapshot, client)?.map(|device| device.app),
            };
            owner = Some((client, app));
            let app = match app {
                Some(app) => app,
                None => self.record(reference.message)?.map_or(AppId(0), |record| record.app),
            };
            self.of(app).waiting += 1;
        }
        Ok(true)
    }

    fn record(&self, message: MessageId) -> Result<Option<MessageRecord>, Fault> {
        row(self.engine, &self.snapshot, Space::Messages, &keys::message(message), rows::decode_record)
    }

    /// The sums of each app.
    fn compare(&mut self) -> Result<bool, Fault> {
        let mut nameless = false;
        let mut gaps = Vec::new();
        for (app, found) in &mut self.apps {
            let sums = differences(&found.totals, &found.counted);
            let pending = found.totals.created.abs_diff(found.totals.ended() + found.waiting);
            if sums + pending > 0 {
                gaps.push((*app, sums, pending));
            }
            nameless |= pending > 0 && found.named == 0;
            // One delivery that is wrong shows in more than one comparison: the widest says how many are.
            found.gap = found.gap.max(sums).max(pending);
        }
        for (app, sums, pending) in gaps {
            tracing::error!(app = app.0, sums, pending, "the books of an app do not agree");
        }
        if nameless { self.name_strays() } else { Ok(true) }
    }

    /// Which rows wait that no message knows of, or whose message has nothing pending.
    fn name_strays(&mut self) -> Result<bool, Fault> {
        for entry in self.snapshot.iter(self.engine.spaces.of(Space::Mailbox)) {
            if !self.pace.step() {
                return Ok(false);
            }
            let (key, value) = entry.into_inner()?;
            let Some((client, position, reference)) = mail(&key, &value)? else { continue };
            if reference.state != State::Waiting {
                continue;
            }
            let record = self.record(reference.message)?;
            let app = record.as_ref().map_or(AppId(0), |record| record.app);
            let own = |target: &crate::domain::Target| target.client == client && target.position == position;
            let known = record.is_some_and(|record| record.targets.iter().any(own));
            let key = keys::message(reference.message);
            let counts = row(self.engine, &self.snapshot, Space::Counts, &key, rows::decode_counts)?;
            if !known || counts.is_none_or(|counts| counts.pending() == 0) {
                self.name(app, reference.message, "a row waits that it does not know of");
            }
        }
        Ok(true)
    }

    /// Says which message it is.
    fn name(&mut self, app: AppId, message: MessageId, what: &'static str) {
        self.logged += 1;
        if self.logged <= LOGGED_MAX {
            tracing::error!(app = app.0, %message, what, "the books have a gap");
        }
    }
}

type Row = (MessageId, fjall::UserValue);

/// The next message of a space; the space's mark is stepped over.
fn next(rows: &mut fjall::Iter) -> Result<Option<Row>, Fault> {
    for entry in rows.by_ref() {
        let (key, value) = entry.into_inner()?;
        if let Some(id) = keys::read_message(&key) {
            return Ok(Some((id, value)));
        }
    }
    Ok(None)
}

/// A row of a mailbox; `None`: the space's mark.
fn mail(key: &[u8], value: &[u8]) -> Result<Option<(ClientId, Position, Reference)>, Fault> {
    if *key == keys::MARK {
        return Ok(None);
    }
    let damaged = || Fault::damaged(Space::Mailbox);
    let client = key.get(..8).and_then(keys::read_client).ok_or_else(damaged)?;
    let position = keys::last_position(key).ok_or_else(damaged)?;
    Ok(Some((client, position, Reference::decode(value).ok_or_else(damaged)?)))
}

/// By how many deliveries two sums of the same messages differ: the widest state.
fn differences(one: &Counts, other: &Counts) -> u64 {
    let states = |counts: &Counts| {
        [counts.created, counts.delivered, counts.expired, counts.collapsed, counts.recalled]
    };
    let dropped = one.dropped.0.into_iter().zip(other.dropped.0);
    let pairs = states(one).into_iter().zip(states(other)).chain(dropped);
    pairs.map(|(one, other)| one.abs_diff(other)).max().unwrap_or(0)
}
