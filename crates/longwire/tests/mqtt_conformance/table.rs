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

## Independent suites

Suites that others wrote, against `longwire serve --dev`. Nothing of them is in this repository.

| suite | cases | pass | what fails, and why |
|---|---:|---:|---|
| tests of paho-mqtt 2.1.0 for MQTT 5.0 (`tests/test_mqttv5.py`, which follow `client_test5.py` of paho.mqtt.testing) | 21 | 20 | a filter refused with 0x80, which needs a rule, and would be 0x87 here |
| what `client_test.py` (3.1.1) and `client_test5.py` of paho.mqtt.testing have beyond these, said again | 24 | 24 | with `heartbeat.max=60`: their server assigns a keep alive of 60 to a client that asks for 120; without it 23 |
| Eclipse Mosquitto 2.1.2, `test/broker/msg_sequence_test.py`, byte for byte but for numbers in CONNACK | 1773 | 1432 | see below; Mosquitto 2.0.11 passes 714 |
| the same, where a refusal may be said in other words, or in words at all | 1773 | 1742 | see below |
| Eclipse Mosquitto 2.1.2, the tests of `test/broker` in groups 01 to 05, 07, 11, 12 that use no plugin; only those whose options have a counterpart | 98 | 67 | see below |

*Packets, refused in other words* (310): a property that is not for its packet is answered with 0x81, as 2.2.2.2 says, where that suite wants 0x82 (210 cases, but not in SUBSCRIBE and UNSUBSCRIBE); bad
header flags with 0x81 (MQTT-2.1.3-1) where AUTH and CONNACK want 0x82; ill-formed UTF-8 in a client id with 0x81 (MQTT-1.5.4-1) where it wants 0x85; a topic or filter that is empty or ill-formed with
0x90 or 0x8F where it wants 0x81 or 0x82; a reserved type with 0x81 where it wants 0x82; an unknown protocol level with return code 1 (MQTT-3.1.2-2 of 3.1.1); a reason where it closes without a word (44).

*Packets, not passed at all* (31): PUBREC and PUBREL of an identifier that is not known are answered with 0x92 and not with success (22); MQTT 3.1 is not spoken (4); a user name without an app
is no anonymous client (4); alias 11, which is too large there and not here (1).

*Whole tests* (31): limits that differ from those expected there (user properties, topic length, packet size, receive maximum, window: 7); DUP on the first delivery after a stop, as it was before a stop wrote the ends of connections (2, not run again since); other
reason codes or words, as above (4); identifiers, or the order of PUBREC and of the message to oneself (4); a will delay is cut short by the end of its session (3.1.3.2.2), which is not expected there (3);
`$SYS` and `$CONTROL` are not served (3); MQTT 3.1, or a missing module of Python (3); `--dev` lets anonymous clients and all origins in (2); the text of an assigned client id, which
member of a shared group gets a message, a third PUBLISH with DUP that is to end the connection (1 each). One more fails now and then, and did not in these runs: a retained message of QoS 0 may reach a subscriber before the hub has kept it.
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
