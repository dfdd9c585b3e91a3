//! A registered endpoint of an app.

use super::{AppId, ClientId, Invalid};
use longwire_proto::limit::{ATTRIBUTE_NAME_BYTES_MAX, DEVICE_NAME_BYTES_MAX, LABEL_BYTES_MAX};
use std::sync::Arc;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $max:expr, $apart:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub struct $name(Arc<str>);

        impl $name {
            /// # Errors
            /// Empty, over-long, or with a character outside the allowed ones.
            pub fn parse(field: &str, text: &str) -> Result<$name, Invalid> {
                check(field, text, $max, $apart)?;
                Ok($name(text.into()))
            }
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// A registration id: chosen by the app or issued; 1 to 128 bytes of UTF-8 without controls. An MQTT client that names
    /// itself may have `+`, `#` and `/` in it: then it is no topic level, and no rule with `%c` fits it. The API registers
    /// no such name ([`DeviceName::is_level`]).
    DeviceName, DEVICE_NAME_BYTES_MAX, &[]
);
name!(
    /// A name that maps to devices of an app; 1 to 64 bytes.
    Alias, LABEL_BYTES_MAX, APART
);
name!(
    /// A label on devices; 1 to 64 bytes.
    Tag, LABEL_BYTES_MAX, APART
);

/// What parts topics into levels, and stands for levels.
const APART: &[char] = &['+', '#', '/'];

impl DeviceName {
    /// Whether it can be a level of a topic.
    ///
    /// # Errors
    /// It has a character that means something there.
    pub fn is_level(&self, field: &str) -> Result<(), Invalid> {
        check(field, &self.0, DEVICE_NAME_BYTES_MAX, APART)
    }
}

fn check(field: &str, text: &str, bytes_max: usize, apart: &[char]) -> Result<(), Invalid> {
    let bad = |c: char| c.is_control() || c == '\u{feff}' || apart.contains(&c);
    if text.is_empty() || text.len() > bytes_max {
        return Err(Invalid::new(field, format!("must be 1 to {bytes_max} bytes, is {}", text.len())));
    }
    if text.chars().any(bad) {
        let problem = match apart {
            [] => "must not contain control characters",
            _ => "must not contain control characters, '+', '#' or '/'",
        };
        return Err(Invalid::new(field, problem));
    }
    Ok(())
}

/// Tags that one device may have.
pub const TAGS_PER_DEVICE_MAX: usize = 100;
/// Attributes that one device may have.
pub const ATTRIBUTES_PER_DEVICE_MAX: usize = 16;

name!(
    /// What an attribute says, as text; 1 to 64 bytes without controls.
    AttributeValue, LABEL_BYTES_MAX, &[]
);

/// The name of an attribute: a letter, then letters, digits and `_`; 1 to [`ATTRIBUTE_NAME_BYTES_MAX`] bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct AttributeName(Arc<str>);

impl AttributeName {
    /// # Errors
    /// Not such a word, or one that conditions use themselves (`in`, `tags`).
    pub fn parse(field: &str, text: &str) -> Result<AttributeName, Invalid> {
        let word = text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !word || text.len() > ATTRIBUTE_NAME_BYTES_MAX || matches!(text, "in" | "tags") {
            let problem = format!(
                "must be a letter, then letters, digits and _, at most {ATTRIBUTE_NAME_BYTES_MAX}, and not in or tags"
            );
            return Err(Invalid::new(field, problem));
        }
        Ok(AttributeName(text.into()))
    }
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An attribute of a device, for example `app_version` = `3.2.1`.
pub type Attribute = (AttributeName, AttributeValue);

/// What a registration asks for. A name that exists already is updated: given fields replace, `None` leaves.
#[derive(Clone, Debug, Default)]
pub struct Registration {
    /// Chosen name; `None` = one is issued.
    pub name: Option<DeviceName>,
    /// New alias; `None` leaves it.
    pub alias: Option<Alias>,
    /// New set of tags (≤ [`TAGS_PER_DEVICE_MAX`], sorted, without repeats); `None` leaves it.
    pub tags: Option<Vec<Tag>>,
    /// New set of attributes (≤ [`ATTRIBUTES_PER_DEVICE_MAX`], sorted by name, without repeats); `None` leaves it.
    pub attributes: Option<Vec<Attribute>>,
}

/// A device as the registry knows it, and as the store keeps it close for logins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Device {
    /// Its app.
    pub app: AppId,
    /// Its number.
    pub client: ClientId,
    /// Its registration id.
    pub name: DeviceName,
    /// Its alias.
    pub alias: Option<Alias>,
    /// Its tags, sorted.
    pub tags: Vec<Tag>,
    /// Its attributes, sorted by name.
    pub attributes: Vec<Attribute>,
    /// Tokens of a lower generation are revoked.
    pub generation: u32,
}
