//! Devices that name themselves, registered by their first login: names of all shards that wait together share one
//! transaction of the registry and one commit of the message store.

use super::super::hub::Core;
use super::super::stats::HubStats;
use crate::domain::{AppId, ClientId, DeviceName};
use crate::store::port::StoreError;
use crate::store::registry::Enrolled;
use longwire_proto::close::CloseReason;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::{mpsc, oneshot};

/// Lists of names that may wait; who comes then waits for room.
pub(in super::super) const LISTS_WAITING_MAX: usize = 256;
/// Lists that share a transaction. A list has at most the logins that one shard decides together, so a transaction makes a
/// few thousand devices.
const LISTS_TOGETHER: usize = 16;

type Answers = Vec<Result<ClientId, CloseReason>>;

/// Names of one app that wait.
pub(in super::super) struct List {
    app: AppId,
    names: Vec<DeviceName>,
    reply: oneshot::Sender<Answers>,
}

/// Where names are handed in.
pub(in super::super) struct Enrolment {
    lists: mpsc::Sender<List>,
    /// Automatic devices of each app that has any.
    counts: Mutex<HashMap<AppId, u64>>,
}

impl Enrolment {
    /// `counts`: what apps have already.
    pub(in super::super) fn new(lists: mpsc::Sender<List>, counts: Vec<(AppId, u64)>) -> Enrolment {
        Enrolment { lists, counts: Mutex::new(counts.into_iter().collect()) }
    }

    /// So many were made now; tells how many there are.
    pub(in super::super) fn count(&self, made: impl Iterator<Item = AppId>, stats: &HubStats) {
        let mut counts = self.counts.lock();
        made.for_each(|app| *counts.entry(app).or_default() += 1);
        stats.devices_automatic.store(counts.values().sum(), Relaxed);
        stats.devices_automatic_app_max.store(counts.values().max().copied().unwrap_or(0), Relaxed);
    }

    /// One was removed.
    pub(in super::super) fn forget_one(&self, app: AppId, stats: &HubStats) {
        if let Some(count) = self.counts.lock().get_mut(&app) {
            *count = count.saturating_sub(1);
        }
        self.count(std::iter::empty(), stats);
    }

    /// The devices of these names, made where they are missing; in their order.
    async fn enrol(&self, app: AppId, names: Vec<DeviceName>) -> Answers {
        let unavailable = vec![Err(CloseReason::StoreUnavailable); names.len()];
        let (reply, answer) = oneshot::channel();
        if self.lists.send(List { app, names, reply }).await.is_err() {
            return unavailable;
        }
        answer.await.unwrap_or(unavailable)
    }

    /// The devices of these names: those that are known without SQL, the others by [`run`]; in their order.
    pub(in super::super) async fn clients(&self, core: &Core, app: AppId, names: &[DeviceName]) -> Answers {
        let known = match core.store.resolve_names(app, names.to_vec()).await {
            Ok(known) if known.len() == names.len() => known,
            Ok(_) => return vec![Err(CloseReason::Internal); names.len()],
            Err(error) => {
                tracing::warn!(%error, logins = names.len(), "logins were refused: the store does not answer");
                return vec![Err(CloseReason::StoreUnavailable); names.len()];
            }
        };
        let missing: Vec<DeviceName> = names
            .iter()
            .zip(&known)
            .filter(|(_, client)| client.is_none())
            .map(|(name, _)| name.clone())
            .collect();
        let mut made =
            if missing.is_empty() { Vec::new() } else { self.enrol(app, missing).await }.into_iter();
        let answer = |client: Option<ClientId>| match client {
            Some(client) => Ok(client),
            None => made.next().unwrap_or(Err(CloseReason::Internal)),
        };
        known.into_iter().map(answer).collect()
    }
}

/// Registers what is handed in, until the hub is gone. One task, so transactions never wait for each other.
pub(in super::super) async fn run(core: std::sync::Weak<Core>, mut lists: mpsc::Receiver<List>) {
    let mut waiting = Vec::with_capacity(LISTS_TOGETHER);
    while lists.recv_many(&mut waiting, LISTS_TOGETHER).await > 0 {
        let Some(core) = core.upgrade() else { return };
        serve(&core, std::mem::take(&mut waiting)).await;
    }
}

async fn serve(core: &Arc<Core>, waiting: Vec<List>) {
    let mut by_app: HashMap<AppId, Vec<DeviceName>> = HashMap::new();
    for list in &waiting {
        by_app.entry(list.app).or_default().extend(list.names.iter().cloned());
    }
    let asked: Vec<(AppId, Vec<DeviceName>)> = by_app.into_iter().collect();
    let devices = match enrol(core, &asked).await {
        Ok(devices) => devices,
        Err(error) => {
            tracing::warn!(%error, "devices that named themselves were not registered");
            return; // who waits is told by the end of the reply
        }
    };
    for list in waiting {
        let answer = |name| devices.get(&(list.app, name)).copied().unwrap_or(Err(CloseReason::DeviceQuota));
        let answers = list.names.iter().map(answer).collect();
        // Whoever asked may be gone; the devices stay registered.
        let _ = list.reply.send(answers);
    }
}

type Devices<'a> = HashMap<(AppId, &'a DeviceName), Result<ClientId, CloseReason>>;

async fn enrol<'a>(core: &Core, asked: &'a [(AppId, Vec<DeviceName>)]) -> Result<Devices<'a>, StoreError> {
    // So that no profile is written over a newer one.
    let _turns = core.turns.of_all(asked).await;
    let enrolled = core.registry.enrol(asked, core.auth.options.automatic_devices_max).await?;
    let mut devices = HashMap::new();
    let mut made = Vec::new();
    for ((app, names), enrolled) in asked.iter().zip(enrolled) {
        for (name, enrolled) in names.iter().zip(enrolled) {
            let (client, device) = match enrolled {
                Enrolled::Known(client) => (Ok(client), None),
                Enrolled::Full => (Err(CloseReason::DeviceQuota), None),
                Enrolled::Made(device) => (Ok(device.client), Some(device)),
            };
            // Two connections may have brought one name.
            if devices.insert((*app, name), client).is_none() {
                made.extend(device);
            }
        }
    }
    core.stats.devices_enrolled.fetch_add(made.len() as u64, Relaxed);
    core.auth.enrolment.count(made.iter().map(|device| device.app), &core.stats);
    core.store.project(made).await?;
    Ok(devices)
}
