//! Where the configuration comes from on the command line.

use crate::Failure;
use clap::Args;
use longwire_server::node::config::effective;
use longwire_server::node::{Config, Layers, open_certificates};
use std::fmt::Write as _;
use std::path::PathBuf;

/// File, flags for common keys, and `--set` for every key. Flags go before environment, environment before file.
#[derive(Args, Default)]
pub(crate) struct ConfigArgs {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "LONGWIRE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Folder of everything that must survive (node.data_dir).
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data_dir: Option<String>,
    /// Where devices connect (listener.device.bind).
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) device_bind: Option<String>,
    /// Where the HTTP API listens (api.bind).
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) api_bind: Option<String>,
    /// Least severity that is logged (log.level).
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// Any setting; may be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(crate) settings: Vec<String>,
}

impl ConfigArgs {
    /// Lays file, environment and flags over what is there.
    pub(crate) fn lay_over(&self, layers: &mut Layers) {
        if let Some(path) = &self.config {
            layers.file(path);
        }
        // A variable that is not UTF-8 cannot be one of ours.
        let variables =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        layers.environment(variables);
        let flags = [
            ("--data-dir", "node.data_dir", &self.data_dir),
            ("--device-bind", "listener.device.bind", &self.device_bind),
            ("--api-bind", "api.bind", &self.api_bind),
            ("--log-level", "log.level", &self.log_level),
        ];
        for (flag, key, value) in flags {
            if let Some(value) = value {
                layers.flag(flag, key, value);
            }
        }
        for setting in &self.settings {
            layers.assignment(setting);
        }
    }
}

/// The configuration, or every problem with it.
pub(crate) fn build(layers: Layers) -> Result<Config, Failure> {
    Config::build(layers).map_err(|problems| {
        let mut text = String::from("the configuration cannot be used:");
        for problem in problems {
            let _ = write!(text, "\n  {problem}");
        }
        Failure::Usage(text)
    })
}

/// `check-config`.
pub(crate) fn check(args: &ConfigArgs) -> Result<(), Failure> {
    let mut layers = Layers::default();
    args.lay_over(&mut layers);
    let mut config = build(layers.clone())?;
    open_certificates(&mut config).map_err(|cause| Failure::Usage(format!("TLS for devices: {cause}")))?;
    print!("{}", effective(&layers));
    Ok(())
}
