//! How much an app may have and do.

use serde::{Deserialize, Serialize};

/// The quotas of one app. What is `None` is as the node is configured; 0 is without a limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Quotas {
    /// Logged-in connections at once.
    pub connections: Option<u64>,
    /// Requests to the API per second.
    pub requests_per_s: Option<u64>,
    /// Messages pushed or published by the API per second.
    pub messages_per_s: Option<u64>,
    /// Messages for all, or by tags and conditions, per minute.
    pub broadcasts_per_min: Option<u64>,
    /// Registered devices.
    pub devices: Option<u64>,
    /// Bytes of messages that are stored, each message once.
    pub stored_bytes: Option<u64>,
}

/// The quotas that hold; 0: without a limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// See [`Quotas::connections`].
    pub connections: u64,
    /// See [`Quotas::requests_per_s`].
    pub requests_per_s: u64,
    /// See [`Quotas::messages_per_s`].
    pub messages_per_s: u64,
    /// See [`Quotas::broadcasts_per_min`].
    pub broadcasts_per_min: u64,
    /// See [`Quotas::devices`].
    pub devices: u64,
    /// See [`Quotas::stored_bytes`].
    pub stored_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 1_000_000,
            requests_per_s: 1000,
            messages_per_s: 10_000,
            broadcasts_per_min: 600,
            devices: 10_000_000,
            stored_bytes: 1 << 30,
        }
    }
}

impl Limits {
    /// No limits.
    pub const NONE: Limits = Limits {
        connections: 0,
        requests_per_s: 0,
        messages_per_s: 0,
        broadcasts_per_min: 0,
        devices: 0,
        stored_bytes: 0,
    };

    /// What holds for an app with these quotas.
    #[must_use]
    pub fn of(self, quotas: &Quotas) -> Limits {
        Limits {
            connections: quotas.connections.unwrap_or(self.connections),
            requests_per_s: quotas.requests_per_s.unwrap_or(self.requests_per_s),
            messages_per_s: quotas.messages_per_s.unwrap_or(self.messages_per_s),
            broadcasts_per_min: quotas.broadcasts_per_min.unwrap_or(self.broadcasts_per_min),
            devices: quotas.devices.unwrap_or(self.devices),
            stored_bytes: quotas.stored_bytes.unwrap_or(self.stored_bytes),
        }
    }
}
