//! `bench schedules`: many schedules due in the same second, with the server up, and with it killed before and started after.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::OutputArgs;
use crate::devices::{Device, register};
use crate::error::BenchError;
use crate::folder::Folder;
use crate::http::Api;
use crate::metrics::counter;
use crate::progress::bar;
use crate::pump::{Pump, Request};
use crate::report::{Figures, grouped};
use crate::server::{self, Server};

/// Calls under way at once.
const IN_FLIGHT: usize = 64;
/// Messages that one device has waiting at most, of each turn; a mailbox holds 1,000.
const PER_DEVICE: usize = 200;
/// Counts what has made a message.
const FIRED: &str = "longwire_schedules_fired_total";
const LOOK: Duration = Duration::from_millis(20);
/// The server is down so long after the due second.
const DOWN: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, Args)]
pub(crate) struct SchedulesArgs {
    /// Schedules of each turn.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    count: u32,
    /// Longest wait for all to fire, seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Seconds from now that all are due in; 0 = as many as making them takes, about.
    #[arg(long, default_value_t = 0)]
    lead_s: u64,
    /// Another argument for the server; may be repeated.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    serve_arg: Vec<String>,
    /// The longwire program to start the server from (default: this one).
    #[arg(long, value_name = "PATH")]
    server_program: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// What one turn came to. Times are of the server's clock, after the due second, milliseconds.
#[derive(Debug, Default, Serialize)]
struct Turn {
    schedules: usize,
    fired_once: usize,
    fired_more: usize,
    failed: usize,
    not_fired: usize,
    late: usize,
    /// Different messages.
    messages: usize,
    first_ms: i64,
    last_ms: i64,
    /// When the counter said that all were durable: after the due second, or with the server down after it was ready.
    all_seen_ms: Option<i64>,
}

struct Run<'a> {
    args: &'a SchedulesArgs,
    server: Server,
    devices: Vec<Device>,
    program: PathBuf,
    arguments: Vec<String>,
    _folder: Folder,
}

/// Runs the scenario.
pub(crate) fn run(args: &SchedulesArgs) -> Result<(), BenchError> {
    let program = args.server_program.clone().map_or_else(server::program, Ok)?;
    let folder = Folder::name("schedules")?;
    let mut arguments = args.serve_arg.clone();
    arguments.extend(["--data-dir".to_owned(), folder.0.display().to_string()]);
    let server = Server::spawn(&program, &arguments)?;
    let api = Api::new(server.api, &server.app_key, &server.app_secret);
    let devices = register(&api, (args.count as usize).div_ceil(PER_DEVICE), |_| Vec::new())?;
    let mut run = Run { args, server, devices, program, arguments, _folder: folder };
    let up = run.turn(false)?;
    let down = run.turn(true)?;
    let mut figures = Figures::new("schedules");
    figures.lost = Some((up.not_fired + down.not_fired) as u64);
    for (name, turn) in [("up", &up), ("down at the time", &down)] {
        figures.row(
            format!("server {name}: fired once"),
            format!(
                "{} of {}; more than once {}, refused {}, not {}; {} messages",
                grouped(turn.fired_once as f64),
                grouped(turn.schedules as f64),
                turn.fired_more,
                turn.failed,
                turn.not_fired,
                turn.messages
            ),
        );
        figures.row("  first, last after due, ms", format!("{}, {}", turn.first_ms, turn.last_ms));
        let seen = turn.all_seen_ms.map_or_else(|| "not in time".to_owned(), |ms| ms.to_string());
        let from = if turn.late > 0 { "ready" } else { "due" };
        figures.row(format!("  all durable after {from}, ms"), seen);
        figures.row("  marked late", grouped(turn.late as f64));
    }
    figures.extra("up", &up);
    figures.extra("down", &down);
    figures.print(args.output.json);
    let right = |turn: &Turn, late: usize| {
        turn.fired_once == turn.schedules && turn.messages == turn.schedules && turn.late == late
    };
    if right(&up, 0) && right(&down, down.schedules) {
        return Ok(());
    }
    Err(BenchError::Server("not every schedule fired once, or not as late as it was".into()))
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Run<'_> {
    fn api(&self) -> Api {
        Api::new(self.server.api, &self.server.app_key, &self.server.app_secret)
    }

    fn turn(&mut self, down: bool) -> Result<Turn, BenchError> {
        let count = self.args.count as usize;
        let lead_s = match self.args.lead_s {
            0 => 3 + u64::from(self.args.count) / 500,
            asked => asked,
        };
        let due = now_ms() / 1000 * 1000 + i64::try_from(lead_s * 1000).unwrap_or(i64::MAX);
        let ids = self.make(count, due)?;
        if now_ms() >= due {
            return Err(BenchError::Options(format!("making them took longer than {lead_s} s: --lead-s")));
        }
        let mut from = due;
        let mut fired_before = counter(&self.api(), FIRED)?;
        if down {
            self.server.kill()?;
            let until = Duration::from_millis(u64::try_from(due - now_ms()).unwrap_or(0)) + DOWN;
            std::thread::sleep(until);
            let mut arguments = self.arguments.clone();
            arguments.extend(self.server.same_again());
            self.server = Server::spawn(&self.program, &arguments)?;
            (from, fired_before) = (now_ms(), 0.0);
        }
        let deadline = Instant::now()
            + Duration::from_secs(self.args.seconds)
            + Duration::from_millis(u64::try_from(due - now_ms()).unwrap_or(0));
        let mut all_seen_ms = None;
        while all_seen_ms.is_none() && Instant::now() < deadline {
            if counter(&self.api(), FIRED)? - fired_before >= count as f64 {
                all_seen_ms = Some(now_ms() - from);
            } else {
                std::thread::sleep(LOOK);
            }
        }
        let turn = self.look(&ids, due)?;
        Ok(Turn { all_seen_ms, ..turn })
    }

    /// Makes them; their ids.
    fn make(&self, count: usize, due: i64) -> Result<Vec<String>, BenchError> {
        let api = self.api();
        let at = Timestamp::from_millisecond(due).map_err(|error| BenchError::Options(error.to_string()))?;
        let progress = bar("schedules made", count as u64);
        let mut ids = Vec::with_capacity(count);
        let mut begun = 0;
        let next = || {
            if begun == count {
                return None;
            }
            let body = json!({
                "audience": {"registration_id": [self.devices[begun % self.devices.len()].name]},
                "message": {"msg_content": format!("schedule {begun}")},
                "options": {"send_at": at.to_string()},
            });
            begun += 1;
            let bytes = api.request("POST", "/v1/push", &body.to_string());
            Some(Request { number: begun as u64, bytes })
        };
        Pump::open(&api, IN_FLIGHT.min(count))?.run(next, |answer| {
            progress.inc(1);
            let json = answer.reply.json();
            let id = json["schedule_id"].as_str().ok_or_else(|| answer.reply.fault("POST /v1/push"))?;
            ids.push(id.to_owned());
            Ok(())
        })?;
        progress.finish_and_clear();
        Ok(ids)
    }

    /// What the server says of each.
    fn look(&self, ids: &[String], due: i64) -> Result<Turn, BenchError> {
        let api = self.api();
        let mut left = ids.iter();
        let mut turn =
            Turn { schedules: ids.len(), first_ms: i64::MAX, last_ms: i64::MIN, ..Turn::default() };
        let mut messages = HashSet::new();
        let next = || {
            let path = format!("/v1/schedules/{}", left.next()?);
            Some(Request { number: 0, bytes: api.request("GET", &path, "") })
        };
        Pump::open(&api, IN_FLIGHT.min(ids.len()))?.run(next, |answer| {
            let json = answer.reply.json();
            let runs = json["runs"].as_array().ok_or_else(|| answer.reply.fault("GET /v1/schedules"))?;
            match runs.as_slice() {
                [] => turn.not_fired += 1,
                [run] if run["error"].is_null() => turn.fired_once += 1,
                [_] => turn.failed += 1,
                _ => turn.fired_more += 1,
            }
            for run in runs {
                turn.late += usize::from(run["late"] == Value::Bool(true));
                messages.extend(run["msg_id"].as_str().map(str::to_owned));
                let fired = run["fired_at"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
                let after = fired.map_or(i64::MAX, |fired| fired.as_millisecond()) - due;
                turn.first_ms = turn.first_ms.min(after);
                turn.last_ms = turn.last_ms.max(after);
            }
            Ok(())
        })?;
        turn.messages = messages.len();
        Ok(turn)
    }
}
