//! Load generator and limit probe: what a Longwire server does, beside what this machine can do at all.
//!
//! A measurement is several processes, because one may hold 20,000 descriptors only: this one gives orders, the
//! server is a `longwire serve` process, fleets of devices or bare readers and the bare writer are this command run
//! again as `bench fleet`. Orders go to a child's standard input and reports come from its standard output, one JSON
//! object a line. In the order of a run:
//!
//! - `args`: the scenarios and their options.
//! - `scenario`: `limit`, `idle`, `fanout`, `unicast`, `schedules`; `scenario::crowd`: `heartbeat`, `storm`, `churn`, `stall`, `mixed`,
//!   `idle --total`; `scenario::transports`: `handshake`, `stalled-handshakes`, `mixed-transports`; `scenario::mqtt`: `idle`, `fanout`, `unicast` and `storm` against any MQTT broker.
//! - `server`: a server of our own, or one that runs already; its memory, processor time and metrics.
//! - `child`, `order`: a child process and the words spoken with it.
//! - `fleet`: many devices, bare readers, or connections that come and go, in one loop; `writer`: the bare write and echo loops, over
//!   sockets of its own or `borrow`ed ones; `source`: where connections come from.
//! - `transport`, `tls`: what devices connect through.
//! - `http`, `pump`: an HTTP/1.1 client that costs far less than the server it loads; `devices` registers with it.
//! - `metrics`: what the server says of itself; `folder`: where it keeps its data meanwhile.
//! - `probe`: what one fsync costs here.
//! - `clock`, `machine`, `series`, `slope`, `latency`, `report`: reading instruments and printing figures; `random`: choices.
//! - `compare`: two measurements side by side.
//! - `proxy`: faults between a device and a server.
//! - `demo`: a server and a thousand devices, to look at.
//!
//! The bench knows the protocol and the HTTP API, never the server's insides.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench talks to the person who started it")]

mod args;
mod borrow;
mod child;
mod clock;
mod compare;
mod demo;
mod devices;
mod error;
mod fleet;
mod folder;
mod http;
mod latency;
mod machine;
mod metrics;
mod order;
mod place;
mod probe;
mod progress;
mod proxy;
mod pump;
mod random;
mod report;
mod scenario;
mod series;
mod server;
mod slope;
mod source;
mod tls;
mod transport;
mod writer;

pub use args::BenchArgs;
pub use demo::{DemoArgs, run_demo};
pub use error::BenchError;

use args::Scenario;

/// Runs one scenario to its end and prints its figures. Blocks.
///
/// # Errors
/// The options contradict each other, the server cannot be reached or refuses, or a deadline passed.
pub fn run_bench(args: BenchArgs) -> Result<(), BenchError> {
    machine::raise_descriptor_limit();
    if let Some([before, after]) = args.compare.as_deref() {
        return compare::run(before, after);
    }
    let Some(scenario) = args.scenario else {
        return Err(BenchError::Options("a scenario, or --compare with two files".into()));
    };
    match scenario {
        Scenario::Limit(limit) => scenario::limit::run(&limit),
        Scenario::Idle(idle) if idle.mqtt.is_mqtt() => scenario::mqtt::idle::run(&idle),
        Scenario::Fanout(fanout) if fanout.mqtt.is_mqtt() => scenario::mqtt::load::fanout(&fanout),
        Scenario::Unicast(unicast) if unicast.mqtt.is_mqtt() => scenario::mqtt::load::unicast(&unicast),
        Scenario::Storm(storm) if storm.mqtt.is_mqtt() => scenario::mqtt::storm::run(&storm),
        Scenario::Idle(idle) if idle.total.is_some() => scenario::crowd::total::run(&idle),
        Scenario::Idle(idle) => scenario::idle::run(&idle),
        Scenario::Fanout(fanout) => scenario::fanout::run(&fanout),
        Scenario::BroadcastRegistered(broadcast) => scenario::broadcast::run(&broadcast),
        Scenario::Unicast(unicast) => scenario::unicast::run(&unicast),
        Scenario::Heartbeat(heartbeat) => scenario::crowd::heartbeat::run(&heartbeat),
        Scenario::Storm(storm) => scenario::crowd::storm::run(&storm),
        Scenario::Churn(churn) => scenario::crowd::churn::run(&churn),
        Scenario::Stall(stall) => scenario::crowd::stall::run(&stall),
        Scenario::Mixed(mixed) => scenario::crowd::mixed::run(&mixed),
        Scenario::Handshake(handshake) => scenario::transports::handshake::run(&handshake),
        Scenario::StalledHandshakes(stalled) => scenario::transports::stalled::run(&stalled),
        Scenario::MixedTransports(all) => scenario::transports::all::run(&all),
        Scenario::Schedules(schedules) => scenario::schedules::run(&schedules),
        Scenario::Stuck(stuck) => scenario::stuck::run(&stuck),
        Scenario::Proxy(proxy) => proxy::run(&proxy),
        Scenario::Fleet(fleet) => match fleet.role {
            role @ (args::Role::Readers | args::Role::Swarm | args::Role::Churner) => fleet::run(role),
            args::Role::Writer => writer::run(),
            args::Role::Server => server::become_server(&fleet.words),
        },
    }
}
