//! A tenant: key, hashed secret, policies.

use super::topic::Rules;
use super::{AppSettings, HeartbeatPolicy, Invalid, LoginWays};
use longwire_proto::limit::APP_KEY_BYTES_MAX;
use std::fmt;
use std::sync::Arc;

/// An app's number inside this deployment; never leaves it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct AppId(pub u32);

/// An app's public key: 1 to [`APP_KEY_BYTES_MAX`] bytes of `[A-Za-z0-9._-]`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AppKey(Arc<str>);

impl AppKey {
    /// # Errors
    /// Empty, over-long, or with another character.
    pub fn parse(text: &str) -> Result<AppKey, Invalid> {
        let clean = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if text.is_empty() || text.len() > APP_KEY_BYTES_MAX || !clean {
            let problem = format!("must be 1 to {APP_KEY_BYTES_MAX} characters of A-Z a-z 0-9 . _ -");
            return Err(Invalid::new("app_key", problem));
        }
        Ok(AppKey(text.into()))
    }
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An app's secret as its owner holds it: 256 random bits in hexadecimal. Never stored, never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct AppSecret(String);

impl AppSecret {
    /// A new secret of 32 random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 32]) -> AppSecret {
        AppSecret(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }
    /// What a caller presented, whatever it is.
    #[must_use]
    pub fn presented(text: &str) -> AppSecret {
        AppSecret(text.to_owned())
    }
    /// The text, to be shown once.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
    /// What is stored. 256 random bits need no slow hash (THREATS, API keys).
    #[must_use]
    pub fn hash(&self) -> SecretHash {
        SecretHash(*blake3::hash(self.0.as_bytes()).as_bytes())
    }
}

impl fmt::Debug for AppSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AppSecret(***)")
    }
}

/// BLAKE3 of a secret.
#[derive(Clone, Copy, Debug)]
pub struct SecretHash(pub [u8; 32]);

impl SecretHash {
    /// Whether this is the hash of `secret`, in time that does not depend on where they differ.
    #[must_use]
    pub fn matches(&self, secret: &AppSecret) -> bool {
        // blake3::Hash compares in constant time.
        blake3::Hash::from_bytes(self.0) == blake3::Hash::from_bytes(secret.hash().0)
    }
}

/// What meets a login whose device is connected already (000-23; MQTT demands the first).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DuplicateLogin {
    /// The newer connection displaces the older.
    #[default]
    Takeover,
    /// The newer is refused while the older lives.
    Reject,
    /// One connection of each class (phone, pc, web, iot); a newer one displaces the older of its class.
    OnePerClass,
    /// Several, up to the node's bound; a newer one beyond it displaces the oldest.
    Many,
}

impl DuplicateLogin {
    /// Every policy.
    pub const ALL: [DuplicateLogin; 4] =
        [DuplicateLogin::Takeover, DuplicateLogin::Reject, DuplicateLogin::OnePerClass, DuplicateLogin::Many];

    /// # Errors
    /// Not one of the words.
    pub fn parse(text: &str) -> Result<DuplicateLogin, Invalid> {
        Self::ALL
            .into_iter()
            .find(|policy| policy.label() == text)
            .ok_or_else(|| Invalid::new("duplicate_login", "must be takeover, reject, one_per_class or many"))
    }

    /// Whether a device may have several connections.
    #[must_use]
    pub const fn allows_several(self) -> bool {
        matches!(self, DuplicateLogin::OnePerClass | DuplicateLogin::Many)
    }

    /// The word in configuration, API and registry.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            DuplicateLogin::Takeover => "takeover",
            DuplicateLogin::Reject => "reject",
            DuplicateLogin::OnePerClass => "one_per_class",
            DuplicateLogin::Many => "many",
        }
    }
}

/// An app as the server works with it.
#[derive(Clone, Debug)]
pub struct App {
    /// Its number.
    pub id: AppId,
    /// Its public key.
    pub key: AppKey,
    /// What its secret must hash to.
    pub secret_hash: SecretHash,
    /// Devices may register with the app key alone (an existing name is then refused).
    pub open_registration: bool,
    /// What meets a second login of a device; `None`: the node's default.
    pub duplicate_login: Option<DuplicateLogin>,
    /// Heartbeat and padding of its devices, as far as it says.
    pub heartbeat: HeartbeatPolicy,
    /// What its devices may do with topics.
    pub topic_rules: Arc<Rules>,
    /// How its MQTT clients may prove who they are beside device tokens.
    pub login_ways: Arc<LoginWays>,
    /// What else was set for it.
    pub settings: Arc<AppSettings>,
}
