//! The books of apps, as the last check saw them.

use super::{OTHER_APPS, Page};
use crate::delivery::hub::{AppBook, Hub};
use crate::domain::{AppId, DropReason};
use prometheus_client::encoding::NoLabelSet;
use prometheus_client::metrics::MetricType;
use std::fmt;

/// Apps that have series of their own, by their numbers; the others are one.
const APPS_NAMED_MAX: usize = 100;

/// One of the numbers of a book.
type State = fn(&AppBook) -> u64;

pub(super) fn books(page: &mut Page<'_>, hub: &Hub) -> fmt::Result {
    let report = hub.books_report();
    page.gauge(
        "longwire_books_gap",
        "deliveries missing or too many in the last check of the books",
        report.gap,
    )?;
    page.counter("longwire_books_checks", "finished checks of the books", report.checks)?;
    page.counter("longwire_books_checks_failed", "checks that could not read the store", report.failed)?;
    let books: Vec<(AppId, AppBook)> = report.apps.iter().map(|(app, book)| (*app, *book)).collect();
    let books = named(hub, &books);
    let states: [(&str, &str, State); 5] = [
        ("longwire_books_created", "deliveries created", |book| book.totals.created),
        ("longwire_books_delivered", "deliveries that ended as delivered", |book| book.totals.delivered),
        ("longwire_books_expired", "deliveries that ended as expired", |book| book.totals.expired),
        ("longwire_books_collapsed", "deliveries that ended as collapsed", |book| book.totals.collapsed),
        ("longwire_books_recalled", "deliveries that ended as recalled", |book| book.totals.recalled),
    ];
    for (name, help, of) in states {
        let series: Vec<_> = books.iter().map(|(app, book)| ([("app", app.as_str())], of(book))).collect();
        page.counters(name, help, &series)?;
    }
    let help = "deliveries that ended as dropped";
    let mut family = page.0.encode_descriptor("longwire_books_dropped", help, None, MetricType::Counter)?;
    for (app, book) in &books {
        for (reason, count) in DropReason::ALL.into_iter().zip(book.totals.dropped.0) {
            let labels = [("app", app.as_str()), ("reason", reason.label())];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&count, None)?;
        }
    }
    let help = "deliveries without an end, counted in the mailboxes";
    let mut family = page.0.encode_descriptor("longwire_books_pending", help, None, MetricType::Gauge)?;
    for (app, book) in &books {
        family.encode_family(&[("app", app.as_str())])?.encode_gauge(&book.pending)?;
    }
    Ok(())
}

/// The first apps by name, all others together; an app that is not known is one of these.
fn named(hub: &Hub, books: &[(AppId, AppBook)]) -> Vec<(String, AppBook)> {
    let ids: Vec<AppId> = books.iter().take(APPS_NAMED_MAX).map(|(app, _)| *app).collect();
    let keys = hub.app_keys(&ids);
    let (mut named, mut others) = (Vec::with_capacity(keys.len() + 1), AppBook::default());
    for (at, (_, book)) in books.iter().enumerate() {
        match keys.get(at).and_then(Option::as_ref).filter(|key| key.as_str() != OTHER_APPS) {
            Some(key) => named.push((key.as_str().to_owned(), *book)),
            None => {
                others.totals.absorb(&book.totals);
                others.pending += book.pending;
                others.gap += book.gap;
            }
        }
    }
    named.push((OTHER_APPS.to_owned(), others));
    named
}
