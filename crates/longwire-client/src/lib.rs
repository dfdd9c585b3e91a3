//! The device's side of Longwire for Rust applications: register, connect, stay connected, receive, ack, send.
//!
//! ```no_run
//! use longwire_client::{Device, Incoming, RegistrationRequest, UpstreamMessage, register};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // Once in the life of a device; keep what comes back.
//! let registration = register(&RegistrationRequest {
//!     api: "http://127.0.0.1:8080".into(),
//!     app_key: "my-app".into(),
//!     ..RegistrationRequest::default()
//! })
//! .await?;
//!
//! let mut device = Device::builder()
//!     .app_key("my-app")
//!     .registration(&registration)
//!     .state("/var/lib/my-app/longwire") // outbox and dedup window outlive the process
//!     .connect()?;
//!
//! // On disk when this returns; sent until the server has it, through whatever breaks.
//! device.send(UpstreamMessage::new("text", "here I am")).await?;
//!
//! // It reconnects by itself; `None` means that the server wants no more of this device.
//! while let Some(incoming) = device.next().await {
//!     match incoming {
//!         Incoming::Message(message) => {
//!             println!("{:?}", message.payload);
//!             if message.needs_ack() {
//!                 device.ack(message.id).await; // now the server may forget it
//!             }
//!         }
//!         Incoming::Answered { id, outcome } => println!("sent {id:?}: {outcome:?}"),
//!         Incoming::State(state) => println!("{state:?}"),
//!         other => println!("{other:?}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What a device promises:
//!
//! - A message is shown once while the device lives, and after a restart with a state folder once more only if it was not
//!   acked. A message that expired while it waited is never shown.
//! - A message that [`Device::send`] took is sent until it is answered, in order, and the server drops repeats.
//! - It comes back after 1, 2, 3, 5, 8, 13, 20 s plus up to 1 s, or as the server says, and at once on another network if the
//!   application calls [`Device::network_changed`].
//! - Heartbeats begin at 60 s or as the server says, and grow to 600 s while nothing else passes and all are answered; each
//!   change is announced before it is made. Only the monotonic clock counts.
//!
//! - A subscription is asked for on every connection until it is ended or refused; what is published to a
//!   [kept](Subscription::kept) one waits while the device is away.
//!
//! In the order of a device's life:
//!
//! - [`registration`]: one HTTP call that makes a device and says where to connect.
//! - [`builder`]: describes a device and starts it.
//! - [`device`]: the face: take what comes, ack, send.
//! - [`incoming`]: what comes: messages, answers, changes of state.
//! - [`upstream`]: what goes up; [`topic`]: what is subscribed to and published; [`own`]: what the device changes of itself.
//! - `storage`: what is kept on disk.
//! - `driver`: the task behind a device: connect, talk, wait, again.
//! - [`entry`]: which node is tried; [`back_off`]: when; [`fleet`]: how many at once. Pure functions.
//!
//! Nothing here knows the server. The protocol itself is `longwire-proto`; this crate adds sockets, a clock and a disk.

pub mod back_off;
pub mod builder;
pub mod device;
mod driver;
pub mod entry;
pub mod fleet;
pub mod incoming;
pub mod own;
pub mod registration;
mod storage;
pub mod topic;
pub mod upstream;

pub use builder::{BuildError, DeviceBuilder};
pub use device::{Acker, Device, Sender};
pub use fleet::Fleet;
pub use incoming::{Ended, Incoming, Message, State};
pub use own::{OwnChange, OwnError};
pub use registration::{RegisterError, Registration, RegistrationRequest, register};
pub use storage::StateError;
pub use topic::{Publication, Published, Subscription, TopicError};
pub use upstream::{SendError, UpstreamId, UpstreamMessage};

pub use longwire_proto::close::CloseReason;
pub use longwire_proto::id::{ClientId, Kind, MessageId, Position, Source, TraceId};
pub use longwire_proto::wire::{AckKind, BackOff, Class, Gap, GapReason, Network, ResultCode};
