//! A case and its text.
//!
//! ```text
//! case | what it shows | 311, 5 or both | statements: `3.1.0-1`, or `311:3.1.0-1 5:3.1.0-1` for both
//! > CONNECT clean          connection `a` sends; it is opened when it first sends
//! b> SUBSCRIBE …           connection `b` sends
//! b< SUBACK id=1           the next packet that `b` gets, field by field
//! b<~ PUBLISH …            lines with `<~` in a row: in any order
//! < refuse 0x81|0x82       the server ends it: 5.0 with one of these reasons, 3.1.1 without a word
//! < refuse                 the same without naming a reason
//! < close                  the server ends it without a word
//! : drop                   the client cuts the connection
//! : wait 2                 two seconds pass
//! ```

use super::families;

/// Which MQTT.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Version {
    V311,
    V5,
}

impl Version {
    pub(crate) fn shown(self) -> &'static str {
        match self {
            Version::V311 => "311",
            Version::V5 => "5",
        }
    }
}

/// What is done or awaited.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Send(String),
    Expect(String),
    ExpectInAnyOrder(String),
    /// The reasons that may be given; none: any.
    Refuse(Vec<u32>),
    Close,
    Drop,
    Wait(u64),
}

/// One line.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) connection: String,
    pub(crate) act: Act,
}

/// One case in one version.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// What it shows; with the version, it is the case's name.
    pub(crate) name: String,
    pub(crate) version: Version,
    pub(crate) statements: Vec<String>,
    pub(crate) steps: Vec<Step>,
}

impl Case {
    /// The name that lists use.
    pub(crate) fn title(&self) -> String {
        format!("{} {}", self.version.shown(), self.name)
    }
}

const FILES: &[&str] = &[
    include_str!("cases/connect.txt"),
    include_str!("cases/publish.txt"),
    include_str!("cases/subscribe.txt"),
    include_str!("cases/session.txt"),
    include_str!("cases/will.txt"),
    include_str!("cases/retain.txt"),
    include_str!("cases/flow.txt"),
];

/// All cases: by hand and generated.
pub(crate) fn all() -> Vec<Case> {
    let mut cases: Vec<Case> = FILES.iter().flat_map(|text| parse(text)).collect();
    cases.extend(parse(&families::text()));
    cases
}

fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    // How many of the last cases the next steps belong to.
    let mut open = 0;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(head) = line.strip_prefix("case |") {
            let fields: Vec<&str> = head.split(" | ").map(str::trim).collect();
            let &[name, versions, statements] = fields.as_slice() else { panic!("head of a case: {line}") };
            let versions: &[Version] = match versions {
                "311" => &[Version::V311],
                "5" => &[Version::V5],
                "both" => &[Version::V311, Version::V5],
                _ => panic!("version of a case: {line}"),
            };
            for &version in versions {
                let statements = of_version(statements, version, versions.len() == 1);
                cases.push(Case { name: name.to_owned(), version, statements, steps: Vec::new() });
            }
            open = versions.len();
            continue;
        }
        let begin = cases.len() - open;
        for case in &mut cases[begin..] {
            if let Some(step) = step(line, case.version) {
                case.steps.push(step);
            }
        }
    }
    cases
}

fn of_version(statements: &str, version: Version, alone: bool) -> Vec<String> {
    let prefix = format!("{}:", version.shown());
    let one = |word: &str| match word.strip_prefix(&prefix) {
        Some(id) => Some(id.to_owned()),
        None => (alone && !word.contains(':')).then(|| word.to_owned()),
    };
    let own: Vec<String> = statements.split_whitespace().filter_map(one).collect();
    assert!(!own.is_empty(), "no statement of {prefix} in {statements}");
    own
}

/// A line that begins with `5 ` or `311 ` is for one version only.
fn step(line: &str, version: Version) -> Option<Step> {
    let (only, line) = match line.split_once(' ') {
        Some(("5", rest)) => (Version::V5, rest),
        Some(("311", rest)) => (Version::V311, rest),
        _ => (version, line),
    };
    if only != version {
        return None;
    }
    let at = line.find(['>', '<', ':']).unwrap_or_else(|| panic!("no act in {line}"));
    let connection = if at == 0 { "a" } else { &line[..at] }.to_owned();
    let (sign, rest) = (line.as_bytes()[at], &line[at + 1..]);
    let any_order = rest.starts_with('~');
    let rest = rest.trim_start_matches('~').trim();
    let (word, behind) = rest.split_once(' ').unwrap_or((rest, ""));
    let act = match (sign, word) {
        (b'>', _) => Act::Send(rest.to_owned()),
        (b'<', "close") => Act::Close,
        (b'<', "refuse") => {
            let codes = behind.split('|').filter(|code| !code.is_empty());
            Act::Refuse(codes.map(|code| super::text::try_number(code).expect("a reason")).collect())
        }
        (b'<', _) if any_order => Act::ExpectInAnyOrder(rest.to_owned()),
        (b'<', _) => Act::Expect(rest.to_owned()),
        (b':', "drop") => Act::Drop,
        (b':', "wait") => Act::Wait(behind.parse().expect("seconds")),
        _ => panic!("no act in {line}"),
    };
    Some(Step { connection, act })
}
