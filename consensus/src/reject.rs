//! Why an input was refused, and whose fault that is. A refused input has changed nothing.

use cairn_types::{BlockId, Epoch, Height, ValidatorIndex, View};
use thiserror::Error;

/// Whose fault a refused input is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blame {
    /// The sender broke the protocol: an honest one would not have sent this, nor passed it on.
    Peer,
    /// The validator that signed it broke the protocol; whoever passed it on need not have known.
    Signer,
    /// The input is late, repeated or early, or we lack what it rests on.
    Nobody,
}

/// Why an input was refused.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum Reject {
    #[error("a message of epoch {got}; this replica is in epoch {expected}")]
    OtherEpoch { got: Epoch, expected: Epoch },
    #[error("view {got} is over; this replica looks at views from {oldest}")]
    Stale { got: View, oldest: View },
    #[error("view {got} is too far ahead; this replica looks at views up to {newest}")]
    TooFarAhead { got: View, newest: View },
    #[error("already known")]
    Known,
    #[error("a certificate is carried by reference; expected it inline")]
    Unresolved,
    #[error("nobody asked for block {id}")]
    Unasked { id: BlockId },
    #[error("block {id} is not certified yet; expected its whole proposal")]
    Uncertified { id: BlockId },
    #[error("{held} uncommitted blocks are held, which is the limit")]
    TreeFull { held: usize },
    #[error("validator {got} does not exist in a set of {count}")]
    UnknownValidator { got: ValidatorIndex, count: usize },
    #[error("validator {got} proposed in view {view}, which {expected} leads")]
    WrongLeader { view: View, got: ValidatorIndex, expected: ValidatorIndex },
    #[error("the header is of another chain, header version or validator set")]
    ForeignHeader,
    #[error("the header is of view 0, which has no proposals")]
    ViewZero,
    #[error(
        "the header names parent {parent} of view {parent_view}; the certificate is of {block} of view {view}"
    )]
    WrongParent { parent: BlockId, parent_view: View, block: BlockId, view: View },
    #[error(
        "a certificate of view {justify} does not entitle to propose in view {view} without a timeout certificate of the view before"
    )]
    Unjustified { view: View, justify: View },
    #[error("the proposal builds on view {justify}; the timeout certificate allows nothing below {allowed}")]
    JustifyTooLow { justify: View, allowed: View },
    #[error("a timeout certificate is carried that the proposal or timeout of view {view} has no use for")]
    NeedlessTimeoutCert { view: View },
    #[error("height {got} on a parent of height {parent}")]
    WrongHeight { got: Height, parent: Height },
    #[error("time {got} ms is not after the parent's {parent} ms")]
    TimeNotRising { got: u64, parent: u64 },
    #[error("the transactions of block {id} are not those its header commits to")]
    BodyMismatch { id: BlockId },
    #[error("validator {validator} names more than two blocks in view {view}")]
    TooManyBlocks { validator: ValidatorIndex, view: View },
    #[error("the timeout of view {view} signs certificate view {signed} and carries one of view {carried}")]
    TimeoutCertificate { view: View, signed: View, carried: View },
    #[error("the timeout of view {view} carries no certificate of the view before")]
    NoEntryProof { view: View },
    #[error("the payload does not fill the slot that was asked for, or comes too late")]
    WrongPayload,
    #[error("block {id} was not being checked")]
    NotChecking { id: BlockId },
    #[error("the timer was replaced")]
    TimerReplaced,
    #[error("the replica has not been started")]
    NotStarted,
    #[error("the replica has stopped for good")]
    Halted,
    #[error("epoch {epoch} is over; the replica of the next one is to be asked")]
    EpochOver { epoch: Epoch },
}

impl Reject {
    /// Whose fault it is.
    pub const fn blame(&self) -> Blame {
        match self {
            Self::OtherEpoch { .. }
            | Self::Stale { .. }
            | Self::TooFarAhead { .. }
            | Self::Known
            | Self::Unresolved
            | Self::Unasked { .. }
            | Self::Uncertified { .. }
            | Self::TreeFull { .. }
            | Self::WrongPayload
            | Self::NotChecking { .. }
            | Self::TimerReplaced
            | Self::NotStarted
            | Self::Halted
            | Self::EpochOver { .. } => Blame::Nobody,
            Self::WrongHeight { .. } | Self::TimeNotRising { .. } | Self::TooManyBlocks { .. } => {
                Blame::Signer
            }
            Self::UnknownValidator { .. }
            | Self::WrongLeader { .. }
            | Self::ForeignHeader
            | Self::ViewZero
            | Self::WrongParent { .. }
            | Self::Unjustified { .. }
            | Self::JustifyTooLow { .. }
            | Self::NeedlessTimeoutCert { .. }
            | Self::BodyMismatch { .. }
            | Self::TimeoutCertificate { .. }
            | Self::NoEntryProof { .. } => Blame::Peer,
        }
    }
}
