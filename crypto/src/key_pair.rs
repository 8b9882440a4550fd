//! Signing keys.

use std::fmt;

use aws_lc_rs::signature::{KeyPair as _, ML_DSA_65_SIGNING, PqdsaKeyPair};
use cairn_types::{Address, PublicKey, Scheme, Signature};
use pqcrypto_dilithium::dilithium3;
use pqcrypto_traits::sign::{DetachedSignature as _, PublicKey as _, SecretKey as _};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::signature::verify;

/// Length of the ML-DSA-65 secret as stored: the FIPS 204 seed, from which the whole key follows.
const ML_DSA_SEED_BYTES: usize = 32;

/// A public key with the secret that signs for it. The secret is wiped from memory on drop and never printed.
pub struct KeyPair {
    public: PublicKey,
    secret: Secret,
}

enum Secret {
    /// The 4,032-byte expanded secret key, the only form `pqcrypto-dilithium` takes.
    Dilithium3(Zeroizing<Vec<u8>>),
    /// The seed, kept for the keystore, and the library's own form, which it wipes when freed.
    MlDsa65 { seed: Zeroizing<Vec<u8>>, key: PqdsaKeyPair },
}

/// Why secret bytes are not the secret of a public key. Never says anything about the secret itself.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum KeyFault {
    #[error("a {scheme} secret has {expected} bytes, not {got}")]
    Length { scheme: Scheme, got: usize, expected: usize },
    #[error("the library refuses these bytes as a {scheme} secret")]
    Refused { scheme: Scheme },
    #[error("the secret does not belong to the public key of {address}")]
    Mismatch { address: Address },
}

impl KeyPair {
    /// A new key from the operating system's randomness.
    ///
    /// # Panics
    /// When the operating system has no randomness to give: no key may be made then.
    pub fn generate(scheme: Scheme) -> Self {
        match scheme {
            Scheme::Dilithium3 => generate_dilithium3(),
            Scheme::MlDsa65 => {
                let mut seed = Zeroizing::new([0u8; ML_DSA_SEED_BYTES]);
                getrandom::fill(seed.as_mut()).expect("the operating system gives randomness");
                Self::from_seed(&seed).expect("any 32 bytes are an ML-DSA seed")
            }
        }
    }

    /// The `ml-dsa-65` key that FIPS 204 derives from `seed`.
    ///
    /// # Errors
    /// When the library refuses the seed.
    pub fn from_seed(seed: &[u8; ML_DSA_SEED_BYTES]) -> Result<Self, KeyFault> {
        let scheme = Scheme::MlDsa65;
        let key =
            PqdsaKeyPair::from_seed(&ML_DSA_65_SIGNING, seed).map_err(|_| KeyFault::Refused { scheme })?;
        let public = PublicKey::new(scheme, key.public_key().as_ref()).ok_or(KeyFault::Refused { scheme })?;
        Ok(Self { public, secret: Secret::MlDsa65 { seed: Zeroizing::new(seed.to_vec()), key } })
    }

    /// The pair of `public` and its stored secret, as [`KeyPair::secret_bytes`] gave it.
    ///
    /// # Errors
    /// When the secret has the wrong length or is not the one of `public`.
    pub fn from_secret(public: PublicKey, secret: Zeroizing<Vec<u8>>) -> Result<Self, KeyFault> {
        let scheme = public.scheme();
        let expected = secret_length(scheme);
        let wrong_length = KeyFault::Length { scheme, got: secret.len(), expected };
        if secret.len() != expected {
            return Err(wrong_length);
        }
        let address = public.address();
        match scheme {
            Scheme::Dilithium3 => {
                // The library cannot derive the public key from the secret: a trial signature ties the two.
                let pair = Self { public, secret: Secret::Dilithium3(secret) };
                let trial = b"cairn key check";
                verify(&pair.public, trial, &pair.sign(trial)).map_err(|_| KeyFault::Mismatch { address })?;
                Ok(pair)
            }
            Scheme::MlDsa65 => {
                let seed: &[u8; ML_DSA_SEED_BYTES] =
                    secret.as_slice().try_into().map_err(|_| wrong_length)?;
                let pair = Self::from_seed(seed)?;
                if pair.public == public { Ok(pair) } else { Err(KeyFault::Mismatch { address }) }
            }
        }
    }

    /// The public key.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The address of the public key.
    pub fn address(&self) -> Address {
        self.public.address()
    }

    /// The secret as the keystore keeps it: the expanded key for `dilithium3`, the seed for `ml-dsa-65`.
    pub fn secret_bytes(&self) -> &Zeroizing<Vec<u8>> {
        match &self.secret {
            Secret::Dilithium3(bytes) => bytes,
            Secret::MlDsa65 { seed, .. } => seed,
        }
    }

    /// Signs `preimage`. With `dilithium3` the same bytes give the same signature; `ml-dsa-65` is hedged, so two
    /// signatures over the same bytes differ.
    ///
    /// # Panics
    /// When the library cannot sign at all (no memory, no randomness): a broken machine, not a bad input.
    pub fn sign(&self, preimage: &[u8]) -> Signature {
        let bytes = match &self.secret {
            Secret::Dilithium3(secret) => sign_dilithium3(secret, preimage),
            Secret::MlDsa65 { key, .. } => {
                let mut bytes = vec![0; Scheme::MlDsa65.signature_bytes()];
                key.sign(preimage, &mut bytes).expect("a loaded ML-DSA key signs");
                bytes
            }
        };
        Signature::new(&bytes).expect("a scheme's signatures fit the signature type")
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({:?}, secret hidden)", self.public)
    }
}

pub(crate) const fn secret_length(scheme: Scheme) -> usize {
    match scheme {
        Scheme::Dilithium3 => dilithium3::secret_key_bytes(),
        Scheme::MlDsa65 => ML_DSA_SEED_BYTES,
    }
}

fn generate_dilithium3() -> KeyPair {
    let (public, mut secret) = dilithium3::keypair();
    let bytes = Zeroizing::new(secret.as_bytes().to_vec());
    wipe(&mut secret);
    let public = PublicKey::new(Scheme::Dilithium3, public.as_bytes())
        .expect("the library's public keys have the scheme's length");
    KeyPair { public, secret: Secret::Dilithium3(bytes) }
}

fn sign_dilithium3(secret: &[u8], preimage: &[u8]) -> Vec<u8> {
    let mut secret =
        dilithium3::SecretKey::from_bytes(secret).expect("a key pair holds a secret of its scheme's length");
    let signature = dilithium3::detached_sign(preimage, &secret);
    wipe(&mut secret);
    signature.as_bytes().to_vec()
}

/// The library's secret key type does not wipe itself, so it lives only for one call and is overwritten.
fn wipe(secret: &mut dilithium3::SecretKey) {
    let zeros = [0; dilithium3::secret_key_bytes()];
    if let Ok(empty) = dilithium3::SecretKey::from_bytes(&zeros) {
        *secret = empty;
    }
    // Keeps the overwrite from being optimised away as a dead store.
    std::hint::black_box(&*secret);
}
