//! Checking transactions.

use std::sync::Arc;

use cairn_types::{
    Address, AuthenticatedTx, KeyRef, PublicKey, SignedTransaction, TxFault, Verified, encode,
};
use thiserror::Error;

use crate::signature::{SignatureFault, verify};

/// Why a transaction's signatures were refused.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum TransactionFault {
    #[error(transparent)]
    Shape(#[from] TxFault),
    #[error("the transaction is said to have {got} bytes; its canonical form has {expected}")]
    Bytes { got: usize, expected: usize },
    #[error("{got} resolved keys for {expected} key references")]
    KeyCount { got: usize, expected: usize },
    #[error("key {position} is inline and is not the key it was resolved to")]
    KeyMismatch { position: usize },
    #[error("key {position} is inline and hashes to {got}; expected the sender {expected}")]
    InlineNotSender { position: usize, got: Address, expected: Address },
    #[error("key {position} is the same key as an earlier one")]
    KeyRepeated { position: usize },
    #[error("the signature of key {position}: {fault}")]
    Signature { position: usize, fault: SignatureFault },
}

/// Checks a transaction's shape and every signature under `keys`: the resolved key of each entry of
/// `transaction.keys`, in order. `bytes` is the length of the canonical form. That the transaction is for
/// *this* chain is checked by [`crate::Verifier::transaction`], which knows the chain; that the keys may
/// sign for the sender, by whoever resolved them.
///
/// # Errors
/// The first rule broken; signatures are looked at last.
pub fn verify_transaction(
    signed: Arc<SignedTransaction>,
    bytes: usize,
    keys: Vec<PublicKey>,
) -> Result<Verified<AuthenticatedTx>, TransactionFault> {
    check_structure(&signed, &keys)?;
    let expected = encode(signed.as_ref()).len();
    if bytes != expected {
        return Err(TransactionFault::Bytes { got: bytes, expected });
    }
    verify_signatures(&signed, &keys)?;
    Ok(authenticated(signed, bytes, keys))
}

/// Everything that needs no cryptography but hashing the inline key.
pub(crate) fn check_structure(
    signed: &SignedTransaction,
    keys: &[PublicKey],
) -> Result<(), TransactionFault> {
    let transaction = &signed.transaction;
    transaction.check_shape(transaction.chain)?;
    let expected = transaction.keys.len();
    if signed.signatures.len() != expected {
        return Err(TxFault::SignatureCount { got: signed.signatures.len(), expected }.into());
    }
    if keys.len() != expected {
        return Err(TransactionFault::KeyCount { got: keys.len(), expected });
    }
    for (position, (reference, key)) in transaction.keys.iter().zip(keys).enumerate() {
        if keys.iter().take(position).any(|earlier| earlier == key) {
            return Err(TransactionFault::KeyRepeated { position });
        }
        if let KeyRef::Inline(inline) = reference {
            if inline != key {
                return Err(TransactionFault::KeyMismatch { position });
            }
            let (got, expected) = (inline.address(), transaction.sender);
            if got != expected {
                return Err(TransactionFault::InlineNotSender { position, got, expected });
            }
        }
    }
    Ok(())
}

pub(crate) fn verify_signatures(
    signed: &SignedTransaction,
    keys: &[PublicKey],
) -> Result<(), TransactionFault> {
    let preimage = signed.transaction.preimage();
    for (position, (key, signature)) in keys.iter().zip(&signed.signatures).enumerate() {
        verify(key, &preimage, signature).map_err(|fault| TransactionFault::Signature { position, fault })?;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "called only after every signature was checked")]
pub(crate) fn authenticated(
    signed: Arc<SignedTransaction>,
    bytes: usize,
    keys: Vec<PublicKey>,
) -> Verified<AuthenticatedTx> {
    let id = signed.transaction.id();
    Verified::assume(AuthenticatedTx { signed, id, bytes, keys })
}
