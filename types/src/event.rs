//! What happened to identities, delegations and proposals: one event per step, in the order of the chain.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::id::{Address, Height, TxId};

/// One step in an identity's history.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct IdentityEvent {
    /// Whose identity.
    pub identity: Address,
    /// The transaction that did it.
    pub tx_id: TxId,
    /// Its block.
    pub height: Height,
    /// That block's time, Unix milliseconds.
    pub time_ms: u64,
    /// What it did.
    pub what: IdentityStep,
}

/// What happened to an identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
#[expect(missing_docs, reason = "the fields are those of the operations")]
pub enum IdentityStep {
    /// It was registered.
    Registered = 0,
    /// It was registered as an agent of `owner`.
    AgentRegistered { owner: Address } = 1,
    /// A key was added.
    KeyAdded { index: u16 } = 2,
    /// A key took another's place.
    KeyRotated { retired: u16, index: u16 } = 3,
    /// A key was retired.
    KeyRevoked { index: u16 } = 4,
    /// The threshold was set.
    ThresholdSet { threshold: u16 } = 5,
    /// The registrar admitted it.
    Admitted = 6,
    /// The recovery key replaced all others.
    Recovered { first: u16, keys: u16, threshold: u16 } = 7,
    /// It was deactivated for good.
    Deactivated = 8,
    /// Its owner, this identity, confirmed an agent or changed its mandate.
    AgentMandated { agent: Address, revision: u32 } = 9,
    /// Its owner, this identity, retired an agent.
    AgentRetired { agent: Address } = 10,
    /// It granted a delegation.
    DelegationGranted { delegate: Address } = 11,
    /// It revoked a delegation.
    DelegationRevoked { delegate: Address } = 12,
    /// A delegate gave a delegation of this identity back.
    DelegationRenounced { delegate: Address } = 13,
    /// A key proposed something.
    Proposed { proposal: TxId, key: u16 } = 14,
    /// A key approved a proposal.
    Approved { proposal: TxId, key: u16 } = 15,
    /// A key voted against a proposal.
    Rejected { proposal: TxId, key: u16 } = 16,
    /// A proposal was withdrawn or voted down.
    Cancelled { proposal: TxId } = 17,
    /// A proposal met the threshold and was carried out.
    Executed { proposal: TxId } = 18,
    /// A proposal's time had run out.
    Lapsed { proposal: TxId } = 19,
}

impl IdentityStep {
    /// The name used in JSON.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::AgentRegistered { .. } => "agent_registered",
            Self::KeyAdded { .. } => "key_added",
            Self::KeyRotated { .. } => "key_rotated",
            Self::KeyRevoked { .. } => "key_revoked",
            Self::ThresholdSet { .. } => "threshold_set",
            Self::Admitted => "admitted",
            Self::Recovered { .. } => "recovered",
            Self::Deactivated => "deactivated",
            Self::AgentMandated { .. } => "agent_mandated",
            Self::AgentRetired { .. } => "agent_retired",
            Self::DelegationGranted { .. } => "delegation_granted",
            Self::DelegationRevoked { .. } => "delegation_revoked",
            Self::DelegationRenounced { .. } => "delegation_renounced",
            Self::Proposed { .. } => "proposed",
            Self::Approved { .. } => "approved",
            Self::Rejected { .. } => "rejected",
            Self::Cancelled { .. } => "cancelled",
            Self::Executed { .. } => "executed",
            Self::Lapsed { .. } => "lapsed",
        }
    }

    /// The other identity it concerns.
    pub const fn other(&self) -> Option<Address> {
        match self {
            Self::AgentRegistered { owner: other }
            | Self::AgentMandated { agent: other, .. }
            | Self::AgentRetired { agent: other }
            | Self::DelegationGranted { delegate: other }
            | Self::DelegationRevoked { delegate: other }
            | Self::DelegationRenounced { delegate: other } => Some(*other),
            _ => None,
        }
    }
}
