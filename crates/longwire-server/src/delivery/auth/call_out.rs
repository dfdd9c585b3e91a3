//! Asking the operator's own service whom it lets in: bounded, cached, and closed while it does not answer.

use super::super::stats::{CallOutOutcome, HubStats};
use super::answers::Answers;
use super::breaker::Breaker;
use crate::domain::login_ways::CallOutWay;
use crate::domain::{DeviceName, Invalid};
use longwire_proto::close::CloseReason;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Questions of one app under way at once; the next wait.
const ASKING_MAX: usize = 64;
/// Questions of one app that wait or are under way; beyond it a login is refused with `auth_unavailable`.
const WAITING_MAX: usize = 4096;
/// How long a question waits for its turn.
const TURN_MAX: Duration = Duration::from_secs(2);
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// The longest answer, bytes.
const ANSWER_BYTES_MAX: usize = 4096;
/// Seconds that a client is told to wait while nobody can be asked.
const RETRY_S: u16 = 5;

/// What the service is asked, as JSON.
#[derive(Serialize)]
pub(in super::super) struct Question<'a> {
    /// The client identifier as presented.
    pub(in super::super) client_id: &'a str,
    /// The user name as presented.
    pub(in super::super) user_name: &'a str,
    /// The password as text; what is not UTF-8 in it is replaced.
    pub(in super::super) password: &'a str,
    /// Where the connection comes from.
    pub(in super::super) peer: SocketAddr,
    /// `mqtt3.1.1` or `mqtt5`.
    pub(in super::super) protocol: &'static str,
}

/// What the service says, as JSON, with status 200.
#[derive(Deserialize)]
struct Verdict {
    allow: bool,
    /// The device that it is; without it the client id says so.
    device: Option<String>,
}

/// A question that was answered: the device if one was named, or that it is not let in.
pub(super) type Answer = Result<Option<DeviceName>, CloseReason>;

/// The service of one app.
pub(in super::super) struct CallOut {
    url: reqwest::Url,
    client: reqwest::Client,
    answers: Mutex<Answers>,
    breaker: Mutex<Breaker>,
    waiting: Semaphore,
    asking: Semaphore,
}

impl CallOut {
    /// # Errors
    /// Not a URL that may be asked.
    pub(in super::super) fn new(way: &CallOutWay) -> Result<CallOut, Invalid> {
        let invalid = |problem: &str| Invalid::new("call_out.url", problem);
        let url = reqwest::Url::parse(&way.url).map_err(|_| invalid("is not a URL"))?;
        let on_loopback = url.host_str().is_some_and(|host| {
            let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
            host == "localhost" || address.is_some_and(|address| address.is_loopback())
        });
        if url.scheme() != "https" && !(url.scheme() == "http" && on_loopback) {
            return Err(invalid("must be https, or http on loopback: passwords are sent there"));
        }
        let client = reqwest::Client::builder()
            .timeout(ANSWER_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(ASKING_MAX)
            .build()
            .map_err(|error| invalid(&format!("cannot be asked: {}", error.without_url())))?;
        Ok(CallOut {
            url,
            client,
            answers: Mutex::new(Answers::new()?),
            breaker: Mutex::default(),
            waiting: Semaphore::new(WAITING_MAX),
            asking: Semaphore::new(ASKING_MAX),
        })
    }

    /// Asks, or remembers.
    ///
    /// # Errors
    /// The reason to refuse with, and the seconds to wait if the service could not say.
    pub(in super::super) async fn ask(
        &self,
        question: &Question<'_>,
        now_ms: impl Fn() -> u64,
        stats: &HubStats,
    ) -> Result<Option<DeviceName>, (CloseReason, Option<u16>)> {
        let key = self.answers.lock().key(question);
        if let Some(answer) = self.answers.lock().find(&key, now_ms()) {
            stats.called_out(CallOutOutcome::Remembered);
            return answer.map_err(|reason| (reason, None));
        }
        let unavailable = |wait_s| (CloseReason::AuthUnavailable, Some(wait_s));
        let held_back = |wait_s| {
            stats.called_out(CallOutOutcome::HeldBack);
            unavailable(wait_s)
        };
        let _place = self.waiting.try_acquire().map_err(|_| held_back(RETRY_S))?;
        let turn = tokio::time::timeout(TURN_MAX, self.asking.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(held_back(RETRY_S)) };
        self.breaker
            .lock()
            .may_ask(now_ms())
            .map_err(|wait_ms| held_back(u16::try_from(wait_ms.div_ceil(1000)).unwrap_or(RETRY_S)))?;
        match self.post(question).await {
            Ok(answer) => {
                self.breaker.lock().succeeded();
                stats.called_out(CallOutOutcome::Answered);
                self.answers.lock().remember(key, answer.clone(), now_ms());
                answer.map_err(|reason| (reason, None))
            }
            Err(problem) => {
                let mut breaker = self.breaker.lock();
                let was_open = breaker.is_open();
                breaker.failed(now_ms());
                if breaker.is_open() && !was_open {
                    tracing::warn!(problem, "the login call-out fails: nobody is let in by it meanwhile");
                }
                stats.called_out(CallOutOutcome::Failed);
                Err(unavailable(RETRY_S))
            }
        }
    }

    /// The service's answer; the error says what is wrong with it, without what was sent.
    async fn post(&self, question: &Question<'_>) -> Result<Answer, String> {
        let failed = |error: reqwest::Error| error.without_url().to_string();
        let mut response = self.client.post(self.url.clone()).json(question).send().await.map_err(failed)?;
        match response.status().as_u16() {
            200 => {}
            401 | 403 => return Ok(Err(CloseReason::BadToken)),
            other => return Err(format!("status {other}")),
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(format!("an answer of more than {ANSWER_BYTES_MAX} bytes"));
            }
        }
        let verdict: Verdict =
            serde_json::from_slice(&body).map_err(|_| "an answer that is not {\"allow\": …}".to_owned())?;
        if !verdict.allow {
            return Ok(Err(CloseReason::BadToken));
        }
        let device = verdict.device.map(|device| DeviceName::parse("device", &device)).transpose();
        device.map(Ok).map_err(|invalid| invalid.to_string())
    }
}
