//! What stands after the `?`, read within its bounds.

use super::fault::Fault;
use crate::api::Api;
use axum::extract::{FromRequestParts, Query as Parsed};
use axum::http::request;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// A request's query. Unknown fields are refused by the type.
pub(in crate::api) struct Query<T>(pub(in crate::api) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Api>> for Query<T> {
    type Rejection = Fault;
    async fn from_request_parts(parts: &mut request::Parts, api: &Arc<Api>) -> Result<Query<T>, Fault> {
        let parsed = Parsed::<T>::from_request_parts(parts, api).await;
        parsed.map(|Parsed(query)| Query(query)).map_err(|refused| Fault::invalid(refused.body_text()))
    }
}
