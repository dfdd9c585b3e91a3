//! The rules of the house, read from the sources: arrows between rooms, lengths, names, and words that must not be left
//! behind. What is found is printed with file, line, and what to do.
//!
//! - `arrows`: which room may name which.
//! - `attacks`: what `docs/attacks.md` names exists, and nothing is left out.
//! - `requirements`: what `docs/requirements.md` names exists.
//! - `shape`: lengths of files and functions, names, left-overs.

mod arrows;
mod attacks;
mod requirements;
mod shape;

use std::path::{Path, PathBuf};

/// One breach of a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Breach {
    line: usize,
    what: String,
}

impl Breach {
    fn new(line: usize, what: impl Into<String>) -> Breach {
        Breach { line, what: what.into() }
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the crate lies in crates/").to_owned()
}

/// Every Rust source below `folder`, sorted, build output left out.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("a folder entry").path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> (String, syn::File) {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    (text, file)
}

fn report(breaches: &[(PathBuf, Breach)]) {
    let lines: Vec<String> = breaches
        .iter()
        .map(|(path, breach)| {
            let path = path.strip_prefix(workspace()).unwrap_or(path);
            format!("{}:{}: {}", path.display(), breach.line, breach.what)
        })
        .collect();
    assert!(lines.is_empty(), "the house rules are broken in {} places:\n{}", lines.len(), lines.join("\n"));
}

#[test]
fn arrows_between_rooms_point_down_only() {
    let src = workspace().join("crates/longwire-server/src");
    let mut breaches = Vec::new();
    for path in sources(&src) {
        let (_, file) = read(&path);
        let module = arrows::module_of(path.strip_prefix(&src).expect("below src"));
        breaches.extend(arrows::check(&module, &file).into_iter().map(|breach| (path.clone(), breach)));
    }
    report(&breaches);
}

#[test]
fn every_room_has_a_row_in_the_table_of_arrows() {
    let src = workspace().join("crates/longwire-server/src");
    let (_, root) = read(&src.join("lib.rs"));
    for item in root.items {
        if let syn::Item::Mod(room) = item {
            let room = room.ident.to_string();
            assert!(arrows::is_known(&room), "room `{room}` has no row in arrows::ROOMS");
        }
    }
}

#[test]
fn files_and_functions_keep_their_shape() {
    let mut breaches = Vec::new();
    for folder in ["crates", "xtask"] {
        for path in sources(&workspace().join(folder)) {
            let (text, file) = read(&path);
            let found = shape::check(&path, &text, &file);
            breaches.extend(found.into_iter().map(|breach| (path.clone(), breach)));
        }
    }
    report(&breaches);
}

#[test]
fn what_the_page_of_requirements_names_exists() {
    let page = requirements::page(&workspace().join("docs/requirements.md"));
    let wrong = requirements::check(&page, &requirements::Known::here());
    assert!(
        wrong.is_empty(),
        "docs/requirements.md is wrong in {} places:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
