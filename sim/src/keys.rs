//! Keys that are the same in every run, so that runs with stand-ins and runs with real signatures have the same
//! ids and can be compared event by event.

use std::sync::{Arc, Mutex, PoisonError};

use cairn_crypto::KeyPair;
use cairn_types::{PublicKey, Scheme, Signature};
use fips204::ml_dsa_65;
use fips204::traits::{KeyGen, SerDes};
use zeroize::Zeroizing;

use crate::manifest::Signatures;

/// What a validator or client signs with.
#[derive(Clone, Debug)]
pub(crate) enum Signer {
    /// Stand-ins.
    Mock(PublicKey),
    /// Dilithium3.
    Real(Arc<KeyPair>),
}

impl Signer {
    pub(crate) fn public(&self) -> &PublicKey {
        match self {
            Self::Mock(public) => public,
            Self::Real(pair) => pair.public(),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a simulated validator signs with its own key")]
    pub(crate) fn sign(&self, preimage: &[u8]) -> Signature {
        match self {
            Self::Mock(public) => cairn_crypto::sign_simulated(public, preimage),
            Self::Real(pair) => pair.sign(preimage),
        }
    }
}

/// Both forms of one key, each made when first asked for.
#[derive(Clone)]
struct Made {
    public: PublicKey,
    secret: Zeroizing<Vec<u8>>,
    pair: Option<Arc<KeyPair>>,
}

/// Keys made so far in this process: making one takes longer than a short run. Bounded by the largest network
/// and its clients.
static MADE: Mutex<Vec<Made>> = Mutex::new(Vec::new());

/// The first `count` keys, as signers of this kind. Validators come first, then clients.
///
/// # Errors
/// When the libraries disagree about a key, which they never have.
pub(crate) fn signers(count: usize, kind: Signatures) -> Result<Vec<Signer>, String> {
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    while made.len() < count {
        let next = make(made.len())?;
        made.push(next);
    }
    made.iter_mut()
        .take(count)
        .map(|key| match kind {
            Signatures::Mock => Ok(Signer::Mock(key.public.clone())),
            Signatures::Real => key.pair().map(Signer::Real),
        })
        .collect()
}

impl Made {
    fn pair(&mut self) -> Result<Arc<KeyPair>, String> {
        if let Some(pair) = &self.pair {
            return Ok(Arc::clone(pair));
        }
        let pair = KeyPair::from_secret(self.public.clone(), self.secret.clone());
        let pair = Arc::new(pair.map_err(|fault| fault.to_string())?);
        self.pair = Some(Arc::clone(&pair));
        Ok(pair)
    }
}

/// Key number `index`. `fips204` 0.1.2 implements the draft that `dilithium3` is, and takes its randomness from
/// the caller.
fn make(index: usize) -> Result<Made, String> {
    let seed = blake3::derive_key("cairn 2026 simulated key v1", &(index as u64).to_le_bytes());
    let mut stream = Stream(blake3::Hasher::new_keyed(&seed).finalize_xof());
    let (public, secret) =
        ml_dsa_65::KG::try_keygen_with_rng_vt(&mut stream).map_err(|why| format!("key {index}: {why}"))?;
    let public = PublicKey::new(Scheme::Dilithium3, &public.into_bytes())
        .ok_or_else(|| format!("key {index} has an unexpected length"))?;
    Ok(Made { public, secret: Zeroizing::new(secret.into_bytes().to_vec()), pair: None })
}

/// A fixed stream of bytes behind the traits that `fips204` 0.1.2 asks for.
struct Stream(blake3::OutputReader);

impl rand_core_06::RngCore for Stream {
    fn next_u32(&mut self) -> u32 {
        rand_core_06::impls::next_u32_via_fill(self)
    }
    fn next_u64(&mut self) -> u64 {
        rand_core_06::impls::next_u64_via_fill(self)
    }
    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core_06::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}
impl rand_core_06::CryptoRng for Stream {}
