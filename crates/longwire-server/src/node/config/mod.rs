//! The configuration as the other rooms are told it: typed, checked as a whole, safe with nothing set.
//!
//! - [`settings`]: the one table of settings; `setting`: what one is.
//! - `listener`: what devices may speak, and TLS.
//! - [`layers`]: file, environment and flags over the defaults.
//! - [`manual`]: the settings told to people.

pub mod layers;
mod listener;
pub mod manual;
mod setting;
pub mod settings;

pub use layers::Layers;
pub use listener::DeviceListener;

use crate::delivery::AuthOptions;
use crate::domain::{AppKey, DuplicateLogin, HeartbeatProfile, HeartbeatRules, Limits};
use crate::gate::GateOptions;
use crate::gate::transport::TlsFiles;
use crate::store::registry::{self, RegistryOptions};
use layers::{Problem, Value};
use longwire_proto::limit::BACK_OFF_STEPS_MAX;
use longwire_proto::session::InboundLimits;
use longwire_proto::wire::BackOff;
use settings::SETTINGS;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Everything that a node is told, see [`SETTINGS`](settings::SETTINGS) for units and limits.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of everything that must survive.
    pub data_dir: PathBuf,
    /// Where devices connect: `listener.device`, and those besides it that are switched on, in the order of the gate's terms.
    pub listeners: Vec<DeviceListener>,
    /// Files of all listeners for TLS; read at the start.
    pub device_tls: Option<TlsFiles>,
    /// What the gate is told.
    pub gate: GateOptions,
    /// What the API is told.
    pub api: ApiConfig,
    /// Free bytes that pushes may not use.
    pub storage_reserve_bytes: u64,
    /// How long after a check of the books the next one begins.
    pub storage_books_check: Duration,
    /// How long ended records are kept.
    pub storage_retention: Duration,
    /// How many days the stories of a message's deliveries are kept; 0 = there are none.
    pub story_days: u32,
    /// Webhooks may go to addresses that are not public, and to `http`.
    pub private_webhooks: bool,
    /// Database of apps and devices; an empty URL: a file in the data folder.
    pub registry: RegistryOptions,
    /// What meets a second login of a device whose app does not say.
    pub duplicate_login: DuplicateLogin,
    /// Heartbeats of devices whose app does not say, and the range for all.
    pub heartbeat: HeartbeatRules,
    /// How MQTT clients may log in.
    pub auth: AuthOptions,
    /// Connections that a device may have where the policy is `many`.
    pub connections_per_device: usize,
    /// Apps that have series of their own on `/metrics`.
    pub apps_named: usize,
    /// Quotas of apps that do not say.
    pub limits: Limits,
    /// How long a device token is valid.
    pub token_ttl: Duration,
    /// How long a stop may take.
    pub drain: Duration,
    /// Over what time devices come back after a stop.
    pub goaway_spread: Duration,
    /// Resident bytes that the process plans with; 0 = a share of what the machine has.
    pub memory_limit_bytes: u64,
    /// Logs.
    pub log: LogConfig,
}

/// What the API is told.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// Where it listens.
    pub bind: SocketAddr,
    /// Connections at once.
    pub connections_max: usize,
    /// Requests of one app in work at once.
    pub requests_per_app_max: usize,
    /// A head must be complete after this.
    pub header: Duration,
    /// A body must be complete after this.
    pub body: Duration,
}

/// What is logged, how and where to.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Least severity: a word of `tracing`.
    pub level: String,
    /// JSON instead of text.
    pub json: bool,
    /// Standard output instead of standard error.
    pub stdout: bool,
    /// Lines that may wait.
    pub buffer_lines: usize,
}

impl Config {
    /// Where `listener.device` listens.
    #[must_use]
    pub fn device_bind(&self) -> SocketAddr {
        self.listeners[0].bind
    }

    /// Makes a configuration of what was said, and checks what no single setting can.
    ///
    /// # Errors
    /// Every problem found, with its place.
    pub fn build(mut layers: Layers) -> Result<Config, Vec<Problem>> {
        layers.finish()?;
        check_relations(&mut layers);
        let (listeners, terms, device_tls) = listener::read(&mut layers);
        check_plaintext(&mut layers, "api.bind", "api.insecure_plaintext", false);
        let duplicate_login = duplicate_login(&mut layers);
        let heartbeat = heartbeat(&mut layers);
        let back_off = back_off(&mut layers);
        let auth = auth(&mut layers);
        layers.finish()?;
        let count = |key| usize::try_from(layers.integer(key)).unwrap_or(usize::MAX);
        let seconds = |key| Duration::from_secs(layers.integer(key));
        Ok(Config {
            data_dir: PathBuf::from(layers.text("node.data_dir")),
            listeners,
            device_tls,
            gate: GateOptions { listeners: terms.into(), ..gate_options(&layers, back_off) },
            api: ApiConfig {
                bind: address(&layers, "api.bind"),
                connections_max: count("api.connections_max"),
                requests_per_app_max: count("api.requests_per_app_max"),
                header: seconds("api.header_s"),
                body: seconds("api.body_s"),
            },
            storage_reserve_bytes: layers.integer("storage.reserve"),
            storage_books_check: seconds("storage.books_check"),
            storage_retention: seconds("storage.retention"),
            story_days: u32::try_from(layers.integer("story.days")).unwrap_or(u32::MAX),
            private_webhooks: layers.switch("webhooks.private"),
            registry: RegistryOptions {
                url: layers.text("sql.url").to_owned(),
                connections_max: u32::try_from(layers.integer("sql.connections")).unwrap_or(u32::MAX),
                start_max: Duration::from_secs(layers.integer("sql.wait")),
            },
            duplicate_login,
            heartbeat,
            auth,
            connections_per_device: layers.integer("apps.connections_per_device") as usize,
            apps_named: count("metrics.apps"),
            limits: limits(&layers),
            token_ttl: seconds("tokens.ttl"),
            drain: seconds("node.drain_s"),
            goaway_spread: seconds("node.goaway_spread_s"),
            memory_limit_bytes: layers.integer("node.memory_limit"),
            log: LogConfig {
                level: layers.text("log.level").to_owned(),
                json: layers.text("log.format") == "json",
                stdout: layers.text("log.target") == "stdout",
                buffer_lines: count("log.buffer_lines"),
            },
        })
    }
}

fn gate_options(layers: &Layers, back_off: BackOff) -> GateOptions {
    let count = |key| usize::try_from(layers.integer(key)).unwrap_or(usize::MAX);
    let number = |key| u32::try_from(layers.integer(key)).unwrap_or(u32::MAX);
    let heartbeat = |key| u16::try_from(layers.integer(key)).unwrap_or(u16::MAX);
    let shards = count("shards.count");
    let defaults = GateOptions::default();
    GateOptions {
        shards: if shards == 0 { defaults.shards } else { shards },
        pin: layers.switch("shards.pin"),
        connections_max: count("listener.device.connections_max"),
        address_rate: number("limits.address_rate"),
        address_connections_max: number("limits.address_connections"),
        address_awaiting_max: number("limits.address_awaiting"),
        awaiting_max: count("limits.awaiting"),
        login_rate_min: number("limits.login_rate_min"),
        login_rate_max: number("limits.login_rate_max"),
        frame_body_bytes_max: count("limits.frame_bytes"),
        login_deadline_s: number("limits.login_s"),
        frame_deadline_s: number("limits.frame_s"),
        write_stall_s: number("limits.write_stall_s"),
        ack_deadline_s: number("limits.ack_s"),
        inbound: InboundLimits {
            messages_per_s: number("limits.inbound_messages_per_s"),
            bytes_per_s: number("limits.inbound_bytes_per_s"),
            burst_s: number("limits.inbound_burst_s"),
            ping_s: number("limits.ping_s"),
            pings_burst: number("limits.pings_burst"),
        },
        outbox_high_bytes: count("limits.outbox_high"),
        outbox_low_bytes: count("limits.outbox_low"),
        command_queue: count("limits.command_queue"),
        event_queue: count("limits.event_queue"),
        socket_buffer_bytes: count("listener.device.socket_buffer_bytes"),
        listeners: defaults.listeners,
        node: layers.text("node.id").to_owned(),
        back_off,
        heartbeat_min_s: heartbeat("heartbeat.min"),
        heartbeat_max_s: heartbeat("heartbeat.max"),
    }
}

fn limits(layers: &Layers) -> Limits {
    Limits {
        connections: layers.integer("quotas.connections"),
        requests_per_s: layers.integer("quotas.requests_per_s"),
        messages_per_s: layers.integer("quotas.messages_per_s"),
        broadcasts_per_min: layers.integer("quotas.broadcasts_per_min"),
        devices: layers.integer("quotas.devices"),
        stored_bytes: layers.integer("quotas.stored_bytes"),
    }
}

fn duplicate_login(layers: &mut Layers) -> DuplicateLogin {
    const KEY: &str = "apps.duplicate_login";
    DuplicateLogin::parse(layers.text(KEY)).unwrap_or_else(|fault| {
        layers.object(KEY, fault.problem);
        DuplicateLogin::default()
    })
}

fn auth(layers: &mut Layers) -> AuthOptions {
    const ANONYMOUS: &str = "auth.anonymous";
    const APP: &str = "auth.anonymous_app";
    let mut anonymous = None;
    if layers.switch(ANONYMOUS) {
        // Every listener that there is, so that a new one is looked at too.
        let open = SETTINGS
            .iter()
            .filter(|setting| setting.key.starts_with("listener.") && setting.key.ends_with(".bind"))
            .find(|setting| {
                let bind: Option<SocketAddr> = layers.text(setting.key).parse().ok();
                bind.is_some_and(|bind| !bind.ip().is_loopback())
            });
        if let Some(setting) = open {
            let problem = format!(
                "would let anybody in who reaches {} ({}): bind every device listener to loopback, or leave it off",
                layers.text(setting.key),
                setting.key
            );
            layers.object(ANONYMOUS, problem);
        }
        match AppKey::parse(layers.text(APP)) {
            Ok(key) => anonymous = Some(key),
            Err(fault) => layers.object(APP, fault.problem),
        }
    }
    let seconds = |key| u32::try_from(layers.integer(key)).unwrap_or(u32::MAX);
    let options = AuthOptions {
        anonymous,
        automatic_devices_max: layers.integer("auth.automatic_devices"),
        session_expiry_default_s: seconds("mqtt.session_expiry"),
        session_expiry_max_s: seconds("mqtt.session_expiry_max"),
    };
    if options.session_expiry_default_s > options.session_expiry_max_s {
        let problem = format!("is above mqtt.session_expiry_max ({})", options.session_expiry_max_s);
        layers.object("mqtt.session_expiry", problem);
    }
    options
}

fn heartbeat(layers: &mut Layers) -> HeartbeatRules {
    const PROFILE: &str = "heartbeat.profile";
    let profile = HeartbeatProfile::parse(layers.text(PROFILE)).unwrap_or_else(|fault| {
        layers.object(PROFILE, fault.problem);
        HeartbeatProfile::default()
    });
    let seconds = |key| u16::try_from(layers.integer(key)).unwrap_or(u16::MAX);
    HeartbeatRules {
        profile,
        default_s: seconds("heartbeat.default"),
        min_s: seconds("heartbeat.min"),
        max_s: seconds("heartbeat.max"),
        padding_max: u8::try_from(layers.integer("heartbeat.padding")).unwrap_or(u8::MAX),
    }
}

/// The longest step of a back-off, seconds.
const BACK_OFF_STEP_S_MAX: u16 = 3600;

fn back_off(layers: &mut Layers) -> BackOff {
    const STEPS: &str = "backoff.steps";
    let jitter_ms = u16::try_from(layers.integer("backoff.jitter_ms")).unwrap_or(u16::MAX);
    let steps: Option<Vec<u16>> =
        layers.text(STEPS).split_whitespace().map(|step| step.parse().ok()).collect();
    let allowed = |steps: &Vec<u16>| {
        let short = steps.iter().all(|step| *step <= BACK_OFF_STEP_S_MAX);
        short && steps.len() <= BACK_OFF_STEPS_MAX && steps.last().is_some_and(|last| *last > 0)
    };
    let Some(steps_s) = steps.filter(allowed) else {
        layers.object(
            STEPS,
            format!(
                "must be 1 to {BACK_OFF_STEPS_MAX} whole numbers of seconds with spaces between, each at most \
                 {BACK_OFF_STEP_S_MAX}, the last not 0"
            ),
        );
        return BackOff::default();
    };
    BackOff { steps_s, jitter_ms }
}

fn address(layers: &Layers, key: &'static str) -> SocketAddr {
    layers.text(key).parse().expect("an address was parsed before it was set")
}

fn check_relations(layers: &mut Layers) {
    let (least, asked, most) = (
        layers.integer("heartbeat.min"),
        layers.integer("heartbeat.default"),
        layers.integer("heartbeat.max"),
    );
    if least > most {
        layers.object("heartbeat.min", format!("{least} is above heartbeat.max ({most})"));
    } else if !(least..=most).contains(&asked) {
        layers.object(
            "heartbeat.default",
            format!("must be from heartbeat.min to heartbeat.max ({least} to {most}), is {asked}"),
        );
    }
    let (least, most) = (layers.integer("limits.login_rate_min"), layers.integer("limits.login_rate_max"));
    if least > most {
        layers.object("limits.login_rate_min", format!("{least} is above limits.login_rate_max ({most})"));
    }
    let ping = layers.integer("limits.ping_s");
    if ping > least {
        layers.object("limits.ping_s", format!("{ping} is above heartbeat.min ({least})"));
    }
    let (low, high) = (layers.integer("limits.outbox_low"), layers.integer("limits.outbox_high"));
    if low >= high {
        layers
            .object("limits.outbox_low", format!("must be less than limits.outbox_high ({high}), is {low}"));
    }
    for (key, what) in [("node.id", "name"), ("node.data_dir", "folder")] {
        if layers.text(key).is_empty() {
            layers.object(key, format!("must name a {what}"));
        }
    }
    if layers.text("node.id").contains(char::is_control) {
        layers.object("node.id", "must not contain control characters");
    }
    let url = layers.text("sql.url");
    if !url.is_empty()
        && let Err(problem) = registry::check_url(url)
    {
        // The value may hold a password: it is not repeated.
        layers.object("sql.url", problem);
    }
}

fn check_plaintext(layers: &mut Layers, bind: &'static str, switch: &'static str, secured: bool) {
    let address = address(layers, bind);
    if !address.ip().is_loopback() && !layers.switch(switch) && !secured {
        layers.object(
            bind,
            format!(
                "{address} can be reached by others and there is no TLS: what is sent there can be read on the way. \
                 Bind to 127.0.0.1, or, on a trusted network or behind a TLS proxy, say {switch} = true"
            ),
        );
    }
}

/// The effective configuration as TOML that can be read back, with the place of each value; secrets are left out.
#[must_use]
pub fn effective(layers: &Layers) -> String {
    let mut out = String::new();
    let mut section = "";
    for (setting, value, place) in layers.iter() {
        let name = open_section(&mut out, &mut section, setting.key);
        if setting.secret && *value != Value::Text(String::new()) {
            let _ = writeln!(out, "# {name} = ***  # {place}");
        } else {
            let _ = writeln!(out, "{name} = {}  # {place}", literal(value));
        }
    }
    out
}

/// Writes the header of a key's section when it begins, and returns the key's own name.
pub(super) fn open_section<'k>(out: &mut String, section: &mut &'k str, key: &'k str) -> &'k str {
    let (of, name) = key.rsplit_once('.').unwrap_or(("", key));
    if of != *section {
        *section = of;
        let gap = if out.is_empty() { "" } else { "\n" };
        let _ = writeln!(out, "{gap}[{of}]");
    }
    name
}

/// A value as TOML writes it.
pub(super) fn literal(value: &Value) -> String {
    match value {
        Value::Integer(n) => n.to_string(),
        Value::Switch(on) => on.to_string(),
        // JSON's escapes are a subset of those of a TOML basic string.
        Value::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
    }
}

#[cfg(test)]
mod tests;
