//! What the tests of the real binary stand on: a server process, an HTTP client and a device, all blocking and small
//! enough to trust by reading.
//!
//! - `server`: starts `longwire serve --dev`, waits for its ready line, ends it.
//! - `http`: one HTTP/1.1 request per connection.
//! - `device`: a device over a blocking socket and proto's client session.
//! - `raw`: a login by hand, then bytes in and out.
//! - `layered`: devices inside TLS and WebSockets.
//! - `nginx`: a real nginx with the files of `deploy/nginx`.
//! - `mqtt`: an MQTT client with a device's token.
//! - `dice`: random numbers with a printed seed.

// Each test binary uses a part of this.
#![allow(dead_code, unused_imports, unreachable_pub, clippy::unwrap_used, clippy::print_stderr)]

mod device;
mod dice;
mod http;
mod layered;
mod mqtt;
mod nginx;
mod raw;
mod server;

pub use device::{Seen, TestDevice};
pub use dice::Dice;
pub use http::{Answer, Api, push_body};
pub use layered::{LayeredDevice, Pipe, certify, framed, mqtt_lives, secure, socket};
pub use mqtt::MqttDevice;
pub use nginx::{Nginx, STREAM_FRONT, WEB_FRONT};
pub use raw::{RawDevice, connect_bytes};
pub use server::{Start, TestServer, count_of};

use std::time::{Duration, Instant};

/// Long enough for a slow machine; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds; false if it does not within `patience`. For states that can only be asked for: what
/// can be waited for directly (a frame, the end of a process) is.
#[must_use]
pub fn until(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + patience;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
