//! Wall-clock times as the API writes them.

pub(in crate::api) use crate::domain::rfc3339;
