//! Devices by tag and alias, their counts, and their removal, compared with a model that is too simple to be wrong.
#![allow(clippy::unwrap_used, missing_docs)]

mod store_stage;

use longwire_server::domain::{Alias, AppId, ClientId, Device, DeviceName, DropReason, Source, Tag};
use longwire_server::store::messages::devices::PAGE_MAX;
use longwire_server::store::port::{Destination, End, PageRequest};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use store_stage::{APP, Stage, device, tag_list};

const TAGS: [&str; 5] = ["a", "b", "beta", "ü", "z"];
const ALIASES: [&str; 2] = ["owner-1", "owner-2"];
const OTHER: AppId = AppId(8);

#[derive(Clone, Debug)]
enum Step {
    Register {
        app: bool,
        client: u64,
        tags: u8,
        alias: u8,
        name: u8,
    },
    Remove {
        app: bool,
        client: u64,
    },
    /// Several in one commit, so that a turn reads what it wrote itself.
    Together(Vec<(u64, u8)>),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<bool>(), 1..12_u64, 0..32_u8, 0..3_u8, 0..3_u8)
            .prop_map(|(app, client, tags, alias, name)| Step::Register { app, client, tags, alias, name }),
        2 => (any::<bool>(), 1..12_u64).prop_map(|(app, client)| Step::Remove { app, client }),
        2 => prop::collection::vec((1..4_u64, 0..32_u8), 1..6).prop_map(Step::Together),
        1 => Just(Step::Reopen),
    ]
}

/// Client numbers are the deployment's: those of the other app are above.
fn number(app: bool, client: u64) -> (AppId, u64) {
    if app { (APP, client) } else { (OTHER, 100 + client) }
}

fn made(app: AppId, client: u64, tags: u8, alias: u8, name: u8) -> Device {
    let bit = |(at, name): (usize, &&'static str)| (tags & (1 << at) != 0).then_some(*name);
    let mut tags = tag_list(&TAGS.iter().enumerate().filter_map(bit).collect::<Vec<_>>());
    tags.sort();
    let alias = ALIASES.get(usize::from(alias)).map(|alias| Alias::parse("alias", alias).unwrap());
    let name = DeviceName::parse("name", &format!("n{name}-{client}")).unwrap();
    Device { app, client: ClientId(client), name, alias, tags, attributes: Vec::new(), generation: 0 }
}

type Model = BTreeMap<u64, Device>;

async fn take(stage: &mut Stage, model: &mut Model, folder: &std::path::Path, step: Step) {
    match step {
        Step::Register { app, client, tags, alias, name } => {
            let (app, client) = number(app, client);
            let device = made(app, client, tags, alias, name);
            stage.store.project(vec![device.clone()]).await.unwrap();
            model.insert(client, device);
        }
        Step::Remove { app, client } => {
            let (app, client) = number(app, client);
            stage.store.remove_device(app, ClientId(client)).await.unwrap();
            model.remove(&client);
        }
        Step::Together(all) => {
            let all: Vec<Device> =
                all.into_iter().map(|(client, tags)| made(APP, client, tags, 0, 0)).collect();
            stage.store.project(all.clone()).await.unwrap();
            model.extend(all.into_iter().map(|device| (device.client.0, device)));
        }
        Step::Reopen => stage.reopen(folder).await,
    }
}

async fn compare(stage: &Stage, model: &Model, app: AppId, at_a_time: usize) {
    let of_app: Vec<&Device> = model.values().filter(|device| device.app == app).collect();
    assert_eq!(stage.store.device_count(app).await.unwrap(), of_app.len() as u64);
    let counts = stage.store.tag_counts(app, tag_list(&TAGS)).await.unwrap();
    let mut expected = BTreeMap::new();
    for (name, count) in TAGS.iter().zip(counts) {
        let tag = Tag::parse("tag", name).unwrap();
        let members: Vec<ClientId> =
            of_app.iter().filter(|device| device.tags.contains(&tag)).map(|device| device.client).collect();
        assert_eq!(count, members.len() as u64, "{name} of {app:?}");
        assert_eq!(tag_pages(stage, app, &tag, at_a_time).await, members, "{name} of {app:?}");
        if count > 0 {
            expected.insert(tag, count);
        }
    }
    let (mut tags, mut after) = (BTreeMap::new(), None);
    loop {
        let page = stage.store.tags_after(app, after.clone(), at_a_time).await.unwrap();
        after = page.last().map(|(tag, _)| tag.clone());
        if after.is_none() {
            break;
        }
        tags.extend(page);
    }
    assert_eq!(tags, expected);
    let names: BTreeSet<&str> = of_app.iter().map(|device| device.name.as_str()).collect();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = stage.store.devices_after(app, after.clone(), at_a_time).await.unwrap();
        after = page.last().map(|device| device.name.clone());
        if after.is_none() {
            break;
        }
        seen.extend(page.into_iter().map(|device| device.name.as_str().to_owned()));
    }
    assert!(seen.iter().map(String::as_str).eq(names), "{seen:?}");
    for name in ALIASES {
        let alias = Alias::parse("alias", name).unwrap();
        let members = of_app.iter().filter(|device| device.alias.as_ref() == Some(&alias));
        let members: Vec<ClientId> = members.map(|device| device.client).collect();
        let found = stage.store.alias_members(app, alias, ClientId(0), PAGE_MAX).await.unwrap();
        assert_eq!(found.iter().map(|device| device.client).collect::<Vec<_>>(), members);
    }
}

async fn tag_pages(stage: &Stage, app: AppId, tag: &Tag, at_a_time: usize) -> Vec<ClientId> {
    let (mut seen, mut after) = (Vec::new(), ClientId(0));
    loop {
        let page = stage.store.tag_members(app, tag.clone(), after, at_a_time).await.unwrap();
        let Some(last) = page.last() else { return seen };
        after = last.client;
        assert!(page.len() <= at_a_time);
        seen.extend(page.iter().map(|device| device.client));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn counts_and_members_are_those_of_the_devices_that_are_there(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let mut stage = Stage::open(folder.path());
            let mut model = Model::new();
            for step in steps {
                take(&mut stage, &mut model, folder.path(), step).await;
            }
            compare(&stage, &model, APP, 3).await;
            compare(&stage, &model, OTHER, 1).await;
            compare(&stage, &model, AppId(9), 3).await;
            stage.store.close().await;
        });
    }
}

#[tokio::test]
async fn what_waits_for_a_removed_device_is_dropped_and_nobody_else_loses_anything() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    for client in [1, 2] {
        stage.register(client, &["a"]).await;
    }
    let both = stage.push(Destination::Mailboxes(vec![ClientId(1), ClientId(2)]), 60_000).await;
    let had = stage.to(1).await;
    stage.delivered(1, Source::Mailbox, &had).await;
    let received = stage.to(1).await;
    stage.settle(1, Source::Mailbox, &received, End::Received).await;
    let logged = stage.to_tags(&["a"]).await;
    stage.store.remove_device(APP, ClientId(1)).await.unwrap();
    // A second time, and with acks that were on their way, nothing more happens.
    stage.store.remove_device(APP, ClientId(1)).await.unwrap();
    stage.delivered(1, Source::Mailbox, &both).await;
    stage.delivered(1, Source::AppLog, &logged).await;
    let counts = stage.counts(&both).await;
    assert_eq!((counts.created, counts.pending(), counts.dropped.total()), (2, 1, 1));
    assert_eq!(counts.dropped.0[DropReason::DeviceRemoved as usize], 1);
    assert_eq!(stage.counts(&had).await.delivered, 1);
    let counts = stage.counts(&received).await;
    assert_eq!((counts.delivered, counts.pending(), counts.dropped.total()), (1, 0, 0));
    assert_eq!(stage.counts(&logged).await.created, 0);
    assert!(stage.store.logins(vec![ClientId(1)]).await.unwrap()[0].is_none());
    let name = device(1, &[]).name;
    assert!(stage.store.device(APP, name.clone()).await.unwrap().is_none());
    assert_eq!(stage.store.resolve_names(APP, vec![name]).await.unwrap(), [None]);
    let request = PageRequest {
        client: ClientId(1),
        app: APP,
        source: Source::Mailbox,
        after: longwire_server::domain::Position::START,
        messages_max: 32,
        bytes_max: 65_536,
        ahead_max: 0,
        ahead: Box::default(),
        now: longwire_server::domain::WallMs(stage.now()),
    };
    assert!(stage.store.page(request).await.unwrap().entries.is_empty());
    let other = stage.login(2).await;
    assert!(other.mailbox.waiting && other.log.waiting);
    stage.store.close().await;
}

#[tokio::test]
async fn the_same_name_registered_anew_is_another_device_and_begins_at_the_head() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::open(folder.path());
    stage.register(1, &["a"]).await;
    let before = stage.to(1).await;
    stage.to_tags(&["a"]).await;
    stage.store.remove_device(APP, ClientId(1)).await.unwrap();
    let anew = Device { client: ClientId(2), ..device(1, &["a"]) };
    stage.store.project(vec![anew]).await.unwrap();
    stage.reopen(folder.path()).await;
    let view = stage.login(2).await;
    assert!(!view.mailbox.waiting && !view.log.waiting);
    assert_eq!(stage.counts(&before).await.dropped.total(), 1);
    assert_eq!(stage.store.tag_counts(APP, tag_list(&["a"])).await.unwrap(), [1]);
    stage.store.close().await;
}
