//! Tags and attributes as small numbers, so that a shard compares four bytes and not text.

use crate::delivery::border::{LabelId, Labelled, Reach};
use crate::domain::audience::Compare;
use crate::domain::device::{Attribute, AttributeName, AttributeValue};
use crate::domain::{AppId, Condition, Device, Filter, Tag};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;

/// Different tags and attributes with their values, over all apps, that devices online since the start have had (about
/// 100 bytes each). Beyond it a login with a new tag is refused with `full`: a device without one of its tags would miss
/// messages.
pub(crate) const LABELS_MAX: usize = 1 << 20;
/// Different attributes of an app that have labels. A device with another one is left to the store by every filter.
pub(crate) const ATTRIBUTES_MAX: usize = 256;
/// Values of an attribute that have labels of their own, which is also what a comparison looks at. All further ones have one
/// label together: a device that has it is left to the store by conditions on the attribute.
pub(crate) const VALUES_MAX: usize = 4096;

/// The interner has no number left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TooManyLabels;

/// The interner. A number is never reused.
pub(crate) struct Labels {
    apps: RwLock<Numbers>,
    max: usize,
}

#[derive(Default)]
struct Numbers {
    by_app: HashMap<AppId, OfApp>,
    next: u32,
}

#[derive(Default)]
struct OfApp {
    tags: HashMap<Tag, LabelId>,
    attributes: HashMap<AttributeName, Values>,
}

struct Values {
    labels: HashMap<AttributeValue, LabelId>,
    /// What all have whose value has no label of its own.
    other: LabelId,
}

impl Labels {
    pub(crate) fn new(max: usize) -> Labels {
        Labels { apps: RwLock::default(), max: max.min(LabelId::UNNUMBERED.0 as usize) }
    }

    /// The labels of a device, sorted; new ones are given.
    pub(crate) fn of(&self, device: &Device) -> Result<Box<[LabelId]>, TooManyLabels> {
        self.intern(device.app, &device.tags, &device.attributes)
    }

    fn intern(
        &self,
        app: AppId,
        tags: &[Tag],
        attributes: &[Attribute],
    ) -> Result<Box<[LabelId]>, TooManyLabels> {
        let all = tags.len() + attributes.len();
        if all == 0 {
            return Ok(Box::default());
        }
        let mut labels = Vec::with_capacity(all);
        if let Some(of_app) = self.apps.read().by_app.get(&app) {
            labels.extend(tags.iter().filter_map(|tag| of_app.tags.get(tag).copied()));
            labels.extend(attributes.iter().filter_map(|attribute| of_app.attribute(attribute)));
        }
        if labels.len() < all {
            labels.clear();
            let mut numbers = self.apps.write();
            for tag in tags {
                labels.push(numbers.tag(app, tag, self.max)?);
            }
            labels.extend(attributes.iter().map(|attribute| numbers.attribute(app, attribute, self.max)));
        }
        labels.sort_unstable();
        labels.dedup();
        Ok(labels.into())
    }

    /// Whom a filter is for, by the labels given so far: a tag or value that nobody had is nobody's.
    pub(crate) fn reach(&self, app: AppId, filter: Arc<Filter>) -> Reach {
        if filter.condition == Condition::Everyone {
            return Reach { filter, ..Reach::everyone() };
        }
        let numbers = self.apps.read();
        let nobody = OfApp::default();
        let of_app = numbers.by_app.get(&app).unwrap_or(&nobody);
        let condition = of_app.translate(&filter.condition);
        Reach { condition, labels_known: LabelId(numbers.next), filter }
    }
}

impl OfApp {
    fn attribute(&self, (name, value): &Attribute) -> Option<LabelId> {
        let values = self.attributes.get(name)?;
        match values.labels.get(value) {
            Some(label) => Some(*label),
            None => (values.labels.len() >= VALUES_MAX).then_some(values.other),
        }
    }

    fn translate(&self, condition: &Condition) -> Labelled {
        let all = |parts: &[Condition]| parts.iter().map(|part| self.translate(part)).collect();
        match condition {
            Condition::Everyone => Labelled::Everyone,
            Condition::Tag(tag) => Labelled::has(self.tags.get(tag).copied().into_iter().collect()),
            Condition::Attribute(name, compare, wanted) => self.compare(name, *compare, wanted),
            Condition::Not(inner) => Labelled::Not(Box::new(self.translate(inner))),
            Condition::All(parts) => Labelled::All(all(parts)),
            Condition::Any(parts) if parts.iter().all(|part| matches!(part, Condition::Tag(_))) => {
                let tag = |part: &Condition| match part {
                    Condition::Tag(tag) => self.tags.get(tag).copied(),
                    _ => None,
                };
                Labelled::has(parts.iter().filter_map(tag).collect())
            }
            Condition::Any(parts) => Labelled::Any(all(parts)),
        }
    }

    /// A comparison is the labels of the values that fit.
    fn compare(&self, name: &AttributeName, compare: Compare, wanted: &AttributeValue) -> Labelled {
        let Some(values) = self.attributes.get(name) else { return Labelled::has(Vec::new()) };
        let fitting = values.labels.iter().filter(|(value, _)| compare.fits(value.as_str(), wanted.as_str()));
        let mut labels: Vec<LabelId> = fitting.map(|(_, label)| *label).collect();
        labels.sort_unstable();
        Labelled::Has { labels: labels.into(), perhaps: Some(values.other) }
    }
}

impl Numbers {
    fn tag(&mut self, app: AppId, tag: &Tag, max: usize) -> Result<LabelId, TooManyLabels> {
        let of_app = self.by_app.entry(app).or_default();
        if let Some(label) = of_app.tags.get(tag) {
            return Ok(*label);
        }
        let label = number(&mut self.next, max).ok_or(TooManyLabels)?;
        of_app.tags.insert(tag.clone(), label);
        Ok(label)
    }

    /// Unlike one with a new tag, a device with a new attribute is let in when no number is left.
    fn attribute(&mut self, app: AppId, attribute: &Attribute, max: usize) -> LabelId {
        let of_app = self.by_app.entry(app).or_default();
        if let Some(label) = of_app.attribute(attribute) {
            return label;
        }
        let (name, value) = attribute;
        if !of_app.attributes.contains_key(name) {
            if of_app.attributes.len() >= ATTRIBUTES_MAX {
                return LabelId::UNNUMBERED;
            }
            let Some(other) = number(&mut self.next, max) else { return LabelId::UNNUMBERED };
            of_app.attributes.insert(name.clone(), Values { labels: HashMap::new(), other });
        }
        let (Some(values), Some(label)) = (of_app.attributes.get_mut(name), number(&mut self.next, max))
        else {
            return LabelId::UNNUMBERED;
        };
        values.labels.insert(value.clone(), label);
        label
    }
}

fn number(next: &mut u32, max: usize) -> Option<LabelId> {
    if *next as usize >= max {
        return None;
    }
    *next += 1;
    Some(LabelId(*next - 1))
}

#[cfg(test)]
#[path = "labels_tests.rs"]
mod tests;
