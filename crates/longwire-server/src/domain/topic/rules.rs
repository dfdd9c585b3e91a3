//! What the devices of an app may do with topics.

use super::super::Invalid;
use arc_swap::ArcSwap;
use longwire_proto::wire::mqtt::Limits;
use longwire_proto::wire::mqtt::topic::Filter;

/// Rules of an app; more are refused.
pub const RULES_MAX: usize = 64;

/// First levels that mean something to the server, or by custom to any.
const MEANT: [&str; 6] = ["$push", "$up", "$self", "$ack", "$share", "$SYS"];

/// Whether a topic or filter begins with a level that means something to the server, or by custom to any: no message is
/// published there.
#[must_use]
pub fn is_reserved(topic: &str) -> bool {
    topic.split('/').next().is_some_and(|first| MEANT.contains(&first))
}

/// What a device wants to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// Publish to a topic; also a will, when it is published.
    Publish,
    /// Subscribe to a filter.
    Subscribe,
}

/// Allow or deny, first match decides. A device may always subscribe to its own `$push/#` and publish to `$up/#` and `$ack/#`; no other
/// topic or filter that begins with `$` is allowed, and no rule speaks of one ([`Rules::open`] has others). Judging allocates nothing.
/// They can be replaced while sessions hold them: what is judged from then on is judged by the new ones.
#[derive(Debug)]
pub struct Rules {
    list: ArcSwap<List>,
}

#[derive(Debug)]
struct List {
    rules: Vec<Rule>,
    /// What holds if no rule matches.
    otherwise: bool,
}

#[derive(Debug)]
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
        Rules::new(vec![Rule { allow: true, publish: true, subscribe: true, filter }], false)
    }
}

impl Rules {
    /// Everything but the `$` topics that mean something to the server; for development on loopback.
    #[must_use]
    pub fn open() -> Rules {
        Rules::new(Vec::new(), true)
    }

    /// Reads rules as written: `allow publish sensors/%c/#`, `deny subscribe #`, `allow all public/#`, one each.
    ///
    /// # Errors
    /// A line that is none, or more than [`RULES_MAX`].
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Rules, Invalid> {
        let mut rules = Vec::new();
        for (at, line) in lines.into_iter().enumerate() {
            if at == RULES_MAX {
                return Err(Invalid::new("topic_rules", format!("at most {RULES_MAX} rules")));
            }
            let rule =
                Rule::parse(line).map_err(|problem| Invalid::new(format!("topic_rules[{at}]"), problem))?;
            rules.push(rule);
        }
        Ok(Rules::new(rules, false))
    }

    fn new(rules: Vec<Rule>, otherwise: bool) -> Rules {
        Rules { list: ArcSwap::from_pointee(List { rules, otherwise }) }
    }

    /// From now on these are those of `newer`.
    pub fn replace(&self, newer: Rules) {
        self.list.store(newer.list.into_inner());
    }

    /// Whether a rule holds `%u`, so that the user name matters.
    #[must_use]
    pub fn names_user(&self) -> bool {
        self.list.load().rules.iter().any(|rule| rule.filter.contains("%u"))
    }

    /// Whether the device `name` with user name `user` may do `act` with `topic` (for [`Act::Subscribe`]: a filter without its
    /// `$share/{group}/`). A filter is allowed if a rule covers all that it could match.
    #[must_use]
    pub fn allow(&self, act: Act, topic: &str, name: &str, user: &str) -> bool {
        let list = self.list.load();
        if topic.starts_with('$') {
            let open = || list.otherwise && !is_reserved(topic);
            return match act {
                Act::Publish => topic.starts_with("$up/") || topic.starts_with("$ack/") || open(),
                Act::Subscribe => topic.starts_with("$push/") || open(),
            };
        }
        for rule in &list.rules {
            let concerned = match act {
                Act::Publish => rule.publish,
                Act::Subscribe => rule.subscribe,
            };
            // A rule that denies counts if it meets any part of what is asked, one that allows only if it covers all.
            let who = Who { name, user };
            let applies = || {
                if rule.allow { covers(&rule.filter, topic, who) } else { overlaps(&rule.filter, topic, who) }
            };
            if concerned && applies() {
                return rule.allow;
            }
        }
        list.otherwise
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
        if filter.starts_with('$') {
            return Err("topics that begin with $ are not for rules to allow or deny".into());
        }
        // Rules are kept as lines of one text.
        if filter.contains(char::is_control) {
            return Err("the topic filter must not contain control characters".into());
        }
        Filter::parse(filter.as_bytes(), &Limits::default())
            .map_err(|fault| format!("the topic filter is not valid: {fault}"))?;
        Ok(Rule { allow, publish, subscribe, filter: filter.into() })
    }
}

/// Whom `%c` and `%u` stand for.
#[derive(Clone, Copy)]
struct Who<'a> {
    name: &'a str,
    user: &'a str,
}

impl Who<'_> {
    /// Whether `pattern`, one level of a rule that is no wildcard, is `level`. Placeholders are replaced once, so a name such as
    /// `%u` stays a name; one that is empty, or holds a wildcard or a slash, fits nowhere: nobody widens a rule by choosing a name.
    fn is(self, mut pattern: &str, mut level: &str) -> bool {
        while let Some(at) = pattern.find('%') {
            let (before, from) = pattern.split_at(at);
            let (text, behind) = match from.as_bytes().get(1) {
                Some(b'c') => (self.name, &from[2..]),
                Some(b'u') => (self.user, &from[2..]),
                _ => ("%", &from[1..]),
            };
            let fits = !text.is_empty() && !text.contains(['+', '#', '/']);
            let rest = level.strip_prefix(before).and_then(|rest| rest.strip_prefix(text));
            let (true, Some(rest)) = (fits, rest) else { return false };
            (pattern, level) = (behind, rest);
        }
        pattern == level
    }
}

/// Whether everything that `wanted` (a topic or filter) matches is matched by `rule`.
fn covers(rule: &str, wanted: &str, who: Who<'_>) -> bool {
    // No topic is without a level, so these two are the same.
    let rule = if rule == "+/#" { "#" } else { rule };
    let (mut rule, mut wanted) = (rule.split('/'), wanted.split('/'));
    loop {
        match (rule.next(), wanted.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(level), Some(other)) if who.is(level, other) => {}
            _ => return false,
        }
    }
}

/// Whether any topic is matched by both.
fn overlaps(rule: &str, wanted: &str, who: Who<'_>) -> bool {
    let (mut rule, mut wanted) = (rule.split('/'), wanted.split('/'));
    loop {
        match (rule.next(), wanted.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(level), Some(other)) if who.is(level, other) => {}
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
    fn a_placeholder_is_replaced_once_and_a_percent_sign_is_one() {
        let rules = rules(&["allow all d/%c/#", "allow all a%c-%u/100%", "allow all s/%%c"]);
        let may = |topic, name, user| rules.allow(Act::Publish, topic, name, user);
        assert!(may("d/%u/x", "%u", "boss") && !may("d/boss/x", "%u", "boss"));
        assert!(may("ax-u/100%", "x", "u") && !may("ax-u/100", "x", "u") && !may("ax-/100%", "x", ""));
        assert!(may("s/%n", "n", "") && !may("s/n", "n", ""));
        assert!(may("d/naïve/x", "naïve", "") && !may("d/na", "naïve", ""));
        // A name that begins with $ makes no rule speak of such topics.
        let own = Rules::parse(["allow all %c/#"]).expect("valid rules");
        assert!(!own.allow(Act::Publish, "$SYS/x", "$SYS", "") && own.allow(Act::Publish, "S/x", "S", ""));
    }

    #[test]
    fn what_begins_with_a_dollar_sign_is_closed_but_for_ones_own() {
        for rules in
            [Rules::open(), Rules::parse(["deny publish elsewhere", "allow all #"]).expect("valid rules")]
        {
            let may = |act, topic| rules.allow(act, topic, "a", "");
            for topic in ["$SYS/#", "$share/g/a", "$push", "$up/x"] {
                assert!(!may(Act::Subscribe, topic), "{topic}");
            }
            for topic in ["$push/x", "$share/g/a", "$up", "$SYS/x"] {
                assert!(!may(Act::Publish, topic), "{topic}");
            }
            assert!(may(Act::Subscribe, "#") && may(Act::Subscribe, "$push/+") && may(Act::Publish, "$up/x"));
            let open = may(Act::Publish, "elsewhere");
            for topic in ["$", "$other/$push/x", "$SYSTEM"] {
                assert!(may(Act::Subscribe, topic) == open && may(Act::Publish, topic) == open, "{topic}");
            }
        }
    }

    /// Every text of up to `depth` levels of these words.
    fn texts(words: &[&str], depth: usize) -> Vec<String> {
        let mut all: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let mut from = 0;
        for _ in 1..depth {
            let until = all.len();
            for at in from..until {
                all.extend(words.iter().map(|word| format!("{}/{word}", all[at])).collect::<Vec<_>>());
            }
            from = until;
        }
        all
    }

    /// MQTT-4.7.1-2 and -3, word for word.
    fn matches(filter: &[&str], topic: &[&str]) -> bool {
        match (filter.split_first(), topic.split_first()) {
            (Some((&"#", _)), _) | (None, None) => true,
            (Some((level, filter)), Some((word, topic))) => {
                (*level == "+" || level == word) && matches(filter, topic)
            }
            _ => false,
        }
    }

    #[test]
    fn covering_and_overlapping_are_what_enumeration_says() {
        // A word that no filter knows, and a level more than any filter has, stand for all others.
        let topics = texts(&["a", "b", "", "z"], 4);
        let mut filters = texts(&["a", "b", "", "+"], 3);
        filters.extend(filters.iter().map(|filter| format!("{filter}/#")).collect::<Vec<_>>());
        filters.push("#".to_owned());
        let sets: Vec<Vec<bool>> = filters
            .iter()
            .map(|filter| {
                let filter: Vec<&str> = filter.split('/').collect();
                topics.iter().map(|topic| matches(&filter, &topic.split('/').collect::<Vec<_>>())).collect()
            })
            .collect();
        let who = Who { name: "n", user: "u" };
        for (rule, in_rule) in filters.iter().zip(&sets) {
            for (wanted, in_wanted) in filters.iter().zip(&sets) {
                let mut both = in_rule.iter().zip(in_wanted);
                let covered = both.clone().all(|(rule, wanted)| *rule || !*wanted);
                assert_eq!(covers(rule, wanted, who), covered, "{rule:?} covers {wanted:?}");
                let met = both.any(|(rule, wanted)| *rule && *wanted);
                assert_eq!(overlaps(rule, wanted, who), met, "{rule:?} overlaps {wanted:?}");
            }
        }
    }

    #[test]
    fn rules_that_are_replaced_hold_for_those_who_have_them() {
        let held = std::sync::Arc::new(rules(&["allow all a"]));
        let session = held.clone();
        assert!(session.allow(Act::Publish, "a", "n", "") && !session.names_user());
        held.replace(rules(&["allow all %u"]));
        assert!(!session.allow(Act::Publish, "a", "n", "") && session.names_user());
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
        for line in [
            "",
            "allow",
            "allow publish",
            "permit all a",
            "allow read a",
            "allow all a/#/b",
            "allow all $SYS/#",
            "allow all a\nb",
            "allow  all a",
        ] {
            assert!(Rules::parse([line]).is_err(), "{line}");
        }
        assert!(Rules::parse(vec!["allow all a"; RULES_MAX + 1]).is_err());
    }
}
