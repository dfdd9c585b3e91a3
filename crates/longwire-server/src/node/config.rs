//! The configuration as the other rooms are told it: typed, checked as a whole, safe with nothing set.

use super::layers::{Layers, Problem, Value};
use crate::gate::GateOptions;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Everything that a node is told, see [`SETTINGS`](super::settings::SETTINGS) for units and limits.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of everything that must survive.
    pub data_dir: PathBuf,
    /// Where devices connect.
    pub device_bind: SocketAddr,
    /// What the gate is told.
    pub gate: GateOptions,
    /// What the API is told.
    pub api: ApiConfig,
    /// Free bytes that pushes may not use.
    pub storage_reserve_bytes: u64,
    /// How long ended records are kept.
    pub storage_retention: Duration,
    /// Database of apps and devices; empty: a file in the data folder.
    pub sql_url: String,
    /// How long a device token is valid.
    pub token_ttl: Duration,
    /// How long a stop may take.
    pub drain: Duration,
    /// Over what time devices come back after a stop.
    pub goaway_spread: Duration,
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
    /// Makes a configuration of what was said, and checks what no single setting can.
    ///
    /// # Errors
    /// Every problem found, with its place.
    pub fn build(mut layers: Layers) -> Result<Config, Vec<Problem>> {
        layers.finish()?;
        check_relations(&mut layers);
        check_plaintext(&mut layers, "listener.device.bind", "listener.device.insecure_plaintext");
        check_plaintext(&mut layers, "api.bind", "api.insecure_plaintext");
        layers.finish()?;
        let count = |key| usize::try_from(layers.integer(key)).unwrap_or(usize::MAX);
        let seconds = |key| Duration::from_secs(layers.integer(key));
        Ok(Config {
            data_dir: PathBuf::from(layers.text("node.data_dir")),
            device_bind: address(&layers, "listener.device.bind"),
            gate: gate_options(&layers),
            api: ApiConfig {
                bind: address(&layers, "api.bind"),
                connections_max: count("api.connections_max"),
                requests_per_app_max: count("api.requests_per_app_max"),
                header: seconds("api.header_s"),
                body: seconds("api.body_s"),
            },
            storage_reserve_bytes: layers.integer("storage.reserve"),
            storage_retention: seconds("storage.retention"),
            sql_url: layers.text("sql.url").to_owned(),
            token_ttl: seconds("tokens.ttl"),
            drain: seconds("node.drain_s"),
            goaway_spread: seconds("node.goaway_spread_s"),
            log: LogConfig {
                level: layers.text("log.level").to_owned(),
                json: layers.text("log.format") == "json",
                stdout: layers.text("log.target") == "stdout",
                buffer_lines: count("log.buffer_lines"),
            },
        })
    }
}

fn gate_options(layers: &Layers) -> GateOptions {
    let count = |key| usize::try_from(layers.integer(key)).unwrap_or(usize::MAX);
    let seconds = |key| u32::try_from(layers.integer(key)).unwrap_or(u32::MAX);
    let heartbeat = |key| u16::try_from(layers.integer(key)).unwrap_or(u16::MAX);
    let shards = count("shards.count");
    let defaults = GateOptions::default();
    GateOptions {
        shards: if shards == 0 { defaults.shards } else { shards },
        pin: layers.switch("shards.pin"),
        connections_max: count("listener.device.connections_max"),
        frame_body_bytes_max: count("limits.frame_bytes"),
        login_deadline_s: seconds("limits.login_s"),
        frame_deadline_s: seconds("limits.frame_s"),
        write_stall_s: seconds("limits.write_stall_s"),
        ack_deadline_s: seconds("limits.ack_s"),
        outbox_high_bytes: count("limits.outbox_high"),
        outbox_low_bytes: count("limits.outbox_low"),
        command_queue: count("limits.command_queue"),
        event_queue: count("limits.event_queue"),
        socket_buffer_bytes: count("listener.device.socket_buffer_bytes"),
        node: layers.text("node.id").to_owned(),
        heartbeat_s: heartbeat("heartbeat.default"),
        heartbeat_min_s: heartbeat("heartbeat.min"),
        heartbeat_max_s: heartbeat("heartbeat.max"),
    }
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
    if !url.is_empty() && !url.starts_with("sqlite:") {
        // The value may hold a password: it is not repeated.
        layers.object("sql.url", "must begin with sqlite: (other databases are not served yet)");
    }
}

fn check_plaintext(layers: &mut Layers, bind: &'static str, switch: &'static str) {
    let address = address(layers, bind);
    if !address.ip().is_loopback() && !layers.switch(switch) {
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn problems(toml: &str) -> Vec<String> {
        let mut layers = Layers::default();
        layers.toml("a.toml", toml);
        Config::build(layers).err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nothing_said_is_a_safe_configuration() {
        let config = Config::build(Layers::default()).unwrap();
        assert!(config.device_bind.ip().is_loopback() && config.api.bind.ip().is_loopback());
    }

    #[test]
    fn flag_beats_environment_beats_file_beats_default() {
        let mut layers = Layers::default();
        layers.toml("a.toml", "[limits]\nack_s = 11\nlogin_s = 12\nframe_s = 13\n");
        let said =
            [("LONGWIRE_LIMITS__ACK_S", "21"), ("LONGWIRE_LIMITS__LOGIN_S", "22"), ("LONGWIRE_X", "?")];
        layers.environment(said.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())));
        layers.assignment("limits.ack_s=31");
        let gate = Config::build(layers).unwrap().gate;
        assert_eq!((gate.ack_deadline_s, gate.login_deadline_s, gate.frame_deadline_s), (31, 22, 13));
        assert_eq!(gate.write_stall_s, 30);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_key() {
        let found = problems("# a comment\n[heartbeat]\ndefalt = 60\n");
        assert_eq!(found, ["a.toml:3: unknown key heartbeat.defalt; did you mean heartbeat.default?"]);
        let found = problems("\n[hartbeat]\nmin = 60\n");
        assert_eq!(found, ["a.toml:2: unknown section [hartbeat]; did you mean heartbeat.min?"]);
        assert!(problems("limits = 3\n")[0].starts_with("a.toml:1: limits is a section"));
    }

    #[test]
    fn a_wrong_type_or_range_is_named_with_its_line() {
        let found = problems(
            "[api]\nbind = 8080\n[limits]\nack_s = \"30\"\nlogin_s = -1\nframe_s = 601\n[shards]\npin = 1\n",
        );
        assert_eq!(found.len(), 5, "{found:?}");
        assert!(
            found.contains(&"a.toml:2: api.bind: must be an address as ip:port, is an integer".to_owned())
        );
        assert!(found.iter().any(|p| p.starts_with("a.toml:4: limits.ack_s: must be a whole number")));
        assert!(found.iter().any(|p| p.starts_with("a.toml:5: limits.login_s")));
        assert!(found.iter().any(|p| p.starts_with("a.toml:6: limits.frame_s") && p.ends_with("is 601")));
        assert!(found.iter().any(|p| p.starts_with("a.toml:8: shards.pin: must be true or false")));
    }

    #[test]
    fn broken_toml_is_named_with_its_line() {
        let found = problems("[api]\nbind = = 3\n");
        assert!(found[0].starts_with("a.toml:2: "), "{found:?}");
    }

    #[test]
    fn an_open_address_needs_the_word_for_it() {
        for (bind, switch) in [
            ("api.bind", "api.insecure_plaintext"),
            ("listener.device.bind", "listener.device.insecure_plaintext"),
        ] {
            let mut layers = Layers::default();
            layers.assignment(&format!("{bind}=0.0.0.0:0"));
            let found = Config::build(layers.clone()).unwrap_err();
            assert!(found[0].to_string().contains(&format!("{switch} = true")), "{found:?}");
            layers.assignment(&format!("{switch}=true"));
            assert!(Config::build(layers).is_ok());
        }
    }

    #[test]
    fn limits_that_contradict_each_other_are_refused() {
        assert!(problems("[limits]\noutbox_low = 65536\n")[0].contains("outbox_high"));
        assert!(problems("[heartbeat]\ndefault = 10\n")[0].contains("heartbeat.min to heartbeat.max"));
        assert!(problems("[heartbeat]\nmin = 700\nmax = 600\n")[0].contains("above heartbeat.max"));
    }

    #[test]
    fn the_effective_configuration_reads_back_and_keeps_secrets() {
        let mut layers = Layers::default();
        layers.assignment("sql.url=sqlite:/secret-path");
        layers.assignment("node.id=a \"quoted\" name");
        let shown = effective(&layers);
        assert!(!shown.contains("secret-path"), "{shown}");
        let mut again = Layers::default();
        again.toml("shown", &shown);
        assert_eq!(again.finish(), Ok(()));
        assert_eq!(again.value("node.id").unwrap().0, Value::Text("a \"quoted\" name".into()));
    }
}
