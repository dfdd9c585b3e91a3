//! MQTT as its two specifications say it, case by case: packets in, packets or the end of the connection out.
//!
//! - `case`: a case and its text; `cases/*.txt` hold those written by hand.
//! - `families`: text of the cases that come in families: every flag, every length, every property in every place.
//! - `text`: words, escapes and values that case texts are made of.
//! - `packet`: words to bytes. Written apart from the product's codec, so that one fault does not hide another.
//! - `answer`: a server's bytes to fields, and fields against a pattern. Refuses what a server must not send.
//! - `play`: one case against one broker.
//! - `table`: which statement is proved by which cases; writes `docs/mqtt-conformance.md`.
//!
//! `LONGWIRE_CONFORMANCE_TARGET=host:port` plays the cases against any broker that lets anonymous clients in;
//! `LONGWIRE_CONFORMANCE_KNOWN=file` names the cases that it is known to fail.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod agreement;
mod answer;
mod case;
mod families;
mod packet;
mod play;
mod properties;
mod runs;
mod table;

mod text;

#[path = "../support/mod.rs"]
mod support;
