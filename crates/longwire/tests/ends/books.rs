//! The books through HTTP, over crashes; and the alarm.

use crate::support::{PATIENCE, Start, TestServer, count_of, until};
use crate::{push, recall, to};
use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use serde_json::{Value, json};
use std::path::Path;

/// A server that checks its books each second.
fn start(folder: &Path) -> TestServer {
    Start::default().folder(folder).arg("--set=storage.books_check=1").start()
}

fn number(books: &Value, state: &str) -> u64 {
    books[state].as_u64().unwrap_or_else(|| panic!("{state} in {books}"))
}

/// The books after another check than those that were made, and at rest.
#[track_caller]
fn checked(server: &TestServer) -> Value {
    let checks = || server.metric("longwire_books_checks_total", &[]);
    // One may be under way with an older snapshot.
    let wanted = checks() + 2.0;
    assert!(until(PATIENCE, || checks() >= wanted), "no check came");
    let books = server.api.get("/v1/books").json;
    assert!(books["checked_at"].is_string(), "{books}");
    books
}

#[track_caller]
fn balance(books: &Value) {
    let dropped: u64 = books["dropped"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    let ends = ["delivered", "expired", "collapsed", "recalled", "pending"];
    let sum = dropped + ends.iter().map(|state| number(books, state)).sum::<u64>();
    assert_eq!(number(books, "created"), sum, "{books}");
    assert_eq!(number(books, "gap"), 0, "{books}");
}

#[test]
fn the_books_balance_over_every_kind_of_end_and_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = start(folder.path());
    for round in 0..3 {
        let (mut here, mut silent) = (server.device("here"), server.device("silent").silent());
        server.device("away");
        here.connect();
        silent.connect();
        let three = || json!({ "registration_id": ["here", "silent", "away"] });
        let key = || json!({ "collapse_key": "k" });
        push(&server, three(), "collapsed", key()).message_id();
        let short = server.api.push_text_ttl(three(), "expires", 1).message_id();
        let gone = server.api.push_text(three(), "recalled").message_id();
        server.api.push_text(json!("all"), "for all").message_id();
        recall(&server, &gone);
        let last = push(&server, three(), "stays", key()).message_id();
        // A device acks as it reads.
        while here.next(PATIENCE).expect("something comes").text() != Some("stays") {}
        server.await_count(&last, "delivered", 1);
        let story = server.await_count(&short, "expired", 1);
        assert_eq!(count_of(&story, "pending"), 0, "{story}");
        // With acks and ends under way.
        server.kill9();
        drop((here, silent));
        server = start(folder.path());
        let books = checked(&server);
        balance(&books);
        assert!(number(&books, "collapsed") >= round && number(&books, "recalled") > round, "{books}");
        assert_eq!(server.metric("longwire_books_gap", &[]), 0.0);
        let app = format!("app=\"{}\"", server.app_key);
        for (name, state) in
            [("created_total", "created"), ("delivered_total", "delivered"), ("pending", "pending")]
        {
            let told = server.metric(&format!("longwire_books_{name}"), &[&app]);
            assert_eq!(told, number(&books, state) as f64, "{name}");
        }
    }
}

#[test]
fn log_deliveries_in_windows_are_in_flight_and_not_created() {
    let server = TestServer::start();
    let mut device = server.device("d1").silent();
    device.connect();
    server.api.push_text(json!("all"), "for all").message_id();
    let shown = device.expect_text("for all").message().unwrap();
    let books = || server.api.get("/v1/books").json;
    assert!(until(PATIENCE, || number(&books(), "in_flight") == 1), "{}", books());
    assert_eq!((number(&books(), "created"), &books()["gap"]), (0, &json!(null)), "{}", books());
    device.ack(&[shown]);
    assert!(until(PATIENCE, || number(&books(), "delivered") == 1), "{}", books());
    assert_eq!((number(&books(), "created"), number(&books(), "in_flight")), (1, 0));
    assert_eq!(server.api.anonymous().get("/v1/books").status, 401);
}

#[test]
fn one_app_does_not_see_anothers_books() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Start::default().folder(folder.path()).app("other").start();
    server.device("d1");
    server.api.push_text(to("d1"), "theirs").message_id();
    assert_eq!(number(&server.api.get("/v1/books").json, "created"), 1);
    server.terminate();
    let server = start(folder.path());
    let books = checked(&server);
    balance(&books);
    assert_eq!(number(&books, "created"), 0);
    assert_eq!(server.metric("longwire_books_pending", &["app=\"other\""]), 1.0);
}

#[test]
fn a_planted_row_rings_the_alarm_with_app_and_message() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = start(folder.path());
    server.device("d1");
    let message = server.api.push_text(to("d1"), "lost").message_id();
    balance(&checked(&server));
    server.terminate();
    {
        let database = Database::builder(folder.path().join("messages/engine")).open().unwrap();
        let mailbox = database.keyspace("mailbox", KeyspaceCreateOptions::default).unwrap();
        let keys: Vec<_> = mailbox.iter().map(|entry| entry.key().unwrap()).collect();
        // The space's mark has a longer key.
        let rows: Vec<_> = keys.into_iter().filter(|key| key.len() == 16).collect();
        assert_eq!(rows.len(), 1);
        mailbox.remove(rows[0].clone()).unwrap();
        database.persist(PersistMode::SyncAll).unwrap();
    }
    let server = start(folder.path());
    assert!(until(PATIENCE, || server.metric("longwire_books_gap", &[]) == 1.0), "no alarm");
    assert_eq!(server.api.get("/v1/books").json["gap"], json!(1));
    let log = server.log();
    let named = log.lines().any(|line| line.contains("the books have a gap") && line.contains(&message));
    assert!(named, "{log}");
}
