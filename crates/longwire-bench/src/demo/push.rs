//! One push of the demonstration.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::counts;
use crate::error::BenchError;
use crate::http::Caller;
use crate::progress::bar;

/// A push whose deliveries are not all acked after this has failed.
const ACK_TIME: Duration = Duration::from_secs(30);
/// How often the API is asked.
const LOOK: Duration = Duration::from_millis(5);
/// Life of the demonstration's messages, seconds.
const TTL_S: u32 = 3600;

/// A push and what became of it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) audience: String,
    /// How many devices it is for.
    pub(super) devices: u64,
    pub(super) created: u64,
    pub(super) delivered: u64,
    pub(super) pending: u64,
    /// From the push to the last ack seen.
    pub(super) took: Duration,
    message: String,
    begin: Instant,
}

impl Outcome {
    /// Pushes.
    pub(super) fn push(
        caller: &mut Caller,
        audience: String,
        target: &Value,
        devices: u64,
    ) -> Result<Outcome, BenchError> {
        let body = json!({
            "audience": target,
            "message": {"content_type": "text", "msg_content": format!("for {audience}")},
            "options": {"time_to_live": TTL_S},
        });
        let begin = Instant::now();
        let reply = caller.call_well("POST", "/v1/push", &body.to_string())?;
        let Some(message) = reply.json()["msg_id"].as_str().map(str::to_owned) else {
            return Err(reply.fault("POST /v1/push"));
        };
        Ok(Outcome {
            audience,
            devices,
            created: 0,
            delivered: 0,
            pending: 0,
            took: Duration::ZERO,
            message,
            begin,
        })
    }

    /// Waits until `wanted` devices have acked. Too few in time is not an error here: the table shows them.
    pub(super) fn wait(&mut self, caller: &mut Caller, wanted: u64) -> Result<(), BenchError> {
        let progress = bar("acked", wanted);
        let deadline = Instant::now() + ACK_TIME;
        loop {
            let counts = counts(caller, &self.message)?;
            let count = |name: &str| counts[name].as_u64().unwrap_or_default();
            if count("delivered") > self.delivered {
                self.took = self.begin.elapsed();
            }
            (self.created, self.delivered, self.pending) =
                (count("created"), count("delivered"), count("pending"));
            progress.set_position(self.delivered);
            if self.delivered >= wanted || Instant::now() >= deadline {
                break;
            }
            std::thread::sleep(LOOK);
        }
        progress.finish_and_clear();
        Ok(())
    }

    /// Whether every delivery was acked and none is open.
    pub(super) fn is_complete(&self) -> bool {
        self.delivered == self.devices && self.created == self.devices && self.pending == 0
    }
}
