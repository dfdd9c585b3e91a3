//! Lists in pages: `after` says where a page begins, `limit` how long it is at most, and the answer's `next` where to go on.
//!
//! A cursor is for whoever got it to give back: a list's word and a place in it, in base64 (URL alphabet, no padding).
//! One of another list is refused.

use super::fault::Fault;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use std::fmt::Display;
use std::str::FromStr;
use utoipa::IntoParams;

/// Items of a page when nothing is said.
pub(in crate::api) const LIMIT_DEFAULT: u16 = 100;
/// Items of a page at most (THREATS, huge batches).
pub(in crate::api) const LIMIT_MAX: u16 = 1000;
/// A cursor, characters; a longer one is refused unread.
pub(in crate::api) const CURSOR_CHARS_MAX: usize = 256;

/// The query of a list that is asked for nothing else. Lists with filters have these two fields in a type of their own.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct PageQuery {
    /// The `next` of the page before; not given: from the beginning.
    #[param(max_length = 256)]
    pub(in crate::api) after: Option<String>,
    /// Items at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub(in crate::api) limit: Option<u16>,
}

/// How many items a page has at most.
pub(in crate::api) fn limit(asked: Option<u16>) -> Result<usize, Fault> {
    let limit = asked.unwrap_or(LIMIT_DEFAULT);
    if (1..=LIMIT_MAX).contains(&limit) {
        return Ok(limit.into());
    }
    Err(Fault::invalid(format!("limit: must be 1 to {LIMIT_MAX}, is {limit}")))
}

/// The cursor of a place in the list of this word.
pub(in crate::api) fn cursor(list: &str, place: impl Display) -> String {
    URL_SAFE_NO_PAD.encode(format!("{list}:{place}"))
}

/// The place that `after` names in the list of this word; `None`: its beginning.
pub(in crate::api) fn after<T: FromStr>(list: &str, text: Option<&str>) -> Result<Option<T>, Fault> {
    text.map(|text| place(list, text).ok_or_else(|| Fault::invalid("after: is no cursor of this list")))
        .transpose()
}

fn place<T: FromStr>(list: &str, text: &str) -> Option<T> {
    if text.len() > CURSOR_CHARS_MAX {
        return None;
    }
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    text.strip_prefix(list)?.strip_prefix(':')?.parse().ok()
}

/// Of what was read, one more than `limit` if there is more: the page, and the cursor of its last item if it does.
pub(in crate::api) fn cut<I, P: Display>(
    mut items: Vec<I>,
    limit: usize,
    list: &str,
    place: impl FnOnce(&I) -> P,
) -> (Vec<I>, Option<String>) {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|last| cursor(list, place(last)));
    (items, next)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_the_place_that_it_was_made_of() {
        assert_eq!(after::<u64>("audit", Some(&cursor("audit", u64::MAX))).unwrap(), Some(u64::MAX));
        let name = "ä:".repeat(64);
        assert_eq!(
            after::<String>("apps", Some(&cursor("apps", &name[..128]))).unwrap().as_deref(),
            Some(&name[..128])
        );
        assert_eq!(after::<u64>("audit", None).unwrap(), None);
    }

    #[test]
    fn anything_else_is_refused() {
        let long = cursor("audit", "9".repeat(CURSOR_CHARS_MAX));
        for text in
            ["", "!", "7", &cursor("audits", 7), &cursor("audi", 7), &cursor("audit", -7), "/+==", &long]
        {
            assert!(after::<u64>("audit", Some(text)).is_err(), "{text}");
        }
        assert!(limit(Some(0)).is_err() && limit(Some(LIMIT_MAX + 1)).is_err());
        assert_eq!((limit(None).unwrap(), limit(Some(LIMIT_MAX)).unwrap()), (100, 1000));
    }

    #[test]
    fn a_page_names_the_next_only_if_there_is_more() {
        let cut = |count: u64| super::cut((0..count).collect(), 2, "audit", |item| *item);
        assert_eq!(cut(2), (vec![0, 1], None));
        assert_eq!(cut(3), (vec![0, 1], Some(cursor("audit", 1))));
        assert_eq!(cut(0), (vec![], None));
    }
}
