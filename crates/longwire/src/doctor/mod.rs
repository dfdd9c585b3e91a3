//! `longwire doctor`: looks at the machine before the devices do. Nothing is changed, unless the stores are to be opened.
//!
//! - `advice`: what a machine should be set to, with reasons; `deploy/` says the same.
//! - `kernel`, `network`, `clock`, `storage`: what is there.
//! - `finding`: what was found, and how it is told.

mod advice;
mod clock;
#[cfg(test)]
mod deploy;
mod finding;
mod kernel;
mod network;
mod storage;

use crate::Failure;
use crate::configure::{ConfigArgs, build};
use clap::Args;
use finding::{Finding, Level};
use longwire_server::node::capacity::Capacity;
use longwire_server::node::machine::Machine;
use longwire_server::node::{Config, Layers};
use serde_json::json;
use std::path::PathBuf;

/// What is looked at, and how it is told.
#[derive(Args)]
pub(crate) struct DoctorArgs {
    /// Devices that this machine must carry at once: falling short is then an error, and the exit code 1.
    #[arg(long, value_name = "NUMBER")]
    connections: Option<u64>,
    /// One JSON document instead of text.
    #[arg(long)]
    json: bool,
    /// Open the stores as a start would, with every check that it makes, if they are there and free. This writes to them
    /// what a start would write.
    #[arg(long)]
    open_stores: bool,
    /// Read /proc, /sys and /run below this folder; the data directory is not below it.
    #[arg(long, value_name = "FOLDER", default_value = "/")]
    root: PathBuf,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Everything that the checks look at.
struct Look {
    machine: Machine,
    config: Config,
    plan: Plan,
    /// The running server, if the data directory has one.
    process: Option<String>,
}

/// How many devices the machine is measured by.
struct Plan {
    connections: u64,
    /// Somebody said the number.
    promised: bool,
}

impl Plan {
    /// What it means to carry fewer.
    fn shortage(&self) -> Level {
        if self.promised { Level::Error } else { Level::Warning }
    }
}

/// Looks at everything and prints it.
pub(crate) fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let mut layers = Layers::default();
    args.config.lay_over(&mut layers);
    let config = build(layers)?;
    let plan = Plan {
        connections: args.connections.unwrap_or(advice::CONNECTIONS_USUAL),
        promised: args.connections.is_some(),
    };
    let process = storage::holder(&config.data_dir);
    let look = Look { machine: Machine::below(&args.root), config, plan, process };
    let mut findings = examine(&look);
    if args.open_stores {
        findings.extend(storage::opened(&look, &findings)?);
    }
    if args.json {
        println!("{:#}", document(&look, &findings));
    } else {
        print!("{}", finding::text(&findings));
    }
    match findings.iter().filter(|finding| finding.level == Level::Error).count() {
        0 => Ok(()),
        errors => {
            Err(Failure::Failed(format!("{errors} things must be mended before this machine can serve")))
        }
    }
}

/// Every finding, in the order in which it is told.
fn examine(look: &Look) -> Vec<Finding> {
    let mut findings = kernel::descriptors(look);
    findings.extend(kernel::memory(look));
    findings.extend(kernel::sysctls(look));
    findings.extend(kernel::tcp_memory(look));
    findings.extend(kernel::tracking(look));
    findings.extend(network::cards(look));
    findings.extend(clock::source(look));
    findings.push(clock::wall(look));
    findings.extend(storage::findings(look));
    findings
}

fn document(look: &Look, findings: &[Finding]) -> serde_json::Value {
    let process = look.process.as_deref().unwrap_or("self");
    let hard = look.machine.descriptor_limits(process).map_or(0, |(_, hard)| hard);
    let capacity =
        Capacity::of(&look.machine, hard, look.config.api.connections_max, look.config.memory_limit_bytes);
    let (connections, nearest) = capacity.least();
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    json!({
        "capacity": {
            "connections": connections,
            "nearest": nearest,
            "by_descriptors": capacity.by_descriptors,
            "by_memory": capacity.by_memory,
            "by_tracking": capacity.by_tracking,
            "per_proxy_address": capacity.per_proxy_address,
        },
        "errors": count(Level::Error),
        "warnings": count(Level::Warning),
        "advice": count(Level::Advice),
        "findings": findings,
    })
}
