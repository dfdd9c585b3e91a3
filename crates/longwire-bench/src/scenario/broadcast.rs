//! `bench broadcast-registered`: stored pushes to everybody and to a condition, when most devices are away: what an acceptance takes and
//! writes, with few and with many devices registered, and that those who return are served.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::online::HEARTBEAT_S;
use super::team::Team;
use crate::args::{OutputArgs, ServerArgs};
use crate::devices::{Device, register};
use crate::error::BenchError;
use crate::folder::Folder;
use crate::http::Api;
use crate::order::{Login, Order};
use crate::report::{Figures, grouped, words};
use crate::series::{Spread, spread};
use crate::server::{self, Server};

/// Life of a message, seconds.
const TTL_S: u32 = 86_400;
/// Registrations whose answers are kept at once.
const REGISTERED_AT_ONCE: usize = 50_000;
/// Devices that receive nothing more for so long have received all that comes.
const QUIET: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(100);
/// The tag of every second device, and that of some which are away.
const HALF: &str = "half";
const AWAY: &str = "away";

#[derive(Clone, Debug, Args)]
pub(crate) struct BroadcastArgs {
    /// Devices registered in all.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(2..=10_000_000))]
    pub(crate) registered: u32,
    /// Devices registered when it is measured the first time.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) few: u32,
    /// Devices that are connected.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=18_000))]
    pub(crate) online: u32,
    /// Devices that return at the end.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub(crate) returning: u32,
    /// Pushes to each audience, each time.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub(crate) pushes: u32,
    /// Bytes of the payload.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(16..=10_240))]
    pub(crate) bytes: u32,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Pushes to one audience.
#[derive(Debug, Serialize)]
struct Pushed {
    registered: usize,
    audience: &'static str,
    matched: Option<u64>,
    online: Option<u64>,
    /// From the request to its 202.
    answer_ms: Option<Spread>,
    /// What the server had written per push when the devices had received and acked; `null` for a server elsewhere.
    written_per_push: Option<f64>,
    /// Deliveries per push.
    delivered_per_push: f64,
}

struct Bench<'a> {
    args: &'a BroadcastArgs,
    api: Api,
    team: Team,
    registered: usize,
    /// Seconds that registering took, and how many they were.
    register_s: f64,
    pushed: Vec<Pushed>,
    server: Server,
}

/// Runs the scenario.
pub(crate) fn run(args: &BroadcastArgs) -> Result<(), BenchError> {
    if args.online + args.returning > args.few || args.few > args.registered {
        return Err(BenchError::Options(
            "--online and --returning are of --few, and --few of --registered".into(),
        ));
    }
    let folder = Folder::name("broadcast")?;
    let mut server_args = args.server.clone();
    if server_args.target.is_none() {
        server_args.serve_arg.extend(["--data-dir".to_owned(), folder.0.display().to_string()]);
    }
    let server = Server::obtain(&server_args)?;
    let api = Api::new(server.api, &server.app_key, &server.app_secret);
    let team = Team::start(&server::program()?, args.online as usize, 2)?;
    let mut bench = Bench { args, api, team, registered: 0, register_s: 0.0, pushed: Vec::new(), server };
    let kept = (args.online + args.returning) as usize;
    let mut logins = bench.register(args.few as usize, kept)?;
    let returning = logins.split_off(args.online as usize);
    bench.team.log_in(bench.server.device, &bench.server.app_key, &logins, HEARTBEAT_S)?;
    bench.team.arm(&Order::Sweep { interval_ms: 0 })?;
    bench.push_all()?;
    bench.register(args.registered as usize, 0)?;
    let before = folder_bytes(&folder.0);
    bench.push_all()?;
    let grown = folder_bytes(&folder.0).saturating_sub(before);
    let came_back = bench.come_back(&returning)?;
    report(&bench, &came_back, grown);
    Ok(())
}

impl Bench<'_> {
    /// Registers devices up to `count` in all, a part at a time; the first `kept` of them log in later.
    fn register(&mut self, count: usize, kept: usize) -> Result<Vec<Login>, BenchError> {
        let began = Instant::now();
        let (online, first_away) = (self.args.online as usize, kept);
        let mut logins = Vec::with_capacity(kept);
        while self.registered < count {
            let (before, part) = (self.registered, (count - self.registered).min(REGISTERED_AT_ONCE));
            let tags = |index: usize| {
                let number = before + index;
                let mut tags = Vec::new();
                // Those who return get everything.
                let returns = (online..first_away).contains(&number);
                if number.is_multiple_of(2) || returns {
                    tags.push(HALF);
                }
                if returns {
                    tags.push(AWAY);
                }
                tags
            };
            let devices = register(&self.api, part, tags)?;
            let wanted = kept.saturating_sub(before).min(part);
            logins.extend(devices.into_iter().take(wanted).map(|Device { login, .. }| login));
            self.registered += part;
        }
        self.register_s += began.elapsed().as_secs_f64();
        Ok(logins)
    }

    /// Pushes to everybody, to a condition that half of them fit, and to a tag that nobody online has.
    fn push_all(&mut self) -> Result<(), BenchError> {
        let condition = format!("'{HALF}' in tags && !('nobody' in tags)");
        self.push_to("all", &json!("all"))?;
        self.push_to("condition", &json!({ "condition": condition }))?;
        self.push_to("away", &json!({ "tag": [AWAY] }))
    }

    fn push_to(&mut self, name: &'static str, audience: &serde_json::Value) -> Result<(), BenchError> {
        let content = "x".repeat(self.args.bytes as usize);
        let body = json!({
            "audience": audience,
            "message": {"content_type": "text", "msg_content": content},
            "options": {"time_to_live": TTL_S},
        })
        .to_string();
        self.team.tally()?;
        let written = self.server.pid.and_then(written_bytes);
        let (mut answers, mut delivered) = (Vec::new(), 0);
        let (mut matched, mut online) = (None, None);
        for _ in 0..self.args.pushes {
            // A connection that rested is closed by the server.
            let mut caller = self.api.open()?;
            let began = Instant::now();
            let reply = caller.call("POST", "/v1/push", &body)?;
            answers.push(began.elapsed().as_secs_f64() * 1000.0);
            if reply.status != 202 {
                return Err(reply.fault("POST /v1/push"));
            }
            let told = reply.json();
            matched = told["audience"]["matched"].as_u64();
            online = told["audience"]["online"].as_u64();
            // The next one finds nobody still busy with this one.
            delivered += collect(&mut self.team, online.unwrap_or(0))?;
        }
        let written_per_push = match (written, self.server.pid.and_then(written_bytes)) {
            (Some(before), Some(after)) => Some((after - before) as f64 / f64::from(self.args.pushes)),
            _ => None,
        };
        self.pushed.push(Pushed {
            registered: self.registered,
            audience: name,
            matched,
            online,
            answer_ms: spread(answers),
            written_per_push,
            delivered_per_push: delivered as f64 / f64::from(self.args.pushes),
        });
        Ok(())
    }

    /// Those who were away log in, all at once, and get what waits. How many messages in all, how many were to come, and in how many seconds.
    fn come_back(&self, logins: &[Login]) -> Result<CameBack, BenchError> {
        let mut team = Team::start(&server::program()?, logins.len(), 4)?;
        let wanted = logins.len() as u64 * u64::from(self.args.pushes) * self.pushed.len() as u64;
        let began = Instant::now();
        team.log_in(self.server.device, &self.server.app_key, logins, HEARTBEAT_S)?;
        let received = collect(&mut team, wanted)?;
        Ok(CameBack { devices: logins.len(), wanted, received, seconds: began.elapsed().as_secs_f64() })
    }
}

#[derive(Debug, Serialize)]
struct CameBack {
    devices: usize,
    wanted: u64,
    received: u64,
    seconds: f64,
}

/// Waits until so many messages came, or until nothing more comes.
fn collect(team: &mut Team, wanted: u64) -> Result<u64, BenchError> {
    let (mut received, mut moved) = (0, Instant::now());
    while received < wanted && moved.elapsed() < QUIET {
        let more = team.tally()?;
        if more.messages > 0 {
            moved = Instant::now();
        } else {
            std::thread::sleep(LOOK);
        }
        received += more.messages - more.repeated;
    }
    Ok(received)
}

fn report(bench: &Bench<'_>, came_back: &CameBack, grown: u64) {
    let args = bench.args;
    let mut figures = Figures::new("broadcast-registered");
    let many = f64::from(args.registered);
    let (per_s, seconds) = (grouped(many / bench.register_s), bench.register_s);
    figures.row("devices registered", format!("{} in {seconds:.0} s, {per_s} a second", grouped(many)));
    figures.row("devices online", grouped(args.online.into()));
    figures.row("payload, pushes to each", format!("{} bytes, {}", args.bytes, args.pushes));
    for pushed in &bench.pushed {
        let name = format!("{} of {}", pushed.audience, grouped(pushed.registered as f64));
        let number = |value: Option<u64>| value.map_or_else(|| "?".into(), |value| grouped(value as f64));
        figures.row(
            format!("{name}: push to 202, ms"),
            format!(
                "{}; matched {}, online {}",
                words(pushed.answer_ms, 1),
                number(pushed.matched),
                number(pushed.online)
            ),
        );
        let written = pushed.written_per_push.map_or_else(|| "not measured".into(), grouped);
        let delivered = grouped(pushed.delivered_per_push);
        figures
            .row(format!("{name}: bytes written a push"), format!("{written}, for {delivered} deliveries"));
    }
    figures.row("store grown by the last pushes, bytes", grouped(grown as f64));
    figures.row(
        "returned, served",
        format!(
            "{}, {} of {} messages in {:.1} s",
            came_back.devices,
            grouped(came_back.received as f64),
            grouped(came_back.wanted as f64),
            came_back.seconds
        ),
    );
    figures.lost = Some(came_back.wanted.saturating_sub(came_back.received));
    figures.extra("register_s", bench.register_s);
    figures.extra("bytes", args.bytes);
    figures.extra("pushes", args.pushes);
    figures.extra("pushed", &bench.pushed);
    figures.extra("store_grown_bytes", grown);
    figures.extra("returned", came_back);
    figures.print(args.output.json);
}

/// Bytes that a process has caused to be written to storage.
fn written_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok())
}

/// Bytes of all files in a folder.
fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(bytes).sum()
}
