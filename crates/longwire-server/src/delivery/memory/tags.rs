//! Tags as small numbers, so that a shard compares four bytes and not text.

use crate::delivery::border::TagId;
use crate::domain::{AppId, Filter, Tag};
use parking_lot::RwLock;
use std::collections::HashMap;

/// Different tags, over all apps, that devices online since the start have had (about 100 bytes each). Beyond it a
/// login with a new tag is refused with `full`: a device without one of its tags would miss messages.
pub(crate) const TAGS_MAX: usize = 1 << 20;

/// A number that no tag has. A message for tags that nobody online has carries it: its list must not be empty, which
/// would mean everybody, and the shards must see its position.
pub(crate) const NOBODY: TagId = TagId(u32::MAX);

/// The interner has no number left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TooManyTags;

/// The interner. A number is never reused.
pub(crate) struct Tags {
    apps: RwLock<Numbers>,
    max: usize,
}

#[derive(Default)]
struct Numbers {
    by_app: HashMap<AppId, HashMap<Tag, TagId>>,
    next: u32,
}

impl Tags {
    pub(crate) fn new(max: usize) -> Tags {
        Tags { apps: RwLock::default(), max: max.min(u32::MAX as usize) }
    }

    /// The numbers of a device's tags, sorted; new ones are given.
    pub(crate) fn intern(&self, app: AppId, tags: &[Tag]) -> Result<Box<[TagId]>, TooManyTags> {
        if tags.is_empty() {
            return Ok(Box::default());
        }
        let known = self.known(app, tags);
        if known.len() == tags.len() {
            return Ok(known.into());
        }
        let mut numbers = self.apps.write();
        let mut ids = Vec::with_capacity(tags.len());
        for tag in tags {
            ids.push(numbers.number(app, tag, self.max)?);
        }
        ids.sort_unstable();
        Ok(ids.into())
    }

    /// The numbers of the tags that cover a filter, as far as there are any, sorted: [`NOBODY`] if there are none, empty for
    /// every device. And whether everybody who has one of them is meant.
    pub(crate) fn audience(&self, app: AppId, filter: &Filter) -> (Box<[TagId]>, bool) {
        let exact = filter.is_its_cover();
        let Some(cover) = filter.condition.cover() else { return (Box::default(), exact) };
        let tags: Vec<Tag> = cover.into_iter().collect();
        let known = self.known(app, &tags);
        (if known.is_empty() { Box::new([NOBODY]) } else { known.into() }, exact)
    }

    fn known(&self, app: AppId, tags: &[Tag]) -> Vec<TagId> {
        let numbers = self.apps.read();
        let Some(of_app) = numbers.by_app.get(&app) else { return Vec::new() };
        let mut ids: Vec<TagId> = tags.iter().filter_map(|tag| of_app.get(tag).copied()).collect();
        ids.sort_unstable();
        ids
    }
}

impl Numbers {
    fn number(&mut self, app: AppId, tag: &Tag, max: usize) -> Result<TagId, TooManyTags> {
        let of_app = self.by_app.entry(app).or_default();
        if let Some(id) = of_app.get(tag) {
            return Ok(*id);
        }
        if self.next as usize >= max {
            return Err(TooManyTags);
        }
        let id = TagId(self.next);
        self.next += 1;
        of_app.insert(tag.clone(), id);
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::domain::Condition;

    fn tag(text: &str) -> Tag {
        Tag::parse("tag", text).unwrap()
    }

    #[test]
    fn a_tag_has_one_number_and_two_apps_share_none() {
        let tags = Tags::new(10);
        let one = tags.intern(AppId(1), &[tag("a"), tag("b")]).unwrap();
        assert_eq!(one, tags.intern(AppId(1), &[tag("a"), tag("b")]).unwrap());
        let other = tags.intern(AppId(2), &[tag("a")]).unwrap();
        assert!(!one.contains(&other[0]));
    }

    #[test]
    fn an_audience_of_unknown_tags_is_nobody_and_never_everybody() {
        let tags = Tags::new(10);
        let any = |names: &[&str]| Filter::of(Condition::any_tag(names.iter().map(|name| tag(name))));
        assert_eq!(*tags.audience(AppId(1), &any(&["a"])).0, [NOBODY]);
        let ids = tags.intern(AppId(1), &[tag("a")]).unwrap();
        assert_eq!(tags.audience(AppId(1), &any(&["a", "b"])), (ids, true));
        assert_eq!(tags.audience(AppId(1), &Filter::default()), (Box::default(), true));
    }

    #[test]
    fn the_number_after_the_last_is_refused_and_known_tags_go_on() {
        let tags = Tags::new(2);
        tags.intern(AppId(1), &[tag("a"), tag("b")]).unwrap();
        assert_eq!(tags.intern(AppId(1), &[tag("a"), tag("c")]), Err(TooManyTags));
        assert!(tags.intern(AppId(1), &[tag("b")]).is_ok());
    }
}
