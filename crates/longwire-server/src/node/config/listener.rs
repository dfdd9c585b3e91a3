//! `[listener.device]` and the listeners besides it as the gate is told them.

use super::layers::Layers;
use super::{address, check_plaintext};
use crate::gate::transport::{Accepts, Clients, ListenerTerms, TlsFiles, UpgradeRules};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

const CERTIFICATE: &str = "listener.device.tls.certificate";
const KEY: &str = "listener.device.tls.key";
const CLIENT_AUTH: &str = "listener.device.tls.client_auth";
const CLIENT_CA: &str = "listener.device.tls.client_ca";
const PATHS: &str = "listener.device.ws.paths";
const ORIGINS: &str = "listener.device.ws.origins";

/// The keys of one listener.
#[derive(Clone, Copy)]
pub(super) struct Keys {
    name: &'static str,
    pub(super) bind: &'static str,
    accept: &'static str,
    pub(super) insecure: &'static str,
    proxy_from: &'static str,
}

macro_rules! keys {
    ($name:literal) => {
        Keys {
            name: $name,
            bind: concat!("listener.", $name, ".bind"),
            accept: concat!("listener.", $name, ".accept"),
            insecure: concat!("listener.", $name, ".insecure_plaintext"),
            proxy_from: concat!("listener.", $name, ".proxy_from"),
        }
    };
}

/// The listener that there always is.
const DEVICE: Keys = keys!("device");
/// Those that there may be besides.
const FURTHER: [Keys; 4] = [keys!("mqtt"), keys!("mqtts"), keys!("ws"), keys!("wss")];

const _: () = assert!(FURTHER.len() < crate::gate::LISTENERS_MAX);

/// A listener of devices.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceListener {
    /// Its section: `device`, `mqtt`, `mqtts`, `ws` or `wss`.
    pub name: &'static str,
    /// Where it listens.
    pub bind: SocketAddr,
}

/// The listeners that are switched on, the devices' first, and what each takes, without certificates; and where those lie. Problems are kept in `layers`.
pub(super) fn read(layers: &mut Layers) -> (Vec<DeviceListener>, Vec<ListenerTerms>, Option<TlsFiles>) {
    let tls = tls_files(layers);
    let on = FURTHER.into_iter().filter(|keys| !layers.text(keys.bind).is_empty());
    let on: Vec<Keys> = std::iter::once(DEVICE).chain(on).collect();
    let listeners =
        on.iter().map(|keys| DeviceListener { name: keys.name, bind: address(layers, keys.bind) });
    let listeners = listeners.collect();
    let terms = on.iter().map(|keys| terms(layers, *keys, tls.is_some())).collect();
    (listeners, terms, tls)
}

fn terms(layers: &mut Layers, keys: Keys, certified: bool) -> ListenerTerms {
    let accepts = accepts(layers, keys, certified);
    check_plaintext(layers, keys.bind, keys.insecure, certified && accepts.tls);
    let proxies = proxies(layers, keys.proxy_from);
    let words = |layers: &Layers, key| layers.text(key).split_whitespace().map(str::to_owned).collect();
    let upgrade = UpgradeRules { paths: words(layers, PATHS), origins: words(layers, ORIGINS) };
    if upgrade.paths.iter().any(|path| !path.starts_with('/')) {
        layers.object(PATHS, "a path begins with /");
    }
    ListenerTerms { accepts, proxies, upgrade, tls: None }
}

fn accepts(layers: &mut Layers, keys: Keys, certified: bool) -> Accepts {
    let bind = address(layers, keys.bind);
    let plain = bind.ip().is_loopback() || layers.switch(keys.insecure);
    let mut accepts = Accepts { native: false, mqtt: false, websocket: false, tls: false, plain, bare: true };
    let (mut unknown, mut tls_only) = (None, false);
    for word in layers.text(keys.accept).split_whitespace() {
        match word {
            "native" => accepts.native = true,
            "mqtt" => accepts.mqtt = true,
            "ws" => accepts.websocket = true,
            "tls" => accepts.tls = true,
            "ws-only" => (accepts.websocket, accepts.bare) = (true, false),
            "tls-only" => (accepts.tls, accepts.plain, tls_only) = (true, false, true),
            other => unknown = Some(other.to_owned()),
        }
    }
    if let Some(word) = unknown {
        let problem =
            format!("must be some of native, mqtt, ws, tls, ws-only, tls-only; there is no {word:?}");
        layers.object(keys.accept, problem);
    } else if !accepts.native && !accepts.mqtt {
        layers.object(keys.accept, "must name native, mqtt or both: ws and tls only carry them");
    } else if tls_only && !certified {
        layers.object(keys.accept, format!("takes nothing outside TLS: give {CERTIFICATE}"));
    }
    accepts
}

fn proxies(layers: &mut Layers, key: &'static str) -> Vec<IpAddr> {
    let parsed: Result<Vec<IpAddr>, _> =
        layers.text(key).split_whitespace().map(str::parse::<IpAddr>).collect();
    match parsed {
        Ok(addresses) => addresses.into_iter().map(|address| address.to_canonical()).collect(),
        Err(_) => {
            layers.object(key, "must be IP addresses with spaces between");
            Vec::new()
        }
    }
}

fn tls_files(layers: &mut Layers) -> Option<TlsFiles> {
    let path = |layers: &Layers, key| PathBuf::from(layers.text(key));
    let given = |layers: &Layers, key| !layers.text(key).is_empty();
    if given(layers, CERTIFICATE) != given(layers, KEY) {
        layers.object(CERTIFICATE, format!("certificate and key go together: give {KEY} too, or neither"));
    }
    let authority = path(layers, CLIENT_CA);
    let clients = match layers.text(CLIENT_AUTH) {
        "optional" => Clients::Asked(authority),
        "required" => Clients::Required(authority),
        _ => Clients::Unasked,
    };
    let asked = clients != Clients::Unasked;
    if asked != given(layers, CLIENT_CA) {
        let problem = format!("goes together with {CLIENT_CA}: whose certificates devices show");
        layers.object(CLIENT_AUTH, problem);
    }
    if !given(layers, CERTIFICATE) {
        if asked {
            layers.object(CLIENT_AUTH, format!("needs TLS: give {CERTIFICATE}"));
        }
        return None;
    }
    Some(TlsFiles { certificate: path(layers, CERTIFICATE), key: path(layers, KEY), clients })
}
