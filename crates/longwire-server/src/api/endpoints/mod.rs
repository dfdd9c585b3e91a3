//! What can be asked, one file per resource.

pub(super) mod admin;
pub(super) mod apps;
pub(super) mod batch;
pub(super) mod books;
pub(super) mod devices;
pub(super) mod explain;
pub(super) mod messages;
pub(super) mod people;
pub(super) mod probes;
pub(super) mod push;
mod push_request;
mod push_timing;
pub(super) mod recall;
mod schedule_request;
pub(super) mod schedules;
pub(super) mod spread;
pub(super) mod sse;
pub(super) mod streams;
pub(super) mod topics;
pub(super) mod upstream;
pub(super) mod webhooks;

pub(super) use schedule_request::read as read_push;
