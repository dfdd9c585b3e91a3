//! `longwire retained`: what topics keep for later subscribers.

use crate::Failure;
use crate::call::segment;
use crate::register::ApiArgs;
use clap::{Args, Subcommand};
use reqwest::Method;

/// What topics keep. The answer is printed as it came.
#[derive(Args)]
pub(crate) struct RetainedArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    verb: RetainedVerb,
}

#[derive(Subcommand)]
enum RetainedVerb {
    /// List it by topic, a page at a time.
    List {
        /// Only topics that this filter means.
        #[arg(long, default_value = "#")]
        filter: String,
        /// Only what comes after this topic.
        #[arg(long, value_name = "TOPIC")]
        after: Option<String>,
        /// Items at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
    },
    /// Forget what a topic keeps.
    Clear {
        /// The topic.
        topic: String,
    },
}

/// Asks.
pub(crate) fn run(args: &RetainedArgs) -> Result<(), Failure> {
    match &args.verb {
        RetainedVerb::List { filter, after, limit } => {
            let after = after.as_deref().map(|topic| format!("&after={}", segment(topic)));
            let query = format!("filter={}&limit={limit}{}", segment(filter), after.unwrap_or_default());
            args.api.call(Method::GET, &format!("/v1/retained?{query}"), None)
        }
        RetainedVerb::Clear { topic } => {
            args.api.call(Method::DELETE, &format!("/v1/retained?topic={}", segment(topic)), None)
        }
    }
}
