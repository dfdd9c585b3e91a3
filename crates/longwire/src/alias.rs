//! `longwire alias`.

use crate::Failure;
use crate::call::{PageArgs, segment};
use crate::register::ApiArgs;
use clap::{Args, Subcommand};
use reqwest::Method;

/// Aliases of the app's devices, by the API; what it answers is printed.
#[derive(Args)]
pub(crate) struct AliasArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    verb: AliasVerb,
}

#[derive(Subcommand)]
enum AliasVerb {
    /// The devices that have an alias, a page at a time.
    Show {
        /// The alias.
        alias: String,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Take an alias from all devices. If some have it still after five seconds, the answer says how many: ask again.
    Unbind {
        /// The alias.
        alias: String,
    },
}

/// Calls the API.
pub(crate) fn run(args: AliasArgs) -> Result<(), Failure> {
    let AliasArgs { api, verb } = args;
    let of = |alias: &str| format!("/v1/aliases/{}", segment(alias));
    match verb {
        AliasVerb::Show { alias, page } => {
            api.call(Method::GET, &format!("{}{}", of(&alias), page.query()), None)
        }
        AliasVerb::Unbind { alias } => api.call(Method::DELETE, &of(&alias), None),
    }
}
