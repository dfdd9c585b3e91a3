//! Which statement is proved by which cases: `docs/mqtt-conformance.md`, written with `UPDATE_DOCS=1`, else compared.

use super::case::{self, Case, Version};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

const STATEMENTS_311: &str = include_str!("lists/statements_311.txt");
const STATEMENTS_5: &str = include_str!("lists/statements_5.txt");
/// Names shown per statement; the rest is a number.
const NAMES_SHOWN: usize = 3;

/// A numbered statement.
struct Statement {
    id: &'static str,
    binds_server: bool,
    /// Why no case proves it.
    reason: Option<&'static str>,
}

fn statements(text: &'static str) -> Vec<Statement> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let statement = |line: &'static str| {
        let (head, reason) =
            line.split_once(" — ").map_or((line, None), |(head, reason)| (head, Some(reason)));
        let (id, side) = head.split_once(' ').expect("id and side");
        Statement { id, binds_server: side == "S", reason }
    };
    lines.map(statement).collect()
}

fn by_statement(cases: &[Case], version: Version) -> BTreeMap<&str, Vec<&str>> {
    let mut proved: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for case in cases.iter().filter(|case| case.version == version) {
        for statement in &case.statements {
            let names = proved.entry(statement).or_default();
            // A case may name a statement twice, by its family and by itself.
            if names.last() != Some(&case.name.as_str()) {
                names.push(&case.name);
            }
        }
    }
    proved
}

fn section(cases: &[Case], version: Version, title: &str, page: &mut String) {
    let list = statements(if version == Version::V311 { STATEMENTS_311 } else { STATEMENTS_5 });
    let proved = by_statement(cases, version);
    let unknown: Vec<_> = proved.keys().filter(|id| !list.iter().any(|known| known.id == **id)).collect();
    assert!(unknown.is_empty(), "{title} has no statements {unknown:?}");
    let server = list.iter().filter(|statement| statement.binds_server);
    let covered = server.clone().filter(|statement| proved.contains_key(statement.id)).count();
    let count = cases.iter().filter(|case| case.version == version).count();
    let all = server.clone().count();
    writeln!(page, "\n## {title}\n\n{count} cases. Of {all} statements that bind a server, {covered} are proved by cases; the others say why not.").unwrap();
    writeln!(page, "\n| statement | cases | such as, or why not |\n|---|---:|---|").unwrap();
    for statement in &list {
        let names = proved.get(statement.id).map_or(&[][..], Vec::as_slice);
        assert!(
            !statement.binds_server || names.is_empty() == statement.reason.is_some(),
            "{title} MQTT-{}: either cases or a reason",
            statement.id
        );
        let said = match statement.reason {
            Some(reason) => reason.to_owned(),
            None if names.is_empty() => "binds clients only".to_owned(),
            None => names.iter().take(NAMES_SHOWN).copied().collect::<Vec<_>>().join("; "),
        };
        writeln!(page, "| MQTT-{} | {} | {} |", statement.id, names.len(), said.replace('|', "\\|")).unwrap();
    }
}

const HEAD: &str = "\
# MQTT conformance

Every numbered mandatory statement of the two specifications, and the cases that prove it. This page is written by the runner
(`UPDATE_DOCS=1 cargo test -p longwire --test mqtt_conformance`). The cases are texts in `crates/longwire/tests/mqtt_conformance/cases`, and families of
them in `families/`: packets in, packets or the end of the connection out, field by field. They are encoded and decoded by code of the runner's own, which
also refuses whatever a server must never send. The runner plays them against a `longwire serve --dev`, or against any other broker that lets anonymous clients in:

```
LONGWIRE_CONFORMANCE_TARGET=127.0.0.1:1883 cargo test -p longwire --test mqtt_conformance
```

A case that Longwire is known to fail stands in `lists/known_failures.txt` with the reason; the test fails when such a case begins to pass, or another fails.
Where MQTT only recommends a reason (SHOULD), Longwire must give it and another broker need not. `lists/mosquitto.txt` lists where Mosquitto 2.0.11 does otherwise
and which of the two the specification supports.
";

#[test]
fn the_page_of_statements_is_up_to_date() {
    let cases = case::all();
    let mut page = HEAD.to_owned();
    section(&cases, Version::V311, "MQTT 3.1.1", &mut page);
    section(&cases, Version::V5, "MQTT 5.0", &mut page);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/mqtt-conformance.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/mqtt-conformance.md is not what the cases say: UPDATE_DOCS=1 writes it");
}
