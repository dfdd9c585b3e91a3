//! Two other codecs behind one question: what do these bytes become when you decode and encode them? `None`: refused.

use bytes::BytesMut;
use longwire_proto::wire::mqtt::Version;
use mqtt_protocol_core::mqtt::packet::{v3_1_1, v5_0};
use std::panic::catch_unwind;
use tokio_util::codec::{Decoder, Encoder};

/// An oracle.
pub(crate) type Oracle = fn(Version, &[u8]) -> Option<Vec<u8>>;

macro_rules! parse {
    ($version:ident, $kind:ident, $body:expr) => {{
        let (packet, used) = $version::$kind::parse($body).ok()?;
        (used == $body.len()).then(|| packet.to_continuous_buffer())
    }};
}

macro_rules! parse_publish {
    ($version:ident, $first:expr, $body:expr) => {{
        let (packet, used) = $version::Publish::parse($first & 0x0F, std::sync::Arc::from($body)).ok()?;
        (used == $body.len()).then(|| packet.to_continuous_buffer())
    }};
}

/// `mqtt-protocol-core`. Its packets are parsed from their bodies; a panic counts as a refusal.
pub(crate) fn core(version: Version, bytes: &[u8]) -> Option<Vec<u8>> {
    catch_unwind(|| {
        let first = bytes[0];
        let header = 2 + bytes[1..].iter().position(|byte| byte & 0x80 == 0)?;
        let body = &bytes[header..];
        match (version, first >> 4) {
            (Version::V311, 1) => parse!(v3_1_1, Connect, body),
            (Version::V311, 2) => parse!(v3_1_1, Connack, body),
            (Version::V311, 3) => parse_publish!(v3_1_1, first, body),
            (Version::V311, 4) => parse!(v3_1_1, Puback, body),
            (Version::V311, 5) => parse!(v3_1_1, Pubrec, body),
            (Version::V311, 6) => parse!(v3_1_1, Pubrel, body),
            (Version::V311, 7) => parse!(v3_1_1, Pubcomp, body),
            (Version::V311, 8) => parse!(v3_1_1, Subscribe, body),
            (Version::V311, 9) => parse!(v3_1_1, Suback, body),
            (Version::V311, 10) => parse!(v3_1_1, Unsubscribe, body),
            (Version::V311, 11) => parse!(v3_1_1, Unsuback, body),
            (Version::V311, 12) => parse!(v3_1_1, Pingreq, body),
            (Version::V311, 13) => parse!(v3_1_1, Pingresp, body),
            (Version::V311, _) => parse!(v3_1_1, Disconnect, body),
            (Version::V5, 1) => parse!(v5_0, Connect, body),
            (Version::V5, 2) => parse!(v5_0, Connack, body),
            (Version::V5, 3) => parse_publish!(v5_0, first, body),
            (Version::V5, 4) => parse!(v5_0, Puback, body),
            (Version::V5, 5) => parse!(v5_0, Pubrec, body),
            (Version::V5, 6) => parse!(v5_0, Pubrel, body),
            (Version::V5, 7) => parse!(v5_0, Pubcomp, body),
            (Version::V5, 8) => parse!(v5_0, Subscribe, body),
            (Version::V5, 9) => parse!(v5_0, Suback, body),
            (Version::V5, 10) => parse!(v5_0, Unsubscribe, body),
            (Version::V5, 11) => parse!(v5_0, Unsuback, body),
            (Version::V5, 12) => parse!(v5_0, Pingreq, body),
            (Version::V5, 13) => parse!(v5_0, Pingresp, body),
            (Version::V5, 14) => parse!(v5_0, Disconnect, body),
            (Version::V5, _) => parse!(v5_0, Auth, body),
        }
    })
    .ok()
    .flatten()
}

/// `rmqtt-codec`; a panic counts as a refusal.
pub(crate) fn rmqtt(version: Version, bytes: &[u8]) -> Option<Vec<u8>> {
    catch_unwind(|| {
        let mut input = BytesMut::from(bytes);
        let mut out = BytesMut::new();
        match version {
            Version::V311 => {
                let (packet, _) = rmqtt_codec::v3::Codec::new(0).decode(&mut input).ok()??;
                rmqtt_codec::v3::Codec::new(0).encode(packet, &mut out).ok()?;
            }
            Version::V5 => {
                let (packet, _) = rmqtt_codec::v5::Codec::new(0, 0).decode(&mut input).ok()??;
                rmqtt_codec::v5::Codec::new(0, 0).encode(packet, &mut out).ok()?;
            }
        }
        input.is_empty().then(|| out.to_vec())
    })
    .ok()
    .flatten()
}
