//! `longwire push`: one call of `POST /v1/push`.

use crate::Failure;
use crate::register::ApiArgs;
use clap::{ArgGroup, Args, ValueEnum};
use serde_json::{Map, Value, json};

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
#[command(group(ArgGroup::new("audience").required(true).args(["all", "to", "alias", "tag"])))]
#[command(group(ArgGroup::new("content").required(true).multiple(true).args(["title", "body", "message"])))]
pub(crate) struct PushArgs {
    #[command(flatten)]
    api: ApiArgs,
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
}

/// Pushes.
pub(crate) fn run(args: PushArgs) -> Result<(), Failure> {
    let answer = args.api.post("/v1/push", &request(&args)?)?;
    println!("{}", answer.trim_end());
    Ok(())
}

fn request(args: &PushArgs) -> Result<Value, Failure> {
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
    if !options.is_empty() {
        request.insert("options".into(), Value::Object(options));
    }
    Ok(Value::Object(request))
}
