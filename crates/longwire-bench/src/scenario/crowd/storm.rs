//! `bench storm`: the server is killed and started again on the same data and ports; how all devices come back.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::probing::{Answers, Probing};
use crate::args::OutputArgs;
use crate::clock;
use crate::devices::{Device, register};
use crate::error::BenchError;
use crate::folder::Folder;
use crate::http::Api;
use crate::machine::cpu_ns;
use crate::metrics::Balance;
use crate::order::{Back, Login, Logins, Order};
use crate::progress::bar;
use crate::report::{Figures, grouped};
use crate::scenario::bare::seconds;
use crate::scenario::mqtt::MqttArgs;
use crate::scenario::online::{HEARTBEAT_S, TAG};
use crate::scenario::team::Team;
use crate::server::{self, Server};

/// Logins under way at once before the storm.
const UNDER_WAY_MAX: usize = 128;
const LOOK: Duration = Duration::from_millis(100);
const TENTHS_PER_ROW: u64 = 5;
const ROWS_MAX: u64 = 60;

#[derive(Clone, Debug, Args)]
pub(crate) struct StormArgs {
    /// MQTT: the broker. Nothing is killed: all clients connect at once.
    #[arg(long, value_name = "HOST:PORT", help_heading = "MQTT")]
    pub(crate) target: Option<std::net::SocketAddr>,
    /// MQTT: its process id, for processor time.
    #[arg(long, requires = "target", help_heading = "MQTT")]
    pub(crate) pid: Option<u32>,
    #[command(flatten)]
    pub(crate) mqtt: MqttArgs,
    /// Devices.
    #[arg(long, default_value_t = 18_000, value_parser = clap::value_parser!(u32).range(1..=18_000))]
    pub(crate) devices: u32,
    /// How they come back.
    #[arg(long, value_enum, default_value_t = Mode::Both)]
    mode: Mode,
    /// Longest wait for all to be back, seconds.
    #[arg(long, default_value_t = 90)]
    pub(crate) seconds: u64,
    /// Another argument for the server; may be repeated.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub(crate) serve_arg: Vec<String>,
    /// The longwire program to start the server from (default: this one).
    #[arg(long, value_name = "PATH")]
    pub(crate) server_program: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Mode {
    /// All at the moment when the server listens again; who is refused comes when it was told to.
    AtOnce,
    /// As the SDK does by default: after 1, 2, 3, 5, 8, 13, 20 s and up to a second more.
    BackOff,
    /// One storm of each.
    Both,
}

/// One storm.
#[derive(Debug)]
struct Storm {
    back: Back,
    kill_ns: u64,
    ready_ns: u64,
    all_ns: Option<u64>,
    logins: Logins,
    answers: Answers,
    server_cpu_s: f64,
    /// Connections of the shards when all were back.
    balance: Option<Balance>,
}

/// Everything of one run. Fields end in this order.
struct Run<'a> {
    args: &'a StormArgs,
    team: Team,
    server: Server,
    devices: Vec<Device>,
    program: PathBuf,
    arguments: Vec<String>,
    _folder: Folder,
}

/// Runs the scenario.
pub(crate) fn run(args: &StormArgs) -> Result<(), BenchError> {
    if args.target.is_some() {
        return Err(BenchError::Options(
            "--target is for --protocol mqtt: this scenario kills its server".into(),
        ));
    }
    let mut run = Run::begin(args)?;
    let kinds: &[Back] = match args.mode {
        Mode::AtOnce => &[Back::AtOnce],
        Mode::BackOff => &[Back::Spaced],
        Mode::Both => &[Back::AtOnce, Back::Spaced],
    };
    let mut storms = Vec::new();
    for &back in kinds {
        storms.push(run.storm(back)?);
    }
    publish(args, &storms);
    Ok(())
}

impl<'a> Run<'a> {
    fn begin(args: &'a StormArgs) -> Result<Run<'a>, BenchError> {
        let program = args.server_program.clone().map_or_else(server::program, Ok)?;
        let folder = Folder::name("storm")?;
        let mut arguments = vec!["--data-dir".to_owned(), folder.0.display().to_string()];
        arguments.extend(args.serve_arg.iter().cloned());
        let server = Server::spawn(&program, &arguments)?;
        let api = Api::new(server.api, &server.app_key, &server.app_secret);
        let devices = register(&api, args.devices as usize, |_| vec![TAG])?;
        let mut team = Team::swarm(&server::program()?, devices.len(), 2)?;
        let logins: Vec<Login> = devices.iter().map(|device| device.login.clone()).collect();
        let to = (server.device, server.app_key.as_str());
        team.gather(to, &logins, (HEARTBEAT_S, UNDER_WAY_MAX), Back::AtOnce)?;
        Ok(Run { args, team, server, devices, program, arguments, _folder: folder })
    }

    /// Kills the server, starts it again, and watches everybody come back.
    fn storm(&mut self, back: Back) -> Result<Storm, BenchError> {
        let to = (self.server.device, self.server.app_key.as_str());
        // No new devices: from now on all may try at the same time.
        self.team.gather(to, &[], (HEARTBEAT_S, usize::MAX), back)?;
        self.team.logins()?;
        let at_once = back == Back::AtOnce;
        self.team.arm(&Order::Hold { on: at_once })?;
        let mut arguments = self.arguments.clone();
        arguments.extend(self.server.same_again());
        let kill_ns = clock::now_ns();
        self.server.kill()?;
        self.server = Server::spawn(&self.program, &arguments)?;
        let api = Api::new(self.server.api, &self.server.app_key, &self.server.app_secret);
        let probing = Probing::begin(&api, &self.devices);
        let ready_ns = clock::now_ns();
        if at_once {
            self.team.arm(&Order::Hold { on: false })?;
        }
        let progress = bar("coming back", self.devices.len() as u64);
        let (mut logins, mut all_ns) = (Logins::default(), None);
        let deadline = Instant::now() + Duration::from_secs(self.args.seconds);
        while all_ns.is_none() && Instant::now() < deadline {
            std::thread::sleep(LOOK);
            logins.then(self.team.logins()?);
            progress.set_position(logins.live as u64);
            if logins.live == self.devices.len() {
                let last = logins.welcomed.keys().next_back().copied().unwrap_or_default();
                all_ns = Some((last + 1) * 100_000_000);
            }
        }
        progress.finish_and_clear();
        let answers = probing.end()?;
        let server_cpu_s = self.server.pid.map_or(0.0, |pid| cpu_ns(pid) as f64 / 1e9);
        let balance = Balance::read(&api)?;
        Ok(Storm { back, kill_ns, ready_ns, all_ns, logins, answers, server_cpu_s, balance })
    }
}

/// A point of the curve: seconds after the server listened again, and devices logged in until then.
#[derive(Clone, Copy, Debug, Serialize)]
struct Point {
    at_s: f64,
    logged_in: u64,
}

impl Storm {
    fn curve(&self) -> Vec<Point> {
        let mut sum = 0;
        let points = self.logins.welcomed.iter().map(|(tenth, count)| {
            sum += count;
            Point { at_s: ((tenth + 1) as f64 * 1e8 - self.ready_ns as f64) / 1e9, logged_in: sum }
        });
        points.collect()
    }

    fn word(&self) -> &'static str {
        if self.back == Back::AtOnce { "at_once" } else { "back_off" }
    }

    fn rows(&self, figures: &mut Figures, devices: u32) {
        let name = self.word();
        let curve = self.curve();
        let down_s = seconds(self.kill_ns, self.ready_ns);
        figures.row(format!("{name}: killed, listens again after"), format!("{down_s:.2} s"));
        let last = curve.last().map_or(0.0, |point| point.at_s);
        let steps = ((last * 10.0 / TENTHS_PER_ROW as f64).ceil() as u64).min(ROWS_MAX);
        for step in 1..=steps {
            let until = (step * TENTHS_PER_ROW) as f64 / 10.0;
            let there = curve.iter().take_while(|point| point.at_s <= until + 0.1).last();
            let there = there.map_or(0, |point| point.logged_in);
            figures.row(format!("  logged in after {until:.1} s"), grouped(there as f64));
        }
        let all = self.all_ns.map_or_else(
            || format!("no: {} of {devices} after the longest wait", self.logins.live),
            |all| {
                let (ready, kill) = (seconds(self.ready_ns, all), seconds(self.kill_ns, all));
                format!("{ready:.1} s after it listened, {kill:.1} s after the kill")
            },
        );
        figures.row("  all logged in", all);
        let refused: Vec<String> = self
            .logins
            .refused
            .iter()
            .map(|(reason, told)| {
                format!(
                    "{} {reason} (come back in {} to {} s)",
                    told.times, told.retry_min_s, told.retry_max_s
                )
            })
            .collect();
        let refused = if refused.is_empty() { "none".into() } else { refused.join(", ") };
        figures.row("  refused logins", refused);
        let Logins { failed, late, given_up, .. } = self.logins;
        figures.row("  attempts in vain", format!("{failed} not taken, {late} not answered in time"));
        figures.row("  refused for good", given_up.to_string());
        let answers = &self.answers;
        for (what, latencies) in [("read", &answers.reads), ("durable push", &answers.pushes)] {
            let text = latencies.percentiles().map_or_else(|| "none".into(), |at| at.to_string());
            figures.row(format!("  API {what} meanwhile, ms"), text);
        }
        figures.row("  API calls, not answered well", format!("{}, {:?}", answers.calls, answers.refused));
        figures.row("  connections of each shard", Balance::words(self.balance.as_ref()));
        figures.row("  server CPU since its start", format!("{:.2} s", self.server_cpu_s));
    }

    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "down_s": seconds(self.kill_ns, self.ready_ns),
            "all_s_after_ready": self.all_ns.map(|all| seconds(self.ready_ns, all)),
            "all_s_after_kill": self.all_ns.map(|all| seconds(self.kill_ns, all)),
            "back": self.logins.live,
            "refused": self.logins.refused,
            "refused_for_good": self.logins.given_up,
            "failed": self.logins.failed,
            "late": self.logins.late,
            "api_read_ms": self.answers.reads.percentiles(),
            "api_push_ms": self.answers.pushes.percentiles(),
            "api_refused": self.answers.refused,
            "server_cpu_s": self.server_cpu_s,
            "balance": self.balance,
            "curve": self.curve(),
        })
    }
}

fn publish(args: &StormArgs, storms: &[Storm]) {
    let mut figures = Figures::new("storm");
    let missing = |storm: &Storm| u64::from(args.devices).saturating_sub(storm.logins.live as u64);
    figures.lost = Some(storms.iter().map(missing).sum());
    figures.row("devices", grouped(args.devices.into()));
    for storm in storms {
        storm.rows(&mut figures, args.devices);
        figures.extra(storm.word(), storm.json());
    }
    figures
        .row("note", "a device counts when the server has welcomed it; times are those of the tenth's end");
    figures.extra("devices", args.devices);
    figures.print(args.output.json);
}
