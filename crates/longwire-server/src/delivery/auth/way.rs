//! The ways in, tried in this order: device token, then what else the app has, and nothing at all where that is allowed.

use super::super::border::topics::MqttLogin;
use super::super::hub::Core;
use super::super::quotas::in_service;
use super::jwt;
use super::ways::Ways;
use crate::domain::{App, DeviceName, Token, TokenFault};
use longwire_proto::close::CloseReason;
use std::sync::Arc;

/// A way in, taken.
pub(in super::super) enum Way {
    /// A device token that is good. `device`: the name behind `app/`, which must be the token's device.
    Token { app: Arc<App>, token: Token, device: Option<Box<str>> },
    /// A JWT that a key of the app is to verify. `device`: as above.
    Jwt { app: Arc<App>, ways: Arc<Ways>, device: Option<Box<str>> },
    /// A client certificate that is this device's. `device`: as above.
    Certificate { app: Arc<App>, name: DeviceName, device: Option<Box<str>> },
    /// The app's own service is to be asked.
    Ask { app: Arc<App>, ways: Arc<Ways> },
    /// Without credentials, where that is allowed.
    Anonymous { app: Arc<App> },
}

/// The way that a client takes, as far as memory can tell.
///
/// # Errors
/// The reason to refuse with.
pub(in super::super) fn way(core: &Core, login: &MqttLogin) -> Result<Way, CloseReason> {
    let Some(user_name) = &login.user_name else {
        // A password without a user name names no app.
        let allowed = core.auth.options.anonymous.as_ref().filter(|_| login.password.is_none());
        let key = allowed.ok_or(CloseReason::BadToken)?;
        let app = core.app(key.as_str()).ok_or(CloseReason::UnknownApp)?;
        in_service(&app)?;
        return Ok(Way::Anonymous { app });
    };
    let (app_key, device) = match user_name.split_once('/') {
        Some((app_key, device)) => (app_key, Some(device)),
        None => (&**user_name, None),
    };
    let app = core.app(app_key).ok_or(CloseReason::UnknownApp)?;
    in_service(&app)?;
    let device = device.map(Box::from);
    let ways = core.auth.ways.of(app.id);
    let Some(password) = login.password.as_deref() else {
        let name =
            login.certificate.as_deref().and_then(|subject| ways.as_ref()?.device_of(subject).cloned());
        return match (name, ways) {
            (Some(name), _) => Ok(Way::Certificate { app, name, device }),
            (None, Some(ways)) if ways.call_out.is_some() => Ok(Way::Ask { app, ways }),
            _ => Err(CloseReason::BadToken),
        };
    };
    match (core.token_key.verify(password, (core.clock)()), ways) {
        (Ok(token), _) if token.app == app.id => Ok(Way::Token { app, token, device }),
        (Err(TokenFault::Expired), _) => Err(CloseReason::ExpiredToken),
        (Err(TokenFault::Bad), Some(ways)) if ways.jwt.is_some() && jwt::looks_like_one(password) => {
            Ok(Way::Jwt { app, ways, device })
        }
        (Err(TokenFault::Bad), Some(ways)) if ways.call_out.is_some() => Ok(Way::Ask { app, ways }),
        _ => Err(CloseReason::BadToken),
    }
}

/// The name of a device that names itself by its client id; one is made for an empty id (MQTT-3.1.3-6).
///
/// # Errors
/// The client id cannot be a device's name.
pub(in super::super) fn name_of(client_id: &str) -> Result<DeviceName, CloseReason> {
    let made;
    let name = if client_id.is_empty() {
        let mut random = [0_u8; 16];
        getrandom::fill(&mut random).map_err(|_| CloseReason::Internal)?;
        made = format!("{:032x}", u128::from_be_bytes(random));
        &made
    } else {
        client_id
    };
    DeviceName::parse("client_id", name).map_err(|_| CloseReason::BadClientId)
}
