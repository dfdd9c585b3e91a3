//! A push as callers write it, and how it becomes one of the domain.

use super::push_timing;
use crate::api::exchange::fault::Fault;
use crate::api::exchange::object::object_if_any;
use crate::domain::audience::condition::{DEPTH_MAX, NODES_MAX};
use crate::domain::audience::filter::PARTS;
use crate::domain::audience::{ADDRESSES_MAX, TAGS_IN_AUDIENCE_MAX};
use crate::domain::message::{LABEL_BYTES_MAX, MESSAGE_BYTES_MAX, NOTIFICATION_BYTES_MAX, Report};
use crate::domain::topic::TopicName;
use crate::domain::{
    Alias, Audience, Condition, Content, DeviceName, Filter, Invalid, Kind, MessageId, Priority, Push, Tag,
    TraceId, WallMs, schedule,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use longwire_proto::limit::COLLAPSE_KEY_BYTES_MAX;
use serde::de::{MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use utoipa::ToSchema;

/// A push: whom for, what, how. Exactly one of `notification` and `message`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct PushRequest {
    audience: AudienceField,
    #[serde(default, deserialize_with = "object_if_any")]
    notification: Option<Notification>,
    #[serde(default, deserialize_with = "object_if_any")]
    message: Option<Message>,
    #[serde(default, deserialize_with = "object_if_any")]
    options: Option<PushOptions>,
    /// The caller's key for this push, 1 to 64 bytes; also as header `Idempotency-Key`. Until 24 h after the message's ttl the same key
    /// with the same request is answered with what was answered first (`replayed`), and with another request it is refused.
    #[schema(min_length = 1, max_length = 64, example = "order-4711-paid")]
    pub(super) cid: Option<String>,
}

/// Whom a push is for: the word `all`, or an object.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum AudienceField {
    All(Everyone),
    Some(AudienceObject),
}

/// The word `all`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Everyone {
    All,
}

/// What is given is ANDed; at least one of them. A topic stands alone.
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"tag": ["v2", "beta"], "tag_not": ["muted"], "condition": "app_version < '3.2'"}))]
struct AudienceObject {
    /// These devices; one that does not exist is counted as unknown.
    #[schema(min_items = 1, max_items = 1000)]
    registration_id: Option<Vec<String>>,
    /// All devices with one of these aliases.
    #[schema(min_items = 1, max_items = 1000)]
    alias: Option<Vec<String>>,
    /// Devices with at least one of these tags.
    #[schema(min_items = 1, max_items = 20)]
    tag: Option<Vec<String>>,
    /// Devices with every one of these tags.
    #[schema(min_items = 1, max_items = 20)]
    tag_and: Option<Vec<String>>,
    /// Devices without any of these tags.
    #[schema(min_items = 1, max_items = 20)]
    tag_not: Option<Vec<String>>,
    /// An expression over tags and attributes: `'beta' in tags`, `app_version < '3.2'`, `country in ('de', 'fr')`, with `==`, `!=`,
    /// `<`, `<=`, `>`, `>=`, `&&`, `||`, `!` and parentheses. Together with the lists of tags at most 128 parts, 16 deep.
    #[schema(max_length = 1024, example = "'beta' in tags && app_version < '3.2'")]
    condition: Option<String>,
    /// Only devices that are connected now. Without registration ids and aliases the message is not stored: its ttl is 0.
    online_only: Option<bool>,
    /// So many of a hundred of the devices, by a hash of each: always the same ones, and those of a smaller sample are in a greater
    /// one. Above 0, in steps of 1/65,536.
    #[schema(exclusive_minimum = 0, maximum = 100, example = 2.5)]
    sample_percent: Option<f64>,
    /// Whoever subscribed to this topic: as a publish of QoS 1, of QoS 0 if the ttl is 0.
    #[schema(max_length = 256)]
    topic: Option<String>,
}

/// What a person sees; at most 4,096 bytes as compact JSON, which is what the device gets. At least one field.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Notification {
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    badge: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sound: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    click_action: Option<String>,
    /// An object for the application.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    extras: Option<Box<RawValue>>,
}

/// What an application gets, at most 10,240 bytes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Message {
    #[serde(default)]
    content_type: ContentType,
    /// `text`: a string. `json`: any value, sent as it is written. `binary`: a string in base64.
    #[schema(value_type = Value)]
    msg_content: Box<RawValue>,
    /// An object; with it, the device gets `{"msg_content":…,"extras":…}`. Not with `binary`.
    #[schema(value_type = Option<Object>)]
    extras: Option<Box<RawValue>>,
}

/// What `msg_content` is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ContentType {
    /// UTF-8 text.
    #[default]
    Text,
    /// JSON, which the device gets as text.
    Json,
    /// Opaque bytes.
    Binary,
}

/// How a push travels.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PushOptions {
    /// Seconds; 86,400 if not given; 0 = only to devices that are connected now, not stored; clipped to 30 days.
    time_to_live: Option<u64>,
    /// At most 64 bytes: the newest of a key replaces older ones on the device.
    #[schema(max_length = 64)]
    collapse_key: Option<String>,
    /// When it expires, RFC 3339 with an offset, rounded up to a second of life; at most 30 days ahead. Not with `time_to_live`.
    #[schema(format = DateTime, example = "2026-11-21T18:00:00+08:00")]
    expire_at: Option<String>,
    /// When it is to be pushed, RFC 3339 with an offset, in the future and within ten years: it becomes a schedule that fires once, and
    /// the answer has its `schedule_id` and no `msg_id`.
    #[schema(format = DateTime, example = "2026-11-21T12:00:00+08:00")]
    send_at: Option<String>,
    /// Spread over time: so many devices a second, about. Only for `all`, tags and conditions that are stored. Not with
    /// `big_push_duration`.
    #[schema(minimum = 1, maximum = 1_000_000, example = 500)]
    speed: Option<u32>,
    /// Spread over so many minutes.
    #[schema(minimum = 1, maximum = 1440, example = 30)]
    big_push_duration: Option<u32>,
    /// An earlier message of this app, 32 hexadecimal digits: devices of this push that do not have it get this one instead,
    /// those that have it replace it.
    #[schema(example = "0198f3a1b2c37d4e8f90a1b2c3d4e5f6")]
    override_msg_id: Option<String>,
    /// Receipts of this message, whatever the app's setting is, see `GET /v1/receipts`; not with a ttl of 0 or to a topic.
    #[serde(default)]
    callback: bool,
    /// The caller's own word for it, at most 64 bytes, in each of its receipts.
    #[schema(max_length = 64)]
    analytics_label: Option<String>,
    /// `high` overtakes what waits with `normal`, and no frequency cap holds it; `normal` if not given.
    #[schema(example = "high")]
    priority: Option<PriorityWord>,
    /// The same in the words of Web Push (RFC 8030, section 5.3): `high` is `high`, the others are `normal`. Not with another
    /// `priority`.
    urgency: Option<Urgency>,
    /// Everything is checked and answered, with status 200, and nothing is sent or stored.
    #[serde(default)]
    validate_only: bool,
}

/// How urgent, in the words of Web Push.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum Urgency {
    VeryLow,
    Low,
    Normal,
    High,
}

/// How urgent.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum PriorityWord {
    High,
    Normal,
}

/// Not derived: an untagged enum would answer "did not match any variant" and name no field.
impl<'de> Deserialize<'de> for AudienceField {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<AudienceField, D::Error> {
        struct Field;
        impl<'de> Visitor<'de> for Field {
            type Value = AudienceField;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"all\" or an object with registration_id, alias, tag, tag_and, tag_not, condition or topic")
            }
            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<AudienceField, E> {
                if word == "all" {
                    Ok(AudienceField::All(Everyone::All))
                } else {
                    Err(E::invalid_value(serde::de::Unexpected::Str(word), &self))
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AudienceField, A::Error> {
                AudienceObject::deserialize(MapAccessDeserializer::new(map)).map(AudienceField::Some)
            }
        }
        from.deserialize_any(Field)
    }
}

impl PushRequest {
    /// Whether it is only to be checked.
    pub(in crate::api) fn validates_only(&self) -> bool {
        self.options.as_ref().is_some_and(|options| options.validate_only)
    }

    /// The push that was meant.
    ///
    /// # Errors
    /// 400 naming the field, 413 for what is too long.
    pub(in crate::api) fn into_push(self, trace: TraceId, now: WallMs) -> Result<Push, Fault> {
        let audience = self.audience.into_audience()?;
        let content = match (self.notification, self.message) {
            (Some(notification), None) => notification.into_content()?,
            (None, Some(message)) => message.into_content()?,
            (None, None) => return Err(Fault::invalid("notification or message: one of them is needed")),
            (Some(_), Some(_)) => {
                return Err(Fault::invalid("notification, message: only one of them may be given"));
            }
        };
        let options = self.options.unwrap_or_default();
        let ttl = push_timing::ttl_s(options.time_to_live, options.expire_at.as_deref(), now)?;
        let spread = push_timing::spread(options.speed, options.big_push_duration)?;
        if spread.is_some() {
            push_timing::can_be_spread(&audience, ttl)?;
        }
        let priority = options.priority()?;
        let collapse_key = options.collapse_key.unwrap_or_default();
        if collapse_key.len() > COLLAPSE_KEY_BYTES_MAX || collapse_key.contains(char::is_control) {
            let problem = format!("at most {COLLAPSE_KEY_BYTES_MAX} bytes without control characters");
            return Err(Invalid::new("options.collapse_key", problem).into());
        }
        let replaces = options.override_msg_id.map(|id| {
            let problem = || Invalid::new("options.override_msg_id", "must be 32 hexadecimal digits");
            MessageId::parse(&id).ok_or_else(problem)
        });
        let replaces = replaces.transpose()?;
        if replaces.is_some() && audience.topic.is_some() {
            return Err(Invalid::new("options.override_msg_id", "not with a topic").into());
        }
        let label = options.analytics_label.unwrap_or_default();
        if label.len() > LABEL_BYTES_MAX || label.contains(char::is_control) {
            let problem = format!("at most {LABEL_BYTES_MAX} bytes without control characters");
            return Err(Invalid::new("options.analytics_label", problem).into());
        }
        let report = Report { callback: options.callback, label: label.into() };
        Ok(Push {
            audience,
            content,
            ttl_s: ttl,
            collapse_key,
            trace,
            priority,
            replaces,
            once: None,
            report,
            spread,
        })
    }
}

impl PushRequest {
    /// When it is to be pushed, if that is not now.
    ///
    /// # Errors
    /// Not a time.
    pub(in crate::api) fn send_at(&self) -> Result<Option<WallMs>, Fault> {
        let text = self.options.as_ref().and_then(|options| options.send_at.as_deref());
        text.map(|text| push_timing::instant("options.send_at", text)).transpose()
    }

    /// Whether its `expire_at` has passed.
    pub(in crate::api) fn has_expired(&self, now: WallMs) -> bool {
        let text = self.options.as_ref().and_then(|options| options.expire_at.as_deref());
        text.and_then(schedule::instant).is_some_and(|at| at <= now)
    }
}

impl PushOptions {
    fn priority(&self) -> Result<Priority, Fault> {
        let given = self.priority.map(|word| match word {
            PriorityWord::High => Priority::High,
            PriorityWord::Normal => Priority::Normal,
        });
        let meant = self.urgency.map(|word| match word {
            Urgency::High => Priority::High,
            Urgency::VeryLow | Urgency::Low | Urgency::Normal => Priority::Normal,
        });
        match (given, meant) {
            (Some(given), Some(meant)) if given != meant => {
                Err(Fault::invalid("options.urgency: says something else than options.priority"))
            }
            _ => Ok(given.or(meant).unwrap_or_default()),
        }
    }
}

impl AudienceField {
    fn into_audience(self) -> Result<Audience, Fault> {
        match self {
            AudienceField::All(Everyone::All) => Ok(Audience::all()),
            AudienceField::Some(object) => object.into_audience(),
        }
    }
}

impl AudienceObject {
    fn into_audience(self) -> Result<Audience, Fault> {
        let filters = self.tag.is_some()
            || self.tag_and.is_some()
            || self.tag_not.is_some()
            || self.condition.is_some()
            || self.sample_percent.is_some()
            || self.online_only == Some(true);
        let names = self.registration_id.is_some() || self.alias.is_some();
        if let Some(topic) = &self.topic {
            if names || filters {
                return Err(Fault::invalid("audience.topic: stands alone"));
            }
            return Ok(Audience::topic(TopicName::parse("audience.topic", topic)?));
        }
        if !names && !filters {
            let problem = "audience: at least one of registration_id, alias, tag, tag_and, tag_not, condition, sample_percent, topic, \
                           or online_only, is needed";
            return Err(Fault::invalid(problem));
        }
        let sample = self.sample_percent.map_or(Ok(PARTS), sample)?;
        let online_only = self.online_only.unwrap_or(false);
        let names = self.registration_id.as_ref();
        let names =
            names.map(|texts| list("audience.registration_id", texts, ADDRESSES_MAX, DeviceName::parse));
        let aliases = self.alias.as_ref();
        let aliases = aliases.map(|texts| list("audience.alias", texts, ADDRESSES_MAX, Alias::parse));
        let filter = Filter { sample, ..Filter::of(self.condition()?) };
        Ok(Audience {
            names: names.transpose()?,
            aliases: aliases.transpose()?,
            topic: None,
            filter,
            online_only,
        })
    }

    /// The lists of tags and the condition, together.
    fn condition(&self) -> Result<Condition, Fault> {
        let tags = |field, texts: &Option<Vec<String>>| {
            let tags = texts.as_ref().map(|texts| list(field, texts, TAGS_IN_AUDIENCE_MAX, Tag::parse));
            let mut tags = tags.transpose()?.unwrap_or_default();
            // The same audience is the same condition.
            tags.sort();
            Ok::<_, Fault>(tags)
        };
        let mut parts = Vec::new();
        let any = tags("audience.tag", &self.tag)?;
        if !any.is_empty() {
            parts.push(Condition::any_tag(any));
        }
        parts.extend(tags("audience.tag_and", &self.tag_and)?.into_iter().map(Condition::Tag));
        let none = tags("audience.tag_not", &self.tag_not)?;
        if !none.is_empty() {
            parts.push(Condition::Not(Box::new(Condition::any_tag(none))));
        }
        match self.condition.as_ref().map(|text| Condition::parse("audience.condition", text)).transpose()? {
            // Its parts are ANDed with the others, which costs no depth.
            Some(Condition::All(more)) if !parts.is_empty() => parts.extend(more),
            Some(condition) => parts.push(condition),
            None => {}
        }
        let condition = match parts.len() {
            0 => Condition::Everyone,
            1 => parts.remove(0),
            _ => Condition::All(parts),
        };
        if condition.nodes() > NODES_MAX || condition.depth() > DEPTH_MAX {
            let problem = format!(
                "audience: tags and condition are at most {NODES_MAX} parts, {DEPTH_MAX} deep; are {}, {} deep",
                condition.nodes(),
                condition.depth()
            );
            return Err(Fault::too_large(problem));
        }
        Ok(condition)
    }
}

/// So many parts of all devices; at least one.
fn sample(percent: f64) -> Result<u32, Invalid> {
    if !(percent > 0.0 && percent <= 100.0) {
        return Err(Invalid::new("audience.sample_percent", "must be above 0 and at most 100"));
    }
    Ok(((percent / 100.0 * f64::from(PARTS)).round() as u32).max(1))
}

/// A list of names, each parsed, without repeats, in the order given.
fn list<T: Clone + Eq + Hash>(
    field: &str,
    texts: &[String],
    max: usize,
    parse: impl Fn(&str, &str) -> Result<T, Invalid>,
) -> Result<Vec<T>, Fault> {
    if texts.is_empty() {
        return Err(Invalid::new(field, "must not be empty").into());
    }
    if texts.len() > max {
        return Err(Fault::too_large(format!("{field}: at most {max} entries, are {}", texts.len())));
    }
    let mut seen = HashSet::with_capacity(texts.len());
    let mut parsed = Vec::with_capacity(texts.len());
    for (at, text) in texts.iter().enumerate() {
        let one = parse(&format!("{field}[{at}]"), text)?;
        if seen.insert(one.clone()) {
            parsed.push(one);
        }
    }
    Ok(parsed)
}

impl Notification {
    fn into_content(self) -> Result<Content, Fault> {
        let empty = self.title.is_none()
            && self.body.is_none()
            && self.badge.is_none()
            && self.sound.is_none()
            && self.click_action.is_none()
            && self.extras.is_none();
        if empty {
            return Err(Fault::invalid("notification: at least one field is needed"));
        }
        object("notification.extras", self.extras.as_deref())?;
        let payload = serde_json::to_vec(&self).map_err(|fault| Fault::invalid(fault.to_string()))?;
        bounded("notification", payload.len(), NOTIFICATION_BYTES_MAX)?;
        Ok(Content { kind: Kind::Notification, payload: Bytes::from(payload) })
    }
}

impl Message {
    fn into_content(self) -> Result<Content, Fault> {
        object("message.extras", self.extras.as_deref())?;
        if self.content_type == ContentType::Binary && self.extras.is_some() {
            return Err(Fault::invalid("message.extras: not with binary content; put them into the bytes"));
        }
        let text = match self.content_type {
            ContentType::Json => None,
            ContentType::Text | ContentType::Binary => {
                let read = serde_json::from_str::<String>(self.msg_content.get());
                Some(read.map_err(|_| Fault::invalid("message.msg_content: must be a string"))?)
            }
        };
        let payload = match (text, &self.extras) {
            (Some(text), _) if self.content_type == ContentType::Binary => STANDARD
                .decode(text)
                .map_err(|fault| Fault::invalid(format!("message.msg_content: is not base64: {fault}")))?,
            (_, Some(extras)) => {
                format!("{{\"msg_content\":{},\"extras\":{}}}", self.msg_content.get(), extras.get())
                    .into_bytes()
            }
            (Some(text), None) => text.into_bytes(),
            (None, None) => self.msg_content.get().as_bytes().to_vec(),
        };
        bounded("message", payload.len(), MESSAGE_BYTES_MAX)?;
        let kind = if self.content_type == ContentType::Binary { Kind::Custom } else { Kind::Text };
        Ok(Content { kind, payload: Bytes::from(payload) })
    }
}

fn object(field: &str, raw: Option<&RawValue>) -> Result<(), Invalid> {
    match raw {
        Some(raw) if !raw.get().starts_with('{') => Err(Invalid::new(field, "must be an object")),
        _ => Ok(()),
    }
}

fn bounded(field: &str, bytes: usize, max: usize) -> Result<(), Fault> {
    if bytes > max {
        return Err(Fault::too_large(format!("{field}: at most {max} bytes as sent, are {bytes}")));
    }
    Ok(())
}

#[cfg(test)]
#[path = "push_request_tests.rs"]
mod tests;
