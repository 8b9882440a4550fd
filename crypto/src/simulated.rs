//! Stand-in signatures for simulations: a keyed hash of what would be signed, quick to make and to check.
//!
//! Whoever knows a public key can make one, so they protect nothing: code that simulates a network has every
//! validator sign with its own key alone, and only [`crate::Verifier::simulated`] accepts the result.

use cairn_types::{PublicKey, Signature};

use crate::signature::SignatureFault;

/// Length of a stand-in. Never a scheme's own length, so no real verifier takes one for a signature.
const STAND_IN_BYTES: usize = 16;

/// The stand-in of `key`'s signature over `preimage`. Only for simulations: `clippy.toml` refuses it elsewhere.
pub fn sign_simulated(key: &PublicKey, preimage: &[u8]) -> Signature {
    Signature::new(&stand_in(key, preimage)).unwrap_or_else(Signature::empty)
}

/// Bytes by which a stand-in is shorter than what `key` would really sign.
pub(crate) fn missing_bytes(key: &PublicKey, signature: &Signature) -> usize {
    key.scheme().signature_bytes().saturating_sub(signature.as_bytes().len())
}

pub(crate) fn verify_simulated(
    key: &PublicKey,
    preimage: &[u8],
    signature: &Signature,
) -> Result<(), SignatureFault> {
    let scheme = key.scheme();
    let got = signature.as_bytes().len();
    if got != STAND_IN_BYTES {
        return Err(SignatureFault::Length { scheme, got, expected: STAND_IN_BYTES });
    }
    if signature.as_bytes() == stand_in(key, preimage) {
        Ok(())
    } else {
        Err(SignatureFault::Refused { scheme })
    }
}

/// The first 32 bytes of a key (its public seed) tell it from every other.
fn stand_in(key: &PublicKey, preimage: &[u8]) -> [u8; STAND_IN_BYTES] {
    let mut name = [0; 32];
    let bytes = key.as_bytes();
    let length = bytes.len().min(name.len());
    if let (Some(to), Some(from)) = (name.get_mut(..length), bytes.get(..length)) {
        to.copy_from_slice(from);
    }
    let hash = blake3::keyed_hash(&name, preimage);
    let mut short = [0; STAND_IN_BYTES];
    if let Some(from) = hash.as_bytes().first_chunk() {
        short = *from;
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyPair, verify};
    use cairn_types::Scheme;

    #[test]
    fn a_stand_in_holds_for_its_key_and_bytes_alone_and_never_for_a_real_verifier() {
        let keys: Vec<_> = (0..2).map(|_| KeyPair::generate(Scheme::Dilithium3)).collect();
        let (key, other) = (keys[0].public(), keys[1].public());
        #[expect(clippy::disallowed_methods, reason = "this is what is tested")]
        let signature = sign_simulated(key, b"bytes");
        assert_eq!(verify_simulated(key, b"bytes", &signature), Ok(()));
        assert!(verify_simulated(other, b"bytes", &signature).is_err());
        assert!(verify_simulated(key, b"other", &signature).is_err());
        assert!(verify(key, b"bytes", &signature).is_err());
        assert!(verify_simulated(key, b"bytes", &keys[0].sign(b"bytes")).is_err());
    }
}
