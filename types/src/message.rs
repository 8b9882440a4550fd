//! What validators say to one another about views and blocks.

use std::marker::PhantomData;
use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};

use crate::block::Block;
use crate::certificate::{BlockCert, CommitCert, First, Phase, Second, TimeoutCert};
use crate::epoch::EpochProof;
use crate::hash::Hash;
use crate::id::{BlockId, ChainId, Epoch, Height, ValidatorIndex, View};
use crate::key::Signature;
use crate::signing::{Tag, block_preimage, timeout_preimage};

/// A certificate inside a message: whole, or named so that a receiver that lacks it can pull it from
/// the sender. The core sees only `Inline`; the driver resolves the rest first.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum Carried<C> {
    /// The certificate itself.
    Inline(C),
    /// Its name.
    Reference(CertReference),
}

impl<C> Carried<C> {
    /// The certificate, when it is here.
    pub const fn inline(&self) -> Option<&C> {
        match self {
            Self::Inline(certificate) => Some(certificate),
            Self::Reference(_) => None,
        }
    }
}

/// Names one certificate by its bytes.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct CertReference {
    /// Its epoch.
    pub epoch: Epoch,
    /// Its view.
    pub view: View,
    /// The certified block; all zero for a timeout certificate.
    pub block: BlockId,
    /// The signer bitmap.
    pub signers: Vec<u8>,
    /// The certificate's digest.
    pub digest: Hash,
}

/// A first vote.
pub type Vote = Ballot<First>;
/// A commit vote.
pub type CommitVote = Ballot<Second>;

/// One validator's vote of one phase for one block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ballot<P> {
    /// The block's epoch.
    pub epoch: Epoch,
    /// The block's view.
    pub view: View,
    /// The block.
    pub block: BlockId,
    /// Who votes.
    pub validator: ValidatorIndex,
    /// Its signature over `epoch ‖ view ‖ block id` under the phase's tag.
    pub signature: Signature,
    phase: PhantomData<P>,
}

impl<P: Phase> Ballot<P> {
    /// The vote with these parts. Nothing is checked.
    pub const fn new(
        epoch: Epoch,
        view: View,
        block: BlockId,
        validator: ValidatorIndex,
        signature: Signature,
    ) -> Self {
        Self { epoch, view, block, validator, signature, phase: PhantomData }
    }

    /// The bytes the validator signed.
    pub fn preimage(&self, chain: ChainId) -> Vec<u8> {
        block_preimage(P::TAG, chain, self.epoch, self.view, self.block)
    }
}

impl<P> BorshSerialize for Ballot<P> {
    fn serialize<W: std::io::Write>(&self, writer: &mut W) -> std::io::Result<()> {
        self.epoch.serialize(writer)?;
        self.view.serialize(writer)?;
        self.block.serialize(writer)?;
        self.validator.serialize(writer)?;
        self.signature.serialize(writer)
    }
}

impl<P> BorshDeserialize for Ballot<P> {
    fn deserialize_reader<R: std::io::Read>(reader: &mut R) -> std::io::Result<Self> {
        Ok(Self {
            epoch: Epoch::deserialize_reader(reader)?,
            view: View::deserialize_reader(reader)?,
            block: BlockId::deserialize_reader(reader)?,
            validator: ValidatorIndex::deserialize_reader(reader)?,
            signature: Signature::deserialize_reader(reader)?,
            phase: PhantomData,
        })
    }
}

/// A leader's block for one view, with what entitles it to be built where it is.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Proposal {
    /// The block; its header names epoch, view and proposer.
    pub block: Arc<Block>,
    /// The parent's certificate.
    pub justify: Carried<BlockCert>,
    /// The timeout certificate of the view before; present exactly when `justify.view < view - 1`.
    pub tc: Option<Carried<Arc<TimeoutCert>>>,
    /// The proposer's signature over `epoch ‖ view ‖ block id`.
    pub signature: Signature,
}

impl Proposal {
    /// The bytes the proposer signed.
    pub fn preimage(&self, chain: ChainId) -> Vec<u8> {
        let header = self.block.header();
        block_preimage(Tag::Proposal, chain, header.epoch, header.view, self.block.id())
    }
}

/// One validator gives up a view.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Timeout {
    /// The epoch.
    pub epoch: Epoch,
    /// The view given up.
    pub view: View,
    /// The view of the highest certificate at the time of signing: the signed value. A re-sent timeout
    /// may carry a higher certificate in `high_qc`.
    pub high_qc_view: View,
    /// A certificate of at least `high_qc_view`.
    pub high_qc: Carried<BlockCert>,
    /// Proof of entry when `high_qc.view < view - 1`: the timeout certificate of `view - 1`.
    pub tc: Option<Carried<Arc<TimeoutCert>>>,
    /// Who gives up.
    pub validator: ValidatorIndex,
    /// Its signature over `epoch ‖ view ‖ high_qc view`.
    pub signature: Signature,
}

impl Timeout {
    /// The bytes the validator signed.
    pub fn preimage(&self, chain: ChainId) -> Vec<u8> {
        timeout_preimage(chain, self.epoch, self.view, self.high_qc_view)
    }
}

/// Where a replica stands. Unsigned: a hint that may only cause an answer, never a change of state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct Status {
    /// Its epoch.
    pub epoch: Epoch,
    /// Its current view.
    pub view: View,
    /// The view of its highest certificate.
    pub high_qc: View,
    /// The view of its highest timeout certificate; 0 for none.
    pub high_tc: View,
    /// The height of its last committed block.
    pub committed: Height,
    /// The view of the commit certificate it holds for the last committed block or a descendant; 0 for none.
    pub commit_view: View,
}

/// Everything that travels between validators about consensus.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[expect(missing_docs, reason = "each variant is the message of its name")]
pub enum Message {
    Proposal(Proposal),
    Vote(Vote),
    CommitVote(CommitVote),
    Timeout(Timeout),
    Certificate(BlockCert),
    TimeoutCert(Arc<TimeoutCert>),
    CommitCert(Arc<CommitCert>),
    Status(Status),
    EpochProof(Arc<EpochProof>),
}

impl Message {
    /// The epoch it belongs to.
    pub fn epoch(&self) -> Epoch {
        match self {
            Self::Proposal(m) => m.block.header().epoch,
            Self::Vote(m) => m.epoch,
            Self::CommitVote(m) => m.epoch,
            Self::Timeout(m) => m.epoch,
            Self::Certificate(m) => m.epoch(),
            Self::TimeoutCert(m) => m.epoch,
            Self::CommitCert(m) => m.epoch,
            Self::Status(m) => m.epoch,
            Self::EpochProof(m) => m.epoch(),
        }
    }

    /// The view it belongs to.
    pub fn view(&self) -> View {
        match self {
            Self::Proposal(m) => m.block.header().view,
            Self::Vote(m) => m.view,
            Self::CommitVote(m) => m.view,
            Self::Timeout(m) => m.view,
            Self::Certificate(m) => m.view(),
            Self::TimeoutCert(m) => m.view,
            Self::CommitCert(m) => m.view,
            Self::Status(m) => m.view,
            Self::EpochProof(m) => m.certificate.view,
        }
    }
}
