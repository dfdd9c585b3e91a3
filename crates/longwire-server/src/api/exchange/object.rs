//! JSON objects that are objects. What reads a struct also takes a list of its fields in their order, which nobody means.

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// Read from an object only.
#[derive(Default)]
pub(in crate::api) struct Object<T>(pub(in crate::api) T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object<T>, D::Error> {
        let fields = Map::deserialize(deserializer)?;
        // The path inside is said by the message, so that the field is named all the same.
        serde_path_to_error::deserialize(Value::Object(fields)).map(Object).map_err(|error| {
            let path = error.path().to_string();
            match path.as_str() {
                "." => D::Error::custom(error.inner()),
                path => D::Error::custom(format!("{path}: {}", error.inner())),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Point {
        #[serde(default)]
        x: u8,
    }

    #[test]
    fn a_list_is_no_object_and_a_bad_field_is_named() {
        let read = |text: &str| serde_json::from_str::<Object<Point>>(text).map(|Object(point)| point.x);
        assert_eq!(read("{}").ok(), Some(0));
        assert_eq!(read(r#"{"x":7}"#).ok(), Some(7));
        for bad in ["[]", "[7]", "null", r#"{"y":1}"#, "7"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let problem = read(r#"{"x":300}"#).map_err(|error| error.to_string());
        assert!(problem.as_ref().is_err_and(|text| text.starts_with("x: ")), "{problem:?}");
    }
}
