//! Every size limit of the wire. Units are in the names; what happens at the limit is said at each.

/// The fixed header of a native frame, bytes.
pub const HEADER_BYTES: usize = 16;
/// Body of a frame from a device, bytes; a longer announcement closes with `frame_too_long` before any of
/// the body is awaited. Configurable up to [`FRAME_BODY_BYTES_CEILING`].
pub const FRAME_BODY_BYTES_MAX: usize = 64 * 1024;
/// The largest value that the frame limit may be configured to, bytes.
pub const FRAME_BODY_BYTES_CEILING: usize = 1024 * 1024;
/// All bytes a peer may send before it is logged in, bytes; more closes with `too_much_before_login`.
pub const BEFORE_LOGIN_BYTES_MAX: usize = 16 * 1024;
/// App key, bytes of UTF-8.
pub const APP_KEY_BYTES_MAX: usize = 128;
/// Device token, bytes.
pub const TOKEN_BYTES_MAX: usize = 512;
/// Registration id (device name), bytes of UTF-8.
pub const DEVICE_NAME_BYTES_MAX: usize = 128;
/// Alias or tag, bytes of UTF-8.
pub const LABEL_BYTES_MAX: usize = 64;
/// Name of an attribute, bytes.
pub const ATTRIBUTE_NAME_BYTES_MAX: usize = 32;
/// Collapse key, bytes of UTF-8.
pub const COLLAPSE_KEY_BYTES_MAX: usize = 64;
/// Topic filter, bytes of UTF-8; the length is one byte.
pub const TOPIC_FILTER_BYTES_MAX: usize = 255;
/// Topic name, bytes of UTF-8; the length is one byte.
pub const TOPIC_BYTES_MAX: usize = 255;
/// A node's name in WELCOME, bytes of UTF-8.
pub const NODE_NAME_BYTES_MAX: usize = 64;
/// An address (`host:port`) in REDIRECT and GOAWAY, bytes of UTF-8; the length is one byte.
pub const ADDRESS_BYTES_MAX: usize = 255;
/// Steps of a back-off; more do not decode.
pub const BACK_OFF_STEPS_MAX: usize = 16;
/// Message ids in one ACK; more do not decode.
pub const ACK_IDS_MAX: usize = 64;
/// Unacked messages per connection in their turn; beyond it the rest stays in the store and is pulled.
pub const WINDOW_MESSAGES_MAX: usize = 32;
/// Unacked messages per connection that went ahead of their turn, beside [`WINDOW_MESSAGES_MAX`]; beyond it a high message waits
/// for its turn or for a place.
pub const AHEAD_MESSAGES_MAX: usize = 4;
/// Places that went ahead and that the chain has not come past; beyond it nothing more goes ahead in that session. A device
/// remembers as many; the oldest is forgotten.
pub const AHEAD_PLACES_MAX: usize = 32;
/// Unacked bytes per connection, but for what went ahead; beyond it the rest stays in the store, but one message always fits.
pub const WINDOW_BYTES_MAX: usize = 64 * 1024;
/// Content of an UPSTREAM, bytes (003-18); a longer one is answered with `not allowed` and goes no further.
pub const UPSTREAM_BYTES_MAX: usize = 10 * 1024;
/// Content of a PUBLISH, bytes (003-18); a longer one is answered with `not allowed` and goes no further.
pub const PUBLISH_BYTES_MAX: usize = 10 * 1024;
/// Message ids that a device remembers to drop duplicates; the oldest is forgotten.
pub const DEDUP_WINDOW_MESSAGES: usize = 1024;
/// How long a device that sends too much is not read, seconds; one that would have to wait longer is closed with
/// `inbound_rate` (LIMITS 7.1).
pub const INBOUND_PAUSE_MAX_S: u32 = 5;
/// Shortest and longest heartbeat that a device may announce, seconds; others are clamped.
pub const HEARTBEAT_S_RANGE: std::ops::RangeInclusive<u16> = 5..=1200;

/// How long a device waits for the answer to CONNECT, milliseconds; then it reconnects.
pub const CONNACK_WAIT_MS: u64 = 10_000;
/// PINGs in a row without a sign of the server; when one more is due, the device reconnects (004-20).
pub const PONGS_MISSED_MAX: u8 = 3;
/// How long the last of these PINGs is waited for at most, milliseconds: two were missed already, so it is a quick probe.
pub const PROBE_WAIT_MS: u64 = 10_000;
/// Fewest and most bytes of padding in a PING of a device that pads of its own accord (004-32: whole packets of 64 to 128
/// bytes). What a server assigns has no least.
pub const PADDING_BYTES_RANGE: std::ops::RangeInclusive<u8> = 48..=112;
/// A device that pads also beats early by up to this share of the interval, drawn anew each time, so that its beats have no
/// rhythm. Never late: what it announced covers it.
pub const EARLY_BEAT_PERCENT_MAX: u64 = 20;

const _: () = assert!(WINDOW_BYTES_MAX <= FRAME_BODY_BYTES_MAX);
const _: () = assert!(BEFORE_LOGIN_BYTES_MAX > HEADER_BYTES + APP_KEY_BYTES_MAX + TOKEN_BYTES_MAX);
const _: () = assert!(WINDOW_MESSAGES_MAX + AHEAD_MESSAGES_MAX <= ACK_IDS_MAX);
