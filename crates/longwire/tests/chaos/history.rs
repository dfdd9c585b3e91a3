//! What the test side did and saw, line by line, on one monotonic clock. Nothing in it is taken from the server's word
//! but the counts at the end, which are evidence to be checked.

use longwire_proto::id::{MessageId, Position, Source};
use std::sync::Mutex;
use std::time::Instant;

/// One registered device, by its place in the [`Fleet`].
pub type DeviceNo = u32;
/// One request to push.
pub type PushNo = u64;
/// One login, unique over the whole run.
pub type SessionNo = u64;

/// Whom a push was for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Audience {
    /// One device.
    Device(DeviceNo),
    /// All devices with this tag.
    Tag(u32),
    /// All devices with the first tag and without the second.
    TagWithout(u32, u32),
    /// All devices.
    All,
}

impl Audience {
    /// Where its deliveries have their positions.
    pub fn source(self) -> Source {
        match self {
            Audience::Device(_) => Source::Mailbox,
            Audience::Tag(_) | Audience::TagWithout(..) | Audience::All => Source::AppLog,
        }
    }
}

/// The devices of a run and their tags, which do not change in it.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// The tags of each device.
    pub tags: Vec<Vec<u32>>,
}

impl Fleet {
    /// Whether a push for `audience` is for `device`.
    pub fn is_for(&self, audience: Audience, device: DeviceNo) -> bool {
        match audience {
            Audience::Device(only) => only == device,
            Audience::Tag(tag) => self.has(device, tag),
            Audience::TagWithout(with, without) => self.has(device, with) && !self.has(device, without),
            Audience::All => (device as usize) < self.tags.len(),
        }
    }
    fn has(&self, device: DeviceNo, tag: u32) -> bool {
        self.tags.get(device as usize).is_some_and(|tags| tags.contains(&tag))
    }
    /// Every device that a push for `audience` is for.
    pub fn members(&self, audience: Audience) -> impl Iterator<Item = DeviceNo> + '_ {
        (0..self.tags.len() as DeviceNo).filter(move |device| self.is_for(audience, *device))
    }
}

/// A delivery's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Where the positions count.
    pub source: Source,
    /// Its position.
    pub position: Position,
    /// The position of the delivery before it.
    pub previous: Position,
}

/// The server's record of a message at the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Deliveries that exist.
    pub created: u64,
    /// The device acked.
    pub delivered: u64,
    /// Expired first.
    pub expired: u64,
    /// Replaced by a newer one of its key first.
    pub collapsed: u64,
    /// Recalled first.
    pub recalled: u64,
    /// Dropped for a recorded reason.
    pub dropped: u64,
    /// Without an end.
    pub pending: u64,
}

impl Counts {
    /// Deliveries that ended without the device.
    pub fn ended_without(&self) -> u64 {
        self.expired + self.collapsed + self.recalled + self.dropped
    }
    /// Whether every delivery has an end or has none.
    pub fn balance(&self) -> bool {
        self.created == self.delivered + self.ended_without() + self.pending
    }
    /// Of several messages together.
    pub fn add(&mut self, other: &Counts) {
        self.created += other.created;
        self.delivered += other.delivered;
        self.expired += other.expired;
        self.collapsed += other.collapsed;
        self.recalled += other.recalled;
        self.dropped += other.dropped;
        self.pending += other.pending;
    }
}

/// Why a device was told that something is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// Its ttl was over.
    Expired,
    /// A newer one of its key replaced it.
    Collapsed,
    /// It was recalled.
    Recalled,
    /// Anything else.
    Other,
}

/// How a push is asked for beside whom it is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Asked {
    /// Its collapse key.
    pub key: Option<u32>,
    /// The caller's key (`cid`).
    pub once: Option<u64>,
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A push is about to be asked for.
    Invoked { push: PushNo, audience: Audience, ttl_us: u64, hash: u64, asked: Asked },
    /// It got a 202.
    Accepted { push: PushNo, message: MessageId },
    /// It is not for now: it got a 202, and will be a message later.
    Planned { push: PushNo },
    /// The message that it became, by the server's word when everything was quiet.
    Fired { push: PushNo, message: MessageId },
    /// It got a 4xx, 429 or 503, or failed for a recorded reason when it was due.
    Refused { push: PushNo, status: u16 },
    /// Connection lost, 500 or 504: accepted or not.
    Unknown { push: PushNo },
    /// A device is logged in.
    Login { device: DeviceNo, session: SessionNo },
    /// A device got a message.
    Received { device: DeviceNo, session: SessionNo, message: MessageId, place: Place, hash: u64 },
    /// A device was told what was left out.
    Gap { device: DeviceNo, session: SessionNo, message: MessageId, place: Place, count: u32, why: Why },
    /// A message is about to be recalled.
    Recalling { message: MessageId },
    /// It is.
    Recalled { message: MessageId },
    /// A device was told that a message that it has was recalled; by a message of its own.
    Told { device: DeviceNo, session: SessionNo, message: MessageId, place: Place, of: MessageId },
    /// A newer login of the device was answered; whether the older connection ended within its time.
    Displaced { device: DeviceNo, session: SessionNo, ended: bool },
    /// A device is about to ack.
    Acked { device: DeviceNo, session: SessionNo, message: MessageId },
    /// A device's connection is over.
    Closed { device: DeviceNo, session: SessionNo },
    /// The server's record, read when everything was quiet.
    Counted { message: MessageId, counts: Counts },
    /// The server's books of the app, read last, and the gap that it found in them itself.
    Books { counts: Counts, gap: u64 },
}

/// One line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line {
    /// Monotonic microseconds since the run began.
    pub at_us: u64,
    /// What happened.
    pub event: Event,
}

/// Takes lines from all threads of a run.
pub struct Recorder {
    since: Instant,
    lines: Mutex<Vec<Line>>,
}

impl Recorder {
    /// Starts the clock.
    pub fn new() -> Recorder {
        Recorder { since: Instant::now(), lines: Mutex::new(Vec::new()) }
    }
    /// Adds a line with the time of now. The clock is read under the lock, so lines are in the order of their times.
    pub fn add(&self, event: Event) {
        let mut lines = self.lines.lock().unwrap();
        lines.push(Line { at_us: self.since.elapsed().as_micros() as u64, event });
    }
    /// All lines so far.
    pub fn lines(&self) -> Vec<Line> {
        self.lines.lock().unwrap().clone()
    }
}

/// FNV-1a: tells payloads apart, nothing more.
pub fn hash(payload: &[u8]) -> u64 {
    payload
        .iter()
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3))
}
