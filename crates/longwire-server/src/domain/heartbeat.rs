//! Which heartbeat a device is assigned (C6): by its app's policy, or the node's.

use super::Invalid;
use longwire_proto::limit::HEARTBEAT_S_RANGE;
use std::fmt;

/// Interval of a phone, and of whatever comes over a cellular network, seconds: below the shortest release of an idle
/// mapping that the articles saw (000-25, 003-16).
pub const PHONE_S: u16 = 180;
/// Interval of a thing with mains power, seconds.
pub const MAINS_S: u16 = 60;
/// Interval of a thing that must last on a battery, seconds.
pub const LOW_POWER_S: u16 = 300;
/// Padding that is assigned where it is only said to be on, bytes at most.
pub const PADDING_BYTES_DEFAULT: u8 = 48;

/// What a device must be kept alive on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// A phone, or any device on a cellular network: a battery, and a mapping that the carrier forgets.
    Mobile,
    /// Anything else.
    Fixed,
}

/// A heartbeat profile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HeartbeatProfile {
    /// Phones and devices on cellular networks as [`HeartbeatProfile::Phone`], others the node's `heartbeat.default`.
    #[default]
    ByClass,
    /// [`MAINS_S`].
    Mains,
    /// [`PHONE_S`].
    Phone,
    /// [`LOW_POWER_S`].
    LowPower,
    /// So many seconds, within what the protocol allows.
    Seconds(u16),
}

impl HeartbeatProfile {
    /// From the word or number in configuration, API and registry.
    ///
    /// # Errors
    /// Neither a profile nor seconds within [`HEARTBEAT_S_RANGE`].
    pub fn parse(text: &str) -> Result<HeartbeatProfile, Invalid> {
        let named = [Self::ByClass, Self::Mains, Self::Phone, Self::LowPower]
            .into_iter()
            .find(|profile| profile.to_string() == text);
        let seconds = || {
            let seconds = text.parse().ok().filter(|seconds| HEARTBEAT_S_RANGE.contains(seconds))?;
            Some(Self::Seconds(seconds))
        };
        named.or_else(seconds).ok_or_else(|| {
            let (least, most) = (HEARTBEAT_S_RANGE.start(), HEARTBEAT_S_RANGE.end());
            let problem =
                format!("must be by_class, mains, phone, low_power, or {least} to {most} (seconds)");
            Invalid::new("heartbeat", problem)
        })
    }

    fn interval_s(self, reach: Reach, node_s: u16) -> u16 {
        match (self, reach) {
            (Self::ByClass, Reach::Mobile) | (Self::Phone, _) => PHONE_S,
            (Self::ByClass, Reach::Fixed) => node_s,
            (Self::Mains, _) => MAINS_S,
            (Self::LowPower, _) => LOW_POWER_S,
            (Self::Seconds(seconds), _) => seconds,
        }
    }
}

impl fmt::Display for HeartbeatProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByClass => f.write_str("by_class"),
            Self::Mains => f.write_str("mains"),
            Self::Phone => f.write_str("phone"),
            Self::LowPower => f.write_str("low_power"),
            Self::Seconds(seconds) => write!(f, "{seconds}"),
        }
    }
}

/// What an app says of its devices' heartbeats; what it leaves open is the node's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HeartbeatPolicy {
    /// The interval.
    pub profile: Option<HeartbeatProfile>,
    /// Padding of a PING, bytes at most; 0 = none (004-32).
    pub padding_max: Option<u8>,
}

/// What the node says where an app does not, and the range that holds for all.
#[derive(Clone, Copy, Debug)]
pub struct HeartbeatRules {
    /// The profile of apps that have none.
    pub profile: HeartbeatProfile,
    /// Interval of what is no phone and not on a cellular network, seconds.
    pub default_s: u16,
    /// Shortest interval, seconds.
    pub min_s: u16,
    /// Longest interval, seconds.
    pub max_s: u16,
    /// Padding in apps that say nothing of it, bytes at most; 0 = none.
    pub padding_max: u8,
}

impl Default for HeartbeatRules {
    fn default() -> Self {
        HeartbeatRules {
            profile: HeartbeatProfile::default(),
            default_s: 60,
            min_s: 15,
            max_s: 1200,
            padding_max: 0,
        }
    }
}

/// What a device is told at login.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AssignedHeartbeat {
    /// Its interval, seconds.
    pub interval_s: u16,
    /// Padding of its PINGs, bytes at most; 0 = none.
    pub padding_max: u8,
}

impl HeartbeatRules {
    /// The heartbeat of a device, within the node's range whatever its app says.
    #[must_use]
    pub fn assign(&self, app: HeartbeatPolicy, reach: Reach) -> AssignedHeartbeat {
        let asked_s = app.profile.unwrap_or(self.profile).interval_s(reach, self.default_s);
        AssignedHeartbeat {
            // Not `clamp`, which panics on a range that is upside down.
            interval_s: asked_s.min(self.max_s).max(self.min_s),
            padding_max: app.padding_max.unwrap_or(self.padding_max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_read_back_and_others_are_refused() {
        for text in ["by_class", "mains", "phone", "low_power", "5", "240", "1200"] {
            assert_eq!(HeartbeatProfile::parse(text).map(|profile| profile.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "Phone", "4", "1201", "-60", "65596", "60s", "6 0"] {
            assert!(HeartbeatProfile::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_app_decides_before_the_node_and_the_range_before_both() {
        let rules = HeartbeatRules { max_s: 240, padding_max: 10, ..HeartbeatRules::default() };
        let of =
            |profile, reach| rules.assign(HeartbeatPolicy { profile, padding_max: None }, reach).interval_s;
        assert_eq!((of(None, Reach::Mobile), of(None, Reach::Fixed)), (180, 60));
        assert_eq!(of(Some(HeartbeatProfile::Mains), Reach::Mobile), 60);
        assert_eq!(of(Some(HeartbeatProfile::LowPower), Reach::Fixed), 240);
        assert_eq!(of(Some(HeartbeatProfile::Seconds(5)), Reach::Fixed), 15);
        for (said, told) in [(None, 10), (Some(0), 0), (Some(48), 48)] {
            let app = HeartbeatPolicy { profile: None, padding_max: said };
            assert_eq!(rules.assign(app, Reach::Fixed).padding_max, told);
        }
    }
}
