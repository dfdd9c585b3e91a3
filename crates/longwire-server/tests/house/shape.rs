//! Lengths of files and functions, names that say nothing, and what must not be left behind.

use super::Breach;
use proc_macro2::{TokenStream, TokenTree};
use std::path::Path;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const BANNED_NAMES: &[&str] =
    &["utils", "common", "helpers", "misc", "base", "manager", "handler", "info", "data", "types", "logic"];

/// Every breach in one file.
pub(crate) fn check(path: &Path, text: &str, file: &syn::File) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        breaches.push(Breach::new(lines, format!("{lines} lines; a file stops at {FILE_LINES_MAX}")));
    }
    let folder = path.parent().and_then(Path::file_name);
    for name in [path.file_stem(), folder].into_iter().flatten() {
        judge_name(&name.to_string_lossy(), 1, &mut breaches);
    }
    let mut reader = Reader { breaches };
    reader.visit_file(file);
    let tokens: TokenStream = text.parse().expect("syn has parsed it already");
    left_overs(tokens, &mut reader.breaches);
    reader.breaches
}

fn judge_name(name: &str, line: usize, breaches: &mut Vec<Breach>) {
    if BANNED_NAMES.contains(&name) {
        breaches.push(Breach::new(line, format!("the name `{name}` says nothing; name what it is")));
    }
}

struct Reader {
    breaches: Vec<Breach>,
}

impl Reader {
    fn judge_length(&mut self, name: &syn::Ident, function: &impl Spanned) {
        let span = function.span();
        let (first, last) = (name.span().start().line, span.end().line);
        let lines = last + 1 - first;
        if lines > FUNCTION_LINES_MAX {
            let what = format!("function `{name}` has {lines} lines; it stops at {FUNCTION_LINES_MAX}");
            self.breaches.push(Breach::new(first, what));
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.judge_length(&item.sig.ident, &item.block);
        visit::visit_item_fn(self, item);
    }
    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.judge_length(&item.sig.ident, &item.block);
        visit::visit_impl_item_fn(self, item);
    }
    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.judge_length(&item.sig.ident, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        let conditional = attribute.path().is_ident("cfg_attr")
            && attribute.meta.require_list().is_ok_and(|list| names_ignore(list.tokens.clone()));
        if conditional || attribute.path().is_ident("ignore") {
            let line = attribute.span().start().line;
            self.breaches.push(Breach::new(line, "a test that is ignored proves nothing"));
        }
    }
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        judge_name(&item.ident.to_string(), item.ident.span().start().line, &mut self.breaches);
        visit::visit_item_mod(self, item);
    }
}

fn names_ignore(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| matches!(token, TokenTree::Ident(word) if word == "ignore"))
}

/// Words that must not be left in any source, read from the tokens so that macros hide nothing and texts count nothing.
fn left_overs(tokens: TokenStream, breaches: &mut Vec<Breach>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => left_overs(group.stream(), breaches),
            TokenTree::Ident(word) => {
                let line = word.span().start().line;
                let called = matches!(tokens.get(at + 1), Some(TokenTree::Punct(p)) if p.as_char() == '!');
                match word.to_string().as_str() {
                    "unsafe" => breaches.push(Breach::new(line, "`unsafe` is forbidden here")),
                    "todo" | "unimplemented" if called => {
                        breaches.push(Breach::new(line, format!("`{word}!` is left behind")));
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

mod tests {
    use super::check;
    use std::path::Path;

    fn found(path: &str, source: &str) -> Vec<String> {
        let file = syn::parse_str(source).expect("the sample parses");
        check(Path::new(path), source, &file).into_iter().map(|breach| breach.what).collect()
    }

    #[test]
    fn a_long_file_is_found() {
        assert!(found("a.rs", &"// x\n".repeat(600)).is_empty());
        assert_eq!(found("a.rs", &"// x\n".repeat(601)).len(), 1);
    }

    #[test]
    fn a_long_function_is_found_wherever_it_stands() {
        let body = |lines: usize| format!("fn long() {{\n{}}}", "    x();\n".repeat(lines - 2));
        assert!(found("a.rs", &body(70)).is_empty());
        assert_eq!(found("a.rs", &body(71)).len(), 1);
        assert_eq!(found("a.rs", &format!("impl A {{ {} }}", body(71))).len(), 1);
        assert_eq!(found("a.rs", &format!("trait A {{ {} }}", body(71))).len(), 1);
        assert_eq!(found("a.rs", &format!("mod a {{ mod b {{ {} }} }}", body(71))).len(), 1);
    }

    #[test]
    fn a_name_that_says_nothing_is_found() {
        assert_eq!(found("src/utils.rs", "").len(), 1);
        assert_eq!(found("src/helpers/mod.rs", "").len(), 1);
        assert_eq!(found("src/a.rs", "mod manager;").len(), 1);
        assert!(found("src/timing.rs", "mod wheel;").is_empty());
    }

    #[test]
    fn left_overs_are_found_and_texts_are_not() {
        assert_eq!(found("a.rs", "fn f() { todo!() }").len(), 1);
        assert_eq!(found("a.rs", "fn f() { assert!(unimplemented!()) }").len(), 1);
        assert_eq!(found("a.rs", "unsafe fn f() {}").len(), 1);
        assert_eq!(found("a.rs", "fn f() { unsafe { g() } }").len(), 1);
        assert!(found("a.rs", "fn f() { let todo = \"todo!() unsafe\"; todo.len(); }").is_empty());
    }

    #[test]
    fn an_ignored_test_is_found() {
        assert_eq!(found("a.rs", "#[test] #[ignore] fn f() {}").len(), 1);
        assert_eq!(found("a.rs", "#[test] #[ignore = \"slow\"] fn f() {}").len(), 1);
        assert_eq!(found("a.rs", "#[cfg_attr(unix, ignore)] fn f() {}").len(), 1);
        assert!(found("a.rs", "fn f(ignore: bool) { g(ignore, 1); }").is_empty());
    }
}
