//! Logins of MQTT clients. One with a device token is decided like a native one; one that names itself is a stranger until
//! its name is found, or registered.

use super::super::auth::{Question, Way, Ways, name_of, way};
use super::super::border::topics::{MqttAttach, MqttLogin, WillToKeep};
use super::super::border::{Handle, Login};
use super::super::hub::Core;
use super::super::memory::deciding::Deciding;
use super::super::topics::{SessionStart, SessionWish};
use super::desk::Read;
use super::logins::{self, Verified};
use crate::domain::topic::Rules;
use crate::domain::{App, AppId, Device, DeviceName, Position, Token, WallMs};
use crate::store::sessions::KeptWill;
use longwire_proto::close::CloseReason;
use longwire_proto::wire::mqtt::Version;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// What an MQTT client wants beside being let in.
pub(super) struct MqttWish {
    /// As presented; empty: the server says which.
    client_id: Box<str>,
    /// The device that the user name speaks of.
    device: Option<Box<str>>,
    /// The session so far is not wanted.
    clean_start: bool,
    expiry_s: u32,
    rules: Arc<Rules>,
    /// See [`MqttAttach::user`].
    user: Box<str>,
    will: Option<WillToKeep>,
    /// Nothing was presented.
    anonymous: bool,
}

/// A client whose name says which device it is.
pub(super) struct Stranger {
    pub(super) app: Arc<App>,
    claim: Claim,
    login: Login,
    mqtt: Box<MqttWish>,
}

/// What a stranger goes by.
enum Claim {
    /// A name that is believed.
    Name(DeviceName),
    /// A JWT, still to be verified: signatures take too long for the pump.
    Jwt(Arc<Ways>, Box<[u8]>),
}

/// A client about which the app's own service is asked.
pub(super) struct Asking {
    pub(super) app: Arc<App>,
    ways: Arc<Ways>,
    login: Login,
    mqtt: Box<MqttWish>,
    user_name: Box<str>,
    password: Box<[u8]>,
    version: Version,
}

impl MqttWish {
    fn new(core: &Core, mqtt: MqttLogin, rules: Arc<Rules>) -> MqttWish {
        let user = mqtt.user_name.filter(|_| rules.names_user()).unwrap_or_default();
        let user = user.split_once('/').map_or(&*user, |(_, behind)| behind).into();
        let expiry_s = core.auth.expiry_s(mqtt.expiry_s);
        MqttWish {
            client_id: mqtt.client_id,
            device: None,
            clean_start: mqtt.clean_start,
            expiry_s,
            rules,
            user,
            will: mqtt.will,
            anonymous: false,
        }
    }

    /// # Errors
    /// User name or client id speak of another device.
    pub(super) fn judge(&self, device: &Device) -> Result<(), CloseReason> {
        let name = device.name.as_str();
        if self.device.as_ref().is_some_and(|presented| &**presented != name) {
            return Err(CloseReason::BadToken);
        }
        if !self.client_id.is_empty() && &*self.client_id != name {
            return Err(CloseReason::BadClientId);
        }
        Ok(())
    }

    /// The session that it wants, of the device that it turned out to be.
    /// `heads`: the last places of its mailbox and its app's log.
    pub(super) fn session(&self, device: &Device, from: Handle, heads: [Position; 2]) -> SessionWish {
        let will = self.will.clone().filter(|_| self.expiry_s > 0);
        let will = will.map(|WillToKeep { body, delay_s, expiry_s }| {
            let (name, user) = (device.name.as_str().into(), self.user.clone());
            Arc::new(KeptWill { body, delay_s, expiry_s, anonymous: self.anonymous, name, user })
        });
        SessionWish {
            client: device.client,
            app: device.app,
            clean_start: self.clean_start,
            expiry_s: self.expiry_s,
            will,
            from,
            heads,
        }
    }

    pub(super) fn attach(&self, device: &Device, start: SessionStart) -> MqttAttach {
        let name: Box<str> = device.name.as_str().into();
        MqttAttach {
            session_present: start.present,
            assigned: self.client_id.is_empty().then(|| name.clone()),
            expiry_s: start.expiry_s,
            subscriptions: start.subscriptions,
            awaiting_release: start.awaiting_release,
            sent: start.sent,
            rules: self.rules.clone(),
            name,
            user: self.user.clone(),
        }
    }
}

impl Stranger {
    /// # Errors
    /// Why it is not believed.
    fn name(&self, now: WallMs) -> Result<DeviceName, CloseReason> {
        match &self.claim {
            Claim::Name(name) => Ok(name.clone()),
            Claim::Jwt(ways, token) => {
                let jwt = ways.jwt.as_ref().ok_or(CloseReason::BadToken)?;
                jwt.verify(token, now)?.map_or_else(|| name_of(&self.mqtt.client_id), Ok)
            }
        }
    }
}

/// Checks what an MQTT client presents, as far as memory can.
///
/// # Errors
/// The reason to refuse with.
pub(super) fn verify(core: &Core, login: Login, mut mqtt: MqttLogin) -> Result<Verified, CloseReason> {
    match way(core, &mqtt)? {
        Way::Token { app, token, device } => {
            let wish = MqttWish { device, ..MqttWish::new(core, mqtt, app.topic_rules.clone()) };
            Ok(Verified::Wish(logins::wish(core, &app, &login, token, Some(Box::new(wish)))))
        }
        Way::Jwt { app, ways, device } => {
            let claim = Claim::Jwt(ways, mqtt.password.take().unwrap_or_default());
            let mqtt = MqttWish { device, ..MqttWish::new(core, mqtt, app.topic_rules.clone()) };
            Ok(Verified::Stranger(Stranger { app, claim, login, mqtt: Box::new(mqtt) }))
        }
        Way::Certificate { app, name, device } => {
            let mqtt = MqttWish { device, ..MqttWish::new(core, mqtt, app.topic_rules.clone()) };
            Ok(Verified::Stranger(Stranger { app, claim: Claim::Name(name), login, mqtt: Box::new(mqtt) }))
        }
        Way::Ask { app, ways } => {
            let user_name = mqtt.user_name.clone().unwrap_or_default();
            let (password, version) = (mqtt.password.take().unwrap_or_default(), mqtt.version);
            let mqtt = Box::new(MqttWish::new(core, mqtt, app.topic_rules.clone()));
            Ok(Verified::Asking(Asking { app, ways, login, mqtt, user_name, password, version }))
        }
        Way::Anonymous { app } => {
            let claim = Claim::Name(name_of(&mqtt.client_id)?);
            let wish = MqttWish::new(core, mqtt, core.auth.open_rules.clone());
            let mqtt = Box::new(MqttWish { anonymous: true, ..wish });
            Ok(Verified::Stranger(Stranger { app, claim, login, mqtt }))
        }
    }
}

/// Asks the app's own service; a stranger that it lets in goes on like the others.
pub(super) async fn ask(core: Arc<Core>, deciding: Arc<Deciding>, asking: Asking, reads: mpsc::Sender<Read>) {
    let Asking { app, ways, login, mqtt, user_name, password, version } = asking;
    let Some(call_out) = &ways.call_out else {
        return refuse(&core, &deciding, &login, CloseReason::Internal, None).await;
    };
    let password = String::from_utf8_lossy(&password);
    let protocol = if version == Version::V5 { "mqtt5" } else { "mqtt3.1.1" };
    let question = Question {
        client_id: &mqtt.client_id,
        user_name: &user_name,
        password: &password,
        peer: login.peer,
        protocol,
    };
    let answer = call_out.ask(&question, || core.now_ms(), &core.stats).await;
    let named = |name: Option<DeviceName>| name.map_or_else(|| name_of(&mqtt.client_id), Ok);
    match answer.and_then(|name| named(name).map_err(|reason| (reason, None))) {
        Ok(name) => {
            let stranger = Stranger { app, claim: Claim::Name(name), login, mqtt };
            // The desk ends after the last who asks.
            let _ = reads.send(Read::Stranger(Box::new(stranger))).await;
        }
        Err((reason, wait_s)) => refuse(&core, &deciding, &login, reason, wait_s).await,
    }
}

async fn refuse(core: &Core, deciding: &Deciding, login: &Login, reason: CloseReason, wait_s: Option<u16>) {
    deciding.decide(login.from);
    match wait_s.or_else(|| logins::slowed(core, reason, login.peer.ip())) {
        Some(wait_s) => core.refuse_until(login.from, reason, wait_s).await,
        None => core.refuse(login.from, reason).await,
    }
}

/// Finds or makes the devices of strangers, and decides their logins.
pub(super) async fn admit(core: Arc<Core>, deciding: Arc<Deciding>, strangers: Vec<Stranger>) {
    let mut by_app: HashMap<AppId, (Vec<Stranger>, Vec<DeviceName>)> = HashMap::new();
    for stranger in strangers {
        match stranger.name((core.clock)()) {
            Ok(name) => {
                let (strangers, names) = by_app.entry(stranger.app.id).or_default();
                strangers.push(stranger);
                names.push(name);
            }
            Err(reason) => refuse(&core, &deciding, &stranger.login, reason, None).await,
        }
    }
    let mut wishes = Vec::new();
    for (app, (strangers, names)) in by_app {
        let clients = core.auth.enrolment.clients(&core, app, &names).await;
        for (stranger, client) in strangers.into_iter().zip(clients) {
            let from = stranger.login.from;
            match client {
                // One whose connection is gone disturbs nobody.
                Ok(client) if !deciding.named(from, (client, app)) => {}
                Ok(client) => {
                    let token = Token { app, client, generation: u32::MAX, expires: WallMs(u64::MAX) };
                    let Stranger { app, login, mqtt, .. } = stranger;
                    wishes.push(logins::wish(&core, &app, &login, token, Some(mqtt)));
                }
                Err(reason) => refuse(&core, &deciding, &stranger.login, reason, None).await,
            }
        }
    }
    logins::decide(core, deciding, wishes).await;
}
