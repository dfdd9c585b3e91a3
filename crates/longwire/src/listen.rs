//! `longwire listen`: behaves like a device.

use crate::register::RegisterArgs;
use crate::{Failure, on_runtime};
use clap::Args;
use longwire_client::{
    CloseReason, Device, Incoming, Kind, Message, MessageId, ResultCode, Source, State, Subscription,
};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::Write as _;

/// A device to be. Every message is printed as one line of JSON on standard output, then acked; changes of the
/// connection go to standard error.
#[derive(Args)]
pub(crate) struct ListenArgs {
    #[command(flatten)]
    device: RegisterArgs,
    /// Subscribe to this topic filter; may be repeated. The device stays subscribed after the end of this command if --kept.
    #[arg(long = "topic", value_name = "FILTER")]
    topics: Vec<String>,
    /// What is published to these topics while the device is away waits for it.
    #[arg(long, requires = "topics")]
    kept: bool,
    /// End after the first message.
    #[arg(long, conflicts_with = "count")]
    once: bool,
    /// End after so many messages.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// The heartbeat, seconds, always this one; by default the server's wish, growing while nothing else passes.
    #[arg(long, value_name = "SECONDS")]
    heartbeat: Option<u16>,
}

/// Registers and listens until told to stop.
pub(crate) fn run(args: ListenArgs) -> Result<(), Failure> {
    on_runtime(listen(args))
}

async fn listen(args: ListenArgs) -> Result<(), Failure> {
    let wanted = if args.once { Some(1) } else { args.count };
    let app_key = args.device.api.app_key.clone();
    let registration = args.device.register().await?;
    eprintln!("registered as {}", registration.registration_id);
    let mut builder = Device::builder().registration(&registration).app_key(app_key);
    if let Some(seconds) = args.heartbeat {
        builder = builder.heartbeat_s(seconds).heartbeat_longest_s(seconds);
    }
    let mut device = builder.connect().map_err(Failure::failed)?;
    for filter in args.topics {
        let subscription = Subscription::new(filter.clone());
        let subscription = if args.kept { subscription.kept() } else { subscription };
        device.subscribe(subscription).await.map_err(|fault| Failure::Usage(format!("{filter}: {fault}")))?;
    }
    let mut shown = 0_u64;
    while wanted.is_none_or(|wanted| shown < wanted) {
        let incoming = tokio::select! {
            incoming = device.next() => incoming,
            _ = tokio::signal::ctrl_c() => break,
        };
        let Some(incoming) = incoming else { break };
        if let Incoming::Message(message) = &incoming {
            shown += 1;
            print_line(&line(message))?;
            if message.needs_ack() {
                device.ack(message.id).await;
            }
        } else {
            tell(&incoming)?;
        }
    }
    device.close().await;
    Ok(())
}

/// A line on standard output; a reader that is gone ends the device before it acks what nobody saw.
fn print_line(line: &Value) -> Result<(), Failure> {
    writeln!(std::io::stdout().lock(), "{line}").map_err(Failure::failed)
}

fn line(message: &Message) -> Value {
    let source = message.source.map(|source| match source {
        Source::Mailbox => "mailbox",
        Source::AppLog => "log",
    });
    let (kind, content) = match message.kind {
        Kind::Notification => {
            ("notification", serde_json::from_slice(&message.payload).unwrap_or(Value::Null))
        }
        Kind::Text => ("text", json!(String::from_utf8_lossy(&message.payload))),
        Kind::Custom => ("custom", json!({ "hex": hex(&message.payload) })),
        Kind::Topic => ("topic", published(message)),
        // Never shown as a message.
        Kind::Recall => ("recall", Value::Null),
    };
    json!({
        // What is stored nowhere has none.
        "msg_id": (message.id != MessageId(0)).then(|| message.id.to_string()),
        "trace_id": message.trace.to_string(),
        "kind": kind,
        "content": content,
        "source": source,
        "position": message.position.0,
        "collapse_key": message.collapse_key,
        "replaces": message.replaces.map(|replaced| replaced.to_string()),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What was published to a topic: the topic, and its content as text if it is.
fn published(message: &Message) -> Value {
    let Some(published) = &message.published else { return json!({ "hex": hex(&message.payload) }) };
    match std::str::from_utf8(&published.content) {
        Ok(text) => json!({ "topic": published.topic, "text": text }),
        Err(_) => json!({ "topic": published.topic, "hex": hex(&published.content) }),
    }
}

fn tell(incoming: &Incoming) -> Result<(), Failure> {
    match incoming {
        Incoming::Message(_) => {}
        Incoming::Gap(gap) => eprintln!("left out: {gap:?}"),
        Incoming::Answered { id, outcome } => eprintln!("answered: {id:?} {outcome:?}"),
        Incoming::Subscribed { filter, outcome: ResultCode::Done } => eprintln!("subscribed to {filter}"),
        Incoming::Subscribed { filter, outcome } => {
            return Err(Failure::Failed(format!("not subscribed to {filter}: {outcome:?}")));
        }
        Incoming::Unsubscribed { filter, .. } => eprintln!("no longer subscribed to {filter}"),
        Incoming::Changed { change, outcome } => eprintln!("{change:?}: {outcome:?}"),
        Incoming::Recall(message) => eprintln!("recalled: {message}"),
        Incoming::State(State::Connecting { address, attempt }) => {
            eprintln!("connecting to {address} (attempt {attempt})")
        }
        Incoming::State(State::Connected { address, node, heartbeat_s }) => {
            eprintln!("connected to {node} at {address}, heartbeat {heartbeat_s} s");
        }
        Incoming::State(State::Waiting { delay, ended }) => {
            eprintln!("{ended}; next attempt in {:.1} s", delay.as_secs_f64());
        }
        Incoming::State(State::Stopped(reason)) => return stopped(*reason),
    }
    Ok(())
}

fn stopped(reason: CloseReason) -> Result<(), Failure> {
    Err(Failure::Failed(format!("the server wants no more of this device: {}", reason.label())))
}
