//! `docs/attacks.md` is the table of the attacks that are tested: what it names exists, and it names every test of them.

use super::requirements::{Known, page, tests_of};
use super::{sources, workspace};

/// What the page says that is not so, and what it leaves out of `tests`.
fn check(page: &str, tests: &[String], known: &Known) -> Vec<String> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split(" | ").collect()).collect();
    let mut wrong = Vec::new();
    for row in &rows {
        let [attack, _, limit, shown] = row[..] else {
            wrong.push(format!("not four cells: {row:?}"));
            continue;
        };
        if limit == "limit" {
            continue;
        }
        if !shown.contains('`') {
            wrong.push(format!("{attack}: no test"));
        }
        let named = [limit, shown].into_iter().flat_map(|cell| cell.split('`').skip(1).step_by(2));
        let missing = named.filter(|name| !known.has(name));
        wrong.extend(missing.map(|name| format!("{attack}: `{name}` does not exist")));
    }
    let is_named = |test: &&String| rows.iter().flatten().any(|cell| cell.contains(&format!("`{test}`")));
    let left_out = tests.iter().filter(|test| !is_named(test));
    wrong.extend(left_out.map(|test| format!("`{test}` is not in the table")));
    wrong
}

#[test]
fn the_page_of_attacks_names_what_exists_and_every_test() {
    let files = sources(&workspace().join("crates/longwire/tests/mqtt_attacks"));
    let texts = files.iter().map(|path| std::fs::read_to_string(path).expect("a source"));
    let tests: Vec<String> = texts.flat_map(|text| tests_of(&text)).collect();
    assert!(tests.len() > 50, "the tests were not found: {}", tests.len());
    let wrong = check(&page(&workspace().join("docs/attacks.md")), &tests, &Known::here());
    assert!(wrong.is_empty(), "docs/attacks.md is wrong in {} places:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_row_without_a_test_and_a_test_without_a_row_are_found() {
    let known = Known::here();
    let wrong = |page: &str, tests: &[&str]| {
        let tests: Vec<String> = tests.iter().map(|test| (*test).to_owned()).collect();
        check(page, &tests, &known)
    };
    let good = "| attack | it gets | limit | test |\n|---|---|---|---|\n| x | y | `limits.login_s` | `before_the_first_byte` |";
    assert_eq!(wrong(good, &["before_the_first_byte"]), [""; 0]);
    assert_eq!(wrong(good, &["another"]).len(), 1);
    assert_eq!(wrong("| x | y | `limits.nothing` | `no_such_test` |", &[]).len(), 2);
    assert_eq!(wrong("| x | y | – | by hand |\n| x | y |", &[]).len(), 2);
}
