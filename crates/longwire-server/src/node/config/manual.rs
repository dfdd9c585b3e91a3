//! The settings told to people: a configuration file with every key, and `docs/configuration.md`.

use super::layers::default_of;
use super::settings::SETTINGS;
use super::{literal, open_section};
use std::fmt::Write as _;

/// A configuration file with every key at its default, each explained.
#[must_use]
pub fn sample_file() -> String {
    let mut out = String::from("# Longwire. Every key is optional; the values are the defaults.\n");
    let mut section = "";
    for setting in SETTINGS {
        let name = open_section(&mut out, &mut section, setting.key);
        out.push('\n');
        for line in wrap(setting.doc, 110) {
            let _ = writeln!(out, "# {line}");
        }
        let unit = if setting.unit.is_empty() { String::new() } else { format!(" {}", setting.unit) };
        let _ = writeln!(out, "# Allowed: {}{unit}.", setting.allowed());
        let _ = writeln!(out, "{name} = {}", literal(&default_of(setting)));
    }
    out
}

const INTRODUCTION: &str = "# Configuration

This page is generated from the table of settings in the code (`longwire config-doc`); a test fails when it is stale.

One TOML file (`--config FILE`), and every key also as an environment variable and as a flag. What is said later in this list wins:

1. the default;
2. the file;
3. the environment: `LONGWIRE_` + the key in capitals, with `__` for each dot: `LONGWIRE_LIMITS__ACK_S=20`;
4. flags: `--set limits.ack_s=20`, and for the common ones a flag of their own (`--data-dir`, `--device-bind`, `--api-bind`, `--log-level`).

An unknown key, a wrong type or a value outside its limits is an error that names file and line and, where there is one, the key that
was probably meant; nothing is started. `longwire check-config` reads everything and prints the configuration that would hold, without
secrets and with the place of each value. `longwire gen-config` prints a file with every key.

With nothing set the node listens on loopback only. An address that others can reach is refused while there is no TLS, unless the
configuration says `insecure_plaintext = true` for that listener. On the devices' port TLS is there as soon as a certificate is. SIGHUP reads
the certificates again, and nothing else.
";

/// The text of `docs/configuration.md`.
#[must_use]
pub fn page() -> String {
    let mut out = INTRODUCTION.to_owned();
    let mut section = "";
    for setting in SETTINGS {
        let (of, name) = setting.key.rsplit_once('.').unwrap_or(("", setting.key));
        if of != section {
            section = of;
            let _ = write!(
                out,
                "\n## [{of}]\n\n| key | default | unit | allowed | meaning |\n|---|---|---|---|---|\n"
            );
        }
        let _ = writeln!(
            out,
            "| `{name}` | `{}` | {} | {} | {} |",
            literal(&default_of(setting)),
            setting.unit,
            setting.allowed(),
            setting.doc
        );
    }
    out
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let full = lines.last().is_some_and(|line| !line.is_empty() && line.len() + 1 + word.len() > width);
        if full {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::node::config::layers::Layers;

    #[test]
    fn the_sample_file_is_a_valid_configuration() {
        let mut layers = Layers::default();
        layers.toml("sample", &sample_file());
        assert_eq!(layers.finish(), Ok(()));
    }

    #[test]
    fn the_page_in_docs_is_what_the_code_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, page()).unwrap();
        }
        let stored = std::fs::read_to_string(path).unwrap_or_default();
        assert!(stored == page(), "docs/configuration.md is stale; run this test with UPDATE_DOCS=1");
    }
}
