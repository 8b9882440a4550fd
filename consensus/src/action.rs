//! Everything a replica can ask its driver to do.

use std::sync::Arc;
use std::time::Duration;

use cairn_types::certificate::Phase;
use cairn_types::evidence::Pair;
use cairn_types::message::{Ballot, Carried};
use cairn_types::signing::{Tag, block_preimage, timeout_preimage};
use cairn_types::{
    Block, BlockCert, BlockId, CertifiedBlock, ChainId, CommitCert, CommitVote, Conflict, Epoch, EpochProof,
    Evidence, Header, Height, Message, Proposal, QuorumCert, Signature, Slot, Status, Timeout, TimeoutCert,
    TimeoutEntry, ValidatorIndex, View, Vote,
};

/// One request to the driver. They are to be carried out in order.
#[derive(Clone, Debug)]
pub enum Action {
    /// Sign if needed, send to every validator (followers: to every peer), and feed our own message back.
    Broadcast(Outgoing),
    /// The same to one validator; our own signed messages need no feeding back here.
    Send(ValidatorIndex, Outgoing),
    /// Build and execute a block for this slot; answer with `PayloadReady` or `PayloadFailed`.
    RequestPayload(Slot),
    /// Execute a block on its parent, which is executed or committed; answer with `BlockChecked`.
    CheckBlock {
        /// The block.
        block: Arc<Block>,
        /// `k`: the block is too old when its time is before `clock - lag_max * 2^k`.
        lag_exponent: u32,
    },
    /// Ask one of these validators for a block, going on to the next when one does not answer. Empty when
    /// nobody is known to hold it: ask anyone.
    FetchBlock {
        /// The block.
        id: BlockId,
        /// Who should hold it.
        from: Vec<ValidatorIndex>,
    },
    /// Too far behind to fetch block by block: stream certified ranges, apply them, and report with
    /// `Committed`. Repeated while it is still needed; running twice at once is for the driver to avoid.
    CatchUp(CatchUp),
    /// Set the timer of this kind, replacing any earlier one of the same kind.
    SetTimer {
        /// Handed back in `TimerFired`.
        timer: Timer,
        /// How long from now.
        after: Duration,
    },
    /// Make these blocks final, oldest first. Each block of the chain comes exactly once, heights contiguous.
    Commit(Vec<CertifiedBlock>),
    /// Make these blocks final like `Commit`, the epoch's last block included, sync them together with the
    /// epoch's commit proof, and go on with a new replica of the next epoch. This one is over.
    EndEpoch(EpochEnd),
    /// A certificate was formed here: its parts were verified, it need not be verified again.
    Formed(Formed),
    /// A validator signed two different things where one is allowed.
    Accuse(Equivocation),
    /// Stop the node: going on could do harm. The sentence is for its operator.
    Halt(Fatal),
}

/// The end of an epoch (rule E).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The blocks that become final, oldest first; the last one is the epoch's last.
    pub blocks: Vec<CertifiedBlock>,
    /// What proves it to everyone, and what the next epoch starts from.
    pub proof: Arc<EpochProof>,
}

/// What makes a replica stop for good.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum Fatal {
    #[error(
        "block {id} at height {height} is final by a commit certificate of view {view}, yet it does not execute here: this node's state or software differs from the network's"
    )]
    FinalBlockInvalid { id: BlockId, height: Height, view: View },
    #[error(
        "a commit certificate of view {view} makes block {id} final, which does not descend from the committed block {tip} at height {height}: more than a third of the power is faulty"
    )]
    Fork { id: BlockId, view: View, tip: BlockId, height: Height },
    #[error("{0}")]
    Regression(#[from] cairn_types::safety::Regression),
}

/// How far range sync must go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatchUp {
    /// The first height that is missing.
    pub from: Height,
    /// The height of the final block known.
    pub to: Height,
    /// That block's id.
    pub block: BlockId,
    /// What makes it final.
    pub certificate: Arc<CommitCert>,
}

/// A message before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the messages")]
pub enum Outgoing {
    Proposal { block: Arc<Block>, justify: BlockCert, tc: Option<Arc<TimeoutCert>> },
    Vote { epoch: Epoch, view: View, block: BlockId },
    CommitVote { epoch: Epoch, view: View, block: BlockId },
    Timeout { epoch: Epoch, view: View, high_qc_view: View, high_qc: BlockCert, tc: Option<Arc<TimeoutCert>> },
    Certificate(BlockCert),
    TimeoutCert(Arc<TimeoutCert>),
    CommitCert(Arc<CommitCert>),
    Status(Status),
    EpochProof(Arc<EpochProof>),
}

impl Outgoing {
    /// The bytes to sign; `None` for what travels unsigned.
    pub fn preimage(&self, chain: ChainId) -> Option<Vec<u8>> {
        Some(match self {
            Self::Proposal { block, .. } => {
                let header = block.header();
                block_preimage(Tag::Proposal, chain, header.epoch, header.view, block.id())
            }
            Self::Vote { epoch, view, block } => block_preimage(Tag::Vote, chain, *epoch, *view, *block),
            Self::CommitVote { epoch, view, block } => {
                block_preimage(Tag::Commit, chain, *epoch, *view, *block)
            }
            Self::Timeout { epoch, view, high_qc_view, .. } => {
                timeout_preimage(chain, *epoch, *view, *high_qc_view)
            }
            Self::Certificate(_)
            | Self::TimeoutCert(_)
            | Self::CommitCert(_)
            | Self::Status(_)
            | Self::EpochProof(_) => return None,
        })
    }

    /// The finished message of validator `me`. `sign` is called with the preimage when there is one.
    pub fn seal(self, chain: ChainId, me: ValidatorIndex, sign: impl FnOnce(&[u8]) -> Signature) -> Message {
        let preimage = self.preimage(chain);
        let signature = || sign(&preimage.unwrap_or_default());
        match self {
            Self::Proposal { block, justify, tc } => Message::Proposal(Proposal {
                block,
                justify: Carried::Inline(justify),
                tc: tc.map(Carried::Inline),
                signature: signature(),
            }),
            Self::Vote { epoch, view, block } => {
                Message::Vote(Ballot::new(epoch, view, block, me, signature()))
            }
            Self::CommitVote { epoch, view, block } => {
                Message::CommitVote(Ballot::new(epoch, view, block, me, signature()))
            }
            Self::Timeout { epoch, view, high_qc_view, high_qc, tc } => Message::Timeout(Timeout {
                epoch,
                view,
                high_qc_view,
                high_qc: Carried::Inline(high_qc),
                tc: tc.map(Carried::Inline),
                validator: me,
                signature: signature(),
            }),
            Self::Certificate(certificate) => Message::Certificate(certificate),
            Self::TimeoutCert(certificate) => Message::TimeoutCert(certificate),
            Self::CommitCert(certificate) => Message::CommitCert(certificate),
            Self::Status(status) => Message::Status(status),
            Self::EpochProof(proof) => Message::EpochProof(proof),
        }
    }
}

/// One setting of a timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timer {
    /// Which timer.
    pub kind: TimerKind,
    /// Rises with every setting, so that one that was replaced is told apart when it fires late.
    pub generation: u64,
}

/// The replica's timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TimerKind {
    /// The view lasts too long (rule T), armed only while there is work.
    View,
    /// The leader's wait of `interval_min` from learning the parent's certificate.
    Pace,
    /// The leader's wait of a quarter of the base timeout before an empty block that finishes old work.
    Finish,
    /// Blocks that are missing, and checks that could not be answered, are asked for again.
    Repair,
    /// `interval_idle` without a commit: repeat (rule R), and a heartbeat from the leader.
    Idle,
}

/// A certificate formed from parts that were each verified.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is named after its certificate")]
pub enum Formed {
    Quorum(Arc<QuorumCert>),
    Timeout(Arc<TimeoutCert>),
    Commit(Arc<CommitCert>),
}

/// Two contradicting signatures of one validator for one epoch and view.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is named after the messages")]
pub enum Equivocation {
    Proposals(SignedHeader, SignedHeader),
    Votes(Vote, Vote),
    CommitVotes(CommitVote, CommitVote),
    /// Two timeouts of one view that sign different certificates' views.
    Timeouts {
        epoch: Epoch,
        view: View,
        first: TimeoutEntry,
        second: TimeoutEntry,
    },
}

impl Equivocation {
    /// Who is accused.
    pub fn validator(&self) -> ValidatorIndex {
        match self {
            Self::Proposals(first, _) => first.header.proposer,
            Self::Votes(first, _) => first.validator,
            Self::CommitVotes(first, _) => first.validator,
            Self::Timeouts { first, .. } => first.validator,
        }
    }

    /// What to bring on chain. `None` when the two say the same, which is no offence.
    pub fn evidence(&self) -> Option<Evidence> {
        let (epoch, view, conflict) = match self {
            Self::Proposals(one, other) => {
                let said = |it: &SignedHeader| (it.header.id(), it.signature.clone());
                let pair = Pair::new(said(one), said(other))?;
                (one.header.epoch, one.header.view, Conflict::Proposals(pair))
            }
            Self::Votes(one, other) => (one.epoch, one.view, Conflict::Votes(blocks(one, other)?)),
            Self::CommitVotes(one, other) => {
                (one.epoch, one.view, Conflict::CommitVotes(blocks(one, other)?))
            }
            Self::Timeouts { epoch, view, first, second } => {
                let said = |it: &TimeoutEntry| (it.high_qc_view, it.signature.clone());
                (*epoch, *view, Conflict::Timeouts(Pair::new(said(first), said(second))?))
            }
        };
        Some(Evidence { epoch, view, validator: self.validator(), conflict })
    }
}

fn blocks<P: Phase>(one: &Ballot<P>, other: &Ballot<P>) -> Option<Pair<BlockId>> {
    let said = |it: &Ballot<P>| (it.block, it.signature.clone());
    Pair::new(said(one), said(other))
}

/// The signed part of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHeader {
    /// The header.
    pub header: Header,
    /// The proposer's signature over epoch, view and the header's id.
    pub signature: Signature,
}
