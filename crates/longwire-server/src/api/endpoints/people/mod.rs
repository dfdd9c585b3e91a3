//! Apps and people: who is served here, who may ask, how much, and what was done.
//!
//! - [`apps`]: apps from their making to their end.
//! - [`keys`]: keys of apps and of operators.
//! - [`quotas`]: how much an app may have and do.
//! - [`audit`]: what administrators did.

pub(in crate::api) mod apps;
pub(in crate::api) mod audit;
pub(in crate::api) mod keys;
pub(in crate::api) mod quotas;
