//! What the devices of an app may do with topics.

use super::super::Invalid;
use longwire_proto::wire::mqtt::Limits;
use longwire_proto::wire::mqtt::topic::Filter;

/// Rules of an app; more are refused.
pub const RULES_MAX: usize = 64;

/// What a device wants to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// Publish to a topic; also a will, when it is published.
    Publish,
    /// Subscribe to a filter.
    Subscribe,
}

/// Allow or deny, first match decides. A device may always subscribe to its own `$push/#` and publish to `$up/#`; nobody may
/// publish to another topic that begins with `$`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    rules: Vec<Rule>,
    /// What holds if no rule matches.
    otherwise: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Rule {
    allow: bool,
    publish: bool,
    subscribe: bool,
    /// With `%c` (the device's name) and `%u` (the user name) as levels or parts of levels.
    filter: Box<str>,
}

impl Default for Rules {
    /// Without rules a device has its own corner: `device/%c/#`.
    fn default() -> Rules {
        let filter = "device/%c/#".into();
        Rules { rules: vec![Rule { allow: true, publish: true, subscribe: true, filter }], otherwise: false }
    }
}

impl Rules {
    /// Everything but foreign `$` topics; for development on loopback.
    #[must_use]
    pub fn open() -> Rules {
        Rules { rules: Vec::new(), otherwise: true }
    }

    /// Reads rules as written: `allow publish sensors/%c/#`, `deny subscribe #`, `allow all public/#`, one each.
    ///
    /// # Errors
    /// A line that is none, or more than [`RULES_MAX`].
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Rules, Invalid> {
        let mut rules = Vec::new();
        for (at, line) in lines.into_iter().enumerate() {
            let rule =
                Rule::parse(line).map_err(|problem| Invalid::new(format!("topic_rules[{at}]"), problem))?;
            rules.push(rule);
        }
        if rules.len() > RULES_MAX {
            return Err(Invalid::new("topic_rules", format!("at most {RULES_MAX} rules")));
        }
        Ok(Rules { rules, otherwise: false })
    }

    /// Whether a rule holds `%u`, so that the user name matters.
    #[must_use]
    pub fn names_user(&self) -> bool {
        self.rules.iter().any(|rule| rule.filter.contains("%u"))
    }

    /// Whether the device `name` with user name `user` may do `act` with `topic` (for [`Act::Subscribe`]: a filter without its
    /// `$share/{group}/`). A filter is allowed if a rule covers all that it could match.
    #[must_use]
    pub fn allow(&self, act: Act, topic: &str, name: &str, user: &str) -> bool {
        if topic.starts_with('$') {
            return match act {
                Act::Publish => topic.starts_with("$up/"),
                Act::Subscribe => topic.starts_with("$push/"),
            };
        }
        for rule in &self.rules {
            let concerned = match act {
                Act::Publish => rule.publish,
                Act::Subscribe => rule.subscribe,
            };
            // A rule that denies counts if it meets any part of what is asked, one that allows only if it covers all.
            let applies = || {
                let filter = rule.levels(name, user);
                if rule.allow { covers(&filter, topic) } else { overlaps(&filter, topic) }
            };
            if concerned && applies() {
                return rule.allow;
            }
        }
        self.otherwise
    }
}

impl Rule {
    fn parse(line: &str) -> Result<Rule, String> {
        let mut words = line.splitn(3, ' ');
        let (verb, act, filter) = (words.next(), words.next(), words.next());
        let (Some(verb), Some(act), Some(filter)) = (verb, act, filter) else {
            return Err("must be allow|deny publish|subscribe|all and a topic filter".into());
        };
        let allow = match verb {
            "allow" => true,
            "deny" => false,
            _ => return Err(format!("{verb} is neither allow nor deny")),
        };
        let (publish, subscribe) = match act {
            "publish" => (true, false),
            "subscribe" => (false, true),
            "all" => (true, true),
            _ => return Err(format!("{act} is neither publish, subscribe nor all")),
        };
        Filter::parse(filter.as_bytes(), &Limits::default())
            .map_err(|fault| format!("the topic filter is not valid: {fault}"))?;
        Ok(Rule { allow, publish, subscribe, filter: filter.into() })
    }

    /// The filter with the device's name and user in it. A name with a wildcard or a slash in it fits nowhere, so that nobody
    /// widens a rule by choosing a name.
    fn levels(&self, name: &str, user: &str) -> Vec<String> {
        let clean = |text: &str| {
            if text.contains(['+', '#', '/']) || text.is_empty() { "\0".to_owned() } else { text.to_owned() }
        };
        let level = |level: &str| match level {
            "+" | "#" => level.to_owned(),
            _ => level.replace("%c", &clean(name)).replace("%u", &clean(user)),
        };
        self.filter.split('/').map(level).collect()
    }
}

/// Whether everything that `wanted` (a topic or filter) matches is matched by `rule`.
fn covers(rule: &[String], wanted: &str) -> bool {
    let mut rule = rule.iter().map(String::as_str);
    let mut wanted = wanted.split('/');
    loop {
        match (rule.next(), wanted.next()) {
            (Some("#"), _) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(level), Some(other)) if level == other => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// Whether any topic is matched by both.
fn overlaps(rule: &[String], wanted: &str) -> bool {
    let mut rule = rule.iter().map(String::as_str);
    let mut wanted = wanted.split('/');
    loop {
        match (rule.next(), wanted.next()) {
            (Some("#"), _) | (_, Some("#")) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(level), Some(other)) if level == other => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(lines: &[&str]) -> Rules {
        Rules::parse(lines.iter().copied()).expect("valid rules")
    }

    #[test]
    fn the_first_rule_that_meets_it_decides() {
        let rules =
            rules(&["deny subscribe secret/#", "allow all fleet/%u/%c/#", "allow subscribe +/public"]);
        let may = |act, topic| rules.allow(act, topic, "dev-1", "acme");
        for (act, topic, expected) in [
            (Act::Publish, "fleet/acme/dev-1/temp", true),
            (Act::Publish, "fleet/acme/dev-2/temp", false),
            (Act::Subscribe, "fleet/acme/dev-1/#", true),
            (Act::Subscribe, "fleet/acme/#", false),
            (Act::Subscribe, "fleet/+/dev-1/x", false),
            (Act::Subscribe, "x/public", true),
            (Act::Subscribe, "+/public", false), // would hold secret/public
            (Act::Subscribe, "secret/public", false),
            (Act::Subscribe, "#", false),
            (Act::Publish, "x/public", false),
            (Act::Subscribe, "$push/#", true),
            (Act::Publish, "$push/text", false),
            (Act::Publish, "$up/alarm", true),
            (Act::Publish, "$SYS/x", false),
            (Act::Subscribe, "$SYS/#", false),
        ] {
            assert_eq!(may(act, topic), expected, "{act:?} {topic}");
        }
    }

    #[test]
    fn a_name_cannot_widen_a_rule() {
        let rules = rules(&["allow all d/%c/#"]);
        for name in ["+", "#", "a/b", ""] {
            assert!(!rules.allow(Act::Subscribe, "d/+/#", name, ""), "{name}");
            assert!(!rules.allow(Act::Publish, "d/a/b/c", name, ""), "{name}");
        }
        assert!(rules.allow(Act::Publish, "d/x", "x", ""));
    }

    #[test]
    fn without_rules_a_device_has_its_own_corner() {
        let rules = Rules::default();
        assert!(rules.allow(Act::Publish, "device/a/x", "a", ""));
        assert!(!rules.allow(Act::Publish, "device/b/x", "a", ""));
        assert!(!rules.allow(Act::Subscribe, "#", "a", ""));
        assert!(Rules::open().allow(Act::Subscribe, "#", "a", ""));
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for line in ["", "allow", "allow publish", "permit all a", "allow read a", "allow all a/#/b"] {
            assert!(Rules::parse([line]).is_err(), "{line}");
        }
        assert!(Rules::parse(vec!["allow all a"; RULES_MAX + 1]).is_err());
    }
}
