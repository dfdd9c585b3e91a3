//! `longwire publish`: to a topic, as the business or as a device.

use crate::register::RegisterArgs;
use crate::{Failure, on_runtime};
use clap::Args;
use longwire_client::{Device, Incoming, Publication, ResultCode, State};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// A message for a topic. As the business, by POST /v1/publish, whose answer is printed; with --registration-id as that device, by
/// its own protocol, until a server has taken it.
#[derive(Args)]
pub(crate) struct PublishArgs {
    #[command(flatten)]
    device: RegisterArgs,
    /// To this topic.
    #[arg(long)]
    topic: String,
    /// The content; empty with --retain takes away what is retained.
    #[arg(long, default_value = "")]
    message: String,
    /// 0: only to who is connected; 1: also kept for devices that are away; 2: the same, of MQTT clients once. A device publishes with
    /// 0 or 1.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Keep it for later subscribers.
    #[arg(long)]
    retain: bool,
    /// Seconds to live.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    ttl: Option<u64>,
}

/// Publishes.
pub(crate) fn run(args: PublishArgs) -> Result<(), Failure> {
    if args.device.registration_id.is_some() {
        return on_runtime(as_device(args));
    }
    let mut request = Map::from_iter([
        ("topic".to_owned(), json!(args.topic)),
        ("payload".to_owned(), json!(args.message)),
        ("qos".to_owned(), json!(args.qos)),
        ("retain".to_owned(), json!(args.retain)),
    ]);
    if let Some(seconds) = args.ttl {
        request.insert("time_to_live".into(), json!(seconds));
    }
    let answer = args.device.api.post("/v1/publish", &Value::Object(request))?;
    println!("{}", answer.trim_end());
    Ok(())
}

async fn as_device(args: PublishArgs) -> Result<(), Failure> {
    let PublishArgs { device, topic, message, qos, retain, ttl } = args;
    if qos > 1 {
        return Err(Failure::Usage("--qos: a device publishes with 0 or 1".into()));
    }
    let app_key = device.api.app_key.clone();
    let registration = device.register().await?;
    let mut publication = Publication::new(topic, message);
    if retain {
        publication = publication.retained();
    }
    if let Some(seconds) = ttl {
        publication = publication.expires_after(Duration::from_secs(seconds));
    }
    let builder = Device::builder().registration(&registration).app_key(app_key);
    let mut device = builder.connect().map_err(Failure::failed)?;
    if qos == 1 {
        device.publish(publication.clone()).await.map_err(Failure::failed)?;
    }
    while let Some(incoming) = device.next().await {
        match incoming {
            Incoming::State(State::Connected { .. }) if qos == 0 => {
                device.publish_now(publication).await.map_err(Failure::failed)?;
                break;
            }
            Incoming::Answered { outcome: ResultCode::Done, .. } => break,
            Incoming::Answered { outcome, .. } => {
                return Err(Failure::failed(format!("the server refuses it: {outcome:?}")));
            }
            Incoming::State(State::Waiting { delay, ended }) => {
                eprintln!("{ended}; next attempt in {:.1} s", delay.as_secs_f64());
            }
            Incoming::State(State::Stopped(reason)) => {
                return Err(Failure::failed(format!(
                    "the server wants no more of this device: {}",
                    reason.label()
                )));
            }
            _ => {}
        }
    }
    device.close().await;
    Ok(())
}
