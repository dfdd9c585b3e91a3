//! `longwire push`: one call of `POST /v1/push`, or a file of pushes through `POST /v1/push/batch`.

use crate::Failure;
use crate::register::ApiArgs;
use clap::{ArgGroup, Args, ValueEnum};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Pushes of one batch, as the server takes them.
const BATCH_PUSHES_MAX: usize = 1000;
/// Their bytes, well within what the server takes.
const BATCH_BYTES_MAX: usize = 3 * 1024 * 1024;

/// What `--message` is.
#[derive(Clone, Copy, ValueEnum)]
enum ContentType {
    Text,
    Json,
    /// In base64.
    Binary,
}

/// A message to push. The answer is printed as one line of JSON.
#[derive(Args)]
#[command(group(ArgGroup::new("audience").required(true).args(["all", "to", "alias", "tag", "batch"])))]
#[command(group(ArgGroup::new("content").required(true).multiple(true).args(["title", "body", "message", "batch"])))]
pub(crate) struct PushArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(flatten)]
    what: WhatArgs,
    /// Push then, RFC 3339 with an offset: the answer names a schedule.
    #[arg(long, value_name = "TIME", conflicts_with = "cid")]
    send_at: Option<String>,
    /// A key for this push, 1 to 64 bytes: called again with it, the same push is not made again.
    #[arg(long, value_name = "KEY")]
    cid: Option<String>,
    /// A file of pushes, one JSON object a line as POST /v1/push takes it; `-` is standard input. One line of JSON is printed for each
    /// push, in their order; the exit code is 1 if any was refused.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ttl", "collapse_key", "override_msg_id", "priority", "cid", "content_type", "send_at", "expire_at", "speed", "big_push_duration"])]
    batch: Option<PathBuf>,
}

/// Whom a push is for, and what it is. Which of them are needed, the verb says.
#[derive(Args)]
pub(crate) struct WhatArgs {
    /// To every device.
    #[arg(long)]
    all: bool,
    /// To this registration id; may be repeated.
    #[arg(long, value_name = "NAME")]
    to: Vec<String>,
    /// To all devices of this alias; may be repeated.
    #[arg(long)]
    alias: Vec<String>,
    /// To devices with this tag; may be repeated: any of them.
    #[arg(long)]
    tag: Vec<String>,
    /// A notification's title.
    #[arg(long, conflicts_with = "message")]
    title: Option<String>,
    /// A notification's text.
    #[arg(long, conflicts_with = "message")]
    body: Option<String>,
    /// A message for the application.
    #[arg(long)]
    message: Option<String>,
    /// What --message is.
    #[arg(long, value_enum, default_value = "text", requires = "message")]
    content_type: ContentType,
    /// Seconds to live; 0 = only to devices that are connected now.
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u64>,
    /// The newest of a key replaces older ones on the device.
    #[arg(long, value_name = "KEY")]
    collapse_key: Option<String>,
    /// High overtakes what waits with normal.
    #[arg(long, value_enum)]
    priority: Option<Priority>,
    /// An earlier message that this one takes the place of, delivered or not.
    #[arg(long, value_name = "MSG_ID", value_parser = crate::message::message_id)]
    override_msg_id: Option<String>,
    /// When it expires, RFC 3339 with an offset.
    #[arg(long, value_name = "TIME", conflicts_with = "ttl")]
    expire_at: Option<String>,
    #[command(flatten)]
    speed: SpeedArgs,
}

/// How fast a message for many goes out.
#[derive(Args)]
pub(crate) struct SpeedArgs {
    /// Spread over time: so many devices a second.
    #[arg(long, value_name = "DEVICES", conflicts_with = "big_push_duration")]
    speed: Option<u32>,
    /// Spread over so many minutes.
    #[arg(long, value_name = "MINUTES")]
    big_push_duration: Option<u32>,
}

impl SpeedArgs {
    /// Adds what was given.
    pub(crate) fn put(&self, to: &mut Map<String, Value>) {
        if let Some(speed) = self.speed {
            to.insert("speed".into(), json!(speed));
        }
        if let Some(minutes) = self.big_push_duration {
            to.insert("big_push_duration".into(), json!(minutes));
        }
    }
}

/// How urgent.
#[derive(Clone, Copy, ValueEnum)]
enum Priority {
    High,
    Normal,
}

/// Pushes.
pub(crate) fn run(args: PushArgs) -> Result<(), Failure> {
    if let Some(file) = &args.batch {
        return run_batch(&args.api, file);
    }
    let mut push = args.what.request()?;
    if let Some(cid) = &args.cid {
        push["cid"] = json!(cid);
    }
    if let Some(at) = &args.send_at {
        push["options"]["send_at"] = json!(at);
    }
    let answer = args.api.post("/v1/push", &push)?;
    println!("{}", answer.trim_end());
    Ok(())
}

/// Pushes a file, as many as fit at a time.
fn run_batch(api: &ApiArgs, file: &Path) -> Result<(), Failure> {
    let text = if file == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    let text = text.map_err(|cause| Failure::Usage(format!("{}: {cause}", file.display())))?;
    let mut pushes = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let push = serde_json::from_str::<Value>(line);
        let problem = |fault| Failure::Usage(format!("{}, line {}: {fault}", file.display(), at + 1));
        pushes.push((push.map_err(problem)?, line.len()));
    }
    let (mut from, mut refused) = (0, 0);
    while from < pushes.len() {
        let mut bytes = 0;
        let fits = |(_, length): &&(Value, usize)| {
            bytes += length + 1;
            bytes <= BATCH_BYTES_MAX
        };
        let count = pushes[from..].iter().take(BATCH_PUSHES_MAX).take_while(fits).count().max(1);
        let whole: Vec<&Value> = pushes[from..from + count].iter().map(|(push, _)| push).collect();
        let answer = api.post("/v1/push/batch", &json!({ "pushes": whole }))?;
        let answer: Value = serde_json::from_str(&answer).map_err(Failure::failed)?;
        for result in answer["results"].as_array().into_iter().flatten() {
            println!("{result}");
        }
        refused += answer["refused"].as_u64().unwrap_or(0);
        from += count;
    }
    match refused {
        0 => Ok(()),
        many => Err(Failure::failed(format!("{many} of {} pushes were refused", pushes.len()))),
    }
}

impl WhatArgs {
    /// The push as the API takes it.
    pub(crate) fn request(&self) -> Result<Value, Failure> {
        request(self)
    }
}

fn request(args: &WhatArgs) -> Result<Value, Failure> {
    let audience = if args.all {
        json!("all")
    } else if !args.to.is_empty() {
        json!({ "registration_id": args.to })
    } else if !args.alias.is_empty() {
        json!({ "alias": args.alias })
    } else {
        json!({ "tag": args.tag })
    };
    let mut request = Map::from_iter([("audience".to_owned(), audience)]);
    match &args.message {
        Some(message) => {
            let (kind, content) = match args.content_type {
                ContentType::Text => ("text", json!(message)),
                ContentType::Binary => ("binary", json!(message)),
                ContentType::Json => {
                    let value = serde_json::from_str::<Value>(message);
                    (
                        "json",
                        value.map_err(|fault| Failure::Usage(format!("--message is not JSON: {fault}")))?,
                    )
                }
            };
            request.insert("message".into(), json!({ "content_type": kind, "msg_content": content }));
        }
        None => {
            let fields = [("title", &args.title), ("body", &args.body)];
            let given = fields.into_iter().filter_map(|(k, v)| Some((k.to_owned(), json!(v.as_ref()?))));
            request.insert("notification".into(), Value::Object(given.collect()));
        }
    }
    let mut options = Map::new();
    if let Some(ttl) = args.ttl {
        options.insert("time_to_live".into(), json!(ttl));
    }
    if let Some(key) = &args.collapse_key {
        options.insert("collapse_key".into(), json!(key));
    }
    if let Some(priority) = args.priority {
        let word = match priority {
            Priority::High => "high",
            Priority::Normal => "normal",
        };
        options.insert("priority".into(), json!(word));
    }
    if let Some(replaced) = &args.override_msg_id {
        options.insert("override_msg_id".into(), json!(replaced));
    }
    if let Some(at) = &args.expire_at {
        options.insert("expire_at".into(), json!(at));
    }
    args.speed.put(&mut options);
    if !options.is_empty() {
        request.insert("options".into(), Value::Object(options));
    }
    Ok(Value::Object(request))
}
