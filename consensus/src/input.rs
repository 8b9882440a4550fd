//! Everything that can happen to a replica.

use std::sync::Arc;

use cairn_types::{
    Block, BlockCert, BlockId, CommitCert, CommitVote, EpochProof, Header, Proposal, Status, Timeout,
    TimeoutCert, ValidatorIndex, Verified, View, Vote,
};

use crate::action::Timer;

/// One thing that happened. Our own signed messages come back through the same inputs as those of others.
#[derive(Clone, Debug)]
pub enum Input {
    /// The driver is ready; given once, before anything else.
    Start,
    /// A leader's block, its certificates inline.
    Proposal(Verified<Proposal>),
    /// A first vote.
    Vote(Verified<Vote>),
    /// A commit vote.
    CommitVote(Verified<CommitVote>),
    /// A timeout, its certificates inline.
    Timeout(Verified<Timeout>),
    /// A block certificate, taken out of any message or sent alone.
    Certificate(Verified<BlockCert>),
    /// A timeout certificate.
    TimeoutCert(Verified<Arc<TimeoutCert>>),
    /// A commit certificate.
    CommitCert(Verified<Arc<CommitCert>>),
    /// The proof that this epoch has ended.
    EpochProof(Verified<Arc<EpochProof>>),
    /// Where a validator says it stands: a hint that may only cause an answer.
    Status {
        /// Who says so.
        from: ValidatorIndex,
        /// What it says.
        status: Status,
    },
    /// A link to a validator was just authenticated.
    Connected(ValidatorIndex),
    /// Whether a pooled transaction executes on [`crate::Replica::high_qc`]'s block. To be given when the pool
    /// gains its first such transaction or loses its last, and again whenever that block has changed: the
    /// replica then takes the answer to be "no" until told. `Work(true)` also makes a leader ask once more for
    /// a payload that failed or came out empty.
    Work(bool),
    /// The block asked for by `RequestPayload`, already executed here.
    PayloadReady {
        /// The slot's view.
        view: View,
        /// The block. An empty one is proposed only when the leader has a reason for an empty block.
        block: Arc<Block>,
    },
    /// No block could be built for that slot now.
    PayloadFailed {
        /// The slot's view.
        view: View,
    },
    /// The answer to `CheckBlock`.
    BlockChecked {
        /// The block.
        id: BlockId,
        /// The verdict.
        verdict: BlockVerdict,
    },
    /// A block asked for by `FetchBlock`. Whatever a peer answered with is to be given here, or as
    /// [`Input::Proposal`] when it answered with the whole proposal.
    BlockFetched {
        /// The block.
        block: Arc<Block>,
    },
    /// Range sync has applied and synced the chain up to this block of the epoch (the answer to `CatchUp`). Where
    /// it went beyond the epoch's end, the replica is to be replaced by one of the state's epoch instead.
    Committed {
        /// The new committed block.
        header: Header,
        /// A commit certificate of it or of a descendant in its epoch.
        certificate: Verified<Arc<CommitCert>>,
    },
    /// A timer set by `SetTimer` has run out. Timers set anew since are told apart by their generation.
    TimerFired(Timer),
}

/// What executing a block on its parent's state found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockVerdict {
    /// Executes to the roots its header names, and its time is within the drift (a block from the future is
    /// not answered until it is) and the lag.
    Valid,
    /// Executes to its roots, but is older than `clock - lag_max * 2^lag_exponent`: held, not voted for.
    TooOld,
    /// Breaks a rule or does not execute to its roots.
    Invalid,
    /// Cannot be judged now, for instance because its time is far ahead or its parent's state was let go of. The
    /// replica asks again after a while, if it still holds the block. Every `CheckBlock` must get some verdict.
    Unjudged,
}
