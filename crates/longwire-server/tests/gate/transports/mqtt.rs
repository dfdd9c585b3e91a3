//! MQTT through the same layers.

use super::certificates::Folder;
use super::client::{Drip, Framed, Pipe, Talker, connect_frame, socket};
use super::secure::{secure, secured, settled};
use crate::mqtt_rig::{Client, Hello};
use crate::rig::{Rig, options, welcome};
use longwire_proto::close::CloseReason;
use longwire_proto::wire::mqtt::{Packet, QoS, Reason};
use longwire_server::delivery::border::{Command, Event};
use longwire_server::gate::GateOptions;
use longwire_server::gate::transport::{Accepts, Clients, ListenerTerms};
use rustls::version::{TLS12, TLS13};
use std::io::Write;
use std::sync::Arc;

#[test]
fn clients_of_all_transports_hear_each_other() {
    let folder = Folder::new();
    let rig = Rig::new(secured(&folder, Accepts::default()), welcome);
    let configs = [folder.client(&TLS12, None), folder.client(&TLS13, None)];
    let mut clients: Vec<Client<Box<dyn Pipe>>> = Vec::new();
    for number in 1..=20_u64 {
        let (stream, config) = (socket(&rig), &configs[number as usize / 4 % 2]);
        let pipe: Box<dyn Pipe> = match number % 5 {
            0 => Box::new(stream),
            1 => Box::new(Framed::open(stream, "mqtt").unwrap()),
            2 => Box::new(secure(stream, config)),
            3 => Box::new(Framed::open(secure(stream, config), "mqtt").unwrap()),
            _ => Box::new(Framed::open(secure(Drip(stream), config), "mqtt").unwrap()),
        };
        let hello = if number % 2 == 0 { Hello::v5(number) } else { Hello::v311(number) };
        let mut client = Client::over(pipe, &hello);
        assert!(matches!(client.subscribe("room/+", QoS::AtLeastOnce), Reason::GrantedQoS1));
        clients.push(client);
    }
    for publisher in 0..clients.len() {
        let payload = vec![publisher as u8; 5000];
        clients[publisher].publish("room/1", QoS::AtMostOnce, &payload);
        for subscriber in &mut clients {
            assert_eq!(subscriber.message().payload, payload);
        }
    }
    drop(clients);
    settled(&rig);
}

/// The packet that says why, then the Close with its code.
#[test]
fn an_end_is_told_in_mqtt_and_by_the_close_code() {
    let rig = Rig::new(options(), welcome);
    let mut client = Client::over(Framed::open(socket(&rig), "mqtt").unwrap(), &Hello::v5(1));
    let to = rig.until(|rig| {
        let events = rig.events.lock().unwrap();
        events.iter().find_map(|event| match event {
            Event::Login(login) => Some(login.from),
            _ => None,
        })
    });
    let to = to.unwrap();
    let close = Command::Close { to, reason: CloseReason::Kicked, retry_after_s: 0 };
    assert!(rig.shards.post(to.shard(), close).is_ok());
    assert!(matches!(client.next(), Some(Packet::Disconnect(_))));
    let Ok(tungstenite::Message::Close(Some(close))) = client.socket.socket.read() else { panic!("a Close") };
    assert_eq!(u16::from(close.code), 1008);
}

/// The subprotocol is a promise, and a port that takes one protocol takes no other in its clothes.
#[test]
fn what_is_inside_is_what_the_subprotocol_says() {
    let rig = Rig::new(options(), welcome);
    let mut native = Talker::new(Framed::open(socket(&rig), "mqtt").unwrap(), 1);
    native.pipe.write_all(&connect_frame(1)).unwrap();
    let mut mqtt = Framed::open(socket(&rig), "longwire.v1").unwrap();
    mqtt.write_all(&[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 60, 0, 0]).unwrap();
    let refused = rig.until(|rig| (rig.closed(CloseReason::WrongProtocol) == 2).then_some(()));
    assert!(refused.is_some(), "{}", rig.closed(CloseReason::WrongProtocol));
    settled(&rig);
}

/// A certificate that was verified names the device at its login.
#[test]
fn the_name_in_a_client_certificate_is_told_at_login() {
    let folder = Folder::new();
    let identity = folder.authority.identity("device-7", |_| {});
    let tls = Some(Arc::new(folder.terms(Clients::Required)));
    let listeners = Arc::new([ListenerTerms { tls, ..ListenerTerms::default() }]);
    let rig = Rig::new(GateOptions { listeners, ..options() }, welcome);
    for (number, version) in [(1, &TLS12), (2, &TLS13)] {
        let config = folder.client(version, Some(&identity));
        let stream = Framed::open(secure(socket(&rig), &config), "mqtt").unwrap();
        let _client = Client::over(stream, &Hello::v5(number));
        let name = format!("c{number}");
        let events = rig.events.lock().unwrap();
        let told = events.iter().find_map(|event| match event {
            Event::Login(login) => login.mqtt.as_ref().filter(|mqtt| *mqtt.client_id == *name),
            _ => None,
        });
        assert_eq!(told.unwrap().certificate.as_deref(), Some("device-7"));
    }
    let nobody = folder.client(&TLS13, None);
    let mut stream = secure(socket(&rig), &nobody);
    let _ = stream.write_all(b"\x10");
    assert!(rig.until(|rig| (rig.closed(CloseReason::BadTls) == 1).then_some(())).is_some());
    settled(&rig);
}
