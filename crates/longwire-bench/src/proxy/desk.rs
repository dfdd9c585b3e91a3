//! The desk: owns all proxies and answers the requests of the API, one after another.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::relay::Relay;
use super::toxic::Toxic;

/// Proxies at once; the next one is refused with 409.
const PROXIES_MAX: usize = 256;
/// Toxics of one proxy; the next one is refused with 409.
const TOXICS_MAX: usize = 32;
/// Characters of a name.
const NAME_MAX: usize = 128;

/// One request.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) body: Vec<u8>,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// One answer: a status and, except for 204, JSON.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) json: Option<Value>,
}

/// What was wrong with a request, in Toxiproxy's words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    status: u16,
    text: String,
}

impl Fault {
    fn new(status: u16, text: impl Into<String>) -> Fault {
        Fault { status, text: text.into() }
    }
    /// The body is not what it should be.
    pub(super) fn body(why: impl Display) -> Fault {
        Fault::new(400, format!("bad request body: {why}"))
    }
    pub(super) fn invalid_type() -> Fault {
        Fault::new(400, "invalid toxic type")
    }
    pub(super) fn invalid_stream() -> Fault {
        Fault::new(400, "stream was invalid, can be either upstream or downstream")
    }
    /// As the API says it.
    pub(super) fn answer(&self) -> Answer {
        Answer { status: self.status, json: Some(json!({ "error": self.text, "status": self.status })) }
    }
}

/// A name that needs no escapes in a path.
pub(super) fn check_name(name: &str) -> Result<(), Fault> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
    if name.len() <= NAME_MAX && name.bytes().all(plain) {
        Ok(())
    } else {
        Err(Fault::body(format!("a name has at most {NAME_MAX} letters, digits and . _ - :")))
    }
}

/// What a caller sends for a proxy.
#[derive(Deserialize)]
struct Asked {
    name: Option<String>,
    listen: Option<String>,
    upstream: Option<String>,
    enabled: Option<bool>,
}

/// All proxies.
#[derive(Debug)]
pub(super) struct Desk {
    relays: BTreeMap<String, Relay>,
    serial: u64,
    connections_max: usize,
}

type Outcome = Result<Answer, Fault>;

fn with(status: u16, json: Value) -> Outcome {
    Ok(Answer { status, json: Some(json) })
}

const NOTHING: Answer = Answer { status: 204, json: None };

impl Desk {
    /// `connections_max` holds for each proxy.
    pub(super) fn new(connections_max: usize) -> Desk {
        Desk { relays: BTreeMap::new(), serial: 0, connections_max }
    }

    /// Answers until nobody can ask any more; then all proxies end.
    pub(super) async fn run(mut self, mut asks: mpsc::Receiver<Ask>) {
        while let Some(ask) = asks.recv().await {
            let answer = self.answer(&ask.method, &ask.path, &ask.body).await;
            // Who asked may have gone.
            let _ = ask.answer.send(answer.unwrap_or_else(|fault| fault.answer()));
        }
        for relay in self.relays.values_mut() {
            relay.stop().await;
        }
    }

    async fn answer(&mut self, method: &str, path: &str, body: &[u8]) -> Outcome {
        let path: Vec<&str> = path.trim_matches('/').split('/').collect();
        match (method, path.as_slice()) {
            ("GET", ["version"]) => with(200, json!({ "version": env!("CARGO_PKG_VERSION") })),
            ("GET", ["proxies"]) => {
                let all = self.relays.iter().map(|(name, relay)| (name.clone(), shown(relay)));
                with(200, Value::Object(all.collect()))
            }
            ("POST", ["proxies"]) => self.create(serde_json::from_slice(body).map_err(Fault::body)?),
            ("POST", ["populate"]) => self.populate(body).await,
            ("POST", ["reset"]) => self.reset(),
            ("GET", ["proxies", name]) => with(200, shown(self.relay(name)?)),
            ("POST" | "PATCH", ["proxies", name]) => self.update(name, body).await,
            ("DELETE", ["proxies", name]) => {
                self.relay(name)?.stop().await;
                self.relays.remove(*name);
                Ok(NOTHING)
            }
            ("GET", ["proxies", name, "toxics"]) => with(200, json!(*self.relay(name)?.toxics())),
            ("POST", ["proxies", name, "toxics"]) => self.add_toxic(name, body),
            (method, ["proxies", name, "toxics", toxic]) => self.toxic(method, name, toxic, body),
            _ => Err(Fault::new(404, "no such path or method")),
        }
    }

    fn relay(&mut self, name: &str) -> Result<&mut Relay, Fault> {
        self.relays.get_mut(name).ok_or_else(|| Fault::new(404, "proxy not found"))
    }

    fn create(&mut self, asked: Asked) -> Outcome {
        let missing = |field: &str| Fault::new(400, format!("missing required field: {field}"));
        let given = |field: Option<String>| field.filter(|text| !text.is_empty());
        let name = given(asked.name).ok_or_else(|| missing("name"))?;
        let upstream = given(asked.upstream).ok_or_else(|| missing("upstream"))?;
        check_name(&name)?;
        if self.relays.contains_key(&name) {
            return Err(Fault::new(409, "proxy already exists"));
        }
        if self.relays.len() >= PROXIES_MAX {
            return Err(Fault::new(409, format!("there are {PROXIES_MAX} proxies already")));
        }
        let listen = asked.listen.unwrap_or_default();
        let mut relay = Relay::new(&name, &listen, &upstream, self.connections_max);
        if asked.enabled.unwrap_or(true) {
            start(&mut relay)?;
        }
        let answer = with(201, shown(&relay));
        self.relays.insert(name, relay);
        answer
    }

    /// Creates every proxy of the list; one that exists with other addresses is replaced.
    async fn populate(&mut self, body: &[u8]) -> Outcome {
        let list: Vec<Asked> = serde_json::from_slice(body).map_err(Fault::body)?;
        let mut made = Vec::new();
        for asked in list {
            let same = asked.name.as_deref().and_then(|name| self.relays.get_mut(name));
            if let Some(relay) = same {
                let kept = asked.listen.as_deref() == Some(&relay.listen)
                    && asked.upstream.as_deref() == Some(&relay.upstream);
                if kept {
                    switch(relay, asked.enabled.unwrap_or(true)).await?;
                    made.push(shown(relay));
                    continue;
                }
                relay.stop().await;
                let name = relay.name.clone();
                self.relays.remove(&name);
            }
            made.push(self.create(asked)?.json.unwrap_or_default());
        }
        with(201, json!({ "proxies": made }))
    }

    async fn update(&mut self, name: &str, body: &[u8]) -> Outcome {
        let relay = self.relay(name)?;
        let asked: Asked = serde_json::from_slice(body).map_err(Fault::body)?;
        let listen = asked.listen.unwrap_or_else(|| relay.listen.clone());
        let upstream = asked.upstream.unwrap_or_else(|| relay.upstream.clone());
        let enabled = asked.enabled.unwrap_or_else(|| relay.is_enabled());
        if listen != relay.listen || upstream != relay.upstream {
            relay.stop().await;
            (relay.listen, relay.upstream) = (listen, upstream);
        }
        switch(relay, enabled).await?;
        with(200, shown(relay))
    }

    /// Every proxy listens, and none has a toxic.
    fn reset(&mut self) -> Outcome {
        for relay in self.relays.values_mut() {
            relay.set_toxics(Vec::new());
            start(relay)?;
        }
        Ok(NOTHING)
    }

    fn add_toxic(&mut self, proxy: &str, body: &[u8]) -> Outcome {
        self.serial += 1;
        let serial = self.serial;
        let relay = self.relay(proxy)?;
        let toxic = Toxic::parse(body, serial)?;
        let mut toxics = relay.toxics().to_vec();
        if toxics.iter().any(|other| other.name == toxic.name) {
            return Err(Fault::new(409, "toxic already exists"));
        }
        if toxics.len() >= TOXICS_MAX {
            return Err(Fault::new(409, format!("the proxy has {TOXICS_MAX} toxics already")));
        }
        let answer = with(200, json!(toxic));
        toxics.push(toxic);
        relay.set_toxics(toxics);
        answer
    }

    fn toxic(&mut self, method: &str, proxy: &str, name: &str, body: &[u8]) -> Outcome {
        let relay = self.relay(proxy)?;
        let mut toxics = relay.toxics().to_vec();
        let place = toxics.iter().position(|toxic| toxic.name == name);
        let place = place.ok_or_else(|| Fault::new(404, "toxic not found"))?;
        match method {
            "GET" => with(200, json!(toxics[place])),
            "POST" | "PATCH" => {
                toxics[place] = toxics[place].update(body)?;
                let answer = with(200, json!(toxics[place]));
                relay.set_toxics(toxics);
                answer
            }
            "DELETE" => {
                toxics.remove(place);
                relay.set_toxics(toxics);
                Ok(NOTHING)
            }
            _ => Err(Fault::new(405, "no such method here")),
        }
    }
}

async fn switch(relay: &mut Relay, enabled: bool) -> Result<(), Fault> {
    if enabled {
        return start(relay);
    }
    relay.stop().await;
    Ok(())
}

fn start(relay: &mut Relay) -> Result<(), Fault> {
    let name = relay.name.clone();
    relay
        .start()
        .map_err(|error| Fault::new(500, format!("{name} cannot listen at {}: {error}", relay.listen)))
}

fn shown(relay: &Relay) -> Value {
    json!({
        "name": relay.name,
        "listen": relay.listen,
        "upstream": relay.upstream,
        "enabled": relay.is_enabled(),
        "toxics": *relay.toxics(),
    })
}
