//! `longwire message`: one call of `GET /v1/messages/{msg_id}`.

use crate::Failure;
use crate::register::ApiArgs;
use clap::Args;

/// A message to be asked about. The answer is printed as one line of JSON.
#[derive(Args)]
pub(crate) struct MessageArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The message's id, 32 hexadecimal digits.
    #[arg(value_name = "MSG_ID", value_parser = message_id)]
    message: String,
}

/// Asks.
pub(crate) fn run(args: &MessageArgs) -> Result<(), Failure> {
    let answer = args.api.get(&format!("/v1/messages/{}", args.message))?;
    println!("{}", answer.trim_end());
    Ok(())
}

/// A message id as it is written.
pub(crate) fn message_id(text: &str) -> Result<String, String> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digits { Ok(text.to_owned()) } else { Err("must be 32 hexadecimal digits".to_owned()) }
}
