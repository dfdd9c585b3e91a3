//! A JWT as password: whose it is, if a key of the app signed it (RFC 7519).

use crate::domain::login_ways::{JWT_KEYS_MAX, JwtAlgorithm, JwtKey, JwtWay, SECRET_BYTES_MIN};
use crate::domain::{DeviceName, Invalid, WallMs};
use arc_swap::ArcSwap;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use longwire_proto::close::CloseReason;
use parking_lot::Mutex;
use serde::Deserialize;
use std::io::Read as _;
use std::time::SystemTime;

/// Clocks that differ by so much are forgiven, seconds.
const LEEWAY_S: f64 = 30.0;
/// The longest file of keys, bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The keys of an app, ready to verify with.
pub(in super::super) struct Jwt {
    keys: Vec<Key>,
    issuer: Option<String>,
    audience: Option<String>,
    file: Option<KeyFile>,
}

struct KeyFile {
    path: String,
    keys: ArcSwap<Vec<Key>>,
    /// Of the contents that were read last.
    seen: Mutex<Option<Seen>>,
}

type Seen = (Option<SystemTime>, u64);

struct Key {
    kid: Option<String>,
    algorithm: JwtAlgorithm,
    key: DecodingKey,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    iss: Option<String>,
    aud: Option<Audience>,
    exp: Option<f64>,
    nbf: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Three parts of base64url, as RFC 7515 writes them; a device token has no dots.
pub(in super::super) fn looks_like_one(password: &[u8]) -> bool {
    let clean = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let mut parts = password.split(|byte| *byte == b'.');
    let whole = parts.by_ref().take(2).all(|part| !part.is_empty() && part.iter().all(clean));
    whole && parts.next().is_some_and(|part| part.iter().all(clean)) && parts.next().is_none()
}

impl Jwt {
    /// # Errors
    /// A key that is none. A file that cannot be read is not an error here: see [`Jwt::reload`].
    pub(in super::super) fn new(way: &JwtWay) -> Result<Jwt, Invalid> {
        let keys = way.keys.iter().enumerate().map(|(at, key)| {
            Key::given(key).map_err(|problem| Invalid::new(format!("jwt.keys[{at}]"), problem))
        });
        let file = way.jwks_file.clone().map(|path| KeyFile {
            path,
            keys: ArcSwap::default(),
            seen: Mutex::new(None),
        });
        let keys = keys.collect::<Result<_, _>>()?;
        Ok(Jwt { keys, issuer: way.issuer.clone(), audience: way.audience.clone(), file })
    }

    /// Whether keys come from a file.
    pub(super) fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// Reads the file of keys if it is another than before, or looks as before and `anyway`; blocks. What cannot be read leaves
    /// the keys that were read before.
    ///
    /// # Errors
    /// What is wrong with the file, without its contents.
    pub(in super::super) fn reload(&self, anyway: bool) -> Result<(), Invalid> {
        let Some(file) = &self.file else { return Ok(()) };
        file.reload(anyway).map_err(|problem| Invalid::new("jwt.jwks_file", problem))
    }

    /// The name that the token gives, `None` if it gives none.
    ///
    /// # Errors
    /// The reason to refuse with.
    pub(in super::super) fn verify(
        &self,
        token: &[u8],
        now: WallMs,
    ) -> Result<Option<DeviceName>, CloseReason> {
        let header = decode_header(token).map_err(|_| CloseReason::BadToken)?;
        // Extensions that must be understood, and are not (RFC 7515, section 4.1.11).
        if header.crit.is_some() {
            return Err(CloseReason::BadToken);
        }
        let from_file = self.file.as_ref().map(|file| file.keys.load());
        let mut keys = self.keys.iter().chain(from_file.iter().flat_map(|keys| keys.iter()));
        let claims = keys.find_map(|key| key.verify(token, header.alg, header.kid.as_deref()));
        self.judge(claims.ok_or(CloseReason::BadToken)?, now)
    }

    fn judge(&self, claims: Claims, now: WallMs) -> Result<Option<DeviceName>, CloseReason> {
        let now_s = now.0 as f64 / 1000.0;
        // A token that never ends cannot be taken back.
        let exp = claims.exp.ok_or(CloseReason::BadToken)?;
        if exp + LEEWAY_S <= now_s {
            return Err(CloseReason::ExpiredToken);
        }
        if claims.nbf.is_some_and(|nbf| nbf > now_s + LEEWAY_S) {
            return Err(CloseReason::BadToken);
        }
        if self.issuer.is_some() && self.issuer != claims.iss {
            return Err(CloseReason::BadToken);
        }
        if let Some(wanted) = &self.audience {
            let is_for_us = match &claims.aud {
                None => false,
                Some(Audience::One(audience)) => audience == wanted,
                Some(Audience::Many(audiences)) => audiences.contains(wanted),
            };
            if !is_for_us {
                return Err(CloseReason::BadToken);
            }
        }
        let name = claims.sub.map(|sub| DeviceName::parse("sub", &sub));
        name.transpose().map_err(|_| CloseReason::BadClientId)
    }
}

impl KeyFile {
    fn reload(&self, anyway: bool) -> Result<(), String> {
        let unreadable = |error: std::io::Error| format!("{} cannot be read: {error}", self.path);
        let mut file = std::fs::File::open(&self.path).map_err(unreadable)?;
        let stat = file.metadata().map_err(unreadable)?;
        let seen = (stat.modified().ok(), stat.len());
        if !anyway && *self.seen.lock() == Some(seen) {
            return Ok(());
        }
        let mut text = Vec::new();
        file.by_ref().take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(unreadable)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(format!("{} is longer than {FILE_BYTES_MAX} bytes", self.path));
        }
        let set: JwkSet =
            serde_json::from_slice(&text).map_err(|_| format!("{} is not a JWK set", self.path))?;
        // Other keys of the issuer, such as those for encryption, are not for us.
        let keys: Vec<Key> = set.keys.iter().filter_map(Key::of_set).take(JWT_KEYS_MAX).collect();
        if keys.is_empty() {
            return Err(format!("{} holds no key for HS256, RS256, ES256 or EdDSA", self.path));
        }
        self.keys.store(std::sync::Arc::new(keys));
        *self.seen.lock() = Some(seen);
        Ok(())
    }
}

impl Key {
    fn given(given: &JwtKey) -> Result<Key, String> {
        let text = given.text.as_bytes();
        let key = match given.algorithm {
            JwtAlgorithm::Hs256 => Ok(DecodingKey::from_secret(text)),
            JwtAlgorithm::Rs256 => DecodingKey::from_rsa_pem(text),
            JwtAlgorithm::Es256 => DecodingKey::from_ec_pem(text),
            JwtAlgorithm::EdDsa => DecodingKey::from_ed_pem(text),
        };
        let problem = |_| format!("the public key is no PEM of a key for {}", given.algorithm.label());
        Ok(Key { kid: given.kid.clone(), algorithm: given.algorithm, key: key.map_err(problem)? })
    }

    fn of_set(jwk: &Jwk) -> Option<Key> {
        let common = &jwk.common;
        if common.public_key_use.as_ref().is_some_and(|r#use| *r#use != PublicKeyUse::Signature) {
            return None;
        }
        let (algorithm, named) = match &jwk.algorithm {
            AlgorithmParameters::OctetKey(_) => (JwtAlgorithm::Hs256, KeyAlgorithm::HS256),
            AlgorithmParameters::RSA(_) => (JwtAlgorithm::Rs256, KeyAlgorithm::RS256),
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                (JwtAlgorithm::Es256, KeyAlgorithm::ES256)
            }
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                (JwtAlgorithm::EdDsa, KeyAlgorithm::EdDSA)
            }
            _ => return None,
        };
        if common.key_algorithm.is_some_and(|algorithm| algorithm != named) {
            return None;
        }
        let key = DecodingKey::from_jwk(jwk).ok()?;
        let is_short = algorithm == JwtAlgorithm::Hs256
            && key.try_get_as_bytes().map_or(true, |secret| secret.len() < SECRET_BYTES_MIN);
        (!is_short).then(|| Key { kid: common.key_id.clone(), algorithm, key })
    }

    /// The claims, if this key signed them with its own algorithm.
    fn verify(&self, token: &[u8], presented: Algorithm, kid: Option<&str>) -> Option<Claims> {
        let algorithm = match self.algorithm {
            JwtAlgorithm::Hs256 => Algorithm::HS256,
            JwtAlgorithm::Rs256 => Algorithm::RS256,
            JwtAlgorithm::Es256 => Algorithm::ES256,
            JwtAlgorithm::EdDsa => Algorithm::EdDSA,
        };
        let other_key = matches!((kid, &self.kid), (Some(kid), Some(own)) if kid != own);
        if presented != algorithm || other_key {
            return None;
        }
        let mut validation = Validation::new(algorithm);
        // Times, issuer and audience are judged by our clock and words.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        Some(decode::<Claims>(token, &self.key, &validation).ok()?.claims)
    }
}
