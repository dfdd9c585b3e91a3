//! The ids that cross the wire. Each is a newtype, so that a position is never taken for a client id.

use std::fmt;

/// A device's number, issued at registration, carried in bytes 8–15 of every native frame that it sends
/// (requirement 004-10). 0 means "not logged in yet".
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct ClientId(pub u64);

/// A message's 128-bit id: time-ordered (UUID version 7), made by the node that accepted the message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct MessageId(pub u128);

/// A W3C trace id (Trace Context, section 3.2.2.3). 0 means "none".
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct TraceId(pub u128);

/// A place in a [`Source`]: the upper 16 bits are the incarnation of the store, the lower 48 a sequence
/// number from 1. Compared as one number, so a rewound store never repeats a position. 0 means "before the first".
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Position(pub u64);

impl Position {
    /// Before the first message of a source; also the position of a delivery that is not stored.
    pub const START: Position = Position(0);
    /// The position of `sequence` (below 2^48) under `incarnation`.
    #[must_use]
    pub const fn new(incarnation: u16, sequence: u64) -> Position {
        Position(((incarnation as u64) << 48) | (sequence & 0xFFFF_FFFF_FFFF))
    }
    /// Which incarnation of the store gave this position.
    #[must_use]
    pub const fn incarnation(self) -> u16 {
        (self.0 >> 48) as u16
    }
    /// The sequence number inside the incarnation.
    #[must_use]
    pub const fn sequence(self) -> u64 {
        self.0 & 0xFFFF_FFFF_FFFF
    }
    /// The position right after this one in the same incarnation.
    #[must_use]
    pub const fn next(self) -> Position {
        Position(self.0 + 1)
    }
}

/// Where a delivery's position counts. Order is promised within a source.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Source {
    /// The device's own mailbox (addressed audiences).
    Mailbox = 1,
    /// The log of the device's app (`all` and tags).
    AppLog = 2,
}

/// What a message is for the device (requirement 002-04).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Shown to a person: a JSON object with `title`, `body` and the like.
    Notification = 1,
    /// UTF-8 text for the application.
    Text = 2,
    /// Opaque bytes for the application.
    Custom = 3,
    /// Published to a topic; the payload is a [`TopicBody`](crate::wire::TopicBody).
    Topic = 4,
    /// An earlier message is recalled: its id is the payload, 16 bytes.
    Recall = 5,
}

impl Source {
    /// The source of a code on the wire or in the store; `None` if it is none.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Source> {
        match code {
            1 => Some(Source::Mailbox),
            2 => Some(Source::AppLog),
            _ => None,
        }
    }
}

impl Kind {
    /// The kind of a code on the wire or in the store; `None` if it is none.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Kind> {
        match code {
            1 => Some(Kind::Notification),
            2 => Some(Kind::Text),
            3 => Some(Kind::Custom),
            4 => Some(Kind::Topic),
            5 => Some(Kind::Recall),
            _ => None,
        }
    }
}

macro_rules! hex_id {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:032x})"), self.0)
            }
        }
        impl $name {
            /// Reads the 32 hexadecimal digits that `Display` writes; `None` for anything else.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
                if digits { u128::from_str_radix(text, 16).ok().map(Self) } else { None }
            }
        }
    };
}
hex_id!(MessageId);
hex_id!(TraceId);
