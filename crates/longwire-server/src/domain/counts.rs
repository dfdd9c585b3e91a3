//! How deliveries end, and how many ended how.

/// Why a delivery was dropped. The label is the word in API, metrics and receipts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum DropReason {
    /// The device takes no packet so large.
    TooLarge = 0,
    /// The MQTT session that it waited for is over.
    SessionEnded = 1,
    /// The device has had as many messages as its app allows in a span of time.
    Frequency = 2,
    /// Online only, and the outbox was above its high mark.
    OutboxFull = 3,
    /// The device was removed.
    DeviceRemoved = 4,
    /// The stored record is damaged.
    Corrupt = 5,
}

impl DropReason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [DropReason; 6] = [
        DropReason::TooLarge,
        DropReason::SessionEnded,
        DropReason::Frequency,
        DropReason::OutboxFull,
        DropReason::DeviceRemoved,
        DropReason::Corrupt,
    ];

    /// The word for people and programs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            DropReason::TooLarge => "too_large",
            DropReason::SessionEnded => "session_ended",
            DropReason::Frequency => "frequency",
            DropReason::OutboxFull => "outbox_full",
            DropReason::DeviceRemoved => "device_removed",
            DropReason::Corrupt => "corrupt",
        }
    }
}

/// Dropped deliveries by reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dropped(pub [u64; DropReason::ALL.len()]);

impl Dropped {
    /// So many for one reason.
    #[must_use]
    pub fn of(reason: DropReason, count: u64) -> Dropped {
        let mut dropped = Dropped::default();
        dropped.add(reason, count);
        dropped
    }

    /// Adds to a reason.
    pub fn add(&mut self, reason: DropReason, count: u64) {
        self.0[reason as usize] += count;
    }

    /// All reasons together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// Deliveries by state, as the store recorded them. `created = delivered + expired + collapsed + recalled + dropped +
/// pending` holds for every message: for an addressed audience `created` is the number of targets; for a log message a
/// delivery is created together with its end, and those now in the windows of live connections are added by the hub.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Deliveries that exist.
    pub created: u64,
    /// The device said that it has the message.
    pub delivered: u64,
    /// Expired before that.
    pub expired: u64,
    /// Replaced before that by a newer one of the same collapse key, or one that names it.
    pub collapsed: u64,
    /// Recalled before that.
    pub recalled: u64,
    /// Dropped, by reason.
    pub dropped: Dropped,
    /// Devices that said that a person could see it. Not an end: a delivered message may be displayed too.
    pub displayed: u64,
    /// Devices that said that a person acted on it.
    pub clicked: u64,
    /// Devices that said that a person put it away.
    pub dismissed: u64,
}

impl Counts {
    /// Deliveries with an end.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.delivered + self.expired + self.collapsed + self.recalled + self.dropped.total()
    }

    /// Adds another's, state by state.
    pub fn absorb(&mut self, other: &Counts) {
        self.created += other.created;
        self.delivered += other.delivered;
        self.expired += other.expired;
        self.collapsed += other.collapsed;
        self.recalled += other.recalled;
        self.displayed += other.displayed;
        self.clicked += other.clicked;
        self.dismissed += other.dismissed;
        for (mine, theirs) in self.dropped.0.iter_mut().zip(other.dropped.0) {
            *mine += theirs;
        }
    }

    /// Deliveries without an end.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.created.saturating_sub(self.ended())
    }
}
