//! MQTT clients that log in.

use super::Rig;
use longwire_proto::wire::Class;
use longwire_proto::wire::mqtt::Version;
use longwire_server::delivery::border::topics::{MqttAttach, MqttLogin};
use longwire_server::delivery::border::{Attach, Command, Event, Handle, Login};

/// A client that presents these: client id, user name, password.
pub fn mqtt(rig: &Rig, client_id: &str, user_name: Option<&str>, password: Option<&str>) -> Login {
    let mqtt = MqttLogin {
        version: Version::V5,
        client_id: client_id.into(),
        user_name: user_name.map(Box::from),
        password: password.map(|password| password.as_bytes().into()),
        clean_start: true,
        expiry_s: 0,
        certificate: None,
        will: None,
    };
    let login = rig.wish(rig.handle(0), "");
    Login { class: Class::Iot, app_key: String::new(), mqtt: Some(Box::new(mqtt)), ..login }
}

/// What a login that is accepted is given.
pub async fn accepted(rig: &Rig, login: Login) -> (Handle, Box<Attach>) {
    let from = login.from;
    rig.tell(0, Event::Login(Box::new(login))).await;
    match rig.shards.next(0).await {
        Command::Attach(attach) => {
            assert_eq!(attach.to, from);
            (from, attach)
        }
        other => panic!("not an Attach: {other:?}"),
    }
}

pub async fn attached(rig: &Rig, login: Login) -> MqttAttach {
    *accepted(rig, login).await.1.mqtt.unwrap()
}
