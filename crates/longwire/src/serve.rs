//! `longwire serve`.

use crate::configure::{ConfigArgs, build};
use crate::{Failure, dev};
use clap::Args;
use longwire_server::node::telemetry::Telemetry;
use longwire_server::node::{Layers, Running, ServeOptions, runtime, serve};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How a server is run.
#[derive(Args)]
pub(crate) struct ServeArgs {
    /// For trying and testing: loopback only, a fresh data folder that is removed at the end unless one is given,
    /// ports from flags or chosen by the kernel, an app made on the fly, one JSON line on standard output when ready.
    #[arg(long)]
    pub(crate) dev: bool,
    /// With --dev: the app's key; the last one given holds.
    #[arg(long, requires = "dev", overrides_with = "app_key", value_name = "KEY")]
    pub(crate) app_key: Option<String>,
    /// With --dev: the app's secret; the last one given holds.
    #[arg(long, requires_all = ["dev", "app_key"], overrides_with = "app_secret", value_name = "SECRET")]
    pub(crate) app_secret: Option<String>,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

pub(crate) fn run(args: ServeArgs) -> Result<(), Failure> {
    let setup = if args.dev { Some(dev::Setup::new(&args)?) } else { None };
    let mut layers = Layers::default();
    if let Some(setup) = &setup {
        setup.lay_under(&mut layers);
    }
    args.config.lay_over(&mut layers);
    let config = build(layers)?;
    if setup.is_some() {
        dev::check_loopback(&config)?;
    }
    let telemetry = Telemetry::start(&config.log).map_err(Failure::Failed)?;
    let options = ServeOptions {
        config,
        app: setup.as_ref().map(|setup| setup.app.clone()),
        admin_key: setup.as_ref().map(|setup| setup.admin_key.clone()),
        log_dropped: Some(telemetry.dropped()),
        for_trying: args.dev,
    };
    let runtime = runtime().map_err(|cause| Failure::failed(format!("cannot start threads: {cause}")))?;
    let done = runtime.block_on(until_told(options, setup.as_ref()));
    // Whatever still runs is ours and idle: nothing is waited for that could hold up the end.
    runtime.shutdown_background();
    drop(telemetry);
    done
}

async fn until_told(options: ServeOptions, setup: Option<&dev::Setup>) -> Result<(), Failure> {
    let (mut stop, mut reload) = (Stop::new()?, on(SignalKind::hangup())?);
    let running = tokio::select! {
        started = serve(options) => started.map_err(Failure::failed)?,
        () = stop.told() => return Ok(()), // nothing listens yet: the store is safe against sudden ends
    };
    greet(&running, setup);
    loop {
        tokio::select! {
            () = stop.told() => break,
            () = running.told_to_exit() => break,
            _ = reload.recv() => running.reload(),
        }
    }
    // A second signal means now: what is durable is so already.
    tokio::select! {
        () = running.shutdown() => Ok(()),
        () = stop.told_again() => Err(Failure::Failed("stopped before everything was finished, as told twice".into())),
    }
}

fn on(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|cause| Failure::failed(format!("cannot take signals: {cause}")))
}

/// Signals within this time are one order: timeout(1) sends its own to the process and then to the group, and a
/// terminal and a service manager may both send one.
const ONE_ORDER: Duration = Duration::from_secs(1);

/// SIGTERM and SIGINT.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> Result<Stop, Failure> {
        Ok(Stop { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())? })
    }
    async fn told(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// A signal that is an order of its own, after one that has just come.
    async fn told_again(&mut self) {
        let first = Instant::now();
        self.told().await;
        while first.elapsed() < ONE_ORDER {
            self.told().await;
        }
    }
}

fn greet(running: &Running, setup: Option<&dev::Setup>) {
    if let Some(setup) = setup {
        let line = json!({
            "ready": true,
            "device": running.device.to_string(),
            "listeners": running.listeners.iter().map(|(name, at)| (*name, at.to_string())).collect::<BTreeMap<_, _>>(),
            "api": running.api.to_string(),
            "app_key": setup.app.key.as_str(),
            "app_secret": setup.app.secret.reveal(),
            "admin_key": setup.admin_key.reveal(),
            "pid": std::process::id(),
        });
        // Whoever started us may have closed the other end; that is no reason to end.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
        return;
    }
    if let Some(app) = &running.first_app {
        let (key, secret) = (app.key.as_str(), app.secret.reveal());
        let _ = writeln!(
            std::io::stderr().lock(),
            "\nFirst start: an app was made. Its secret is shown now and never again.\n\n  app key     {key}\n  app secret  {secret}\n\n  \
             try it: curl -u {key}:{secret} -H 'content-type: application/json' \\\n    \
             -d '{{\"registration_id\":\"me\"}}' http://{}/v1/devices\n",
            running.api
        );
    }
    if let Some(key) = &running.first_admin_key {
        let _ = writeln!(
            std::io::stderr().lock(),
            "An admin key was made, for /v1/admin. It is shown now and never again.\n\n  admin key   {}\n",
            key.reveal()
        );
    }
}
