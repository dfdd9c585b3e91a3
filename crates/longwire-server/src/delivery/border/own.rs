//! What devices change of themselves.

use super::Handle;
use super::topics::From;
use crate::domain::device::{AttributeName, AttributeValue};
use crate::domain::{Alias, AliasChange, DeviceChange, Invalid, Tag};
use bytes::Bytes;
use longwire_proto::wire::SelfService;

/// A change that a device asks for.
#[derive(Debug)]
pub struct OwnChange {
    /// The session.
    pub from: From,
    /// What is to be changed.
    pub wanted: OwnWanted,
    /// What it waits for.
    pub request: OwnRequest,
}

/// What is to be changed.
#[derive(Debug)]
pub enum OwnWanted {
    /// This; a text of it that is not allowed is the device's fault.
    Change(Result<DeviceChange, Invalid>),
    /// What the JSON says, not yet read.
    Json(OwnTopic, Bytes),
}

/// JSON that an MQTT client may publish of itself, bytes: all tags that a device may have, with room.
pub const OWN_JSON_BYTES_MAX: usize = 8192;

/// What an MQTT client changes of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OwnTopic {
    /// `$self/tags`
    Tags,
    /// `$self/alias`
    Alias,
    /// `$self/attributes`
    Attributes,
}

impl OwnTopic {
    /// What these topics begin with. No rule speaks of them, and nobody can subscribe to them.
    pub const FRONT: &str = "$self/";

    /// The one of a topic.
    #[must_use]
    pub fn of(topic: &str) -> Option<OwnTopic> {
        match topic.strip_prefix(OwnTopic::FRONT)? {
            "tags" => Some(OwnTopic::Tags),
            "alias" => Some(OwnTopic::Alias),
            "attributes" => Some(OwnTopic::Attributes),
            _ => None,
        }
    }
}

/// What a device waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OwnRequest {
    /// A RESULT with this number.
    Native(u32),
    /// The answer to the publish with this identifier; 0: none.
    Mqtt(u16),
}

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OwnOutcome {
    /// It is as asked: a broadcast that comes from now on meets the device as it is now.
    Done,
    /// The app does not allow it.
    NotAllowed,
    /// It will never be taken as it is.
    Invalid,
    /// The device would have more than it may.
    Quota,
    /// Too fast, or the registry or the store does not answer: again after a back-off.
    Busy,
}

/// The labels of the outcomes, in their order.
pub const OWN_LABELS: [&str; 5] = ["done", "not_allowed", "invalid", "quota", "busy"];

/// The answer to an [`OwnChange`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnAnswer {
    /// The connection.
    pub to: Handle,
    /// What it waits for.
    pub request: OwnRequest,
    /// What became of it.
    pub outcome: OwnOutcome,
}

/// The change that a frame asks for.
///
/// # Errors
/// A text that is no alias, tag or attribute; or it is about topics.
pub fn change_of(what: &SelfService<'_>) -> Result<DeviceChange, Invalid> {
    let attribute = |name: &str| AttributeName::parse("attribute", name);
    let nothing = DeviceChange::default;
    Ok(match what {
        SelfService::Bind(alias) => {
            DeviceChange { alias: AliasChange::Bind(Alias::parse("alias", alias)?), ..nothing() }
        }
        SelfService::Unbind(alias) => {
            DeviceChange { alias: AliasChange::Unbind(Alias::parse("alias", alias)?), ..nothing() }
        }
        SelfService::TagAdd(tag) => DeviceChange { tags_add: vec![Tag::parse("tag", tag)?], ..nothing() },
        SelfService::TagRemove(tag) => {
            DeviceChange { tags_remove: vec![Tag::parse("tag", tag)?], ..nothing() }
        }
        SelfService::AttributeSet { name, value } => {
            let set = (attribute(name)?, AttributeValue::parse("attribute", value)?);
            DeviceChange { attributes_set: vec![set], ..nothing() }
        }
        SelfService::AttributeRemove(name) => {
            DeviceChange { attributes_remove: vec![attribute(name)?], ..nothing() }
        }
        SelfService::Subscribe(_) | SelfService::Unsubscribe(_) => {
            return Err(Invalid::new("request", "is about topics"));
        }
    })
}
