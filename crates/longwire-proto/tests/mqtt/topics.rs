//! Topic names and filters: what is valid, and what matches what.

use longwire_proto::wire::mqtt::topic::{Filter, levels, matches, name};
use longwire_proto::wire::mqtt::{Fault, Limits};
use proptest::prelude::*;

fn filter(text: &str) -> Result<Filter<'_>, Fault> {
    Filter::parse(text.as_bytes(), &Limits::default())
}

#[test]
fn wildcards_stand_alone_in_their_level() {
    // MQTT-4.7.1-1, -2
    for good in
        ["#", "+", "/", "a", "a/#", "+/+", "/+", "+/#", "a//b", "a/+/b/#", "$SYS/#", "a b", "\u{1F600}/x"]
    {
        assert!(filter(good).is_ok(), "{good}");
    }
    for bad in ["", "a#", "#/", "#/a", "a/#/b", "a+", "+a", "a/+b", "a/b+/c", "##", "++", "+#"] {
        assert_eq!(filter(bad), Err(Fault::TopicFilter), "{bad}");
    }
    for good in ["a", "/", "//", "$SYS/a", "a b/c", "日本"] {
        assert_eq!(name(good.as_bytes(), &Limits::default()), Ok(good));
    }
    for bad in ["", "+", "#", "a/+", "a/#", "a+b"] {
        assert_eq!(name(bad.as_bytes(), &Limits::default()), Err(Fault::TopicName), "{bad}");
    }
}

#[test]
fn a_shared_subscription_has_a_group_and_a_filter() {
    // MQTT-4.8.2-1, -2
    let shared = filter("$share/g/a/+").unwrap();
    assert_eq!((shared.group(), shared.pattern(), shared.as_str()), (Some("g"), "a/+", "$share/g/a/+"));
    assert!(shared.has_wildcard() && shared.matches("a/b") && !shared.matches("$share/g/a/b"));
    assert_eq!(filter("$share/g//").unwrap().pattern(), "/");
    let plain = filter("$shared/g/a").unwrap();
    assert_eq!((plain.group(), plain.pattern()), (None, "$shared/g/a"));
    for bad in ["$share/", "$share//a", "$share/g", "$share/g/", "$share/+/a", "$share/g#/a"] {
        assert_eq!(filter(bad), Err(Fault::SharedFilter), "{bad}");
    }
    assert_eq!(filter("$share/g/a#"), Err(Fault::TopicFilter));
}

#[test]
fn the_examples_of_the_specification_match_as_it_says() {
    let yes = [
        ("sport/tennis/player1/#", "sport/tennis/player1"),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking"),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
        ("sport/#", "sport"),
        ("#", "sport/tennis"),
        ("sport/tennis/+", "sport/tennis/player1"),
        ("sport/+", "sport/"),
        ("+/+", "/finance"),
        ("/+", "/finance"),
        ("$SYS/#", "$SYS/monitor/Clients"),
        ("$SYS/monitor/+", "$SYS/monitor/Clients"),
        ("+/tennis/#", "sport/tennis"),
        ("/", "/"),
        ("a/+/c", "a//c"),
        ("#", "/"),
    ];
    let no = [
        ("sport/tennis/+", "sport/tennis/player1/ranking"),
        ("sport/+", "sport"),
        ("+", "/finance"),
        // MQTT-4.7.2-1
        ("#", "$SYS/monitor"),
        ("+/monitor/Clients", "$SYS/monitor/Clients"),
        // MQTT-4.7.3-4: bytes are compared as they are.
        ("ACCOUNTS", "Accounts"),
        ("a", "a/"),
        ("a/", "a"),
        ("/a", "a"),
        ("a/b/#", "a"),
        ("é", "e\u{301}"),
    ];
    for (pattern, topic) in yes {
        assert!(filter(pattern).unwrap().matches(topic), "{pattern} means {topic}");
    }
    for (pattern, topic) in no {
        assert!(!filter(pattern).unwrap().matches(topic), "{pattern} does not mean {topic}");
    }
}

#[test]
fn limits_hold_for_bytes_levels_and_a_level() {
    let limits = Limits::default();
    let deep = vec!["a"; 16].join("/");
    assert!(name(deep.as_bytes(), &limits).is_ok());
    assert_eq!(name(format!("{deep}/a").as_bytes(), &limits), Err(Fault::TopicName));
    assert!(name("x".repeat(64).as_bytes(), &limits).is_ok());
    assert_eq!(name("x".repeat(65).as_bytes(), &limits), Err(Fault::TopicName));
    assert_eq!(name(format!("a/{}/b", "x".repeat(65)).as_bytes(), &limits), Err(Fault::TopicName));
    let long = vec!["x".repeat(63); 4].join("/") + "/";
    assert_eq!(long.len(), 256);
    assert!(name(long.as_bytes(), &limits).is_ok());
    assert_eq!(name(format!("{long}x").as_bytes(), &limits), Err(Fault::TopicName));
}

/// Matching as the specification tells it, level by level, without any care for speed.
fn plainly(pattern: &[&str], topic: &[&str]) -> bool {
    match (pattern, topic) {
        (["#"], _) => true,
        ([], []) => true,
        ([p, pattern @ ..], [t, topic @ ..]) => (*p == "+" || p == t) && plainly(pattern, topic),
        _ => false,
    }
}

proptest! {
    #[test]
    fn matching_agrees_with_its_definition(pattern in "[$a+#/]{1,7}", topic in "[$a/]{1,7}") {
        if let Ok(filter) = filter(&pattern)
            && filter.group().is_none()
        {
            let p: Vec<&str> = levels(&pattern).collect();
            let t: Vec<&str> = levels(&topic).collect();
            let hidden = topic.starts_with('$') && (p[0] == "+" || p[0] == "#");
            prop_assert_eq!(matches(&pattern, &topic), !hidden && plainly(&p, &t));
        }
    }

    #[test]
    fn names_are_strict_utf_8(bytes in prop::collection::vec(any::<u8>(), 1..40)) {
        let accepted = name(&bytes, &Limits::SPECIFICATION);
        let clean = std::str::from_utf8(&bytes).ok().filter(|text| {
            !text.chars().any(|c| {
                c.is_control() || matches!(c, '+' | '#' | '\u{FDD0}'..='\u{FDEF}') || c as u32 & 0xFFFE == 0xFFFE
            })
        });
        prop_assert_eq!(accepted.ok(), clean);
    }
}
