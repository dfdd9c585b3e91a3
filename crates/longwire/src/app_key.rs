//! `longwire app-key`: keys of one app, with its secret.

use crate::Failure;
use crate::call::{PageArgs, segment};
use crate::register::ApiArgs;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;

/// Keys of the app. The answer is printed as it came.
#[derive(Args)]
pub(crate) struct AppKeyArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    verb: AppKeyVerb,
}

#[derive(Subcommand)]
enum AppKeyVerb {
    /// Make a key; it is printed once.
    Create {
        /// What it is called.
        #[arg(long)]
        name: String,
        /// What it opens: push, messages:read, devices, tags, schedules, receipts, upstream, admin; may be repeated.
        #[arg(long = "scope", value_name = "SCOPE", required = true)]
        scopes: Vec<String>,
        /// It ends after so many seconds.
        #[arg(long, value_name = "SECONDS")]
        expires_in: Option<u64>,
    },
    /// List the keys of the app.
    List(PageArgs),
    /// Revoke a key, at once.
    Revoke {
        /// Its id.
        id: String,
    },
}

/// Asks.
pub(crate) fn run(args: &AppKeyArgs) -> Result<(), Failure> {
    let api = &args.api;
    match &args.verb {
        AppKeyVerb::Create { name, scopes, expires_in } => {
            let key = json!({ "name": name, "scopes": scopes, "expires_in_s": expires_in });
            api.call(Method::POST, "/v1/keys", Some(&key))
        }
        AppKeyVerb::List(page) => api.call(Method::GET, &format!("/v1/keys{}", page.query()), None),
        AppKeyVerb::Revoke { id } => api.call(Method::DELETE, &format!("/v1/keys/{}", segment(id)), None),
    }
}
