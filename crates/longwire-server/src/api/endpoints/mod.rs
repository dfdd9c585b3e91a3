//! What can be asked, one file per resource.

pub(super) mod admin;
pub(super) mod apps;
pub(super) mod batch;
pub(super) mod books;
pub(super) mod devices;
pub(super) mod messages;
pub(super) mod probes;
pub(super) mod push;
mod push_request;
pub(super) mod recall;
pub(super) mod topics;
pub(super) mod upstream;
