//! The `longwire` command. What it does lives in the libraries; here are the words for it.

#![allow(clippy::print_stdout, clippy::print_stderr)] // it talks to people

mod alias;
mod app_key;
mod books;
mod call;
mod configure;
mod dev;
mod device;
mod doctor;
mod listen;
mod message;
mod node;
mod pause;
mod people;
mod publish;
mod push;
mod recall;
mod register;
mod retained;
mod schedule;
mod serve;
mod tag;
mod truth;
mod upstream;

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use std::sync::LazyLock;

// The allocator is part of the product: memory per connection is what it is bought for.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The version, and the commit where the build was told it (`LONGWIRE_COMMIT`).
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let commit = option_env!("LONGWIRE_COMMIT").filter(|commit| !commit.is_empty());
    env!("CARGO_PKG_VERSION").to_owned() + &commit.map(|commit| format!(" ({commit})")).unwrap_or_default()
});

/// Holds long-lived connections from devices and pushes messages to them.
#[derive(Parser)]
#[command(name = "longwire", version = VERSION.as_str(), arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a server until SIGTERM or SIGINT.
    Serve(serve::ServeArgs),
    /// Read the configuration as `serve` would, and print what holds; secrets are left out.
    CheckConfig(configure::ConfigArgs),
    /// Look at this machine before the devices do: limits, kernel settings, network cards, clocks, disk and store.
    Doctor(doctor::DoctorArgs),
    /// Print a configuration file with every key at its default.
    GenConfig,
    /// Print the documentation of every setting, as docs/configuration.md holds it.
    ConfigDoc,
    /// Register a device, or update it.
    Register(register::RegisterArgs),
    /// Show, change, revoke and remove devices.
    Device(Box<device::DeviceArgs>),
    /// Show tags, give and take them.
    Tag(Box<tag::TagArgs>),
    /// Show aliases, and take them.
    Alias(Box<alias::AliasArgs>),
    /// Push a message.
    Push(Box<push::PushArgs>),
    /// Push later, once or again and again.
    Schedule(Box<schedule::ScheduleArgs>),
    /// Hold a message that is spread over time.
    Pause(pause::PauseArgs),
    /// Let a message that is spread over time go on, or change its speed.
    Resume(pause::ResumeArgs),
    /// Recall a message: devices that have it are told to forget it.
    Recall(recall::RecallArgs),
    /// What became of a message.
    Message(message::MessageArgs),
    /// Deliveries of the app by how they ended, and whether the books are right.
    Books(books::BooksArgs),
    /// Publish to a topic.
    Publish(Box<publish::PublishArgs>),
    /// What topics keep for later subscribers: list it, clear it.
    Retained(retained::RetainedArgs),
    /// What devices sent to the business: list it, ack it.
    Upstream(upstream::UpstreamArgs),
    /// Tell why a device got a message, or did not: each step with its time.
    Explain(truth::ExplainArgs),
    /// List the devices of a message and how each stands.
    Targets(truth::TargetsArgs),
    /// Print what became of deliveries, in order.
    Receipts(truth::StreamArgs),
    /// Print which devices came and went, in order.
    Presence(truth::StreamArgs),
    /// List, set, test or delete the app's webhooks.
    Webhook(truth::WebhookArgs),
    /// Keys of the app: make, list, revoke.
    AppKey(app_key::AppKeyArgs),
    /// One node: drain it, reload its files, look at its memory and shards.
    Node(node::NodeArgs),
    /// Apps: make, list, change, disable, remove.
    App(people::AppArgs),
    /// Keys of operators: make, list, revoke.
    Key(people::KeyArgs),
    /// Quotas of an app.
    Quota(people::QuotaArgs),
    /// What administrators did: list it, and check that nobody changed it.
    Audit(people::AuditArgs),
    /// Behave like a device: connect, print what arrives, ack it.
    Listen(listen::ListenArgs),
    /// Measure a server, and the machine beside it.
    Bench(longwire_bench::BenchArgs),
    /// A server with simulated devices, to look at and to try.
    Demo(longwire_bench::DemoArgs),
    /// Print the version.
    Version,
}

/// How a verb failed: the exit code is 2 for usage and configuration, 1 for everything else.
enum Failure {
    Usage(String),
    Failed(String),
}

impl Failure {
    /// Anything that is not the caller's spelling.
    fn failed(cause: impl ToString) -> Failure {
        Failure::Failed(cause.to_string())
    }
}

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Serve(args) => serve::run(args),
        Verb::CheckConfig(args) => configure::check(&args),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::GenConfig => {
            print!("{}", longwire_server::node::config::manual::sample_file());
            Ok(())
        }
        Verb::ConfigDoc => {
            print!("{}", longwire_server::node::config::manual::page());
            Ok(())
        }
        Verb::Register(args) => register::run(args),
        Verb::Device(args) => device::run(*args),
        Verb::Tag(args) => tag::run(*args),
        Verb::Alias(args) => alias::run(*args),
        Verb::Push(args) => push::run(*args),
        Verb::Schedule(args) => schedule::run(*args),
        Verb::Pause(args) => pause::pause(&args),
        Verb::Resume(args) => pause::resume(&args),
        Verb::Recall(args) => recall::run(&args),
        Verb::Message(args) => message::run(&args),
        Verb::Books(args) => books::run(&args),
        Verb::Publish(args) => publish::run(*args),
        Verb::Retained(args) => retained::run(&args),
        Verb::Upstream(args) => upstream::run(&args),
        Verb::Explain(args) => truth::explain(args),
        Verb::Targets(args) => truth::targets(args),
        Verb::Receipts(args) => truth::receipts(args),
        Verb::Presence(args) => truth::presence(args),
        Verb::Webhook(args) => truth::webhook(args),
        Verb::AppKey(args) => app_key::run(&args),
        Verb::Node(args) => node::run(&args),
        Verb::App(args) => people::app(&args),
        Verb::Key(args) => people::key(&args),
        Verb::Quota(args) => people::quota(&args),
        Verb::Audit(args) => people::audit(&args),
        Verb::Listen(args) => listen::run(args),
        Verb::Bench(args) => longwire_bench::run_bench(args).map_err(Failure::failed),
        Verb::Demo(args) => longwire_bench::run_demo(args).map_err(Failure::failed),
        Verb::Version => {
            println!("longwire {}", *VERSION);
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => {
            eprintln!("longwire: {text}");
            ExitCode::from(2)
        }
        Err(Failure::Failed(text)) => {
            eprintln!("longwire: {text}");
            ExitCode::from(1)
        }
    }
}

/// Runs a client verb on a small runtime.
fn on_runtime<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|cause| Failure::failed(format!("cannot start: {cause}")))?.block_on(work)
}
