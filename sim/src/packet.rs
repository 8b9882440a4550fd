//! What travels between simulated nodes, and how many bytes it would have.

use std::rc::Rc;
use std::sync::Arc;

use cairn_catchup::{Entry, Question};
use cairn_consensus::Input;
use cairn_crypto::{Certificate, VerifiedCertificate};
use cairn_types::certificate::{BallotCert, First, Phase, Second};
use cairn_types::{
    Block, BlockCert, BlockId, Carried, CommitCert, EpochProof, Header, Message, Signature,
    SignedTransaction, TimeoutCert, ValidatorIndex, View,
};

use crate::compact::{Compact, Lacking};
use crate::epoch::Regime;
use crate::fetch::{Asked, Reply};
use crate::world::World;

/// Frame, envelope and transport around a message.
const OVERHEAD_BYTES: u64 = 64;
/// A header's canonical bytes: `id` fields, roots and counters.
const HEADER_BYTES: u64 = 343;
/// A signature with its length.
const SIGNATURE_BYTES: u64 = Signature::BYTES_MAX as u64 + 4;

/// What travels.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    /// A consensus message.
    Message(Rc<Sealed>),
    /// A proposal that names its transactions.
    Compact(Rc<Compact>),
    /// What a receiver of such a proposal lacks.
    Lacking(Rc<Lacking>),
    /// The transactions it lacked.
    Bodies(Rc<Lacking>),
    /// A client's transactions, on their way to the leaders and everyone else.
    Transactions(Rc<Vec<Arc<SignedTransaction>>>, u64),
    /// A question of whoever lacks blocks.
    Ask(Rc<Asked>),
    /// Its answer.
    Reply(Rc<Reply>),
    /// News of a final block, for those outside the mesh.
    Announcement(Rc<(Header, Arc<CommitCert>)>),
}

/// A signed message with everything that follows from its bytes alone, worked out once for all receivers.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) message: Message,
    /// As a real network would carry it.
    pub(crate) bytes: u64,
    /// The certificates' part of `bytes`.
    pub(crate) certificate_bytes: u64,
    /// What it yields: certificates first, each on its own, then the message, as far as they verify.
    pub(crate) inputs: Vec<Input>,
    /// Why something in it does not verify.
    pub(crate) fault: Option<String>,
    /// Names of the signatures in it, to tell which of them a node has checked before.
    pub(crate) signatures: Vec<u64>,
}

impl Sealed {
    /// Verifies `message` as every receiver of its epoch would.
    pub(crate) fn new(world: &World, message: Message, cpu: bool) -> Rc<Self> {
        let (mut inputs, mut fault) = (Vec::new(), None);
        match world.regime(message.epoch()) {
            Some(regime) => {
                for certificate in Certificate::of(&message) {
                    match world.verifier.certificate(&regime.set, regime.root_id, certificate) {
                        Ok(verified) => inputs.push(input_of(verified)),
                        Err(why) => fault = fault.or(Some(why.to_string())),
                    }
                }
                match verify(world, &regime, message.clone()) {
                    Ok(input) => inputs.extend(input),
                    Err(why) => fault = fault.or(Some(why)),
                }
            }
            None => fault = Some("it is of an epoch that has not begun".to_owned()),
        }
        let certificate_bytes = certificate_bytes(&message);
        let bytes = OVERHEAD_BYTES + body_bytes(world, &message) + certificate_bytes;
        let signatures = if cpu { signatures(&message) } else { Vec::new() };
        Rc::new(Self { message, bytes, certificate_bytes, inputs, fault, signatures })
    }

    /// Bytes with certificates named instead of carried: epoch, view, block, bitmap and digest of each.
    pub(crate) fn bytes_by_reference(&self) -> u64 {
        let (cert, tc) = carried(&self.message);
        let named = |bitmap: usize| 1 + 8 + 8 + 32 + 4 + bitmap as u64 + 32;
        let reference = match (&self.message, cert) {
            // Sent to whoever lacks them: nothing to name them by.
            (
                Message::Certificate(_)
                | Message::TimeoutCert(_)
                | Message::CommitCert(_)
                | Message::EpochProof(_),
                _,
            ) => {
                return self.bytes;
            }
            (_, Some(BlockCert::Quorum(it))) => named(it.signers.len()),
            (_, Some(BlockCert::Commit(it))) => named(it.signers.len()),
            (_, Some(BlockCert::Root { .. })) => 41,
            (_, None) => 0,
        };
        let tc = tc.map_or(0, |tc| named(tc.entries.len().div_ceil(8)));
        self.bytes - self.certificate_bytes + reference + tc
    }

    /// A short name of the kind of message.
    pub(crate) const fn kind(&self) -> &'static str {
        match self.message {
            Message::Proposal(_) => "proposal",
            Message::Vote(_) => "vote",
            Message::CommitVote(_) => "commit vote",
            Message::Timeout(_) => "timeout",
            Message::Certificate(_) => "certificate",
            Message::TimeoutCert(_) => "timeout certificate",
            Message::CommitCert(_) => "commit certificate",
            Message::Status(_) => "status",
            Message::EpochProof(_) => "epoch proof",
        }
    }

    /// Who signed it, and for which view.
    pub(crate) fn signer(&self) -> Option<(ValidatorIndex, View)> {
        match &self.message {
            Message::Proposal(it) => Some((it.block.header().proposer, it.block.header().view)),
            Message::Vote(it) => Some((it.validator, it.view)),
            Message::CommitVote(it) => Some((it.validator, it.view)),
            Message::Timeout(it) => Some((it.validator, it.view)),
            _ => None,
        }
    }
}

impl Packet {
    /// Bytes on the wire.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Message(sealed) => sealed.bytes,
            Self::Compact(compact) => compact.bytes,
            Self::Lacking(lacking) => OVERHEAD_BYTES + 32 + 4 * lacking.count,
            Self::Bodies(lacking) => OVERHEAD_BYTES + lacking.bytes,
            Self::Transactions(_, bytes) => OVERHEAD_BYTES + bytes,
            Self::Ask(_) => OVERHEAD_BYTES + 40,
            Self::Reply(reply) => OVERHEAD_BYTES + reply.bytes,
            Self::Announcement(news) => OVERHEAD_BYTES + HEADER_BYTES + ballot_cert(&news.1),
        }
    }

    /// A short name of its kind.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Message(sealed) => sealed.kind(),
            Self::Compact(compact) => compact.sealed.kind(),
            Self::Lacking(_) => "question for transactions",
            Self::Bodies(_) => "missing transactions",
            Self::Transactions(..) => "transactions",
            Self::Ask(_) => "question",
            Self::Reply(reply) if reply.is_block() => "block",
            Self::Reply(_) => "answer",
            Self::Announcement(..) => "announcement",
        }
    }

    /// Whether it goes before transactions and old blocks.
    pub(crate) fn is_hot(&self) -> bool {
        match self {
            Self::Message(_) | Self::Compact(_) | Self::Lacking(_) | Self::Bodies(_) => true,
            Self::Ask(asked) => matches!(asked.question, Question::Block(_)),
            Self::Reply(reply) => reply.is_block(),
            Self::Transactions(..) | Self::Announcement(_) => false,
        }
    }
}

/// A block's bytes: its header and its transactions.
pub(crate) fn block_bytes(world: &World, block: &Block) -> u64 {
    let transactions: usize = block.transactions().iter().map(|tx| world.transaction_bytes(tx)).sum();
    HEADER_BYTES + 4 + transactions as u64
}

/// Bytes of blocks in a range, with the certificates some of them have.
pub(crate) fn range_bytes(world: &World, entries: &[Entry]) -> u64 {
    let certificate = |it: &Entry| it.certificate.as_ref().map_or(1, |it| 1 + ballot_cert(it));
    let end = |it: &Entry| it.end.as_ref().map_or(0, |end| epoch_proof(end) + ballot_cert(&end.certificate));
    let above = |it: &Entry| 4 + HEADER_BYTES * it.above.len() as u64;
    entries.iter().map(|it| block_bytes(world, &it.block) + certificate(it) + end(it) + above(it)).sum()
}

fn input_of(certificate: VerifiedCertificate) -> Input {
    match certificate {
        VerifiedCertificate::Block(certificate) => Input::Certificate(certificate),
        VerifiedCertificate::Timeout(certificate) => Input::TimeoutCert(certificate),
        VerifiedCertificate::Commit(certificate) => Input::CommitCert(certificate),
    }
}

fn verify(world: &World, regime: &Regime, message: Message) -> Result<Option<Input>, String> {
    let (verifier, set, root) = (&world.verifier, &*regime.set, regime.root_id);
    let outcome = match message {
        Message::Proposal(it) => verifier.proposal(set, root, it).map(Input::Proposal),
        Message::Vote(it) => verifier.vote(set, it).map(Input::Vote),
        Message::CommitVote(it) => verifier.commit_vote(set, it).map(Input::CommitVote),
        Message::Timeout(it) => verifier.timeout(set, root, it).map(Input::Timeout),
        // A status needs its sender; the certificates were dealt with.
        Message::Status(_) | Message::Certificate(_) | Message::TimeoutCert(_) | Message::CommitCert(_) => {
            return Ok(None);
        }
        Message::EpochProof(it) => verifier.epoch_proof(set, it).map(Input::EpochProof),
    };
    outcome.map(Some).map_err(|fault| fault.to_string())
}

fn body_bytes(world: &World, message: &Message) -> u64 {
    match message {
        Message::Proposal(it) => {
            1 + block_bytes(world, &it.block) + 2 + u64::from(it.tc.is_some()) + SIGNATURE_BYTES
        }
        Message::Vote(_) | Message::CommitVote(_) => 1 + 8 + 8 + 32 + 2 + SIGNATURE_BYTES,
        Message::Timeout(it) => 1 + 8 + 8 + 8 + 2 + 2 + u64::from(it.tc.is_some()) + SIGNATURE_BYTES,
        Message::Status(_) => 1 + 48,
        Message::Certificate(_) | Message::TimeoutCert(_) | Message::CommitCert(_) => 1,
        Message::EpochProof(it) => 1 + epoch_proof(it),
    }
}

/// The headers of an epoch's end.
fn epoch_proof(proof: &EpochProof) -> u64 {
    4 + proof.headers.iter().map(|header| cairn_types::encode(header).len() as u64).sum::<u64>()
}

fn certificate_bytes(message: &Message) -> u64 {
    let (cert, tc) = carried(message);
    cert.map_or(0, block_cert)
        + tc.map_or(0, timeout_cert)
        + match message {
            Message::CommitCert(it) => ballot_cert(it),
            Message::EpochProof(it) => ballot_cert(&it.certificate),
            _ => 0,
        }
}

/// The certificates a message carries.
fn carried(message: &Message) -> (Option<&BlockCert>, Option<&TimeoutCert>) {
    fn inline(tc: &Option<Carried<Arc<TimeoutCert>>>) -> Option<&TimeoutCert> {
        tc.as_ref().and_then(Carried::inline).map(Arc::as_ref)
    }
    match message {
        Message::Proposal(it) => (it.justify.inline(), inline(&it.tc)),
        Message::Timeout(it) => (it.high_qc.inline(), inline(&it.tc)),
        Message::Certificate(it) => (Some(it), None),
        Message::TimeoutCert(it) => (None, Some(it)),
        _ => (None, None),
    }
}

fn ballot_cert<P>(certificate: &BallotCert<P>) -> u64 {
    48 + 4 + certificate.signers.len() as u64 + 4 + certificate.signatures.len() as u64 * SIGNATURE_BYTES
}

fn block_cert(certificate: &BlockCert) -> u64 {
    1 + match certificate {
        BlockCert::Root { .. } => 40,
        BlockCert::Quorum(it) => ballot_cert(it),
        BlockCert::Commit(it) => ballot_cert(it),
    }
}

fn timeout_cert(certificate: &TimeoutCert) -> u64 {
    20 + certificate.entries.len() as u64 * (10 + SIGNATURE_BYTES) + block_cert(&certificate.high_qc)
}

/// A name for one signature: its kind, view, signer and block.
fn name(kind: u8, view: View, signer: ValidatorIndex, block: Option<BlockId>) -> u64 {
    let mut start = [0; 8];
    if let Some(first) = block.as_ref().and_then(|block| block.as_bytes().first_chunk()) {
        start = *first;
    }
    let place = (view.get() << 20) ^ (u64::from(signer.0) << 4) ^ u64::from(kind);
    // An odd multiplier spreads the place over all bits; equal inputs stay equal.
    u64::from_le_bytes(start) ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn phase_kind<P: Phase>() -> u8 {
    if P::TAG == First::TAG { 1 } else { 2 }
}

fn ballots<P: Phase>(found: &mut Vec<u64>, certificate: &BallotCert<P>) {
    let kind = phase_kind::<P>();
    let named = |signer| name(kind, certificate.view, signer, Some(certificate.block));
    found.extend(certificate.signer_indexes().map(named));
}

fn of_block_cert(found: &mut Vec<u64>, certificate: &BlockCert) {
    match certificate {
        BlockCert::Root { .. } => {}
        BlockCert::Quorum(it) => ballots::<First>(found, it),
        BlockCert::Commit(it) => ballots::<Second>(found, it),
    }
}

/// Names of every signature in a message.
fn signatures(message: &Message) -> Vec<u64> {
    let mut found = Vec::new();
    let (cert, tc) = carried(message);
    if let Some(cert) = cert {
        of_block_cert(&mut found, cert);
    }
    if let Some(tc) = tc {
        found.extend(tc.entries.iter().map(|entry| name(3, tc.view, entry.validator, None)));
        of_block_cert(&mut found, &tc.high_qc);
    }
    match message {
        Message::Proposal(it) => {
            let header = it.block.header();
            found.push(name(0, header.view, header.proposer, Some(it.block.id())));
        }
        Message::Vote(it) => found.push(name(1, it.view, it.validator, Some(it.block))),
        Message::CommitVote(it) => found.push(name(2, it.view, it.validator, Some(it.block))),
        Message::Timeout(it) => found.push(name(3, it.view, it.validator, None)),
        Message::CommitCert(it) => ballots::<Second>(&mut found, it),
        _ => {}
    }
    found
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
