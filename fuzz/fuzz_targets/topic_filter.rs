//! Any two texts, as filter and name: no panic, limits hold, and matching agrees with its definition.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longwire_proto::wire::mqtt::Limits;
use longwire_proto::wire::mqtt::topic::{Filter, levels, name};

fn plainly(pattern: &[&str], topic: &[&str]) -> bool {
    match (pattern, topic) {
        (["#"], _) | ([], []) => true,
        ([p, pattern @ ..], [t, topic @ ..]) => (*p == "+" || p == t) && plainly(pattern, topic),
        _ => false,
    }
}

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::default();
    let mut halves = bytes.splitn(2, |&byte| byte == b'\n');
    let (Some(pattern), Some(topic)) = (halves.next(), halves.next()) else { return };
    let (Ok(filter), Ok(topic)) = (Filter::parse(pattern, &limits), name(topic, &limits)) else { return };
    assert!(levels(topic).count() <= 16 && topic.len() <= 256);
    let pattern: Vec<&str> = levels(filter.pattern()).collect();
    let topic_levels: Vec<&str> = levels(topic).collect();
    let hidden = topic.starts_with('$') && matches!(pattern[0], "+" | "#");
    assert_eq!(filter.matches(topic), !hidden && plainly(&pattern, &topic_levels));
});
