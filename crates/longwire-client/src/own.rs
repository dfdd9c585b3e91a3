//! What a device changes of itself, where its app lets it.

use longwire_proto::limit::{ATTRIBUTE_NAME_BYTES_MAX, LABEL_BYTES_MAX};
use longwire_proto::wire::SelfService;

/// A change of the device itself; give it to [`Device::change`](crate::Device::change). Asking for one again changes nothing more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OwnChange {
    /// Its alias is this one from now on.
    Bind(String),
    /// Its alias is none from now on, if it was this one.
    Unbind(String),
    /// It has this tag from now on.
    AddTag(String),
    /// It has this tag no more.
    RemoveTag(String),
    /// This attribute says this from now on.
    SetAttribute {
        /// A letter, then letters, digits and `_`.
        name: String,
        /// What it says.
        value: String,
    },
    /// It has this attribute no more.
    RemoveAttribute(String),
}

/// Why a change was not asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OwnError {
    /// A text that no server takes.
    #[error(
        "an alias, a tag and the value of an attribute have 1 to {LABEL_BYTES_MAX} bytes, the name of an attribute 1 to {ATTRIBUTE_NAME_BYTES_MAX}, without control characters"
    )]
    Text,
    /// The device has ended.
    #[error("the device has ended")]
    Ended,
}

impl OwnChange {
    pub(crate) fn check(&self) -> Result<(), OwnError> {
        let fits = |text: &str, bytes_max: usize| {
            !text.is_empty() && text.len() <= bytes_max && !text.contains(char::is_control)
        };
        let good = match self {
            OwnChange::Bind(text)
            | OwnChange::Unbind(text)
            | OwnChange::AddTag(text)
            | OwnChange::RemoveTag(text) => fits(text, LABEL_BYTES_MAX),
            OwnChange::SetAttribute { name, value } => {
                fits(name, ATTRIBUTE_NAME_BYTES_MAX) && fits(value, LABEL_BYTES_MAX)
            }
            OwnChange::RemoveAttribute(name) => fits(name, ATTRIBUTE_NAME_BYTES_MAX),
        };
        if good { Ok(()) } else { Err(OwnError::Text) }
    }

    pub(crate) fn frame(&self) -> SelfService<'_> {
        match self {
            OwnChange::Bind(alias) => SelfService::Bind(alias),
            OwnChange::Unbind(alias) => SelfService::Unbind(alias),
            OwnChange::AddTag(tag) => SelfService::TagAdd(tag),
            OwnChange::RemoveTag(tag) => SelfService::TagRemove(tag),
            OwnChange::SetAttribute { name, value } => SelfService::AttributeSet { name, value },
            OwnChange::RemoveAttribute(name) => SelfService::AttributeRemove(name),
        }
    }
}
