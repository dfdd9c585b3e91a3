//! Toxics: what they are called, what they carry, and what several of them make of one direction of a connection.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::desk::Fault;
use super::dice::mixed;

/// Longest time that a toxic may ask for, milliseconds: a day.
const MS_MAX: u64 = 86_400_000;
/// Names of the types, for a fault that says which one is wrong.
const TYPES: [&str; 8] =
    ["latency", "bandwidth", "slow_close", "timeout", "reset_peer", "slicer", "limit_data", "blackhole"];

/// The direction that a toxic is put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stream {
    /// From the client to the server.
    Upstream,
    /// From the server to the client.
    Downstream,
}

/// A fault and its measures, as Toxiproxy names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "attributes", rename_all = "snake_case")]
pub(super) enum Kind {
    /// Bytes and the end of the stream arrive so many milliseconds later, plus or minus the jitter; never reordered.
    Latency {
        #[serde(default, deserialize_with = "milliseconds")]
        latency: u64,
        #[serde(default, deserialize_with = "milliseconds")]
        jitter: u64,
    },
    /// At most so many kilobytes (1,000 bytes) a second; 0 lets nothing pass and reads nothing either.
    Bandwidth {
        #[serde(default, deserialize_with = "whole")]
        rate: u64,
    },
    /// The end of the stream is passed on so many milliseconds late.
    SlowClose {
        #[serde(default, deserialize_with = "milliseconds")]
        delay: u64,
    },
    /// Bytes are dropped; after so many milliseconds the connection is closed. 0: not closed.
    Timeout {
        #[serde(default, deserialize_with = "milliseconds")]
        timeout: u64,
    },
    /// Both ends get a RST after so many milliseconds; bytes are dropped until then.
    ResetPeer {
        #[serde(default, deserialize_with = "milliseconds")]
        timeout: u64,
    },
    /// Bytes leave in pieces of about this size, with so many microseconds after each.
    Slicer {
        #[serde(default, deserialize_with = "whole")]
        average_size: u64,
        #[serde(default, deserialize_with = "whole")]
        size_variation: u64,
        #[serde(default, deserialize_with = "milliseconds")]
        delay: u64,
    },
    /// The connection is closed after so many bytes.
    LimitData {
        #[serde(default, deserialize_with = "whole")]
        bytes: u64,
    },
    /// Nothing passes in either direction, neither bytes nor the end of the stream; both connections stay open. Ours.
    Blackhole {},
}

/// One toxic of a proxy, as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Toxic {
    pub(super) name: String,
    pub(super) stream: Stream,
    /// Share of the connections that have it, 0 to 1; each connection draws once.
    pub(super) toxicity: f64,
    #[serde(flatten)]
    pub(super) kind: Kind,
    /// Tells toxics apart when a connection draws.
    #[serde(skip)]
    pub(super) serial: u64,
}

/// What a caller sends.
#[derive(Deserialize)]
struct Asked {
    name: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    stream: Option<String>,
    toxicity: Option<f64>,
    attributes: Option<Map<String, Value>>,
}

impl Toxic {
    /// A new toxic. Without a name it is `<type>_<stream>`; without a stream it is downstream.
    pub(super) fn parse(body: &[u8], serial: u64) -> Result<Toxic, Fault> {
        let asked: Asked = serde_json::from_slice(body).map_err(Fault::body)?;
        let kind = asked.kind.unwrap_or_default();
        if !TYPES.contains(&kind.as_str()) {
            return Err(Fault::invalid_type());
        }
        let stream = match asked.stream.as_deref() {
            None | Some("" | "downstream") => Stream::Downstream,
            Some("upstream") => Stream::Upstream,
            Some(_) => return Err(Fault::invalid_stream()),
        };
        let name = asked.name.filter(|name| !name.is_empty()).unwrap_or_else(|| match stream {
            Stream::Upstream => format!("{kind}_upstream"),
            Stream::Downstream => format!("{kind}_downstream"),
        });
        super::desk::check_name(&name)?;
        let toxicity = share(asked.toxicity.unwrap_or(1.0))?;
        let kind = kind_of(&kind, asked.attributes.unwrap_or_default())?;
        Ok(Toxic { name, stream, toxicity, kind, serial })
    }

    /// Changes toxicity and the attributes that are given; name, type and stream stay.
    pub(super) fn update(&self, body: &[u8]) -> Result<Toxic, Fault> {
        let asked: Asked = serde_json::from_slice(body).map_err(Fault::body)?;
        let shown = serde_json::to_value(self.kind).map_err(Fault::body)?;
        let mut attributes = shown["attributes"].as_object().cloned().unwrap_or_default();
        attributes.extend(asked.attributes.unwrap_or_default());
        let kind = kind_of(shown["type"].as_str().unwrap_or_default(), attributes)?;
        let toxicity = share(asked.toxicity.unwrap_or(self.toxicity))?;
        Ok(Toxic { kind, toxicity, ..self.clone() })
    }
}

fn share(toxicity: f64) -> Result<f64, Fault> {
    if (0.0..=1.0).contains(&toxicity) {
        Ok(toxicity)
    } else {
        Err(Fault::body("toxicity is not within 0 and 1"))
    }
}

fn kind_of(kind: &str, attributes: Map<String, Value>) -> Result<Kind, Fault> {
    serde_json::from_value(serde_json::json!({ "type": kind, "attributes": attributes })).map_err(Fault::body)
}

/// A whole number; Toxiproxy's own command sends them with or without a decimal point.
fn whole<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let number = f64::deserialize(from)?;
    if (0.0..9e15).contains(&number) {
        Ok(number as u64)
    } else {
        Err(D::Error::custom(format!("{number} is not a whole number from 0")))
    }
}

fn milliseconds<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let number = whole(from)?;
    if number <= MS_MAX {
        Ok(number)
    } else {
        Err(D::Error::custom(format!("{number} is more than {MS_MAX}")))
    }
}

/// How a slicer cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slices {
    pub(super) average: u64,
    pub(super) variation: u64,
    pub(super) delay_us: u64,
}

/// What all toxics of one direction do together: latencies and delays add up, the lowest rate and the lowest limit
/// count, the first to cut cuts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effects {
    pub(super) latency_ms: u64,
    pub(super) jitter_ms: u64,
    pub(super) rate_kb: Option<u64>,
    pub(super) slow_close_ms: u64,
    /// Bytes are dropped.
    pub(super) drops: bool,
    /// The end of the stream is not passed on either.
    pub(super) hides_end: bool,
    pub(super) close_after_ms: Option<u64>,
    pub(super) reset_after_ms: Option<u64>,
    pub(super) slices: Option<Slices>,
    pub(super) limit_bytes: Option<u64>,
}

impl Effects {
    /// For the direction `stream` of the connection that drew `draw`.
    pub(super) fn of(toxics: &[Toxic], stream: Stream, draw: u64) -> Effects {
        let mut effects = Effects::default();
        for toxic in toxics {
            let here = toxic.stream == stream || toxic.kind == Kind::Blackhole {};
            // 53 bits of chance: as many as a share between 0 and 1 can tell apart.
            let chance = (mixed(draw ^ mixed(toxic.serial)) >> 11) as f64 / (1_u64 << 53) as f64;
            if here && chance < toxic.toxicity {
                effects.add(toxic.kind);
            }
        }
        effects
    }

    fn add(&mut self, kind: Kind) {
        let lower = |old: Option<u64>, new: u64| Some(old.map_or(new, |old| old.min(new)));
        match kind {
            Kind::Latency { latency, jitter } => {
                self.latency_ms += latency;
                self.jitter_ms += jitter;
            }
            Kind::Bandwidth { rate } => self.rate_kb = lower(self.rate_kb, rate),
            Kind::SlowClose { delay } => self.slow_close_ms += delay,
            Kind::Timeout { timeout } => {
                self.drops = true;
                if timeout > 0 {
                    self.close_after_ms = lower(self.close_after_ms, timeout);
                }
            }
            Kind::ResetPeer { timeout } => {
                (self.drops, self.hides_end) = (true, true);
                self.reset_after_ms = lower(self.reset_after_ms, timeout);
            }
            Kind::Slicer { average_size, size_variation, delay } => {
                let average = average_size.max(1);
                self.slices = Some(Slices { average, variation: size_variation, delay_us: delay });
            }
            Kind::LimitData { bytes } => self.limit_bytes = lower(self.limit_bytes, bytes),
            Kind::Blackhole {} => (self.drops, self.hides_end) = (true, true),
        }
    }
}
