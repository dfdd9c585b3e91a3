//! MQTT 3.1.1 and 5.0 packets: one packet model, the version is data (`docs/mqtt.md`).
//!
//! Statement ids such as `MQTT-2.1.3-1` are those of MQTT 5.0; those of 3.1.1 are marked as such.
//!
//! - `header`: type, flags and remaining length, judged before the body is awaited; the limits.
//! - `decode`: a body into a packet; nothing is copied, nothing is allocated.
//! - `packet`: the fifteen packets, borrowing from the input.
//! - `property`: the properties of MQTT 5.0, validated once and read lazily.
//! - `topic`: topic names and filters, and what matches what; `text` is the strict UTF-8 below them.
//! - `reason`: reason codes and the return codes of 3.1.1.
//! - `fault`: why bytes were refused, with the reason code to answer and the statement that settles it.
//! - `encode`: packets into bytes, and a PUBLISH whose bytes many subscribers share.

mod decode;
mod encode;
mod fault;
mod header;
mod packet;
mod property;
mod reason;
mod text;
pub mod topic;

pub use decode::Decoder;
pub use encode::{
    AckFrame, Aliasing, OWN_PROPERTY_BYTES_MAX, Oversized, PublishHead, SharedPublish, Stamp, ack_frame,
    encode, encoded_bytes,
};
pub use fault::Fault;
pub use header::{Header, Kind, Limits, Side, Version};
pub use packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, Filters, FiltersBuf, Options, Packet, Publish, QoS, ReasonList,
    RetainHandling, SubAck, Subscribe, Subscription, Unsubscribe, Will,
};
pub use property::{Place, Properties, PropertiesBuf, Property, PropertyKey};
pub use reason::Reason;
