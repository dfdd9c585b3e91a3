//! The writer: one thread, and all that changes.
//!
//! - [`writer`]: its loop: gather what is queued, one batch, one sync, answers in order.
//! - [`turn`]: the changes of one batch, with reads that see them.
//! - [`accept`], [`settle`], [`project`], [`sweep`]: what may change; [`ends`]: how every delivery ends; [`once`]: keys of
//!   callers.
//! - [`leave_out`], [`collapse`], [`recall`]: ends that others than the device make.
//! - [`bodies`]: what is stored of messages, and how many bytes of it each app has; [`caps`]: deliveries of late.
//! - [`tails`]: the youngest entries of the indexes, in memory.
//! - [`space_left`]: whether the disk has room.
//! - [`seal`]: the number of the last acknowledged commit, beside the engine.

pub(crate) mod accept;
pub(crate) mod bodies;
pub(crate) mod caps;
mod collapse;
pub(crate) mod ends;
mod leave_out;
pub(crate) mod once;
mod project;
mod recall;
pub(crate) mod seal;
pub(crate) mod settle;
pub(crate) mod space_left;
pub(crate) mod sweep;
pub(crate) mod tails;
pub(crate) mod turn;
pub(crate) mod writer;
