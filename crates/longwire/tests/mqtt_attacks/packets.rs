//! Packets as bytes, written apart from the product's codec.

use crate::support::TestServer;

pub(crate) const PUBLISH: u8 = 0x30;
pub(crate) const PUBLISH_QOS_1: u8 = 0x32;
pub(crate) const PUBLISH_QOS_2: u8 = 0x34;
pub(crate) const RETAIN: u8 = 0x01;
const SUBSCRIBE: u8 = 0x82;

/// A packet.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let (mut out, mut left) = (vec![first], body.len());
    loop {
        let low = (left & 0x7F) as u8;
        left >>= 7;
        out.push(if left == 0 { low } else { low | 0x80 });
        if left == 0 {
            return [&out, body].concat();
        }
    }
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    bytes(text.as_bytes())
}

/// Bytes behind their length.
pub(crate) fn bytes(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

/// CONNECT of MQTT 5 with clean start and a keep alive of a minute.
pub(crate) fn connect_bytes(client_id: &str) -> Vec<u8> {
    packet(0x10, &[b"\0\x04MQTT\x05\x02\0\x3c\0", text(client_id).as_slice()].concat())
}

/// The same for a session that is resumed, and lives for an hour.
pub(crate) fn resume_bytes(client_id: &str) -> Vec<u8> {
    let expiry = b"\x05\x11\0\0\x0e\x10";
    packet(0x10, &[b"\0\x04MQTT\x05\0\0\x3c", &expiry[..], &text(client_id)].concat())
}

/// The same as [`connect_bytes`], with a will of QoS 0.
pub(crate) fn will_bytes(client_id: &str, topic: &str, delay_s: u32, payload: &[u8]) -> Vec<u8> {
    let properties = [&[5, 0x18][..], &delay_s.to_be_bytes()].concat();
    // A delay holds for a session that outlives its connection.
    let expiry = b"\x05\x11\0\0\x0e\x10";
    let will = [properties, text(topic), bytes(payload)].concat();
    packet(0x10, &[b"\0\x04MQTT\x05\x06\0\x3c", &expiry[..], &text(client_id), &will].concat())
}

/// PUBLISH of QoS 0; with a flag of QoS 1 or 2 it needs [`publish_id`].
pub(crate) fn publish(topic: &str, payload: &[u8]) -> Vec<u8> {
    packet(PUBLISH, &[&text(topic)[..], b"\0", payload].concat())
}

pub(crate) fn publish_id(first: u8, topic: &str, id: u16, payload: &[u8]) -> Vec<u8> {
    packet(first, &[&text(topic)[..], &id.to_be_bytes(), b"\0", payload].concat())
}

/// SUBSCRIBE to all of them with one QoS.
pub(crate) fn subscribe_bytes(filters: &[String], qos: u8) -> Vec<u8> {
    let list: Vec<u8> = filters.iter().flat_map(|filter| [text(filter), vec![qos]].concat()).collect();
    packet(SUBSCRIBE, &[&[0, 1, 0][..], &list].concat())
}

/// CONNECT of a registered device: app key and token; `will`: its topic, and it is the device's name that it tells.
#[track_caller]
pub(crate) fn token_bytes(server: &TestServer, name: &str, will: Option<&str>) -> Vec<u8> {
    let registered = server.register(name, None, &[]);
    let token = registered["token"].as_str().unwrap();
    let flags = if will.is_some() { 0xC6 } else { 0xC2 };
    let head = [&b"\0\x04MQTT\x05"[..], &[flags], b"\0\x3c\0", &text(name)].concat();
    let will = will.map_or(Vec::new(), |topic| [&[0][..], &text(topic), &text(name)].concat());
    packet(0x10, &[head, will, text(&server.app_key), text(token)].concat())
}
