#![allow(clippy::unwrap_used)]
use super::*;
use crate::domain::device::Attribute;
use proptest::prelude::*;

fn parse(text: &str) -> Result<Condition, String> {
    Condition::parse("condition", text).map_err(|invalid| invalid.problem)
}

fn tag(text: &str) -> Condition {
    Condition::Tag(Tag::parse("tag", text).unwrap())
}

fn attribute(name: &str, value: &str) -> Attribute {
    (AttributeName::parse("name", name).unwrap(), AttributeValue::parse("value", value).unwrap())
}

fn compare(name: &str, compare: Compare, value: &str) -> Condition {
    let (name, value) = attribute(name, value);
    Condition::Attribute(name, compare, value)
}

#[test]
fn conditions_are_read_as_they_are_meant() {
    let [a, b, c] = ["a", "b", "c"].map(tag);
    let of = |text: &str| parse(text).unwrap();
    assert_eq!(of("'a' in tags"), a);
    assert_eq!(of(r#"  "a"  in	tags "#), a);
    assert_eq!(
        of("'a' in tags && app_version < '3.2'"),
        Condition::All(vec![a.clone(), compare("app_version", Compare::Less, "3.2")])
    );
    // && binds tighter than ||, ! tighter than both.
    assert_eq!(
        of("'a' in tags || !'b' in tags && 'c' in tags"),
        Condition::Any(vec![a.clone(), Condition::All(vec![Condition::Not(Box::new(b.clone())), c.clone()])])
    );
    assert_eq!(
        of("!('a' in tags||'b' in tags)"),
        Condition::Not(Box::new(Condition::Any(vec![a.clone(), b.clone()])))
    );
    let one = |sign| of(&format!("n{sign}'1'"));
    for compared in Compare::ALL {
        assert_eq!(one(compared.to_string()), compare("n", compared, "1"));
    }
    let countries = ["de", "fr"].map(|value| compare("country", Compare::Equal, value));
    assert_eq!(of("country in ('de', \"fr\")"), Condition::Any(countries.to_vec()));
    assert_eq!(of("country in ('de')"), countries[0]);
    assert_eq!(of(r"city == 'L\'Aquila \\ é'"), compare("city", Compare::Equal, r"L'Aquila \ é"));
    assert_eq!(of("in_app == 'in'"), compare("in_app", Compare::Equal, "in"));
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_what_was_expected() {
    for (text, told) in [
        ("", "at character 1: a text in quotes, the name of an attribute, ! or ( expected, it ends here"),
        ("'a'", "at character 4: in expected, it ends here"),
        ("'a' in", "at character 7: tags expected, it ends here"),
        ("'a' of tags", "at character 5: in expected, found 'o'"),
        ("'a' intags", "at character 5: in expected, found 'i'"),
        ("'é' in tags &", "at character 13: &&, || or the end expected, found '&'"),
        ("('a' in tags", "at character 13: &&, || or ) expected, it ends here"),
        ("n = '1'", "at character 3: ==, !=, <, <=, >, >= or in expected, found '='"),
        ("n < 3", "at character 5: a text in quotes expected, found '3'"),
        ("n in 'a'", "at character 6: ( expected, found '\\''"),
        ("n in ('a'", "at character 10: , or ) expected, it ends here"),
        ("n in ()", "at character 7: a text in quotes expected, found ')'"),
        ("n == 'a", "at character 6: the text that begins here has no end"),
        ("n == ''", "at character 6: value: must be 1 to 64 bytes, is 0"),
        ("'a/b' in tags", "at character 1: tag: must not contain control characters, '+', '#' or '/'"),
        ("tags == 'a'", "at character 1: attribute: must be a letter"),
    ] {
        let problem = parse(text).unwrap_err();
        assert!(problem.starts_with(told), "{text}: {problem}");
    }
}

#[test]
fn the_bounds_are_exact() {
    let tags = |count| vec!["'a' in tags"; count].join("||");
    let long = format!("'a' in tags{}", " ".repeat(CONDITION_BYTES_MAX - 11));
    assert!(parse(&long).is_ok());
    assert_eq!(parse(&format!("{long} ")).unwrap_err(), "at most 1024 bytes, are 1025");
    // 1,024 bytes hold the parts of a list more easily than anything else.
    let listed = |count: usize| format!("n in ({})", vec!["'1'"; count].join(","));
    assert_eq!(parse(&listed(NODES_MAX - 1)).unwrap().nodes(), NODES_MAX);
    assert!(parse(&listed(NODES_MAX)).unwrap_err().contains("at most 128 parts"));
    let nots = |count: usize| format!("{}'a' in tags", "!".repeat(count));
    assert_eq!(parse(&nots(DEPTH_MAX - 1)).unwrap().depth(), DEPTH_MAX);
    for text in [nots(DEPTH_MAX), nots(500), "(".repeat(1000), format!("{}{}", "!(".repeat(15), tags(2))] {
        assert!(parse(&text).unwrap_err().contains("nested more than 16 deep"), "{text}");
    }
}

/// Any condition that can be written.
fn condition() -> impl Strategy<Value = Condition> {
    let text = "[a-z'\"\\\\ .0-9é]{1,8}";
    let leaf = prop_oneof![
        text.prop_map(|text| tag(&text)),
        ("[a-zA-Z][a-z_0-9]{0,4}", 0_usize..6, text).prop_filter_map(
            "a word of its own",
            |(name, at, value)| {
                let name = AttributeName::parse("name", &name).ok()?;
                Some(Condition::Attribute(
                    name,
                    Compare::ALL[at],
                    AttributeValue::parse("value", &value).ok()?,
                ))
            }
        ),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|one| Condition::Not(Box::new(one))),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Condition::All),
            proptest::collection::vec(inner, 2..4).prop_map(Condition::Any),
        ]
    })
}

proptest! {
    #[test]
    fn a_condition_survives_print_and_parse(condition in condition()) {
        let text = condition.to_string();
        prop_assume!(text.len() <= CONDITION_BYTES_MAX);
        prop_assert_eq!(parse(&text), Ok(condition));
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}") {
        let _ = parse(&text);
    }

    /// Of the pieces that conditions are made of.
    #[test]
    fn no_row_of_pieces_makes_it_panic(
        pieces in proptest::collection::vec(
            prop_oneof![
                Just("'a'"), Just("\""), Just("'"), Just("\\"), Just("in"), Just("tags"), Just("n"), Just("=="), Just("<"),
                Just("!"), Just("!="), Just("&&"), Just("||"), Just("("), Just(")"), Just(","), Just(" "), Just("é"),
            ],
            0..60,
        )
    ) {
        if let Ok(condition) = parse(&pieces.concat()) {
            prop_assert!(condition.nodes() <= NODES_MAX && condition.depth() <= DEPTH_MAX);
            prop_assert_eq!(parse(&condition.to_string()), Ok(condition));
        }
    }
}
