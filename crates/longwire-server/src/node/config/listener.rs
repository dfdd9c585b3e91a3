//! `[listener.device]` as the gate is told it.

use super::address;
use super::layers::Layers;
use crate::gate::transport::{Accepts, Clients, ListenerTerms, TlsFiles, UpgradeRules};
use std::net::IpAddr;
use std::path::PathBuf;

const ACCEPT: &str = "listener.device.accept";
const PROXY_FROM: &str = "listener.device.proxy_from";
const CERTIFICATE: &str = "listener.device.tls.certificate";
const KEY: &str = "listener.device.tls.key";
const CLIENT_AUTH: &str = "listener.device.tls.client_auth";
const CLIENT_CA: &str = "listener.device.tls.client_ca";
const PATHS: &str = "listener.device.ws.paths";
const ORIGINS: &str = "listener.device.ws.origins";

/// What the port takes, without certificates, and where those lie. Problems are kept in `layers`.
pub(super) fn read(layers: &mut Layers) -> (ListenerTerms, Option<TlsFiles>) {
    let accepts = accepts(layers);
    let proxies = proxies(layers);
    let words = |layers: &Layers, key| layers.text(key).split_whitespace().map(str::to_owned).collect();
    let upgrade = UpgradeRules { paths: words(layers, PATHS), origins: words(layers, ORIGINS) };
    if upgrade.paths.iter().any(|path| !path.starts_with('/')) {
        layers.object(PATHS, "a path begins with /");
    }
    let tls = tls_files(layers);
    (ListenerTerms { accepts, proxies, upgrade, tls: None }, tls)
}

fn accepts(layers: &mut Layers) -> Accepts {
    let bind = address(layers, "listener.device.bind");
    let plain = bind.ip().is_loopback() || layers.switch("listener.device.insecure_plaintext");
    let mut accepts = Accepts { native: false, mqtt: false, websocket: false, tls: false, plain };
    let mut unknown = None;
    for word in layers.text(ACCEPT).split_whitespace() {
        match word {
            "native" => accepts.native = true,
            "mqtt" => accepts.mqtt = true,
            "ws" => accepts.websocket = true,
            "tls" => accepts.tls = true,
            other => unknown = Some(other.to_owned()),
        }
    }
    if let Some(word) = unknown {
        layers.object(ACCEPT, format!("must be some of native, mqtt, ws, tls; there is no {word:?}"));
    } else if !accepts.native && !accepts.mqtt {
        layers.object(ACCEPT, "must name native, mqtt or both: ws and tls only carry them");
    }
    accepts
}

fn proxies(layers: &mut Layers) -> Vec<IpAddr> {
    let parsed: Result<Vec<IpAddr>, _> =
        layers.text(PROXY_FROM).split_whitespace().map(str::parse::<IpAddr>).collect();
    match parsed {
        Ok(addresses) => addresses.into_iter().map(|address| address.to_canonical()).collect(),
        Err(_) => {
            layers.object(PROXY_FROM, "must be IP addresses with spaces between");
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
