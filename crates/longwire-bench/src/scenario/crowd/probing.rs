//! The API asked again and again while something else goes on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::devices::Device;
use crate::error::BenchError;
use crate::http::Api;
use crate::latency::Latencies;

/// Between two calls.
const PAUSE: Duration = Duration::from_millis(5);
/// Devices that are asked for and pushed to.
const DEVICES_MAX: usize = 256;
/// Life of a pushed message, seconds.
const TTL_S: u32 = 60;

/// What the calls were told.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// `GET /v1/devices/{id}`.
    pub(super) reads: Latencies,
    /// Durable `POST /v1/push` to one device.
    pub(super) pushes: Latencies,
    pub(super) calls: u64,
    /// Answers other than 2xx, by status; 0 = no answer.
    pub(super) refused: BTreeMap<u16, u64>,
}

/// Calls under way in a thread of their own.
#[derive(Debug)]
pub(super) struct Probing {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Answers>,
}

impl Probing {
    /// Begins to call: a read and a durable push by turns, one at a time.
    pub(super) fn begin(api: &Api, devices: &[Device]) -> Probing {
        let stop = Arc::new(AtomicBool::new(false));
        let names: Vec<String> = devices.iter().take(DEVICES_MAX).map(|device| device.name.clone()).collect();
        let (told, api) = (stop.clone(), api.clone());
        let thread = std::thread::spawn(move || call(&api, &names, &told));
        Probing { stop, thread }
    }

    /// Ends the calls.
    pub(super) fn end(self) -> Result<Answers, BenchError> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| BenchError::Server("the probe of the API failed".into()))
    }
}

fn call(api: &Api, names: &[String], stop: &AtomicBool) -> Answers {
    let (mut answers, mut caller) = (Answers::default(), None);
    for name in names.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let push = answers.calls % 2 == 1;
        answers.calls += 1;
        let begin = Instant::now();
        // Opening a connection is part of the call that needs it.
        if caller.is_none() {
            caller = api.open().ok();
        }
        let reply = caller.as_mut().map(|caller| {
            if push {
                let body = json!({
                    "audience": {"registration_id": [name]},
                    "message": {"content_type": "text", "msg_content": "probe"},
                    "options": {"time_to_live": TTL_S},
                });
                caller.call("POST", "/v1/push", &body.to_string())
            } else {
                caller.call("GET", &format!("/v1/devices/{name}"), "")
            }
        });
        let took_ns = begin.elapsed().as_nanos() as u64;
        let status = reply.and_then(Result::ok).map_or(0, |reply| reply.status);
        if status == 0 {
            caller = None;
        }
        let kind = if push { &mut answers.pushes } else { &mut answers.reads };
        kind.record_ns(took_ns);
        if !(200..300).contains(&status) {
            *answers.refused.entry(status).or_default() += 1;
        }
        std::thread::sleep(PAUSE);
    }
    answers
}
