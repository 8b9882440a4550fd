//! Checking one signature.

use aws_lc_rs::signature::{ML_DSA_65, VerificationAlgorithm};
use cairn_types::{PublicKey, Scheme, Signature};
use pqcrypto_dilithium::dilithium3;
use pqcrypto_traits::sign::{DetachedSignature as _, PublicKey as _};
use thiserror::Error;

/// Signatures of one certificate that are worth waking other threads for: most were checked as votes.
pub(crate) const PARALLEL_MIN: usize = 16;

/// Why a signature was refused.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum SignatureFault {
    #[error("the signature has {got} bytes; a {scheme} signature has {expected}")]
    Length { scheme: Scheme, got: usize, expected: usize },
    #[error("the {scheme} signature does not match the key and the signed bytes")]
    Refused { scheme: Scheme },
}

/// Checks `signature` over `preimage` under `key`, with the key's own scheme.
///
/// # Errors
/// When the length is not the scheme's or the signature is not the key's over exactly these bytes.
pub fn verify(key: &PublicKey, preimage: &[u8], signature: &Signature) -> Result<(), SignatureFault> {
    let scheme = key.scheme();
    let (got, expected) = (signature.as_bytes().len(), scheme.signature_bytes());
    if got != expected {
        return Err(SignatureFault::Length { scheme, got, expected });
    }
    let good = match scheme {
        Scheme::Dilithium3 => verify_dilithium3(key, preimage, signature),
        // The empty FIPS 204 context, which is the library's only one: the tag in the preimage separates.
        Scheme::MlDsa65 => ML_DSA_65.verify_sig(key.as_bytes(), preimage, signature.as_bytes()).is_ok(),
    };
    if good { Ok(()) } else { Err(SignatureFault::Refused { scheme }) }
}

fn verify_dilithium3(key: &PublicKey, preimage: &[u8], signature: &Signature) -> bool {
    let (Ok(key), Ok(signature)) = (
        dilithium3::PublicKey::from_bytes(key.as_bytes()),
        dilithium3::DetachedSignature::from_bytes(signature.as_bytes()),
    ) else {
        return false;
    };
    dilithium3::verify_detached_signature(&signature, preimage, &key).is_ok()
}
