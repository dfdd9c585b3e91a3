//! Registering devices through the API.

use serde_json::json;

use crate::error::BenchError;
use crate::http::Api;
use crate::order::Login;
use crate::progress::bar;
use crate::pump::{Pump, Request};

/// Registrations under way at once: a registration is a SQL write, not what is measured.
const IN_FLIGHT: usize = 32;

/// A registered device.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) login: Login,
}

/// Registers `count` new devices. `tags` says which tags the device of an index has.
pub(crate) fn register(
    api: &Api,
    count: usize,
    tags: impl Fn(usize) -> Vec<&'static str>,
) -> Result<Vec<Device>, BenchError> {
    let mut run = [0; 4];
    getrandom::fill(&mut run).map_err(|error| BenchError::Options(format!("no random numbers: {error}")))?;
    let run = u32::from_be_bytes(run);
    let name = |index: u64| format!("bench-{run:08x}-{index}");
    let progress = bar("registering devices", count as u64);
    let mut begun = 0;
    let mut devices: Vec<Option<Device>> = vec![None; count];
    Pump::open(api, IN_FLIGHT.min(count))?.run(
        || {
            if begun == count as u64 {
                return None;
            }
            let body = json!({"registration_id": name(begun), "tags": tags(begun as usize)}).to_string();
            begun += 1;
            Some(Request { number: begun - 1, bytes: api.request("POST", "/v1/devices", &body) })
        },
        |answer| {
            progress.inc(1);
            let json = answer.reply.json();
            let client = match &json["client_id"] {
                serde_json::Value::String(digits) => digits.parse().ok(),
                other => other.as_u64(),
            };
            let (Some(client), Some(token)) = (client, json["token"].as_str()) else {
                return Err(answer.reply.fault("POST /v1/devices"));
            };
            let login = Login { client, token: token.to_owned() };
            devices[answer.number as usize] = Some(Device { name: name(answer.number), login });
            Ok(())
        },
    )?;
    progress.finish_and_clear();
    Ok(devices.into_iter().flatten().collect())
}
