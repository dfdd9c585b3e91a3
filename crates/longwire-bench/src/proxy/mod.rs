//! A TCP fault proxy that speaks Toxiproxy's HTTP API: bytes pass it late, slowly, in pieces, in part, or not at all.
//!
//! - `verbs`: the command: runs the proxy, or tells a running one what to do.
//! - `api`: HTTP in and out; `desk`: owns all proxies and answers one request after another.
//! - `relay`: one proxy, its listener and connections; `link`: one direction of a connection.
//! - `toxic`: the faults, and what several of them make together; `dice`: chance.
//!
//! Not here: packet loss. Below a TCP connection the kernel repeats what is lost, so a proxy between two connections
//! cannot lose packets, only time (latency) or the whole conversation (blackhole). Real loss is a rule of a firewall, as
//! in `bench/article-002.sh`.

mod api;
mod desk;
mod dice;
mod link;
mod relay;
mod toxic;
#[cfg(test)]
mod trials;
mod verbs;

pub(crate) use verbs::{ProxyArgs, run};
