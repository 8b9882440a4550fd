//! Logging in with the key of an identity: making and judging the signed answer to a challenge. Pure: the
//! caller brings the identity (from a node, or from a proven state) and the time.

use std::collections::BTreeSet;

use cairn_types::identity::{IdentityEntry, KeyStanding, Purpose};
use cairn_types::login::{ChallengeFault, LoginChallenge, LoginResponse};
use cairn_types::{Address, ChainId, Height, KeyRef, PublicKey};
use thiserror::Error;

use crate::key_pair::KeyPair;
use crate::signature::{SignatureFault, verify};

/// How far ahead of the verifier's clock a challenge may have been issued, ms.
pub const LOGIN_SKEW_MAX_MS: u64 = 10_000;
/// Accepted answers remembered at one moment, at most. Each costs its sender a signature and lives for
/// minutes; beyond that nobody is let in until some have expired.
pub const LOGINS_REMEMBERED_MAX: usize = 65_536;

/// Why an answer lets nobody in.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum LoginFault {
    #[error("the challenge is none: {0}")]
    Challenge(#[from] ChallengeFault),
    #[error("the challenge is for the service `{got}`; this one is `{expected}`")]
    OtherAudience { got: String, expected: String },
    #[error("the challenge was issued at {issued_ms}; it is {now_ms} (Unix ms)")]
    FromTheFuture { issued_ms: u64, now_ms: u64 },
    #[error("the challenge expired at {expires_ms}; it is {now_ms} (Unix ms)")]
    Expired { expires_ms: u64, now_ms: u64 },
    #[error("this answer was accepted before; a challenge lets in once")]
    Replayed,
    #[error("{address} is no registered identity, so it signs with its inline key")]
    UnknownIdentity { address: Address },
    #[error("the inline key belongs to {got}; the challenge is for {expected}")]
    InlineKeyOfOther { got: Address, expected: Address },
    #[error("{address} has no key {index} that is known here; an answer may carry the key itself")]
    UnknownKey { address: Address, index: u16 },
    #[error("the key {key} cannot log in for {address}: it is {standing}")]
    Key { address: Address, key: Address, standing: KeyStanding },
    #[error("the signature: {0}")]
    Signature(#[from] SignatureFault),
    #[error("{LOGINS_REMEMBERED_MAX} answers are remembered already: try again in a few minutes")]
    Full,
}

/// Answers a challenge with one key of the identity it is for.
pub fn sign_login(chain: ChainId, challenge: LoginChallenge, key: KeyRef, pair: &KeyPair) -> LoginResponse {
    let signature = pair.sign(&challenge.preimage(chain));
    LoginResponse { challenge, key, signature }
}

/// What a verifier of answers knows at one moment.
#[derive(Clone, Copy, Debug)]
pub struct LoginMoment<'a> {
    /// The identity that the challenge is for, from a node or from a proven state; `None` when it is not
    /// registered.
    pub entry: Option<&'a IdentityEntry>,
    /// Its public keys, by index; may be left out, then only answers that carry their key can be judged.
    pub keys: &'a [PublicKey],
    /// The height up to which `entry` is known.
    pub height: Height,
    /// Unix milliseconds.
    pub now_ms: u64,
}

/// Whether `response` is a good answer now. Whether it was given before, only a [`LoginGuard`] knows.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn verify_login(
    chain: ChainId,
    audience: &str,
    response: &LoginResponse,
    at: LoginMoment<'_>,
) -> Result<(), LoginFault> {
    let challenge = &response.challenge;
    challenge.check_shape()?;
    if challenge.audience != audience {
        let (got, expected) = (challenge.audience.clone(), audience.to_owned());
        return Err(LoginFault::OtherAudience { got, expected });
    }
    let now_ms = at.now_ms;
    if challenge.issued_ms > now_ms.saturating_add(LOGIN_SKEW_MAX_MS) {
        return Err(LoginFault::FromTheFuture { issued_ms: challenge.issued_ms, now_ms });
    }
    if challenge.expires_ms <= now_ms {
        return Err(LoginFault::Expired { expires_ms: challenge.expires_ms, now_ms });
    }
    let key = login_key(response, at)?;
    Ok(verify(key, &challenge.preimage(chain), &response.signature)?)
}

/// The key that signed, when it may log in now. A registered identity's key is named by its index, or carried
/// along: its address stands in the identity's entry.
fn login_key<'a>(response: &'a LoginResponse, at: LoginMoment<'a>) -> Result<&'a PublicKey, LoginFault> {
    let address = response.challenge.address;
    let (key, entry) = match (&response.key, at.entry) {
        (KeyRef::Inline(key), None) => {
            let got = key.address();
            let mismatch = LoginFault::InlineKeyOfOther { got, expected: address };
            return if got == address { Ok(key) } else { Err(mismatch) };
        }
        (KeyRef::Registered(_), None) => return Err(LoginFault::UnknownIdentity { address }),
        (KeyRef::Inline(key), Some(entry)) => (key, entry),
        (KeyRef::Registered(index), Some(entry)) => {
            let unknown = LoginFault::UnknownKey { address, index: *index };
            (at.keys.get(usize::from(*index)).ok_or(unknown)?, entry)
        }
    };
    let held = key.address();
    let standing = entry.standing(address, held, Purpose::Authentication, at.height.next(), at.now_ms);
    match standing {
        KeyStanding::Valid { index: Some(_), .. } => Ok(key),
        standing => Err(LoginFault::Key { address, key: held, standing }),
    }
}

/// Verifies answers and remembers those accepted, until their challenges have expired.
#[derive(Debug, Default)]
pub struct LoginGuard {
    accepted: BTreeSet<(u64, Address, [u8; 32])>,
}

impl LoginGuard {
    /// A guard that has let nobody in yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the sender of `response` in, once.
    ///
    /// # Errors
    /// As [`verify_login`]; [`LoginFault::Replayed`] for an answer that was accepted before.
    pub fn accept(
        &mut self,
        chain: ChainId,
        audience: &str,
        response: &LoginResponse,
        at: LoginMoment<'_>,
    ) -> Result<(), LoginFault> {
        self.accepted = self.accepted.split_off(&(at.now_ms.saturating_add(1), Address::ZERO, [0; 32]));
        let challenge = &response.challenge;
        let name = (challenge.expires_ms, challenge.address, challenge.nonce);
        if self.accepted.contains(&name) {
            return Err(LoginFault::Replayed);
        }
        if self.accepted.len() >= LOGINS_REMEMBERED_MAX {
            return Err(LoginFault::Full);
        }
        verify_login(chain, audience, response, at)?;
        self.accepted.insert(name);
        Ok(())
    }

    /// Answers remembered now.
    pub fn remembered(&self) -> usize {
        self.accepted.len()
    }
}
