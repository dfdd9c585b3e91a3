//! Registration against an HTTP server that answers one call with what a test gives it.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use longwire_client::{BackOff, ClientId, RegisterError, RegistrationRequest, register};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const ANSWER: &str = r#"{"registration_id":"dev-1","client_id":"18446744073709551615","token":"secret",
    "expires":"2027-01-01T00:00:00Z","entry_nodes":["127.0.0.1:9000"],
    "heartbeat":{"interval":90,"min":30,"max":1200},"backoff":{"steps":[1,4],"jitter_ms":250},"later":"field"}"#;

/// Answers one call; the task gives the request as it was read.
async fn api(status: &str, body: &str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nretry-after: 7\r\n\r\n{body}",
        body.len()
    );
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
        while !is_whole(&request) {
            let count = stream.read(&mut buffer).await.unwrap();
            assert_ne!(count, 0);
            request.extend_from_slice(&buffer[..count]);
        }
        // The caller may hang up on an answer that is too long.
        let _ = stream.write_all(answer.as_bytes()).await;
        String::from_utf8(request).unwrap()
    });
    (address, served)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    body.len() >= length.parse().unwrap()
}

fn request(api: String) -> RegistrationRequest {
    RegistrationRequest { api, app_key: "app-1".into(), ..RegistrationRequest::default() }
}

#[tokio::test]
async fn a_device_is_registered_by_app_key() {
    let (api, served) = api("201 Created", ANSWER).await;
    let registration = register(&request(api)).await.unwrap();
    assert_eq!(registration.registration_id, "dev-1");
    assert_eq!(registration.client_id, ClientId(u64::MAX));
    assert_eq!(registration.token, "secret");
    assert_eq!(registration.expires, "2027-01-01T00:00:00Z");
    assert_eq!(registration.entry_nodes, ["127.0.0.1:9000"]);
    assert_eq!(registration.heartbeat_s, 90);
    assert_eq!(registration.back_off, BackOff { steps_s: vec![1, 4], jitter_ms: 250 });
    let asked = served.await.unwrap();
    assert!(asked.starts_with("POST /v1/devices HTTP/1.1\r\n"), "{asked}");
    assert!(asked.to_lowercase().contains("x-app-key: app-1\r\n"), "{asked}");
    assert!(asked.ends_with("\r\n\r\n{}"), "{asked}");
}

#[tokio::test]
async fn a_secret_goes_as_basic_authorization_and_wishes_as_json() {
    let (api, served) = api("200 OK", ANSWER).await;
    let request = RegistrationRequest {
        app_secret: Some("s3cret".into()),
        registration_id: Some("dev-1".into()),
        alias: Some("alice".into()),
        tags: vec!["news".into()],
        ..request(api)
    };
    register(&request).await.unwrap();
    let asked = served.await.unwrap();
    assert!(asked.contains("Basic YXBwLTE6czNjcmV0\r\n"), "{asked}");
    assert!(!asked.to_lowercase().contains("x-app-key"), "{asked}");
    assert!(asked.ends_with(r#"{"registration_id":"dev-1","alias":"alice","tags":["news"]}"#), "{asked}");
}

#[tokio::test]
async fn a_refusal_brings_the_apis_words() {
    let (api, _served) =
        api("429 Too Many Requests", r#"{"code":"app_quota","message":"too many devices"}"#).await;
    let RegisterError::Refused { status, code, message, retry_after_s } =
        register(&request(api)).await.unwrap_err()
    else {
        panic!("not a refusal")
    };
    assert_eq!((status, code.as_str(), message.as_str()), (429, "app_quota", "too many devices"));
    assert_eq!(retry_after_s, Some(7));
}

#[tokio::test]
async fn an_answer_that_is_not_one_is_told_apart() {
    let number = ANSWER.replace("18446744073709551615", "x");
    let long = " ".repeat(70_000);
    for body in ["", "{}", "<html>", &number, &long] {
        let (api, _served) = api("200 OK", body).await;
        let error = register(&request(api)).await.unwrap_err();
        assert!(matches!(error, RegisterError::Answer(_)), "{error:?}");
    }
    let (api, _served) = api("502 Bad Gateway", "<html>").await;
    let error = register(&request(api)).await.unwrap_err();
    assert!(matches!(error, RegisterError::Refused { status: 502, .. }), "{error:?}");
}

#[tokio::test]
async fn an_api_that_is_not_there_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let outcome = tokio::time::timeout(Duration::from_secs(20), register(&request(api))).await.unwrap();
    assert!(matches!(outcome, Err(RegisterError::Unreachable(_))));
}
