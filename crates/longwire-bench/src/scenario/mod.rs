//! The scenarios, and what they share: the fleets of one measurement as one thing.

pub(crate) mod bare;
pub(crate) mod beside;
pub(crate) mod broadcast;
pub(crate) mod crowd;
pub(crate) mod fanout;
pub(crate) mod idle;
pub(crate) mod limit;
pub(crate) mod mqtt;
pub(crate) mod online;
pub(crate) mod pulse;
pub(crate) mod schedules;
pub(crate) mod stuck;
pub(crate) mod team;
pub(crate) mod transports;
pub(crate) mod unicast;
