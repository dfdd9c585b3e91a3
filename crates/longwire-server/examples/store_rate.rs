//! Measures the message store alone: `store_rate [folder] [seconds] [in flight] [body bytes]`.
//!
//! Accepts single-target messages with a fixed number in flight, each to another device, acks each, and prints the rate
//! of both, with the time that commits took. Then the same for messages of devices to the business, eight to an operation,
//! as they come when a shard has several at once.
#![allow(clippy::print_stdout)]

use bytes::Bytes;
use longwire_proto::id::Kind;
use longwire_server::domain::{AppId, ClientId, MessageId, Priority, Source, TraceId, WallMs};
use longwire_server::store::messages::MessageStore;
use longwire_server::store::messages::stats::{SYNC_BUCKETS_US, StoreStats};
use longwire_server::store::port::{Accept, Committed, Destination, End, Settle, StoreOptions};
use longwire_server::store::upstream::Upstream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc;

const APP: AppId = AppId(1);
const DEVICES: u64 = 50_000;

fn wall() -> WallMs {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallMs(since.as_millis() as u64)
}

async fn dispatch(mut committed: mpsc::Receiver<Committed>) {
    while let Some(Committed { accepted, reply }) = committed.recv().await {
        let _ = reply.send(Ok(accepted));
    }
}

async fn push(store: MessageStore, next: Arc<AtomicU64>, body: Bytes, until: Instant, ack: bool) -> Vec<u64> {
    let mut took = Vec::new();
    while Instant::now() < until {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let message = MessageId((u128::from(wall().0) << 64) | u128::from(number));
        let client = ClientId(1 + number % DEVICES);
        let begun = Instant::now();
        let accepted = store
            .accept(Accept {
                message,
                app: APP,
                kind: Kind::Text,
                trace: TraceId(0),
                accepted_at: wall(),
                deadline: WallMs(wall().0 + 86_400_000),
                shared: body.clone(),
                priority: Priority::Normal,
                collapse_key: Arc::from(""),
                replaces: None,
                once: None,
                occurrence: None,
                report: Default::default(),
                destination: Destination::Mailboxes(vec![client]),
                received: None,
            })
            .await;
        took.push(begun.elapsed().as_micros() as u64);
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // One line per kind of refusal and pusher would drown the figures.
                if took.len() % 1000 == 1 {
                    println!("  refused: {error}; usable: {:?}", store.usable());
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        if ack {
            let position = accepted.record.targets[0].position;
            let end = End::Delivered;
            let settle =
                Settle { client, app: APP, source: Source::Mailbox, position, message, end, sent: WallMs(0) };
            let _ = store.settle(vec![settle]).await;
        }
    }
    took
}

/// Messages of devices in one operation.
const UPSTREAM_TOGETHER: u64 = 8;

async fn upstream(store: MessageStore, next: Arc<AtomicU64>, payload: Bytes, until: Instant) -> Vec<u64> {
    let mut took = Vec::new();
    while Instant::now() < until {
        let first = next.fetch_add(UPSTREAM_TOGETHER, Ordering::Relaxed);
        let messages = (first..first + UPSTREAM_TOGETHER).map(|number| Upstream {
            client: ClientId(1 + number % DEVICES),
            app: AppId(1 + (number % 8) as u32),
            client_message: number,
            kind: "text".into(),
            accepted_at: wall(),
            trace: TraceId(0),
            payload: payload.clone(),
        });
        let begun = Instant::now();
        if let Err(error) = store.upstream(messages.collect()).await {
            println!("  {error}");
            break;
        }
        took.push(begun.elapsed().as_micros() as u64);
    }
    took
}

fn report(stats: &StoreStats, before: (u64, u64, u64), seconds: f64, took: &mut [u64]) {
    took.sort_unstable();
    let at = |part: f64| took.get((took.len() as f64 * part) as usize).copied().unwrap_or(0);
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let commits = load(&stats.commits) - before.1;
    println!(
        "  {:.0} accepts/s, {:.0} commits/s, {:.0} accepts a commit",
        (stored(stats) - before.0) as f64 / seconds,
        commits as f64 / seconds,
        (stored(stats) - before.0) as f64 / commits.max(1) as f64,
    );
    println!(
        "  accept: p50 {} µs, p99 {} µs, p99.9 {} µs, max {} µs",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0 - 1e-9)
    );
    println!(
        "  commit with sync: mean {} µs, longest {} µs",
        (load(&stats.sync_us_sum) - before.2) / commits.max(1),
        load(&stats.sync_us_max)
    );
    let buckets: Vec<String> = stats
        .sync_us
        .iter()
        .enumerate()
        .map(|(at, count)| match SYNC_BUCKETS_US.get(at) {
            Some(bound) => format!("≤{bound}: {}", load(count)),
            None => format!("more: {}", load(count)),
        })
        .collect();
    println!("  commits by µs: {}", buckets.join(", "));
}

fn stored(stats: &StoreStats) -> u64 {
    stats.accepted.load(Ordering::Relaxed) + stats.upstream_stored.load(Ordering::Relaxed)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, or: u64| arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(or);
    let folder = arguments.first().cloned().unwrap_or_else(|| "store-rate".to_owned());
    let (seconds, in_flight, body) = (number(1, 5), number(2, 256), number(3, 200));
    let (sender, receiver) = mpsc::channel(1024);
    let options = StoreOptions {
        folder: folder.clone().into(),
        reserve_bytes: 0,
        retention_ms: 86_400_000,
        story_ms: 0,
        clock: Arc::new(wall),
    };
    let store = match MessageStore::open(options, sender) {
        Ok(store) => store,
        Err(error) => return println!("{error}"),
    };
    tokio::spawn(dispatch(receiver));
    let stats = store.stats();
    let next = Arc::new(AtomicU64::new(0));
    let body = Bytes::from(vec![7; body as usize]);
    for name in ["accept and ack", "accept only", "upstream"] {
        println!("{name}, {in_flight} in flight, body {} bytes, {seconds} s:", body.len());
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let before = (stored(&stats), load(&stats.commits), load(&stats.sync_us_sum));
        let begun = Instant::now();
        let until = begun + Duration::from_secs(seconds);
        let pushers: Vec<_> = (0..in_flight)
            .map(|_| {
                let (store, next, body) = (store.clone(), next.clone(), body.clone());
                match name {
                    "upstream" => tokio::spawn(upstream(store, next, body, until)),
                    _ => tokio::spawn(push(store, next, body, until, name == "accept and ack")),
                }
            })
            .collect();
        let mut took = Vec::new();
        for pusher in pushers {
            took.extend(pusher.await.unwrap_or_default());
        }
        report(&stats, before, begun.elapsed().as_secs_f64(), &mut took);
    }
    store.close().await;
}
