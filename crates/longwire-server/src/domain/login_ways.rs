//! How the MQTT clients of an app may prove who they are, beside device tokens.

use super::{DeviceName, Invalid};
use std::collections::HashMap;
use std::fmt;

/// Keys for JWTs that an app may have; more are refused.
pub const JWT_KEYS_MAX: usize = 16;
/// Certificates that an app may map to devices; more are refused.
pub const CERTIFICATES_MAX: usize = 10_000;
/// The shortest shared secret, bytes (RFC 7518, section 3.2).
pub const SECRET_BYTES_MIN: usize = 32;
/// The longest key, path, URL, issuer or audience, bytes.
pub const TEXT_BYTES_MAX: usize = 8192;

/// The ways beside device tokens. The default is none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LoginWays {
    /// Signed claims as password.
    pub jwt: Option<JwtWay>,
    /// Whom the operator's own service lets in.
    pub call_out: Option<CallOutWay>,
    /// Common name of a verified client certificate → device.
    pub certificates: HashMap<String, DeviceName>,
}

/// Whose signatures are believed, and what they must say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JwtWay {
    /// Keys given here.
    pub keys: Vec<JwtKey>,
    /// A file of keys on the server (RFC 7517), read again when it changes.
    pub jwks_file: Option<String>,
    /// What the claim `iss` must be.
    pub issuer: Option<String>,
    /// What the claim `aud` must be, or hold.
    pub audience: Option<String>,
}

/// One key and the one algorithm that it is for.
#[derive(Clone, PartialEq, Eq)]
pub struct JwtKey {
    /// Tokens with a `kid` are judged by keys of that id, and by keys without one.
    pub kid: Option<String>,
    /// Its algorithm; what a token says of its own is not believed.
    pub algorithm: JwtAlgorithm,
    /// The shared secret (HS256), or a public key in PEM.
    pub text: String,
}

impl fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JwtKey({:?}, {})", self.kid, self.algorithm.label())
    }
}

/// Signatures that are believed (RFC 7518, section 3.1; RFC 8037).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256: a shared secret.
    Hs256,
    /// RSA PKCS#1 v1.5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl JwtAlgorithm {
    /// Every algorithm.
    pub const ALL: [JwtAlgorithm; 4] =
        [JwtAlgorithm::Hs256, JwtAlgorithm::Rs256, JwtAlgorithm::Es256, JwtAlgorithm::EdDsa];

    /// The word in tokens, API and registry.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            JwtAlgorithm::Hs256 => "HS256",
            JwtAlgorithm::Rs256 => "RS256",
            JwtAlgorithm::Es256 => "ES256",
            JwtAlgorithm::EdDsa => "EdDSA",
        }
    }

    /// # Errors
    /// Not one of the words.
    pub fn parse(field: &str, text: &str) -> Result<JwtAlgorithm, Invalid> {
        let found = Self::ALL.into_iter().find(|algorithm| algorithm.label() == text);
        found.ok_or_else(|| Invalid::new(field, "must be HS256, RS256, ES256 or EdDSA"))
    }
}

/// Where logins are asked about.
#[derive(Clone, PartialEq, Eq)]
pub struct CallOutWay {
    /// `https://…`, or `http://` on loopback.
    pub url: String,
}

impl fmt::Debug for CallOutWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may hold credentials.
        f.write_str("CallOutWay(***)")
    }
}

impl LoginWays {
    /// Checks what can be checked without a file or a key's own form.
    ///
    /// # Errors
    /// Which field, and why.
    pub fn check(&self) -> Result<(), Invalid> {
        if let Some(jwt) = &self.jwt {
            jwt.check()?;
        }
        if self.call_out.as_ref().is_some_and(|way| way.url.len() > TEXT_BYTES_MAX) {
            return Err(Invalid::new("call_out.url", format!("at most {TEXT_BYTES_MAX} bytes")));
        }
        if self.certificates.len() > CERTIFICATES_MAX {
            return Err(Invalid::new("certificates", format!("at most {CERTIFICATES_MAX}")));
        }
        Ok(())
    }
}

impl JwtWay {
    fn check(&self) -> Result<(), Invalid> {
        if self.keys.len() > JWT_KEYS_MAX {
            return Err(Invalid::new("jwt.keys", format!("at most {JWT_KEYS_MAX} keys")));
        }
        if self.keys.is_empty() && self.jwks_file.is_none() {
            return Err(Invalid::new("jwt", "needs keys or a jwks_file"));
        }
        for (at, key) in self.keys.iter().enumerate() {
            let kid_bytes = key.kid.as_ref().map_or(0, String::len);
            if key.text.len() > TEXT_BYTES_MAX || kid_bytes > TEXT_BYTES_MAX {
                return Err(Invalid::new(
                    format!("jwt.keys[{at}]"),
                    format!("at most {TEXT_BYTES_MAX} bytes"),
                ));
            }
            if key.algorithm == JwtAlgorithm::Hs256 && key.text.len() < SECRET_BYTES_MIN {
                let problem = format!("at least {SECRET_BYTES_MIN} bytes: a shorter one can be guessed");
                return Err(Invalid::new(format!("jwt.keys[{at}].secret"), problem));
            }
        }
        let texts = [
            ("jwt.jwks_file", &self.jwks_file),
            ("jwt.issuer", &self.issuer),
            ("jwt.audience", &self.audience),
        ];
        for (field, text) in texts {
            if text.as_ref().is_some_and(|text| text.is_empty() || text.len() > TEXT_BYTES_MAX) {
                return Err(Invalid::new(field, format!("must be 1 to {TEXT_BYTES_MAX} bytes")));
            }
        }
        Ok(())
    }
}
