//! Logging in to a service with the key of an identity: the service's challenge and the signed answer.

use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

use crate::codec::encode;
use crate::id::{Address, ChainId};
use crate::key::Signature;
use crate::signing::Tag;
use crate::transaction::KeyRef;

/// Bytes of a service's name, at most: the longest host name.
pub const AUDIENCE_BYTES_MAX: usize = 255;
/// Longest life of a challenge, ms. Whoever verifies remembers every answer for so long.
pub const LOGIN_LIFETIME_MAX_MS: u64 = 300_000;

/// "Sign this nonce": what a service asks of someone who says they are `address`.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct LoginChallenge {
    /// The service, for instance `https://example.org`; the answer is good for no other.
    pub audience: String,
    /// Who is to log in.
    pub address: Address,
    /// Random, and never used twice.
    pub nonce: [u8; 32],
    /// When it was made, Unix milliseconds.
    pub issued_ms: u64,
    /// When it ends, Unix milliseconds; at most [`LOGIN_LIFETIME_MAX_MS`] later.
    pub expires_ms: u64,
}

/// The answer: the challenge and a signature over it.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct LoginResponse {
    /// The challenge as it was received.
    pub challenge: LoginChallenge,
    /// The key that signed: by its index, or inline for an address that was never registered.
    pub key: KeyRef,
    /// Over [`LoginChallenge::preimage`].
    pub signature: Signature,
}

/// Why a challenge is none.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum ChallengeFault {
    #[error("an audience of {got} bytes; expected 1 to {AUDIENCE_BYTES_MAX}")]
    Audience { got: usize },
    #[error(
        "issued at {issued_ms} and expiring at {expires_ms} (Unix ms); expected a life of 1 to {LOGIN_LIFETIME_MAX_MS} ms"
    )]
    Life { issued_ms: u64, expires_ms: u64 },
}

impl LoginChallenge {
    /// The bytes to sign, under the tag `cairn-login`.
    pub fn preimage(&self, chain: ChainId) -> Vec<u8> {
        Tag::Login.preimage(chain, &encode(self))
    }

    /// Checks its bounds.
    ///
    /// # Errors
    /// The first one broken.
    pub fn check_shape(&self) -> Result<(), ChallengeFault> {
        let got = self.audience.len();
        if !(1..=AUDIENCE_BYTES_MAX).contains(&got) {
            return Err(ChallengeFault::Audience { got });
        }
        let (issued_ms, expires_ms) = (self.issued_ms, self.expires_ms);
        match expires_ms.checked_sub(issued_ms) {
            Some(1..=LOGIN_LIFETIME_MAX_MS) => Ok(()),
            _ => Err(ChallengeFault::Life { issued_ms, expires_ms }),
        }
    }
}
