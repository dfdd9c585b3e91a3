//! `longwire demo`: a server, a thousand devices over real sockets, and pushes that reach them.
//!
//! - here: the options and the course of the demonstration.
//! - `push`: one push, and the wait until all its devices have acked it.

mod push;

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::devices::{Device, register};
use crate::error::BenchError;
use crate::http::{Api, Caller};
use crate::machine;
use crate::order::Login;
use crate::progress::bar;
use crate::scenario::team::Team;
use crate::server::{self, Server};
use push::Outcome;

/// The heartbeat that the demonstration's devices announce, seconds (004-10 recommends a minute).
const HEARTBEAT_S: u16 = 60;
/// Every so many devices have the tag.
const TAGGED_EVERY: usize = 4;
/// The tag of the demonstration.
const TAG: &str = "blue";
/// How often a demonstration that stays up looks whether its server lives.
const LOOK: Duration = Duration::from_millis(500);

/// `longwire demo`: an embedded server with simulated devices, to look at and to try.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// End after the table instead of staying up.
    #[arg(long)]
    once: bool,
    /// Simulated devices, from 10 to 9000.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=9_000))]
    devices: u32,
    /// Port for devices on the loopback; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Port of the HTTP API on the loopback; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    api_port: u16,
    /// Another argument for the server; may be repeated.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    serve_arg: Vec<String>,
}

impl DemoArgs {
    fn serve_words(&self) -> Vec<String> {
        let mut words = Vec::new();
        for (flag, port) in [("--device-bind", self.port), ("--api-bind", self.api_port)] {
            if port != 0 {
                words.extend([flag.to_owned(), format!("127.0.0.1:{port}")]);
            }
        }
        words.extend_from_slice(&self.serve_arg);
        words
    }
}

/// Runs the demonstration; without `--once` it stays up until it is interrupted. Blocks.
///
/// # Errors
/// The server does not start, or a delivery is not acked in time.
pub fn run_demo(args: DemoArgs) -> Result<(), BenchError> {
    machine::raise_descriptor_limit();
    let program = server::program()?;
    let server = Server::spawn(&program, &args.serve_words())?;
    println!("server: devices connect to {}, the API is http://{}", server.device, server.api);
    let api = Api::new(server.api, &server.app_key, &server.app_secret);
    let tagged = |index: usize| if index.is_multiple_of(TAGGED_EVERY) { vec![TAG] } else { Vec::new() };
    let devices = register(&api, args.devices as usize, tagged)?;
    let mut team = Team::start(&program, devices.len(), 3)?;
    let outcomes = course(&server, &api, &devices, &mut team)?;
    print_table(&outcomes);
    if let Some(open) = outcomes.iter().find(|outcome| !outcome.is_complete()) {
        let text = format!("not every delivery of the push to {} was acked", open.audience);
        return Err(BenchError::Server(text));
    }
    if args.once { Ok(()) } else { stay(server, &devices[1]) }
}

/// Connects all devices but one, pushes, brings the last one back.
fn course(
    server: &Server,
    api: &Api,
    devices: &[Device],
    team: &mut Team,
) -> Result<Vec<Outcome>, BenchError> {
    // The first device has the tag, so it waits for two of the messages while it is away.
    let (away, present) = (&devices[0], &devices[1..]);
    let logins: Vec<Login> = present.iter().map(|device| device.login.clone()).collect();
    let progress = bar("connecting devices", present.len() as u64);
    let live = team.log_in(server.device, &server.app_key, &logins, HEARTBEAT_S)?;
    progress.set_position(live as u64);
    progress.finish_and_clear();
    println!("{live} devices are online, one is away");
    let mut caller = api.open()?;
    let tagged = devices.len().div_ceil(TAGGED_EVERY) as u64;
    let one = &present[0].name;
    let plan = [
        (format!("device {one}"), json!({"registration_id": [one]}), 1, 0),
        (format!("tag {TAG}"), json!({"tag": [TAG]}), tagged, 1),
        ("all".into(), json!("all"), devices.len() as u64, 1),
        (format!("device {} (away)", away.name), json!({"registration_id": [away.name]}), 1, 1),
    ];
    let mut outcomes = Vec::new();
    for (audience, target, devices, absent) in plan {
        let mut outcome = Outcome::push(&mut caller, audience, &target, devices)?;
        outcome.wait(&mut caller, devices - absent)?;
        outcomes.push(outcome);
    }
    println!("the device that was away comes back");
    team.log_in(server.device, &server.app_key, std::slice::from_ref(&away.login), HEARTBEAT_S)?;
    for outcome in &mut outcomes {
        outcome.wait(&mut caller, outcome.devices)?;
    }
    let got = team.tally()?;
    println!("the devices received {} messages, {} of them twice", got.messages, got.repeated);
    Ok(outcomes)
}

fn print_table(outcomes: &[Outcome]) {
    println!(
        "\n{:44} {:>8} {:>9} {:>7} {:>16}",
        "audience", "created", "delivered", "pending", "last ack after"
    );
    for outcome in outcomes {
        let Outcome { audience, created, delivered, pending, .. } = outcome;
        let seconds = outcome.took.as_secs_f64();
        println!("{audience:44} {created:>8} {delivered:>9} {pending:>7} {seconds:>14.3} s");
    }
}

/// Says how to try the server by hand, and keeps it until it ends or this process is interrupted.
fn stay(server: Server, device: &Device) -> Result<(), BenchError> {
    let Server { api, app_key, app_secret, .. } = &server;
    let register = json!({"registration_id": "my-device", "tags": [TAG]});
    let push = json!({"audience": "all", "message": {"content_type": "text", "msg_content": "hello"}});
    println!("\nThe server stays up; Ctrl-C ends it. Try:\n");
    println!(
        "  curl -u {app_key}:{app_secret} -H 'content-type: application/json' http://{api}/v1/devices -d '{register}'"
    );
    println!(
        "  curl -u {app_key}:{app_secret} -H 'content-type: application/json' http://{api}/v1/push -d '{push}'"
    );
    println!("  curl -u {app_key}:{app_secret} http://{api}/v1/devices/{}", device.name);
    println!(
        "  longwire listen --api http://{api} --app-key {app_key} --app-secret {app_secret} --registration-id my-device --tag {TAG}\n"
    );
    let mut server = server;
    while server.is_running() {
        std::thread::sleep(LOOK);
    }
    Err(BenchError::Server("ended".into()))
}

/// The counts of a message.
fn counts(caller: &mut Caller, message: &str) -> Result<Value, BenchError> {
    let reply = caller.call_well("GET", &format!("/v1/messages/{message}"), "")?;
    Ok(reply.json()["counts"].clone())
}
