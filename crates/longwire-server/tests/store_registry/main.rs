//! Conversations with the registry.
#![allow(clippy::unwrap_used, missing_docs)]

use longwire_server::domain::device::{AttributeName, AttributeValue};
use longwire_server::domain::{
    Alias, AliasChange, App, AppId, AppKey, AppSecret, ChangeRefused, ClientId, DeviceChange, DeviceName,
    DuplicateLogin, HeartbeatPolicy, HeartbeatProfile, Registration, Tag, Token, WallMs, device_change,
};
use longwire_server::store::registry::{Enrolled, RegisterError, Registry, RegistryOptions};
use sqlx::{AnyConnection, Connection as _};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

#[path = "../engines/mod.rs"]
mod engines;
mod files;
mod servers;

fn url(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("registry.db").display())
}

/// Where a registry can be.
struct Place {
    url: String,
    _folder: Option<tempfile::TempDir>,
}

impl Place {
    async fn sqlite() -> Place {
        let folder = tempfile::tempdir().unwrap();
        Place { url: url(folder.path()), _folder: Some(folder) }
    }

    async fn mariadb() -> Place {
        Place::server(engines::Kind::MariaDb).await
    }

    async fn postgres() -> Place {
        Place::server(engines::Kind::Postgres).await
    }

    /// An empty database of the server that all tests here share.
    async fn server(kind: engines::Kind) -> Place {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("place_{}", NUMBER.fetch_add(1, Relaxed));
        let engine = tokio::task::spawn_blocking(move || engines::shared(kind)).await.unwrap();
        let mut connection = reach(&engine.first()).await;
        let make = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(make).execute(&mut connection).await.unwrap();
        Place { url: engine.url(&name), _folder: None }
    }

    async fn open(&self) -> Registry {
        Registry::open(&self.url).await.unwrap()
    }

    /// The URL, for a connection past ours, which makes no file by itself.
    fn made(&self) -> String {
        if self.url.starts_with("sqlite:") { format!("{}?mode=rwc", self.url) } else { self.url.clone() }
    }

    /// Why it does not open; waits for nobody.
    async fn refusal(&self) -> String {
        self.refusal_if_any().await.expect("it opened")
    }

    /// The same; `None`: it opened, and is closed again.
    async fn refusal_if_any(&self) -> Option<String> {
        let terms = RegistryOptions { start_max: Duration::ZERO, ..RegistryOptions::new(self.url.as_str()) };
        match Registry::open_on(&terms).await {
            Ok(registry) => {
                registry.close().await;
                None
            }
            Err(error) => Some(error.to_string()),
        }
    }
}

/// A connection past ours; a server that was just started may need a moment.
async fn reach(url: &str) -> AnyConnection {
    sqlx::any::install_default_drivers();
    let begin = Instant::now();
    loop {
        match AnyConnection::connect(url).await {
            Ok(connection) => return connection,
            Err(error) => assert!(begin.elapsed() < Duration::from_secs(20), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Conversations that are the same wherever the registry is.
macro_rules! everywhere {
    ($($conversation:ident),* $(,)?) => {
        everywhere!(@ sqlite $($conversation)*);
        everywhere!(@ mariadb $($conversation)*);
        everywhere!(@ postgres $($conversation)*);
    };
    (@ $place:ident $($conversation:ident)*) => {
        mod $place {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $conversation() {
                    super::$conversation(&super::Place::$place().await).await;
                }
            )*
        }
    };
}

everywhere!(
    apps_and_the_token_key_survive_a_reopen,
    what_is_set_for_an_app_survives_a_reopen,
    the_admin_key_is_replaced,
    a_device_is_made_once_and_then_updated,
    changes_share_a_transaction_in_order_and_what_is_refused_leaves_its_device,
    a_removed_automatic_device_makes_room_for_another,
    a_thousand_registrations_at_once_get_numbers_of_their_own,
    names_that_only_look_alike_are_different_devices,
    the_longest_names_and_the_most_tags_fit,
    names_that_log_in_are_registered_once_and_up_to_the_quota,
    registrations_and_logins_of_the_same_names_agree,
    an_issued_name_is_32_hexadecimal_digits,
    another_programs_tables_are_left_alone,
    a_newer_servers_tables_are_not_touched,
    a_second_registry_is_refused_while_the_first_is_open,
);

async fn app(registry: &Registry) -> App {
    let secret = AppSecret::from_random([3; 32]);
    registry.create_app(&AppKey::parse("shop").unwrap(), secret.hash(), true).await.unwrap()
}

fn named(name: &str) -> Registration {
    Registration { name: Some(DeviceName::parse("name", name).unwrap()), ..Registration::default() }
}

fn tags(tags: &[&str]) -> Option<Vec<Tag>> {
    Some(tags.iter().map(|tag| Tag::parse("tag", tag).unwrap()).collect())
}

async fn apps_and_the_token_key_survive_a_reopen(place: &Place) {
    let registry = place.open().await;
    let made = app(&registry).await;
    let token = Token { app: made.id, client: ClientId(1), generation: 0, expires: WallMs(9_000) };
    let text = registry.token_key().await.unwrap().sign(&token);
    let again = registry.create_app(&made.key, made.secret_hash, false).await;
    assert!(again.unwrap_err().to_string().contains("exists already"));
    registry.close().await;
    let registry = place.open().await;
    let apps = registry.apps().await.unwrap();
    assert_eq!(apps.len(), 1);
    assert_eq!((apps[0].id, apps[0].key.as_str(), apps[0].open_registration), (made.id, "shop", true));
    assert!(apps[0].secret_hash.matches(&AppSecret::from_random([3; 32])));
    assert_eq!(registry.token_key().await.unwrap().verify(text.as_bytes(), WallMs(0)), Ok(token));
}

async fn a_device_is_made_once_and_then_updated(place: &Place) {
    let registry = place.open().await;
    let app = app(&registry).await;
    let alias = Alias::parse("alias", "ann").unwrap();
    let first = Registration { alias: Some(alias.clone()), tags: tags(&["a", "b"]), ..named("phone") };
    let made = registry.register(&app, first, false).await.unwrap();
    assert!(made.created);
    assert_eq!(made.device.alias, Some(alias.clone()));
    // A caller who may only make new ones is refused, and nothing changes.
    let stranger = Registration { tags: tags(&["x"]), ..named("phone") };
    assert_eq!(registry.register(&app, stranger, false).await.unwrap_err(), RegisterError::Taken);
    let update = Registration { tags: tags(&["c"]), ..named("phone") };
    let updated = registry.register(&app, update, true).await.unwrap();
    assert!(!updated.created);
    assert_eq!((updated.device.client, updated.device.alias.as_ref()), (made.device.client, Some(&alias)));
    registry.close().await;
    let registry = place.open().await;
    let read = registry.device(&app, &made.device.name).await.unwrap().unwrap();
    assert_eq!(read, updated.device);
    assert_eq!(registry.device_by_client(read.client).await.unwrap(), Some(read.clone()));
    assert_eq!(registry.device_by_client(ClientId(u64::MAX)).await.unwrap(), None);
    let other = App { id: AppId(99), ..app };
    assert_eq!(registry.device(&other, &read.name).await.unwrap(), None);
}

async fn changes_share_a_transaction_in_order_and_what_is_refused_leaves_its_device(place: &Place) {
    let registry = place.open().await;
    let app = app(&registry).await;
    let attributes = device_change::attributes("a", &[("v".into(), "1".into())].into()).unwrap();
    let first = Registration {
        alias: Some(Alias::parse("alias", "ann").unwrap()),
        tags: tags(&["a", "b"]),
        attributes: Some(attributes),
        ..named("phone")
    };
    let made = registry.register(&app, first, false).await.unwrap().device;
    let other = registry.register(&app, named("pad"), false).await.unwrap().device;
    let name = |name: &str| DeviceName::parse("name", name).unwrap();
    let adds = DeviceChange {
        tags_add: tags(&["c"]).unwrap(),
        tags_remove: tags(&["a"]).unwrap(),
        alias: AliasChange::Clear,
        attributes_set: device_change::attributes(
            "a",
            &[("v".into(), "2".into()), ("w".into(), "x".into())].into(),
        )
        .unwrap(),
        ..DeviceChange::default()
    };
    let many: Vec<String> = (0..100).map(|number| format!("t{number}")).collect();
    let too_many =
        DeviceChange { tags_add: device_change::tags("t", &many).unwrap(), ..DeviceChange::default() };
    let removes = DeviceChange {
        attributes_remove: device_change::attribute_names("a", &["w".into()]).unwrap(),
        revoke: true,
        ..DeviceChange::default()
    };
    let stranger = AppId(app.id.0 + 1);
    let asked = [
        (app.id, name("phone"), adds),
        (app.id, name("phone"), too_many.clone()),
        (app.id, name("ghost"), too_many.clone()),
        (stranger, name("pad"), too_many.clone()),
        (app.id, name("pad"), too_many),
        (app.id, name("phone"), removes),
    ];
    let outcomes = registry.change(&asked).await.unwrap();
    assert_eq!(outcomes[1], Err(ChangeRefused::TooManyTags(102)));
    assert_eq!(outcomes[2..4], [Err(ChangeRefused::Unknown), Err(ChangeRefused::Unknown)]);
    assert_eq!(outcomes[4].as_ref().unwrap().tags.len(), 100);
    registry.close().await;
    let registry = place.open().await;
    let read = registry.device(&app, &made.name).await.unwrap().unwrap();
    assert_eq!(Ok(&read), outcomes[5].as_ref());
    assert_eq!((read.client, read.generation, read.alias.as_ref()), (made.client, 1, None));
    assert_eq!(Some(read.tags), tags(&["b", "c"]));
    let attributes = device_change::attributes("a", &[("v".into(), "2".into())].into()).unwrap();
    assert_eq!(read.attributes, attributes);
    assert_eq!(registry.remove(other.client).await.unwrap(), Some(false));
    assert_eq!(registry.remove(other.client).await.unwrap(), None);
    assert_eq!(registry.device(&app, &other.name).await.unwrap(), None);
    let anew = registry.register(&app, named("pad"), false).await.unwrap();
    assert!(anew.created && anew.device.client > other.client && anew.device.tags.is_empty());
}

async fn a_removed_automatic_device_makes_room_for_another(place: &Place) {
    let registry = place.open().await;
    let app = app(&registry).await;
    let enrol = async |name: &str| {
        let names = vec![DeviceName::parse("name", name).unwrap()];
        registry.enrol(&[(app.id, names)], 1).await.unwrap().remove(0).remove(0)
    };
    let Enrolled::Made(first) = enrol("a").await else { panic!("there is room") };
    assert_eq!(enrol("b").await, Enrolled::Full);
    assert_eq!(registry.remove(first.client).await.unwrap(), Some(true));
    assert_eq!(registry.automatic_devices().await.unwrap(), []);
    assert!(matches!(enrol("b").await, Enrolled::Made(second) if second.client > first.client));
}

async fn a_thousand_registrations_at_once_get_numbers_of_their_own(place: &Place) {
    let registry = place.open().await;
    let app = app(&registry).await;
    let mut waiting = Vec::new();
    for number in 0..1000 {
        let (registry, app) = (registry.clone(), app.clone());
        // Every other one lets the server choose; the last hundred meet names that exist.
        let wanted =
            if number % 2 == 0 { Registration::default() } else { named(&format!("d{}", number % 900)) };
        waiting.push(tokio::spawn(async move { registry.register(&app, wanted, true).await.unwrap() }));
    }
    let mut clients = std::collections::HashSet::new();
    let mut created = 0;
    for registered in waiting {
        let registered = registered.await.unwrap();
        assert!((1..=128).contains(&registered.device.name.as_str().len()));
        clients.insert(registered.device.client);
        created += usize::from(registered.created);
    }
    assert_eq!((clients.len(), created), (950, 950));
}

async fn an_issued_name_is_32_hexadecimal_digits(place: &Place) {
    let registry = place.open().await;
    let app = app(&registry).await;
    let made = registry.register(&app, Registration::default(), false).await.unwrap();
    let name = made.device.name.as_str();
    assert!(name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
}

async fn what_is_set_for_an_app_survives_a_reopen(place: &Place) {
    let registry = place.open().await;
    let made = app(&registry).await;
    registry.set_duplicate_login(made.id, Some(DuplicateLogin::Reject)).await.unwrap();
    let heartbeat = HeartbeatPolicy { profile: Some(HeartbeatProfile::LowPower), padding_max: Some(48) };
    registry.set_heartbeat(made.id, heartbeat).await.unwrap();
    // Texts longer than what a short column holds.
    let rules = vec![format!("allow publish {}", "a".repeat(30)); 60].join("\n");
    let set = registry.set_topic_rules(made.id, Some(rules)).await;
    set.unwrap();
    registry.close().await;
    let apps = place.open().await.apps().await.unwrap();
    assert_eq!((apps[0].duplicate_login, apps[0].heartbeat), (Some(DuplicateLogin::Reject), heartbeat));
    assert!(format!("{:?}", apps[0].topic_rules).matches("aaaaaa\"").count() >= 60);
    assert_eq!(apps[0].login_ways, made.login_ways);
}

async fn the_admin_key_is_replaced(place: &Place) {
    let registry = place.open().await;
    assert!(registry.admin_key().await.unwrap().is_none());
    for random in [[1; 32], [2; 32]] {
        registry.set_admin_key(AppSecret::from_random(random).hash()).await.unwrap();
        let stored = registry.admin_key().await.unwrap().unwrap();
        assert!(stored.matches(&AppSecret::from_random(random)));
    }
}

async fn names_that_only_look_alike_are_different_devices(place: &Place) {
    let registry = place.open().await;
    let app = app(&registry).await;
    let names = [
        "phone",
        "Phone",
        "phone ",
        " phone",
        "ph\u{f6}ne",
        "pho\u{308}ne",
        "phone\u{0}x".trim_end_matches("\u{0}x"),
        "\u{1F4F1}",
        "\u{1F4F2}",
        "a?b",
        "a'b\\",
    ];
    let mut clients = std::collections::BTreeMap::new();
    for name in names {
        let given = Registration { tags: tags(&["t", "T", "t "]), ..named(name) };
        let made = registry.register(&app, given, true).await.unwrap();
        clients.insert(name, made.device.client);
    }
    let apart: std::collections::HashSet<_> = clients.values().collect();
    assert_eq!((clients.len(), apart.len()), (10, 10));
    for (name, client) in clients {
        let device = registry.device(&app, &DeviceName::parse("name", name).unwrap()).await.unwrap().unwrap();
        assert_eq!((device.client, device.name.as_str(), device.tags.len()), (client, name, 3));
    }
}

async fn the_longest_names_and_the_most_tags_fit(place: &Place) {
    let registry = place.open().await;
    let app = app(&registry).await;
    // Four bytes each: limits count bytes.
    let long = |bytes: usize, last: char| "\u{1F4F1}".repeat(bytes / 4 - 1) + &format!("xyz{last}");
    let mut labels: Vec<Tag> = (0..100).map(|n| Tag::parse("tag", &format!("{n:064}")).unwrap()).collect();
    labels[99] = Tag::parse("tag", &long(64, 'a')).unwrap();
    let attribute = |n: usize| {
        let name = AttributeName::parse("name", &format!("{}{n:02}", "a".repeat(30))).unwrap();
        (name, AttributeValue::parse("value", &long(64, 'v')).unwrap())
    };
    for last in ['a', 'b'] {
        let given = Registration {
            alias: Some(Alias::parse("alias", &long(64, last)).unwrap()),
            tags: Some(labels.clone()),
            attributes: Some((0..16).map(attribute).collect()),
            ..named(&long(128, last))
        };
        let made = registry.register(&app, given, true).await.unwrap();
        assert!(made.created);
        let read = registry.device(&app, &made.device.name).await.unwrap();
        assert_eq!(read, Some(made.device));
    }
}

fn names(range: std::ops::Range<usize>) -> Vec<DeviceName> {
    range.map(|n| DeviceName::parse("name", &format!("login-{n}")).unwrap()).collect()
}

async fn names_that_log_in_are_registered_once_and_up_to_the_quota(place: &Place) {
    let registry = place.open().await;
    let app = app(&registry).await;
    let first = registry.enrol(&[(app.id, names(0..300))], 1000).await.unwrap();
    assert!(first[0].iter().all(|enrolled| matches!(enrolled, Enrolled::Made(_))));
    let again = registry.enrol(&[(app.id, names(200..1100))], 1000).await.unwrap();
    let counted = |wanted: fn(&Enrolled) -> bool| again[0].iter().filter(|enrolled| wanted(enrolled)).count();
    let known = counted(|enrolled| matches!(enrolled, Enrolled::Known(_)));
    let made = counted(|enrolled| matches!(enrolled, Enrolled::Made(_)));
    let full = counted(|enrolled| matches!(enrolled, Enrolled::Full));
    assert_eq!((known, made, full), (100, 700, 100));
    assert_eq!(registry.automatic_devices().await.unwrap(), vec![(app.id, 1000)]);
    let Enrolled::Made(device) = &first[0][7] else { panic!() };
    assert_eq!(registry.device_by_client(device.client).await.unwrap().as_ref(), Some(device));
}

/// Two ways of registering meet over the same names, in opposite order; the database may refuse one for the other's sake, but
/// nobody is told so.
async fn registrations_and_logins_of_the_same_names_agree(place: &Place) {
    let registry = place.open().await;
    let app = app(&registry).await;
    for round in 0..10 {
        let range = round * 40..(round + 1) * 40;
        let mut waiting = Vec::new();
        for name in names(range.clone()).into_iter().rev() {
            let (registry, app) = (registry.clone(), app.clone());
            let given = Registration { name: Some(name), ..Registration::default() };
            waiting.push(tokio::spawn(async move { registry.register(&app, given, true).await.unwrap() }));
        }
        let enrolled = registry.enrol(&[(app.id, names(range))], u64::MAX).await.unwrap();
        for (enrolled, registered) in enrolled[0].iter().rev().zip(waiting) {
            let registered = registered.await.unwrap();
            match enrolled {
                Enrolled::Known(client) => assert_eq!(*client, registered.device.client),
                Enrolled::Made(device) => assert_eq!(device.client, registered.device.client),
                Enrolled::Full => panic!("there is no quota"),
            }
        }
    }
}

async fn another_programs_tables_are_left_alone(place: &Place) {
    let mut foreign = reach(&place.made()).await;
    sqlx::query("CREATE TABLE birds (name VARCHAR(20))").execute(&mut foreign).await.unwrap();
    sqlx::query("CREATE TABLE nests (name VARCHAR(20))").execute(&mut foreign).await.unwrap();
    foreign.close().await.unwrap();
    let refusal = place.refusal().await;
    assert!(refusal.contains("another program"), "{refusal}");
}

async fn a_newer_servers_tables_are_not_touched(place: &Place) {
    place.open().await.close().await;
    let mut newer = reach(&place.made()).await;
    let step = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
        SELECT 9999, 'later', success, checksum, 1 FROM _sqlx_migrations WHERE version = 5";
    sqlx::query(step).execute(&mut newer).await.unwrap();
    newer.close().await.unwrap();
    let refusal = place.refusal().await;
    assert!(refusal.contains("newer server"), "{refusal}");
}

async fn a_second_registry_is_refused_while_the_first_is_open(place: &Place) {
    let registry = place.open().await;
    let refusal = place.refusal().await;
    assert!(refusal.contains("is in use by another"), "{refusal}");
    registry.close().await;
    place.open().await;
}
