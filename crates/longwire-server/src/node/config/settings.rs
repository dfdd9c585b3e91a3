//! The one table of settings: key, kind, default, unit and meaning. Parsing, checking, `gen-config` and
//! `docs/configuration.md` are all driven by it.

pub use super::setting::{Fallback, Kind, Setting};
use crate::delivery::{AUTOMATIC_DEVICES_MAX, SESSION_EXPIRY_DEFAULT_S, SESSION_EXPIRY_MAX_S};
use crate::store::registry::{CONNECTIONS_MAX as SQL_CONNECTIONS_MAX, START_MAX as SQL_START_MAX};

use super::setting::{
    further_accept, further_bind, further_plaintext, further_proxies, integer, switch, text,
};
use longwire_proto::limit::{FRAME_BODY_BYTES_CEILING, HEARTBEAT_S_RANGE};

const HEARTBEAT_MIN: u64 = *HEARTBEAT_S_RANGE.start() as u64;
const HEARTBEAT_MAX: u64 = *HEARTBEAT_S_RANGE.end() as u64;
const DAY_S: u64 = 86_400;
const MIB: u64 = 1024 * 1024;

/// Every setting, in the order in which it is shown.
pub const SETTINGS: &[Setting] = &[
    text(
        "node.id",
        Kind::Text { max: 64 },
        "longwire",
        "This node's name, told to devices at login and written in logs.",
    ),
    text(
        "node.data_dir",
        Kind::Text { max: 4096 },
        "longwire-data",
        "Folder of everything that must survive; made with mode 0700 if missing. One process at a time: a second one is refused.",
    ),
    integer(
        "node.drain_s",
        10,
        "seconds",
        0,
        600,
        "At a stop: how long requests in flight and outboxes of devices get to finish; then they are closed.",
    ),
    integer(
        "node.goaway_spread_s",
        5,
        "seconds",
        0,
        3600,
        "At a stop: devices are told to go one after the other over at most this (500 a second and shard where there is time), so that they do not all come at once. At least 2 seconds of `node.drain_s` are left for the last ones.",
    ),
    integer(
        "node.memory_limit",
        0,
        "bytes",
        0,
        1 << 50,
        "Resident memory that the process plans with; 0 = 70 % of what the machine or its control group has. From 70 % of it broadcasts go slower, from 80 % new connections are told to come back later and online-only messages are dropped, from 90 % pushes get 429, devices' messages are answered with busy, and the connections that hold most are closed; from 95 % the level is critical, and the same is shed.",
    ),
    text(
        "listener.device.bind",
        Kind::Address,
        "127.0.0.1:7800",
        "Where devices connect. An address other than loopback needs `listener.device.tls.certificate`, and then nothing is taken there outside TLS, unless `listener.device.insecure_plaintext` says so.",
    ),
    switch(
        "listener.device.insecure_plaintext",
        "Accept devices without TLS on an address that others can reach: tokens and messages can then be read on the way. Meant for a trusted network or behind a TLS proxy.",
    ),
    integer(
        "listener.device.connections_max",
        1_000_000,
        "connections",
        1,
        16_000_000,
        "Device connections at once; beyond it a new one is answered with `full` and closed. The descriptor limit of the process may be lower: the start says so.",
    ),
    integer(
        "listener.device.socket_buffer_bytes",
        0,
        "bytes",
        0,
        16 * MIB,
        "SO_SNDBUF and SO_RCVBUF of device sockets; 0 leaves it to the kernel, which tunes by itself.",
    ),
    text(
        "listener.device.accept",
        Kind::Words { max: 64 },
        "native mqtt ws tls",
        "What devices may speak on this port; their first bytes tell which: `native` and `mqtt`, plain or inside the others; `ws`: a WebSocket with the subprotocol `longwire.v1` or `mqtt`; `tls`: any of them inside TLS, if there is a certificate; `ws-only` and `tls-only`: the same, and nothing outside it. Anything else is closed with `wrong_protocol`.",
    ),
    text(
        "listener.device.proxy_from",
        Kind::Words { max: 4096 },
        "",
        "IP addresses of load balancers that begin each connection with a PROXY header, version 1 or 2. From these it is required, from all others refused, with `bad_proxy_header`; the address in it counts for limits and guards.",
    ),
    text(
        "listener.device.tls.certificate",
        Kind::Text { max: 4096 },
        "",
        "PEM file: the server's certificate first, then its chain. Read at the start and again at SIGHUP; a file that cannot be used then leaves the old certificate in use and is told in the log. Empty: no TLS.",
    ),
    text(
        "listener.device.tls.key",
        Kind::Text { max: 4096 },
        "",
        "PEM file: the private key of that certificate, without password.",
    ),
    text(
        "listener.device.tls.client_auth",
        Kind::Choice(&["off", "optional", "required"]),
        "off",
        "Whether devices show a certificate of an authority in `client_ca`: `optional` refuses only one that does not verify.",
    ),
    text(
        "listener.device.tls.client_ca",
        Kind::Text { max: 4096 },
        "",
        "PEM file: the authorities of devices' certificates.",
    ),
    text(
        "listener.device.ws.paths",
        Kind::Words { max: 4096 },
        "/mqtt /",
        "Paths at which there is a WebSocket; another is answered with 404.",
    ),
    text(
        "listener.device.ws.origins",
        Kind::Words { max: 4096 },
        "",
        "Origins whose pages may connect, as `https://shop.example`; another is answered with 403. Empty: all. A request without Origin is no page's and is taken.",
    ),
    further_bind(
        "listener.mqtt.bind",
        "Where MQTT clients connect that know nothing but its usual port, as `0.0.0.0:1883`; empty: there is no such listener. Certificates and WebSocket rules of all listeners are those of `listener.device`.",
    ),
    further_accept("listener.mqtt.accept", "mqtt"),
    further_plaintext("listener.mqtt.insecure_plaintext"),
    further_proxies("listener.mqtt.proxy_from"),
    further_bind(
        "listener.mqtts.bind",
        "The same inside TLS, as `0.0.0.0:8883`; needs `listener.device.tls.certificate`.",
    ),
    further_accept("listener.mqtts.accept", "mqtt tls-only"),
    further_plaintext("listener.mqtts.insecure_plaintext"),
    further_proxies("listener.mqtts.proxy_from"),
    further_bind("listener.ws.bind", "Where WebSockets connect and nothing else, as `0.0.0.0:8083`."),
    further_accept("listener.ws.accept", "mqtt native ws-only"),
    further_plaintext("listener.ws.insecure_plaintext"),
    further_proxies("listener.ws.proxy_from"),
    further_bind(
        "listener.wss.bind",
        "The same inside TLS, as `0.0.0.0:8084`; needs `listener.device.tls.certificate`.",
    ),
    further_accept("listener.wss.accept", "mqtt native ws-only tls-only"),
    further_plaintext("listener.wss.insecure_plaintext"),
    further_proxies("listener.wss.proxy_from"),
    text(
        "api.bind",
        Kind::Address,
        "127.0.0.1:8080",
        "Where the HTTP API listens. An address other than loopback is refused while there is no TLS, unless `api.insecure_plaintext` says so.",
    ),
    switch(
        "api.insecure_plaintext",
        "Serve the API without TLS on an address that others can reach: app secrets can then be read on the way. Meant for a trusted network or behind a TLS proxy.",
    ),
    integer(
        "api.connections_max",
        1024,
        "connections",
        1,
        65_536,
        "API connections at once; beyond it a new one is answered with 503 and closed.",
    ),
    integer(
        "api.requests_per_app_max",
        512,
        "requests",
        1,
        65_536,
        "API requests of one app in work at once; beyond it 429 with Retry-After.",
    ),
    integer(
        "api.header_s",
        10,
        "seconds",
        1,
        600,
        "A request's head must be complete after so long, also on a connection kept alive; then the connection is closed.",
    ),
    integer(
        "api.body_s",
        30,
        "seconds",
        1,
        600,
        "A request's body must be complete after so long; then 408.",
    ),
    integer(
        "heartbeat.default",
        60,
        "seconds",
        HEARTBEAT_MIN,
        HEARTBEAT_MAX,
        "Heartbeat of devices that are neither phones nor on a cellular network, where the profile is `by_class`. A connection is idle, and closed, after three announced heartbeats and 20 seconds.",
    ),
    text(
        "heartbeat.profile",
        Kind::Text { max: 16 },
        "by_class",
        "Heartbeat assigned to devices of apps that have no profile of their own: `by_class` (180 seconds for phones and cellular networks, else `heartbeat.default`), `mains` (60), `phone` (180), `low_power` (300), or a number of seconds in quotes; always within `heartbeat.min` and `heartbeat.max`.",
    ),
    integer(
        "heartbeat.padding",
        0,
        "bytes",
        0,
        255,
        "Random padding that devices are asked to add to each heartbeat, at most, in apps that say nothing of it; 0 = none. For carriers that throttle packets of one size. Such heartbeats also come up to a fifth of the interval early, each by another time. Costs data: half of it per heartbeat on average. 48 is a good value.",
    ),
    integer(
        "heartbeat.min",
        15,
        "seconds",
        HEARTBEAT_MIN,
        HEARTBEAT_MAX,
        "Shortest heartbeat; a device that announces less is treated as if it had announced this. MQTT clients may ask for a shorter keep alive, down to `limits.ping_s`: it says how soon their will is sent.",
    ),
    integer(
        "heartbeat.max",
        1200,
        "seconds",
        HEARTBEAT_MIN,
        HEARTBEAT_MAX,
        "Longest heartbeat; a device that announces more is treated as if it had announced this.",
    ),
    text(
        "backoff.steps",
        Kind::Text { max: 96 },
        "1 2 3 5 8 13 20",
        "Seconds that a device waits before its first, second, … attempt to come back, told at registration and login; the last repeats. 1 to 16 whole numbers, each at most 3600, the last not 0.",
    ),
    integer(
        "backoff.jitter_ms",
        1000,
        "milliseconds",
        0,
        60_000,
        "A random part of this is added to each of `backoff.steps`, so that devices that were lost together do not come back together.",
    ),
    integer(
        "limits.frame_bytes",
        64 * 1024,
        "bytes",
        1024,
        FRAME_BODY_BYTES_CEILING as u64,
        "Body of a frame from a device; a longer announcement closes with `frame_too_long` before the body is read.",
    ),
    integer("limits.login_s", 10, "seconds", 1, 600, "From accept to complete login; then `login_timeout`."),
    integer(
        "limits.frame_s",
        30,
        "seconds",
        1,
        600,
        "A frame that was begun must be complete; then `frame_timeout`.",
    ),
    integer(
        "limits.write_stall_s",
        30,
        "seconds",
        1,
        600,
        "A device that takes no byte for so long is closed with `write_stall`, at the latest 5 s after; 2 s more are TCP_USER_TIMEOUT, for bytes that are all in the kernel's queue.",
    ),
    integer(
        "limits.ack_s",
        30,
        "seconds",
        1,
        600,
        "A delivery must be acked; then `ack_timeout`, and it is delivered again to the next connection.",
    ),
    integer(
        "limits.inbound_messages_per_s",
        50,
        "messages",
        0,
        10_000,
        "Messages that a device may send in a second: everything but heartbeats and acks of receipt. Beyond `limits.inbound_burst_s` it is not read until it has caught up; if that would take more than 5 seconds it is closed with `inbound_rate`. 0 is no limit. Messages for the business above 50 a second of one device, over all its connections, are answered with `busy` whatever stands here.",
    ),
    integer(
        "limits.inbound_bytes_per_s",
        512 * 1024,
        "bytes",
        0,
        1 << 30,
        "Bytes that a device may send in a second, with the same end. A message costs its place or its bytes, whichever is more. 0 is no limit.",
    ),
    integer(
        "limits.inbound_burst_s",
        4,
        "seconds",
        1,
        600,
        "So many seconds' worth of messages and bytes may come at once: by default 200 messages or 2 MiB.",
    ),
    integer(
        "limits.ping_s",
        5,
        "seconds",
        0,
        60,
        "Shortest time between heartbeats of a device, kept up; not above `heartbeat.min`. Sooner ones are answered and counted in `longwire_heartbeats_early_total` once `limits.pings_burst` is used up; at twice the burst the connection is closed with `ping_rate` and asked to stay away for 60 seconds. 0 is no limit.",
    ),
    integer("limits.pings_burst", 12, "heartbeats", 1, 1000, "Heartbeats that may come at once."),
    integer(
        "limits.outbox_high",
        64 * 1024,
        "bytes",
        4096,
        64 * MIB,
        "Bytes waiting for one connection above which it is not read and online-only messages for it are dropped and counted.",
    ),
    integer(
        "limits.outbox_low",
        16 * 1024,
        "bytes",
        1024,
        64 * MIB,
        "Bytes waiting for one connection below which it is read again; less than `limits.outbox_high`.",
    ),
    integer(
        "limits.command_queue",
        16 * 1024,
        "commands",
        64,
        MIB,
        "Commands that may wait for one shard; when full, pushes wait.",
    ),
    integer(
        "limits.event_queue",
        16 * 1024,
        "events",
        64,
        MIB,
        "Events of one shard that may wait for the hub; when full, the shard leaves its sockets unread.",
    ),
    integer(
        "limits.address_connections",
        10_000,
        "connections",
        1,
        16_000_000,
        "Connections of one address (IPv6: one /64) at once; beyond it a new one is answered with `full` and 30 to 120 seconds to wait. Thousands of devices may share an address behind a carrier's NAT: keep it high.",
    ),
    integer(
        "limits.address_rate",
        200,
        "connections per second",
        1,
        1_000_000,
        "New connections from one address, after a burst of two seconds of it. Binds only while the node has no headroom (its backlog has not been empty for two seconds, or it sheds load): then what is beyond it is answered with `full` and a time to wait, so that a flood from one address leaves the others their logins.",
    ),
    integer(
        "limits.address_awaiting",
        100,
        "connections",
        1,
        16_000_000,
        "Connections of one address that have not said CONNECT. Binds only while half of a shard's share of `limits.awaiting` is taken by connections older than a second; then a new one is answered with `full`.",
    ),
    integer(
        "limits.awaiting",
        16_384,
        "connections",
        64,
        16_000_000,
        "Connections that have not said CONNECT, over all shards, an equal share each. Beyond it the oldest is closed with `full` to make room. While half of a share is taken by connections younger than a second, the next ones wait in the kernel's backlog: a fleet that comes back is not refused.",
    ),
    integer(
        "limits.login_rate_min",
        1000,
        "logins per second",
        1,
        10_000_000,
        "Logins that are let in however slow the node is.",
    ),
    integer(
        "limits.login_rate_max",
        100_000,
        "logins per second",
        1,
        10_000_000,
        "Logins that are let in at most. Between the two the node adapts to what it measures: a fifth less when a shard's turn takes over 0.1 s or a decision over a second, 1,000 more each tenth of a second without. What is beyond the rate waits in the kernel's backlog for two seconds, then is answered with `full` and the second at which its turn would come.",
    ),
    integer("shards.count", 0, "threads", 0, 64, "Threads that own device connections; 0 is one per core."),
    switch("shards.pin", "Pin shard n to core n."),
    integer(
        "storage.reserve",
        256 * MIB,
        "bytes",
        0,
        1 << 50,
        "Free bytes on the file system that pushes may not use; below it pushes get 503 `storage_full` while deliveries go on.",
    ),
    integer(
        "storage.books_check",
        60,
        "seconds",
        1,
        DAY_S,
        "How long after a check of the books the next one begins: what is pending in the mailboxes is counted, in slices, and compared with the totals of each app and message. A gap shows in `longwire_books_gap` and the log.",
    ),
    integer(
        "storage.retention",
        3 * DAY_S,
        "seconds",
        60,
        400 * DAY_S,
        "How long records of ended messages, broadcasts for devices that are away, and messages of devices that the business has not taken are kept.",
    ),
    integer(
        "story.days",
        7,
        "days",
        0,
        400,
        "How long after its deadline a message's record and the story of each of its ended deliveries are kept for `explain`, about 50 bytes a delivery; 0 = no stories, and what devices say of messages is only counted in `longwire_feedback_total`.",
    ),
    switch(
        "webhooks.private",
        "Webhooks may go to loopback, private and link-local addresses, and to `http` URLs. Apps choose these URLs: leave it off where apps are not trusted with the node's network. `--dev` switches it on.",
    ),
    Setting {
        key: "sql.url",
        kind: Kind::Text { max: 1024 },
        unit: "",
        fallback: Fallback::Text(""),
        secret: true,
        doc: "Database of apps and devices: `sqlite:PATH`, or `mysql://`, `mariadb://` or `postgres://user:password@host:port/database`; empty is `registry.db` in the data folder. Characters of the password that mean something in a URL are percent-encoded. TLS: `?ssl-mode=VERIFY_IDENTITY&ssl-ca=FILE` (MySQL, MariaDB) or `?sslmode=verify-full&sslrootcert=FILE` (PostgreSQL); by default it is used if the server offers it, and its certificate is not looked at. Never printed; better in `LONGWIRE_SQL__URL` than in a file that others read.",
    },
    integer(
        "sql.connections",
        SQL_CONNECTIONS_MAX as u64,
        "connections",
        1,
        256,
        "Connections to a server's database at once, besides the one that holds the lock; callers beyond it wait for 4 seconds at most. A file has 4.",
    ),
    integer(
        "sql.wait",
        SQL_START_MAX.as_secs(),
        "seconds",
        0,
        3600,
        "How long a start waits for a server's database that does not answer yet, or that another server has; then it fails and says so.",
    ),
    text(
        "apps.duplicate_login",
        Kind::Text { max: 32 },
        "takeover",
        "What meets a login whose device is connected already: `takeover` displaces the older connection; `reject` refuses the newer with `already_connected` and a time to come again, and ends an older one that has been silent for its heartbeat and 10 seconds; `one_per_class` lets a device have one connection each as phone, pc, web and iot, and displaces the older of the same class; `many` lets it have several, see `apps.connections_per_device`. Holds for apps that have no policy of their own.",
    ),
    integer(
        "apps.connections_per_device",
        8,
        "connections",
        1,
        32,
        "Connections that one device may have at once under the policy `many`; a newer one displaces the oldest, counted in `longwire_displaced_at_bound_total`.",
    ),
    integer(
        "quotas.connections",
        1_000_000,
        "connections",
        0,
        100_000_000,
        "Logged-in connections that one app may have at once; 0 = without a limit. Beyond it a login is refused with `app_quota` (MQTT 0x97) and a time to come again. This and the following hold for apps that have no quota of their own (`PUT /v1/quotas`).",
    ),
    integer(
        "quotas.devices",
        10_000_000,
        "devices",
        0,
        1_000_000_000,
        "Devices that one app may have; 0 = without a limit. Beyond it a new one is refused by the API with 429 `app_quota`; those that register themselves by logging in have `auth.automatic_devices`.",
    ),
    integer(
        "quotas.requests_per_s",
        1000,
        "requests per second",
        0,
        1_000_000,
        "Requests to the API that one app may send, a second's worth at once; 0 = without a limit. Beyond it 429 `app_rate` with Retry-After.",
    ),
    integer(
        "quotas.messages_per_s",
        10_000,
        "messages per second",
        0,
        1_000_000,
        "Messages that one app may push or publish by the API, a second's worth at once; 0 = without a limit. Beyond it 429 `app_rate` with Retry-After, and nothing is stored.",
    ),
    integer(
        "quotas.broadcasts_per_min",
        600,
        "messages per minute",
        0,
        1_000_000,
        "Those of them for all devices, or by tags and conditions, a minute's worth at once; 0 = without a limit. Beyond it the same.",
    ),
    integer(
        "metrics.apps",
        100,
        "apps",
        0,
        200,
        "Apps that have series of their own on `/metrics`, those that were made first; all others together are `app=\"other\"`.",
    ),
    integer(
        "tokens.ttl",
        30 * DAY_S,
        "seconds",
        60,
        3650 * DAY_S,
        "How long a device token is valid; the device then registers again.",
    ),
    switch(
        "auth.anonymous",
        "Let MQTT clients in that present nothing: they join the app `auth.anonymous_app` under their client id and may use every topic. For development; refused unless every device listener is on loopback. `serve --dev` switches it on.",
    ),
    text(
        "auth.anonymous_app",
        Kind::Text { max: 128 },
        "default",
        "The key of the app that clients without credentials join.",
    ),
    integer(
        "auth.automatic_devices",
        AUTOMATIC_DEVICES_MAX,
        "devices",
        0,
        100_000_000,
        "Devices of one app that registered themselves by logging in (JWT, call-out, certificate, anonymous); beyond it a new name is refused with `device_quota` (MQTT 0x97), and those that are registered get in.",
    ),
    integer(
        "mqtt.session_expiry",
        SESSION_EXPIRY_DEFAULT_S as u64,
        "seconds",
        1,
        30 * DAY_S,
        "How long a session outlives its connection where the client leaves it to the server (3.1.1 without clean session; 5.0 with 0xFFFFFFFF).",
    ),
    integer(
        "mqtt.session_expiry_max",
        SESSION_EXPIRY_MAX_S as u64,
        "seconds",
        1,
        30 * DAY_S,
        "How long a session outlives its connection at most; a client that asks for more is told this.",
    ),
    text(
        "log.level",
        Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
        "info",
        "Least severity that is written.",
    ),
    text(
        "log.format",
        Kind::Choice(&["text", "json"]),
        "text",
        "One line per event, for people or for machines.",
    ),
    text("log.target", Kind::Choice(&["stderr", "stdout"]), "stderr", "Where the lines go."),
    integer(
        "log.buffer_lines",
        8192,
        "lines",
        16,
        MIB,
        "Lines that may wait for a slow reader, 4 MiB of them at most; beyond it lines are dropped and counted in `longwire_log_lines_dropped_total`. Logging never waits.",
    ),
];

/// Where a key stands in [`SETTINGS`].
#[must_use]
pub fn index_of(key: &str) -> Option<usize> {
    SETTINGS.iter().position(|setting| setting.key == key)
}

/// The known key that is nearest to what somebody wrote, if one is near enough to be meant.
#[must_use]
pub fn nearest(written: &str) -> Option<&'static str> {
    let written: String = written.chars().take(64).collect();
    let near = SETTINGS.iter().map(|setting| (distance(&written, setting.key), setting.key)).min()?;
    (near.0 <= 2.max(written.len() / 3)).then_some(near.1)
}

/// Single-character edits from one text to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_named_and_nonsense_is_not() {
        assert_eq!(nearest("heartbeat.defalt"), Some("heartbeat.default"));
        assert_eq!(nearest("limit.ack_s"), Some("limits.ack_s"));
        assert_eq!(nearest("qqqqqqqqqq"), None);
        assert_eq!(nearest(""), None);
    }

    #[test]
    fn every_default_is_within_its_own_limits() {
        for setting in SETTINGS {
            assert_eq!(index_of(setting.key).map(|at| SETTINGS[at].key), Some(setting.key));
            match (setting.kind, setting.fallback) {
                (Kind::Integer { min, max }, Fallback::Integer(n)) => {
                    assert!((min..=max).contains(&n), "{}", setting.key);
                }
                (Kind::Switch, Fallback::Switch(_)) | (Kind::AddressOrNone, Fallback::Text("")) => {}
                (Kind::Address, Fallback::Text(text)) => {
                    assert!(text.parse::<std::net::SocketAddr>().is_ok(), "{}", setting.key);
                }
                (Kind::Text { max } | Kind::Words { max }, Fallback::Text(text)) => {
                    assert!(text.len() <= max)
                }
                (Kind::Choice(words), Fallback::Text(text)) => assert!(words.contains(&text)),
                _ => panic!("{}: the default is of another kind", setting.key),
            }
        }
    }
}
