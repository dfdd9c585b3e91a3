#![allow(clippy::unwrap_used)]
use super::*;
use crate::delivery::border::Meant;
use crate::domain::{ClientId, Condition};

fn tag(text: &str) -> Tag {
    Tag::parse("tag", text).unwrap()
}

fn attribute(name: &str, value: &str) -> Attribute {
    (AttributeName::parse("name", name).unwrap(), AttributeValue::parse("value", value).unwrap())
}

fn compare(name: &str, compare: Compare, value: &str) -> Condition {
    let (name, value) = attribute(name, value);
    Condition::Attribute(name, compare, value)
}

const APP: AppId = AppId(1);

fn reach(labels: &Labels, condition: Condition) -> Reach {
    labels.reach(APP, Arc::new(Filter::of(condition)))
}

#[test]
fn a_tag_has_one_number_and_two_apps_share_none() {
    let labels = Labels::new(10);
    let one = labels.intern(APP, &[tag("a"), tag("b")], &[attribute("a", "b")]).unwrap();
    assert_eq!(one, labels.intern(APP, &[tag("a"), tag("b")], &[attribute("a", "b")]).unwrap());
    assert_eq!(one.len(), 3);
    let other = labels.intern(AppId(2), &[tag("a")], &[]).unwrap();
    assert!(!one.contains(&other[0]));
}

#[test]
fn an_audience_of_unknown_tags_is_nobody_and_never_everybody() {
    let labels = Labels::new(10);
    let any = |names: &[&str]| Condition::any_tag(names.iter().map(|name| tag(name)));
    assert_eq!(reach(&labels, any(&["a"])).judge(ClientId(1), &[]), Meant::No);
    let own = labels.intern(APP, &[tag("a")], &[]).unwrap();
    let known = reach(&labels, any(&["a", "b"]));
    assert_eq!(known.judge(ClientId(1), &own), Meant::Yes);
    assert_eq!(known.judge(ClientId(1), &[]), Meant::No);
    assert!(reach(&labels, Condition::Everyone).is_everyone() && !known.is_everyone());
    let unlike = reach(&labels, Condition::Not(Box::new(Condition::Tag(tag("unknown")))));
    assert_eq!(unlike.judge(ClientId(1), &own), Meant::Yes);
    // Who comes with the tag later may be anybody.
    let later = labels.intern(APP, &[tag("unknown")], &[]).unwrap();
    assert_eq!(unlike.judge(ClientId(1), &later), Meant::AskStore);
}

#[test]
fn a_comparison_is_the_values_that_fit() {
    let labels = Labels::new(100);
    let own = |version: &str| labels.intern(APP, &[], &[attribute("version", version)]).unwrap();
    let [old, new, odd] = ["3.1.9", "3.10", "x"].map(own);
    let none = labels.intern(APP, &[tag("t")], &[]).unwrap();
    for (condition, fitting) in [
        (compare("version", Compare::Less, "3.2"), [true, false, false, false]),
        (compare("version", Compare::AtLeast, "3.2"), [false, true, false, false]),
        (compare("version", Compare::Equal, "3.10.0"), [false, true, false, false]),
        (compare("version", Compare::Unequal, "3.10.0"), [true, false, true, false]),
        (Condition::Not(Box::new(compare("version", Compare::Less, "3.2"))), [false, true, true, true]),
        (compare("other", Compare::Unequal, "1"), [false; 4]),
    ] {
        let reach = reach(&labels, condition);
        for (own, fits) in [&old, &new, &odd, &none].into_iter().zip(fitting) {
            let meant = if fits { Meant::Yes } else { Meant::No };
            assert_eq!(reach.judge(ClientId(1), own), meant, "{reach:?} {own:?}");
        }
    }
}

#[test]
fn values_beyond_the_bound_share_a_label_and_are_left_to_the_store() {
    let labels = Labels::new(LABELS_MAX);
    let own = |value: usize| labels.intern(APP, &[], &[attribute("user", &value.to_string())]).unwrap();
    let first = own(0);
    for value in 1..VALUES_MAX {
        own(value);
    }
    let (beyond, further) = (own(VALUES_MAX), own(VALUES_MAX + 1));
    assert_eq!(beyond, further);
    let equal = reach(&labels, compare("user", Compare::Equal, "0"));
    assert_eq!(equal.judge(ClientId(1), &first), Meant::Yes);
    assert_eq!(equal.judge(ClientId(1), &beyond), Meant::AskStore);
    // What does not ask for it knows them.
    let tagged = reach(&labels, Condition::Tag(tag("t")));
    assert_eq!(tagged.judge(ClientId(1), &beyond), Meant::No);
    for name in 1..ATTRIBUTES_MAX {
        labels.intern(APP, &[], &[attribute(&format!("a{name}"), "1")]).unwrap();
    }
    let unnumbered = labels.intern(APP, &[], &[attribute("one_more", "1")]).unwrap();
    assert_eq!(*unnumbered, [LabelId::UNNUMBERED]);
}

#[test]
fn the_number_after_the_last_is_refused_to_tags_and_known_ones_go_on() {
    let labels = Labels::new(2);
    labels.intern(APP, &[tag("a"), tag("b")], &[]).unwrap();
    assert_eq!(labels.intern(APP, &[tag("a"), tag("c")], &[]), Err(TooManyLabels));
    assert!(labels.intern(APP, &[tag("b")], &[]).is_ok());
    assert_eq!(*labels.intern(APP, &[], &[attribute("a", "1")]).unwrap(), [LabelId::UNNUMBERED]);
}
