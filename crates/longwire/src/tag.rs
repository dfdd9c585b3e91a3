//! `longwire tag`.

use crate::Failure;
use crate::call::{PageArgs, segment};
use crate::register::ApiArgs;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;

/// Tags of the app's devices, by the API; what it answers is printed.
#[derive(Args)]
pub(crate) struct TagArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    verb: TagVerb,
}

#[derive(Subcommand)]
enum TagVerb {
    /// All tags, with how many devices have each, a page at a time.
    List(PageArgs),
    /// The devices that have a tag, a page at a time.
    Show {
        /// The tag.
        tag: String,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Give devices a tag.
    Add(Members),
    /// Take a tag from devices.
    Remove(Members),
    /// Take a tag from all devices. If some have it still after five seconds, the answer says how many: ask again.
    Clear {
        /// The tag.
        tag: String,
    },
}

#[derive(Args)]
struct Members {
    /// The tag.
    tag: String,
    /// Devices by name.
    #[arg(value_name = "NAME", required = true, num_args = 1..=1000)]
    names: Vec<String>,
}

/// Calls the API.
pub(crate) fn run(args: TagArgs) -> Result<(), Failure> {
    let TagArgs { api, verb } = args;
    let of = |tag: &str| format!("/v1/tags/{}", segment(tag));
    match verb {
        TagVerb::List(page) => api.call(Method::GET, &format!("/v1/tags{}", page.query()), None),
        TagVerb::Show { tag, page } => api.call(Method::GET, &format!("{}{}", of(&tag), page.query()), None),
        TagVerb::Add(Members { tag, names }) => {
            api.call(Method::POST, &of(&tag), Some(&json!({ "add": names })))
        }
        TagVerb::Remove(Members { tag, names }) => {
            api.call(Method::POST, &of(&tag), Some(&json!({ "remove": names })))
        }
        TagVerb::Clear { tag } => api.call(Method::DELETE, &of(&tag), None),
    }
}
