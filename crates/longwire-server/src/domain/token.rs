//! The token that a device logs in with: HMAC-SHA-256 over app, client id, generation and expiry, so that a reconnect
//! storm needs no central store to check a login.
//!
//! Text form: base64url without padding of version (1 byte, 1) · app (u32) · client id (u64) · generation (u32) ·
//! expiry (u64, seconds since 1970) · MAC (32 bytes); big-endian; 57 bytes, 76 characters.

use super::{AppId, ClientId, WallMs};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const VERSION: u8 = 1;
const CLAIMS_BYTES: usize = 1 + 4 + 8 + 4 + 8;
const TOKEN_BYTES: usize = CLAIMS_BYTES + 32;

/// The key that signs tokens: 32 random bytes, one per deployment, never shown.
#[derive(Clone)]
pub struct TokenKey([u8; 32]);

/// What a token says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token {
    /// The app that it is for.
    pub app: AppId,
    /// The device that it is for.
    pub client: ClientId,
    /// The device's generation when it was issued; lower than the registry's means revoked.
    pub generation: u32,
    /// Not valid from then on.
    pub expires: WallMs,
}

/// Why a token was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenFault {
    /// It is not a token, or its signature is wrong.
    #[error("the token does not verify")]
    Bad,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
}

impl TokenKey {
    /// A key of these random bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> TokenKey {
        TokenKey(bytes)
    }

    fn mac(&self, claims: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(claims);
        mac
    }

    /// The text of a signed token. Expiry is kept in whole seconds.
    #[must_use]
    pub fn sign(&self, token: &Token) -> String {
        let mut bytes = Vec::with_capacity(TOKEN_BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&token.app.0.to_be_bytes());
        bytes.extend_from_slice(&token.client.0.to_be_bytes());
        bytes.extend_from_slice(&token.generation.to_be_bytes());
        bytes.extend_from_slice(&(token.expires.0 / 1000).to_be_bytes());
        let mac = self.mac(&bytes).finalize().into_bytes();
        bytes.extend_from_slice(&mac);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What a token says, if it is ours and its time is not over at `now`.
    ///
    /// # Errors
    /// See [`TokenFault`].
    pub fn verify(&self, text: &[u8], now: WallMs) -> Result<Token, TokenFault> {
        let mut bytes = [0_u8; TOKEN_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).map_err(|_| TokenFault::Bad)?;
        if length != TOKEN_BYTES || bytes[0] != VERSION {
            return Err(TokenFault::Bad);
        }
        let (claims, mac) = bytes.split_at(CLAIMS_BYTES);
        self.mac(claims).verify_slice(mac).map_err(|_| TokenFault::Bad)?;
        let u32_at =
            |at: usize| u32::from_be_bytes([claims[at], claims[at + 1], claims[at + 2], claims[at + 3]]);
        let u64_at = |at: usize| (u64::from(u32_at(at)) << 32) | u64::from(u32_at(at + 4));
        let token = Token {
            app: AppId(u32_at(1)),
            client: ClientId(u64_at(5)),
            generation: u32_at(13),
            expires: WallMs(u64_at(17).saturating_mul(1000)),
        };
        if token.expires <= now { Err(TokenFault::Expired) } else { Ok(token) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_token_verifies_and_an_altered_one_does_not() {
        let key = TokenKey::new([7; 32]);
        let token = Token {
            app: AppId(3),
            client: ClientId(u64::MAX - 5),
            generation: 9,
            expires: WallMs(5_000_000),
        };
        let text = key.sign(&token);
        assert_eq!(text.len(), 76);
        assert_eq!(key.verify(text.as_bytes(), WallMs(4_999_999)), Ok(token));
        assert_eq!(key.verify(text.as_bytes(), WallMs(5_000_000)), Err(TokenFault::Expired));
        for at in 0..text.len() {
            let mut altered = text.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(key.verify(&altered, WallMs(0)), Err(TokenFault::Bad), "byte {at}");
        }
        assert_eq!(TokenKey::new([8; 32]).verify(text.as_bytes(), WallMs(0)), Err(TokenFault::Bad));
        assert_eq!(key.verify(b"", WallMs(0)), Err(TokenFault::Bad));
    }
}
