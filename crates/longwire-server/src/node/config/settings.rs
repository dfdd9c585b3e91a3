//! The one table of settings: key, kind, default, unit and meaning. Parsing, checking, `gen-config` and
//! `docs/configuration.md` are all driven by it.
//!
//! - [`connections`]: the node, its doors, and what a connection may do.
//! - [`service`]: what is kept, who may use it, and what is told of it.

mod connections;
mod service;

pub use super::setting::{Fallback, Kind, Setting};

/// Every setting, in the order in which it is shown.
pub const SETTINGS: &[Setting] = &ALL;

const ALL: [Setting; connections::SETTINGS.len() + service::SETTINGS.len()] = {
    let mut all = [connections::SETTINGS[0]; connections::SETTINGS.len() + service::SETTINGS.len()];
    let (connections, service) = all.split_at_mut(connections::SETTINGS.len());
    connections.copy_from_slice(connections::SETTINGS);
    service.copy_from_slice(service::SETTINGS);
    all
};

/// Where a key stands in [`SETTINGS`].
#[must_use]
pub fn index_of(key: &str) -> Option<usize> {
    SETTINGS.iter().position(|setting| setting.key == key)
}

/// The known key that is nearest to what somebody wrote, if one is near enough to be meant.
#[must_use]
pub fn nearest(written: &str) -> Option<&'static str> {
    let written: String = written.chars().take(64).collect();
    let near = SETTINGS.iter().map(|setting| (distance(&written, setting.key), setting.key)).min()?;
    (near.0 <= 2.max(written.len() / 3)).then_some(near.1)
}

/// Single-character edits from one text to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_named_and_nonsense_is_not() {
        assert_eq!(nearest("heartbeat.defalt"), Some("heartbeat.default"));
        assert_eq!(nearest("limit.ack_s"), Some("limits.ack_s"));
        assert_eq!(nearest("qqqqqqqqqq"), None);
        assert_eq!(nearest(""), None);
    }

    #[test]
    fn every_default_is_within_its_own_limits() {
        for setting in SETTINGS {
            assert_eq!(index_of(setting.key).map(|at| SETTINGS[at].key), Some(setting.key));
            match (setting.kind, setting.fallback) {
                (Kind::Integer { min, max }, Fallback::Integer(n)) => {
                    assert!((min..=max).contains(&n), "{}", setting.key);
                }
                (Kind::Switch, Fallback::Switch(_)) | (Kind::AddressOrNone, Fallback::Text("")) => {}
                (Kind::Address, Fallback::Text(text)) => {
                    assert!(text.parse::<std::net::SocketAddr>().is_ok(), "{}", setting.key);
                }
                (Kind::Text { max } | Kind::Words { max }, Fallback::Text(text)) => {
                    assert!(text.len() <= max)
                }
                (Kind::Choice(words), Fallback::Text(text)) => assert!(words.contains(&text)),
                _ => panic!("{}: the default is of another kind", setting.key),
            }
        }
    }
}
