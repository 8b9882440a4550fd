//! The trust border: messages in, `Verified` messages out.

use std::num::NonZeroUsize;
use std::sync::Arc;

use cairn_types::certificate::{BallotCert, CertFault, Phase};
use cairn_types::message::{Ballot, Carried};
use cairn_types::shortcut::{self, Step};
use cairn_types::signing::Tag;
use cairn_types::{
    AuthenticatedTx, BlockCert, BlockId, ChainId, CommitCert, CommitVote, Epoch, EpochProof, Hash, Proposal,
    PublicKey, Signature, SignedTransaction, Timeout, TimeoutCert, TxFault, ValidatorIndex, ValidatorSet,
    Verified, View, Vote, encode,
};
use parking_lot::Mutex;
use rayon::prelude::*;

use crate::certificate::{Certificate, VerifiedCertificate};
use crate::expanded::ExpandedKeys;
use crate::fault::{CertKind, MessageFault};
use crate::signature::{PARALLEL_MIN, SignatureFault};
use crate::simulated::{missing_bytes, verify_simulated};
use crate::transaction::{TransactionFault, authenticated, check_structure, verify_signatures};
use crate::verdicts::{Verdicts, bytes_name, signature_name, transaction_name};

/// Validator signatures remembered as good, about 100 bytes each: the votes of both phases and the
/// timeouts of several views even with 1,024 validators, so that a certificate of them costs only hashing.
const SIGNATURES_REMEMBERED: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");
/// Certificates remembered as good. A few per view are in play; each peer repeats them on reconnect.
const CERTIFICATES_REMEMBERED: NonZeroUsize = NonZeroUsize::new(1_024).expect("not zero");
/// Transactions remembered as good: a full pool of 20,000 and the blocks in flight, checked once each.
const TRANSACTIONS_REMEMBERED: NonZeroUsize = NonZeroUsize::new(32_768).expect("not zero");
/// Validator sets whose digests are remembered: those of the previous, the current and the next epoch,
/// and one that a receipt or catch-up is looking at.
const SETS_REMEMBERED: usize = 4;

/// Checks signatures for one chain, each at most once: good verdicts are remembered in bounded memories,
/// keyed by the full bytes and the public keys they were checked against. Shared between threads as `&self`.
pub struct Verifier {
    chain: ChainId,
    scheme: Signatures,
    signatures: Verdicts,
    certificates: Verdicts,
    transactions: Verdicts,
    validators: ExpandedKeys,
    senders: ExpandedKeys,
    sets: Mutex<Vec<(ValidatorSet, Hash)>>,
}

/// A transaction to check, with the keys to check it with: one per entry of `transaction.keys`.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// As it was received.
    pub signed: Arc<SignedTransaction>,
    /// Length of its canonical form.
    pub bytes: usize,
    /// As for [`crate::verify_transaction`].
    pub keys: Vec<PublicKey>,
}

/// What signatures are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Signatures {
    /// Those of the key's own scheme.
    Real,
    /// The stand-ins of [`crate::sign_simulated`]: cheaper to check than to remember.
    Simulated,
}

/// One signature of a certificate and the bytes it should be over.
struct Entry<'a> {
    validator: ValidatorIndex,
    preimage: std::borrow::Cow<'a, [u8]>,
    signature: &'a Signature,
}

impl Verifier {
    /// A verifier for `chain` that remembers nothing yet.
    pub fn new(chain: ChainId) -> Self {
        Self {
            chain,
            scheme: Signatures::Real,
            signatures: Verdicts::new(SIGNATURES_REMEMBERED),
            certificates: Verdicts::new(CERTIFICATES_REMEMBERED),
            transactions: Verdicts::new(TRANSACTIONS_REMEMBERED),
            validators: ExpandedKeys::of_validators(),
            senders: ExpandedKeys::of_senders(),
            sets: Mutex::new(Vec::new()),
        }
    }

    /// A verifier that accepts the stand-in signatures of [`crate::sign_simulated`], and no others. Every rule
    /// but the cryptography is the same. Only for simulations: `clippy.toml` refuses it elsewhere.
    pub fn simulated(chain: ChainId) -> Self {
        Self { scheme: Signatures::Simulated, ..Self::new(chain) }
    }

    /// The chain whose signatures this verifier accepts.
    pub const fn chain(&self) -> ChainId {
        self.chain
    }

    /// Checks a vote.
    ///
    /// # Errors
    /// Wrong epoch, view 0, a signer outside the set, or a bad signature.
    pub fn vote(&self, set: &ValidatorSet, vote: Vote) -> Result<Verified<Vote>, MessageFault> {
        self.check_ballot(set, &vote)?;
        Ok(verified(vote))
    }

    /// Checks a commit vote.
    ///
    /// # Errors
    /// As for [`Verifier::vote`].
    pub fn commit_vote(
        &self,
        set: &ValidatorSet,
        vote: CommitVote,
    ) -> Result<Verified<CommitVote>, MessageFault> {
        self.check_ballot(set, &vote)?;
        Ok(verified(vote))
    }

    /// Checks a timeout: its own signature over the view it claims, that the certificate it carries is at
    /// least as high and below the timed-out view, its proof of entry, and both certificates.
    /// `root` is the block of view 0 of the set's epoch.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn timeout(
        &self,
        set: &ValidatorSet,
        root: BlockId,
        timeout: Timeout,
    ) -> Result<Verified<Timeout>, MessageFault> {
        check_place(set, timeout.epoch, timeout.view)?;
        let key = key_of(set, timeout.validator)?;
        let high_qc = inline(&timeout.high_qc)?;
        let tc = timeout.tc.as_ref().map(inline).transpose()?;
        if high_qc.view() >= timeout.view {
            return Err(MessageFault::CertificateNotBelow { view: timeout.view, got: high_qc.view() });
        }
        if high_qc.view() < timeout.high_qc_view {
            let (signed, carried) = (timeout.high_qc_view, high_qc.view());
            return Err(MessageFault::HighCertificateTooLow { signed, carried });
        }
        check_entry(timeout.view, high_qc.view(), tc)?;
        self.check_signature(key, &timeout.preimage(self.chain), &timeout.signature)
            .map_err(|fault| MessageFault::Signature { validator: timeout.validator, fault })?;
        self.check_block_cert(set, root, high_qc)?;
        if let Some(tc) = tc {
            self.check_timeout_cert(set, root, tc)?;
        }
        Ok(verified(timeout))
    }

    /// Checks a proposal but for its transactions: chain, epoch, leader, the leader's signature, the
    /// parent's certificate, and the timeout certificate, which is there exactly when the parent's
    /// certificate is not of the view before. `root` is the block of view 0 of the set's epoch.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn proposal(
        &self,
        set: &ValidatorSet,
        root: BlockId,
        proposal: Proposal,
    ) -> Result<Verified<Proposal>, MessageFault> {
        let header = proposal.block.header();
        if header.chain != self.chain {
            return Err(MessageFault::WrongChain { got: header.chain, expected: self.chain });
        }
        check_place(set, header.epoch, header.view)?;
        let (expected, got) = (set.leader(header.view), header.proposer);
        if got != expected {
            return Err(MessageFault::WrongLeader { view: header.view, expected, got });
        }
        let key = key_of(set, got)?;
        let justify = inline(&proposal.justify)?;
        let tc = proposal.tc.as_ref().map(inline).transpose()?;
        if justify.view() >= header.view {
            return Err(MessageFault::CertificateNotBelow { view: header.view, got: justify.view() });
        }
        if tc.is_some() && header.view.follows(justify.view()) {
            return Err(MessageFault::TimeoutCertUnneeded);
        }
        check_entry(header.view, justify.view(), tc)?;
        self.check_signature(key, &proposal.preimage(self.chain), &proposal.signature)
            .map_err(|fault| MessageFault::Signature { validator: got, fault })?;
        self.check_block_cert(set, root, justify)?;
        if let Some(tc) = tc {
            self.check_timeout_cert(set, root, tc)?;
        }
        Ok(verified(proposal))
    }

    /// Checks the certificate of a block. A [`BlockCert::Root`] is good exactly when it names the set's
    /// epoch and `root`.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn block_cert(
        &self,
        set: &ValidatorSet,
        root: BlockId,
        certificate: BlockCert,
    ) -> Result<Verified<BlockCert>, MessageFault> {
        check_epoch(set, certificate.epoch())?;
        self.check_block_cert(set, root, &certificate)?;
        Ok(verified(certificate))
    }

    /// Checks a timeout certificate and the certificate inside it.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn timeout_cert(
        &self,
        set: &ValidatorSet,
        root: BlockId,
        certificate: Arc<TimeoutCert>,
    ) -> Result<Verified<Arc<TimeoutCert>>, MessageFault> {
        check_epoch(set, certificate.epoch)?;
        self.check_timeout_cert(set, root, &certificate)?;
        Ok(verified(certificate))
    }

    /// Checks a commit certificate.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn commit_cert(
        &self,
        set: &ValidatorSet,
        certificate: Arc<CommitCert>,
    ) -> Result<Verified<Arc<CommitCert>>, MessageFault> {
        check_epoch(set, certificate.epoch)?;
        self.check_ballot_cert(set, CertKind::Commit, &certificate)?;
        Ok(verified(certificate))
    }

    /// Checks the commit proof of the set's epoch.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn epoch_proof(
        &self,
        set: &ValidatorSet,
        proof: Arc<EpochProof>,
    ) -> Result<Verified<Arc<EpochProof>>, MessageFault> {
        check_epoch(set, proof.epoch())?;
        proof.check_shape(self.chain, set)?;
        self.check_ballot_cert(set, CertKind::Commit, &proof.certificate)?;
        Ok(verified(proof))
    }

    /// Checks whichever certificate this is.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn certificate(
        &self,
        set: &ValidatorSet,
        root: BlockId,
        certificate: Certificate,
    ) -> Result<VerifiedCertificate, MessageFault> {
        Ok(match certificate {
            Certificate::Block(it) => VerifiedCertificate::Block(self.block_cert(set, root, it)?),
            Certificate::Timeout(it) => VerifiedCertificate::Timeout(self.timeout_cert(set, root, it)?),
            Certificate::Commit(it) => VerifiedCertificate::Commit(self.commit_cert(set, it)?),
        })
    }

    /// Checks a transaction under its resolved keys, one per entry of `transaction.keys`.
    ///
    /// # Errors
    /// A transaction for another chain, or as for [`crate::verify_transaction`].
    pub fn transaction(
        &self,
        signed: Arc<SignedTransaction>,
        bytes: usize,
        keys: Vec<PublicKey>,
    ) -> Result<Verified<AuthenticatedTx>, TransactionFault> {
        let resolved = Resolved { signed, bytes, keys };
        let name = self.before_signatures(&resolved)?;
        let Resolved { signed, bytes, keys } = resolved;
        if let Some(name) = name {
            verify_signatures(&[(&signed, &keys)], &self.senders).into_iter().collect::<Result<(), _>>()?;
            self.transactions.remember(name);
        }
        Ok(authenticated(signed, bytes, keys))
    }

    /// As [`Verifier::transaction`] of each, in order; several together cost less than one after the other.
    pub fn transactions(
        &self,
        list: Vec<Resolved>,
    ) -> Vec<Result<Verified<AuthenticatedTx>, TransactionFault>> {
        let mut named: Vec<_> = list.iter().map(|resolved| self.before_signatures(resolved)).collect();
        let unknown = list.iter().zip(&named).filter(|(_, name)| matches!(name, Ok(Some(_))));
        let unknown: Vec<_> = unknown.map(|(it, _)| (it.signed.as_ref(), it.keys.as_slice())).collect();
        let mut verdicts = verify_signatures(&unknown, &self.senders).into_iter();
        for name in &mut named {
            if let Ok(Some(known)) = name {
                // There is a verdict for each: without one, nothing is good.
                match verdicts.next().unwrap_or(Err(TransactionFault::Shape(TxFault::NoKeys))) {
                    Ok(()) => self.transactions.remember(*known),
                    Err(fault) => *name = Err(fault),
                }
            }
        }
        let judged = list.into_iter().zip(named);
        judged.map(|(it, name)| name.map(|_| authenticated(it.signed, it.bytes, it.keys))).collect()
    }

    /// Every rule but those of its signatures. Gives the name under which its verdict is to be remembered; `None` when its
    /// signatures need no look.
    fn before_signatures(&self, resolved: &Resolved) -> Result<Option<Hash>, TransactionFault> {
        let Resolved { signed, bytes, keys } = resolved;
        let got = signed.transaction.chain;
        if got != self.chain {
            return Err(TxFault::WrongChain { got, expected: self.chain }.into());
        }
        check_structure(signed, keys)?;
        let expected = signed.canonical().len();
        if self.scheme == Signatures::Simulated {
            return check_simulated(signed, expected, *bytes, keys).map(|()| None);
        }
        if *bytes != expected {
            return Err(TransactionFault::Bytes { got: *bytes, expected });
        }
        let name = transaction_name(signed, keys);
        let known = shortcut::is_left_out(Step::Verification) || self.transactions.holds(&name);
        Ok((!known).then_some(name))
    }

    /// Remembers a certificate that our own replica formed from votes this verifier had checked, so that
    /// it is never verified when peers send it back. The caller vouches for it: never pass one from outside.
    pub fn remember(&self, set: &ValidatorSet, certificate: &BlockCert) {
        if self.scheme == Signatures::Simulated {
            return;
        }
        match certificate {
            BlockCert::Root { .. } => {}
            BlockCert::Quorum(it) => self.remember_ballot_cert(set, it),
            BlockCert::Commit(it) => self.remember_ballot_cert(set, it),
        }
    }

    /// As [`Verifier::remember`], for a commit certificate.
    pub fn remember_commit(&self, set: &ValidatorSet, certificate: &CommitCert) {
        if self.scheme == Signatures::Simulated {
            return;
        }
        self.remember_ballot_cert(set, certificate);
    }

    /// As [`Verifier::remember`], for a timeout certificate.
    pub fn remember_timeout(&self, set: &ValidatorSet, certificate: &TimeoutCert) {
        if self.scheme == Signatures::Simulated {
            return;
        }
        self.certificates.remember(self.certificate_name(set, Tag::Timeout, &encode(certificate)));
        self.remember(set, &certificate.high_qc);
    }

    fn remember_ballot_cert<P: Phase>(&self, set: &ValidatorSet, certificate: &BallotCert<P>) {
        self.certificates.remember(self.certificate_name(set, P::TAG, &encode(certificate)));
    }

    fn check_ballot<P: Phase>(&self, set: &ValidatorSet, vote: &Ballot<P>) -> Result<(), MessageFault> {
        check_place(set, vote.epoch, vote.view)?;
        let key = key_of(set, vote.validator)?;
        self.check_signature(key, &vote.preimage(self.chain), &vote.signature)
            .map_err(|fault| MessageFault::Signature { validator: vote.validator, fault })
    }

    fn check_block_cert(
        &self,
        set: &ValidatorSet,
        root: BlockId,
        certificate: &BlockCert,
    ) -> Result<(), MessageFault> {
        match certificate {
            BlockCert::Root { epoch, block } => {
                let expected = set.epoch();
                if *epoch != expected {
                    let fault = CertFault::WrongEpoch { got: *epoch, expected };
                    return Err(MessageFault::Certificate { kind: CertKind::Root, fault });
                }
                if *block != root {
                    return Err(MessageFault::WrongRoot { epoch: *epoch, got: *block, expected: root });
                }
                Ok(())
            }
            BlockCert::Quorum(it) => self.check_ballot_cert(set, CertKind::Quorum, it),
            BlockCert::Commit(it) => self.check_ballot_cert(set, CertKind::Commit, it),
        }
    }

    fn check_ballot_cert<P: Phase>(
        &self,
        set: &ValidatorSet,
        kind: CertKind,
        certificate: &BallotCert<P>,
    ) -> Result<(), MessageFault> {
        certificate.check_shape(set).map_err(|fault| MessageFault::Certificate { kind, fault })?;
        let preimage = certificate.preimage(self.chain);
        let entries =
            || {
                certificate.signer_indexes().zip(&certificate.signatures).map(|(validator, signature)| {
                    Entry { validator, preimage: preimage.as_slice().into(), signature }
                })
            };
        if self.scheme == Signatures::Simulated {
            return entries().try_for_each(|entry| self.check_entry_of(set, kind, &entry));
        }
        let name = self.certificate_name(set, P::TAG, &encode(certificate));
        if self.certificates.holds(&name) {
            return Ok(());
        }
        self.check_entries(set, kind, entries().collect())?;
        self.certificates.remember(name);
        Ok(())
    }

    fn check_timeout_cert(
        &self,
        set: &ValidatorSet,
        root: BlockId,
        certificate: &TimeoutCert,
    ) -> Result<(), MessageFault> {
        let kind = CertKind::Timeout;
        certificate.check_shape(set).map_err(|fault| MessageFault::Certificate { kind, fault })?;
        // Always, and before the memory of the whole: a root depends on the caller's `root`, the rest is remembered.
        self.check_block_cert(set, root, &certificate.high_qc)?;
        let entries = || {
            certificate.entries.iter().map(|entry| Entry {
                validator: entry.validator,
                preimage: certificate.preimage(self.chain, entry).into(),
                signature: &entry.signature,
            })
        };
        if self.scheme == Signatures::Simulated {
            return entries().try_for_each(|entry| self.check_entry_of(set, kind, &entry));
        }
        let name = self.certificate_name(set, Tag::Timeout, &encode(certificate));
        if self.certificates.holds(&name) {
            return Ok(());
        }
        self.check_entries(set, kind, entries().collect())?;
        self.certificates.remember(name);
        Ok(())
    }

    fn check_entries(
        &self,
        set: &ValidatorSet,
        kind: CertKind,
        entries: Vec<Entry<'_>>,
    ) -> Result<(), MessageFault> {
        if entries.len() < PARALLEL_MIN {
            return entries.iter().try_for_each(|entry| self.check_entry_of(set, kind, entry));
        }
        entries.into_par_iter().try_for_each(|entry| self.check_entry_of(set, kind, &entry))
    }

    fn check_entry_of(
        &self,
        set: &ValidatorSet,
        kind: CertKind,
        entry: &Entry<'_>,
    ) -> Result<(), MessageFault> {
        let validator = entry.validator;
        self.check_signature(key_of(set, validator)?, &entry.preimage, entry.signature)
            .map_err(|fault| MessageFault::CertificateSignature { kind, validator, fault })
    }

    pub(crate) fn check_signature(
        &self,
        key: &PublicKey,
        preimage: &[u8],
        signature: &Signature,
    ) -> Result<(), SignatureFault> {
        if self.scheme == Signatures::Simulated {
            return verify_simulated(key, preimage, signature);
        }
        let name = signature_name(key, preimage, signature);
        if self.signatures.holds(&name) {
            return Ok(());
        }
        self.validators.verify(key, preimage, signature)?;
        self.signatures.remember(name);
        Ok(())
    }

    /// Names a certificate together with the keys it was checked against.
    fn certificate_name(&self, set: &ValidatorSet, tag: Tag, bytes: &[u8]) -> Hash {
        let head = tag.preimage(self.chain, self.set_digest(set).as_bytes());
        bytes_name(&[&head], bytes)
    }

    /// The digest of `set`, worked out once: keys compare by pointer, hashing them costs kilobytes each.
    fn set_digest(&self, set: &ValidatorSet) -> Hash {
        let mut sets = self.sets.lock();
        if let Some((_, digest)) = sets.iter().find(|(known, _)| known == set) {
            return *digest;
        }
        let digest = set.digest();
        if sets.len() >= SETS_REMEMBERED {
            sets.remove(0);
        }
        sets.push((set.clone(), digest));
        digest
    }

    #[cfg(test)]
    pub(crate) fn remembered(&self) -> (usize, usize, usize) {
        (self.signatures.len(), self.certificates.len(), self.transactions.len())
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where checked messages become `Verified`")]
pub(crate) fn verified<T>(value: T) -> Verified<T> {
    Verified::assume(value)
}

fn check_epoch(set: &ValidatorSet, got: Epoch) -> Result<(), MessageFault> {
    let expected = set.epoch();
    if got == expected { Ok(()) } else { Err(MessageFault::WrongEpoch { got, expected }) }
}

fn check_place(set: &ValidatorSet, epoch: Epoch, view: View) -> Result<(), MessageFault> {
    check_epoch(set, epoch)?;
    if view == View::ZERO { Err(MessageFault::ViewZero) } else { Ok(()) }
}

pub(crate) fn key_of(set: &ValidatorSet, index: ValidatorIndex) -> Result<&PublicKey, MessageFault> {
    set.get(index)
        .map(|validator| &validator.key)
        .ok_or(MessageFault::UnknownValidator { index, count: set.count() })
}

fn inline<C>(carried: &Carried<C>) -> Result<&C, MessageFault> {
    match carried {
        Carried::Inline(certificate) => Ok(certificate),
        Carried::Reference(reference) => Err(MessageFault::Unresolved(Box::new(reference.clone()))),
    }
}

/// The same with stand-in signatures. `bytes` counts them at the length of real ones, so that pools and
/// blocks fill up as they would.
fn check_simulated(
    signed: &SignedTransaction,
    encoded: usize,
    bytes: usize,
    keys: &[PublicKey],
) -> Result<(), TransactionFault> {
    let missing: usize = keys.iter().zip(&signed.signatures).map(|(k, s)| missing_bytes(k, s)).sum();
    let expected = encoded.saturating_add(missing);
    if bytes != expected {
        return Err(TransactionFault::Bytes { got: bytes, expected });
    }
    let preimage = signed.transaction.preimage();
    for (position, (key, signature)) in keys.iter().zip(&signed.signatures).enumerate() {
        verify_simulated(key, &preimage, signature)
            .map_err(|fault| TransactionFault::Signature { position, fault })?;
    }
    Ok(())
}

/// Proof of having entered `view`: a certificate of the view before, or a timeout certificate of it.
/// A timeout certificate, when there is one, is of the view before in any case.
fn check_entry(view: View, certified: View, tc: Option<&Arc<TimeoutCert>>) -> Result<(), MessageFault> {
    let expected = view.previous().ok_or(MessageFault::ViewZero)?;
    match tc {
        Some(tc) if tc.view != expected => Err(MessageFault::TimeoutCertView { got: tc.view, expected }),
        None if certified != expected => Err(MessageFault::TimeoutCertMissing { view, certified, expected }),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "verifier_tests.rs"]
mod tests;
