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
    /// App, position → whom the message there is for.
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
    /// App or device, filter, collapse key → the newest place of it.
    Collapse,
    /// App, caller's key → the message that it made.
    Once,
    /// App, schedule → what is to be pushed, and when.
    Schedules,
    /// Time, app, schedule → nothing: when each is due next.
    Due,
    /// Message → how far its spreading is.
    Spreads,
    /// Message, device → how its delivery ended, and what the device said of it.
    Stories,
    /// App, number → a receipt.
    Receipts,
    /// App, number → an event of presence.
    Presence,
    /// App, stream, what → where it stands: its head, its floor, the cursors of its sinks.
    Streams,
    /// App → deliveries by state, of all its messages; bytes of its bodies.
    Books,
    /// App, tag (empty = all) → devices that have it.
    TagCounts,
    /// Device or app, position → nothing: what may go ahead of its turn. App → the last such position of its log.
    Urgent,
    /// App, tag, device → nothing.
    TagMembers,
    /// Number → an act of an operator, chained to the one before.
    Audit,
}

/// How many there are.
pub(crate) const SPACE_COUNT: usize = 35;

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
    Space::Collapse,
    Space::Once,
    Space::Schedules,
    Space::Due,
    Space::Spreads,
    Space::Stories,
    Space::Receipts,
    Space::Presence,
    Space::Streams,
    Space::Books,
    Space::TagCounts,
    Space::Urgent,
    Space::TagMembers,
    Space::Audit,
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
            Space::Collapse => "collapse",
            Space::Once => "once",
            Space::Schedules => "schedules",
            Space::Due => "due",
            Space::Spreads => "spreads",
            Space::Stories => "stories",
            Space::Receipts => "receipts",
            Space::Presence => "presence",
            Space::Streams => "streams",
            Space::Books => "books",
            Space::TagCounts => "tag_counts",
            Space::Urgent => "urgent",
            Space::TagMembers => "tag_members",
            Space::Audit => "audit",
        }
    }

    /// What it may buffer in memory before it goes to a table, bytes. The sum is 212 MiB; up to three more buffers of
    /// a space may wait to be written, then commits wait.
    fn memtable_bytes(self) -> u64 {
        match self {
            Space::Messages | Space::Bodies | Space::Mailbox | Space::Devices => 16 * MIB,
            Space::Counts
            | Space::Expiry
            | Space::Upstream
            | Space::UpstreamIds
            | Space::Stories
            | Space::Receipts => 8 * MIB,
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
