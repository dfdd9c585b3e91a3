//! Any bytes as a PROXY header: no panic, its length is within the bytes and the bound, and more is asked for only as long as
//! it may be needed. The server's own file is compiled into the target, without the rest of the server.
#![no_main]
#![allow(dead_code)]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/longwire-server/src/gate/transport/detect.rs"]
mod detect;
#[path = "../../crates/longwire-server/src/gate/transport/proxy.rs"]
mod proxy;

use proxy::{PROXY_BYTES_MAX, read_proxy};

fuzz_target!(|bytes: &[u8]| {
    match read_proxy(bytes) {
        Ok(None) => assert!(bytes.len() < PROXY_BYTES_MAX),
        Ok(Some(said)) => {
            assert!(said.header_bytes <= bytes.len() && said.header_bytes <= PROXY_BYTES_MAX);
            // What follows does not change what was said.
            assert_eq!(read_proxy(&bytes[..said.header_bytes]), Ok(Some(said)));
        }
        Err(fault) => {
            // A fault stays a fault, whatever else comes.
            let more = [bytes, b"\r\n\r\n"].concat();
            assert_eq!(read_proxy(&more).map(drop), Err(fault));
        }
    }
});
