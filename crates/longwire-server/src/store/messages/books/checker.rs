//! The thread that checks the books.

use super::BooksReport;
use super::walk::{Pace, walk};
use crate::store::messages::engine::{Engine, Fault};
use crate::store::port::{StoreError, StoreOptions};
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::oneshot;

/// Wishes that may wait; one beyond is refused.
const ASKS_MAX: usize = 16;
/// A check that nobody asked for by an interval waits this long.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

type Reply = oneshot::Sender<Result<Arc<BooksReport>, StoreError>>;

enum Ask {
    Every(Duration),
    Now(Reply),
}

/// The handle to the thread. When it is gone the thread ends, also in the middle of a check.
pub(crate) struct Books {
    asks: Mutex<Option<SyncSender<Ask>>>,
    report: Arc<Mutex<Arc<BooksReport>>>,
    go_on: Arc<AtomicBool>,
}

/// What the thread gets.
pub(crate) struct Desk {
    asks: Receiver<Ask>,
    report: Arc<Mutex<Arc<BooksReport>>>,
    go_on: Weak<AtomicBool>,
}

impl Books {
    pub(crate) fn new() -> (Books, Desk) {
        let (sender, asks) = sync_channel(ASKS_MAX);
        let report: Arc<Mutex<Arc<BooksReport>>> = Arc::default();
        let go_on = Arc::new(AtomicBool::new(true));
        let desk = Desk { asks, report: report.clone(), go_on: Arc::downgrade(&go_on) };
        (Books { asks: Mutex::new(Some(sender)), report, go_on }, desk)
    }

    pub(super) fn report(&self) -> Arc<BooksReport> {
        self.report.lock().clone()
    }

    pub(super) fn every(&self, interval: Duration) {
        if let Some(asks) = &*self.asks.lock() {
            // A full queue holds wishes that are younger than the interval that stands.
            let _ = asks.try_send(Ask::Every(interval));
        }
    }

    pub(super) fn now(&self, reply: Reply) -> Result<(), ()> {
        let asks = self.asks.lock();
        asks.as_ref().and_then(|asks| asks.try_send(Ask::Now(reply)).ok()).ok_or(())
    }

    /// The thread ends soon.
    pub(crate) fn close(&self) {
        self.asks.lock().take();
        self.go_on.store(false, Ordering::Relaxed);
    }
}

/// What the thread runs.
pub(crate) fn run(engine: &Engine, options: &StoreOptions, desk: &Desk) {
    let mut interval = FOR_EVER;
    loop {
        match desk.asks.recv_timeout(interval) {
            Ok(Ask::Every(wanted)) => interval = wanted,
            Ok(Ask::Now(reply)) => {
                let _ = reply.send(check(engine, options, desk));
            }
            Err(RecvTimeoutError::Timeout) => {
                // The fault is in the report and the log.
                let _ = check(engine, options, desk);
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn check(engine: &Engine, options: &StoreOptions, desk: &Desk) -> Result<Arc<BooksReport>, StoreError> {
    let mut pace = Pace::new(desk.go_on.clone());
    let now = (options.clock)();
    // The engine asserts on some damage; the thread must live on.
    let walked = catch_unwind(AssertUnwindSafe(|| walk(engine, now, &mut pace)))
        .unwrap_or_else(|_| Err(Fault("the engine could not read its tables".to_owned())));
    let mut last = desk.report.lock();
    match walked {
        Ok(Some(mut report)) => {
            (report.checks, report.failed) = (last.checks + 1, last.failed);
            *last = Arc::new(report);
            Ok(last.clone())
        }
        Ok(None) => Err(StoreError::Unavailable("the store is closed".to_owned())),
        Err(fault) => {
            tracing::error!(cause = %fault.0, "the books could not be checked");
            *last = Arc::new(BooksReport { failed: last.failed + 1, ..(**last).clone() });
            Err(fault.into())
        }
    }
}
