//! How long the MQTT codec takes for one PUBLISH: `cargo run --release -p longwire-proto --example mqtt_codec`.
//!
//! Each line is the best of several rounds, in nanoseconds per packet: decode, encode whole, and the head of one
//! subscriber around shared bytes.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a measurement reads a clock and prints"
)]

use longwire_proto::wire::mqtt::{
    Aliasing, Decoder, Limits, Packet, PropertiesBuf, Property, Publish, PublishHead, QoS, SharedPublish,
    Side, Stamp, Version, encode,
};
use std::hint::black_box;
use std::time::Instant;

const ROUNDS: usize = 7;
const PACKETS_PER_ROUND: u32 = 200_000;

fn best_ns(mut act: impl FnMut()) -> f64 {
    let round = |_| {
        let began = Instant::now();
        (0..PACKETS_PER_ROUND).for_each(|_| act());
        began.elapsed().as_secs_f64() * 1e9 / f64::from(PACKETS_PER_ROUND)
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}

fn measure(version: Version, qos: QoS, payload: &[u8], properties: &PropertiesBuf, name: &str) {
    let properties = properties.as_properties();
    let packet = Publish {
        dup: false,
        qos,
        retain: false,
        topic: "fleet/eu-1/truck/4711/state",
        packet_id: if qos == QoS::AtMostOnce { 0 } else { 1 },
        properties,
        payload,
    };
    let mut bytes = Vec::new();
    encode(&Packet::Publish(packet), version, &mut bytes).expect("small");
    let limits = Limits::default();
    let decoder = Decoder::new(version, Side::Client, &limits);
    let decoded = best_ns(|| {
        let mut input = black_box(bytes.as_slice());
        let _ = black_box(decoder.next(&mut input));
    });
    let mut out = Vec::with_capacity(bytes.len());
    let encoded = best_ns(|| {
        out.clear();
        let _ = encode(&Packet::Publish(black_box(packet)), version, &mut out);
        black_box(&out);
    });
    let shared = SharedPublish::encode(packet.topic, &properties, payload).expect("small");
    let stamp = Stamp {
        version,
        dup: false,
        qos,
        retain: false,
        packet_id: packet.packet_id,
        aliasing: Aliasing::Spelled,
    };
    let headed = best_ns(|| {
        let head = PublishHead::bare(black_box(&shared), black_box(&stamp));
        black_box(head.slices(&shared));
    });
    println!(
        "{version:?} QoS {} {:>5} B{name}: decode {decoded:6.1} ns, encode {encoded:6.1} ns, head {headed:6.1} ns",
        qos as u8,
        payload.len(),
    );
}

fn main() {
    let none = PropertiesBuf::default();
    let some: PropertiesBuf =
        [Property::MessageExpiry(60), Property::UserProperty(("trace", "0123456789abcdef"))]
            .into_iter()
            .collect();
    for version in [Version::V311, Version::V5] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            for payload in [64, 1024] {
                measure(version, qos, &vec![b'x'; payload], &none, "");
            }
        }
    }
    measure(Version::V5, QoS::AtLeastOnce, &[b'x'; 64], &some, " with expiry and a user property");
}
