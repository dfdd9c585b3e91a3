//! `bench mixed-transports`: native devices and MQTT clients, bare, inside WebSockets and inside TLS, all at one listener: all log in, all
//! get what is pushed to all, all ack.

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::{OutputArgs, ServerArgs};
use crate::clock;
use crate::devices::{Device, register};
use crate::error::BenchError;
use crate::http::Api;
use crate::latency::{Percentiles, STAMP_BYTES, stamp};
use crate::metrics::{LoopLag, report_loop};
use crate::order::{Clients, Login, Play};
use crate::report::{Figures, grouped};
use crate::scenario::online::HEARTBEAT_S;
use crate::scenario::team::{Haul, Team};
use crate::server::{self, Server};
use crate::tls::Certificate;
use crate::transport::Transport;

/// The first third number of source addresses, one for each kind.
const NET: u8 = 20;
/// All have a push within this.
const PATIENCE: Duration = Duration::from_secs(60);
/// The server has counted all acks within this.
const COUNT_TIME: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(50);
const TTL_S: u32 = 3600;
/// Connections of one kind being opened at once.
const UNDER_WAY_MAX: usize = 64;

#[derive(Clone, Debug, Args)]
pub(crate) struct AllArgs {
    /// Devices, shared equally by the kinds.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..=18_000))]
    devices: u32,
    /// Stored pushes to all, one after the other.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pushes: u32,
    /// Bytes of the payload.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(16..=4_096))]
    bytes: u32,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Speech {
    Native,
    Mqtt311,
    Mqtt5,
}

/// What is mixed: half of it inside TLS.
const KINDS: [(Speech, Transport, &str); 10] = [
    (Speech::Native, Transport::Tcp, "native"),
    (Speech::Native, Transport::Ws, "native in ws"),
    (Speech::Mqtt311, Transport::Tcp, "mqtt 3.1.1"),
    (Speech::Mqtt5, Transport::Tcp, "mqtt 5.0"),
    (Speech::Mqtt5, Transport::Ws, "mqtt 5.0 in ws"),
    (Speech::Native, Transport::Tls, "native in tls"),
    (Speech::Native, Transport::Wss, "native in ws in tls"),
    (Speech::Mqtt311, Transport::Tls12, "mqtt 3.1.1 in tls 1.2"),
    (Speech::Mqtt5, Transport::Tls, "mqtt 5.0 in tls"),
    (Speech::Mqtt5, Transport::Wss, "mqtt 5.0 in ws in tls"),
];

/// The devices of one kind.
struct Group {
    team: Team,
    devices: Vec<Login>,
    haul: Haul,
}

#[derive(Debug, Serialize)]
struct Counted {
    kind: &'static str,
    logged_in: usize,
    received: u64,
    repeated: u64,
    lost: u64,
    latency_ms: Option<Percentiles>,
}

/// Runs the scenario.
pub(crate) fn run(args: &AllArgs) -> Result<(), BenchError> {
    let certificate = Certificate::make()?;
    let mut server_args = args.server.clone();
    if server_args.target.is_none() {
        server_args.serve_arg.extend(certificate.flags());
    }
    let server = Server::obtain(&server_args)?;
    let api = Api::new(server.api, &server.app_key, &server.app_secret);
    let lag = LoopLag::read(&api)?;
    let devices = register(&api, args.devices as usize, |_| Vec::new())?;
    let mut groups = groups(&devices)?;
    let begin = Instant::now();
    log_in(&mut groups, &server)?;
    let login_s = begin.elapsed().as_secs_f64();
    let mut delivered = Vec::new();
    for _ in 0..args.pushes {
        delivered.push(push(args, &api, &mut groups)?);
    }
    for group in &mut groups {
        let rest = group.team.tally()?;
        group.haul.merge(&rest);
    }
    publish(args, &groups, &delivered, login_s, (&lag, &LoopLag::read(&api)?))
}

fn groups(devices: &[Device]) -> Result<Vec<Group>, BenchError> {
    let program = server::program()?;
    let mut left = devices;
    let mut groups = Vec::new();
    for (index, (_, transport, _)) in KINDS.iter().enumerate() {
        let (these, others) = left.split_at(left.len().div_ceil(KINDS.len() - index));
        left = others;
        let team = Team::of(&program, "readers", 1, NET + index as u8)?.through(*transport);
        let devices = these.iter().map(|device| device.login.clone()).collect();
        groups.push(Group { team, devices, haul: Haul::default() });
    }
    Ok(groups)
}

/// All kinds at once.
fn log_in(groups: &mut [Group], server: &Server) -> Result<(), BenchError> {
    let mut wanted = Vec::new();
    for (Group { team, devices, .. }, (speech, _, _)) in groups.iter_mut().zip(KINDS) {
        wanted.push(match speech {
            Speech::Native => team.begin_log_in(server.device, &server.app_key, devices, HEARTBEAT_S)?,
            Speech::Mqtt311 | Speech::Mqtt5 => {
                let clients = Clients {
                    target: server.device,
                    source: std::net::Ipv4Addr::LOCALHOST,
                    prefix: String::new(),
                    first: 0,
                    count: 0,
                    v5: speech == Speech::Mqtt5,
                    user: Some(server.app_key.clone()),
                    password: None,
                    devices: devices.clone(),
                    transport: Transport::Tcp,
                    keep_alive_s: HEARTBEAT_S,
                    in_flight_max: 1,
                    under_way_max: UNDER_WAY_MAX,
                    part: Play::Idle,
                    count_welcomes: false,
                };
                team.begin_clients(&clients, &[devices.len()])?
            }
        });
    }
    for ((Group { team, .. }, wanted), (_, _, kind)) in groups.iter_mut().zip(wanted).zip(KINDS) {
        team.opened(wanted).map_err(|error| BenchError::Server(format!("{kind}: {error}")))?;
    }
    Ok(())
}

/// One stored push to all; how many acks the server has counted.
fn push(args: &AllArgs, api: &Api, groups: &mut [Group]) -> Result<u64, BenchError> {
    for group in groups.iter_mut() {
        let rest = group.team.tally()?;
        group.haul.merge(&rest);
        group.team.expect_each(1, PATIENCE)?;
    }
    let filling = "x".repeat(args.bytes as usize - STAMP_BYTES);
    let body = json!({
        "audience": "all",
        "message": {"content_type": "text", "msg_content": format!("{filling}{}", stamp(clock::now_ns()))},
        "options": {"time_to_live": TTL_S},
    });
    let mut caller = api.open()?;
    let reply = caller.call_well("POST", "/v1/push", &body.to_string())?;
    let message = reply.json()["msg_id"].as_str().unwrap_or_default().to_owned();
    for group in groups.iter_mut() {
        let haul = group.team.held(PATIENCE)?;
        group.haul.merge(&haul);
    }
    let wanted: u64 = groups.iter().map(|group| group.devices.len() as u64).sum();
    let deadline = Instant::now() + COUNT_TIME;
    loop {
        let reply = caller.call_well("GET", &format!("/v1/messages/{message}"), "")?;
        let delivered = reply.json()["counts"]["delivered"].as_u64().unwrap_or_default();
        if delivered >= wanted || Instant::now() >= deadline {
            return Ok(delivered);
        }
        std::thread::sleep(LOOK);
    }
}

fn publish(
    args: &AllArgs,
    groups: &[Group],
    delivered: &[u64],
    login_s: f64,
    (before, after): (&LoopLag, &LoopLag),
) -> Result<(), BenchError> {
    let mut figures = Figures::new("mixed-transports");
    let mut kinds = Vec::new();
    for (group, (_, _, kind)) in groups.iter().zip(KINDS) {
        let (logged_in, haul) = (group.team.live(), &group.haul);
        if haul.closed > 0 {
            return Err(BenchError::Server(format!("{kind}: {} were closed: {}", haul.closed, haul.why)));
        }
        let wanted = logged_in as u64 * u64::from(args.pushes);
        let received = haul.messages - haul.repeated;
        kinds.push(Counted {
            kind,
            logged_in,
            received,
            repeated: haul.repeated,
            lost: wanted.saturating_sub(received),
            latency_ms: haul.latencies.percentiles(),
        });
    }
    let logged_in: usize = kinds.iter().map(|kind| kind.logged_in).sum();
    figures
        .row("devices logged in, one listener", format!("{} in {login_s:.1} s", grouped(logged_in as f64)));
    for kind in &kinds {
        let took = kind.latency_ms.map_or_else(|| "none".into(), |at| format!("{at} ms"));
        let Counted { logged_in, received, repeated, lost, .. } = kind;
        let text = format!("{logged_in} in, {received} received, {repeated} repeated, {lost} lost; {took}");
        figures.row(kind.kind, text);
    }
    let acked = delivered.iter().min().copied().unwrap_or_default();
    figures.row("acks of each push that the server counted", format!("{delivered:?}"));
    figures.lost = Some(kinds.iter().map(|kind| kind.lost).sum());
    figures.extra("devices", logged_in);
    figures.extra("login_s", login_s);
    figures.extra("pushes", args.pushes);
    figures.extra("acked_least", acked);
    figures.extra("kinds", kinds.iter().map(|kind| json!(kind)).collect::<Vec<Value>>());
    report_loop(&mut figures, before, after);
    figures.print(args.output.json);
    Ok(())
}
