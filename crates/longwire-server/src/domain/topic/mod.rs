//! Who wants which topic: subscriptions found by topic ([`Filters`]), and a cheap word on whether somebody may want one
//! ([`Interest`]). Topic names and filters are valid already (`longwire_proto::wire::mqtt`); here they are only compared.

mod filters;
mod interest;
mod name;
mod rules;
mod wish;

pub use filters::{FilterId, Filters, TooWide};
pub use interest::{Interest, InterestHash, Interests, Places};
pub use name::{TopicFilter, TopicName};
pub use rules::{Act, RULES_MAX, Rules, is_reserved};
pub use wish::TopicWish;
