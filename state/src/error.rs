//! Why the state cannot do what it was asked: always our side's trouble, never a peer's.

use cairn_types::{BlockId, ChainId, Epoch, Hash, Height};
use thiserror::Error;

use crate::refusal::BlockFault;
use crate::storage::StorageError;

/// A failure of storage, of a stored invariant, or of a caller's order of calls.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum StateError {
    #[error("{what} is no longer kept here; the earliest block this node has is {earliest}")]
    Pruned { what: String, earliest: Height },
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("the state stopped after an earlier failure and must be opened again: {why}")]
    Halted { why: String },
    #[error(
        "the data folder has schema version {found}, this build reads version {expected}: start it with the build that made it, or move the folder away and let this node fetch the chain anew (keys and the signing journal are not in it)"
    )]
    Schema { found: u32, expected: u32 },
    #[error("the data folder belongs to chain {found}, the genesis file defines chain {expected}")]
    WrongGenesis { found: ChainId, expected: ChainId },
    #[error("the genesis cannot be used: {why}")]
    BadGenesis { why: String },
    #[error("the snapshot cannot be used: {why}")]
    BadSnapshot { why: String },
    #[error("stored {what} cannot be read back: {why}")]
    Damaged { what: &'static str, why: String },
    #[error(
        "at height {height} the stored data gives {what} {found}, the header says {expected}: the data folder is damaged, restore it or sync again"
    )]
    RootMismatch { height: Height, what: &'static str, found: Hash, expected: Hash },
    #[error("block {block} is neither committed as the newest block nor executed: execute it first")]
    UnknownParent { block: BlockId },
    #[error("{count} uncommitted blocks are already held, the most allowed: commit or execute others first")]
    TooManyUncommitted { count: usize },
    #[error("the slot asks for a block the parent cannot have: {why}")]
    BadSlot { why: String },
    #[error("asked to commit height {got}; the next is {expected}")]
    NotNext { got: Height, expected: Height },
    #[error("asked to commit block {got} at height {height}, where block {committed} is committed")]
    ForkedCommit { height: Height, got: BlockId, committed: BlockId },
    #[error("block {block} has parent {got}; the committed block below is {expected}")]
    WrongParent { block: BlockId, got: BlockId, expected: BlockId },
    #[error("the certificate given for block {block} (epoch {epoch}, view {view}) does not cover it")]
    CertificateMismatch { block: BlockId, epoch: Epoch, view: cairn_types::View },
    #[error(
        "block {block} ends epoch {epoch}; it is committed with the epoch's commit proof, and nothing after it"
    )]
    EpochProofMissing { block: BlockId, epoch: Epoch },
    #[error(
        "the commit proof given for epoch {epoch} does not name block {block} as its last, or holds another certificate"
    )]
    EpochProofMismatch { block: BlockId, epoch: Epoch },
    #[error("block {block} only carries the end of epoch {epoch}: carriers are no part of the chain")]
    CarrierCommitted { block: BlockId, epoch: Epoch },
    #[error(
        "block {block} is certified by a quorum, but executing it here gives: {fault}; the data folder or this build is broken"
    )]
    Diverged { block: BlockId, fault: Box<BlockFault> },
}

impl StateError {
    pub(crate) fn damaged(what: &'static str, why: impl ToString) -> Self {
        Self::Damaged { what, why: why.to_string() }
    }
}
