//! Who received is who should have: random audiences over random tags and attributes, while devices come, go and change,
//! against a model that asks everybody one by one. Seed: `LONGWIRE_TEST_SEED`.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

mod model;
mod node;

use longwire_proto::id::{ClientId, MessageId};
use longwire_server::delivery::hub::{PushError, Receipt, Registered};
use longwire_server::domain::Filter;
use longwire_server::domain::audience::filter::PARTS;
use longwire_server::domain::audience::{Audience, MatchedBy, OnlineBy};
use model::{Dice, Profile};
use node::{Device, Node, PATIENCE};
use std::collections::{HashMap, HashSet};
use std::time::Instant;
use tokio::task::JoinSet;

/// Pushes, each judged for the whole population.
const CASES: usize = 10_000;
/// Pushes between two changes of the population; they go out together.
const CASES_OF_ROUND: usize = 25;
const POPULATION_MIN: usize = 12;
const POPULATION_MAX: usize = 40;

/// A device and what it is owed.
struct Person {
    registered: Registered,
    profile: Profile,
    device: Option<Device>,
    /// Entries of the log that came before it was last seen are not owed when it returns.
    away_since: usize,
    /// What it must get and has not got yet.
    owed: HashSet<MessageId>,
    /// What it got, and in which session.
    got: HashMap<MessageId, u32>,
    session: u32,
}

struct World {
    node: Node,
    dice: Dice,
    people: Vec<Person>,
    /// Everything that went into the log, with its place there.
    log: Vec<(MessageId, Filter)>,
    places: HashMap<MessageId, usize>,
    counts: Counts,
}

#[derive(Default, Debug)]
struct Counts {
    stored: usize,
    online_only: usize,
    addressed: usize,
    nobody: usize,
    received: usize,
    returns: usize,
    late: usize,
    repeated: usize,
    estimates: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_received_is_who_should_have() {
    let mut world = World {
        node: Node::start().await,
        dice: Dice::new(),
        people: Vec::new(),
        log: Vec::new(),
        places: HashMap::new(),
        counts: Counts::default(),
    };
    for _ in 0..POPULATION_MIN {
        world.join().await;
    }
    for _ in 0..CASES / CASES_OF_ROUND {
        for _ in 0..world.dice.below(8) {
            world.change().await;
        }
        world.push_many().await;
        world.receive_all();
    }
    for at in 0..world.people.len() {
        world.come(at);
    }
    world.receive_all();
    eprintln!("{} devices: {:?}", world.people.len(), world.counts);
    let Counts { stored, online_only, addressed, nobody, .. } = world.counts;
    assert_eq!(stored + online_only + addressed + nobody, CASES);
    assert!(stored > 0 && online_only > 0 && addressed > 0 && nobody > 0);
}

impl World {
    /// A new device, which begins at the log's head.
    async fn join(&mut self) {
        let profile = self.dice.profile();
        let registered = self.node.register(profile.registration(self.people.len())).await;
        self.people.push(Person {
            registered,
            profile,
            device: None,
            away_since: self.log.len(),
            owed: HashSet::new(),
            got: HashMap::new(),
            session: 0,
        });
        if !self.dice.one_in(3) {
            self.come(self.people.len() - 1);
        }
    }

    async fn change(&mut self) {
        if self.people.len() < POPULATION_MAX && self.dice.one_in(8) {
            return self.join().await;
        }
        let at = self.dice.below(self.people.len());
        match self.dice.below(3) {
            0 => {
                let alias = self.people[at].profile.alias;
                let mut profile = self.dice.profile();
                // What it returned for is judged page by page, by what it is then.
                self.receive(at);
                // A registration without an alias leaves it.
                profile.alias = profile.alias.or(alias);
                self.node.register(profile.registration(at)).await;
                self.people[at].profile = profile;
            }
            _ if self.people[at].device.is_some() => self.leave(at).await,
            _ => self.come(at),
        }
    }

    /// A device returns: what is in the log since is for it by what it is now.
    fn come(&mut self, at: usize) {
        let Person { registered, profile, device, away_since, owed, session, .. } = &mut self.people[at];
        if device.is_some() {
            return;
        }
        let missed = &self.log[*away_since..];
        let meant = missed.iter().filter(|(_, filter)| profile.is_meant(filter, registered.client));
        owed.extend(meant.map(|(message, _)| *message));
        *device = Some(Device::login(&self.node, registered));
        *session += 1;
        self.counts.returns += 1;
    }

    async fn leave(&mut self, at: usize) {
        self.receive(at);
        let person = &mut self.people[at];
        person.device = None;
        person.away_since = self.log.len();
        self.node.gone(model::name(at).as_str()).await;
    }

    async fn push_many(&mut self) {
        let mut pushes = JoinSet::new();
        for _ in 0..CASES_OF_ROUND {
            let audience = self.dice.audience(self.people.len());
            let ttl_s = if self.dice.one_in(4) { 0 } else { 60 };
            let node = self.node.clone();
            pushes.spawn(async move {
                let receipt = node.push(audience.clone(), ttl_s).await;
                (audience, receipt)
            });
        }
        while let Some(pushed) = pushes.join_next().await {
            let (audience, receipt) = pushed.unwrap();
            self.pushed(&audience, receipt);
        }
    }

    /// Notes who is owed a message now.
    fn pushed(&mut self, audience: &Audience, receipt: Result<Receipt, PushError>) {
        let online = |person: &Person| person.device.is_some();
        let meant: Vec<usize> = (0..self.people.len())
            .filter(|at| {
                let person = &self.people[*at];
                let fits = person.profile.is_addressed(audience, *at, person.registered.client);
                fits && (online(person) || !audience.online_only)
            })
            .collect();
        let receipt = match receipt {
            Ok(receipt) => receipt,
            Err(PushError::NobodyMatches) => {
                assert!(
                    audience.is_addressed() && meant.is_empty(),
                    "{audience:?} met nobody, not {meant:?}"
                );
                self.counts.nobody += 1;
                return;
            }
            Err(error) => panic!("{error}"),
        };
        self.check_estimate(audience, &receipt, &meant);
        let stored = receipt.ttl_s > 0;
        match (audience.is_addressed(), stored) {
            (true, _) => self.counts.addressed += 1,
            (false, true) => {
                self.counts.stored += 1;
                self.places.insert(receipt.message, self.log.len());
                self.log.push((receipt.message, audience.filter.clone()));
            }
            (false, false) => self.counts.online_only += 1,
        }
        for at in meant {
            let person = &mut self.people[at];
            // Whoever is away and not addressed is judged when it returns.
            if person.device.is_some() || (stored && audience.is_addressed()) {
                person.owed.insert(receipt.message);
            }
        }
    }

    fn check_estimate(&mut self, audience: &Audience, receipt: &Receipt, meant: &[usize]) {
        let estimate = &receipt.audience;
        let online = meant.iter().filter(|at| self.people[**at].device.is_some()).count() as u64;
        let all = meant.len() as u64;
        if audience.is_addressed() {
            assert_eq!((estimate.matched, estimate.online), (Some(all), Some(online)), "{audience:?}");
            assert_eq!(estimate.matched_by, MatchedBy::Exact);
        } else if audience.filter.sample == PARTS {
            // Of a log audience for whoever is connected the counts are of all.
            if estimate.matched_by == MatchedBy::Counts && !audience.online_only {
                assert_eq!(estimate.matched, Some(all), "{audience:?}");
            }
            if estimate.online_by != OnlineBy::None {
                assert_eq!(estimate.online, Some(online), "{audience:?}");
                self.counts.estimates += 1;
            }
        }
    }

    fn receive_all(&mut self) {
        for at in 0..self.people.len() {
            self.receive(at);
        }
    }

    fn receive(&mut self, at: usize) {
        receive(&mut self.people[at], at, &self.log, &self.places, &mut self.counts);
    }
}

/// Everything that a connected device is owed comes, and a PONG without anything else before it.
fn receive(
    person: &mut Person,
    at: usize,
    log: &[(MessageId, Filter)],
    places: &HashMap<MessageId, usize>,
    counts: &mut Counts,
) {
    let Person { registered, profile, device: Some(device), owed, got, session, .. } = person else { return };
    let client: ClientId = registered.client;
    let deadline = Instant::now() + PATIENCE;
    while !owed.is_empty() {
        let missing: Vec<_> = owed.iter().map(|message| places.get(message).map(|at| &log[*at])).collect();
        assert!(
            Instant::now() < deadline,
            "device {at} {profile:?} did not get {owed:?}, {missing:?}; {counts:?}"
        );
        device.ping();
        while let Some(message) = device.receive() {
            counts.received += 1;
            if let Some(before) = got.insert(message, *session) {
                assert_ne!(before, *session, "device {at} got {message} twice in a session");
                counts.repeated += 1;
            } else if !owed.remove(&message) {
                // What it was not meant to get then, and had not gone past when it was changed.
                let place =
                    places.get(&message).unwrap_or_else(|| panic!("device {at} got {message} {profile:?}"));
                let (_, filter) = &log[*place];
                assert!(profile.is_meant(filter, client), "device {at} got {filter:?}, is {profile:?}");
                counts.late += 1;
            }
        }
    }
    device.ping();
    assert_eq!(device.receive(), None, "device {at} {profile:?}");
}
