//! What was found, and how it is told.

use serde::Serialize;
use std::fmt::Write as _;

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// Better otherwise; nothing breaks.
    Advice,
    /// Something will be short or slow.
    Warning,
    /// The server will not start, or cannot do what it is asked.
    Error,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    /// How much it matters.
    pub(super) level: Level,
    /// What was looked at.
    pub(super) subject: String,
    /// What is there.
    pub(super) found: String,
    /// Why it matters, with figures.
    pub(super) why: String,
    /// The command that mends it; absent where all is well or no command can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mend: Option<String>,
}

impl Finding {
    /// A finding of this level without a command.
    pub(super) fn new(
        level: Level,
        subject: impl Into<String>,
        found: impl Into<String>,
        why: impl Into<String>,
    ) -> Finding {
        Finding { level, subject: subject.into(), found: found.into(), why: why.into(), mend: None }
    }

    /// All is well.
    pub(super) fn well(subject: impl Into<String>, found: impl Into<String>) -> Finding {
        Finding::new(Level::Ok, subject, found, "")
    }

    /// With the command that mends it.
    #[must_use]
    pub(super) fn mended_by(mut self, command: impl Into<String>) -> Finding {
        self.mend = Some(command.into());
        self
    }
}

/// The findings for people: a line for what is well, a paragraph for what is not, and a sum.
pub(super) fn text(findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Advice => "ADVICE",
            Level::Warning => "WARNING",
            Level::Error => "ERROR",
        };
        let _ = writeln!(out, "{level:<8} {}: {}", finding.subject, finding.found);
        if !finding.why.is_empty() {
            let _ = writeln!(out, "           why:  {}", finding.why);
        }
        if let Some(mend) = &finding.mend {
            let _ = writeln!(out, "           mend: {mend}");
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (errors, warnings, advice) = (count(Level::Error), count(Level::Warning), count(Level::Advice));
    let _ = writeln!(out, "\n{errors} errors, {warnings} warnings, {advice} pieces of advice");
    out
}
