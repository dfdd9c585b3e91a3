//! `bench storm --protocol mqtt`: clients that connect to a broker in the same moment.

use std::time::Duration;

use super::Broker;
use crate::args::ServerArgs;
use crate::clock;
use crate::error::BenchError;
use crate::machine::cpu_ns;
use crate::order::Play;
use crate::report::{Figures, grouped};
use crate::scenario::bare::seconds;
use crate::scenario::crowd::storm::StormArgs;
use crate::scenario::team::Team;
use crate::server;

/// Runs the scenario.
pub(crate) fn run(args: &StormArgs) -> Result<(), BenchError> {
    let count = args.devices as usize;
    let broker = Broker::obtain(&ServerArgs {
        spawn: false,
        target: args.target,
        api: None,
        app_key: None,
        app_secret: None,
        pid: args.pid,
        serve_arg: args.serve_arg.clone(),
        server_program: args.server_program.clone(),
    })?;
    let mut team = Team::of(&server::program()?, "readers", Team::fleets_for(count).max(2).min(count), 2)?;
    let mut clients = args.mqtt.clients(broker.target, Play::Idle);
    (clients.under_way_max, clients.count_welcomes) = (count, true);
    let cpu_before = broker.pid.map(cpu_ns);
    let patience = Duration::from_secs(args.seconds);
    team.expect_share(count, patience)?;
    let begin_ns = clock::now_ns();
    team.clients(&clients, count)?;
    let haul = team.held(patience)?;
    let cpu_s =
        broker.pid.zip(cpu_before).map(|(pid, before)| cpu_ns(pid).saturating_sub(before) as f64 / 1e9);
    let all_s = seconds(begin_ns, haul.at_ns);
    let mut figures = Figures::new("storm");
    figures.row("broker", format!("{}, MQTT {}", broker.words(), args.mqtt.version()));
    figures.row("clients at once", grouped(count as f64));
    figures.row("until all were welcomed", format!("{all_s:.2} s, {}/s", grouped(count as f64 / all_s)));
    figures.latency_ms = haul.latencies.percentiles();
    if let Some(percentiles) = &figures.latency_ms {
        figures.row("connect to CONNACK", format!("{percentiles} ms"));
    }
    if let Some(cpu_s) = cpu_s {
        figures.row("server CPU", format!("{cpu_s:.2} s"));
    }
    figures.lost = Some((count as u64).saturating_sub(haul.messages));
    figures.cpu_s_per_million = cpu_s.map(|cpu_s| cpu_s * 1e6 / count as f64);
    figures.extra("protocol", "mqtt");
    figures.extra("clients", count);
    figures.extra("all_welcomed_s", all_s);
    figures.extra("server_cpu_s", cpu_s);
    figures.print(args.output.json);
    Ok(())
}
