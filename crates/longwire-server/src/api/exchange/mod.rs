//! What every request meets, whatever it asks.
//!
//! - [`trace`]: its W3C trace, taken or made.
//! - `caller`: whose it is; `needs`: what each endpoint asks of it; `acts`: what is noted of it.
//! - `body`: its JSON and path, read within bounds.
//! - `key`: a caller's key of it.
//! - `object`: JSON objects that are objects.
//! - `query`: what stands after the `?`.
//! - [`fault`]: how it is refused.
//! - `page`: which part of a list, and where it goes on.
//! - `rfc3339`: how times are written.

pub(super) mod acts;
pub(super) mod body;
pub(super) mod caller;
pub mod fault;
pub(super) mod key;
pub(super) mod needs;
pub(super) mod object;
pub(super) mod page;
pub(super) mod query;
pub(super) mod rfc3339;
pub mod trace;
