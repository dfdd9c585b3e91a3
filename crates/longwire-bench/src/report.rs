//! The figures of a scenario: a table for people, one line of JSON for programs.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::latency::Percentiles;
use crate::machine::Machine;
use crate::series::Spread;

/// What every scenario reports. A figure that it does not measure is `null`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) scenario: &'static str,
    pub(crate) bytes_per_connection: Option<f64>,
    pub(crate) deliveries_per_s: Option<f64>,
    pub(crate) ratio_to_limit: Option<f64>,
    pub(crate) cpu_s_per_million: Option<f64>,
    pub(crate) latency_ms: Option<Percentiles>,
    pub(crate) lost: Option<u64>,
    pub(crate) machine: Machine,
    pub(crate) commit: String,
    pub(crate) command: String,
    /// What only this scenario has.
    #[serde(flatten)]
    pub(crate) extras: Map<String, Value>,
    #[serde(skip)]
    rows: Vec<(String, String)>,
}

impl Figures {
    pub(crate) fn new(scenario: &'static str) -> Figures {
        Figures {
            scenario,
            bytes_per_connection: None,
            deliveries_per_s: None,
            ratio_to_limit: None,
            cpu_s_per_million: None,
            latency_ms: None,
            lost: None,
            machine: Machine::read(),
            commit: commit(),
            command: command(),
            extras: Map::new(),
            rows: Vec::new(),
        }
    }

    /// A row of the table.
    pub(crate) fn row(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.rows.push((name.into(), value.into()));
    }

    /// A figure that only this scenario has.
    pub(crate) fn extra(&mut self, name: &str, value: impl Serialize) {
        self.extras.insert(name.into(), serde_json::to_value(value).unwrap_or(Value::Null));
    }

    /// Prints the table and, if wanted, the line of JSON.
    pub(crate) fn print(&self, json: bool) {
        let machine = &self.machine;
        println!(
            "\n{} on {} cores, {} MiB, Linux {}",
            self.scenario, machine.cores, machine.memory_mib, machine.kernel
        );
        let width = self.rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
        for (name, value) in &self.rows {
            println!("  {name:width$}  {value}");
        }
        if json {
            println!("{}", serde_json::to_string(self).unwrap_or_default());
        }
    }
}

/// The revision of the sources: at the build if it was told then, else of the directory we stand in.
fn commit() -> String {
    if let Some(built) = option_env!("LONGWIRE_COMMIT") {
        return built.into();
    }
    let git = std::process::Command::new("git")
        .args(["rev-parse", "HEAD"])
        .stderr(std::process::Stdio::null())
        .output();
    match git {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().into(),
        _ => "unknown".into(),
    }
}

/// Options whose values are not repeated.
const SECRETS: [&str; 2] = ["--app-secret", "--password"];

/// The command line as it was given, secrets left out.
fn command() -> String {
    let mut words = vec!["longwire".to_owned()];
    let mut secret = false;
    for word in std::env::args().skip(1) {
        words.push(match word.split_once('=') {
            _ if secret => "***".into(),
            Some((name, _)) if SECRETS.contains(&name) => format!("{name}=***"),
            _ => word.clone(),
        });
        secret = SECRETS.contains(&word.as_str());
    }
    words.join(" ")
}

/// A series in words; without digits its numbers are grouped.
pub(crate) fn words(spread: Option<Spread>, digits: usize) -> String {
    let number = |value: f64| if digits == 0 { grouped(value) } else { format!("{value:.digits$}") };
    spread.map_or_else(
        || "not measured".into(),
        |spread| {
            format!("{} (min {}, max {})", number(spread.median), number(spread.min), number(spread.max))
        },
    )
}

/// A count with thin separators: `1234567` as `1 234 567`.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    if value < -0.5 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_line_of_json_has_every_promised_field() {
        let mut figures = Figures::new("fanout");
        figures.latency_ms = Some(Percentiles { p50: 1.0, p99: 2.0, p999: 3.0 });
        figures.lost = Some(0);
        figures.extra("turns", 30);
        let json = serde_json::to_value(&figures).unwrap();
        for name in [
            "scenario",
            "bytes_per_connection",
            "deliveries_per_s",
            "ratio_to_limit",
            "cpu_s_per_million",
            "latency_ms",
            "lost",
            "machine",
            "commit",
            "command",
        ] {
            assert!(json.get(name).is_some(), "{name} is missing in {json}");
        }
        assert_eq!(json["latency_ms"]["p999"], 3.0);
        assert_eq!(json["turns"], 30);
        assert!(json["deliveries_per_s"].is_null());
        assert!(json.get("rows").is_none());
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!(grouped(1_234_567.2), "1 234 567");
        assert_eq!(grouped(999.0), "999");
        assert_eq!(grouped(-1_000.0), "-1 000");
    }
}
