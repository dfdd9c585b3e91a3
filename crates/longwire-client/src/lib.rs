//! The device's side of Longwire for Rust applications.
//!
//! In the order of a device's life:
//!
//! - [`registration`]: one HTTP call that makes a device and says where to connect.
//! - [`device`]: the face: build, connect, take what comes, ack.
//! - [`incoming`]: what comes: messages and changes of state.
//! - `driver`: the task behind a device: connect, talk, wait, again.
//! - `connection`: one connection from CONNECT to its end.
//! - `unacked`: what the application was shown and has not acked.
//! - [`back_off`]: when to come back, as a pure function.
//!
//! Nothing here knows the server. The protocol itself is `longwire-proto`; this crate adds sockets and a clock.

pub mod back_off;
mod connection;
pub mod device;
mod driver;
pub mod incoming;
pub mod registration;
mod unacked;

pub use device::{BuildError, Device, DeviceBuilder};
pub use incoming::{Ended, Incoming, Message, State};
pub use registration::{RegisterError, Registration, RegistrationRequest, register};

pub use longwire_proto::close::CloseReason;
pub use longwire_proto::id::{ClientId, Kind, MessageId, Position, Source, TraceId};
pub use longwire_proto::wire::{AckKind, BackOff, Class, Gap, GapReason, Network};
