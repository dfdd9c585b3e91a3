//! Placeholder map, replaced by the first build.
