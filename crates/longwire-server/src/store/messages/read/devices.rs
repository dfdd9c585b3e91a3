//! Lists of devices and tags, a page at a time, each from one snapshot.

use super::lookup::{profile, row};
use super::reader::{Reply, give};
use crate::domain::{Alias, AppId, ClientId, Device, DeviceName, Tag};
use crate::store::messages::engine::{Engine, Fault};
use crate::store::messages::layout::space::Space;
use crate::store::messages::layout::{keys, rows};
use fjall::{Readable, Snapshot};
use std::ops::Bound;

/// What is asked of devices.
pub(crate) enum DevicesQuestion {
    /// How many there are of each tag; of the app for `None`.
    Counts(AppId, Vec<Option<Tag>>, Reply<Vec<u64>>),
    /// Tags with their counts, after one of them, by their texts.
    Tags(AppId, Option<Tag>, usize, Reply<Vec<(Tag, u64)>>),
    /// Devices after one of them, by their names.
    Named(AppId, Option<DeviceName>, usize, Reply<Vec<Device>>),
    /// Devices of a tag after one of them, by their numbers.
    OfTag(AppId, Tag, ClientId, usize, Reply<Vec<Device>>),
    /// Devices of an alias after one of them, by their numbers.
    OfAlias(AppId, Alias, ClientId, usize, Reply<Vec<Device>>),
    /// Profiles of names, in their order.
    Profiles(AppId, Vec<DeviceName>, Reply<Vec<Option<Device>>>),
    /// Profiles of numbers, in their order.
    Numbered(Vec<ClientId>, Reply<Vec<Option<Device>>>),
}

pub(super) fn answer(engine: &Engine, question: DevicesQuestion) {
    match question {
        DevicesQuestion::Counts(app, tags, reply) => give(reply, || counts(engine, app, &tags)),
        DevicesQuestion::Tags(app, after, max, reply) => {
            give(reply, || tags(engine, app, after.as_ref(), max));
        }
        DevicesQuestion::Named(app, after, max, reply) => {
            give(reply, || named(engine, app, after.as_ref(), max));
        }
        DevicesQuestion::OfTag(app, tag, after, max, reply) => {
            give(reply, || {
                members(engine, Space::TagMembers, keys::tag_prefix(app, tag.as_str()), after, max)
            });
        }
        DevicesQuestion::OfAlias(app, alias, after, max, reply) => {
            give(reply, || {
                members(engine, Space::Aliases, keys::alias_prefix(app, alias.as_str()), after, max)
            });
        }
        DevicesQuestion::Profiles(app, names, reply) => give(reply, || profiles(engine, app, &names)),
        DevicesQuestion::Numbered(clients, reply) => give(reply, || {
            let snapshot = engine.database.snapshot();
            clients.iter().map(|client| profile(engine, &snapshot, *client)).collect()
        }),
    }
}

fn counts(engine: &Engine, app: AppId, tags: &[Option<Tag>]) -> Result<Vec<u64>, Fault> {
    let snapshot = engine.database.snapshot();
    let count = |tag: &Option<Tag>| {
        let key = keys::tag_count(app, tag.as_ref().map_or("", Tag::as_str));
        Ok(row(engine, &snapshot, Space::TagCounts, &key, rows::decode_count)?.unwrap_or(0))
    };
    tags.iter().map(count).collect()
}

fn tags(engine: &Engine, app: AppId, after: Option<&Tag>, max: usize) -> Result<Vec<(Tag, u64)>, Fault> {
    let damaged = || Fault::damaged(Space::TagCounts);
    let snapshot = engine.database.snapshot();
    // Without a tag to begin after, it is the count of all devices that is stepped over.
    let from = keys::tag_count(app, after.map_or("", Tag::as_str));
    let mut page = Vec::new();
    for entry in of_app(engine, &snapshot, Space::TagCounts, app, from).take(max) {
        let (key, value) = entry.into_inner()?;
        let tag = keys::read_text(&key).and_then(|text| Tag::parse("tag", text).ok()).ok_or_else(damaged)?;
        page.push((tag, rows::decode_count(&value).ok_or_else(damaged)?));
    }
    Ok(page)
}

fn named(engine: &Engine, app: AppId, after: Option<&DeviceName>, max: usize) -> Result<Vec<Device>, Fault> {
    let snapshot = engine.database.snapshot();
    let from = keys::name(app, after.map_or("", DeviceName::as_str));
    let mut page = Vec::new();
    for entry in of_app(engine, &snapshot, Space::Names, app, from).take(max) {
        let (_, value) = entry.into_inner()?;
        let client = rows::decode_client(&value).ok_or_else(|| Fault::damaged(Space::Names))?;
        page.extend(profile(engine, &snapshot, client)?);
    }
    Ok(page)
}

/// The rows of an app after a key that begins with the app's number.
fn of_app(engine: &Engine, snapshot: &Snapshot, space: Space, app: AppId, from: Vec<u8>) -> fjall::Iter {
    let until = match app.0.checked_add(1) {
        Some(next) => Bound::Excluded(keys::app(AppId(next)).to_vec()),
        None => Bound::Excluded(keys::MARK.to_vec()),
    };
    snapshot.range(engine.spaces.of(space), (Bound::Excluded(from), until))
}

fn members(
    engine: &Engine,
    space: Space,
    prefix: Vec<u8>,
    after: ClientId,
    max: usize,
) -> Result<Vec<Device>, Fault> {
    let snapshot = engine.database.snapshot();
    let at = |client: u64| [&prefix[..], &client.to_be_bytes()].concat();
    let range = (Bound::Excluded(at(after.0)), Bound::Included(at(u64::MAX)));
    let mut page = Vec::new();
    for entry in snapshot.range(engine.spaces.of(space), range).take(max) {
        let client = keys::last_client(&entry.key()?).ok_or_else(|| Fault::damaged(space))?;
        page.extend(profile(engine, &snapshot, client)?);
    }
    Ok(page)
}

fn profiles(engine: &Engine, app: AppId, names: &[DeviceName]) -> Result<Vec<Option<Device>>, Fault> {
    let snapshot = engine.database.snapshot();
    let find = |name: &DeviceName| {
        let key = keys::name(app, name.as_str());
        match row(engine, &snapshot, Space::Names, &key, rows::decode_client)? {
            Some(client) => profile(engine, &snapshot, client),
            None => Ok(None),
        }
    };
    names.iter().map(find).collect()
}
