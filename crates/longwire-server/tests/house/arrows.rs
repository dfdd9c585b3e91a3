//! Which room of the server may name which. Read from `use` lines and from paths written in place, also inside macros.

use super::Breach;
use proc_macro2::{TokenStream, TokenTree};
use std::path::Path;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// A room and the paths that it may name besides its own. `store::port` holds the questions and answers of the store as
/// data; naming them is not calling the store.
const ROOMS: &[(&str, &[&str])] = &[
    ("node", &["gate", "api", "delivery", "store", "domain"]),
    ("api", &["delivery", "domain", "store::port"]),
    ("gate", &["delivery::border", "domain", "store::port"]),
    ("delivery", &["store", "domain"]),
    ("store", &["domain"]),
    ("domain", &[]),
];

/// Modules of the crate's root that are no rooms: every room may name them, and they name nothing.
const ROOT: &[&str] = &["planted"];

/// Whether a module below the crate's root has its place here.
pub(crate) fn is_known(module: &str) -> bool {
    allowed(module).is_some() || ROOT.contains(&module)
}

/// What a room may name; `None` for a room that has no row.
pub(crate) fn allowed(room: &str) -> Option<&'static [&'static str]> {
    ROOMS.iter().find(|(name, _)| *name == room).map(|(_, allowed)| *allowed)
}

/// The module path of a file given relative to `src`: `delivery/hub.rs` is `[delivery, hub]`, `lib.rs` is `[]`.
pub(crate) fn module_of(file: &Path) -> Vec<String> {
    let mut module: Vec<String> =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
        module.pop();
    }
    module
}

/// Every forbidden arrow in a file of this module.
pub(crate) fn check(module: &[String], file: &syn::File) -> Vec<Breach> {
    // The crate's root is a map; it belongs to no room.
    let Some(room) = module.first() else { return Vec::new() };
    let mut reader = Reader { room, module: module.to_vec(), breaches: Vec::new() };
    reader.visit_file(file);
    reader.breaches
}

struct Reader<'a> {
    room: &'a str,
    /// Where the reader stands, inline modules included.
    module: Vec<String>,
    breaches: Vec<Breach>,
}

impl Reader<'_> {
    /// Judges a path as written; only those that begin with `crate`, `self` or `super` can leave the room.
    fn judge(&mut self, written: &[String], line: usize) {
        let mut at = self.module.clone();
        let mut rest = written;
        match written.first().map(String::as_str) {
            Some("crate") => {
                at.clear();
                rest = &rest[1..];
            }
            Some("self") => rest = &rest[1..],
            Some("super") => {}
            _ => return,
        }
        while rest.first().is_some_and(|part| part == "super") {
            at.pop();
            rest = &rest[1..];
        }
        at.extend_from_slice(rest);
        let target = at.join("::");
        let Some(other) = at.first() else { return };
        let allowed = allowed(self.room).unwrap_or(&[]);
        let reaches = |entry: &&str| target == **entry || target.starts_with(&format!("{entry}::"));
        // A name that is no room is an item of the crate's root.
        if other == self.room || self::allowed(other).is_none() || allowed.iter().any(reaches) {
            return;
        }
        let allowed = if allowed.is_empty() { "nothing".to_owned() } else { allowed.join(", ") };
        let what = format!("room `{}` names `{target}`; allowed besides itself: {allowed}", self.room);
        self.breaches.push(Breach::new(line, what));
    }

    fn read_use(&mut self, prefix: &[String], tree: &syn::UseTree) {
        let mut path = prefix.to_vec();
        match tree {
            syn::UseTree::Path(step) => {
                path.push(step.ident.to_string());
                self.read_use(&path, &step.tree);
            }
            syn::UseTree::Name(name) => {
                path.push(name.ident.to_string());
                self.judge(&path, name.span().start().line);
            }
            syn::UseTree::Rename(name) => {
                path.push(name.ident.to_string());
                self.judge(&path, name.span().start().line);
            }
            syn::UseTree::Glob(star) => self.judge(&path, star.span().start().line),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.read_use(&path, tree)),
        }
    }

    /// Paths inside a macro call, which syn does not parse: `crate :: a :: b` as it stands.
    fn read_tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.read_tokens(group.stream()),
                TokenTree::Ident(first) if *first == "crate" || *first == "super" => {
                    let line = first.span().start().line;
                    let mut path = vec![first.to_string()];
                    while let Some(TokenTree::Ident(next)) = tokens.get(at + 3)
                        && is_colon(&tokens[at + 1])
                        && is_colon(&tokens[at + 2])
                    {
                        path.push(next.to_string());
                        at += 3;
                    }
                    self.judge(&path, line);
                }
                _ => {}
            }
            at += 1;
        }
    }
}

fn is_colon(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == ':')
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.read_use(&[], &item.tree);
    }
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let written: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.judge(&written, path.span().start().line);
        visit::visit_path(self, path);
    }
    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.read_tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }
}

mod tests {
    use super::{check, module_of};
    use std::path::Path;

    fn lines(file: &str, source: &str) -> Vec<usize> {
        let file = module_of(Path::new(file));
        check(&file, &syn::parse_str(source).expect("the sample parses")).iter().map(|b| b.line).collect()
    }

    #[test]
    fn a_use_of_a_room_above_is_found() {
        assert_eq!(lines("store/messages.rs", "\nuse crate::delivery::hub::Hub;"), [2]);
        assert_eq!(lines("domain/app.rs", "use crate::store::port::Page;"), [1]);
        assert_eq!(lines("api/push.rs", "use crate::node::Configuration;"), [1]);
    }

    #[test]
    fn a_group_is_read_to_its_leaves() {
        let source = "use crate::{\n  domain::AppId,\n  store::{port::Page, messages::MessageStore},\n};";
        assert_eq!(lines("api/push.rs", source), [3]);
    }

    #[test]
    fn a_way_around_by_super_is_found() {
        assert_eq!(lines("gate/shard.rs", "use super::super::delivery::hub::Hub;"), [1]);
        assert_eq!(lines("gate/mod.rs", "use super::store::messages::MessageStore;"), [1]);
        assert_eq!(lines("gate/mod.rs", "mod tests { use super::super::api::Router; }"), [1]);
    }

    #[test]
    fn a_path_in_place_and_in_a_macro_is_found() {
        assert_eq!(lines("gate/shard.rs", "fn f() { crate::store::messages::open(); }"), [1]);
        assert_eq!(lines("gate/shard.rs", "fn f() { log!(\"{}\", crate::api::VERSION); }"), [1]);
        assert_eq!(lines("store/port.rs", "fn f() -> Vec<crate::gate::Shard> { vec![] }"), [1]);
    }

    #[test]
    fn what_is_planted_is_named_by_all_and_names_nothing() {
        assert!(lines("domain/app.rs", "use crate::planted::{Fault, planted};").is_empty());
        assert!(lines("gate/shard.rs", "use crate::planted::planted;").is_empty());
        assert_eq!(lines("planted.rs", "use crate::domain::AppId;"), [1]);
        assert!(super::is_known("planted") && super::is_known("store"));
        assert!(!super::is_known("cellar"));
    }

    #[test]
    fn a_glob_and_a_rename_are_found() {
        assert_eq!(lines("delivery/hub.rs", "use crate::gate::*;"), [1]);
        assert_eq!(lines("delivery/hub.rs", "use crate::gate as shards;"), [1]);
    }

    #[test]
    fn a_part_of_a_room_may_be_allowed_without_the_rest() {
        assert!(lines("gate/shard.rs", "use crate::delivery::border::Command;").is_empty());
        assert_eq!(lines("gate/shard.rs", "use crate::delivery::hub::Hub;"), [1]);
        assert_eq!(lines("gate/shard.rs", "use crate::delivery::borderline::Hub;"), [1]);
    }

    #[test]
    fn arrows_down_and_inside_a_room_are_allowed() {
        let source = "use crate::domain::AppId; use super::border::Command; use self::inner::X; use std::fmt;
                      use crate::store::port::Page; use longwire_proto::id::ClientId;";
        assert!(lines("delivery/hub.rs", source).is_empty());
        assert!(lines("lib.rs", "pub use crate::node::run;").is_empty());
    }
}
