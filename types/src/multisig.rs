//! Shared control on the chain: a payload that one key of an identity proposes and others approve, until as
//! many stand behind it as the identity's threshold asks for.

use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

use crate::codec::encode;
use crate::delegation::DelegationOp;
use crate::id::{Address, Height, TxId};
use crate::identity::{IdentityOp, Purpose};
use crate::transaction::Proofs;

/// Proposals of one identity that may be open at once: bounds what one key alone can leave in the state.
pub const PROPOSALS_OPEN_MAX: usize = 32;
/// Bytes of a proposed payload: it stays in the state, and is written again with each approval.
pub const PROPOSAL_BYTES_MAX: usize = 16 << 10;
/// Longest time a proposal may stay open, ms: 30 days.
pub const PROPOSAL_LIFETIME_MAX_MS: u64 = 30 * 24 * 3_600_000;

/// What may be proposed. The discriminants are those of [`crate::Payload`]; a proposal holds no proposal.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Proposed {
    /// A change to the identity itself: add, rotate or revoke a key, threshold, admission, deactivation.
    Identity(IdentityOp) = 1,
    /// A delegation.
    Delegation(DelegationOp) = 2,
    /// Proofs.
    Proofs(Proofs) = 7,
}

impl Proposed {
    /// What each key behind it must be for.
    pub const fn purpose(&self) -> Purpose {
        match self {
            Self::Identity(_) => Purpose::Control,
            Self::Delegation(_) => Purpose::Delegation,
            Self::Proofs(_) => Purpose::Assertion,
        }
    }
}

/// A step of shared control. Signed by exactly one key of the sender, which it counts for.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum MultisigOp {
    /// Proposes a payload, and approves it. The proposal is named by the id of this transaction.
    Propose {
        /// What is to be done.
        payload: Proposed,
        /// Unix milliseconds: it may be approved only in blocks with an earlier time.
        expires_ms: u64,
    } = 0,
    /// Approves; the approval that reaches the threshold carries the payload out.
    Approve {
        /// Which proposal.
        proposal: TxId,
    } = 1,
    /// The proposer's own key withdraws the proposal. Another key votes against it: when too few are
    /// left to reach the threshold, it is cancelled.
    Cancel {
        /// Which proposal.
        proposal: TxId,
    } = 2,
}

/// One key's word on a proposal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Vote {
    /// The key's index.
    pub key: u16,
    /// The block it came in.
    pub height: Height,
}

/// How a proposal ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Outcome {
    /// The threshold was met and the payload carried out.
    Executed {
        /// The block.
        height: Height,
        /// The transaction that met the threshold.
        tx: TxId,
    } = 0,
    /// It was withdrawn, or voted down.
    Cancelled {
        /// The block.
        height: Height,
    } = 1,
    /// Its time ran out. Noted when a later proposal of the identity clears it away.
    Lapsed {
        /// The block that noted it.
        height: Height,
    } = 2,
}

/// A proposal as the authenticated map holds it, open or ended.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct ProposalEntry {
    /// What is to be done.
    pub payload: Proposed,
    /// Unix milliseconds: it may be approved only in blocks with an earlier time.
    pub expires_ms: u64,
    /// The key that proposed it, and the block.
    pub proposed: Vote,
    /// Who stands behind it, the proposer first.
    pub approvals: Vec<Vote>,
    /// Who voted against it.
    pub rejections: Vec<Vote>,
    /// How it ended; `None` while it is open.
    pub outcome: Option<Outcome>,
}

/// A proposal with its name: what a node tells of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposal {
    /// The transaction that proposed it.
    pub id: TxId,
    /// The identity it belongs to.
    pub account: Address,
    /// What the state holds.
    pub entry: ProposalEntry,
}

/// Why a step's own bytes break the rules, whatever the state.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum MultisigFault {
    #[error("a proposed payload of {got} bytes; expected at most {PROPOSAL_BYTES_MAX}")]
    TooLarge { got: usize },
    #[error("{op} cannot be proposed: it is signed by a key that is not subject to the threshold")]
    NotProposable { op: &'static str },
}

impl MultisigOp {
    /// Checks every rule that needs no state, but for those of the payload inside.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn check_shape(&self) -> Result<(), MultisigFault> {
        let Self::Propose { payload, .. } = self else { return Ok(()) };
        let not_proposable = match payload {
            Proposed::Identity(IdentityOp::Register) => Some("registration"),
            Proposed::Identity(IdentityOp::RegisterAgent { .. }) => Some("an agent's registration"),
            Proposed::Identity(IdentityOp::Recover { .. }) => Some("recovery"),
            _ => None,
        };
        if let Some(op) = not_proposable {
            return Err(MultisigFault::NotProposable { op });
        }
        let got = encode(payload).len();
        if got > PROPOSAL_BYTES_MAX { Err(MultisigFault::TooLarge { got }) } else { Ok(()) }
    }
}
