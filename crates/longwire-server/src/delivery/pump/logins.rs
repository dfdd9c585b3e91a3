//! A login from token to answer.

use super::super::border::{Attach, Command, Handle, Login};
use super::super::hub::Core;
use super::super::memory::deciding::Deciding;
use super::super::memory::guard::network;
use super::strangers::{self, MqttWish, Stranger};
use crate::domain::heartbeat::Reach;
use crate::domain::{App, AssignedHeartbeat, ClientId, DuplicateLogin, Token, TokenFault};
use crate::store::port::{LoginView, StoreError};
use longwire_proto::close::CloseReason;
use longwire_proto::wire::{Class, Network};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// A login whose credentials are good.
pub(super) struct Wish {
    pub(super) from: Handle,
    /// The device; of one that did not bring a token, one of ours made up, which nothing revokes.
    pub(super) token: Token,
    /// What happens if the device is connected already.
    pub(super) policy: DuplicateLogin,
    /// What it is told to beat by.
    pub(super) heartbeat: AssignedHeartbeat,
    /// What an MQTT client wants beside.
    pub(super) mqtt: Option<Box<MqttWish>>,
}

impl Wish {
    fn enters_vacant(&self, core: &Core) -> bool {
        core.sessions.enter_vacant(self.token.client, self.token.app, self.from)
    }
    fn leaves(&self, core: &Core) {
        core.sessions.leave(self.token.client, self.token.app, self.from);
    }
}

/// A login as far as memory can judge it.
pub(super) enum Verified {
    /// Its device is known.
    Wish(Wish),
    /// It names itself: its device is found, or made, by name.
    Stranger(Stranger),
}

/// Checks everything that needs no store.
///
/// # Errors
/// The reason to refuse with.
pub(super) fn verify(core: &Core, mut login: Login) -> Result<Verified, CloseReason> {
    if core.posts.stopping() {
        return Err(CloseReason::Draining);
    }
    if let Some(mqtt) = login.mqtt.take() {
        return strangers::verify(core, login, *mqtt);
    }
    let app = core.app(&login.app_key).ok_or(CloseReason::UnknownApp)?;
    let token = core.token_key.verify(&login.token, (core.clock)()).map_err(|fault| match fault {
        TokenFault::Bad => CloseReason::BadToken,
        TokenFault::Expired => CloseReason::ExpiredToken,
    })?;
    let other_device = login.client != ClientId(0) && login.client != token.client;
    if token.app != app.id || other_device {
        return Err(CloseReason::BadToken);
    }
    Ok(Verified::Wish(wish(core, &app, &login, token, None)))
}

/// The wish of a login whose device is known.
pub(super) fn wish(core: &Core, app: &App, login: &Login, token: Token, mqtt: Option<Box<MqttWish>>) -> Wish {
    let policy = app.duplicate_login.unwrap_or(core.duplicate_login);
    let heartbeat = core.heartbeat.assign(app.heartbeat, reach(login));
    Wish { from: login.from, token, policy, heartbeat, mqtt }
}

/// How long a bad login has to wait before it is answered otherwise, when too many came from its network. A good one
/// never waits: thousands of devices may share an address with one that fails.
pub(super) fn slowed(core: &Core, reason: CloseReason, peer: IpAddr) -> Option<u16> {
    if !matches!(reason, CloseReason::BadToken | CloseReason::UnknownApp) {
        return None;
    }
    let from = network(peer);
    let Core { bad_logins, stats, .. } = core;
    let now_ms = core.now_ms();
    let mut wait_s = bad_logins.barred_s(from, now_ms);
    if wait_s == 0 {
        wait_s = bad_logins.strike(from, now_ms);
        if wait_s > 0 {
            tracing::warn!(target: "audit", event = "bad_logins", %from, wait_s, "too many bad logins");
        }
    }
    if wait_s == 0 {
        return None;
    }
    stats.logins_slowed.fetch_add(1, Relaxed);
    Some(wait_s)
}

fn reach(login: &Login) -> Reach {
    let cellular = matches!(login.network, Network::G2 | Network::G3 | Network::G4 | Network::G5);
    if cellular || login.class == Class::Phone { Reach::Mobile } else { Reach::Fixed }
}

/// Decides logins with one read of the store (two if one of them meets an older connection of its device).
///
/// A device enters the session table before its view is read: a message committed after the read then finds the
/// connection, one committed before it is in the view. A login that would displace a connection is judged first, so that
/// a refused one disturbs nobody.
pub(super) async fn decide(core: Arc<Core>, deciding: Arc<Deciding>, wishes: Vec<Wish>) {
    let (mut entered, occupied): (Vec<Wish>, Vec<Wish>) =
        wishes.into_iter().partition(|wish| wish.enters_vacant(&core));
    let table = Table { core: &core, deciding: &deciding };
    if !occupied.is_empty() {
        entered.extend(table.displace(occupied).await);
    }
    let retags = core.retags.load(SeqCst);
    let views = table.views(&entered).await;
    for (wish, view) in entered.iter().zip(views) {
        table.answer(wish, view).await;
    }
    if core.retags.load(SeqCst) != retags {
        table.retag(&entered).await;
    }
}

struct Table<'a> {
    core: &'a Arc<Core>,
    deciding: &'a Deciding,
}

type Judged = Result<LoginView, CloseReason>;

impl Table<'_> {
    async fn displace(&self, wishes: Vec<Wish>) -> Vec<Wish> {
        let views = self.views(&wishes).await;
        let mut entered = Vec::with_capacity(wishes.len());
        for (wish, view) in wishes.into_iter().zip(views) {
            if let Err(reason) = view {
                self.refuse(&wish, reason).await;
                continue;
            }
            let enters = match wish.policy {
                DuplicateLogin::Takeover => self.take_over(&wish).await,
                DuplicateLogin::Reject => self.enter_or_reject(&wish).await,
            };
            if enters {
                entered.push(wish);
            }
        }
        entered
    }

    /// Displaces the older connection, unless those of this device have displaced each other too often of late. A device
    /// without a connection is never held up.
    async fn take_over(&self, wish: &Wish) -> bool {
        let Token { client, app, .. } = wish.token;
        let Core { conflicts, sessions, stats, posts, .. } = &**self.core;
        let wait_s = conflicts.barred_s(client, self.core.now_ms());
        if wait_s > 0 && !wish.enters_vacant(self.core) {
            self.deciding.decide(wish.from);
            self.core.refuse_until(wish.from, CloseReason::Conflict, wait_s).await;
            return false;
        }
        if let Some(old) = sessions.enter(client, app, wish.from) {
            stats.takeovers.fetch_add(1, Relaxed);
            posts.close(old, CloseReason::TakenOver, 0).await;
        }
        true
    }

    /// Refuses the newer connection. The older one may be dead without our knowing: its shard ends it if it has been
    /// silent for longer than it announced, so the newer one's next try or the one after it gets in.
    async fn enter_or_reject(&self, wish: &Wish) -> bool {
        if wish.enters_vacant(self.core) {
            return true;
        }
        let Token { client, app, .. } = wish.token;
        if let Some(to) = self.core.sessions.current(client) {
            self.core.posts.send(to.shard(), Command::EndIfSilent { to, client, app }).await;
        }
        self.refuse(wish, CloseReason::AlreadyConnected).await;
        false
    }

    async fn views(&self, wishes: &[Wish]) -> Vec<Judged> {
        if wishes.is_empty() {
            return Vec::new();
        }
        let read = async {
            let mut views = self.read(wishes).await?;
            if views.iter().any(Option::is_none) {
                let missing = wishes.iter().zip(&views).filter(|(_, view)| view.is_none());
                let clients: Vec<ClientId> = missing.map(|(wish, _)| wish.token.client).collect();
                if self.core.heal(&clients).await? {
                    views = self.read(wishes).await?;
                }
            }
            Ok::<_, StoreError>(views)
        };
        match read.await {
            Ok(views) => wishes.iter().zip(views).map(|(wish, view)| judge(wish, view)).collect(),
            Err(error) => {
                tracing::warn!(%error, logins = wishes.len(), "logins were refused: the store does not answer");
                wishes.iter().map(|_| Err(CloseReason::StoreUnavailable)).collect()
            }
        }
    }

    async fn read(&self, wishes: &[Wish]) -> Result<Vec<Option<LoginView>>, StoreError> {
        let views = self.core.store.logins(wishes.iter().map(|wish| wish.token.client).collect()).await?;
        if views.len() == wishes.len() {
            return Ok(views);
        }
        Err(StoreError::Unavailable(format!("{} views for {} clients", views.len(), wishes.len())))
    }

    async fn answer(&self, wish: &Wish, view: Judged) {
        let attach = view.and_then(|view| self.attach(wish, view));
        match attach {
            Ok(attach) => {
                // Gone, or displaced and told so.
                if !self.deciding.decide(wish.from) {
                    wish.leaves(self.core);
                } else if self.core.sessions.is_current(wish.token.client, wish.from) {
                    self.core.stats.logins_accepted.fetch_add(1, Relaxed);
                    self.core.posts.send(wish.from.shard(), Command::Attach(Box::new(attach))).await;
                }
            }
            Err(reason) => self.refuse(wish, reason).await,
        }
    }

    fn attach(&self, wish: &Wish, view: LoginView) -> Result<Attach, CloseReason> {
        let tags = self.core.tags.intern(wish.token.app, &view.device.tags).map_err(|_| CloseReason::Full)?;
        let mqtt = wish.mqtt.as_ref().map(|mqtt| Box::new(mqtt.attach(&view.device)));
        Ok(Attach {
            to: wish.from,
            client: wish.token.client,
            app: wish.token.app,
            tags,
            mailbox: view.mailbox,
            log: view.log,
            log_head: view.log_head,
            server_time: (self.core.clock)(),
            mqtt,
            heartbeat: wish.heartbeat,
        })
    }

    async fn refuse(&self, wish: &Wish, reason: CloseReason) {
        self.deciding.decide(wish.from);
        wish.leaves(self.core);
        self.core.refuse(wish.from, reason).await;
    }

    /// Tags changed while these logins were read: what was attached may be older than the change.
    async fn retag(&self, wishes: &[Wish]) {
        let views = self.views(wishes).await;
        for (wish, view) in wishes.iter().zip(views) {
            if let Ok(view) = view {
                self.core.retag(wish.from, wish.token.app, &view.device.tags).await;
            }
        }
    }
}

fn judge(wish: &Wish, view: Option<LoginView>) -> Judged {
    let token = &wish.token;
    let view = view.ok_or(CloseReason::BadToken)?;
    if view.device.app != token.app {
        return Err(CloseReason::BadToken);
    }
    if token.generation < view.device.generation {
        return Err(CloseReason::RevokedToken);
    }
    if let Some(mqtt) = &wish.mqtt {
        mqtt.judge(&view.device)?;
    }
    Ok(view)
}
