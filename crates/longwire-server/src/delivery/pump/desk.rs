//! Reads of the store for one shard's connections: logins together, pages side by side, both bounded.

use super::super::border::{Command, Handle};
use super::super::hub::Core;
use super::super::memory::deciding::Deciding;
use super::logins::{self, Wish};
use super::strangers::{self, Stranger};
use crate::domain::{AppId, ClientId, Position};
use crate::store::port::{Page, PageRequest, StoreError};
use longwire_proto::close::CloseReason;
use longwire_proto::session::Pull;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Reads of one shard under way; a batch of logins counts as one.
const UNDER_WAY_MAX: usize = 64;
/// Logins decided by one read of the store.
const LOGINS_TOGETHER_MAX: usize = 256;

/// Something to be read from the store.
pub(super) enum Read {
    /// A login whose token is good.
    Login(Wish),
    /// A login whose device is to be found by its name.
    Stranger(Box<Stranger>),
    /// A login that is refused without a read: the answer may wait for room.
    Refused { to: Handle, reason: CloseReason, retry_after_s: Option<u16> },
    /// What waits for a connection.
    Page { from: Handle, client: ClientId, app: AppId, pull: Pull, ahead: Box<[Position]> },
}

/// Runs until the pump has ended and every read is answered.
pub(super) async fn run(core: Arc<Core>, deciding: Arc<Deciding>, mut waiting: mpsc::Receiver<Read>) {
    let mut under_way = JoinSet::new();
    let mut batch = Vec::with_capacity(LOGINS_TOGETHER_MAX);
    while waiting.recv_many(&mut batch, LOGINS_TOGETHER_MAX).await > 0 {
        let (mut wishes, mut strangers) = (Vec::new(), Vec::new());
        for read in batch.drain(..) {
            match read {
                Read::Login(wish) => wishes.push(wish),
                Read::Stranger(stranger) => strangers.push(*stranger),
                Read::Refused { to, reason, retry_after_s: None } => core.refuse(to, reason).await,
                Read::Refused { to, reason, retry_after_s: Some(seconds) } => {
                    core.refuse_until(to, reason, seconds).await;
                }
                Read::Page { from, client, app, pull, ahead } => {
                    make_room(&mut under_way).await;
                    under_way.spawn(answer_pull(core.clone(), from, (client, app), pull, ahead));
                }
            }
        }
        if !wishes.is_empty() {
            make_room(&mut under_way).await;
            under_way.spawn(logins::decide(core.clone(), deciding.clone(), wishes));
        }
        if !strangers.is_empty() {
            make_room(&mut under_way).await;
            under_way.spawn(strangers::admit(core.clone(), deciding.clone(), strangers));
        }
    }
    while let Some(ended) = under_way.join_next().await {
        report(ended);
    }
}

async fn make_room(under_way: &mut JoinSet<()>) {
    while let Some(ended) = under_way.try_join_next() {
        report(ended);
    }
    while under_way.len() >= UNDER_WAY_MAX {
        if let Some(ended) = under_way.join_next().await {
            report(ended);
        }
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a read for a connection panicked; its device will come back at its deadline");
    }
}

async fn answer_pull(
    core: Arc<Core>,
    from: Handle,
    (client, app): (ClientId, AppId),
    pull: Pull,
    ahead: Box<[Position]>,
) {
    let page = match page(&core, client, app, pull, ahead).await {
        Ok(page) => Some(Box::new(page)),
        Err(error) => {
            core.stats.pages_failed.fetch_add(1, Relaxed);
            tracing::debug!(%error, client = client.0, "a page was not read");
            None
        }
    };
    core.posts.send(from.shard(), Command::Page { to: from, source: pull.source, page }).await;
}

async fn page(
    core: &Core,
    client: ClientId,
    app: AppId,
    pull: Pull,
    ahead: Box<[Position]>,
) -> Result<Page, StoreError> {
    let request = PageRequest {
        client,
        app,
        source: pull.source,
        after: pull.after,
        messages_max: pull.messages_max,
        bytes_max: pull.bytes_max,
        ahead_max: pull.ahead_max,
        ahead,
        now: (core.clock)(),
    };
    core.store.page(request).await
}
