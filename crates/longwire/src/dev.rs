//! What `serve --dev` adds: a folder, ports and an app that nobody had to think of.

use crate::Failure;
use crate::serve::ServeArgs;
use longwire_server::domain::{AppKey, AppSecret};
use longwire_server::node::{AppSeed, Config, Layers, fresh_secret};
use tempfile::TempDir;

/// A server for trying and testing; dropping it removes the folder that it made.
pub(crate) struct Setup {
    /// The app made on the fly.
    pub(crate) app: AppSeed,
    /// The admin key of this run.
    pub(crate) admin_key: AppSecret,
    folder: Option<TempDir>,
}

impl Setup {
    /// An app, fresh unless flags name one, and a folder unless a flag names one.
    pub(crate) fn new(args: &ServeArgs) -> Result<Setup, Failure> {
        let key = match &args.app_key {
            Some(key) => key.clone(),
            None => format!("dev-{}", fresh_word()?),
        };
        let key = AppKey::parse(&key).map_err(|fault| Failure::Usage(fault.to_string()))?;
        let mut app = AppSeed::fresh(key, true).map_err(Failure::failed)?;
        if let Some(secret) = &args.app_secret {
            app.secret = AppSecret::presented(secret);
        }
        let named = args.config.data_dir.is_some()
            || args.config.settings.iter().any(|s| s.starts_with("node.data_dir"));
        let folder = if named { None } else { Some(temporary()?) };
        let admin_key = fresh_secret().map_err(Failure::failed)?;
        Ok(Setup { app, admin_key, folder })
    }

    /// The defaults of a server for trying; file, environment and flags go over them.
    pub(crate) fn lay_under(&self, layers: &mut Layers) {
        layers.flag("--dev", "listener.device.bind", "127.0.0.1:0");
        layers.flag("--dev", "api.bind", "127.0.0.1:0");
        layers.flag("--dev", "log.level", "warn");
        layers.flag("--dev", "auth.anonymous", "true");
        layers.flag("--dev", "auth.anonymous_app", self.app.key.as_str());
        // Whoever measures a server for trying is not to measure a quota.
        for rate in ["requests_per_s", "messages_per_s", "broadcasts_per_min"] {
            layers.flag("--dev", &format!("quotas.{rate}"), "0");
        }
        // A test that stops a server wants it gone, not its devices spread out.
        layers.flag("--dev", "node.drain_s", "5");
        layers.flag("--dev", "node.goaway_spread_s", "1");
        layers.flag("--dev", "webhooks.private", "true");
        if let Some(path) = self.folder.as_ref().and_then(|folder| folder.path().to_str()) {
            layers.flag("--dev", "node.data_dir", path);
        }
    }
}

/// Refuses what others could reach: the app's secret was printed, and anybody may register.
pub(crate) fn check_loopback(config: &Config) -> Result<(), Failure> {
    let closed = config.listeners.iter().all(|listener| listener.bind.ip().is_loopback());
    if config.api.bind.ip().is_loopback() && closed {
        return Ok(());
    }
    Err(Failure::Usage("--dev serves loopback only: bind to 127.0.0.1, or leave --dev out".into()))
}

fn fresh_word() -> Result<String, Failure> {
    let mut bytes = [0_u8; 4];
    getrandom::fill(&mut bytes).map_err(Failure::failed)?;
    Ok(format!("{:08x}", u32::from_be_bytes(bytes)))
}

fn temporary() -> Result<TempDir, Failure> {
    tempfile::Builder::new()
        .prefix("longwire-dev-")
        .tempdir()
        .map_err(|cause| Failure::failed(format!("cannot make a temporary folder: {cause}")))
}
