//! Databases of servers: their lock, passwords, and first starts that went wrong.

use super::{Place, app, engines, named, reach};
use longwire_server::domain::DeviceName;
use longwire_server::store::port::StoreError;
use longwire_server::store::registry::{RegisterError, Registry, RegistryOptions};
use std::time::{Duration, Instant};

/// What only servers can do.
macro_rules! on_servers {
    ($($conversation:ident),* $(,)?) => {
        mod mariadb_server {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $conversation() {
                    super::$conversation(&crate::Place::mariadb().await).await;
                }
            )*
        }
        mod postgres_server {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $conversation() {
                    super::$conversation(&crate::Place::postgres().await).await;
                }
            )*
        }
    };
}

on_servers!(
    a_lock_that_is_lost_is_taken_again,
    nothing_is_asked_of_a_database_that_another_server_took,
    a_password_is_not_shown,
);

/// Ends the connection that has the lock.
async fn end_the_holder(place: &Place) {
    let refusal = place.refusal().await;
    let holder = refusal.split("(connection ").nth(1).and_then(|rest| rest.split(' ').next());
    let holder: i64 = holder.and_then(|holder| holder.parse().ok()).unwrap_or_else(|| panic!("{refusal}"));
    let end = if place.url.starts_with("postgres") {
        format!("SELECT COUNT(pg_terminate_backend({holder}))")
    } else {
        format!("KILL {holder}")
    };
    let mut connection = reach(&place.url).await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(end)).execute(&mut connection).await.unwrap();
}

async fn eventually(mut condition: impl AsyncFnMut() -> bool) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(30) {
        if condition().await {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

async fn a_lock_that_is_lost_is_taken_again(place: &Place) {
    let registry = place.open().await;
    let app = app(&registry).await;
    end_the_holder(place).await;
    // Nobody knows when the keeper has noticed; what is asked meanwhile is answered or refused, and in the end answered.
    assert!(
        eventually(async || place.refusal_if_any().await.is_some_and(|text| text.contains("in use"))).await
    );
    assert!(eventually(async || registry.register(&app, named("d"), true).await.is_ok()).await);
    registry.close().await;
}

async fn nothing_is_asked_of_a_database_that_another_server_took(place: &Place) {
    let first = place.open().await;
    let app = app(&first).await;
    // The first may be the faster one to take its lock again.
    let terms = RegistryOptions { start_max: Duration::ZERO, ..RegistryOptions::new(place.url.as_str()) };
    let second = loop {
        end_the_holder(place).await;
        if let Ok(second) = Registry::open_on(&terms).await {
            break second;
        }
    };
    let refused = async || {
        let refused = first.register(&app, named("d"), true).await;
        matches!(refused, Err(RegisterError::Store(StoreError::Registry(_)))) && !first.health().is_up()
    };
    assert!(eventually(refused).await);
    assert!(first.health().errors() > 0);
    assert_eq!(second.device(&app, &DeviceName::parse("name", "d").unwrap()).await.unwrap(), None);
    second.close().await;
    assert!(eventually(async || first.register(&app, named("d"), true).await.is_ok()).await);
    assert!(first.health().is_up());
}

async fn a_password_is_not_shown(place: &Place) {
    let wrong = Place { url: place.url.replace("s3cr", "other"), _folder: None };
    let refusal = wrong.refusal().await;
    assert!(refusal.contains("refuses") && refusal.contains("longwire@127.0.0.1"), "{refusal}");
    assert!(!refusal.contains("w%40rd") && !refusal.contains("w@rd"), "{refusal}");
    let shown = format!("{:?}", RegistryOptions::new(place.url.as_str()));
    assert!(!shown.contains("w%40rd"), "{shown}");
    // A server without TLS, and a client that wants it.
    let mode = if place.url.starts_with("postgres") { "sslmode=require" } else { "ssl-mode=REQUIRED" };
    let secure = Place { url: format!("{}?{mode}", place.url), _folder: None };
    let refusal = secure.refusal().await;
    assert!(refusal.contains("TLS"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_was_killed_is_begun_again() {
    let place = Place::mariadb().await;
    let registry = place.open().await;
    app(&registry).await;
    registry.close().await;
    // As it is when the process ends inside the last step.
    let mut connection = reach(&place.url).await;
    let half = "UPDATE _sqlx_migrations SET success = FALSE ORDER BY version DESC LIMIT 1";
    sqlx::query(half).execute(&mut connection).await.unwrap();
    assert_eq!(place.open().await.apps().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_hold_every_name_is_refused() {
    let engine = tokio::task::spawn_blocking(|| engines::shared(engines::Kind::Postgres)).await.unwrap();
    let mut connection = reach(&engine.first()).await;
    let make = "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0";
    sqlx::query(make).execute(&mut connection).await.unwrap();
    let refusal = Place { url: engine.url("latin"), _folder: None }.refusal().await;
    assert!(refusal.contains("not UTF-8"), "{refusal}");
}
