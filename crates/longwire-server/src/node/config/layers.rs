//! Settings from file, environment and flags, laid over the defaults. Every problem names its place.

use super::settings::{Fallback, Kind, SETTINGS, Setting, index_of, nearest};
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// Environment variables that begin so and contain `__` are settings.
pub const ENV_PREFIX: &str = "LONGWIRE_";
/// Longest configuration file, bytes; a longer one is refused.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A value of a setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// A whole number.
    Integer(u64),
    /// A switch.
    Switch(bool),
    /// Text, an address or a word.
    Text(String),
}

/// Where a value was said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// Nowhere.
    Default,
    /// In a file, at a line counted from 1.
    File(String, usize),
    /// In an environment variable.
    Environment(String),
    /// By a flag, as it was written.
    Flag(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Default => f.write_str("default"),
            Place::File(path, line) => write!(f, "{path}:{line}"),
            Place::Environment(name) => write!(f, "environment {name}"),
            Place::Flag(flag) => write!(f, "{flag}"),
        }
    }
}

/// What is wrong with the configuration, and where.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What, and what to do.
    pub problem: String,
}

/// One value per entry of [`SETTINGS`], and where it came from.
#[derive(Clone, Debug)]
pub struct Layers {
    values: Vec<(Value, Place)>,
    problems: Vec<Problem>,
}

impl Default for Layers {
    fn default() -> Self {
        let values = SETTINGS.iter().map(|setting| (default_of(setting), Place::Default)).collect();
        Layers { values, problems: Vec::new() }
    }
}

impl Layers {
    /// Lays a TOML file over what is there. Problems are kept for [`Layers::finish`].
    pub fn file(&mut self, path: &Path) {
        let name = path.display().to_string();
        let text = std::fs::metadata(path).and_then(|entry| {
            if entry.len() > FILE_BYTES_MAX {
                return Err(std::io::Error::other(format!("longer than {FILE_BYTES_MAX} bytes")));
            }
            std::fs::read_to_string(path)
        });
        match text {
            Ok(text) => self.toml(&name, &text),
            Err(cause) => self.fault(Place::File(name, 0), format!("cannot be read: {cause}")),
        }
    }

    /// Lays TOML text over what is there; `name` is what problems call it.
    pub fn toml(&mut self, name: &str, text: &str) {
        match DeTable::parse(text) {
            Ok(table) => self.table(name, text, "", table.get_ref()),
            Err(fault) => {
                let line = fault.span().map_or(1, |span| line_of(text, span.start));
                self.fault(Place::File(name.into(), line), fault.message().trim().to_owned());
            }
        }
    }

    fn table(&mut self, name: &str, text: &str, path: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let full =
                if path.is_empty() { key.get_ref().to_string() } else { format!("{path}.{}", key.get_ref()) };
            let place = Place::File(name.into(), line_of(text, key.span().start));
            let section = SETTINGS.iter().any(|setting| {
                setting.key.strip_prefix(full.as_str()).is_some_and(|rest| rest.starts_with('.'))
            });
            match (index_of(&full), value.get_ref()) {
                (Some(at), found) => self.found(at, found, place),
                (None, DeValue::Table(inner)) if section => self.table(name, text, &full, inner),
                (None, _) if section => self.fault(place, format!("{full} is a section: write [{full}]")),
                (None, DeValue::Table(inner)) => {
                    // The keys inside tell best what was meant.
                    let guess = inner.keys().find_map(|k| nearest(&format!("{full}.{}", k.get_ref())));
                    self.unknown(place, &format!("section [{full}]"), guess.or_else(|| nearest(&full)));
                }
                (None, _) => self.unknown(place, &format!("key {full}"), nearest(&full)),
            }
        }
    }

    fn found(&mut self, at: usize, found: &DeValue<'_>, place: Place) {
        let setting = &SETTINGS[at];
        let value = match (setting.kind, found) {
            (Kind::Integer { .. }, DeValue::Integer(n)) => {
                u64::from_str_radix(n.as_str(), n.radix()).map(Value::Integer).ok()
            }
            (Kind::Switch, DeValue::Boolean(on)) => Some(Value::Switch(*on)),
            (
                Kind::Address
                | Kind::AddressOrNone
                | Kind::Text { .. }
                | Kind::Words { .. }
                | Kind::Choice(_),
                DeValue::String(text),
            ) => Some(Value::Text(text.to_string())),
            (Kind::Words { .. }, DeValue::Array(words)) => {
                let words: Option<Vec<&str>> = words.iter().map(|word| word.get_ref().as_str()).collect();
                words.map(|words| Value::Text(words.join(" ")))
            }
            _ => None,
        };
        match value {
            Some(value) => self.set(at, value, place),
            None => {
                let problem = format!(
                    "{}: must be {}, is {} {}",
                    setting.key,
                    kind_word(setting),
                    article(found.type_str()),
                    found.type_str()
                );
                self.fault(place, problem);
            }
        }
    }

    /// Lays environment variables over what is there.
    pub fn environment(&mut self, variables: impl Iterator<Item = (String, String)>) {
        for (name, text) in variables {
            let Some(rest) = name.strip_prefix(ENV_PREFIX) else { continue };
            if !rest.contains("__") {
                continue; // not a setting: every setting has a section
            }
            let key = rest.replace("__", ".").to_lowercase();
            self.written(&key, &text, Place::Environment(name));
        }
    }

    /// Lays one `key=value` over what is there.
    pub fn assignment(&mut self, flag: &str) {
        match flag.split_once('=') {
            // The place is the key alone: a value may be a secret.
            Some((key, text)) => {
                let key = key.trim();
                self.written(key, text.trim(), Place::Flag(format!("--set {key}")));
            }
            None => self.fault(
                Place::Flag(format!("--set {flag}")),
                "must be written --set section.key=value".into(),
            ),
        }
    }

    /// Lays a value given by a flag of its own over what is there.
    pub fn flag(&mut self, flag: &str, key: &str, text: &str) {
        self.written(key, text, Place::Flag(flag.to_owned()));
    }

    fn written(&mut self, key: &str, text: &str, place: Place) {
        let Some(at) = index_of(key) else {
            return self.unknown(place, &format!("key {key}"), nearest(key));
        };
        let setting = &SETTINGS[at];
        let value = match setting.kind {
            Kind::Integer { .. } => text.replace('_', "").parse().map(Value::Integer).ok(),
            Kind::Switch => text.parse().map(Value::Switch).ok(),
            _ => Some(Value::Text(text.to_owned())),
        };
        match value {
            Some(value) => self.set(at, value, place),
            None => self.fault(place, format!("{}: must be {}", setting.key, kind_word(setting))),
        }
    }

    fn set(&mut self, at: usize, value: Value, place: Place) {
        let setting = &SETTINGS[at];
        match check(setting, &value) {
            Ok(()) => self.values[at] = (value, place),
            Err(problem) => self.fault(place, format!("{}: {problem}", setting.key)),
        }
    }

    fn unknown(&mut self, place: Place, what: &str, guess: Option<&str>) {
        let hint = guess.map_or_else(
            || "; `longwire gen-config` prints every key".to_owned(),
            |key| format!("; did you mean {key}?"),
        );
        self.fault(place, format!("unknown {what}{hint}"));
    }

    fn fault(&mut self, place: Place, problem: String) {
        self.problems.push(Problem { place, problem });
    }

    /// A problem with a value that is there.
    pub(super) fn object(&mut self, key: &'static str, problem: impl fmt::Display) {
        let place = index_of(key).map_or(Place::Default, |at| self.values[at].1.clone());
        self.fault(place, format!("{key}: {problem}"));
    }

    /// The value of a key of the table and its place.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&(Value, Place)> {
        index_of(key).map(|at| &self.values[at])
    }

    /// Every setting with its value and place, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Setting, &Value, &Place)> {
        SETTINGS.iter().zip(&self.values).map(|(setting, (value, place))| (setting, value, place))
    }

    pub(super) fn integer(&self, key: &'static str) -> u64 {
        match self.value(key) {
            Some((Value::Integer(n), _)) => *n,
            _ => unreachable!("{key} is an integer of the table; a test reads every key"),
        }
    }

    pub(super) fn switch(&self, key: &'static str) -> bool {
        match self.value(key) {
            Some((Value::Switch(on), _)) => *on,
            _ => unreachable!("{key} is a switch of the table; a test reads every key"),
        }
    }

    pub(super) fn text(&self, key: &'static str) -> &str {
        match self.value(key) {
            Some((Value::Text(text), _)) => text,
            _ => unreachable!("{key} is a text of the table; a test reads every key"),
        }
    }

    /// The problems found so far.
    ///
    /// # Errors
    /// All of them, in the order in which they were found.
    pub fn finish(&self) -> Result<(), Vec<Problem>> {
        if self.problems.is_empty() { Ok(()) } else { Err(self.problems.clone()) }
    }
}

/// A setting's default as a value.
#[must_use]
pub fn default_of(setting: &Setting) -> Value {
    match setting.fallback {
        Fallback::Integer(n) => Value::Integer(n),
        Fallback::Switch(on) => Value::Switch(on),
        Fallback::Text(text) => Value::Text(text.to_owned()),
    }
}

fn check(setting: &Setting, value: &Value) -> Result<(), String> {
    let wrong = |is: &dyn fmt::Display| Err(format!("must be {}, is {is}", kind_word(setting)));
    match (setting.kind, value) {
        (Kind::Integer { min, max }, Value::Integer(n)) if !(min..=max).contains(n) => wrong(n),
        (Kind::Address, Value::Text(text)) if text.parse::<SocketAddr>().is_err() => {
            wrong(&format!("{text:?}"))
        }
        (Kind::AddressOrNone, Value::Text(text))
            if !text.is_empty() && text.parse::<SocketAddr>().is_err() =>
        {
            wrong(&format!("{text:?}"))
        }
        (Kind::Text { max } | Kind::Words { max }, Value::Text(text)) if text.len() > max => {
            wrong(&format!("{} bytes", text.len()))
        }
        (Kind::Choice(words), Value::Text(text)) if !words.contains(&text.as_str()) => {
            wrong(&format!("{text:?}"))
        }
        _ => Ok(()),
    }
}

fn kind_word(setting: &Setting) -> String {
    match setting.kind {
        Kind::Integer { .. } => {
            format!("a whole number of {} from {}", setting.unit, setting.allowed())
        }
        Kind::Switch => "true or false".into(),
        Kind::Address => "an address as ip:port".into(),
        Kind::AddressOrNone => "an address as ip:port, or empty".into(),
        Kind::Text { max } => format!("text of at most {max} bytes"),
        Kind::Words { max } => format!("words of at most {max} bytes, in a text or an array"),
        Kind::Choice(words) => format!("one of {}", words.join(", ")),
    }
}

fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count()
}
