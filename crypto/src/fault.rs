//! Why a consensus message or certificate was refused.

use std::fmt;

use cairn_types::certificate::CertFault;
use cairn_types::message::CertReference;
use cairn_types::{Address, BlockId, ChainId, Epoch, EpochProofFault, ValidatorIndex, View};
use thiserror::Error;

use crate::signature::SignatureFault;

/// Which certificate a fault is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertKind {
    /// The implicit certificate of view 0.
    Root,
    /// A quorum of votes.
    Quorum,
    /// A quorum of commit votes.
    Commit,
    /// A quorum of timeouts.
    Timeout,
}

impl fmt::Display for CertKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "implicit certificate",
            Self::Quorum => "quorum certificate",
            Self::Commit => "commit certificate",
            Self::Timeout => "timeout certificate",
        })
    }
}

/// Why a message from a validator was refused. Nothing was changed by it.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum MessageFault {
    #[error("the message is of epoch {got}; this validator set signs epoch {expected}")]
    WrongEpoch { got: Epoch, expected: Epoch },
    #[error("the message names chain {got}; this chain is {expected}")]
    WrongChain { got: ChainId, expected: ChainId },
    #[error("view 0 has no proposal, vote or timeout")]
    ViewZero,
    #[error("validator {index} is outside the set of {count}")]
    UnknownValidator { index: ValidatorIndex, count: usize },
    #[error("{address} is not a validator of epoch {epoch}")]
    UnknownAddress { address: Address, epoch: Epoch },
    #[error("the proposal of view {view} names proposer {got}; its leader is {expected}")]
    WrongLeader { view: View, expected: ValidatorIndex, got: ValidatorIndex },
    #[error("the signature of validator {validator}: {fault}")]
    Signature { validator: ValidatorIndex, fault: SignatureFault },
    #[error("the {kind}: {fault}")]
    Certificate { kind: CertKind, fault: CertFault },
    #[error("the {kind}: the signature of validator {validator}: {fault}")]
    CertificateSignature { kind: CertKind, validator: ValidatorIndex, fault: SignatureFault },
    #[error("the implicit certificate names block {got}; epoch {epoch} starts from {expected}")]
    WrongRoot { epoch: Epoch, got: BlockId, expected: BlockId },
    #[error("the message names a certificate that is not here yet: {0:?}")]
    Unresolved(Box<CertReference>),
    #[error("a message of view {view} carries a certificate of view {got}; expected a lower view")]
    CertificateNotBelow { view: View, got: View },
    #[error("the certificate carried is of view {carried}; the signature claims at least {signed}")]
    HighCertificateTooLow { signed: View, carried: View },
    #[error(
        "view {view} builds on a certificate of view {certified} and carries no timeout certificate; expected one of view {expected}"
    )]
    TimeoutCertMissing { view: View, certified: View, expected: View },
    #[error("a proposal that builds on the view before carries a timeout certificate; expected none")]
    TimeoutCertUnneeded,
    #[error("the timeout certificate is of view {got}; expected view {expected}")]
    TimeoutCertView { got: View, expected: View },
    #[error("the epoch's commit proof: {0}")]
    EpochProof(#[from] EpochProofFault),
    #[error("the node record is malformed: {why}")]
    NodeRecord { why: String },
    #[error("the node record expires at {expires_ms} ms; expected between {now_ms} and {latest_ms}")]
    NodeRecordExpiry { expires_ms: u64, now_ms: u64, latest_ms: u64 },
}

impl MessageFault {
    /// Whether only a faulty or lying peer sends this. The rest means that the peer is in another epoch,
    /// that we lack a certificate it named, or that clocks differ.
    pub const fn is_peers_fault(&self) -> bool {
        !matches!(
            self,
            Self::WrongEpoch { .. }
                | Self::Unresolved(_)
                | Self::UnknownAddress { .. }
                | Self::NodeRecordExpiry { .. }
        )
    }
}
