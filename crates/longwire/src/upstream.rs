//! `longwire upstream`: what devices sent to the business.

use crate::Failure;
use crate::call::PageArgs;
use crate::register::ApiArgs;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;

/// What devices sent. The answer is printed as it came.
#[derive(Args)]
pub(crate) struct UpstreamArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    verb: UpstreamVerb,
}

#[derive(Subcommand)]
enum UpstreamVerb {
    /// List what was not acked, oldest first; `--after` takes the `cursor` of an answer.
    List(PageArgs),
    /// Say that everything up to a cursor is safe: it is let go.
    Ack {
        /// The cursor.
        cursor: String,
    },
}

/// Asks.
pub(crate) fn run(args: &UpstreamArgs) -> Result<(), Failure> {
    match &args.verb {
        UpstreamVerb::List(page) => {
            args.api.call(Method::GET, &format!("/v1/upstream{}", page.query()), None)
        }
        UpstreamVerb::Ack { cursor } => {
            args.api.call(Method::POST, "/v1/upstream/ack", Some(&json!({ "cursor": cursor })))
        }
    }
}
