//! What may be changed of a device that is registered.

use super::device::{
    ATTRIBUTES_PER_DEVICE_MAX, Attribute, AttributeName, AttributeValue, TAGS_PER_DEVICE_MAX,
};
use super::{Alias, Device, Invalid, Tag};
use std::collections::BTreeMap;

/// What becomes of a device's alias.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum AliasChange {
    /// It stays.
    #[default]
    Keep,
    /// It is this one from now on.
    Bind(Alias),
    /// It is none from now on if it was this one; another stays.
    Unbind(Alias),
    /// It is none from now on.
    Clear,
}

/// A change of one device. Repeating it changes nothing more, save for `revoke`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeviceChange {
    /// Tags that it has from now on.
    pub tags_add: Vec<Tag>,
    /// Tags that it has no more; none of `tags_add`.
    pub tags_remove: Vec<Tag>,
    /// Its alias.
    pub alias: AliasChange,
    /// Attributes that it has from now on, with these values; each name once.
    pub attributes_set: Vec<Attribute>,
    /// Attributes that it has no more; none of `attributes_set`.
    pub attributes_remove: Vec<AttributeName>,
    /// Tokens that were signed so far are good no more.
    pub revoke: bool,
}

/// Why a device was not changed; nothing of the change was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChangeRefused {
    /// There is no such device.
    #[error("no such device")]
    Unknown,
    /// It would have so many tags.
    #[error("tags: at most {TAGS_PER_DEVICE_MAX} for a device, it would have {0}")]
    TooManyTags(usize),
    /// It would have so many attributes.
    #[error("attributes: at most {ATTRIBUTES_PER_DEVICE_MAX} for a device, it would have {0}")]
    TooManyAttributes(usize),
}

impl DeviceChange {
    /// The device as it is after the change; [`ChangeRefused::Unknown`] is not this function's.
    ///
    /// # Errors
    /// It would have more than a device may.
    pub fn apply(&self, before: &Device) -> Result<Device, ChangeRefused> {
        let mut device = before.clone();
        device.tags.retain(|tag| !self.tags_remove.contains(tag));
        device.tags.extend(self.tags_add.iter().cloned());
        device.tags.sort();
        device.tags.dedup();
        if device.tags.len() > TAGS_PER_DEVICE_MAX {
            return Err(ChangeRefused::TooManyTags(device.tags.len()));
        }
        let names = |name: &AttributeName| {
            self.attributes_remove.contains(name) || self.attributes_set.iter().any(|(set, _)| set == name)
        };
        device.attributes.retain(|(name, _)| !names(name));
        device.attributes.extend(self.attributes_set.iter().cloned());
        device.attributes.sort();
        if device.attributes.len() > ATTRIBUTES_PER_DEVICE_MAX {
            return Err(ChangeRefused::TooManyAttributes(device.attributes.len()));
        }
        match &self.alias {
            AliasChange::Keep => {}
            AliasChange::Bind(alias) => device.alias = Some(alias.clone()),
            AliasChange::Unbind(alias) if device.alias.as_ref() != Some(alias) => {}
            AliasChange::Unbind(_) | AliasChange::Clear => device.alias = None,
        }
        if self.revoke {
            device.generation = device.generation.saturating_add(1);
        }
        Ok(device)
    }
}

/// Tags out of texts, sorted, without repeats.
///
/// # Errors
/// More than a device may have, or one that is none; names the field.
pub fn tags(field: &str, texts: &[String]) -> Result<Vec<Tag>, Invalid> {
    bounded(field, texts.len(), TAGS_PER_DEVICE_MAX)?;
    let parse = |(at, text): (usize, &String)| Tag::parse(&format!("{field}[{at}]"), text);
    let mut tags = texts.iter().enumerate().map(parse).collect::<Result<Vec<Tag>, Invalid>>()?;
    tags.sort();
    tags.dedup();
    Ok(tags)
}

/// Attributes out of texts, sorted by name.
///
/// # Errors
/// More than a device may have, or one that is none; names the field.
pub fn attributes(field: &str, texts: &BTreeMap<String, String>) -> Result<Vec<Attribute>, Invalid> {
    bounded(field, texts.len(), ATTRIBUTES_PER_DEVICE_MAX)?;
    let parse = |(name, value): (&String, &String)| {
        let at = AttributeName::parse(field, name)?;
        let value = AttributeValue::parse(&format!("{field}.{name}"), value)?;
        Ok((at, value))
    };
    texts.iter().map(parse).collect()
}

/// Names of attributes out of texts.
///
/// # Errors
/// More than a device may have, or one that is none; names the field.
pub fn attribute_names(field: &str, texts: &[String]) -> Result<Vec<AttributeName>, Invalid> {
    bounded(field, texts.len(), ATTRIBUTES_PER_DEVICE_MAX)?;
    let parse = |(at, text): (usize, &String)| AttributeName::parse(&format!("{field}[{at}]"), text);
    texts.iter().enumerate().map(parse).collect()
}

fn bounded(field: &str, count: usize, max: usize) -> Result<(), Invalid> {
    if count > max { Err(Invalid::new(field, format!("at most {max}, are {count}"))) } else { Ok(()) }
}

/// That what is to be added is not to be removed as well.
///
/// # Errors
/// Something is in both.
pub fn apart<T: PartialEq>(field: &str, add: &[T], remove: &[T]) -> Result<(), Invalid> {
    match add.iter().any(|one| remove.contains(one)) {
        true => Err(Invalid::new(field, "the same one is to be added and to be removed")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::domain::{AppId, ClientId, DeviceName};

    fn device() -> Device {
        Device {
            app: AppId(1),
            client: ClientId(1),
            name: DeviceName::parse("name", "d").unwrap(),
            alias: Some(Alias::parse("alias", "a").unwrap()),
            tags: tags("tags", &["x".into(), "y".into()]).unwrap(),
            attributes: attributes("attributes", &[("v".into(), "1".into())].into()).unwrap(),
            generation: 3,
        }
    }

    #[test]
    fn a_change_is_made_whole_and_once() {
        let change = DeviceChange {
            tags_add: tags("add", &["x".into(), "a".into()]).unwrap(),
            tags_remove: tags("remove", &["y".into(), "z".into()]).unwrap(),
            alias: AliasChange::Unbind(Alias::parse("alias", "a").unwrap()),
            attributes_set: attributes("set", &[("v".into(), "2".into())].into()).unwrap(),
            attributes_remove: attribute_names("remove", &["w".into()]).unwrap(),
            revoke: false,
        };
        let after = change.apply(&device()).unwrap();
        assert_eq!(after.tags, tags("tags", &["a".into(), "x".into()]).unwrap());
        assert_eq!((after.alias.clone(), after.generation), (None, 3));
        assert_eq!(after.attributes, change.attributes_set);
        assert_eq!(change.apply(&after).unwrap(), after);
    }

    #[test]
    fn another_alias_stays_and_a_revocation_raises_the_generation() {
        let other = AliasChange::Unbind(Alias::parse("alias", "b").unwrap());
        let change = DeviceChange { alias: other, revoke: true, ..DeviceChange::default() };
        let after = change.apply(&device()).unwrap();
        assert_eq!((after.alias, after.generation), (device().alias, 4));
    }

    #[test]
    fn what_is_more_than_a_device_may_have_is_refused() {
        let texts: Vec<String> = (0..99).map(|number| format!("t{number}")).collect();
        let change = DeviceChange { tags_add: tags("add", &texts).unwrap(), ..DeviceChange::default() };
        assert_eq!(change.apply(&device()), Err(ChangeRefused::TooManyTags(101)));
        let texts = (0..16).map(|number| (format!("n{number}"), String::from("1"))).collect();
        let set = attributes("set", &texts).unwrap();
        let change = DeviceChange { attributes_set: set, ..DeviceChange::default() };
        assert_eq!(change.apply(&device()), Err(ChangeRefused::TooManyAttributes(17)));
        assert!(attributes("set", &[("1v".into(), "1".into())].into()).is_err());
        assert!(attributes("set", &[("v".into(), String::new())].into()).is_err());
    }
}
