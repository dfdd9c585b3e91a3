//! Keys. All numbers big-endian, so that the engine's order is theirs.

use crate::domain::{AppId, ClientId, MessageId, Position};

/// Where each space but `meta` keeps the number of the last commit that touched it. No key of the other kinds begins
/// with so many bytes of 255.
pub(crate) const MARK: [u8; 40] = [255; 40];

/// A caller's key.
pub(crate) fn once(app: AppId, key: [u8; 16]) -> [u8; 20] {
    let mut whole = [0; 20];
    whole[..4].copy_from_slice(&app.0.to_be_bytes());
    whole[4..].copy_from_slice(&key);
    whole
}

/// A place of a mailbox that may go ahead of its turn.
pub(crate) fn high_in_mailbox(client: ClientId, position: Position) -> [u8; 17] {
    let mut key = [1; 17];
    key[1..].copy_from_slice(&mailbox(client, position));
    key
}

/// A place of an app's log that may go ahead of its turn.
pub(crate) fn high_in_log(app: AppId, position: Position) -> [u8; 13] {
    let mut key = [2; 13];
    key[1..].copy_from_slice(&log(app, position));
    key
}

/// The last of these of an app's log.
pub(crate) fn last_high_in_log(app: AppId) -> [u8; 5] {
    let mut whole = [3; 5];
    whole[1..].copy_from_slice(&self::app(app));
    whole
}

/// The key of the store's one `meta` row.
pub(crate) const META: &[u8] = b"store";

/// A tag's place in an index; the empty one stands for messages to all devices.
pub(crate) type TagBytes = [u8];

/// A message's key in `messages`, `bodies` and `counts`.
pub(crate) fn message(message: MessageId) -> [u8; 16] {
    message.0.to_be_bytes()
}

/// A device's key in `devices` and `profiles`.
pub(crate) fn client(client: ClientId) -> [u8; 8] {
    client.0.to_be_bytes()
}

/// An app's key in `heads`.
pub(crate) fn app(app: AppId) -> [u8; 4] {
    app.0.to_be_bytes()
}

/// An identifier of a device's message of QoS 2.
pub(crate) fn unreleased(client: ClientId, packet_id: u16) -> [u8; 10] {
    let mut key = [0; 10];
    key[..8].copy_from_slice(&client.0.to_be_bytes());
    key[8..].copy_from_slice(&packet_id.to_be_bytes());
    key
}

/// The device that a key of `sessions` or `wishes` is of.
pub(crate) fn read_client(key: &[u8]) -> Option<ClientId> {
    key.try_into().ok().map(|bytes| ClientId(u64::from_be_bytes(bytes)))
}

/// The app and topic of a key of `retained`, which is made like that of a name.
pub(crate) fn read_retained(key: &[u8]) -> Option<(AppId, &str)> {
    let (app, topic) = key.split_first_chunk::<4>()?;
    Some((AppId(u32::from_be_bytes(*app)), std::str::from_utf8(topic).ok()?))
}

/// A place in a device's mailbox.
pub(crate) fn mailbox(client: ClientId, position: Position) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&client.0.to_be_bytes());
    key[8..].copy_from_slice(&position.0.to_be_bytes());
    key
}

/// A place in an app's log.
pub(crate) fn log(app: AppId, position: Position) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&app.0.to_be_bytes());
    key[4..].copy_from_slice(&position.0.to_be_bytes());
    key
}

fn labelled(app: AppId, label: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(4 + 1 + label.len() + 8);
    key.extend_from_slice(&app.0.to_be_bytes());
    // A label has at most 64 bytes (`LABEL_BYTES_MAX`).
    key.push(label.len() as u8);
    key.extend_from_slice(label);
    key
}

/// A tag's key in `floors`.
pub(crate) fn floor(app: AppId, tag: &TagBytes) -> Vec<u8> {
    labelled(app, tag)
}

/// A place in a tag's index.
pub(crate) fn index(app: AppId, tag: &TagBytes, position: Position) -> Vec<u8> {
    let mut key = labelled(app, tag);
    key.extend_from_slice(&position.0.to_be_bytes());
    key
}

/// What the devices of an alias begin with.
pub(crate) fn alias_prefix(app: AppId, alias: &str) -> Vec<u8> {
    labelled(app, alias.as_bytes())
}

/// A device of an alias.
pub(crate) fn alias(app: AppId, alias: &str, client: ClientId) -> Vec<u8> {
    let mut key = alias_prefix(app, alias);
    key.extend_from_slice(&client.0.to_be_bytes());
    key
}

/// What the devices of a tag begin with.
pub(crate) fn tag_prefix(app: AppId, tag: &str) -> Vec<u8> {
    labelled(app, tag.as_bytes())
}

/// A device of a tag.
pub(crate) fn tag_member(app: AppId, tag: &str, client: ClientId) -> Vec<u8> {
    let mut key = tag_prefix(app, tag);
    key.extend_from_slice(&client.0.to_be_bytes());
    key
}

/// The count of a tag's devices, in the order of the texts; the empty one of all devices of the app comes first.
pub(crate) fn tag_count(app: AppId, tag: &str) -> Vec<u8> {
    name(app, tag)
}

/// The text of a key of `tag_counts` or `names`.
pub(crate) fn read_text(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.get(4..)?).ok()
}

/// The device at the end of a key of `aliases` or `tag_members`.
pub(crate) fn last_client(key: &[u8]) -> Option<ClientId> {
    key.last_chunk::<8>().map(|bytes| ClientId(u64::from_be_bytes(*bytes)))
}

/// A device's name. The app is of fixed length and the name is the rest.
pub(crate) fn name(app: AppId, name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(4 + name.len());
    key.extend_from_slice(&app.0.to_be_bytes());
    key.extend_from_slice(name.as_bytes());
    key
}

/// A device's collapse key in `collapse`.
pub(crate) fn collapse_mailbox(client: ClientId, key: &str) -> Vec<u8> {
    let mut row = Vec::with_capacity(9 + key.len());
    row.push(0);
    row.extend_from_slice(&client.0.to_be_bytes());
    row.extend_from_slice(key.as_bytes());
    row
}

/// A collapse key of an app's log, for one filter, in `collapse`.
pub(crate) fn collapse_log(app: AppId, filter: &[u8; 16], key: &str) -> Vec<u8> {
    let mut row = Vec::with_capacity(21 + key.len());
    row.push(1);
    row.extend_from_slice(&app.0.to_be_bytes());
    row.extend_from_slice(filter);
    row.extend_from_slice(key.as_bytes());
    row
}

/// A book of an app in `books`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Book {
    /// Deliveries of all its messages.
    All = 0,
    /// Those of the messages that retention took.
    Forgotten = 1,
}

/// An app's key in `books`.
pub(crate) fn book(app: AppId, book: Book) -> [u8; 5] {
    let mut key = [book as u8; 5];
    key[..4].copy_from_slice(&app.0.to_be_bytes());
    key
}

/// Reads what [`book`] wrote; `None` for another key.
pub(crate) fn read_book(key: &[u8]) -> Option<(AppId, Book)> {
    let (app, book) = key.split_first_chunk::<4>()?;
    let book = match book {
        [0] => Book::All,
        [1] => Book::Forgotten,
        _ => return None,
    };
    Some((AppId(u32::from_be_bytes(*app)), book))
}

/// The kind of row in `books` that is no book: bytes of bodies.
const STORED_BYTES: u8 = 2;

/// How many bytes of bodies an app has, in `books`.
pub(crate) fn stored_bytes(app: AppId) -> [u8; 5] {
    let mut key = [STORED_BYTES; 5];
    key[..4].copy_from_slice(&app.0.to_be_bytes());
    key
}

/// The app of a key that [`stored_bytes`] wrote; `None` for another key.
pub(crate) fn read_stored_bytes(key: &[u8]) -> Option<AppId> {
    let (app, kind) = key.split_first_chunk::<4>()?;
    (kind == [STORED_BYTES]).then(|| AppId(u32::from_be_bytes(*app)))
}

/// The message that a key of `messages` or `counts` is of.
pub(crate) fn read_message(key: &[u8]) -> Option<MessageId> {
    key.try_into().ok().map(|bytes| MessageId(u128::from_be_bytes(bytes)))
}

/// What is due for a message at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Its deadline: what is unsettled expires.
    Expire = 0,
    /// The end of its retention: what is left of it goes.
    Forget = 1,
    /// The end of a caller's key, whose hash stands in the place of a message; the value is its app.
    Key = 2,
    /// The end of its deliveries' stories.
    Stories = 8,
    /// The same, and its record has waited for it.
    Last = 9,
}

/// A message's place in the calendar; `at_ms` is a wall-clock time.
pub(crate) fn expiry(at_ms: u64, stage: Stage, message: MessageId) -> [u8; 25] {
    let mut key = [0; 25];
    key[..8].copy_from_slice(&at_ms.to_be_bytes());
    key[8] = stage as u8;
    key[9..].copy_from_slice(&message.0.to_be_bytes());
    key
}

/// Reads what [`expiry`] wrote; `None` for another key.
pub(crate) fn read_expiry(key: &[u8]) -> Option<(u64, Stage, MessageId)> {
    let (at, rest) = key.split_first_chunk::<8>()?;
    let (stage, message) = rest.split_first()?;
    let stage = match stage {
        0 => Stage::Expire,
        1 => Stage::Forget,
        2 => Stage::Key,
        8 => Stage::Stories,
        9 => Stage::Last,
        _ => return None,
    };
    Some((u64::from_be_bytes(*at), stage, MessageId(u128::from_be_bytes(message.try_into().ok()?))))
}

/// The position at the end of a key of `mailbox`, `log` or `index`.
pub(crate) fn last_position(key: &[u8]) -> Option<Position> {
    key.last_chunk::<8>().map(|bytes| Position(u64::from_be_bytes(*bytes)))
}
