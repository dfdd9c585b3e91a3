//! Servers for flows that need more than an open door: one that asks for client certificates, and one behind nginx.

use super::kit::{Door, VERSIONS};
use super::loopback;
use super::support::{Nginx, PATIENCE, STREAM_FRONT, Start, TestServer, until};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

const REFUSED: &str = "longwire_logins_refused_total";
const DECIDED: &str = "longwire_logins_decided_total";

/// What the operator sets for the app.
#[track_caller]
fn put(server: &TestServer, what: &str, body: &Value) {
    let path = format!("/v1/admin/apps/{}/{what}", server.app_key);
    let answer = server.operator().request("PUT", &path, Some(body.to_string().as_bytes())).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
}

/// A certificate authority in a folder.
struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "Test CA");
        let key = KeyPair::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Authority { folder, issuer: Issuer::new(params, key) }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// A certificate and its key: files.
    fn certify(&self, common_name: &str, hosts: &[&str]) -> (PathBuf, PathBuf) {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let own = params.signed_by(&key, &self.issuer).unwrap();
        let (certificate, secret) = (format!("{common_name}.pem"), format!("{common_name}.key"));
        std::fs::write(self.path(&certificate), own.pem()).unwrap();
        std::fs::write(self.path(&secret), key.serialize_pem()).unwrap();
        (self.path(&certificate), self.path(&secret))
    }
}

/// A server that takes devices by their certificates: `CN of pump-4` is the device `pump-4`, for which a push waits.
pub(crate) struct Secured {
    server: TestServer,
    authority: Authority,
}

impl Secured {
    #[track_caller]
    pub(crate) fn start() -> Secured {
        let authority = Authority::new();
        let (certificate, key) = authority.certify("server", &["localhost", "127.0.0.1"]);
        let set = |key: &str, path: &Path| format!("--set=listener.device.tls.{key}={}", path.display());
        let server = Start::default()
            .arg(&set("certificate", &certificate))
            .arg(&set("key", &key))
            .arg(&set("client_ca", &authority.path("ca.pem")))
            .arg("--set=listener.device.tls.client_auth=required")
            .start();
        let names =
            VERSIONS.map(|version| (format!("CN of pump-{version}"), json!(format!("pump-{version}"))));
        put(&server, "login_ways", &json!({ "certificates": serde_json::Map::from_iter(names) }));
        Secured { server, authority }
    }

    /// The device's own door in this version; a text waits there for it.
    #[track_caller]
    fn device(&self, version: u8) -> Door {
        let device = format!("pump-{version}");
        self.server.register(&device, None, &[]);
        let push =
            self.server.api.push_text(json!({ "registration_id": [device] }), &format!("for {device}"));
        push.message_id();
        let door = self.shown(&format!("CN of {device}")).versions(&[version]);
        Door { device: Some(device), ..door }
    }

    /// A door at which this certificate is shown.
    fn shown(&self, common_name: &str) -> Door {
        let (certificate, key) = self.authority.certify(common_name, &[]);
        Door { certificate: Some(certificate), key: Some(key), ..self.unshown() }
    }

    /// A door at which no certificate is shown.
    fn unshown(&self) -> Door {
        let user = Some(self.server.app_key.clone());
        Door { ca: Some(self.authority.path("ca.pem")), user, ..Door::open(self.server.device) }
    }

    /// Devices with their own certificate get in; a certificate that stands for nobody, and none, do not.
    #[track_caller]
    pub(crate) fn tried_by(&self, flow: impl Fn(&str, &Door)) {
        for version in VERSIONS {
            flow("pushed", &self.device(version));
        }
        let refused = || self.server.metric(REFUSED, &["bad_token"]);
        assert_eq!(refused(), 0.0);
        flow("refused", &self.shown("CN of nobody"));
        assert!(until(PATIENCE, || refused() == 2.0), "once in each version, not {} times", refused());
        // Without one it does not come so far that it could say who it is.
        let judged = || self.server.metric(DECIDED, &[]);
        let before = judged();
        flow("refused", &self.unshown());
        assert_eq!(judged(), before);
    }
}

/// A server that comes back where it was.
pub(crate) struct Lasting {
    server: TestServer,
    folder: TempDir,
    bind: SocketAddr,
}

impl Lasting {
    #[track_caller]
    pub(crate) fn start() -> Lasting {
        let folder = tempfile::tempdir().unwrap();
        // An address from which nobody else connects, so that the port stays free.
        let bind = TcpListener::bind("127.0.0.4:0").unwrap().local_addr().unwrap();
        Lasting { server: Lasting::again(folder.path(), bind), folder, bind }
    }

    #[track_caller]
    fn again(folder: &Path, bind: SocketAddr) -> TestServer {
        Start::default().folder(folder).arg(&format!("--set=listener.device.bind={bind}")).start()
    }

    pub(crate) fn door(&self) -> Door {
        Door::open(self.bind)
    }

    /// `kill -9`, a new start, and a message on this topic.
    #[track_caller]
    pub(crate) fn dies_and_publishes(&mut self, topic: &str) {
        self.server.kill9();
        self.server = Lasting::again(self.folder.path(), self.bind);
        let body = json!({ "topic": topic, "payload": "after", "qos": 1 });
        let answer = self.server.api.post("/v1/publish", &body);
        assert_eq!(answer.status, 202, "{}", answer.text);
    }
}

/// A server behind nginx, whose app asks a service about each login. So what the server takes for a client's address can be seen.
pub(crate) struct Behind {
    pub(crate) nginx: Nginx,
    server: TestServer,
    asked: Arc<Mutex<Vec<(String, IpAddr)>>>,
}

impl Behind {
    #[track_caller]
    pub(crate) fn start() -> Behind {
        let server =
            Start::default().arg(&format!("--set=listener.device.proxy_from={STREAM_FRONT}")).start();
        let asked: Arc<Mutex<Vec<(String, IpAddr)>>> = Arc::default();
        let list = asked.clone();
        let service = loopback::serve(move |request| {
            let question: Value = serde_json::from_slice(&request.body).unwrap();
            let peer = question["peer"].as_str().and_then(|peer| peer.parse::<SocketAddr>().ok());
            let client = question["client_id"].as_str().unwrap_or_default().to_owned();
            list.lock().unwrap().extend(peer.map(|peer| (client, peer.ip())));
            (200, "application/json", br#"{"allow": true}"#.to_vec())
        });
        put(&server, "login_ways", &json!({ "call_out": { "url": format!("http://{service}/login") } }));
        put(&server, "topic_rules", &json!({ "topic_rules": ["allow all #"] }));
        Behind { nginx: Nginx::start(server.device), server, asked }
    }

    /// The front for TCP, with what the app asks for.
    pub(crate) fn door(&self) -> Door {
        let (user, password) = (Some(self.server.app_key.clone()), Some("a password".to_owned()));
        Door { user, password, ..Door::open(self.nginx.stream) }
    }

    /// All clients that asked to be let in so far, two in each version, came from this address.
    #[track_caller]
    pub(crate) fn all_came_from(&self, address: &str) {
        let mut asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.sort();
        asked.dedup();
        let address: IpAddr = address.parse().unwrap();
        assert!(asked.iter().all(|(_, seen)| *seen == address), "not from {address}: {asked:?}");
        assert_eq!(asked.len(), 4, "{asked:?}");
    }
}
