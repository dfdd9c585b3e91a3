//! Files of SQLite.

use super::{app, named, reach, url};
use longwire_server::domain::{AppSecret, ClientId, DeviceName};
use longwire_server::store::messages::OpenError;
use longwire_server::store::registry::Registry;
use sqlx::Connection as _;
use std::path::Path;

async fn refusal(folder: &Path) -> OpenError {
    match Registry::open(&url(folder)).await {
        Ok(_) => panic!("it opened"),
        Err(error) => error,
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_database_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("registry.db"), vec![b'x'; 8192]).unwrap();
    let error = refusal(folder.path()).await;
    assert!(matches!(&error, OpenError::Corrupt { path, .. } if path.ends_with("registry.db")), "{error}");
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

/// Files of older servers: their steps must stay what they were, to the byte.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_servers_file_is_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let steps = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/sqlite");
    let old = folder.path().join("old");
    std::fs::create_dir(&old).unwrap();
    for step in ["0001_apps_and_devices.sql", "0002_duplicate_login.sql", "0003_heartbeat.sql"] {
        std::fs::copy(steps.join(step), old.join(step)).unwrap();
    }
    let older = sqlx::migrate::Migrator::new(old.as_path()).await.unwrap();
    let sums: Vec<String> = older.iter().map(|step| hex(&step.checksum[..6])).collect();
    assert_eq!(sums, ["d901c7edeaa6", "3a357b6da819", "a33650169596"]);
    let mut connection = reach(&format!("{}?mode=rwc", url(folder.path()))).await;
    older.run(&mut connection).await.unwrap();
    let secret = AppSecret::from_random([3; 32]).hash();
    let app = "INSERT INTO apps (app_key, secret_hash, open_registration) VALUES ('shop', ?, 1)";
    sqlx::query(app).bind(secret.0.as_slice()).execute(&mut connection).await.unwrap();
    let device = "INSERT INTO devices (app, name, alias, generation) VALUES (1, 'phone', 'ann', 2)";
    sqlx::query(device).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let registry = Registry::open(&url(folder.path())).await.unwrap();
    let apps = registry.apps().await.unwrap();
    let device =
        registry.device(&apps[0], &DeviceName::parse("name", "phone").unwrap()).await.unwrap().unwrap();
    assert_eq!((apps[0].key.as_str(), device.client, device.generation), ("shop", ClientId(1), 2));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
