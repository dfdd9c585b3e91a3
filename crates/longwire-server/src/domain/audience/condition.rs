//! An expression over a device's tags and attributes, as a value.

use crate::domain::Tag;
use crate::domain::device::{Attribute, AttributeName, AttributeValue};
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// Nodes of one condition; more are refused.
pub const NODES_MAX: usize = 128;
/// How deep a condition may be.
pub const DEPTH_MAX: usize = 16;

/// A condition over tags and attributes. Bounded: [`NODES_MAX`], [`DEPTH_MAX`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Condition {
    /// Fits every device.
    #[default]
    Everyone,
    /// The device has this tag.
    Tag(Tag),
    /// The device has this attribute, and its value compares so.
    Attribute(AttributeName, Compare, AttributeValue),
    /// It does not fit.
    Not(Box<Condition>),
    /// Every one fits.
    All(Vec<Condition>),
    /// At least one fits.
    Any(Vec<Condition>),
}

/// How a value compares. A device without the attribute fits none of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Compare {
    /// `==`: the same text, or the same version.
    Equal = 0,
    /// `!=`
    Unequal = 1,
    /// `<`, of versions; false where one of the two is none.
    Less = 2,
    /// `<=`
    AtMost = 3,
    /// `>`
    More = 4,
    /// `>=`
    AtLeast = 5,
}

impl Compare {
    /// All, in the order of their numbers.
    pub const ALL: [Compare; 6] =
        [Compare::Equal, Compare::Unequal, Compare::Less, Compare::AtMost, Compare::More, Compare::AtLeast];

    /// Whether `value` compares so with `wanted`.
    #[must_use]
    pub fn fits(self, value: &str, wanted: &str) -> bool {
        let order = versions(value, wanted);
        match self {
            Compare::Equal => value == wanted || order == Some(Ordering::Equal),
            Compare::Unequal => value != wanted && order != Some(Ordering::Equal),
            Compare::Less => order == Some(Ordering::Less),
            Compare::AtMost => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Compare::More => order == Some(Ordering::Greater),
            Compare::AtLeast => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

/// The order of two versions: numbers parted by dots, compared one by one, a missing one as 0. `None` if one is no version.
fn versions(one: &str, other: &str) -> Option<Ordering> {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    let mut found = Ordering::Equal;
    loop {
        let (left, right) = (one.next(), other.next());
        if left.is_none() && right.is_none() {
            return Some(found);
        }
        found = found.then(number(left)?.cmp(&number(right)?));
    }
}

/// Digits only: a sign would be taken too.
fn number(part: Option<&str>) -> Option<u64> {
    let Some(part) = part else { return Some(0) };
    if part.bytes().all(|byte| byte.is_ascii_digit()) { part.parse().ok() } else { None }
}

impl Condition {
    /// Devices with at least one of these tags.
    #[must_use]
    pub fn any_tag(tags: impl IntoIterator<Item = Tag>) -> Condition {
        Condition::Any(tags.into_iter().map(Condition::Tag).collect())
    }

    /// Whether it fits a device with these tags and attributes, both sorted.
    #[must_use]
    pub fn fits(&self, tags: &[Tag], attributes: &[Attribute]) -> bool {
        match self {
            Condition::Everyone => true,
            Condition::Tag(tag) => tags.binary_search(tag).is_ok(),
            Condition::Attribute(name, compare, wanted) => attributes
                .binary_search_by(|(other, _)| other.cmp(name))
                .is_ok_and(|at| compare.fits(attributes[at].1.as_str(), wanted.as_str())),
            Condition::Not(inner) => !inner.fits(tags, attributes),
            Condition::All(all) => all.iter().all(|one| one.fits(tags, attributes)),
            Condition::Any(any) => any.iter().any(|one| one.fits(tags, attributes)),
        }
    }

    /// Parts of it, itself included.
    #[must_use]
    pub fn nodes(&self) -> usize {
        match self {
            Condition::Everyone | Condition::Tag(_) | Condition::Attribute(..) => 1,
            Condition::Not(inner) => 1 + inner.nodes(),
            Condition::All(parts) | Condition::Any(parts) => {
                1 + parts.iter().map(Condition::nodes).sum::<usize>()
            }
        }
    }

    /// How deep it is; one part = 1.
    #[must_use]
    pub fn depth(&self) -> usize {
        match self {
            Condition::Everyone | Condition::Tag(_) | Condition::Attribute(..) => 1,
            Condition::Not(inner) => 1 + inner.depth(),
            Condition::All(parts) | Condition::Any(parts) => {
                1 + parts.iter().map(Condition::depth).max().unwrap_or(0)
            }
        }
    }

    /// Tags of which every device that it fits has at least one; `None` if there are no such tags. The log keeps an entry in
    /// the indexes of these, or in the one that every device reads.
    #[must_use]
    pub fn cover(&self) -> Option<BTreeSet<Tag>> {
        match self {
            Condition::Tag(tag) => Some(BTreeSet::from([tag.clone()])),
            Condition::All(all) => all.iter().filter_map(Condition::cover).min_by_key(BTreeSet::len),
            Condition::Any(any) => {
                any.iter().map(Condition::cover).try_fold(BTreeSet::new(), |mut all, one| {
                    all.extend(one?);
                    Some(all)
                })
            }
            Condition::Everyone | Condition::Attribute(..) | Condition::Not(_) => None,
        }
    }
}
