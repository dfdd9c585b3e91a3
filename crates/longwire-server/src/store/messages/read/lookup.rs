//! Names, aliases, messages, devices.

use crate::domain::audience::ADDRESSES_MAX;
use crate::domain::{Alias, AppId, ClientId, Counts, Device, DeviceName, MessageId, Position};
use crate::planted::{Fault as Planted, planted};
use crate::store::messages::engine::{Engine, Fault};
use crate::store::messages::layout::rows::DeviceRow;
use crate::store::messages::layout::space::Space;
use crate::store::messages::layout::{keys, rows};
use crate::store::messages::pace::read as pace;
use crate::store::messages::write::once::{OnceRow, decode_count};
use crate::store::port::{DeviceView, MessageView, ONCE_KEYS_MAX, OnceLook, StoreOptions};
use fjall::{Readable, Snapshot};
use std::sync::Arc;

/// A value as the snapshot has it.
pub(crate) fn get(
    engine: &Engine,
    snapshot: &Snapshot,
    space: Space,
    key: &[u8],
) -> Result<Option<fjall::UserValue>, Fault> {
    Ok(snapshot.get(engine.spaces.of(space), key)?)
}

/// A value as the snapshot has it, decoded.
pub(crate) fn row<T>(
    engine: &Engine,
    snapshot: &Snapshot,
    space: Space,
    key: &[u8],
    decode: impl FnOnce(&[u8]) -> Option<T>,
) -> Result<Option<T>, Fault> {
    match get(engine, snapshot, space, key)? {
        Some(row) => decode(&row).map(Some).ok_or_else(|| Fault::damaged(space)),
        None => Ok(None),
    }
}

/// A device's profile.
pub(crate) fn profile(
    engine: &Engine,
    snapshot: &Snapshot,
    client: ClientId,
) -> Result<Option<Device>, Fault> {
    row(engine, snapshot, Space::Profiles, &keys::client(client), rows::decode_profile)
}

/// Where a device stands.
pub(crate) fn standing(engine: &Engine, snapshot: &Snapshot, client: ClientId) -> Result<DeviceRow, Fault> {
    let row = row(engine, snapshot, Space::Devices, &keys::client(client), DeviceRow::decode)?;
    Ok(row.unwrap_or_else(|| DeviceRow::new(engine.incarnation)))
}

pub(crate) fn names(
    engine: &Engine,
    app: AppId,
    names: &[DeviceName],
) -> Result<Vec<Option<ClientId>>, Fault> {
    let snapshot = engine.database.snapshot();
    let client = |name: &DeviceName| {
        row(engine, &snapshot, Space::Names, &keys::name(app, name.as_str()), rows::decode_client)
    };
    names.iter().map(client).collect()
}

/// Of each alias at most one device more than a push may address: enough to refuse the push.
pub(crate) fn aliases(engine: &Engine, app: AppId, aliases: &[Alias]) -> Result<Vec<Vec<ClientId>>, Fault> {
    let snapshot = engine.database.snapshot();
    let devices = |alias: &Alias| {
        let prefix = keys::alias_prefix(app, alias.as_str());
        let entries = snapshot.prefix(engine.spaces.of(Space::Aliases), prefix);
        let client = |entry: fjall::Guard| {
            // A client's number is as long as a position.
            let client = keys::last_position(&entry.key()?).ok_or_else(|| Fault::damaged(Space::Aliases))?;
            Ok(ClientId(client.0))
        };
        entries.take(ADDRESSES_MAX + 1).map(client).collect()
    };
    aliases.iter().map(devices).collect()
}

pub(crate) fn message(engine: &Engine, app: AppId, message: MessageId) -> Result<Option<MessageView>, Fault> {
    let snapshot = engine.database.snapshot();
    let key = keys::message(message);
    let Some(record) = row(engine, &snapshot, Space::Messages, &key, rows::decode_record)? else {
        return Ok(None);
    };
    if record.app != app {
        return Ok(None);
    }
    let counts = row(engine, &snapshot, Space::Counts, &key, rows::decode_counts)?.unwrap_or_default();
    // Only those without devices of their own are spread.
    let spreading = match record.targets.is_empty() {
        true => pace::spreading_of(engine, &snapshot, message)?,
        false => None,
    };
    Ok(Some(MessageView { record: Arc::new(record), counts, spreading }))
}

/// An app's running totals.
pub(crate) fn books(engine: &Engine, app: AppId) -> Result<Counts, Fault> {
    let snapshot = engine.database.snapshot();
    let key = keys::book(app, keys::Book::All);
    Ok(row(engine, &snapshot, Space::Books, &key, rows::decode_counts)?.unwrap_or_default())
}

/// The app of each message, and whether it is in the log.
pub(crate) fn apps_of(engine: &Engine, messages: &[MessageId]) -> Result<Vec<Option<(AppId, bool)>>, Fault> {
    let snapshot = engine.database.snapshot();
    let app = |message: &MessageId| {
        let record = row(engine, &snapshot, Space::Messages, &keys::message(*message), rows::decode_record)?;
        Ok(record.map(|record| (record.app, record.log_position != Position::START)))
    };
    messages.iter().map(app).collect()
}

/// What a caller's key made, and whether the app may have one more.
pub(crate) fn once(
    engine: &Engine,
    options: &StoreOptions,
    app: AppId,
    key: [u8; 16],
) -> Result<OnceLook, Fault> {
    let snapshot = engine.database.snapshot();
    let known = row(engine, &snapshot, Space::Once, &keys::once(app, key), OnceRow::decode)?;
    let now = (options.clock)();
    let is_full = match known {
        Some(_) => false,
        None => {
            let count = row(engine, &snapshot, Space::Once, &keys::app(app), decode_count)?;
            count.unwrap_or(0) >= ONCE_KEYS_MAX
        }
    };
    let stands = |known: &OnceRow| known.until > now && !planted(Planted::ForgetsCallersKeys);
    let made = known.filter(stands).map(|known| known.view);
    Ok(OnceLook { made, is_full })
}

pub(crate) fn device(engine: &Engine, app: AppId, name: &DeviceName) -> Result<Option<DeviceView>, Fault> {
    let snapshot = engine.database.snapshot();
    let key = keys::name(app, name.as_str());
    let Some(client) = row(engine, &snapshot, Space::Names, &key, rows::decode_client)? else {
        return Ok(None);
    };
    let Some(device) = profile(engine, &snapshot, client)? else { return Ok(None) };
    let standing = standing(engine, &snapshot, client)?;
    Ok(Some(DeviceView { device, mailbox_messages: standing.waiting, mailbox_bytes: standing.waiting_bytes }))
}
