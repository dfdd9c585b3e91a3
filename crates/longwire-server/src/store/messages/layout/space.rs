//! The keyspaces of the message store.

use fjall::{Database, Keyspace, KeyspaceCreateOptions};

/// One keyspace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Space {
    /// Format version, incarnation, number of the last commit and of the last commit of each other space.
    Meta,
    /// Message → record.
    Messages,
    /// Message → shared part of its PUSH, stored once.
    Bodies,
    /// Message → counts.
    Counts,
    /// Device, position → reference or expired marker.
    Mailbox,
    /// Device → where it stands.
    Devices,
    /// Device → profile.
    Profiles,
    /// App, name → device.
    Names,
    /// App, alias, device → nothing.
    Aliases,
    /// App, position → message and its tags.
    Log,
    /// App, tag (empty = all), position → message.
    Index,
    /// App, tag (empty = all) → highest position that retention took away.
    Floors,
    /// App → last position of its log.
    Heads,
    /// Time, stage, message → nothing.
    Expiry,
    /// App, position → what a device sent to the business.
    Upstream,
    /// App → where what was sent to its business stands.
    UpstreamApps,
    /// Device → the ids of what it sent last.
    UpstreamIds,
    /// Device → its kept session.
    Sessions,
    /// Device → what its kept session subscribed to.
    Wishes,
    /// Device, packet identifier → nothing: a message of QoS 2 from it that awaits PUBREL.
    Unreleased,
    /// App, topic → the retained message.
    Retained,
}

/// How many there are.
pub(crate) const SPACE_COUNT: usize = 21;

/// All of them, in the order of their numbers; a new one goes to the end, so that older stores open.
pub(crate) const SPACES: [Space; SPACE_COUNT] = [
    Space::Meta,
    Space::Messages,
    Space::Bodies,
    Space::Counts,
    Space::Mailbox,
    Space::Devices,
    Space::Profiles,
    Space::Names,
    Space::Aliases,
    Space::Log,
    Space::Index,
    Space::Floors,
    Space::Heads,
    Space::Expiry,
    Space::Upstream,
    Space::UpstreamApps,
    Space::UpstreamIds,
    Space::Sessions,
    Space::Wishes,
    Space::Unreleased,
    Space::Retained,
];

const MIB: u64 = 1024 * 1024;

impl Space {
    /// Its name in the engine.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Space::Meta => "meta",
            Space::Messages => "messages",
            Space::Bodies => "bodies",
            Space::Counts => "counts",
            Space::Mailbox => "mailbox",
            Space::Devices => "devices",
            Space::Profiles => "profiles",
            Space::Names => "names",
            Space::Aliases => "aliases",
            Space::Log => "log",
            Space::Index => "index",
            Space::Floors => "floors",
            Space::Heads => "heads",
            Space::Expiry => "expiry",
            Space::Upstream => "upstream",
            Space::UpstreamApps => "upstream_apps",
            Space::UpstreamIds => "upstream_ids",
            Space::Sessions => "sessions",
            Space::Wishes => "wishes",
            Space::Unreleased => "unreleased",
            Space::Retained => "retained",
        }
    }

    /// What it may buffer in memory before it goes to a table, bytes. The sum is 148 MiB; up to three more buffers of
    /// a space may wait to be written, then commits wait.
    fn memtable_bytes(self) -> u64 {
        match self {
            Space::Messages | Space::Bodies | Space::Mailbox | Space::Devices => 16 * MIB,
            Space::Counts | Space::Expiry | Space::Upstream | Space::UpstreamIds => 8 * MIB,
            _ => 4 * MIB,
        }
    }
}

/// The keyspaces, open.
pub(crate) struct Keyspaces([Keyspace; SPACE_COUNT]);

impl Keyspaces {
    /// Opens or makes all of them.
    pub(crate) fn open(database: &Database) -> fjall::Result<Keyspaces> {
        let mut open = Vec::with_capacity(SPACE_COUNT);
        for space in SPACES {
            let options = || KeyspaceCreateOptions::default().max_memtable_size(space.memtable_bytes());
            open.push(database.keyspace(space.name(), options)?);
        }
        match open.try_into() {
            Ok(open) => Ok(Keyspaces(open)),
            Err(_) => Err(fjall::Error::Unrecoverable),
        }
    }

    /// One of them.
    pub(crate) fn of(&self, space: Space) -> &Keyspace {
        &self.0[space as usize]
    }
}
