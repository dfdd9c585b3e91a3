//! `longwire explain`, `targets`, `receipts`, `presence`, `webhook`: what became of messages and devices.

use crate::register::ApiArgs;
use crate::{Failure, on_runtime};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

/// How long a follower waits before it connects again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// A heartbeat comes every 15 s; after so long without one the connection is given up.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// The longest event, bytes.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// One message and one device.
#[derive(Args)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The message.
    msg_id: String,
    /// The device.
    registration_id: String,
    /// Print the answer as it came.
    #[arg(long)]
    json: bool,
}

/// Prints the story, a step a line.
pub(crate) fn explain(args: ExplainArgs) -> Result<(), Failure> {
    let path = format!("/v1/messages/{}/explain/{}", segment(&args.msg_id), segment(&args.registration_id));
    let text = args.api.get(&path)?;
    if args.json {
        println!("{}", text.trim_end());
        return Ok(());
    }
    let story: Value = serde_json::from_str(&text).map_err(Failure::failed)?;
    for step in story["steps"].as_array().into_iter().flatten() {
        let word = |field: &str| step[field].as_str().unwrap_or("");
        println!("{:24} {:11} {}", word("at"), word("step"), word("detail"));
    }
    println!("{:24} {}", "", story["verdict"].as_str().unwrap_or(""));
    Ok(())
}

/// The devices of a message.
#[derive(Args)]
pub(crate) struct TargetsArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The message.
    msg_id: String,
    /// Only those in this state.
    #[arg(long)]
    state: Option<String>,
}

/// Prints all of them, one line of JSON each.
pub(crate) fn targets(args: TargetsArgs) -> Result<(), Failure> {
    let mut after = String::new();
    loop {
        let state = args.state.as_ref().map(|state| format!("&state={}", segment(state))).unwrap_or_default();
        let path = format!("/v1/messages/{}/targets?limit=1000{state}{after}", segment(&args.msg_id));
        let page: Value = serde_json::from_str(&args.api.get(&path)?).map_err(Failure::failed)?;
        print_all(&page["targets"]);
        let Some(next) = page["next"].as_str() else { return Ok(()) };
        after = format!("&after={next}");
    }
}

/// A stream of events.
#[derive(Args)]
pub(crate) struct StreamArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// Only what came after this cursor.
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// Go on with what comes, until it is interrupted.
    #[arg(long)]
    follow: bool,
}

/// Prints receipts, one line of JSON each.
pub(crate) fn receipts(args: StreamArgs) -> Result<(), Failure> {
    args.run("/v1/receipts", "/v1/receipts/stream", "receipts")
}

/// Prints events of presence, one line of JSON each.
pub(crate) fn presence(args: StreamArgs) -> Result<(), Failure> {
    args.run("/v1/presence/events", "/v1/presence/stream", "events")
}

impl StreamArgs {
    fn run(self, pages: &str, stream: &str, field: &str) -> Result<(), Failure> {
        if self.follow {
            return on_runtime(follow(self.api, stream, self.after));
        }
        let mut after = self.after;
        loop {
            let from = after.as_ref().map(|after| format!("&after={}", segment(after))).unwrap_or_default();
            let page: Value = serde_json::from_str(&self.api.get(&format!("{pages}?limit=1000{from}"))?)
                .map_err(Failure::failed)?;
            if page["lost"].as_u64() > Some(0) {
                eprintln!("longwire: {} events after the cursor are gone", page["lost"]);
            }
            print_all(&page[field]);
            if page["more"] != true {
                return Ok(());
            }
            after = page["next"].as_str().map(str::to_owned);
        }
    }
}

fn print_all(list: &Value) {
    list.as_array().into_iter().flatten().for_each(|one| println!("{one}"));
}

/// Follows a stream for ever, and connects again from where it was.
async fn follow(api: ApiArgs, path: &str, mut after: Option<String>) -> Result<(), Failure> {
    let secret = api.secret()?.to_owned();
    let client = reqwest::Client::builder().read_timeout(SILENCE_MAX).build().map_err(Failure::failed)?;
    loop {
        let mut call = client.get(format!("{}{path}", api.url())).basic_auth(&api.app_key, Some(&secret));
        if let Some(after) = &after {
            call = call.header("last-event-id", after);
        }
        match call.send().await {
            Ok(response) if response.status().is_success() => listen(response, &mut after).await?,
            Ok(response) if response.status().is_client_error() && response.status().as_u16() != 429 => {
                let status = response.status();
                let text = response.text().await.unwrap_or_default();
                return Err(Failure::failed(format!("refused with {status}: {text}")));
            }
            Ok(response) => eprintln!("longwire: {}", response.status()),
            Err(error) => eprintln!("longwire: {error}"),
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// Prints the data of events until the stream ends.
async fn listen(mut response: reqwest::Response, after: &mut Option<String>) -> Result<(), Failure> {
    let mut held = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        held.extend_from_slice(&chunk);
        while let Some(end) = held.iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&held[..end]).into_owned();
            held.drain(..=end);
            if let Some(data) = line.strip_prefix("data: ") {
                let mut out = std::io::stdout().lock();
                writeln!(out, "{data}").and_then(|()| out.flush()).map_err(Failure::failed)?;
            } else if let Some(id) = line.strip_prefix("id: ") {
                *after = Some(id.to_owned());
            }
        }
        if held.len() > EVENT_BYTES_MAX {
            return Err(Failure::failed("an event of more than a MiB"));
        }
    }
    Ok(())
}

/// The app's webhooks.
#[derive(Args)]
pub(crate) struct WebhookArgs {
    #[command(subcommand)]
    verb: WebhookVerb,
}

#[derive(Subcommand)]
enum WebhookVerb {
    /// List them, and how they stand.
    List(ListArgs),
    /// Make one, or change it. A new secret is printed once.
    Set(SetArgs),
    /// Take one away.
    Delete(NamedArgs),
    /// Send one request without events, at once.
    Test(NamedArgs),
}

#[derive(Args)]
struct ListArgs {
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Args)]
struct NamedArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// Its name.
    id: String,
}

#[derive(Args)]
struct SetArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// Its name.
    id: String,
    /// Where events are sent.
    #[arg(long)]
    url: String,
    /// `receipts` or `presence`; may be repeated.
    #[arg(long = "event", required = true, value_parser = ["receipts", "presence"])]
    events: Vec<String>,
    /// Make a new secret.
    #[arg(long)]
    new_secret: bool,
}

/// Does what is asked of a webhook.
pub(crate) fn webhook(args: WebhookArgs) -> Result<(), Failure> {
    let path = |id: &str| format!("/v1/webhooks/{}", segment(id));
    let answer = match args.verb {
        WebhookVerb::List(args) => {
            let page: Value =
                serde_json::from_str(&args.api.get("/v1/webhooks")?).map_err(Failure::failed)?;
            print_all(&page["webhooks"]);
            return Ok(());
        }
        WebhookVerb::Set(args) => {
            let body = json!({ "url": args.url, "events": args.events, "new_secret": args.new_secret });
            args.api.ask(reqwest::Method::PUT, &path(&args.id), Some(&body))?
        }
        WebhookVerb::Delete(args) => args.api.ask(reqwest::Method::DELETE, &path(&args.id), None)?,
        WebhookVerb::Test(args) => {
            args.api.ask(reqwest::Method::POST, &format!("{}/test", path(&args.id)), None)?
        }
    };
    if !answer.trim().is_empty() {
        println!("{}", answer.trim_end());
    }
    Ok(())
}

/// A text as one segment of a path, or one value of a query (RFC 3986, section 2.3).
fn segment(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            written.push(char::from(byte));
        } else {
            let _ = write!(written, "%{byte:02X}");
        }
    }
    written
}
