//! A login from token to answer.

use super::super::border::topics::{KeptTopics, TopicRights};
use super::super::border::{Attach, Command, Frequency, Handle, Login};
use super::super::hub::{Core, SessionStart};
use super::super::memory::deciding::Deciding;
use super::super::memory::guard::network;
use super::super::memory::sessions::{Entered, Room, Seat};
use super::strangers::{self, Asking, MqttWish, Stranger};
use crate::domain::heartbeat::Reach;
use crate::domain::topic::Rules;
use crate::domain::{
    App, AssignedHeartbeat, ClientId, DuplicateLogin, FrequencyCap, Position, Token, TokenFault,
};
use crate::planted::{Fault, planted};
use crate::store::port::{LoginView, StoreError};
use longwire_proto::close::CloseReason;
use longwire_proto::session::FeedStart;
use longwire_proto::wire::{Class, Network};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// A login whose credentials are good.
pub(super) struct Wish {
    pub(super) seat: Seat,
    /// The device; of one that did not bring a token, one of ours made up, which nothing revokes.
    pub(super) token: Token,
    /// Where the device says that it stands: mailbox, log.
    resume: [Position; 2],
    /// What happens if the device is connected already.
    pub(super) policy: DuplicateLogin,
    /// What it is told to beat by.
    pub(super) heartbeat: AssignedHeartbeat,
    /// What its app's devices may do with topics.
    rules: Arc<Rules>,
    /// How many messages they may get.
    cap: Option<FrequencyCap>,
    /// What an MQTT client wants beside.
    pub(super) mqtt: Option<Box<MqttWish>>,
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
        core.went(self.token.app, self.token.client, "refused");
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

/// A login as far as memory can judge it.
pub(super) enum Verified {
    /// Its device is known.
    Wish(Wish),
    /// It names itself: its device is found, or made, by name.
    Stranger(Stranger),
    /// The app's own service is to be asked.
    Asking(Asking),
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
    // A client identifier has one connection (MQTT-3.1.4-3).
    let policy = if mqtt.is_some() && policy.allows_several() { DuplicateLogin::Takeover } else { policy };
    let (seat, rules) = (Seat::new(login.from, login.class), app.topic_rules.clone());
    let cap = app.settings.frequency_cap;
    Wish { seat, token, resume: login.resume, policy, heartbeat, rules, cap, mqtt }
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
    let judged = table.begin_sessions(&entered, views).await;
    for (wish, judged) in entered.iter().zip(judged) {
        table.answer(wish, judged).await;
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
type Begun = Result<(LoginView, SessionStart), CloseReason>;

impl Table<'_> {
    async fn displace(&self, wishes: Vec<Wish>) -> Vec<Wish> {
        let views = self.views(&wishes).await;
        let mut entered = Vec::with_capacity(wishes.len());
        for (wish, view) in wishes.into_iter().zip(views) {
            if let Err(reason) = view {
                self.refuse(&wish, reason).await;
                continue;
            }
            let most = self.core.connections_per_device;
            let enters = match wish.policy {
                DuplicateLogin::Takeover => self.take_over(&wish, Room::One).await,
                DuplicateLogin::OnePerClass => self.take_over(&wish, Room::OnePerClass).await,
                DuplicateLogin::Many => self.take_over(&wish, Room::Many(most)).await,
                DuplicateLogin::Reject => self.enter_or_reject(&wish).await,
            };
            if enters {
                entered.push(wish);
            }
        }
        entered
    }

    /// Displaces the older connections that have no room beside this one, unless those of this device have displaced each
    /// other too often of late. A login that displaces none is never held up.
    async fn take_over(&self, wish: &Wish, room: Room) -> bool {
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
        for old in displaced.into_iter().filter(|_| !planted(Fault::KeepsDisplaced)) {
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
    async fn enter_or_reject(&self, wish: &Wish) -> bool {
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

    /// Begins the sessions of MQTT clients that are let in, and those that native devices go on with, together. A mailbox that a
    /// clean start empties may stand in the view as waiting: its first page says that nothing is there.
    async fn begin_sessions(&self, wishes: &[Wish], views: Vec<Judged>) -> Vec<Begun> {
        let asks = |(wish, view): (&Wish, &Judged)| {
            let view = view.as_ref().ok()?;
            let heads = [view.mailbox_head, view.log_head];
            match &wish.mqtt {
                Some(mqtt) => Some(mqtt.session(&view.device, wish.from(), heads)),
                None => self.core.kept_session(wish.token.client, wish.token.app, wish.from(), heads),
            }
        };
        let asked: Vec<_> = wishes.iter().zip(&views).map(asks).collect();
        let begins: Vec<bool> = asked.iter().map(Option::is_some).collect();
        let mut starts = self.core.begin_sessions(asked.into_iter().flatten().collect()).await.into_iter();
        let begun = |(begins, view): (bool, Judged)| {
            let view = view?;
            let start = match begins.then(|| starts.next()).flatten() {
                Some(start) => start.map_err(|_| CloseReason::StoreUnavailable)?,
                None => SessionStart::default(),
            };
            Ok((view, start))
        };
        begins.into_iter().zip(views).map(begun).collect()
    }

    async fn answer(&self, wish: &Wish, begun: Begun) {
        let attach = begun.and_then(|(view, start)| self.attach(wish, view, start));
        match attach {
            Ok(attach) => {
                // Gone, or displaced and told so.
                if !self.deciding.decide(wish.from()) {
                    wish.leaves(self.core);
                    self.core.session_without_connection(wish.token.client);
                } else if self.core.sessions.is_current(wish.token.client, wish.from()) {
                    self.core.stats.logins_accepted.fetch_add(1, Relaxed);
                    self.core.came(wish.token.app, wish.token.client);
                    self.core.returns.logged_in(wish.token.client, self.core.now_ms() / 1000);
                    self.core.posts.send(wish.from().shard(), Command::Attach(Box::new(attach))).await;
                }
            }
            Err(reason) => self.refuse(wish, reason).await,
        }
    }

    fn attach(&self, wish: &Wish, view: LoginView, start: SessionStart) -> Result<Attach, CloseReason> {
        let labels = self.core.labels.of(&view.device).map_err(|_| CloseReason::Full)?;
        let (mqtt, topics) = match &wish.mqtt {
            Some(mqtt) => (Some(Box::new(mqtt.attach(&view.device, start))), None),
            None if start.subscriptions.is_empty() => (None, None),
            None => {
                let rights =
                    TopicRights { rules: wish.rules.clone(), name: view.device.name.as_str().into() };
                let SessionStart { subscriptions, .. } = start;
                (None, Some(Box::new(KeptTopics { rights, subscriptions })))
            }
        };
        Ok(Attach {
            to: wish.from(),
            client: wish.token.client,
            app: wish.token.app,
            labels,
            mailbox: wish.start(view.mailbox, wish.resume[0]),
            log: wish.start(view.log, wish.resume[1]),
            log_head: view.log_head,
            server_time: (self.core.clock)(),
            mqtt,
            topics,
            heartbeat: wish.heartbeat,
            frequency: wish.cap.map(|cap| Frequency { cap, from: view.counted.0, count: view.counted.1 }),
        })
    }

    async fn refuse(&self, wish: &Wish, reason: CloseReason) {
        self.deciding.decide(wish.from());
        wish.leaves(self.core);
        self.core.session_without_connection(wish.token.client);
        self.core.refuse(wish.from(), reason).await;
    }

    /// Tags or attributes changed while these logins were read: what was attached may be older than the change.
    async fn retag(&self, wishes: &[Wish]) {
        let views = self.views(wishes).await;
        for (wish, view) in wishes.iter().zip(views) {
            if let Ok(view) = view {
                self.core.retag(wish.from(), &view.device).await;
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
