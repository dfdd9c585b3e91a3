//! The login ways of an app as JSON in its row.

use crate::domain::login_ways::{CallOutWay, JwtAlgorithm, JwtKey, JwtWay};
use crate::domain::{DeviceName, LoginWays};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Serialize, Deserialize)]
struct Stored {
    jwt: Option<StoredJwt>,
    call_out_url: Option<String>,
    certificates: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct StoredJwt {
    keys: Vec<StoredKey>,
    jwks_file: Option<String>,
    issuer: Option<String>,
    audience: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct StoredKey {
    kid: Option<String>,
    algorithm: String,
    text: String,
}

pub(super) fn encode(ways: &LoginWays) -> String {
    let key = |key: &JwtKey| StoredKey {
        kid: key.kid.clone(),
        algorithm: key.algorithm.label().to_owned(),
        text: key.text.clone(),
    };
    let stored = Stored {
        jwt: ways.jwt.as_ref().map(|jwt| StoredJwt {
            keys: jwt.keys.iter().map(key).collect(),
            jwks_file: jwt.jwks_file.clone(),
            issuer: jwt.issuer.clone(),
            audience: jwt.audience.clone(),
        }),
        call_out_url: ways.call_out.as_ref().map(|way| way.url.clone()),
        certificates: ways
            .certificates
            .iter()
            .map(|(subject, device)| (subject.clone(), device.as_str().to_owned()))
            .collect(),
    };
    serde_json::to_string(&stored).expect("texts and maps of texts are always JSON")
}

/// # Errors
/// What is wrong, without the text.
pub(super) fn decode(text: &str) -> Result<LoginWays, String> {
    let stored: Stored = serde_json::from_str(text)
        .map_err(|error| format!("not what was written: line {}, column {}", error.line(), error.column()))?;
    let key = |key: StoredKey| {
        let algorithm =
            JwtAlgorithm::parse("algorithm", &key.algorithm).map_err(|invalid| invalid.to_string())?;
        Ok::<_, String>(JwtKey { kid: key.kid, algorithm, text: key.text })
    };
    let jwt = stored.jwt.map(|jwt| {
        Ok::<_, String>(JwtWay {
            keys: jwt.keys.into_iter().map(key).collect::<Result<_, _>>()?,
            jwks_file: jwt.jwks_file,
            issuer: jwt.issuer,
            audience: jwt.audience,
        })
    });
    let certificate = |(subject, device): (String, String)| {
        let device = DeviceName::parse("certificates", &device).map_err(|invalid| invalid.to_string())?;
        Ok::<_, String>((subject, device))
    };
    Ok(LoginWays {
        jwt: jwt.transpose()?,
        call_out: stored.call_out_url.map(|url| CallOutWay { url }),
        certificates: stored.certificates.into_iter().map(certificate).collect::<Result<_, _>>()?,
    })
}
