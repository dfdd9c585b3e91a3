//! Everything that is refused, in one shape: a status, and `{"code","errno","message","trace_id"}`.

use super::trace::Trace;
use crate::delivery::hub::{PushError, RegisterError, SetError};
use crate::delivery::over_time::ScheduleError;
use crate::domain::Invalid;
use crate::store::port::StoreError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::borrow::Cow;
use utoipa::ToSchema;

/// What a refused caller is told.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub struct FaultBody<'a> {
    /// A word for programs.
    #[schema(example = "invalid")]
    pub code: &'static str,
    /// The same as a number.
    #[schema(example = 1001)]
    pub errno: u16,
    /// For people; names the field where there is one.
    #[schema(value_type = String)]
    pub message: Cow<'a, str>,
    /// The request's trace.
    pub trace_id: String,
}

/// A request that is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    status: StatusCode,
    code: &'static str,
    errno: u16,
    message: String,
    retry_after_s: Option<u32>,
    close: bool,
}

impl Fault {
    fn new(status: StatusCode, errno: u16, code: &'static str, message: impl Into<String>) -> Fault {
        Fault { status, code, errno, message: message.into(), retry_after_s: None, close: false }
    }
    fn after(mut self, seconds: u32) -> Fault {
        self.retry_after_s = Some(seconds);
        self
    }
    fn closing(mut self) -> Fault {
        self.close = true;
        self
    }

    /// A value that is not allowed: 400.
    pub fn invalid(message: impl Into<String>) -> Fault {
        Fault::new(StatusCode::BAD_REQUEST, 1001, "invalid", message)
    }
    /// HTTP that is not strict: 400, and the connection ends.
    pub fn bad_framing(message: impl Into<String>) -> Fault {
        Fault::new(StatusCode::BAD_REQUEST, 1002, "bad_request", message).closing()
    }
    /// No app has these credentials: 401.
    pub fn unauthorized(message: impl Into<String>) -> Fault {
        Fault::new(StatusCode::UNAUTHORIZED, 1003, "unauthorized", message)
    }
    /// Nothing of this app is there: 404.
    pub fn not_found(message: impl Into<String>) -> Fault {
        Fault::new(StatusCode::NOT_FOUND, 1004, "not_found", message)
    }
    /// The path is there, the method is not: 405.
    pub fn method_not_allowed() -> Fault {
        let text = "this path does not know that method";
        Fault::new(StatusCode::METHOD_NOT_ALLOWED, 1005, "method_not_allowed", text)
    }
    /// The body did not come in time: 408, and the connection ends.
    pub fn body_timeout(seconds: u64) -> Fault {
        let text = format!("the body was not complete after {seconds} s");
        Fault::new(StatusCode::REQUEST_TIMEOUT, 1006, "body_timeout", text).closing()
    }
    /// More than one request may carry: 413.
    pub fn too_large(message: impl Into<String>) -> Fault {
        Fault::new(StatusCode::PAYLOAD_TOO_LARGE, 1008, "too_large", message)
    }
    /// Not JSON: 415.
    pub fn unsupported_media_type() -> Fault {
        let text = "the body must be JSON: content-type: application/json";
        Fault::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, 1009, "unsupported_media_type", text)
    }
    /// The app has too many requests in work: 429.
    pub fn too_many_requests(limit: usize) -> Fault {
        let text = format!("more than {limit} requests of this app at once");
        Fault::new(StatusCode::TOO_MANY_REQUESTS, 2001, "too_many_requests", text).after(1)
    }

    /// The app reads as many streams without end as it may: 429.
    pub fn too_many_streams(limit: usize) -> Fault {
        let text = format!("more than {limit} event streams of this app at once");
        Fault::new(StatusCode::TOO_MANY_REQUESTS, 2005, "too_many_streams", text).after(5)
    }
    /// The node stops: 503.
    pub fn draining() -> Fault {
        let text = "the node is draining";
        Fault::new(StatusCode::SERVICE_UNAVAILABLE, 3001, "draining", text).after(1)
    }
    /// The app sends more than it may: 429.
    pub fn app_rate(message: impl Into<String>, wait_s: u32) -> Fault {
        Fault::new(StatusCode::TOO_MANY_REQUESTS, 2007, "app_rate", message).after(wait_s.max(1))
    }
    /// The app has as much as it may: 429. Acks, ends or somebody's act make room.
    pub fn app_quota(message: impl Into<String>) -> Fault {
        Fault::new(StatusCode::TOO_MANY_REQUESTS, 2008, "app_quota", message).after(60)
    }
    /// What was shown does not open this: 403.
    pub fn forbidden(message: impl Into<String>) -> Fault {
        Fault::new(StatusCode::FORBIDDEN, 1016, "forbidden", message)
    }
    /// The app is out of service: 403.
    pub fn app_disabled() -> Fault {
        Fault::new(StatusCode::FORBIDDEN, 1017, "app_disabled", "this app is disabled")
    }
    /// What is there stands against it: 409.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Fault {
        Fault::new(StatusCode::CONFLICT, 1018, code, message)
    }
    /// The line of the audit log cannot be written, so the act is not done: 503.
    pub fn audit_unavailable() -> Fault {
        let text = "the audit log cannot be written; nothing was done";
        Fault::new(StatusCode::SERVICE_UNAVAILABLE, 3006, "audit_unavailable", text).after(2)
    }

    /// The node sheds pushes: 429.
    pub fn overloaded() -> Fault {
        let text = "the node is overloaded; nothing was stored";
        Fault::new(StatusCode::TOO_MANY_REQUESTS, 2003, "node_overloaded", text).after(5)
    }
    /// A thread of the node stands still: 503.
    pub fn stalled(what: String) -> Fault {
        Fault::new(StatusCode::SERVICE_UNAVAILABLE, 3005, "stalled", what).after(1)
    }

    /// The message is not spread over time: 409.
    pub fn not_spread() -> Fault {
        Fault::new(StatusCode::CONFLICT, 1020, "not_spread", "the message is not spread over time")
    }
    /// All of the message is in the log, its deadline has come, or it was recalled: 409.
    pub fn spread_over() -> Fault {
        Fault::new(StatusCode::CONFLICT, 1021, "spread_over", "the spreading of the message is over")
    }
    /// The same fault of a field within this one.
    #[must_use]
    pub fn within(mut self, field: &str) -> Fault {
        self.message = format!("{field}.{}", self.message);
        self
    }

    /// The status that it is answered with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// With 429 and 503: not before, seconds.
    #[must_use]
    pub fn retry_after_s(&self) -> Option<u32> {
        self.retry_after_s
    }

    /// The body of the answer, with its trace.
    #[must_use]
    pub fn into_body(self, trace: &Trace) -> FaultBody<'static> {
        let (code, errno, message) = (self.code, self.errno, self.message.into());
        FaultBody { code, errno, message, trace_id: trace.id.to_string() }
    }

    /// The answer, with its trace.
    #[must_use]
    pub fn render(&self, trace: &Trace) -> Response {
        let body = FaultBody {
            code: self.code,
            errno: self.errno,
            message: self.message.as_str().into(),
            trace_id: trace.id.to_string(),
        };
        let json = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = (self.status, [(header::CONTENT_TYPE, "application/json")], json).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"longwire\""));
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// The fault travels in the response's extensions to the place that knows the trace, which renders it.
impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Invalid> for Fault {
    fn from(invalid: Invalid) -> Fault {
        Fault::invalid(invalid.to_string())
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Fault {
        let text = error.to_string();
        match error {
            StoreError::Full { .. } => {
                Fault::new(StatusCode::SERVICE_UNAVAILABLE, 3002, "storage_full", text).after(10)
            }
            StoreError::MailboxFull => {
                Fault::new(StatusCode::TOO_MANY_REQUESTS, 2002, "device_queue_full", text).after(30)
            }
            StoreError::AppQuota { .. } => Fault::app_quota(text),
            StoreError::ConflictingKey => Fault::new(StatusCode::CONFLICT, 1015, "conflicting_cid", text),
            StoreError::TooManyKeys => {
                Fault::new(StatusCode::TOO_MANY_REQUESTS, 2015, "too_many_cids", text).after(60)
            }
            // The hub answers with what it made.
            StoreError::Replayed(_) => Fault::new(StatusCode::CONFLICT, 1007, "taken", text),
            // Only publishes of devices carry identifiers.
            StoreError::Repeated => Fault::new(StatusCode::CONFLICT, 1007, "taken", text),
            StoreError::NoSuchMessage => Fault::not_found(text),
            // The cause is for the log: it may name paths.
            StoreError::Unavailable(cause) => {
                tracing::warn!(cause, "the store is unavailable");
                let text = "the store is unavailable; nothing was stored";
                Fault::new(StatusCode::SERVICE_UNAVAILABLE, 3003, "store_unavailable", text).after(2)
            }
            StoreError::Registry(cause) => {
                tracing::warn!(cause, "the registry is unavailable");
                let text = "the database of apps and devices is unavailable; try again, it is safe to repeat";
                Fault::new(StatusCode::SERVICE_UNAVAILABLE, 3006, "registry_unavailable", text).after(2)
            }
            StoreError::Unknown(cause) => {
                tracing::error!(cause, "the store failed while writing");
                let text = "the store failed while writing: it is not known whether this was stored";
                Fault::new(StatusCode::INTERNAL_SERVER_ERROR, 3004, "unknown_outcome", text)
            }
        }
    }
}

impl From<PushError> for Fault {
    fn from(error: PushError) -> Fault {
        let text = error.to_string();
        match error {
            PushError::NobodyMatches => {
                Fault::new(StatusCode::UNPROCESSABLE_ENTITY, 1010, "nobody_matches", text)
            }
            PushError::TooManyTargets(_) => Fault::too_large(text),
            PushError::TopicQuota => {
                Fault::new(StatusCode::TOO_MANY_REQUESTS, 2004, "topic_quota", text).after(30)
            }
            PushError::TooManySpreads => {
                Fault::new(StatusCode::TOO_MANY_REQUESTS, 2021, "too_many_spreads", text).after(60)
            }
            PushError::AppRate(wait_s, _) => Fault::app_rate(text, wait_s),
            PushError::Draining => {
                Fault::new(StatusCode::SERVICE_UNAVAILABLE, 3001, "draining", text).after(1)
            }
            PushError::Store(error) => error.into(),
        }
    }
}

impl From<ScheduleError> for Fault {
    fn from(error: ScheduleError) -> Fault {
        let text = error.to_string();
        match error {
            ScheduleError::Invalid(invalid) => invalid.into(),
            ScheduleError::TooMany => {
                Fault::new(StatusCode::TOO_MANY_REQUESTS, 2020, "too_many_schedules", text).after(60)
            }
            ScheduleError::Busy => Fault::new(StatusCode::SERVICE_UNAVAILABLE, 3020, "busy", text).after(1),
            ScheduleError::Store(error) => error.into(),
        }
    }
}

impl From<SetError> for Fault {
    fn from(error: SetError) -> Fault {
        match error {
            SetError::Invalid(invalid) => invalid.into(),
            SetError::Store(error) => error.into(),
        }
    }
}

impl From<RegisterError> for Fault {
    fn from(error: RegisterError) -> Fault {
        match error {
            RegisterError::Taken => {
                Fault::new(StatusCode::CONFLICT, 1007, "taken", "registration_id: is taken")
            }
            RegisterError::Quota => Fault::app_quota(error.to_string()),
            RegisterError::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_refused_for_now_says_when_to_come_again() {
        let store = [
            StoreError::Full { free_bytes: 1, reserve_bytes: 2 },
            StoreError::MailboxFull,
            StoreError::TooManyKeys,
            StoreError::AppQuota { used: 1, most: 1 },
            StoreError::ConflictingKey,
            StoreError::Repeated,
            StoreError::NoSuchMessage,
            StoreError::Unavailable(String::new()),
            StoreError::Unknown(String::new()),
        ];
        let push = [
            PushError::NobodyMatches,
            PushError::TooManyTargets(1001),
            PushError::TopicQuota,
            PushError::AppRate(0, "messages"),
            PushError::Draining,
        ];
        let faults = store
            .into_iter()
            .map(Fault::from)
            .chain(push.into_iter().map(Fault::from))
            .chain([RegisterError::Quota, RegisterError::Taken].map(Fault::from))
            .chain([
                Fault::too_many_requests(1),
                Fault::app_rate("", 0),
                Fault::app_quota(""),
                Fault::app_disabled(),
                Fault::forbidden(""),
                Fault::audit_unavailable(),
                Fault::overloaded(),
                Fault::stalled(String::new()),
                Fault::method_not_allowed(),
            ]);
        for fault in faults {
            let for_now = matches!(fault.status.as_u16(), 429 | 503);
            assert_eq!(fault.retry_after_s.is_some_and(|seconds| seconds > 0), for_now, "{fault:?}");
        }
    }

    #[test]
    fn every_429_and_503_is_made_with_its_time() {
        // What a list of values could forget, the text of the code cannot.
        let code = include_str!("fault.rs").split("mod tests").next().unwrap_or_default();
        let made = code.split("Fault::new(").skip(1).map(|rest| rest.split("\n    }").next().unwrap_or(rest));
        let mut seen = 0;
        for one in made {
            let head = one.split(')').next().unwrap_or_default();
            if head.contains("TOO_MANY_REQUESTS") || head.contains("SERVICE_UNAVAILABLE") {
                seen += 1;
                assert!(one.contains(").after("), "{one}");
            }
        }
        assert!(seen >= 10, "{seen}");
    }
}
