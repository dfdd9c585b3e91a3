//! Conversations with the registry.
#![allow(clippy::unwrap_used, missing_docs)]

use longwire_server::domain::{
    Alias, AliasChange, App, AppId, AppKey, AppSecret, ChangeRefused, ClientId, DeviceChange, DeviceName,
    Registration, Tag, Token, WallMs, device_change,
};
use longwire_server::store::messages::OpenError;
use longwire_server::store::registry::{Enrolled, RegisterError, Registry};
use std::path::Path;

fn url(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("registry.db").display())
}

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

#[tokio::test(flavor = "multi_thread")]
async fn apps_and_the_token_key_survive_a_reopen() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(&url(folder.path())).await.unwrap();
    let made = app(&registry).await;
    let token = Token { app: made.id, client: ClientId(1), generation: 0, expires: WallMs(9_000) };
    let text = registry.token_key().await.unwrap().sign(&token);
    let again = registry.create_app(&made.key, made.secret_hash, false).await;
    assert!(again.unwrap_err().to_string().contains("exists already"));
    registry.close().await;
    let registry = Registry::open(&url(folder.path())).await.unwrap();
    let apps = registry.apps().await.unwrap();
    assert_eq!(apps.len(), 1);
    assert_eq!((apps[0].id, apps[0].key.as_str(), apps[0].open_registration), (made.id, "shop", true));
    assert!(apps[0].secret_hash.matches(&AppSecret::from_random([3; 32])));
    assert_eq!(registry.token_key().await.unwrap().verify(text.as_bytes(), WallMs(0)), Ok(token));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_made_once_and_then_updated() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(&url(folder.path())).await.unwrap();
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
    let registry = Registry::open(&url(folder.path())).await.unwrap();
    let read = registry.device(&app, &made.device.name).await.unwrap().unwrap();
    assert_eq!(read, updated.device);
    assert_eq!(registry.device_by_client(read.client).await.unwrap(), Some(read.clone()));
    assert_eq!(registry.device_by_client(ClientId(u64::MAX)).await.unwrap(), None);
    let other = App { id: AppId(99), ..app };
    assert_eq!(registry.device(&other, &read.name).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_share_a_transaction_in_order_and_what_is_refused_leaves_its_device() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(&url(folder.path())).await.unwrap();
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
    let registry = Registry::open(&url(folder.path())).await.unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_automatic_device_makes_room_for_another() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(&url(folder.path())).await.unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_registrations_at_once_get_numbers_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(&url(folder.path())).await.unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn an_issued_name_is_32_hexadecimal_digits() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(&url(folder.path())).await.unwrap();
    let app = app(&registry).await;
    let made = registry.register(&app, Registration::default(), false).await.unwrap();
    let name = made.device.name.as_str();
    assert!(name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_registry_on_the_file_is_told_who_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(&url(folder.path())).await.unwrap();
    let Err(OpenError::Locked { holder, .. }) = Registry::open(&url(folder.path())).await else {
        panic!("two registries on one file");
    };
    assert_eq!(holder, format!(" (pid {})", std::process::id()));
    registry.close().await;
    Registry::open(&url(folder.path())).await.unwrap();
}

async fn refusal(folder: &Path) -> OpenError {
    match Registry::open(&url(folder)).await {
        Ok(_) => panic!("it opened"),
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_database_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("registry.db"), vec![b'x'; 8192]).unwrap();
    let error = refusal(folder.path()).await;
    assert!(matches!(&error, OpenError::Corrupt { path, .. } if path.ends_with("registry.db")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_programs_database_is_left_alone() {
    use sqlx::{Connection, SqliteConnection};
    let folder = tempfile::tempdir().unwrap();
    let address = format!("{}?mode=rwc", url(folder.path()));
    let mut foreign = SqliteConnection::connect(&address).await.unwrap();
    sqlx::query("CREATE TABLE birds (name TEXT)").execute(&mut foreign).await.unwrap();
    sqlx::query("CREATE TABLE nests (name TEXT)").execute(&mut foreign).await.unwrap();
    foreign.close().await.unwrap();
    let error = refusal(folder.path()).await;
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_with_a_flipped_page_is_refused_or_reads_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(&url(folder.path())).await.unwrap();
    let app = app(&registry).await;
    for number in 0..200 {
        registry.register(&app, named(&format!("device-{number}")), true).await.unwrap();
    }
    registry.close().await;
    let file = folder.path().join("registry.db");
    let good = std::fs::read(&file).unwrap();
    let mut refused = 0;
    for page in 0..good.len() / 4096 {
        let mut bad = good.clone();
        bad[page * 4096..page * 4096 + 16].fill(0xA5);
        std::fs::write(&file, bad).unwrap();
        match Registry::open(&url(folder.path())).await {
            Ok(registry) => registry.close().await,
            Err(OpenError::Corrupt { path, .. }) => {
                assert!(path.ends_with("registry.db"));
                refused += 1;
            }
            Err(error) => panic!("page {page}: {error}"),
        }
    }
    assert!(refused > 5, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_where_the_file_should_be_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("registry.db")).unwrap();
    let error = refusal(folder.path()).await;
    assert!(matches!(error, OpenError::NotWritable { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_servers_database_is_not_touched() {
    use sqlx::{Connection, SqliteConnection};
    let folder = tempfile::tempdir().unwrap();
    Registry::open(&url(folder.path())).await.unwrap().close().await;
    let mut newer = SqliteConnection::connect(&url(folder.path())).await.unwrap();
    let newer_step = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
        VALUES (9999, 'later', 1, x'00', 0)";
    sqlx::query(newer_step).execute(&mut newer).await.unwrap();
    newer.close().await.unwrap();
    let error = refusal(folder.path()).await;
    assert!(error.to_string().contains("newer server"), "{error}");
}
