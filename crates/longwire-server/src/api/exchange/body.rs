//! JSON read within its bounds.

use super::fault::Fault;
use super::object::Object;
use crate::api::Api;
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::{HeaderMap, header, request};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// Body of a request, bytes; a longer one is answered with 413 (LIMITS 7.2).
pub(in crate::api) const BODY_BYTES_MAX: usize = 1024 * 1024;

/// A request's JSON object.
pub(in crate::api) struct Json<T>(pub(in crate::api) T);

impl<T: DeserializeOwned> FromRequest<Arc<Api>> for Json<T> {
    type Rejection = Fault;
    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Json<T>, Fault> {
        let Bounded(bytes) = Bounded::<BODY_BYTES_MAX>::from_request(request, api).await?;
        parse(&bytes).map(Json)
    }
}

/// A request's JSON of at most `MAX` bytes, not yet read.
pub(in crate::api) struct Bounded<const MAX: usize>(pub(in crate::api) Bytes);

impl<const MAX: usize> FromRequest<Arc<Api>> for Bounded<MAX> {
    type Rejection = Fault;
    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Bounded<MAX>, Fault> {
        check_head(request.headers(), MAX)?;
        let limit = api.options.body;
        tokio::time::timeout(limit, whole(request.into_body(), MAX))
            .await
            .map_err(|_| Fault::body_timeout(limit.as_secs()))?
            .map(Bounded)
    }
}

fn check_head(headers: &HeaderMap, bytes_max: usize) -> Result<(), Fault> {
    if !headers.get(header::CONTENT_TYPE).is_some_and(|value| is_json(value.as_bytes())) {
        return Err(Fault::unsupported_media_type());
    }
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Fault::unsupported_media_type());
    }
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > bytes_max as u64) {
        return Err(too_large(bytes_max));
    }
    Ok(())
}

fn is_json(value: &[u8]) -> bool {
    let essence = value.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

fn too_large(bytes_max: usize) -> Fault {
    Fault::too_large(format!("the body is longer than {bytes_max} bytes"))
}

/// The whole body. One chunk, the usual case, is not copied.
async fn whole(body: Body, bytes_max: usize) -> Result<Bytes, Fault> {
    let mut chunks = body.into_data_stream();
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Fault::bad_framing("the body broke off"))?;
        if first.len().max(all.len()) + chunk.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        if first.is_empty() && all.is_empty() {
            first = chunk;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&chunk);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// Reads a JSON object; the fault names the field.
pub(in crate::api) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Fault> {
    let read = serde_json::from_slice::<Object<T>>(bytes);
    read.map(|Object(request)| request).map_err(|_| {
        // Only a refused body pays for being read again to learn which field it was.
        let mut json = serde_json::Deserializer::from_slice(bytes);
        match serde_path_to_error::deserialize::<_, Object<T>>(&mut json) {
            Ok(_) => Fault::invalid("body: there is something after the JSON value"),
            Err(error) => {
                let path = error.path().to_string();
                let field = if path == "." { "body" } else { path.as_str() };
                Fault::invalid(format!("{field}: {}", error.inner()))
            }
        }
    })
}

/// The one variable segment of a path, as text.
pub(in crate::api) struct Segment(pub(in crate::api) String);

impl FromRequestParts<Arc<Api>> for Segment {
    type Rejection = Fault;
    async fn from_request_parts(parts: &mut request::Parts, api: &Arc<Api>) -> Result<Segment, Fault> {
        let Path(text) = Path::<String>::from_request_parts(parts, api)
            .await
            .map_err(|_| Fault::invalid("path: is not UTF-8 after decoding"))?;
        Ok(Segment(text))
    }
}

/// The two variable segments of a path, as text.
pub(in crate::api) struct Segments(pub(in crate::api) String, pub(in crate::api) String);

impl FromRequestParts<Arc<Api>> for Segments {
    type Rejection = Fault;
    async fn from_request_parts(parts: &mut request::Parts, api: &Arc<Api>) -> Result<Segments, Fault> {
        let Path((first, second)) = Path::<(String, String)>::from_request_parts(parts, api)
            .await
            .map_err(|_| Fault::invalid("path: is not UTF-8 after decoding"))?;
        Ok(Segments(first, second))
    }
}
