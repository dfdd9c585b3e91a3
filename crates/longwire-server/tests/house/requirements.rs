//! `docs/requirements.md` names tests, files, commands, settings and metrics: each of them exists, and each id has its row.

use super::{sources, workspace};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Where the paths of the page begin.
const ROOTS: [&str; 6] = [
    "",
    "crates/longwire-server/src",
    "crates/longwire-proto/src",
    "crates/longwire-client/src",
    "crates/longwire-bench/src",
    "crates/longwire/src",
];
/// The ids that must have a row: document, first, last.
const IDS: [(&str, u32, u32); 4] = [("000", 14, 33), ("002", 1, 28), ("003", 3, 33), ("004", 1, 40)];
/// Context only.
const WITHOUT_ROW: [&str; 4] = ["002-06", "002-29", "003-20", "003-24"];

/// What the page may name.
pub(crate) struct Known {
    tests: BTreeSet<String>,
    settings: String,
    metrics: String,
}

impl Known {
    pub(crate) fn here() -> Known {
        let mut tests = BTreeSet::new();
        for path in sources(&workspace().join("crates")) {
            let text = std::fs::read_to_string(&path).expect("a source");
            tests.extend(tests_of(&text));
        }
        let all = |folder: &str| -> String {
            let files = sources(&workspace().join("crates/longwire-server/src/node").join(folder));
            files.iter().map(|path| std::fs::read_to_string(path).expect("a source")).collect()
        };
        Known { tests, settings: all("config/settings"), metrics: all("metrics") }
    }

    /// Whether what stands in backticks exists.
    pub(crate) fn has(&self, name: &str) -> bool {
        let quoted = |name: &str| format!("\"{name}\"");
        let setting = self.settings.contains(&quoted(name));
        if name.starts_with("longwire_") {
            self.metrics.contains(&quoted(name.trim_end_matches("_total")))
        } else if let Some(command) = name.strip_prefix("longwire ") {
            is_command(command)
        } else if name.contains('/') || name.contains('.') {
            setting || name == "/metrics" || is_path(name)
        } else {
            self.tests.contains(name)
        }
    }
}

fn is_path(name: &str) -> bool {
    ROOTS.iter().any(|root| workspace().join(root).join(name).exists())
}

/// `doctor`, and `bench` with a scenario.
fn is_command(words: &str) -> bool {
    let source = match words.strip_prefix("bench ") {
        Some(scenario) => ("crates/longwire-bench/src/args.rs", scenario),
        None => ("crates/longwire/src/main.rs", words),
    };
    let mut letters = source.1.chars();
    let variant: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
    std::fs::read_to_string(workspace().join(source.0))
        .is_ok_and(|text| text.contains(&format!("{variant}(")))
}

/// Names of functions that stand below a `#[test]` or `#[tokio::test]`.
pub(crate) fn tests_of(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut marked = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            marked = true;
        } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| marked) {
            found.extend(rest.split('(').next().map(str::to_owned));
            marked = false;
        }
    }
    found
}

/// Rows of the page: their first cell, and the cells "where" and "shown by".
fn rows(page: &str) -> BTreeMap<String, (String, String)> {
    let cells = page.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ");
        let (id, _, whence, shown) = (cells.next()?, cells.next()?, cells.next()?, cells.next()?);
        (id != "id").then(|| (id.to_owned(), (whence.to_owned(), shown.to_owned())))
    });
    cells.collect()
}

/// What the page says that is not so.
pub(crate) fn check(page: &str, known: &Known) -> Vec<String> {
    let rows = rows(page);
    let mut wrong = Vec::new();
    for (document, first, last) in IDS {
        let ids = (first..=last).map(|number| format!("{document}-{number:02}"));
        let missing = ids.filter(|id| !WITHOUT_ROW.contains(&id.as_str()) && !rows.contains_key(id));
        wrong.extend(missing.map(|id| format!("{id} has no row")));
    }
    for (id, (whence, shown)) in &rows {
        if whence.is_empty() || shown.is_empty() {
            wrong.push(format!("{id} leaves a cell empty"));
        }
        let named = [whence, shown].into_iter().flat_map(|cell| cell.split('`').skip(1).step_by(2));
        let names = named.filter(|name| !name.starts_with("--") && !WORDS.contains(name));
        wrong.extend(
            names.filter(|name| !known.has(name)).map(|name| format!("{id}: `{name}` does not exist")),
        );
    }
    wrong
}

/// Reasons of ends that the page mentions; options are left out too.
const WORDS: [&str; 2] = ["idle", "full"];

pub(crate) fn page(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn a_row_that_names_what_is_not_there_is_found() {
    let known = Known::here();
    let wrong = |where_and_shown: &str| {
        let page = format!("| 000-14 | does | {where_and_shown} |\n");
        check(&page, &known).into_iter().filter(|what| what.starts_with("000-14")).collect::<Vec<_>>()
    };
    assert_eq!(wrong("`gate/mod.rs` | `every_slot_comes_due_when_it_stands_there`"), [""; 0]);
    assert_eq!(wrong("`limits.ping_s` | `longwire bench idle`"), [""; 0]);
    assert_eq!(wrong("`gate/nowhere.rs` | x"), ["000-14: `gate/nowhere.rs` does not exist"]);
    assert_eq!(wrong("x | `no_such_test`"), ["000-14: `no_such_test` does not exist"]);
    assert_eq!(wrong("x | `longwire bench nothing`"), ["000-14: `longwire bench nothing` does not exist"]);
    assert_eq!(wrong("`longwire_nothing_total` | x").len(), 1);
    assert_eq!(wrong("`limits.nothing_s` | x").len(), 1);
    assert!(check("", &known).contains(&"000-14 has no row".to_owned()));
}
