//! Checking one signature.

use std::sync::Arc;

use aws_lc_rs::signature::{ML_DSA_65, VerificationAlgorithm};
use cairn_types::{PublicKey, Scheme, Signature};
use thiserror::Error;

use crate::dilithium3::ExpandedKey;

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
    let signature = check_length(scheme, signature)?;
    let good = match scheme {
        Scheme::Dilithium3 => match (expanded(key), signature.try_into()) {
            (Some(key), Ok(signature)) => key.verifies(preimage, signature),
            _ => false,
        },
        // The empty FIPS 204 context, which is the library's only one: the tag in the preimage separates.
        Scheme::MlDsa65 => ML_DSA_65.verify_sig(key.as_bytes(), preimage, signature).is_ok(),
    };
    if good { Ok(()) } else { Err(SignatureFault::Refused { scheme }) }
}

/// The signature's bytes, when it has the scheme's length.
pub(crate) fn check_length(scheme: Scheme, signature: &Signature) -> Result<&[u8], SignatureFault> {
    let bytes = signature.as_bytes();
    let (got, expected) = (bytes.len(), scheme.signature_bytes());
    if got == expected { Ok(bytes) } else { Err(SignatureFault::Length { scheme, got, expected }) }
}

/// A `dilithium3` key, ready to check with; `None` when its bytes are not as many.
pub(crate) fn expanded(key: &PublicKey) -> Option<Arc<ExpandedKey>> {
    key.as_bytes().try_into().ok().map(ExpandedKey::new)
}
