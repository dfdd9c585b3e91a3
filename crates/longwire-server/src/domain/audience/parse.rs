//! Conditions as people write them: `'beta' in tags && app_version < '3.2'`.
//!
//! ```text
//! any     = all { "||" all }
//! all     = one { "&&" one }
//! one     = "!" one | "(" any ")" | text "in" "tags" | name "in" "(" text { "," text } ")" | name compare text
//! compare = "==" | "!=" | "<" | "<=" | ">" | ">="
//! ```
//!
//! A text stands between `'` or `"`; in it `\` takes the next character as it is. White space may stand anywhere between.

use super::condition::{Compare, Condition, DEPTH_MAX, NODES_MAX};
use crate::domain::device::{AttributeName, AttributeValue};
use crate::domain::{Invalid, Tag};
use std::borrow::Cow;
use std::fmt;
use std::str::Chars;

/// Bytes of a condition as text; a longer one is refused unread.
pub const CONDITION_BYTES_MAX: usize = 1024;

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// Not one, or beyond [`CONDITION_BYTES_MAX`], [`NODES_MAX`] or [`DEPTH_MAX`]; it says at which character, and what was
    /// expected there.
    pub fn parse(field: &str, text: &str) -> Result<Condition, Invalid> {
        if text.len() > CONDITION_BYTES_MAX {
            let problem = format!("at most {CONDITION_BYTES_MAX} bytes, are {}", text.len());
            return Err(Invalid::new(field, problem));
        }
        let mut reader = Reader { text, rest: text.chars(), nodes: 0 };
        let read = reader.any(0).and_then(|condition| match reader.look() {
            None => Ok(condition),
            Some(_) => Err(reader.expected("&&, || or the end")),
        });
        let condition = read.map_err(|(at, problem)| {
            let at = text.get(..at).map_or(0, |before| before.chars().count()) + 1;
            Invalid::new(field, format!("at character {at}: {problem}"))
        })?;
        if condition.depth() > DEPTH_MAX {
            return Err(Invalid::new(field, format!("is nested more than {DEPTH_MAX} deep")));
        }
        Ok(condition)
    }
}

/// Where, in bytes, and what is wrong there.
type Problem = (usize, String);

struct Reader<'a> {
    text: &'a str,
    rest: Chars<'a>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn at(&self) -> usize {
        self.text.len() - self.rest.as_str().len()
    }

    /// The next character that is not white space.
    fn look(&mut self) -> Option<char> {
        loop {
            let next = self.rest.clone().next()?;
            if !next.is_whitespace() {
                return Some(next);
            }
            self.rest.next();
        }
    }

    fn expected(&mut self, what: &str) -> Problem {
        let found = match self.look() {
            Some(found) => format!("found {found:?}"),
            None => "it ends here".to_owned(),
        };
        (self.at(), format!("{what} expected, {found}"))
    }

    /// Steps over `sign` if it is next.
    fn takes(&mut self, sign: &str) -> bool {
        self.look();
        match self.rest.as_str().strip_prefix(sign) {
            Some(rest) => {
                self.rest = rest.chars();
                true
            }
            None => false,
        }
    }

    fn count(&mut self) -> Result<(), Problem> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err((self.at(), format!("a condition has at most {NODES_MAX} parts")));
        }
        Ok(())
    }

    fn any(&mut self, depth: usize) -> Result<Condition, Problem> {
        self.list("||", Condition::Any, |reader| reader.all(depth))
    }

    fn all(&mut self, depth: usize) -> Result<Condition, Problem> {
        self.list("&&", Condition::All, |reader| reader.one(depth))
    }

    /// One part, or several with a sign between.
    fn list(
        &mut self,
        sign: &str,
        together: fn(Vec<Condition>) -> Condition,
        mut part: impl FnMut(&mut Reader<'a>) -> Result<Condition, Problem>,
    ) -> Result<Condition, Problem> {
        let first = part(self)?;
        if !self.takes(sign) {
            return Ok(first);
        }
        self.count()?;
        let mut parts = vec![first, part(self)?];
        while self.takes(sign) {
            parts.push(part(self)?);
        }
        Ok(together(parts))
    }

    fn one(&mut self, depth: usize) -> Result<Condition, Problem> {
        if depth > DEPTH_MAX {
            return Err((self.at(), format!("nested more than {DEPTH_MAX} deep")));
        }
        match self.look() {
            Some('!') => {
                self.rest.next();
                self.count()?;
                Ok(Condition::Not(Box::new(self.one(depth + 1)?)))
            }
            Some('(') => {
                self.rest.next();
                let inner = self.any(depth + 1)?;
                if self.takes(")") { Ok(inner) } else { Err(self.expected("&&, || or )")) }
            }
            Some('\'' | '"') => self.tag(),
            Some(first) if first.is_ascii_alphabetic() => self.attribute(),
            _ => Err(self.expected("a text in quotes, the name of an attribute, ! or (")),
        }
    }

    fn tag(&mut self) -> Result<Condition, Problem> {
        self.count()?;
        let at = self.at();
        let text = self.text()?;
        let tag = Tag::parse("tag", &text).map_err(|invalid| (at, invalid.to_string()))?;
        if self.word() != "in" {
            return Err(self.expected("in"));
        }
        self.rest = self.rest.as_str()["in".len()..].chars();
        if self.word() != "tags" {
            return Err(self.expected("tags"));
        }
        self.rest = self.rest.as_str()["tags".len()..].chars();
        Ok(Condition::Tag(tag))
    }

    fn attribute(&mut self) -> Result<Condition, Problem> {
        let at = self.at();
        let word = self.word();
        let name = AttributeName::parse("attribute", word).map_err(|invalid| (at, invalid.to_string()))?;
        self.rest = self.rest.as_str()[word.len()..].chars();
        if self.word() == "in" {
            self.rest = self.rest.as_str()["in".len()..].chars();
            return self.listed(&name);
        }
        // The longer ones first.
        let signs = [
            ("==", Compare::Equal),
            ("!=", Compare::Unequal),
            ("<=", Compare::AtMost),
            ("<", Compare::Less),
            (">=", Compare::AtLeast),
            (">", Compare::More),
        ];
        let Some((_, compare)) = signs.into_iter().find(|(sign, _)| self.takes(sign)) else {
            return Err(self.expected("==, !=, <, <=, >, >= or in"));
        };
        self.value(name, compare)
    }

    fn listed(&mut self, name: &AttributeName) -> Result<Condition, Problem> {
        if !self.takes("(") {
            return Err(self.expected("("));
        }
        let first = self.value(name.clone(), Compare::Equal)?;
        let mut parts = vec![first];
        while self.takes(",") {
            if parts.len() == 1 {
                self.count()?;
            }
            parts.push(self.value(name.clone(), Compare::Equal)?);
        }
        if !self.takes(")") {
            return Err(self.expected(", or )"));
        }
        let only = if parts.len() == 1 { parts.pop() } else { None };
        Ok(only.unwrap_or(Condition::Any(parts)))
    }

    fn value(&mut self, name: AttributeName, compare: Compare) -> Result<Condition, Problem> {
        self.count()?;
        self.look();
        let at = self.at();
        let text = self.text()?;
        let value = AttributeValue::parse("value", &text).map_err(|invalid| (at, invalid.to_string()))?;
        Ok(Condition::Attribute(name, compare, value))
    }

    /// The word that is next, which is not taken; may be empty.
    fn word(&mut self) -> &'a str {
        self.look();
        let rest = self.rest.as_str();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    }

    fn text(&mut self) -> Result<Cow<'a, str>, Problem> {
        let Some(quote @ ('\'' | '"')) = self.look() else {
            return Err(self.expected("a text in quotes"));
        };
        let at = self.at();
        self.rest.next();
        let inside = self.rest.as_str();
        let mut text = Cow::Borrowed("");
        loop {
            let before = self.rest.as_str().len();
            let open = || (at, "the text that begins here has no end".to_owned());
            match self.rest.next().ok_or_else(open)? {
                '\\' => {
                    let escaped = self.rest.next().ok_or_else(open)?;
                    text.to_mut().push(escaped);
                }
                c if c == quote => return Ok(text),
                c => match &mut text {
                    Cow::Borrowed(text) => *text = &inside[..inside.len() - before + c.len_utf8()],
                    Cow::Owned(text) => text.push(c),
                },
            }
        }
    }
}

/// As [`Condition::parse`] reads it. `Everyone`, which nobody writes, is `all`.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::Everyone => f.write_str("all"),
            Condition::Tag(tag) => {
                quoted(f, tag.as_str())?;
                f.write_str(" in tags")
            }
            Condition::Attribute(name, compare, value) => {
                write!(f, "{} {compare} ", name.as_str())?;
                quoted(f, value.as_str())
            }
            Condition::Not(inner) => {
                f.write_str("!")?;
                // Between `!` and what it stands before nothing is said of what binds tighter.
                if matches!(**inner, Condition::Not(_)) {
                    write!(f, "{inner}")
                } else {
                    write!(f, "({inner})")
                }
            }
            Condition::All(parts) => joined(f, parts, " && "),
            Condition::Any(parts) => joined(f, parts, " || "),
        }
    }
}

fn joined(f: &mut fmt::Formatter<'_>, parts: &[Condition], sign: &str) -> fmt::Result {
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            f.write_str(sign)?;
        }
        if matches!(part, Condition::All(_) | Condition::Any(_)) {
            write!(f, "({part})")?;
        } else {
            write!(f, "{part}")?;
        }
    }
    Ok(())
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("'")?;
    for part in text.split_inclusive(['\'', '\\']) {
        match part.strip_suffix(['\'', '\\']) {
            Some(before) => write!(f, "{before}\\{}", &part[before.len()..])?,
            None => f.write_str(part)?,
        }
    }
    f.write_str("'")
}

impl fmt::Display for Compare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(["==", "!=", "<", "<=", ">", ">="][*self as usize])
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
