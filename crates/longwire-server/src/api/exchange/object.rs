//! JSON objects that are objects. What reads a struct also takes a list of its fields in their order, which nobody means.

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::marker::PhantomData;

/// Read from an object only.
#[derive(Default)]
pub(in crate::api) struct Object<T>(pub(in crate::api) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Object<T>, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        from.deserialize_map(Fields(PhantomData))
    }
}

/// Reads a field that is an object (`deserialize_with`).
pub(in crate::api) fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Object::deserialize(from).map(|Object(object)| object)
}

/// Reads a field that is an object or null (`deserialize_with`, with `default`).
pub(in crate::api) fn object_if_any<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    Option::<Object<T>>::deserialize(from).map(|object| object.map(|Object(object)| object))
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
        let mut json = serde_json::Deserializer::from_str(r#"{"x":300}"#);
        let read = serde_path_to_error::deserialize::<_, Object<Point>>(&mut json);
        assert!(read.is_err_and(|error| error.path().to_string() == "x"));
    }

    #[test]
    fn a_field_that_is_an_object_is_no_list() {
        #[derive(Deserialize)]
        struct Line {
            #[serde(deserialize_with = "object")]
            from: Point,
            #[serde(default, deserialize_with = "object_if_any")]
            to: Option<Point>,
        }
        let read =
            |text: &str| serde_json::from_str::<Line>(text).map(|line| (line.from.x, line.to.map(|to| to.x)));
        assert_eq!(read(r#"{"from":{"x":1},"to":{"x":2}}"#).ok(), Some((1, Some(2))));
        assert_eq!(read(r#"{"from":{},"to":null}"#).ok(), Some((0, None)));
        assert_eq!(read(r#"{"from":{}}"#).ok(), Some((0, None)));
        for bad in
            [r#"{"from":[]}"#, r#"{"from":null}"#, r#"{"from":{},"to":[]}"#, r#"{"from":{},"to":[3]}"#, "{}"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
