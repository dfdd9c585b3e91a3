//! Keys of callers: which message a key made, in the commit that made it.
//!
//! A key's row goes at its time through the calendar. How many keys an app has is a row beside them.

use super::turn::Turn;
use crate::domain::{AppId, MessageId, WallMs};
use crate::planted::{Fault as Planted, planted};
use crate::store::messages::engine::Fault;
use crate::store::messages::layout::keys::{self, Stage};
use crate::store::messages::layout::rows::Fields;
use crate::store::messages::layout::space::Space;
use crate::store::port::{Keyed, ONCE_KEYS_MAX, OnceView, StoreError};
use bytes::Bytes;
use std::sync::Arc;

/// A key's row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OnceRow {
    pub(crate) until: WallMs,
    pub(crate) view: OnceView,
}

impl OnceRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(48 + self.view.answer.len());
        row.extend_from_slice(&self.view.request);
        row.extend_from_slice(&self.view.message.0.to_be_bytes());
        row.extend_from_slice(&self.until.0.to_be_bytes());
        row.extend_from_slice(&self.view.stored.to_be_bytes());
        row.extend_from_slice(&self.view.refused.to_be_bytes());
        row.extend_from_slice(&self.view.answer);
        row
    }

    pub(crate) fn decode(row: &[u8]) -> Option<OnceRow> {
        let mut fields = Fields(row);
        let request = fields.u128()?.to_be_bytes();
        let message = MessageId(fields.u128()?);
        let until = WallMs(fields.u64()?);
        let (stored, refused) = (fields.u32()?, fields.u32()?);
        let answer = Bytes::copy_from_slice(fields.0);
        Some(OnceRow { until, view: OnceView { request, message, stored, refused, answer } })
    }
}

/// How many keys an app has.
pub(crate) fn decode_count(row: &[u8]) -> Option<u64> {
    row.try_into().ok().map(u64::from_be_bytes)
}

/// Whether a key is free. The inner error says what it made, or why it cannot be taken.
pub(crate) fn judge(
    turn: &Turn<'_>,
    app: AppId,
    now: WallMs,
    keyed: &Keyed,
) -> Result<Result<(), StoreError>, Fault> {
    let known = row(turn, app, keyed)?;
    let stands = |known: &&OnceRow| known.until > now && !planted(Planted::ForgetsCallersKeys);
    if let Some(known) = known.as_ref().filter(stands) {
        let same = known.view.request == keyed.once.request;
        return Ok(Err(match same {
            true => StoreError::Replayed(Arc::new(known.view.clone())),
            false => StoreError::ConflictingKey,
        }));
    }
    // One that is over stands for itself in the count until the sweep.
    if known.is_none() && count(turn, app)? >= ONCE_KEYS_MAX {
        return Ok(Err(StoreError::TooManyKeys));
    }
    Ok(Ok(()))
}

/// Notes what a key made.
pub(crate) fn record(
    turn: &mut Turn<'_>,
    app: AppId,
    message: MessageId,
    keyed: Keyed,
    (stored, refused): (u32, u32),
) -> Result<(), Fault> {
    if row(turn, app, &keyed)?.is_none() {
        let keys = count(turn, app)? + 1;
        turn.put(Space::Once, keys::app(app), keys.to_be_bytes());
    }
    let Keyed { once, until, answer } = keyed;
    let view = OnceView { message, request: once.request, stored, refused, answer };
    turn.put(Space::Once, keys::once(app, once.key), OnceRow { until, view }.encode());
    turn.schedule_key(until.0, app, once.key);
    Ok(())
}

/// The time of a key came. One that was taken anew meanwhile stays.
pub(crate) fn forget(turn: &mut Turn<'_>, app: AppId, key: [u8; 16], at_ms: u64) -> Result<(), Fault> {
    let place = keys::once(app, key);
    let Some(known) = turn.get(Space::Once, &place)? else { return Ok(()) };
    let known = OnceRow::decode(&known).ok_or_else(|| Fault::damaged(Space::Once))?;
    if known.until.0 > at_ms {
        return Ok(());
    }
    turn.remove(Space::Once, place);
    match count(turn, app)?.saturating_sub(1) {
        0 => turn.remove(Space::Once, keys::app(app)),
        left => turn.put(Space::Once, keys::app(app), left.to_be_bytes()),
    }
    Ok(())
}

fn row(turn: &Turn<'_>, app: AppId, keyed: &Keyed) -> Result<Option<OnceRow>, Fault> {
    match turn.get(Space::Once, &keys::once(app, keyed.once.key))? {
        Some(row) => OnceRow::decode(&row).map(Some).ok_or_else(|| Fault::damaged(Space::Once)),
        None => Ok(None),
    }
}

fn count(turn: &Turn<'_>, app: AppId) -> Result<u64, Fault> {
    match turn.get(Space::Once, &keys::app(app))? {
        Some(row) => decode_count(&row).ok_or_else(|| Fault::damaged(Space::Once)),
        None => Ok(0),
    }
}

impl Turn<'_> {
    /// Puts a key into the calendar.
    fn schedule_key(&mut self, at_ms: u64, app: AppId, key: [u8; 16]) {
        self.memory.scheduled(at_ms);
        let place = keys::expiry(at_ms, Stage::Key, MessageId(u128::from_be_bytes(key)));
        self.put(Space::Expiry, place, keys::app(app));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::domain::message::Once;
    use crate::store::messages::engine;
    use crate::store::messages::write::turn::Memory;
    use crate::store::port::StoreOptions;

    const APP: AppId = AppId(7);

    fn keyed(key: u8) -> Keyed {
        let once = Once { key: [key; 16], request: [0; 16] };
        Keyed { once, until: WallMs(1000), answer: Bytes::new() }
    }

    #[test]
    fn an_app_with_as_many_keys_as_it_may_have_gets_one_when_one_ends() {
        let folder = tempfile::tempdir().unwrap();
        let (reserve_bytes, retention_ms) = (0, 0);
        let clock: std::sync::Arc<dyn Fn() -> WallMs + Send + Sync> = Arc::new(|| WallMs(1));
        let options =
            StoreOptions { folder: folder.path().into(), reserve_bytes, retention_ms, story_ms: 0, clock };
        let opened = engine::open(&options).unwrap();
        let mut memory = Memory::new();
        let mut turn = Turn::new(&opened.engine, &mut memory);
        record(&mut turn, APP, MessageId(1), keyed(1), (1, 0)).unwrap();
        turn.put(Space::Once, keys::app(APP), ONCE_KEYS_MAX.to_be_bytes());
        let refused = judge(&turn, APP, WallMs(1), &keyed(2)).unwrap();
        assert_eq!(refused, Err(StoreError::TooManyKeys));
        assert_eq!(judge(&turn, AppId(8), WallMs(1), &keyed(2)).unwrap(), Ok(()), "another app");
        let known = judge(&turn, APP, WallMs(1), &keyed(1)).unwrap();
        assert!(matches!(known, Err(StoreError::Replayed(_))), "{known:?}");
        // Before its time it stays.
        forget(&mut turn, APP, [1; 16], 999).unwrap();
        assert_eq!(judge(&turn, APP, WallMs(1), &keyed(2)).unwrap(), Err(StoreError::TooManyKeys));
        forget(&mut turn, APP, [1; 16], 1000).unwrap();
        assert_eq!(judge(&turn, APP, WallMs(1), &keyed(2)).unwrap(), Ok(()));
        assert_eq!(judge(&turn, APP, WallMs(1), &keyed(1)).unwrap(), Ok(()));
    }
}
