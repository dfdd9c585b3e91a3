//! The same audiences in the plainest words: everybody is asked, one by one.

use longwire_server::domain::audience::{Audience, Compare, Condition, Filter};
use longwire_server::domain::device::{AttributeName, AttributeValue};
use longwire_server::domain::{Alias, ClientId, DeviceName, Registration, Tag};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) const TAGS: [&str; 6] = ["red", "green", "blue", "beta", "muted", "it's"];
pub(crate) const VERSIONS: [&str; 6] = ["1.0", "1.2", "1.2.0", "1.10", "2.0.1", "next"];
pub(crate) const COUNTRIES: [&str; 3] = ["de", "fr", "jp"];
pub(crate) const ALIASES: [&str; 3] = ["ann", "ben", "cem"];

/// What a device is at a moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Profile {
    pub(crate) alias: Option<&'static str>,
    pub(crate) tags: BTreeSet<&'static str>,
    pub(crate) attributes: BTreeMap<&'static str, &'static str>,
}

/// Xorshift64*, from `LONGWIRE_TEST_SEED` or the clock.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new() -> Dice {
        let given = std::env::var("LONGWIRE_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let now = || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        let seed = given.unwrap_or_else(now);
        eprintln!("LONGWIRE_TEST_SEED={seed}");
        Dice(seed | 1)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % end as u64) as usize
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    pub(crate) fn profile(&mut self) -> Profile {
        let mut profile =
            Profile { alias: (!self.one_in(3)).then(|| self.of(&ALIASES)), ..Profile::default() };
        for tag in TAGS {
            if self.one_in(3) {
                profile.tags.insert(tag);
            }
        }
        if !self.one_in(4) {
            profile.attributes.insert("version", self.of(&VERSIONS));
        }
        if self.one_in(2) {
            profile.attributes.insert("country", self.of(&COUNTRIES));
        }
        profile
    }

    pub(crate) fn condition(&mut self, deep: usize) -> Condition {
        match self.below(if deep == 0 { 5 } else { 9 }) {
            0..3 => Condition::Tag(Tag::parse("tag", self.of(&TAGS)).unwrap()),
            3 => attribute("version", self.of(&Compare::ALL), self.of(&VERSIONS)),
            4 => attribute("country", self.of(&Compare::ALL[..2]), self.of(&COUNTRIES)),
            5 | 6 => Condition::Not(Box::new(self.condition(deep - 1))),
            more => {
                let parts = (0..2 + self.below(2)).map(|_| self.condition(deep - 1)).collect();
                if more == 7 { Condition::All(parts) } else { Condition::Any(parts) }
            }
        }
    }

    pub(crate) fn audience(&mut self, population: usize) -> Audience {
        let condition = if self.one_in(6) {
            Condition::Everyone
        } else {
            // As a caller would write it.
            Condition::parse("condition", &self.condition(3).to_string()).unwrap()
        };
        let mut filter = Filter::of(condition);
        if self.one_in(4) {
            filter.sample = 1 + self.below(65_536) as u32;
        }
        let mut audience = Audience { filter, online_only: self.one_in(6), ..Audience::default() };
        if self.one_in(5) {
            let names = (0..1 + self.below(6)).map(|_| name(self.below(population + 2)));
            audience.names = Some(names.collect::<BTreeSet<_>>().into_iter().collect());
        }
        if self.one_in(6) {
            let aliases = (0..1 + self.below(2)).map(|_| Alias::parse("alias", self.of(&ALIASES)).unwrap());
            audience.aliases = Some(aliases.collect::<BTreeSet<_>>().into_iter().collect());
        }
        audience
    }
}

fn attribute(name: &str, compare: Compare, value: &str) -> Condition {
    let name = AttributeName::parse("name", name).unwrap();
    Condition::Attribute(name, compare, AttributeValue::parse("value", value).unwrap())
}

pub(crate) fn name(number: usize) -> DeviceName {
    DeviceName::parse("name", &format!("device-{number}")).unwrap()
}

impl Profile {
    pub(crate) fn registration(&self, number: usize) -> Registration {
        let tags: BTreeSet<Tag> = self.tags.iter().map(|tag| Tag::parse("tag", tag).unwrap()).collect();
        let attributes = self.attributes.iter().map(|(name, value)| {
            (AttributeName::parse("name", name).unwrap(), AttributeValue::parse("value", value).unwrap())
        });
        Registration {
            name: Some(name(number)),
            alias: self.alias.map(|alias| Alias::parse("alias", alias).unwrap()),
            tags: Some(tags.into_iter().collect()),
            attributes: Some(attributes.collect()),
        }
    }

    /// The filter alone: it is for those who come back, by what they are then.
    pub(crate) fn is_meant(&self, filter: &Filter, client: ClientId) -> bool {
        filter.shares(client) && self.fits(&filter.condition)
    }

    /// All that an audience asks, but for being connected.
    pub(crate) fn is_addressed(&self, audience: &Audience, number: usize, client: ClientId) -> bool {
        let named = audience.names.as_ref().is_none_or(|names| names.contains(&name(number)));
        let aliased = audience.aliases.as_ref().is_none_or(|aliases| {
            self.alias.is_some_and(|own| aliases.iter().any(|alias| alias.as_str() == own))
        });
        named && aliased && self.is_meant(&audience.filter, client)
    }

    fn fits(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Everyone => true,
            Condition::Tag(tag) => self.tags.contains(tag.as_str()),
            Condition::Attribute(name, compare, wanted) => {
                self.attributes.get(name.as_str()).is_some_and(|own| compares(own, *compare, wanted.as_str()))
            }
            Condition::Not(inner) => !self.fits(inner),
            Condition::All(parts) => parts.iter().all(|part| self.fits(part)),
            Condition::Any(parts) => parts.iter().any(|part| self.fits(part)),
        }
    }
}

fn compares(own: &str, compare: Compare, wanted: &str) -> bool {
    let version = |text: &str| {
        let mut parts: Vec<u64> =
            text.split('.').map(str::parse).collect::<Result<_, std::num::ParseIntError>>().ok()?;
        while parts.last() == Some(&0) {
            parts.pop();
        }
        Some(parts)
    };
    let versions = version(own).zip(version(wanted));
    let same = own == wanted || versions.as_ref().is_some_and(|(own, wanted)| own == wanted);
    let by = |judge: fn(&Vec<u64>, &Vec<u64>) -> bool| {
        versions.as_ref().is_some_and(|(own, wanted)| judge(own, wanted))
    };
    match compare {
        Compare::Equal => same,
        Compare::Unequal => !same,
        Compare::Less => by(|own, wanted| own < wanted),
        Compare::AtMost => by(|own, wanted| own <= wanted),
        Compare::More => by(|own, wanted| own > wanted),
        Compare::AtLeast => by(|own, wanted| own >= wanted),
    }
}
