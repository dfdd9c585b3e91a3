//! `longwire recall`: one call of `DELETE /v1/messages/{msg_id}`.

use crate::Failure;
use crate::message::message_id;
use crate::register::ApiArgs;
use clap::Args;

/// A message to be recalled. The answer is printed as one line of JSON.
#[derive(Args)]
pub(crate) struct RecallArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The message's id, 32 hexadecimal digits.
    #[arg(value_name = "MSG_ID", value_parser = message_id)]
    message: String,
}

/// Recalls it.
pub(crate) fn run(args: &RecallArgs) -> Result<(), Failure> {
    let answer = args.api.delete(&format!("/v1/messages/{}", args.message))?;
    println!("{}", answer.trim_end());
    Ok(())
}
