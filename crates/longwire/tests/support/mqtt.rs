//! An MQTT client with a device's token, over any pipe.

use super::layered::Pipe;
use longwire_proto::session::Millis;
use longwire_proto::session::mqtt_client::{FromServer, Login, MqttClient};
use longwire_proto::wire::mqtt::{Property, Version};
use serde_json::Value;

/// A client that is logged in and subscribes to nothing.
pub struct MqttDevice {
    pipe: Box<dyn Pipe>,
    client: MqttClient,
    /// What came and is not read yet.
    held: Vec<u8>,
}

impl MqttDevice {
    /// Logs in with what the registration answered.
    #[track_caller]
    pub fn login(pipe: Box<dyn Pipe>, version: Version, app_key: &str, registered: &Value) -> MqttDevice {
        let token = registered["token"].as_str().unwrap();
        let login =
            Login { user_name: Some(app_key), password: Some(token.as_bytes()), ..Login::clean(version, "") };
        let mut connect = Vec::new();
        let client = MqttClient::begin(&login, Millis(0), &mut connect).unwrap();
        let mut device = MqttDevice { pipe, client, held: Vec::new() };
        device.pipe.write_all(&connect).unwrap();
        device.pipe.flush().unwrap();
        let welcomed = device.next(|from| match from {
            FromServer::Welcome(_) => Some(true),
            _ => Some(false),
        });
        assert!(welcomed, "login");
        device
    }

    /// Topic and payload of the next message, which is acked as its QoS asks.
    #[track_caller]
    pub fn message(&mut self) -> (String, Vec<u8>) {
        self.next(|from| match from {
            FromServer::Message { publish, .. } => Some((publish.topic.to_owned(), publish.payload.to_vec())),
            _ => None,
        })
    }

    /// The next message with its user properties, acked as its QoS asks.
    #[track_caller]
    pub fn push(&mut self) -> (String, Vec<u8>, Vec<(String, String)>) {
        self.next(|from| match from {
            FromServer::Message { publish, .. } => {
                let own = publish.properties.iter().filter_map(|property| match property {
                    Property::UserProperty((name, value)) => Some((name.to_owned(), value.to_owned())),
                    _ => None,
                });
                Some((publish.topic.to_owned(), publish.payload.to_vec(), own.collect()))
            }
            _ => None,
        })
    }

    /// Reads until `wanted` finds what it looks for; what must be answered is.
    #[track_caller]
    fn next<T>(&mut self, wanted: impl Fn(&FromServer<'_>) -> Option<T>) -> T {
        loop {
            let mut answers = Vec::new();
            let mut rest = &self.held[..];
            let before = rest.len();
            let from = self.client.receive(&mut rest, &mut answers).unwrap();
            let none = from.is_none();
            let found = from.as_ref().and_then(&wanted);
            let taken = before - rest.len();
            self.held.drain(..taken);
            if !answers.is_empty() {
                self.pipe.write_all(&answers).unwrap();
                self.pipe.flush().unwrap();
            }
            if let Some(found) = found {
                return found;
            }
            if none {
                let mut bytes = [0; 4096];
                let count = self.pipe.read(&mut bytes).unwrap();
                assert!(count > 0, "closed by the server");
                self.held.extend_from_slice(&bytes[..count]);
            }
        }
    }
}
