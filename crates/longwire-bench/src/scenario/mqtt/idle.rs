//! `bench idle --protocol mqtt`: what an idle connection with one subscription costs in a broker's memory.

use std::time::Duration;

use super::Broker;
use crate::args::IdleArgs;
use crate::error::BenchError;
use crate::folder::Folder;
use crate::order::Play;
use crate::progress::bar;
use crate::report::Figures;
use crate::scenario::idle::{Level, levels_of, report_memory, settle};
use crate::scenario::team::Team;
use crate::server;

/// Runs the scenario.
pub(crate) fn run(args: &IdleArgs) -> Result<(), BenchError> {
    let most = levels_of(args)?;
    let mut args = args.clone();
    let _certificate = args.through.certify(&mut args.server)?;
    let (args, transport) = (&args, args.through.transport);
    let (mut broker, how, _folder) = begin(args, most)?;
    let Some(pid) = broker.pid else {
        return Err(BenchError::Options("memory of a broker that runs already needs its --pid".into()));
    };
    let longest = Duration::from_secs(args.settle_s);
    let empty = settle(pid, 0, longest)?;
    let mut team = Team::start(&server::program()?, most, 2)?.through(transport);
    let progress = bar("filling", most as u64);
    let mut levels: Vec<Level> = Vec::new();
    for &level in &args.levels {
        let connections = subscribe(args, &broker, &mut team, level as usize)?;
        progress.set_position(connections as u64);
        levels.push(settle(pid, connections, longest)?);
    }
    progress.finish_and_clear();
    let closed = team.tally()?.closed;
    if closed > 0 {
        return Err(BenchError::Server(format!("{closed} idle connections were closed; no level counts")));
    }
    let mut figures = Figures::new("idle");
    figures.row("broker", format!("{}, MQTT {}", broker.words(), args.mqtt.version()));
    figures.row("before", how);
    let whose = if args.common_topic { "the same topic for all" } else { "a topic of its own each" };
    figures.row("subscription", format!("one each, QoS {}, {whose}", args.mqtt.qos));
    report_memory(&mut figures, &empty, &levels)?;
    figures.lost = Some(0);
    figures.row("transport", transport.name());
    figures.extra("transport", transport.name());
    figures.extra("protocol", "mqtt");
    figures.print(args.output.json);
    // The clients go first: a broker that ends under them would log that.
    drop(team);
    broker.own = None;
    Ok(())
}

/// A server of our own has seen every client once and was started again on the same data, so that no level contains the records of
/// clients that come for the first time. Another broker is taken as it is.
fn begin(args: &IdleArgs, most: usize) -> Result<(Broker, String, Option<Folder>), BenchError> {
    if args.server.target.is_some() {
        return Ok((Broker::obtain(&args.server)?, "taken as it was".into(), None));
    }
    let folder = Folder::name("mqtt-idle")?;
    let mut server_args = args.server.clone();
    server_args.serve_arg.extend(["--data-dir".to_owned(), folder.0.display().to_string()]);
    let mut broker = Broker::obtain(&server_args)?;
    let mut team = Team::start(&server::program()?, most, 5)?.through(args.through.transport);
    subscribe(args, &broker, &mut team, most)?;
    drop(team);
    let program = server_args.server_program.clone().map_or_else(server::program, Ok)?;
    if let Some(own) = broker.own.as_mut() {
        own.start_again(&program, &server_args.serve_arg)?;
        (broker.target, broker.pid) = (own.device, own.pid);
    }
    Ok((broker, "every client came once, then the server was started again".into(), Some(folder)))
}

/// Subscribers up to `level`; returns how many there are.
fn subscribe(args: &IdleArgs, broker: &Broker, team: &mut Team, level: usize) -> Result<usize, BenchError> {
    let part = Play::Subscriber { topic: "bench/idle".into(), each: !args.common_topic, qos: args.mqtt.qos };
    team.clients(&args.mqtt.clients(broker.target, part), level - team.live())
}
