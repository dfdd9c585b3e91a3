//! WebSocket framing (RFC 6455), strict, binary only, without extensions: the layer below MQTT and native frames. A frame's
//! payload is a piece of a byte stream; packets may span frames and share them [MQTT-6.0.0-4], so nothing is put together
//! here and nothing is held but 16 bytes of state.
//!
//! - `mask`: the key that a client lays over its payload, eight bytes at a time.
//! - `decode`: bytes in, pieces of payload and control frames out.
//! - `frame`: one frame's header and payload as they come.
//! - `encode`: the few bytes in front of a payload; control frames.
//! - `close`: why a connection is refused or ended, as RFC 6455 codes.

mod close;
mod decode;
mod encode;
mod frame;
mod mask;

pub use close::{WebSocketError, close_code};
pub use decode::{CONTROL_BYTES_MAX, ControlBody, Decoder, Event, Peer, Rules};
pub use encode::{ControlFrame, FrameHead, close, data_head, ping, pong};
pub use mask::Mask;
