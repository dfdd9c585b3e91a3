//! The byte layers under the device protocols, each alone: TLS, the WebSocket upgrade, the PROXY header.
#![allow(clippy::unwrap_used, missing_docs)]

mod certificates;
mod proxy;
mod stack;
mod tls;
mod tls_files;
mod tls_hostile;
mod upgrade;
