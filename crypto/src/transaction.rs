//! Checking transactions.

use std::sync::Arc;

use cairn_types::{
    Address, AuthenticatedTx, ChainId, Evidence, KeyRef, Payload, PublicKey, SignedTransaction, TxFault,
    Verified,
};
use thiserror::Error;

use crate::expanded::ExpandedKeys;
use crate::signature::SignatureFault;

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
    #[error("evidence: the accused's signature number {position}: {fault}")]
    Evidence { position: usize, fault: SignatureFault },
}

/// Checks a transaction's shape and every signature under `keys`: the resolved key of each entry of
/// `transaction.keys`, in order, and after them the key of the accused when it brings evidence. `bytes` is the length of the canonical form. That the transaction is for
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
    let expected = signed.canonical().len();
    if bytes != expected {
        return Err(TransactionFault::Bytes { got: bytes, expected });
    }
    let verdicts = verify_signatures(&[(&signed, &keys)], &ExpandedKeys::of_senders());
    verdicts.into_iter().collect::<Result<(), _>>()?;
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
    let accused = usize::from(evidence_of(signed).is_some());
    if keys.len() != expected.saturating_add(accused) {
        let expected = expected.saturating_add(accused);
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
            // A validator's key need not be its address's, once rotated: whoever resolved it knows the set.
            let (got, expected) = (inline.address(), transaction.sender);
            if got != expected && !transaction.may_use_validator_key() {
                return Err(TransactionFault::InlineNotSender { position, got, expected });
            }
        }
    }
    Ok(())
}

/// Whether every signature of each transaction is good under its keys, in order.
pub(crate) fn verify_signatures(
    list: &[(&SignedTransaction, &[PublicKey])],
    known: &ExpandedKeys,
) -> Vec<Result<(), TransactionFault>> {
    let preimages: Vec<_> = list.iter().map(|(signed, _)| signed.preimage()).collect();
    let signed: Vec<_> = list
        .iter()
        .zip(&preimages)
        .flat_map(|((signed, keys), preimage)| {
            keys.iter().zip(&signed.signatures).map(move |(key, it)| (key, preimage.as_slice(), it))
        })
        .collect();
    let mut verdicts = known.verify_together(&signed).into_iter();
    let judged = list.iter().map(|(signed, keys)| {
        // There is a verdict for each: without one, nothing is good.
        let none = |key: &PublicKey| Err(SignatureFault::Refused { scheme: key.scheme() });
        let own = keys.iter().zip(&signed.signatures);
        let own: Vec<_> = own.map(|(key, _)| verdicts.next().unwrap_or_else(|| none(key))).collect();
        for (position, verdict) in own.into_iter().enumerate() {
            verdict.map_err(|fault| TransactionFault::Signature { position, fault })?;
        }
        match (evidence_of(signed), keys.last()) {
            (Some(evidence), Some(accused)) => {
                verify_evidence(evidence, signed.transaction.chain, accused, known)
            }
            _ => Ok(()),
        }
    });
    judged.collect()
}

fn evidence_of(signed: &SignedTransaction) -> Option<&Evidence> {
    match &signed.transaction.payload {
        Payload::Evidence(evidence) => Some(evidence),
        _ => None,
    }
}

fn verify_evidence(
    evidence: &Evidence,
    chain: ChainId,
    accused: &PublicKey,
    known: &ExpandedKeys,
) -> Result<(), TransactionFault> {
    for (position, (preimage, signature)) in evidence.signed(chain).iter().enumerate() {
        known
            .verify(accused, preimage, signature)
            .map_err(|fault| TransactionFault::Evidence { position, fault })?;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "called only after every signature was checked")]
pub(crate) fn authenticated(
    signed: Arc<SignedTransaction>,
    bytes: usize,
    keys: Vec<PublicKey>,
) -> Verified<AuthenticatedTx> {
    let id = signed.id();
    Verified::assume(AuthenticatedTx { signed, id, bytes, keys })
}
