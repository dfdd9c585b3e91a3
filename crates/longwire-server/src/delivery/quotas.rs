//! What apps may have and do: asked before anything is stored or anybody let in.

use super::hub::{Core, Hub, PushError};
use super::memory::meters::{Bucket, Meter, Rate};
use crate::domain::{App, AppId, Limits, Registration};
use crate::store::port::StoreError;
use crate::store::registry::RegisterError;
use longwire_proto::close::CloseReason;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const SECOND_NS: u64 = 1_000_000_000;
const MINUTE_NS: u64 = 60 * SECOND_NS;

/// What an app has left of its requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allowance {
    /// Requests per second; 0: without a limit.
    pub limit: u64,
    /// Requests that it may send now.
    pub left: u64,
    /// In so many seconds it may send all of them at once again.
    pub reset_s: u64,
    /// This one is too many: when to come again, seconds.
    pub retry_after_s: Option<u32>,
}

/// What an app has now of what is limited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    /// What holds.
    pub limits: Limits,
    /// Logged-in connections, those being decided included.
    pub connections: u64,
    /// Registered devices.
    pub devices: u64,
    /// Bytes of messages that are stored, each message once.
    pub stored_bytes: u64,
    /// Requests that it may send now.
    pub requests_left: u64,
    /// Messages that it may send now.
    pub messages_left: u64,
    /// Messages for many that it may send now.
    pub broadcasts_left: u64,
}

/// What is counted of an app since the process began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AppMeter {
    /// Sessions now.
    pub connections: u64,
    /// Messages accepted.
    pub accepted: u64,
    /// Deliveries that devices acked.
    pub delivered: u64,
    /// Requests, messages and logins refused by a quota.
    pub refused: u64,
    /// Bytes of messages that are stored now, each message once.
    pub stored_bytes: u64,
}

impl Hub {
    /// Takes one request out of what the app may send.
    #[must_use]
    pub fn spend_request(&self, app: &App) -> Allowance {
        let (core, meter) = (&self.core, self.core.meters.of(app.id));
        let (limit, now_ns) = (core.limits_of(app).requests_per_s, core.now_ns());
        let retry_after_s = spend(&meter.requests, 1, limit, SECOND_NS, now_ns).err();
        if retry_after_s.is_some() {
            meter.refused.fetch_add(1, Relaxed);
        }
        let (left, reset_ns) = left(&meter.requests, limit, SECOND_NS, now_ns);
        Allowance { limit, left, reset_s: reset_ns.div_ceil(SECOND_NS), retry_after_s }
    }

    /// What an app has of what is limited.
    ///
    /// # Errors
    /// The store's.
    pub async fn usage(&self, app: &App) -> Result<Usage, StoreError> {
        let (core, meter) = (&self.core, self.core.meters.of(app.id));
        let (limits, now_ns) = (core.limits_of(app), core.now_ns());
        Ok(Usage {
            limits,
            connections: meter.connections.load(Relaxed),
            devices: core.device_count(app.id).await?,
            stored_bytes: core.store.stored_bytes(app.id),
            requests_left: left(&meter.requests, limits.requests_per_s, SECOND_NS, now_ns).0,
            messages_left: left(&meter.messages, limits.messages_per_s, SECOND_NS, now_ns).0,
            broadcasts_left: left(&meter.broadcasts, limits.broadcasts_per_min, MINUTE_NS, now_ns).0,
        })
    }

    /// Takes messages out of what the app may send by the API; `broadcasts` of them are for many.
    ///
    /// # Errors
    /// [`PushError::AppRate`]: nothing was taken of what it has too little of.
    pub fn spend_messages(&self, app: &App, messages: u64, broadcasts: u64) -> Result<(), PushError> {
        self.core.spend_messages(app, messages, broadcasts)
    }

    /// What is counted of each app, in the order of their making.
    #[must_use]
    pub fn app_meters(&self) -> Vec<(String, AppMeter)> {
        let mut apps = self.core.all_apps();
        apps.sort_by_key(|app| app.id);
        let read = |app: AppId, meter: &Meter| AppMeter {
            connections: meter.connections.load(Relaxed),
            accepted: meter.accepted.load(Relaxed),
            delivered: meter.delivered.load(Relaxed),
            refused: meter.refused.load(Relaxed),
            stored_bytes: self.core.store.stored_bytes(app),
        };
        let named = |app: &Arc<App>| {
            (app.key.as_str().to_owned(), self.core.meters.with(app.id, |meter| read(app.id, meter)))
        };
        apps.iter().map(named).collect()
    }
}

impl Core {
    pub(super) fn limits_of(&self, app: &App) -> Limits {
        self.limits.of(&app.settings.quotas)
    }

    /// See [`Hub::spend_messages`]. A firing is spent as a push is.
    pub(super) fn spend_messages(&self, app: &App, messages: u64, broadcasts: u64) -> Result<(), PushError> {
        let meter = self.meters.of(app.id);
        let (limits, now_ns) = (self.limits_of(app), self.now_ns());
        let spent = spend(&meter.messages, messages, limits.messages_per_s, SECOND_NS, now_ns)
            .map_err(|wait_s| PushError::AppRate(wait_s, "messages"))
            .and_then(|()| {
                let many = spend(&meter.broadcasts, broadcasts, limits.broadcasts_per_min, MINUTE_NS, now_ns);
                many.map_err(|wait_s| PushError::AppRate(wait_s, "broadcasts"))
            });
        let counter = if spent.is_ok() { &meter.accepted } else { &meter.refused };
        counter.fetch_add(messages, Relaxed);
        spent
    }

    /// What the store is to know of an app's quotas.
    pub(super) fn tell_store(&self, app: &App) {
        self.store.count_deliveries(app.id, app.settings.frequency_cap.map(|cap| cap.per_s));
        self.store.limit_stored_bytes(app.id, app.settings.quotas.stored_bytes);
    }

    /// Counts a push that the store refused because its app has as much as it may.
    pub(super) fn count_refused<T>(&self, app: AppId, pushed: &Result<T, PushError>) {
        if matches!(pushed, Err(PushError::Store(StoreError::AppQuota { .. }))) {
            self.meters.of(app).refused.fetch_add(1, Relaxed);
        }
    }

    /// Whether the app has room for one connection more, those that wait to be decided included.
    pub(super) fn has_connections_left(&self, app: AppId, most: u64) -> bool {
        let meter = self.meters.of(app);
        let has_room = most == 0 || meter.connections.load(Relaxed) < most;
        if !has_room {
            meter.refused.fetch_add(1, Relaxed);
        }
        has_room
    }

    /// Refuses a device that would be one too many. Registrations that are under way at once may pass together.
    pub(super) async fn check_device_quota(
        &self,
        app: &App,
        registration: &Registration,
    ) -> Result<(), RegisterError> {
        let most = self.limits_of(app).devices;
        if most == 0 || self.device_count(app.id).await? < most {
            return Ok(());
        }
        if let Some(name) = &registration.name
            && self.registry.device(app, name).await?.is_some()
        {
            return Ok(());
        }
        self.meters.of(app.id).refused.fetch_add(1, Relaxed);
        Err(RegisterError::Quota)
    }

    pub(super) async fn device_count(&self, app: AppId) -> Result<u64, StoreError> {
        self.store.device_count(app).await
    }
}

/// Seconds to wait, at least one.
fn spend(bucket: &Bucket, wanted: u64, most: u64, span_ns: u64, now_ns: u64) -> Result<(), u32> {
    if most == 0 || wanted == 0 {
        return Ok(());
    }
    let wait = |ns: u64| u32::try_from(ns.div_ceil(SECOND_NS)).unwrap_or(u32::MAX).max(1);
    bucket.take(wanted, Rate { most, span_ns }, now_ns).map_err(wait)
}

fn left(bucket: &Bucket, most: u64, span_ns: u64, now_ns: u64) -> (u64, u64) {
    if most == 0 { (0, 0) } else { bucket.left(Rate { most, span_ns }, now_ns) }
}

/// # Errors
/// The app is disabled.
pub(super) fn in_service(app: &App) -> Result<(), CloseReason> {
    if app.settings.disabled { Err(CloseReason::AppDisabled) } else { Ok(()) }
}
