//! Why a transaction or a block is refused.

use cairn_types::identity::IDENTITY_KEYS_MAX;
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
    #[error("proof {index} acts on behalf of {principal}, who has given {sender} no delegation")]
    DelegationMissing { index: usize, sender: Address, principal: Address },
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
    #[error("retiring a key would leave {address} {left} active keys; its threshold is {threshold}")]
    TooFewKeysLeft { address: Address, left: usize, threshold: u16 },
    #[error("threshold {got} is not possible: expected 1 to {active} (active keys) and at most {KEYS_MAX}")]
    BadThreshold { got: u16, active: usize },
    #[error("this chain admits everyone: there is nothing to admit")]
    AdmissionIsOpen,
    #[error("{sender} is not the registrar {registrar}")]
    NotRegistrar { sender: Address, registrar: Address },
    #[error("{address} is already admitted")]
    AlreadyAdmitted { address: Address },
    #[error(transparent)]
    Governance(#[from] GovernanceRefusal),
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
            Self::KeyRevoked { .. } => "key_revoked",
            Self::ThresholdNotMet { .. } | Self::SuperfluousKeys { .. } | Self::BadThreshold { .. } => {
                "threshold_not_met"
            }
            Self::DelegationMissing { .. } => "delegation_missing",
            Self::NotAdmitted { .. } | Self::NotRegistrar { .. } => "unauthorized",
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
            | Self::AlreadyAdmitted { .. } => "conflict",
        }
    }

    /// Whether the very same transaction may be valid in a later block, so that a pool should keep it.
    pub const fn may_pass_later(&self) -> bool {
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
    Transaction { index: usize, id: TxId, refusal: TxRefusal },
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
                refusal,
                TxRefusal::Unavailable { .. } | TxRefusal::UnknownParent { .. } | TxRefusal::StaleKeys { .. }
            ),
            Self::OtherTransaction { .. } | Self::TransactionCount { .. } | Self::Unavailable(_) => false,
        }
    }
}
