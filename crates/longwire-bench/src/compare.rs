//! Two measurements side by side: the ratio of each figure that both have.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::error::BenchError;

/// Prints the figures of `before` and `after` and what `after` is of `before`.
pub(crate) fn run(before: &Path, after: &Path) -> Result<(), BenchError> {
    let (first, second) = (read(before)?, read(after)?);
    if first["scenario"] != second["scenario"] {
        let text = format!("{} and {} are different scenarios", first["scenario"], second["scenario"]);
        return Err(BenchError::Options(text));
    }
    if first["machine"] != second["machine"] {
        println!("different machines: only ratios within one file mean anything");
    }
    for (name, file) in [("A", &first), ("B", &second)] {
        println!(
            "{name}  {}  {}",
            file["commit"].as_str().unwrap_or(""),
            file["command"].as_str().unwrap_or("")
        );
    }
    let (first, second) = (figures(&first), figures(&second));
    let width = first.keys().map(String::len).max().unwrap_or_default();
    println!("{:width$}  {:>16}  {:>16}  {:>8}", "", "A", "B", "B / A");
    for (name, a) in &first {
        if let Some(b) = second.get(name) {
            let ratio = if *a == 0.0 { "-".into() } else { format!("{:.3}", b / a) };
            println!("{name:width$}  {a:>16.3}  {b:>16.3}  {ratio:>8}");
        }
    }
    Ok(())
}

/// The last line of JSON of a file.
fn read(path: &Path) -> Result<Value, BenchError> {
    let text = std::fs::read_to_string(path).map_err(BenchError::system(path.display().to_string()))?;
    let line = text.lines().rev().find(|line| line.starts_with('{'));
    line.and_then(|line| serde_json::from_str(line).ok())
        .ok_or_else(|| BenchError::Options(format!("{} has no line of JSON figures", path.display())))
}

/// Every number that is no element of a list, by its path.
fn figures(json: &Value) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    let mut open = vec![(String::new(), json)];
    while let Some((path, value)) = open.pop() {
        match value {
            Value::Object(fields) => {
                let dot = if path.is_empty() { "" } else { "." };
                let fields = fields.iter().filter(|(name, _)| *name != "machine");
                open.extend(fields.map(|(name, value)| (format!("{path}{dot}{name}"), value)));
            }
            Value::Number(number) => {
                found.insert(path, number.as_f64().unwrap_or_default());
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_are_found_by_their_path_and_the_machine_is_left_out() {
        let json = serde_json::json!({
            "scenario": "x", "lost": 0, "latency_ms": {"p99": 2.5}, "turns": [{"a": 1}], "machine": {"cores": 4},
            "ratio_to_limit": null,
        });
        let figures = figures(&json);
        assert_eq!(
            figures.into_iter().collect::<Vec<_>>(),
            [("latency_ms.p99".into(), 2.5), ("lost".into(), 0.0)]
        );
    }

    #[test]
    fn a_file_without_figures_is_named() {
        let path = std::env::temp_dir().join(format!("longwire-compare-test-{}", std::process::id()));
        std::fs::write(&path, "a table\n").unwrap();
        let error = run(&path, &path).unwrap_err().to_string();
        assert!(error.contains("longwire-compare-test"), "{error}");
        std::fs::write(&path, "a table\n{\"scenario\":\"idle\",\"lost\":0}\n").unwrap();
        run(&path, &path).unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}
