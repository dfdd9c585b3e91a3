//! The ways in which connections of a churner end.

/// Quick endings, in turn: of so many cycles one is a takeover.
pub(crate) const QUICK: u64 = 7;

/// How a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// The device closes.
    Fin,
    /// The device resets.
    Reset,
    /// The device closes its half; the server closes the other.
    HalfClose,
    /// The device breaks the protocol; the server closes.
    BadFrame,
    /// Another connection of the same device takes over.
    Takeover,
    /// An operator disconnects the device.
    Kick,
    /// The device closes before it logs in.
    Early,
    /// The device never logs in; the server's deadline ends it.
    LoginTimeout,
    /// The device falls silent; the server's idle limit ends it.
    Idle,
}

impl Ending {
    /// Seven quick ones in turn, and now and then one that takes the server's time.
    pub(super) fn of(cycle: u64, timeouts: bool) -> Ending {
        match cycle {
            _ if timeouts && cycle % 2000 == 499 => Ending::Idle,
            _ if timeouts && cycle % 1000 == 250 => Ending::LoginTimeout,
            _ => match cycle % QUICK {
                0 => Ending::Fin,
                1 => Ending::Reset,
                2 => Ending::HalfClose,
                3 => Ending::BadFrame,
                4 => Ending::Takeover,
                5 => Ending::Kick,
                _ => Ending::Early,
            },
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Ending::Fin => "fin",
            Ending::Reset => "reset",
            Ending::HalfClose => "half_close",
            Ending::BadFrame => "bad_frame",
            Ending::Takeover => "takeover",
            Ending::Kick => "kick",
            Ending::Early => "early_fin",
            Ending::LoginTimeout => "login_timeout",
            Ending::Idle => "idle",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ending_has_its_turn_and_those_of_deadlines_only_when_wanted() {
        let words = |timeouts: bool| {
            (0..2000)
                .map(|cycle| Ending::of(cycle, timeouts).word())
                .collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!((words(true).len(), words(false).len()), (9, 7));
    }
}
