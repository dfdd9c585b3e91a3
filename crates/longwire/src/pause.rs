//! `longwire pause` and `longwire resume`: `PATCH /v1/messages/{msg_id}`, for a message that is spread over time.

use crate::Failure;
use crate::message::message_id;
use crate::push::SpeedArgs;
use crate::register::ApiArgs;
use clap::Args;
use reqwest::Method;
use serde_json::{Map, Value, json};

/// A message of which nothing more is to be sent out until it is resumed. The answer is printed as one line of JSON.
#[derive(Args)]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The message's id, 32 hexadecimal digits.
    #[arg(value_name = "MSG_ID", value_parser = message_id)]
    message: String,
}

/// A message that is to go on, perhaps at another speed. The answer is printed as one line of JSON.
#[derive(Args)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The message's id, 32 hexadecimal digits.
    #[arg(value_name = "MSG_ID", value_parser = message_id)]
    message: String,
    #[command(flatten)]
    speed: SpeedArgs,
}

/// Pauses.
pub(crate) fn pause(args: &PauseArgs) -> Result<(), Failure> {
    change(&args.api, &args.message, "paused", Map::new())
}

/// Resumes.
pub(crate) fn resume(args: &ResumeArgs) -> Result<(), Failure> {
    let mut fields = Map::new();
    args.speed.put(&mut fields);
    change(&args.api, &args.message, "running", fields)
}

fn change(api: &ApiArgs, message: &str, state: &str, mut fields: Map<String, Value>) -> Result<(), Failure> {
    fields.insert("state".into(), json!(state));
    let answer = api.ask(Method::PATCH, &format!("/v1/messages/{message}"), Some(&Value::Object(fields)))?;
    println!("{}", answer.trim_end());
    Ok(())
}
