//! Pushes with a key of the caller: the second of a key is the first, told again.
//!
//! One push of a key at a time: it is looked up, and if it is free, taken in the commit that accepts the message. So a
//! key names a message exactly if that was accepted, whenever the process ends.

use super::hub::{Core, PushError, Receipt};
use super::order::Place;
use crate::domain::audience::Estimate;
use crate::domain::message::TTL_S_MAX;
use crate::domain::{App, AppId, MessageId, Push, TraceId, WallMs};
use crate::store::port::{Claim, ClaimWith, Keyed, ONCE_AFTER_MS, OnceView, StoreError};
use crate::store::sessions::Work;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::Mutex;

/// Locks over keys: pushes of different keys seldom wait for each other.
const LOCKS: usize = 1024;

/// One push of a key at a time.
pub(super) struct KeyTurns {
    locks: Box<[Mutex<()>]>,
    // Keys come from outside, so their place is drawn.
    hash: RandomState,
}

impl KeyTurns {
    pub(super) fn new() -> KeyTurns {
        KeyTurns { locks: (0..LOCKS).map(|_| Mutex::default()).collect(), hash: RandomState::new() }
    }

    fn of(&self, app: AppId, key: [u8; 16]) -> &Mutex<()> {
        &self.locks[self.hash.hash_one((app, key)) as usize % LOCKS]
    }
}

/// A receipt as it is kept with its key. What is missing in an older row has its default.
#[derive(Serialize, Deserialize)]
struct Told {
    trace: String,
    #[serde(default)]
    audience: Estimate,
    #[serde(default)]
    in_memory: bool,
    #[serde(default)]
    ttl_s: u32,
}

/// What is stored with a push's key.
pub(super) fn keyed(push: &Push, receipt: &Receipt, accepted_at: WallMs) -> Option<Keyed> {
    let once = push.once?;
    let told = Told {
        trace: receipt.trace.to_string(),
        audience: receipt.audience,
        in_memory: receipt.durability == "memory",
        ttl_s: receipt.ttl_s,
    };
    let ttl_ms = u64::from(push.ttl_s.min(TTL_S_MAX)) * 1000;
    let until = WallMs(accepted_at.0.saturating_add(ttl_ms).saturating_add(ONCE_AFTER_MS));
    // Texts and numbers are always JSON.
    let answer = Bytes::from(serde_json::to_vec(&told).unwrap_or_default());
    Some(Keyed { once, until, answer })
}

/// What the caller is told again.
fn told_again(view: &OnceView) -> Result<Receipt, StoreError> {
    let damaged = || StoreError::Unavailable("a row of once is damaged".to_owned());
    let told: Told = serde_json::from_slice(&view.answer).map_err(|_| damaged())?;
    let trace = u128::from_str_radix(&told.trace, 16).map_err(|_| damaged())?;
    Ok(Receipt {
        message: view.message,
        audience: told.audience,
        refused: u64::from(view.refused),
        durability: if told.in_memory { "memory" } else { "local" },
        ttl_s: told.ttl_s,
        trace: TraceId(trace),
        replayed: true,
    })
}

impl Core {
    /// A push with a key. It goes on when nobody waits for it any more, so that what was begun is what its key says.
    pub(super) async fn push_once(
        self: &Arc<Core>,
        app: &App,
        push: Push,
        key: [u8; 16],
        place: Place,
    ) -> Result<Receipt, PushError> {
        let (core, app) = (self.clone(), app.clone());
        let work = tokio::spawn(async move {
            let mut place = place;
            let receipt = core.push_in_turn(&app, push, key, &mut place).await;
            place.leave().await;
            receipt
        });
        let panicked = |_| StoreError::Unknown("the push panicked".to_owned());
        work.await.map_err(panicked)?
    }

    async fn push_in_turn(
        &self,
        app: &App,
        push: Push,
        key: [u8; 16],
        place: &mut Place,
    ) -> Result<Receipt, PushError> {
        // The place first: whoever has a key's turn waits for nobody behind it.
        place.come().await;
        let _turn = self.key_turns.of(app.id, key).lock().await;
        let known = self.store.once(app.id, key).await?;
        let request = push.once.map(|once| once.request);
        let outcome = match known.made {
            Some(made) if Some(made.request) == request => Err(StoreError::Replayed(Arc::new(made)).into()),
            Some(_) => Err(StoreError::ConflictingKey.into()),
            None if known.is_full => Err(StoreError::TooManyKeys.into()),
            None => self.push_now_or_later(app, push, place).await,
        };
        let stats = &self.stats;
        match outcome {
            Err(PushError::Store(StoreError::Replayed(view))) => {
                stats.pushes_replayed.fetch_add(1, Relaxed);
                Ok(told_again(&view)?)
            }
            Err(PushError::Store(StoreError::ConflictingKey)) => {
                stats.keys_conflicting.fetch_add(1, Relaxed);
                Err(StoreError::ConflictingKey.into())
            }
            Err(PushError::Store(StoreError::TooManyKeys)) => {
                stats.keys_refused.fetch_add(1, Relaxed);
                Err(StoreError::TooManyKeys.into())
            }
            other => other,
        }
    }

    /// Takes a key for a message that no store holds, before it is sent.
    pub(super) async fn claim(
        &self,
        app: AppId,
        message: MessageId,
        now: WallMs,
        keyed: Keyed,
    ) -> Result<(), StoreError> {
        let claim = Claim { app, message, now, keyed, with: ClaimWith::Nothing };
        let done = self.store.together(vec![Work::Claim(claim)]).await;
        done.into_iter().try_for_each(|done| done.map(drop))
    }
}
