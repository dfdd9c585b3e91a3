//! `longwire node`: what an operator asks of one node.

use crate::Failure;
use crate::people::AdminArgs;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;

/// One node. The answer is printed as it came.
#[derive(Args)]
pub(crate) struct NodeArgs {
    #[command(flatten)]
    admin: AdminArgs,
    #[command(subcommand)]
    verb: NodeVerb,
}

#[derive(Subcommand)]
enum NodeVerb {
    /// Take it out of service: no new logins and pushes, devices are told to go elsewhere.
    Drain {
        /// Devices come back after a time of their own within this.
        #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u16).range(0..=3600))]
        window: u16,
        /// Go on when they have gone, instead of ending.
        #[arg(long)]
        stay: bool,
    },
    /// Read certificates and files of keys again.
    Reload,
    /// What its memory is used for.
    Memory,
    /// Its shards, with their connections.
    Shards,
}

/// Asks.
pub(crate) fn run(args: &NodeArgs) -> Result<(), Failure> {
    let admin = &args.admin;
    match &args.verb {
        NodeVerb::Drain { window, stay } => {
            let then = if *stay { "stay" } else { "exit" };
            let order = json!({ "window_s": window, "then": then });
            admin.show(Method::POST, "/v1/admin/drain", Some(&order))
        }
        NodeVerb::Reload => admin.show(Method::POST, "/v1/admin/reload", None),
        NodeVerb::Memory => admin.show(Method::GET, "/v1/admin/memory", None),
        NodeVerb::Shards => admin.show(Method::GET, "/v1/admin/shards", None),
    }
}
