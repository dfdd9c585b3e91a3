//! One webhook at work: pages of its streams in order, each sent until it is taken, and the place noted when it is.

use super::super::stats::HubStats;
use super::address::{self, Guarded};
use super::event::{PresenceBody, ReceiptBody, cursor};
use super::webhooks::Sendings;
use crate::domain::{AppId, Position, WallMs, Webhook};
use crate::store::messages::MessageStore;
use crate::store::port::StoreError;
use crate::store::truth::{PresenceEvent, Receipt, Stream, StreamRequest};
use hmac::{Hmac, KeyInit as _, Mac as _};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::Sha256;
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// Events of one request.
const EVENTS_MAX: u16 = 100;
/// Bytes of one request; one event always goes.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// What the place outside has to answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// What is read of an answer, so that its connection can be used again.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Waiting after a failure: this at first, then twice as long each time, with up to a quarter more or less.
const BACK_OFF_MIN_MS: u64 = 1000;
const BACK_OFF_MAX_MS: u64 = 300_000;
/// Events that are older than this are given up when they fail.
const TRIED_MS: u64 = 86_400_000;
/// After the store failed.
const STORE_PAUSE: Duration = Duration::from_secs(5);

/// What a webhook's task needs.
pub(super) struct Sender {
    pub(super) app: AppId,
    pub(super) app_key: Box<str>,
    pub(super) webhook: Webhook,
    pub(super) private: bool,
    pub(super) store: MessageStore,
    pub(super) clock: Arc<dyn Fn() -> WallMs + Send + Sync>,
    pub(super) node: Box<str>,
    pub(super) sendings: Arc<Mutex<Sendings>>,
    pub(super) places: Arc<Semaphore>,
    pub(super) stats: Arc<HubStats>,
}

/// A stream that is sent, and up to where.
struct Sending {
    stream: Stream,
    cursor: Option<Position>,
    head: watch::Receiver<Position>,
}

/// What goes out in one request.
struct Batch {
    body: String,
    next: Position,
    events: u64,
    lost: u64,
    /// When the newest of it happened.
    newest: WallMs,
}

/// Runs until it is aborted. Stopped anywhere, it sends again what was not noted as taken.
pub(super) async fn run(sender: Sender) {
    let client = match client(sender.private) {
        Ok(client) => client,
        Err(problem) => return sender.failed(&problem, None),
    };
    // It was checked when it was set, maybe under another setting of the node.
    let url = match address::parse(&sender.webhook.url, sender.private) {
        Ok(url) => url,
        Err(invalid) => return sender.failed(&invalid.to_string(), None),
    };
    loop {
        match sender.work(&client, &url).await {
            Ok(()) => {}
            Err(error) => {
                sender.failed(&error.to_string(), None);
                tokio::time::sleep(STORE_PAUSE).await;
            }
        }
    }
}

fn client(private: bool) -> Result<reqwest::Client, String> {
    let builder = reqwest::Client::builder()
        .timeout(ANSWER_MAX)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(1)
        .dns_resolver(Arc::new(Guarded { private }));
    builder.build().map_err(|error| error.without_url().to_string())
}

impl Sender {
    fn streams(&self) -> Vec<Stream> {
        let wanted = |stream: &Stream| match stream {
            Stream::Receipts => self.webhook.receipts,
            Stream::Presence => self.webhook.presence,
        };
        Stream::ALL.into_iter().filter(wanted).collect()
    }

    /// Sends what there is and what comes.
    async fn work(&self, client: &reqwest::Client, url: &reqwest::Url) -> Result<(), StoreError> {
        let mut sendings = Vec::new();
        for stream in self.streams() {
            let head = self.store.heads().watch(self.app, stream);
            let cursor = self.store.standing(self.app, stream, &self.webhook.id).await?.cursor;
            sendings.push(Sending { stream, cursor, head });
        }
        loop {
            let mut sent = false;
            for sending in &mut sendings {
                // Before the page is read, so that what comes meanwhile is seen.
                sending.head.borrow_and_update();
                let Some(batch) = self.batch(sending).await? else { continue };
                self.deliver(client, url, &batch).await;
                let next = Some(batch.next);
                self.store.set_cursor(self.app, sending.stream, &self.webhook.id, next).await?;
                sending.cursor = next;
                sent = true;
            }
            if !sent {
                let changes = sendings.iter_mut().map(|sending| Box::pin(sending.head.changed()));
                let changes: Vec<_> = changes.collect();
                if changes.is_empty() {
                    return std::future::pending().await;
                }
                // Cancel-safe: a change that is not taken stays seen as one.
                let _ = futures_util::future::select_all(changes).await;
            }
        }
    }

    async fn batch(&self, sending: &Sending) -> Result<Option<Batch>, StoreError> {
        let request = StreamRequest { app: self.app, after: sending.cursor, max: EVENTS_MAX };
        let (events, end, lost) = match sending.stream {
            Stream::Receipts => match self.store.receipts(request).await? {
                Some(page) => {
                    let event = |one: &Receipt| (json!(ReceiptBody::from(one)), one.position, one.at);
                    (page.events.iter().map(event).collect::<Vec<_>>(), page.next, page.lost)
                }
                None => return self.beyond(sending).await,
            },
            Stream::Presence => match self.store.presence_page(request).await? {
                Some(page) => {
                    let event = |one: &PresenceEvent| {
                        (json!(PresenceBody::new(one, &self.node)), one.position, one.at)
                    };
                    (page.events.iter().map(event).collect::<Vec<_>>(), page.next, page.lost)
                }
                None => return self.beyond(sending).await,
            },
        };
        if events.is_empty() && lost == 0 {
            return Ok(None);
        }
        Ok(Some(self.packed(sending.stream, events, end, lost)))
    }

    /// The noted place lies after the stream's end: the store is an older copy. What it has is sent.
    async fn beyond(&self, sending: &Sending) -> Result<Option<Batch>, StoreError> {
        let standing = self.store.standing(self.app, sending.stream, &self.webhook.id).await?;
        self.store.set_cursor(self.app, sending.stream, &self.webhook.id, Some(standing.gone)).await?;
        Err(StoreError::Unavailable("the place up to which it was sent is not in the store".into()))
    }

    fn packed(
        &self,
        stream: Stream,
        events: Vec<(Value, Position, WallMs)>,
        end: Position,
        lost: u64,
    ) -> Batch {
        let (mut list, mut next, mut newest, mut count) = (String::new(), end, WallMs(0), 0);
        for (event, position, at) in events {
            let text = event.to_string();
            if count > 0 && list.len() + text.len() + 512 > BODY_BYTES_MAX {
                break;
            }
            if count > 0 {
                list.push(',');
            }
            list.push_str(&text);
            (next, newest, count) = (position, newest.max(at), count + 1);
        }
        let (app, webhook) = (json!(self.app_key), json!(self.webhook.id));
        let body = format!(
            "{{\"app\":{app},\"webhook\":{webhook},\"stream\":\"{}\",\"events\":[{list}],\"next\":\"{}\",\"lost\":{lost}}}",
            stream.label(),
            cursor(next),
        );
        Batch { body, next, events: count, lost, newest }
    }

    /// Returns when it was taken, or given up.
    async fn deliver(&self, client: &reqwest::Client, url: &reqwest::Url, batch: &Batch) {
        let mut failures = 0;
        loop {
            let outcome = {
                // The semaphore is never closed.
                let _place = self.places.acquire().await;
                self.post(client, url, &batch.body).await
            };
            let now = (self.clock)();
            let Err(problem) = outcome else {
                self.stats.webhook_requests[0].fetch_add(1, Relaxed);
                let mut sendings = self.sendings.lock();
                sendings.delivered += 1;
                sendings.lost += batch.lost;
                sendings.failures = 0;
                sendings.delivered_at = Some(now);
                sendings.next_try = None;
                return;
            };
            let wait_ms = back_off_ms(failures);
            failures += 1;
            self.failed(&problem, Some(WallMs(now.0 + wait_ms)));
            if batch.newest.0.saturating_add(TRIED_MS) <= now.0 {
                self.stats.webhook_skipped.fetch_add(batch.events, Relaxed);
                let mut sendings = self.sendings.lock();
                sendings.skipped += batch.events;
                sendings.lost += batch.lost;
                tracing::warn!(
                    app = &*self.app_key,
                    webhook = self.webhook.id,
                    events = batch.events,
                    "events were given up: the webhook has failed for a day"
                );
                return;
            }
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
    }

    async fn post(&self, client: &reqwest::Client, url: &reqwest::Url, body: &str) -> Result<(), String> {
        let failed = |error: reqwest::Error| cause_of(&error.without_url());
        let request = client
            .post(url.clone())
            .header("content-type", "application/json")
            .header("x-longwire-signature", signature(&self.webhook.secret.0, (self.clock)(), body))
            .body(body.to_owned());
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("status {}", status.as_u16()));
        }
        let mut read = 0;
        // It has said yes; a body that is too long, or does not end, costs its connection only.
        while let Ok(Some(chunk)) = response.chunk().await {
            read += chunk.len();
            if read > ANSWER_BYTES_MAX {
                break;
            }
        }
        Ok(())
    }

    fn failed(&self, problem: &str, next_try: Option<WallMs>) {
        self.stats.webhook_requests[1].fetch_add(1, Relaxed);
        let mut sendings = self.sendings.lock();
        if sendings.failures == 0 {
            tracing::warn!(app = &*self.app_key, webhook = self.webhook.id, problem, "a webhook fails");
        }
        sendings.failed += 1;
        sendings.failures += 1;
        sendings.error = Some((problem.to_owned(), (self.clock)()));
        sendings.next_try = next_try;
    }

    /// One request without events; what came of it.
    pub(super) async fn try_once(&self) -> Result<(), String> {
        let client = client(self.private)?;
        let url = address::parse(&self.webhook.url, self.private).map_err(|invalid| invalid.to_string())?;
        let (app, webhook) = (json!(self.app_key), json!(self.webhook.id));
        let body = format!(
            "{{\"app\":{app},\"webhook\":{webhook},\"stream\":\"test\",\"events\":[],\"next\":null,\"lost\":0}}"
        );
        let _place = self.places.acquire().await;
        self.post(&client, &url, &body).await
    }
}

/// The innermost cause says most: "connection refused" rather than "error sending request".
fn cause_of(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if error.is_timeout() { format!("no answer in {} s", ANSWER_MAX.as_secs()) } else { cause.to_string() }
}

/// `t=SECONDS,v1=HEX`: HMAC-SHA-256 with the secret over the seconds, a dot, and the body.
fn signature(secret: &str, now: WallMs, body: &str) -> String {
    let seconds = now.0 / 1000;
    let mut text = format!("t={seconds},v1=");
    // A key may have any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return text };
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body.as_bytes());
    for byte in mac.finalize().into_bytes() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn back_off_ms(failures: u32) -> u64 {
    let whole = BACK_OFF_MIN_MS.saturating_mul(1 << failures.min(20)).min(BACK_OFF_MAX_MS);
    let spread = RandomState::new().hash_one(0_u8) % (whole / 2);
    whole - whole / 4 + spread
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_one_that_openssl_makes() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac whsec
        let expected = "t=1700000000,v1=8ad37ba156048ae0e0a5533c75cdf26fee88b07f93cb57ee4c80adb053012032";
        assert_eq!(signature("whsec", WallMs(1_700_000_000_999), "{\"a\":1}"), expected);
    }

    #[test]
    fn waiting_doubles_up_to_five_minutes() {
        for (failures, around) in
            [(0, 1000), (1, 2000), (5, 32_000), (8, 256_000), (9, 300_000), (60, 300_000)]
        {
            let wait = back_off_ms(failures);
            assert!((around * 3 / 4..=around * 5 / 4).contains(&wait), "{failures}: {wait}");
        }
    }
}
