//! Who may ask: keys of apps with scopes, keys of operators with roles.

use super::{AppId, AppSecret, Invalid, SecretHash, WallMs};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Keys that one app may have, and those of all operators together; the next is refused.
pub const KEYS_MAX: usize = 100;
/// A key's name, bytes.
pub const KEY_NAME_BYTES_MAX: usize = 64;
/// When a key was last used is noted so often at most, milliseconds.
const USED_STEP_MS: u64 = 60_000;
/// What every key begins with, so that one is known where it should not be.
const KEY_FRONT: &str = "lwk_";

/// What a key of an app opens. An app's secret opens all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Pushing, publishing, recalling.
    Push,
    /// Reading what became of messages.
    MessagesRead,
    /// Devices: registering, reading, changing, disconnecting.
    Devices,
    /// Tags and aliases.
    Tags,
    /// Schedules.
    Schedules,
    /// Receipts, presence, webhooks.
    Receipts,
    /// What devices send.
    Upstream,
    /// The app itself: its keys, its quotas.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Scope; 8] = [
        Scope::Push,
        Scope::MessagesRead,
        Scope::Devices,
        Scope::Tags,
        Scope::Schedules,
        Scope::Receipts,
        Scope::Upstream,
        Scope::Admin,
    ];

    /// The word in API and registry.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Scope::Push => "push",
            Scope::MessagesRead => "messages:read",
            Scope::Devices => "devices",
            Scope::Tags => "tags",
            Scope::Schedules => "schedules",
            Scope::Receipts => "receipts",
            Scope::Upstream => "upstream",
            Scope::Admin => "admin",
        }
    }

    /// # Errors
    /// Not one of the words.
    pub fn parse(text: &str) -> Result<Scope, Invalid> {
        Self::ALL.into_iter().find(|scope| scope.label() == text).ok_or_else(|| {
            let words: Vec<&str> = Self::ALL.into_iter().map(Scope::label).collect();
            Invalid::new("scopes", format!("{text} is none of {}", words.join(", ")))
        })
    }
}

/// What an operator may do; each may what those before it may.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    /// Read.
    Viewer,
    /// Run the node: drain, reload, disable.
    Operator,
    /// Apps, keys, settings, people.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 3] = [Role::Viewer, Role::Operator, Role::Admin];

    /// The word in API and registry.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }

    /// # Errors
    /// Not one of the words.
    pub fn parse(text: &str) -> Result<Role, Invalid> {
        let role = Self::ALL.into_iter().find(|role| role.label() == text);
        role.ok_or_else(|| Invalid::new("role", "must be viewer, operator or admin"))
    }
}

/// Whose a key is, and what it opens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Grant {
    /// An app's, for these.
    App(AppId, Vec<Scope>),
    /// An operator's.
    Operator(Role),
}

impl Grant {
    /// The app; 0: an operator's.
    #[must_use]
    pub fn app(&self) -> AppId {
        match self {
            Grant::App(app, _) => *app,
            Grant::Operator(_) => AppId(0),
        }
    }

    /// Scopes or role as words with spaces between.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Grant::App(_, scopes) => scopes.iter().map(|scope| scope.label()).collect::<Vec<_>>().join(" "),
            Grant::Operator(role) => role.label().to_owned(),
        }
    }

    /// # Errors
    /// A word that is none.
    pub fn read(app: AppId, words: &str) -> Result<Grant, Invalid> {
        if app == AppId(0) {
            return Role::parse(words).map(Grant::Operator);
        }
        let scopes = words.split_whitespace().map(Scope::parse).collect::<Result<_, _>>()?;
        Ok(Grant::App(app, scopes))
    }
}

/// A key as the server works with it.
#[derive(Debug)]
pub struct ApiKey {
    /// Its public part, not 0.
    pub id: u64,
    /// What it is called.
    pub name: String,
    /// What the whole of it must hash to.
    pub hash: SecretHash,
    /// Whose it is and what it opens.
    pub grant: Grant,
    /// When it was made.
    pub created: WallMs,
    /// From then on it opens nothing.
    pub expires: Option<WallMs>,
    /// When it was last used, to the minute; 0: never.
    pub used: AtomicU64,
}

impl ApiKey {
    /// A new key's id and text from random bytes: the id is public, the rest is 256 random bits.
    #[must_use]
    pub fn text(id: [u8; 8], secret: [u8; 32]) -> (u64, AppSecret) {
        // SQL has no unsigned 64-bit numbers.
        let id = (u64::from_be_bytes(id) & (u64::MAX >> 1)).max(1);
        let secret = AppSecret::from_random(secret);
        (id, AppSecret::presented(&format!("{KEY_FRONT}{id:016x}_{}", secret.reveal())))
    }

    /// The id in what a caller presented, if it has a key's form.
    #[must_use]
    pub fn id_of(presented: &AppSecret) -> Option<u64> {
        let (id, secret) = presented.reveal().strip_prefix(KEY_FRONT)?.split_once('_')?;
        let hex = |text: &str, digits| {
            text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        (hex(id, 16) && hex(secret, 64)).then(|| u64::from_str_radix(id, 16).ok())?
    }

    /// Whether it opens anything now.
    #[must_use]
    pub fn is_valid(&self, now: WallMs) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }

    /// Notes a use. True: it is to be written down, at most once a minute.
    pub fn is_used(&self, now: WallMs) -> bool {
        let before = self.used.load(Relaxed);
        now.0 >= before.saturating_add(USED_STEP_MS)
            && self.used.compare_exchange(before, now.0, Relaxed, Relaxed).is_ok()
    }
}

/// # Errors
/// Empty, over-long, or with control characters.
pub fn parse_key_name(text: &str) -> Result<String, Invalid> {
    if text.is_empty() || text.len() > KEY_NAME_BYTES_MAX || text.chars().any(char::is_control) {
        let problem = format!("must be 1 to {KEY_NAME_BYTES_MAX} bytes without control characters");
        return Err(Invalid::new("name", problem));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_says_its_id_and_nothing_else_does() {
        let (id, text) = ApiKey::text([0xff; 8], [7; 32]);
        assert_eq!(ApiKey::id_of(&text), Some(id));
        for wrong in [
            "",
            "lwk_",
            "lwk_00_11",
            &"0".repeat(64),
            &text.reveal().to_uppercase(),
            &format!("{}0", text.reveal()),
        ] {
            assert_eq!(ApiKey::id_of(&AppSecret::presented(wrong)), None, "{wrong}");
        }
    }

    #[test]
    fn grants_are_read_as_they_are_written() {
        let grant = Grant::App(AppId(3), Scope::ALL.to_vec());
        assert_eq!(Grant::read(AppId(3), &grant.words()).unwrap(), grant);
        for role in Role::ALL {
            let grant = Grant::Operator(role);
            assert_eq!(Grant::read(AppId(0), &grant.words()).unwrap(), grant);
        }
        assert!(Grant::read(AppId(3), "push viewer").is_err() && Grant::read(AppId(0), "push").is_err());
    }
}
