//! Why a transaction or a block is refused.

use cairn_types::delegation::{GRANTS_MAX, Lack};
use cairn_types::identity::{IDENTITY_KEYS_MAX, Purpose, Purposes};
use cairn_types::multisig::{Outcome, PROPOSALS_OPEN_MAX};
use cairn_types::transaction::KEYS_MAX;
use cairn_types::{Address, BlockId, Height, ProofId, TxFault, TxId};
use thiserror::Error;

use crate::error::StateError;
use crate::governance::GovernanceRefusal;

/// Why a transaction is not valid in the block at hand. Each variant maps to one error code of the
/// interfaces; see [`TxRefusal::kind`].
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum TxRefusal {
    #[error(transparent)]
    Shape(TxFault),
    #[error("the transaction is for chain {got}, this chain is {expected}")]
    WrongChain { got: cairn_types::ChainId, expected: cairn_types::ChainId },
    #[error("the transaction has {got} bytes; expected at most {max}")]
    TooLarge { got: usize, max: usize },
    #[error("the transaction expired at {expires_ms}; the block's time is {time_ms} (Unix ms)")]
    AlreadyExpired { expires_ms: u64, time_ms: u64 },
    #[error(
        "the transaction expires at {expires_ms}; expected at most {latest_ms} (Unix ms), the block's time plus the replay window"
    )]
    ExpiresTooLate { expires_ms: u64, latest_ms: u64 },
    #[error("transaction {id} is already in block {height}")]
    Replayed { id: TxId, height: Height },
    #[error("transaction {id} is already in this block")]
    RepeatedInBlock { id: TxId },
    #[error(
        "{address} is not a registered identity; an unregistered sender signs with its inline key and can only anchor or register"
    )]
    UnknownIdentity { address: Address },
    #[error("{address} has {held} keys, no key {index}")]
    UnknownKey { address: Address, index: u16, held: usize },
    #[error("key {index} of {address} was retired at height {since}")]
    KeyRevoked { address: Address, index: u16, since: Height },
    #[error("{address} is registered: its transactions name keys by index, not inline")]
    InlineKeyOfRegistered { address: Address },
    #[error("the inline key belongs to {got}, the sender is {sender}")]
    InlineKeyOfOther { sender: Address, got: Address },
    #[error("{got} keys sign; {address} requires {required}")]
    ThresholdNotMet { address: Address, required: u16, got: usize },
    #[error("{got} keys sign where {required} suffice; every key listed must be needed")]
    SuperfluousKeys { address: Address, required: u16, got: usize },
    #[error(
        "signatures were checked against other keys than the state holds for {address} now: verify again"
    )]
    StaleKeys { address: Address },
    #[error("{address} has not been admitted by the registrar {registrar}")]
    NotAdmitted { address: Address, registrar: Address },
    #[error(
        "proof {index} acts on behalf of {principal}, for whom {sender} holds no delegation in force: {lack}"
    )]
    DelegationMissing { index: usize, sender: Address, principal: Address, lack: Lack },
    #[error("proof {index} is beyond what the agent {agent} may do for its owner {owner}: {lack}")]
    MandateMissing { index: usize, agent: Address, owner: Address, lack: Lack },
    #[error("proof {proof} is already in this block")]
    ProofRepeatedInBlock { proof: ProofId },
    #[error(
        "the identity of {address} changes earlier in this block; its next transaction waits for the next block"
    )]
    IdentityChangedInBlock { address: Address },
    #[error("{address} is already registered")]
    AlreadyRegistered { address: Address },
    #[error("that key is already key {index} of {address}; a key is never added twice")]
    KeyAlreadyHeld { address: Address, index: u16 },
    #[error("{address} already holds {IDENTITY_KEYS_MAX} keys, retired ones included, the most allowed")]
    TooManyIdentityKeys { address: Address },
    #[error(
        "this would leave {address} {left} keys that may change it and do not expire; its threshold is {threshold}"
    )]
    TooFewKeysLeft { address: Address, left: usize, threshold: u16 },
    #[error(
        "threshold {got} is not possible: expected 1 to {active} (control keys that do not expire) and at most {KEYS_MAX}"
    )]
    BadThreshold { got: u16, active: usize },
    #[error("this chain admits everyone: there is nothing to admit")]
    AdmissionIsOpen,
    #[error("{sender} is not the registrar {registrar}")]
    NotRegistrar { sender: Address, registrar: Address },
    #[error("{address} is already admitted")]
    AlreadyAdmitted { address: Address },
    #[error(transparent)]
    Governance(#[from] GovernanceRefusal),
    #[error("key {index} of {address} expired at {expires_ms} (Unix ms)")]
    KeyExpired { address: Address, index: u16, expires_ms: u64 },
    #[error("key {index} of {address} is for {purposes}; expected a key for {needed}")]
    KeyPurpose { address: Address, index: u16, purposes: Purposes, needed: Purpose },
    #[error("{address} was deactivated for good at height {since}")]
    IdentityDeactivated { address: Address, since: Height },
    #[error("key {index} is already the recovery key of {address}: rotate it, or revoke it first")]
    RecoveryKeyHeld { address: Address, index: u16 },
    #[error("a recovery of {address} installs ordinary keys; its recovery key stays as it is")]
    RecoveryKeyGiven { address: Address },
    #[error("the key would expire at {expires_ms}; the block's time is {time_ms} (Unix ms)")]
    KeyExpiryPast { expires_ms: u64, time_ms: u64 },
    #[error("the delegation would expire at {expires_ms}; the block's time is {time_ms} (Unix ms)")]
    GrantExpiryPast { expires_ms: u64, time_ms: u64 },
    #[error("{address} cannot be its own agent")]
    OwnAgent { address: Address },
    #[error("{agent} did not register as an agent of {owner}")]
    NotAgentOf { agent: Address, owner: Address },
    #[error("the agent {agent} cannot delegate: only its owner lends what is the owner's")]
    AgentMayNotDelegate { agent: Address },
    #[error("{delegate} holds no delegation of {principal} that could be ended")]
    NoDelegation { principal: Address, delegate: Address },
    #[error(
        "{principal} has granted {delegate} {GRANTS_MAX} delegations already, ended ones included, the most allowed"
    )]
    TooManyGrants { principal: Address, delegate: Address },
    #[error("{account} has no proposal {proposal}")]
    UnknownProposal { account: Address, proposal: TxId },
    #[error("proposal {proposal} has ended: {}", ending(outcome))]
    ProposalClosed { proposal: TxId, outcome: Outcome },
    #[error("proposal {proposal} expired at {expires_ms}; the block's time is {time_ms} (Unix ms)")]
    ProposalExpired { proposal: TxId, expires_ms: u64, time_ms: u64 },
    #[error(
        "the proposal would expire at {expires_ms}; expected after {time_ms} and at most {latest_ms} (Unix ms)"
    )]
    ProposalExpiry { expires_ms: u64, time_ms: u64, latest_ms: u64 },
    #[error(
        "{address} has {PROPOSALS_OPEN_MAX} open proposals already, the most allowed: approve or cancel one"
    )]
    TooManyProposals { address: Address },
    #[error("key {key} has said so already on proposal {proposal}")]
    AlreadyVoted { proposal: TxId, key: u16 },
    #[error("the block is full: {got} bytes with this transaction, {max} allowed")]
    BlockFull { got: usize, max: usize },
    #[error("block {block} is unknown here, so the sender's keys cannot be resolved")]
    UnknownParent { block: BlockId },
    #[error("the state cannot be read: {why}")]
    Unavailable { why: String },
}

impl TxRefusal {
    /// The error kind of the interfaces (API, "Errors") this refusal belongs to.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::WrongChain { .. } => "wrong_chain",
            Self::AlreadyExpired { .. } => "already_expired",
            Self::ExpiresTooLate { .. } => "expires_too_late",
            Self::UnknownIdentity { .. } | Self::UnknownKey { .. } => "unknown_identity",
            Self::KeyRevoked { .. } | Self::KeyExpired { .. } => "key_revoked",
            Self::ThresholdNotMet { .. } | Self::SuperfluousKeys { .. } | Self::BadThreshold { .. } => {
                "threshold_not_met"
            }
            Self::DelegationMissing { .. } | Self::MandateMissing { .. } => "delegation_missing",
            Self::NotAdmitted { .. }
            | Self::NotRegistrar { .. }
            | Self::KeyPurpose { .. }
            | Self::NotAgentOf { .. }
            | Self::AgentMayNotDelegate { .. } => "unauthorized",
            Self::UnknownProposal { .. } => "not_found",
            Self::InlineKeyOfOther { .. } | Self::StaleKeys { .. } => "invalid_signature",
            Self::Unavailable { .. } | Self::UnknownParent { .. } => "not_ready",
            Self::BlockFull { .. } => "mempool_full",
            Self::Shape(_) | Self::TooLarge { .. } => "invalid_params",
            Self::Governance(refusal) => refusal.kind(),
            Self::Replayed { .. }
            | Self::RepeatedInBlock { .. }
            | Self::InlineKeyOfRegistered { .. }
            | Self::ProofRepeatedInBlock { .. }
            | Self::IdentityChangedInBlock { .. }
            | Self::AlreadyRegistered { .. }
            | Self::KeyAlreadyHeld { .. }
            | Self::TooManyIdentityKeys { .. }
            | Self::TooFewKeysLeft { .. }
            | Self::AdmissionIsOpen
            | Self::AlreadyAdmitted { .. }
            | Self::IdentityDeactivated { .. }
            | Self::RecoveryKeyHeld { .. }
            | Self::RecoveryKeyGiven { .. }
            | Self::KeyExpiryPast { .. }
            | Self::GrantExpiryPast { .. }
            | Self::OwnAgent { .. }
            | Self::NoDelegation { .. }
            | Self::TooManyGrants { .. }
            | Self::ProposalClosed { .. }
            | Self::ProposalExpired { .. }
            | Self::ProposalExpiry { .. }
            | Self::TooManyProposals { .. }
            | Self::AlreadyVoted { .. } => "conflict",
        }
    }

    /// Whether the very same transaction may be valid in a later block, so that a pool should keep it.
    pub const fn may_pass_later(&self) -> bool {
        if let Self::DelegationMissing { lack, .. } | Self::MandateMissing { lack, .. } = self {
            return lack.may_pass_later();
        }
        matches!(
            self,
            Self::ExpiresTooLate { .. }
                | Self::ProofRepeatedInBlock { .. }
                | Self::IdentityChangedInBlock { .. }
                | Self::BlockFull { .. }
                | Self::UnknownParent { .. }
                | Self::Unavailable { .. }
                | Self::Governance(GovernanceRefusal::EpochEnds)
        )
    }
}

fn ending(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Executed { height, tx } => format!("carried out at height {height} by transaction {tx}"),
        Outcome::Cancelled { height } => format!("cancelled at height {height}"),
        Outcome::Lapsed { height } => format!("its time had run out by height {height}"),
    }
}

/// A header field that executing the block sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the variants are the fields of `Header`")]
pub enum HeaderField {
    Version,
    Chain,
    Epoch,
    View,
    Height,
    ParentView,
    TimeMs,
    Proposer,
    TxRoot,
    TxCount,
    StateRoot,
    AnchorsRoot,
    AnchorsSize,
    AnchorsSha256,
    HistoryRoot,
    Validators,
    NextValidators,
}

/// Why a block is not valid on its parent.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum BlockFault {
    #[error("header field {field:?} is {got}; expected {expected}")]
    Header { field: HeaderField, got: String, expected: String },
    #[error("transaction {index} ({id}) is not valid: {refusal}")]
    Transaction { index: usize, id: TxId, refusal: Box<TxRefusal> },
    #[error("transaction {index} of the block is not the verified one given with it")]
    OtherTransaction { index: usize },
    #[error("{got} verified transactions given for {expected} of the block")]
    TransactionCount { got: usize, expected: usize },
    #[error("cannot be judged here: {0}")]
    Unavailable(StateError),
}

impl BlockFault {
    /// Whether the proposer is to blame. Otherwise we lack something, and the block may be valid.
    pub const fn blames_proposer(&self) -> bool {
        match self {
            Self::Header { .. } => true,
            Self::Transaction { refusal, .. } => !matches!(
                **refusal,
                TxRefusal::Unavailable { .. } | TxRefusal::UnknownParent { .. } | TxRefusal::StaleKeys { .. }
            ),
            Self::OtherTransaction { .. } | Self::TransactionCount { .. } | Self::Unavailable(_) => false,
        }
    }
}
