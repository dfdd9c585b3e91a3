//! A login from token to answer.

use super::super::border::{Attach, Command, Handle, Login};
use super::super::hub::Core;
use super::super::memory::deciding::Deciding;
use super::super::memory::sessions::{Entered, Room, Seat};
use crate::domain::heartbeat::Reach;
use crate::domain::{AssignedHeartbeat, ClientId, DuplicateLogin, Position, Token, TokenFault};
use crate::store::port::{LoginView, StoreError};
use longwire_proto::close::CloseReason;
use longwire_proto::session::FeedStart;
use longwire_proto::wire::{Class, Network};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// A login whose token is good.
#[derive(Clone, Copy)]
pub(super) struct Wish {
    pub(super) seat: Seat,
    pub(super) token: Token,
    /// Where the device says that it stands: mailbox, log.
    resume: [Position; 2],
    /// What happens if the device is connected already.
    pub(super) policy: DuplicateLogin,
    /// What it is told to beat by.
    pub(super) heartbeat: AssignedHeartbeat,
}

impl Wish {
    pub(super) fn from(&self) -> Handle {
        self.seat.handle()
    }
    fn enters_vacant(&self, core: &Core) -> bool {
        core.sessions.enter_vacant(self.token.client, self.token.app, self.seat)
    }
    fn leaves(&self, core: &Core) {
        core.sessions.leave(self.token.client, self.token.app, self.from());
    }
    /// Where a feed begins. Where a device may have several connections, others of them may have ended what this one never
    /// saw, so the chain goes on from where this one stands; what the others ended is not named to it.
    fn start(&self, feed: FeedStart, resume: Position) -> FeedStart {
        let behind = resume != Position::START
            && resume < feed.last
            && resume.incarnation() == feed.last.incarnation();
        if self.policy.allows_several() && behind { FeedStart { last: resume, ..feed } } else { feed }
    }
}

/// Checks everything that needs no store.
///
/// # Errors
/// The reason to refuse with.
pub(super) fn verify(core: &Core, login: &Login) -> Result<Wish, CloseReason> {
    if core.posts.stopping() {
        return Err(CloseReason::Draining);
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
    let policy = app.duplicate_login.unwrap_or(core.duplicate_login);
    let heartbeat = core.heartbeat.assign(app.heartbeat, reach(login));
    Ok(Wish { seat: Seat::new(login.from, login.class), token, resume: login.resume, policy, heartbeat })
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
        table.answer(*wish, view).await;
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
                self.refuse(wish, reason).await;
                continue;
            }
            let most = self.core.connections_per_device;
            let enters = match wish.policy {
                DuplicateLogin::Takeover => self.take_over(wish, Room::One).await,
                DuplicateLogin::OnePerClass => self.take_over(wish, Room::OnePerClass).await,
                DuplicateLogin::Many => self.take_over(wish, Room::Many(most)).await,
                DuplicateLogin::Reject => self.enter_or_reject(wish).await,
            };
            if enters {
                entered.push(wish);
            }
        }
        entered
    }

    /// Displaces the older connections that have no room beside this one, unless those of this device have displaced each
    /// other too often of late. A login that displaces none is never held up.
    async fn take_over(&self, wish: Wish, room: Room) -> bool {
        let Token { client, app, .. } = wish.token;
        let Core { conflicts, sessions, stats, posts, .. } = &**self.core;
        let wait_s = conflicts.barred_s(client, self.core.now_ms());
        let entered = if wait_s > 0 {
            sessions.enter_free(client, app, wish.seat, room)
        } else {
            Some(sessions.enter(client, app, wish.seat, room))
        };
        let Some(Entered { displaced, company }) = entered else {
            self.deciding.decide(wish.from());
            self.core.refuse_until(wish.from(), CloseReason::Conflict, wait_s).await;
            return false;
        };
        stats.takeovers.fetch_add(displaced.len() as u64, Relaxed);
        if matches!(room, Room::Many(_)) {
            stats.displaced_at_bound.fetch_add(displaced.len() as u64, Relaxed);
        }
        for old in displaced {
            posts.close(old, CloseReason::TakenOver, 0).await;
        }
        // Also this one, before it is attached: its shard takes commands in their order.
        for to in company {
            posts.send(to.shard(), Command::Share { to }).await;
        }
        true
    }

    /// Refuses the newer connection. The older one may be dead without our knowing: its shard ends it if it has been
    /// silent for longer than it announced, so the newer one's next try or the one after it gets in.
    async fn enter_or_reject(&self, wish: Wish) -> bool {
        if wish.enters_vacant(self.core) {
            return true;
        }
        let Token { client, app, .. } = wish.token;
        for to in self.core.sessions.of(client).iter() {
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
            Ok(views) => wishes.iter().zip(views).map(|(wish, view)| judge(&wish.token, view)).collect(),
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

    async fn answer(&self, wish: Wish, view: Judged) {
        let attach = view.and_then(|view| self.attach(wish, view));
        match attach {
            Ok(attach) => {
                // Gone, or displaced and told so.
                if !self.deciding.decide(wish.from()) {
                    wish.leaves(self.core);
                } else if self.core.sessions.is_current(wish.token.client, wish.from()) {
                    self.core.stats.logins_accepted.fetch_add(1, Relaxed);
                    self.core.posts.send(wish.from().shard(), Command::Attach(Box::new(attach))).await;
                }
            }
            Err(reason) => self.refuse(wish, reason).await,
        }
    }

    fn attach(&self, wish: Wish, view: LoginView) -> Result<Attach, CloseReason> {
        let tags = self.core.tags.intern(wish.token.app, &view.device.tags).map_err(|_| CloseReason::Full)?;
        Ok(Attach {
            to: wish.from(),
            client: wish.token.client,
            app: wish.token.app,
            tags,
            mailbox: wish.start(view.mailbox, wish.resume[0]),
            log: wish.start(view.log, wish.resume[1]),
            log_head: view.log_head,
            server_time: (self.core.clock)(),
            heartbeat: wish.heartbeat,
        })
    }

    async fn refuse(&self, wish: Wish, reason: CloseReason) {
        self.deciding.decide(wish.from());
        wish.leaves(self.core);
        self.core.refuse(wish.from(), reason).await;
    }

    /// Tags changed while these logins were read: what was attached may be older than the change.
    async fn retag(&self, wishes: &[Wish]) {
        let views = self.views(wishes).await;
        for (wish, view) in wishes.iter().zip(views) {
            if let Ok(view) = view {
                self.core.retag(wish.from(), wish.token.app, &view.device.tags).await;
            }
        }
    }
}

fn judge(token: &Token, view: Option<LoginView>) -> Judged {
    let view = view.ok_or(CloseReason::BadToken)?;
    if view.device.app != token.app {
        return Err(CloseReason::BadToken);
    }
    if token.generation < view.device.generation {
        return Err(CloseReason::RevokedToken);
    }
    Ok(view)
}
