//! Registration: one HTTP call that makes a device, or renews the token of one that is known.

use std::collections::BTreeMap;
use std::time::Duration;

use longwire_proto::id::ClientId;
use longwire_proto::limit::{BACK_OFF_STEPS_MAX, HEARTBEAT_S_RANGE};
use longwire_proto::wire::BackOff;
use reqwest::Response;
use serde::{Deserialize, Serialize};

/// Time for the whole call.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(10);
/// Time to connect (004-26).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes of an answer; a longer one is refused.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What to register.
#[derive(Clone, Debug, Default)]
pub struct RegistrationRequest {
    /// The API's address, such as `http://127.0.0.1:8080`.
    pub api: String,
    /// The app's public key.
    pub app_key: String,
    /// The app's secret, where the app does not let devices register by key alone. Never ship it in an application.
    pub app_secret: Option<String>,
    /// The device's own name, or `None` for one that the server issues.
    pub registration_id: Option<String>,
    /// An alias to bind.
    pub alias: Option<String>,
    /// Tags to put on the device.
    pub tags: Vec<String>,
    /// Attributes of the device; none leaves them as they are.
    pub attributes: BTreeMap<String, String>,
}

/// A registered device.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Its name towards the business.
    pub registration_id: String,
    /// Its number in the protocol.
    pub client_id: ClientId,
    /// Its token for login; a secret.
    pub token: String,
    /// When the token ends, as the server wrote it.
    pub expires: String,
    /// Where to connect, `host:port`.
    pub entry_nodes: Vec<String>,
    /// The heartbeat that the server asks for, seconds.
    pub heartbeat_s: u16,
    /// Bytes of random padding that the server asks for in each heartbeat, at most; 0 = none. The answer to the login says it
    /// again, and decides.
    pub padding_max: u8,
    /// The back-off to begin with.
    pub back_off: BackOff,
}

/// Why a registration failed.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The API could not be reached or did not answer in time; try again later.
    #[error("the API could not be reached: {0}")]
    Unreachable(#[from] reqwest::Error),
    /// The API refused; `code` and `message` are its words.
    #[error("registration refused with {status} {code}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The API's word for the error, empty if it gave none.
        code: String,
        /// Text for people.
        message: String,
        /// Seconds to wait before another try, if the API said so.
        retry_after_s: Option<u64>,
    },
    /// The answer is not one that this version understands.
    #[error("the API's answer is not understood: {0}")]
    Answer(String),
}

/// Registers a device with `POST {api}/v1/devices`.
///
/// # Errors
/// See [`RegisterError`].
pub async fn register(request: &RegistrationRequest) -> Result<Registration, RegisterError> {
    let http =
        reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(REGISTER_TIMEOUT).build()?;
    let call = http.post(format!("{}/v1/devices", request.api.trim_end_matches('/'))).json(&Question {
        registration_id: request.registration_id.as_deref(),
        alias: request.alias.as_deref(),
        tags: &request.tags,
        attributes: &request.attributes,
    });
    let call = match &request.app_secret {
        Some(secret) => call.basic_auth(&request.app_key, Some(secret)),
        None => call.header("X-App-Key", &request.app_key),
    };
    let response = call.send().await?;
    let status = response.status();
    let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
    let retry_after_s = retry_after.and_then(|value| value.parse().ok());
    let text = body(response).await?;
    if !status.is_success() {
        let refusal: Refusal = serde_json::from_slice(&text).unwrap_or_default();
        let (code, message) = (refusal.code, refusal.message);
        return Err(RegisterError::Refused { status: status.as_u16(), code, message, retry_after_s });
    }
    let answer: Answer =
        serde_json::from_slice(&text).map_err(|error| RegisterError::Answer(error.to_string()))?;
    answer.into_registration()
}

async fn body(mut response: Response) -> Result<Vec<u8>, RegisterError> {
    let mut text = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if text.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(RegisterError::Answer(format!("longer than {ANSWER_BYTES_MAX} bytes")));
        }
        text.extend_from_slice(&chunk);
    }
    Ok(text)
}

#[derive(Serialize)]
struct Question<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    registration_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    tags: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    attributes: &'a BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Refusal {
    code: String,
    message: String,
}

#[derive(Deserialize)]
struct Answer {
    registration_id: String,
    client_id: String,
    token: String,
    #[serde(default)]
    expires: serde_json::Value,
    entry_nodes: Vec<String>,
    heartbeat: Option<HeartbeatAnswer>,
    backoff: Option<BackOffAnswer>,
}

#[derive(Deserialize)]
struct HeartbeatAnswer {
    interval: u16,
    #[serde(default)]
    padding: u8,
}

#[derive(Deserialize)]
struct BackOffAnswer {
    steps: Vec<u16>,
    jitter_ms: u16,
}

impl Answer {
    fn into_registration(self) -> Result<Registration, RegisterError> {
        let client_id = self
            .client_id
            .parse()
            .map_err(|_| RegisterError::Answer(format!("client_id {:?} is not a number", self.client_id)))?;
        let back_off = self.backoff.filter(|policy| !policy.steps.is_empty());
        Ok(Registration {
            registration_id: self.registration_id,
            client_id: ClientId(client_id),
            token: self.token,
            expires: match self.expires {
                serde_json::Value::String(text) => text,
                serde_json::Value::Null => String::new(),
                other => other.to_string(),
            },
            entry_nodes: self.entry_nodes,
            padding_max: self.heartbeat.as_ref().map_or(0, |heartbeat| heartbeat.padding),
            heartbeat_s: self.heartbeat.map_or(60, |heartbeat| {
                heartbeat.interval.clamp(*HEARTBEAT_S_RANGE.start(), *HEARTBEAT_S_RANGE.end())
            }),
            back_off: back_off.map_or_else(BackOff::default, |policy| BackOff {
                steps_s: policy.steps.into_iter().take(BACK_OFF_STEPS_MAX).collect(),
                jitter_ms: policy.jitter_ms,
            }),
        })
    }
}
