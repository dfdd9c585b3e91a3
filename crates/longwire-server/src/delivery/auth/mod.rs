//! Who an MQTT client is, from what it presents.
//!
//! - `way`: which of the ways in a client takes; what needs memory only is decided there.
//! - `enrolment`: devices that name themselves, registered in batches by their first login.

mod enrolment;
mod way;

pub(super) use enrolment::{Enrolment, LISTS_WAITING_MAX, run as enrol_waiting};
pub(super) use way::{Way, name_of, way};

use crate::domain::AppKey;
use crate::domain::topic::Rules;
use std::sync::Arc;

/// How clients may log in, as far as the node decides it.
#[derive(Clone, Debug)]
pub struct AuthOptions {
    /// The app that clients without credentials join; `None`: they are refused.
    pub anonymous: Option<AppKey>,
    /// Devices that an app may have which registered themselves; beyond it `device_quota`.
    pub automatic_devices_max: u64,
    /// Seconds that a session outlives its connection if its client leaves it to us.
    pub session_expiry_default_s: u32,
    /// Seconds that a session outlives its connection at most.
    pub session_expiry_max_s: u32,
}

/// See [`AuthOptions::automatic_devices_max`].
pub const AUTOMATIC_DEVICES_MAX: u64 = 1_000_000;
/// See [`AuthOptions::session_expiry_default_s`]: a day (LIMITS 7.1).
pub const SESSION_EXPIRY_DEFAULT_S: u32 = 86_400;
/// See [`AuthOptions::session_expiry_max_s`]: 28 days (LIMITS 7.1).
pub const SESSION_EXPIRY_MAX_S: u32 = 28 * 86_400;

impl Default for AuthOptions {
    fn default() -> AuthOptions {
        AuthOptions {
            anonymous: None,
            automatic_devices_max: AUTOMATIC_DEVICES_MAX,
            session_expiry_default_s: SESSION_EXPIRY_DEFAULT_S,
            session_expiry_max_s: SESSION_EXPIRY_MAX_S,
        }
    }
}

/// What logins are judged by.
pub(super) struct Auth {
    pub(super) options: AuthOptions,
    pub(super) enrolment: Enrolment,
    /// Of clients without credentials.
    pub(super) open_rules: Arc<Rules>,
}

impl Auth {
    pub(super) fn new(options: AuthOptions, enrolment: Enrolment) -> Auth {
        Auth { options, enrolment, open_rules: Arc::new(Rules::open()) }
    }

    /// What is granted of a session expiry: `u32::MAX` leaves it to us.
    pub(super) fn expiry_s(&self, wanted_s: u32) -> u32 {
        let AuthOptions { session_expiry_default_s, session_expiry_max_s, .. } = self.options;
        let wanted_s = if wanted_s == u32::MAX { session_expiry_default_s } else { wanted_s };
        wanted_s.min(session_expiry_max_s)
    }
}
