//! Logins of MQTT clients. One with a device token is decided like a native one; one that names itself is a stranger until
//! its name is found, or registered.

use super::super::auth::{Way, name_of, way};
use super::super::border::Login;
use super::super::border::topics::{MqttAttach, MqttLogin};
use super::super::hub::Core;
use super::super::memory::deciding::Deciding;
use super::logins::{self, Verified};
use crate::domain::topic::Rules;
use crate::domain::{App, AppId, Device, DeviceName, Token, WallMs};
use longwire_proto::close::CloseReason;
use std::collections::HashMap;
use std::sync::Arc;

/// What an MQTT client wants beside being let in.
pub(super) struct MqttWish {
    /// As presented; empty: the server says which.
    client_id: Box<str>,
    /// The device that the user name speaks of.
    device: Option<Box<str>>,
    expiry_s: u32,
    rules: Arc<Rules>,
    /// See [`MqttAttach::user`].
    user: Box<str>,
}

/// A client whose name says which device it is.
pub(super) struct Stranger {
    pub(super) app: Arc<App>,
    name: DeviceName,
    login: Login,
    mqtt: Box<MqttWish>,
}

impl MqttWish {
    fn new(core: &Core, mqtt: MqttLogin, rules: Arc<Rules>) -> MqttWish {
        let user = mqtt.user_name.filter(|_| rules.names_user()).unwrap_or_default();
        let user = user.split_once('/').map_or(&*user, |(_, behind)| behind).into();
        let expiry_s = core.auth.expiry_s(mqtt.expiry_s);
        MqttWish { client_id: mqtt.client_id, device: None, expiry_s, rules, user }
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

    pub(super) fn attach(&self, device: &Device) -> MqttAttach {
        let name: Box<str> = device.name.as_str().into();
        MqttAttach {
            session_present: false,
            assigned: self.client_id.is_empty().then(|| name.clone()),
            expiry_s: self.expiry_s,
            subscriptions: Vec::new(),
            awaiting_release: Vec::new(),
            rules: self.rules.clone(),
            name,
            user: self.user.clone(),
        }
    }
}

/// Checks what an MQTT client presents, as far as memory can.
///
/// # Errors
/// The reason to refuse with.
pub(super) fn verify(core: &Core, login: Login, mqtt: MqttLogin) -> Result<Verified, CloseReason> {
    match way(core, &mqtt)? {
        Way::Token { app, token, device } => {
            let wish = MqttWish { device, ..MqttWish::new(core, mqtt, app.topic_rules.clone()) };
            Ok(Verified::Wish(logins::wish(core, &app, &login, token, Some(Box::new(wish)))))
        }
        Way::Anonymous { app } => {
            let name = name_of(&mqtt.client_id)?;
            let mqtt = Box::new(MqttWish::new(core, mqtt, core.auth.open_rules.clone()));
            Ok(Verified::Stranger(Stranger { app, name, login, mqtt }))
        }
    }
}

/// Finds or makes the devices of strangers, and decides their logins.
pub(super) async fn admit(core: Arc<Core>, deciding: Arc<Deciding>, strangers: Vec<Stranger>) {
    let mut by_app: HashMap<AppId, Vec<Stranger>> = HashMap::new();
    for stranger in strangers {
        by_app.entry(stranger.app.id).or_default().push(stranger);
    }
    let mut wishes = Vec::new();
    for (app, strangers) in by_app {
        let names: Vec<DeviceName> = strangers.iter().map(|stranger| stranger.name.clone()).collect();
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
                Err(reason) => {
                    deciding.decide(from);
                    core.refuse(from, reason).await;
                }
            }
        }
    }
    logins::decide(core, deciding, wishes).await;
}
