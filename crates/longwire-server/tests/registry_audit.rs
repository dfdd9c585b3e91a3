//! The audit log in the registry: lines follow each other, and what was changed by hand is found.

#![allow(clippy::unwrap_used)]

use longwire_server::domain::WallMs;
use longwire_server::domain::audit::AuditEntry;
use longwire_server::store::registry::{AuditCheck, Registry};
use sqlx::{Connection as _, Executor as _, SqliteConnection};

fn entry(number: u64) -> AuditEntry {
    AuditEntry {
        at: WallMs(1_700_000_000_000 + number),
        who: "admin ann".into(),
        act: "POST /v1/apps/{app_key}/disable".into(),
        target: format!("/v1/apps/shop-{number}/disable"),
        outcome: "200".into(),
        remote: "192.0.2.7:51312".into(),
        trace: format!("{number:032x}"),
    }
}

#[tokio::test]
async fn what_is_changed_by_hand_is_found_and_what_is_not_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("registry.db").display());
    let registry = Registry::open(&url).await.unwrap();
    assert_eq!(registry.check_audit().await.unwrap(), AuditCheck { lines: 0, broken_at: None });
    for number in 1..=20 {
        let line = registry.append_audit(&entry(number)).await.unwrap();
        assert_eq!(line.number, number);
    }
    // Lines that come at once follow each other too.
    let (a, b) = (entry(21), entry(22));
    let (one, other) = tokio::join!(registry.append_audit(&a), registry.append_audit(&b));
    assert_eq!(one.unwrap().number + other.unwrap().number, 43);
    assert_eq!(registry.check_audit().await.unwrap(), AuditCheck { lines: 22, broken_at: None });
    let page = registry.audit_after(20, 100).await.unwrap();
    assert_eq!(page.iter().map(|line| line.number).collect::<Vec<_>>(), [21, 22]);

    let mut by_hand = SqliteConnection::connect(&url).await.unwrap();
    let altered = [
        (
            "UPDATE audit SET who = 'admin bob' WHERE number = 7",
            "UPDATE audit SET who = 'admin ann' WHERE number = 7",
            7,
        ),
        ("UPDATE audit SET at = at + 1 WHERE number = 1", "UPDATE audit SET at = at - 1 WHERE number = 1", 1),
        (
            "UPDATE audit SET outcome = '403' WHERE number = 20",
            "UPDATE audit SET outcome = '200' WHERE number = 20",
            20,
        ),
        ("UPDATE audit SET hash = zeroblob(32) WHERE number = 3", "", 3),
    ];
    for (alter, back, broken_at) in altered {
        by_hand.execute(alter).await.unwrap();
        let found = registry.check_audit().await.unwrap();
        assert_eq!(found.broken_at, Some(broken_at), "{alter}");
        if !back.is_empty() {
            by_hand.execute(back).await.unwrap();
            assert_eq!(registry.check_audit().await.unwrap().broken_at, None, "{back}");
        }
    }
    // A line that is taken out leaves a hole, also when it is the first.
    by_hand.execute("DELETE FROM audit WHERE number <= 3").await.unwrap();
    assert_eq!(registry.check_audit().await.unwrap().broken_at, Some(4));
    registry.close().await;
}
