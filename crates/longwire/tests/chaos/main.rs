//! Kill the server with SIGKILL, again and again, under load, and let a checker decide from what the test side saw.
//!
//! - `history`: what was done and seen.
//! - `checker`, `judged`: whether the promises held.
//! - `story`, `altered`: the checker is checked with clean and with altered histories.
//! - `planted`: the checker against a server with a fault (feature `planted-faults`).
//! - `storm`: the run itself, with its `callers`, its devices (`sides`), what the server says in the end (`counting`), and how
//!   much of everything there was (`tally`).

#![allow(unreachable_pub, clippy::unwrap_used, clippy::print_stderr)]

mod altered;
mod callers;
mod checker;
mod counting;
mod history;
mod judged;
#[cfg(feature = "planted-faults")]
mod planted;
mod sides;
mod storm;
mod story;
#[path = "../support/mod.rs"]
mod support;
mod tally;
