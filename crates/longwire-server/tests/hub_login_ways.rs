//! MQTT clients that prove who they are by a JWT, a certificate, or the word of the operator's own service.
#![allow(clippy::unwrap_used, missing_docs)]

mod hub_rig;

use hub_rig::mqtt::{accepted, attached, mqtt};
use hub_rig::{Rig, START_MS, until};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use longwire_proto::close::CloseReason;
use longwire_server::delivery::border::{Command, Event};
use longwire_server::domain::login_ways::{CallOutWay, JwtAlgorithm, JwtKey, JwtWay, LoginWays};
use longwire_server::domain::{AppKey, DeviceName};
use parking_lot::Mutex;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const SECRET: &str = "a shared secret of more than 32 bytes";
const NOW_S: u64 = START_MS / 1000;

fn key(algorithm: JwtAlgorithm, text: impl Into<String>) -> JwtKey {
    JwtKey { kid: None, algorithm, text: text.into() }
}

fn by_keys(keys: Vec<JwtKey>) -> LoginWays {
    let jwt = JwtWay { keys, jwks_file: None, issuer: None, audience: None };
    LoginWays { jwt: Some(jwt), ..LoginWays::default() }
}

fn signed(algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
    encode(&Header::new(algorithm), claims, key).unwrap()
}

fn by_secret(claims: &Value) -> String {
    signed(Algorithm::HS256, &EncodingKey::from_secret(SECRET.as_bytes()), claims)
}

/// Claims that hold for an hour.
fn claims(sub: &str) -> Value {
    json!({"sub": sub, "exp": NOW_S + 3600})
}

async fn set(rig: &Rig, ways: LoginWays) {
    assert_eq!(rig.hub.set_login_ways(&rig.app.key, ways).await, Ok(true));
}

/// Why this password is refused.
async fn refused(rig: &Rig, client_id: &str, password: &str) -> CloseReason {
    rig.refused(mqtt(rig, client_id, Some("shop"), Some(password))).await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jwt_of_each_algorithm_names_its_device() {
    let rig = Rig::new(1).await;
    let rsa = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let ed = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let pem = |pair: &KeyPair| pair.serialize_pem().into_bytes();
    set(
        &rig,
        by_keys(vec![
            key(JwtAlgorithm::Hs256, SECRET),
            key(JwtAlgorithm::Rs256, rsa.public_key_pem()),
            key(JwtAlgorithm::Es256, ec.public_key_pem()),
            key(JwtAlgorithm::EdDsa, ed.public_key_pem()),
        ]),
    )
    .await;
    let signers = [
        (Algorithm::HS256, EncodingKey::from_secret(SECRET.as_bytes())),
        (Algorithm::RS256, EncodingKey::from_rsa_pem(&pem(&rsa)).unwrap()),
        (Algorithm::ES256, EncodingKey::from_ec_pem(&pem(&ec)).unwrap()),
        (Algorithm::EdDSA, EncodingKey::from_ed_pem(&pem(&ed)).unwrap()),
    ];
    for (number, (algorithm, signer)) in signers.into_iter().enumerate() {
        let name = format!("meter-{number}");
        let token = signed(algorithm, &signer, &claims(&name));
        let given = attached(&rig, mqtt(&rig, "", Some("shop"), Some(&token))).await;
        assert_eq!((&*given.name, given.assigned.as_deref()), (&*name, Some(&*name)), "{algorithm:?}");
        let mut altered = token.clone().into_bytes();
        let middle = altered.len() / 2;
        altered[middle] = if altered[middle] == b'A' { b'B' } else { b'A' };
        let altered = String::from_utf8(altered).unwrap();
        assert_eq!(refused(&rig, "", &altered).await, CloseReason::BadToken, "{algorithm:?}");
    }
    assert_eq!(rig.hub.stats().devices_enrolled.load(SeqCst), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_cannot_choose_its_algorithm() {
    let rig = Rig::new(1).await;
    let rsa = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let public = rsa.public_key_pem();
    set(&rig, by_keys(vec![key(JwtAlgorithm::Rs256, public.clone())])).await;
    // The public key as a shared secret.
    let confused = signed(Algorithm::HS256, &EncodingKey::from_secret(public.as_bytes()), &claims("a"));
    // Another algorithm of the same key.
    let signer = EncodingKey::from_rsa_pem(rsa.serialize_pem().as_bytes()).unwrap();
    let other = signed(Algorithm::RS512, &signer, &claims("a"));
    let good = signed(Algorithm::RS256, &signer, &claims("a"));
    let body = good.split('.').nth(1).unwrap();
    let unsigned = ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJOb25lIiwidHlwIjoiSldUIn0"]
        .map(|header| [format!("{header}.{body}."), format!("{header}.{body}.AAAA")]);
    for token in [confused, other].iter().chain(unsigned.iter().flatten()) {
        assert_eq!(refused(&rig, "", token).await, CloseReason::BadToken, "{token}");
    }
    accepted(&rig, mqtt(&rig, "a", Some("shop"), Some(&good))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_jwt_claims_is_judged() {
    let rig = Rig::new(1).await;
    let mut ways = by_keys(vec![key(JwtAlgorithm::Hs256, SECRET)]);
    let jwt = ways.jwt.as_mut().unwrap();
    (jwt.issuer, jwt.audience) = (Some("plant".into()), Some("push".into()));
    set(&rig, ways).await;
    let good = json!({"sub": "m", "iss": "plant", "aud": ["mail", "push"], "exp": NOW_S + 60, "nbf": NOW_S});
    accepted(&rig, mqtt(&rig, "m", Some("shop"), Some(&by_secret(&good)))).await;
    let with = |field: &str, value: Value| {
        let mut claims = good.clone();
        claims[field] = value;
        by_secret(&claims)
    };
    for (field, value, reason) in [
        ("iss", json!("other"), CloseReason::BadToken),
        ("iss", Value::Null, CloseReason::BadToken),
        ("aud", json!("mail"), CloseReason::BadToken),
        ("aud", json!(["mail"]), CloseReason::BadToken),
        ("aud", Value::Null, CloseReason::BadToken),
        ("exp", json!(NOW_S - 31), CloseReason::ExpiredToken),
        ("exp", Value::Null, CloseReason::BadToken),
        ("exp", json!("tomorrow"), CloseReason::BadToken),
        ("nbf", json!(NOW_S + 31), CloseReason::BadToken),
        ("sub", json!("a/b"), CloseReason::BadClientId),
        ("sub", json!("other"), CloseReason::BadClientId),
    ] {
        assert_eq!(refused(&rig, "m", &with(field, value.clone())).await, reason, "{field} {value}");
    }
    // Clocks may differ by half a minute; the client id serves where there is no `sub`.
    for (client_id, token) in [
        ("n1", by_secret(&json!({"iss": "plant", "aud": "push", "exp": NOW_S - 29}))),
        ("n2", by_secret(&json!({"iss": "plant", "aud": "push", "exp": NOW_S + 60, "nbf": NOW_S + 29}))),
    ] {
        assert_eq!(&*attached(&rig, mqtt(&rig, client_id, Some("shop"), Some(&token))).await.name, client_id);
    }
    // A user name that speaks of another device, and an app that has no keys.
    let token = by_secret(&good);
    let other = rig.refused(mqtt(&rig, "m", Some("shop/other"), Some(&token))).await;
    assert_eq!(other.0, CloseReason::BadToken);
    rig.hub.create_app(AppKey::parse("bank").unwrap(), false).await.unwrap();
    let other = rig.refused(mqtt(&rig, "m", Some("bank"), Some(&token))).await;
    assert_eq!(other.0, CloseReason::BadToken);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_keys_is_read_again_when_it_changes() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let rig = Rig::new(1).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let set_of = |secret: &str, kid: &str| {
        json!({"keys": [
            {"kty": "EC", "use": "enc", "crv": "P-384", "x": "AA", "y": "AA"},
            {"kty": "oct", "kid": kid, "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(secret)},
        ]})
        .to_string()
    };
    let jwt =
        |path: &str| JwtWay { keys: Vec::new(), jwks_file: Some(path.into()), issuer: None, audience: None };
    let ways = |path: &str| LoginWays { jwt: Some(jwt(path)), ..LoginWays::default() };
    let missing = rig.hub.set_login_ways(&rig.app.key, ways(path.to_str().unwrap())).await.unwrap_err();
    assert!(missing.to_string().contains("keys.json cannot be read"), "{missing}");
    std::fs::write(&path, set_of(SECRET, "one")).unwrap();
    set(&rig, ways(path.to_str().unwrap())).await;
    let token = |secret: &str, kid: &str| {
        let header = Header { kid: Some(kid.into()), ..Header::new(Algorithm::HS256) };
        encode(&header, &json!({"exp": NOW_S + 60}), &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    };
    accepted(&rig, mqtt(&rig, "a", Some("shop"), Some(&token(SECRET, "one")))).await;
    assert_eq!(refused(&rig, "a", &token(SECRET, "two")).await, CloseReason::BadToken);
    let newer = "another shared secret of more than 32 bytes";
    std::fs::write(&path, set_of(newer, "number two")).unwrap();
    let let_in = async {
        loop {
            let login = mqtt(&rig, "b", Some("shop"), Some(&token(newer, "number two")));
            rig.tell(0, Event::Login(Box::new(login))).await;
            match rig.shards.next(0).await {
                Command::Attach(_) => return,
                Command::Refuse { reason, .. } => assert_eq!(reason, CloseReason::BadToken),
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), let_in).await.expect("the file was not read again");
    // The older key went with the older file.
    assert_eq!(refused(&rig, "a", &token(SECRET, "one")).await, CloseReason::BadToken);
    std::fs::write(&path, "{\"keys\": []}").unwrap();
    let empty = rig.hub.set_login_ways(&rig.app.key, ways(path.to_str().unwrap())).await.unwrap_err();
    assert!(empty.to_string().contains("holds no key"), "{empty}");
    // What holds is what was set last, and not read again from a file that is no good.
    accepted(&rig, mqtt(&rig, "c", Some("shop"), Some(&token(newer, "number two")))).await;
}

/// SIGHUP and the operator's word: also of a file that was replaced by one of the same length within the clock's grain.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_keys_are_read_when_told_though_they_look_the_same() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let rig = Rig::new(1).await;
    assert_eq!(rig.hub.reload_keys(), (0, vec![]));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let when = std::time::SystemTime::now();
    let write = |secret: &str| {
        let set = json!({"keys": [{"kty": "oct", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(secret)}]});
        std::fs::write(&path, set.to_string()).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(when).unwrap();
    };
    let token = |secret: &str| {
        let key = EncodingKey::from_secret(secret.as_bytes());
        encode(&Header::new(Algorithm::HS256), &json!({"exp": NOW_S + 60}), &key).unwrap()
    };
    let newer = SECRET.to_uppercase();
    write(SECRET);
    let jwks_file = Some(path.to_str().unwrap().into());
    let jwt = JwtWay { keys: Vec::new(), jwks_file, issuer: None, audience: None };
    set(&rig, LoginWays { jwt: Some(jwt), ..LoginWays::default() }).await;
    write(&newer);
    assert_eq!(rig.hub.reload_keys(), (1, vec![]));
    accepted(&rig, mqtt(&rig, "a", Some("shop"), Some(&token(&newer)))).await;
    assert_eq!(refused(&rig, "a", &token(SECRET)).await, CloseReason::BadToken);
    std::fs::write(&path, "no keys").unwrap();
    let (files, problems) = rig.hub.reload_keys();
    assert_eq!((files, problems.len()), (1, 1));
    assert!(problems[0].starts_with("shop: ") && problems[0].contains("keys.json is not a JWK set"));
    accepted(&rig, mqtt(&rig, "b", Some("shop"), Some(&token(&newer)))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_urls_that_cannot_be_used_are_named() {
    let rig = Rig::new(1).await;
    let call_out =
        |url: &str| LoginWays { call_out: Some(CallOutWay { url: url.into() }), ..LoginWays::default() };
    for (ways, part) in [
        (by_keys(vec![key(JwtAlgorithm::Hs256, "short")]), "jwt.keys[0].secret"),
        (by_keys(vec![key(JwtAlgorithm::Hs256, SECRET), key(JwtAlgorithm::Rs256, "no key")]), "jwt.keys[1]"),
        (by_keys(Vec::new()), "needs keys or a jwks_file"),
        (call_out("http://auth.example/login"), "must be https"),
        (call_out("http://127.0.0.1.example/login"), "must be https"),
        (call_out("ftp://127.0.0.1/"), "must be https"),
        (call_out("here"), "is not a URL"),
    ] {
        let said = rig.hub.set_login_ways(&rig.app.key, ways).await.unwrap_err().to_string();
        assert!(said.contains(part), "{said}");
    }
    for url in ["https://auth.example/login", "http://[::1]:7/", "http://127.9.9.9/", "http://localhost/"] {
        set(&rig, call_out(url)).await;
    }
    let nobody = AppKey::parse("nobody").unwrap();
    assert_eq!(rig.hub.set_login_ways(&nobody, LoginWays::default()).await, Ok(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verified_certificate_is_its_device_and_ways_survive_a_restart() {
    let rig = Rig::new(1).await;
    let device = DeviceName::parse("device", "truck-7").unwrap();
    let mut ways = by_keys(vec![key(JwtAlgorithm::Hs256, SECRET)]);
    ways.certificates = HashMap::from([("CN of 7".to_owned(), device)]);
    set(&rig, ways).await;
    let rig = rig.restarted().await;
    let with = |rig: &Rig, client_id: &str, user_name: &str, subject: Option<&str>| {
        let mut login = mqtt(rig, client_id, Some(user_name), None);
        login.mqtt.as_mut().unwrap().certificate = subject.map(Box::from);
        login
    };
    let given = attached(&rig, with(&rig, "", "shop", Some("CN of 7"))).await;
    assert_eq!(&*given.name, "truck-7");
    for (client_id, user_name, subject, reason) in [
        ("", "shop", Some("CN of 8"), CloseReason::BadToken),
        ("", "shop", None, CloseReason::BadToken),
        ("truck-8", "shop", Some("CN of 7"), CloseReason::BadClientId),
        ("", "shop/truck-8", Some("CN of 7"), CloseReason::BadToken),
    ] {
        let told = rig.refused(with(&rig, client_id, user_name, subject)).await;
        assert_eq!(told.0, reason, "{client_id} {user_name} {subject:?}");
    }
    accepted(&rig, mqtt(&rig, "m", Some("shop"), Some(&by_secret(&claims("m"))))).await;
    set(&rig, LoginWays::default()).await;
    assert_eq!(refused(&rig, "m", &by_secret(&claims("m"))).await, CloseReason::BadToken);
}

/// A login service on loopback that answers by the password, and keeps what it was asked.
struct Service {
    url: String,
    asked: Arc<Mutex<Vec<Value>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Service {
    async fn start() -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/login", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
        let seen = asked.clone();
        let task = tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let seen = seen.clone();
                tokio::spawn(async move {
                    let question = question(&mut socket).await;
                    let (status, body) = match question["password"].as_str().unwrap() {
                        "good" => ("200 OK", r#"{"allow":true}"#.to_owned()),
                        "named" => ("200 OK", r#"{"allow":true,"device":"other-name"}"#.to_owned()),
                        "deny" => ("200 OK", r#"{"allow":false}"#.to_owned()),
                        "forbidden" => ("403 Forbidden", String::new()),
                        "moved" => ("302 Found", String::new()),
                        "long" => ("200 OK", "x".repeat(100_000)),
                        "nonsense" => ("200 OK", "yes".to_owned()),
                        "slow" => std::future::pending().await,
                        _ => ("500 Broken", String::new()),
                    };
                    seen.lock().push(question);
                    let length = body.len();
                    let head =
                        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
                    let _ = socket.write_all((head + &body).as_bytes()).await;
                });
            }
        });
        Service { url, asked, task }
    }

    fn ways(&self) -> LoginWays {
        LoginWays { call_out: Some(CallOutWay { url: self.url.clone() }), ..LoginWays::default() }
    }

    fn count(&self) -> usize {
        self.asked.lock().len()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn question(socket: &mut tokio::net::TcpStream) -> Value {
    let mut bytes = Vec::new();
    loop {
        assert!(socket.read_buf(&mut bytes).await.unwrap() > 0);
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            assert!(head.starts_with("POST /login HTTP/1.1\r\n"), "{head}");
            if let Ok(question) = serde_json::from_str(body) {
                return question;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_own_service_decides_and_its_answer_is_remembered() {
    let rig = Rig::new(1).await;
    let service = Service::start().await;
    set(&rig, service.ways()).await;
    let good = |client_id: &str| mqtt(&rig, client_id, Some("shop/anna"), Some("good"));
    let (from, attach) = accepted(&rig, good("phone")).await;
    assert_eq!(&*attach.mqtt.unwrap().name, "phone");
    let asked = service.asked.lock()[0].clone();
    let wanted = json!({
        "client_id": "phone", "user_name": "shop/anna", "password": "good", "peer": "127.0.0.1:9", "protocol": "mqtt5"
    });
    assert_eq!(asked, wanted);
    rig.close(from, Some(attach.client), Vec::new()).await;
    until(|| async { rig.hub.stats().sessions_online.load(SeqCst) == 0 }).await;
    accepted(&rig, good("phone")).await;
    assert_eq!(service.count(), 1, "the second login was asked about");
    accepted(&rig, good("tablet")).await;
    assert_eq!(service.count(), 2);
    assert_eq!(refused(&rig, "phone", "deny").await, CloseReason::BadToken);
    assert_eq!(refused(&rig, "phone", "deny").await, CloseReason::BadToken);
    assert_eq!(refused(&rig, "phone", "forbidden").await, CloseReason::BadToken);
    assert_eq!(service.count(), 4);
    let given = attached(&rig, mqtt(&rig, "", Some("shop"), Some("named"))).await;
    assert_eq!(&*given.name, "other-name");
    // The device that was named is not the one that the client says it is.
    assert_eq!(refused(&rig, "mine", "named").await, CloseReason::BadClientId);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_fails_lets_nobody_in_and_is_left_alone() {
    let rig = Rig::new(1).await;
    let service = Service::start().await;
    set(&rig, service.ways()).await;
    for password in ["moved", "long", "nonsense", "broken", "slow"] {
        let told = rig.refused(mqtt(&rig, "a", Some("shop"), Some(password))).await;
        assert_eq!(told, (CloseReason::AuthUnavailable, 5), "{password}");
    }
    // Five failures within ten seconds: now even who would be let in has to wait, and nobody asks.
    let before = service.count();
    let (reason, wait_s) = rig.refused(mqtt(&rig, "a", Some("shop"), Some("good"))).await;
    assert_eq!(reason, CloseReason::AuthUnavailable);
    assert!((1..=5).contains(&wait_s), "{wait_s}");
    assert_eq!(service.count(), before);
    // Others are served: a device token needs nobody's word.
    let device = rig.register("own", None, &[]).await;
    accepted(&rig, mqtt(&rig, "own", Some("shop"), Some(&device.token))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_not_there_lets_nobody_in() {
    let rig = Rig::new(1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    set(&rig, LoginWays { call_out: Some(CallOutWay { url }), ..LoginWays::default() }).await;
    assert_eq!(refused(&rig, "a", "good").await, CloseReason::AuthUnavailable);
    let without = rig.refused(mqtt(&rig, "a", Some("shop"), None)).await;
    assert_eq!(without.0, CloseReason::AuthUnavailable);
}
