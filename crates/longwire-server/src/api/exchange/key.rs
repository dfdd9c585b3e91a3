//! A caller's key of a request, and the request as it is compared.

use super::fault::Fault;
use crate::domain::Invalid;
use crate::domain::message::Once;
use axum::http::HeaderMap;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// A key, bytes.
const KEY_BYTES_MAX: usize = 64;
/// The header that may carry it.
pub(in crate::api) const HEADER: &str = "idempotency-key";
/// The field that may.
const FIELD: &str = "cid";

/// The key of a request, out of its header and its field.
///
/// # Errors
/// 400: empty, too long, with control characters, or the two differ.
pub(in crate::api) fn key_of(headers: &HeaderMap, field: Option<&str>) -> Result<Option<String>, Fault> {
    let mut given = headers.get_all(HEADER).iter();
    let header = match (given.next(), given.next()) {
        (None, _) => None,
        (Some(value), None) => {
            Some(value.to_str().map_err(|_| Fault::invalid("Idempotency-Key: must be visible ASCII"))?)
        }
        (Some(_), Some(_)) => return Err(Fault::invalid("Idempotency-Key: is given twice")),
    };
    let (name, key) = match (header, field) {
        (None, None) => return Ok(None),
        (Some(header), Some(field)) if header != field => {
            return Err(Fault::invalid("cid: differs from the header Idempotency-Key"));
        }
        (_, Some(field)) => (FIELD, field),
        (Some(header), None) => ("Idempotency-Key", header),
    };
    if key.is_empty() || key.len() > KEY_BYTES_MAX || key.contains(char::is_control) {
        let problem = format!("must be 1 to {KEY_BYTES_MAX} bytes without control characters");
        return Err(Invalid::new(name, problem).into());
    }
    Ok(Some(key.to_owned()))
}

/// A key with its request: the fields of the JSON object `body` but for the key itself, in whatever order, white space aside.
/// `what` parts requests of different kinds.
pub(in crate::api) fn once(key: &str, what: &str, body: &[u8]) -> Once {
    let mut request = blake3::Hasher::new();
    request.update(what.as_bytes());
    match serde_json::from_slice::<BTreeMap<String, &RawValue>>(body) {
        Ok(fields) => {
            for (name, value) in fields.iter().filter(|(name, _)| *name != FIELD) {
                // No JSON text holds a zero byte, so fields do not run into each other.
                request.update(&[0]).update(name.as_bytes()).update(&[0]);
                update_without_space(&mut request, value.get().as_bytes());
            }
        }
        Err(_) => drop(request.update(&[0]).update(body)),
    }
    Once { key: cut(&blake3::hash(key.as_bytes())), request: cut(&request.finalize()) }
}

/// Adds JSON but for the white space between its parts.
fn update_without_space(hasher: &mut blake3::Hasher, json: &[u8]) {
    let (mut in_text, mut escaped, mut from) = (false, false, 0);
    for (at, byte) in json.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b' ' | b'\t' | b'\r' | b'\n' if !in_text => {
                hasher.update(&json[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    hasher.update(&json[from..]);
}

fn cut(hash: &blake3::Hash) -> [u8; 16] {
    let mut first = [0; 16];
    first.copy_from_slice(&hash.as_bytes()[..16]);
    first
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(keys: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for key in keys {
            headers.append(HEADER, key.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_key_comes_in_the_header_or_the_field_and_must_be_one() {
        let none = headers(&[]);
        assert_eq!(key_of(&none, None).unwrap(), None);
        assert_eq!(key_of(&none, Some("a")).unwrap().as_deref(), Some("a"));
        assert_eq!(key_of(&headers(&["a"]), None).unwrap().as_deref(), Some("a"));
        assert_eq!(key_of(&headers(&["a"]), Some("a")).unwrap().as_deref(), Some("a"));
        assert!(key_of(&none, Some(&"k".repeat(64))).is_ok());
        for (header, field) in [
            (&["a"][..], Some("b")),
            (&["a", "a"], None),
            (&[""], None),
            (&[], Some("")),
            (&[], Some("a\nb")),
            (&[], Some(&"k".repeat(65))),
        ] {
            assert!(key_of(&headers(header), field).is_err(), "{header:?} {field:?}");
        }
    }

    #[test]
    fn a_request_is_the_same_whatever_its_white_space_and_the_order_of_its_fields() {
        let same = |a: &str, b: &str| once("k", "push", a.as_bytes()) == once("k", "push", b.as_bytes());
        assert!(same(r#"{"a":[1,2],"b":"x y","cid":"k"}"#, "{ \"b\" : \"x y\",\n\"a\":[1, 2]}"));
        assert!(same(r#"{"a":"q\" z"}"#, r#"{"a" : "q\" z"}"#));
        for other in [
            r#"{"a":[1,3],"b":"x y"}"#,
            r#"{"a":[1,2],"b":"xy"}"#,
            r#"{"a":[1,2]}"#,
            r#"{"b":[1,2],"a":"x y"}"#,
        ] {
            assert!(!same(r#"{"a":[1,2],"b":"x y"}"#, other), "{other}");
        }
        assert!(once("k", "push", b"{}") != once("l", "push", b"{}"), "the key");
    }
}
