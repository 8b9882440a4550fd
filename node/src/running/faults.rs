//! How refusals of the inner crates look to a client.

use cairn_crypto::TransactionFault;
use cairn_mempool::Refusal;
use cairn_rpc::Fault;
use cairn_state::{StateError, TxRefusal};
use cairn_types::TxFault;

/// Pause before asking again when the node itself lacks something, ms.
const RETRY_MS: u64 = 1_000;

/// A transaction's own bytes break a rule.
pub(crate) fn fault_of_shape(fault: &TxFault) -> Fault {
    match fault {
        TxFault::WrongChain { got, expected } => Fault::WrongChain { got: *got, expected: *expected },
        other => Fault::invalid(other.to_string()),
    }
}

/// A transaction is not valid in the state at hand.
pub(crate) fn fault_of_refusal(refusal: &TxRefusal) -> Fault {
    let reason = refusal.to_string();
    match refusal {
        TxRefusal::Shape(fault) => fault_of_shape(fault),
        TxRefusal::WrongChain { got, expected } => Fault::WrongChain { got: *got, expected: *expected },
        TxRefusal::AlreadyExpired { expires_ms, time_ms } => {
            Fault::AlreadyExpired { expires_ms: *expires_ms, now_ms: *time_ms }
        }
        TxRefusal::ExpiresTooLate { expires_ms, latest_ms } => {
            Fault::ExpiresTooLate { expires_ms: *expires_ms, latest_ms: *latest_ms }
        }
        TxRefusal::UnknownIdentity { address } | TxRefusal::UnknownKey { address, .. } => {
            Fault::UnknownIdentity { address: *address, reason }
        }
        TxRefusal::KeyRevoked { address, index, .. } | TxRefusal::KeyExpired { address, index, .. } => {
            Fault::KeyRevoked { address: *address, index: *index, reason }
        }
        TxRefusal::ThresholdNotMet { required, got, .. }
        | TxRefusal::SuperfluousKeys { required, got, .. } => {
            Fault::ThresholdNotMet { have: *got, need: usize::from(*required) }
        }
        TxRefusal::DelegationMissing { sender, principal, .. } => {
            Fault::DelegationMissing { sender: *sender, principal: *principal, reason }
        }
        TxRefusal::MandateMissing { agent, owner, .. } => {
            Fault::DelegationMissing { sender: *agent, principal: *owner, reason }
        }
        TxRefusal::NotAdmitted { .. }
        | TxRefusal::NotRegistrar { .. }
        | TxRefusal::KeyPurpose { .. }
        | TxRefusal::NotAgentOf { .. }
        | TxRefusal::AgentMayNotDelegate { .. } => Fault::Unauthorized { reason },
        TxRefusal::UnknownProposal { account, proposal } => {
            Fault::not_found(format!("proposal {proposal} of {account}"))
        }
        TxRefusal::InlineKeyOfOther { .. } | TxRefusal::StaleKeys { .. } => {
            Fault::InvalidSignature { reason }
        }
        TxRefusal::Unavailable { .. } | TxRefusal::UnknownParent { .. } => {
            Fault::NotReady { reason, retry_after_ms: RETRY_MS }
        }
        TxRefusal::BlockFull { .. } => Fault::MempoolFull { reason, retry_after_ms: RETRY_MS },
        TxRefusal::TooLarge { .. } | TxRefusal::BadThreshold { .. } => Fault::invalid(reason),
        TxRefusal::Governance(refusal) => fault_of_motion(refusal.kind(), reason),
        TxRefusal::Replayed { .. }
        | TxRefusal::RepeatedInBlock { .. }
        | TxRefusal::InlineKeyOfRegistered { .. }
        | TxRefusal::ProofRepeatedInBlock { .. }
        | TxRefusal::IdentityChangedInBlock { .. }
        | TxRefusal::AlreadyRegistered { .. }
        | TxRefusal::KeyAlreadyHeld { .. }
        | TxRefusal::TooManyIdentityKeys { .. }
        | TxRefusal::TooFewKeysLeft { .. }
        | TxRefusal::AdmissionIsOpen
        | TxRefusal::AlreadyAdmitted { .. }
        | TxRefusal::IdentityDeactivated { .. }
        | TxRefusal::RecoveryKeyHeld { .. }
        | TxRefusal::RecoveryKeyGiven { .. }
        | TxRefusal::KeyExpiryPast { .. }
        | TxRefusal::GrantExpiryPast { .. }
        | TxRefusal::OwnAgent { .. }
        | TxRefusal::NoDelegation { .. }
        | TxRefusal::TooManyGrants { .. }
        | TxRefusal::ProposalClosed { .. }
        | TxRefusal::ProposalExpired { .. }
        | TxRefusal::ProposalExpiry { .. }
        | TxRefusal::TooManyProposals { .. }
        | TxRefusal::AlreadyVoted { .. } => Fault::Conflict { reason },
    }
}

fn fault_of_motion(kind: &str, reason: String) -> Fault {
    match kind {
        "unauthorized" => Fault::Unauthorized { reason },
        "not_found" => Fault::not_found(reason),
        "invalid_params" => Fault::invalid(reason),
        _ => Fault::Conflict { reason },
    }
}

/// A transaction's signatures do not check out.
pub(crate) fn fault_of_signatures(fault: &TransactionFault) -> Fault {
    match fault {
        TransactionFault::Shape(TxFault::SignatureCount { got, expected }) => {
            Fault::ThresholdNotMet { have: *got, need: *expected }
        }
        TransactionFault::Shape(fault) => fault_of_shape(fault),
        other => Fault::InvalidSignature { reason: other.to_string() },
    }
}

/// The pool does not take a transaction. A duplicate is no fault: the caller looks before it inserts.
pub(crate) fn fault_of_pool(refusal: &Refusal) -> Fault {
    let reason = refusal.to_string();
    match refusal {
        Refusal::Expired { expires_ms, now_ms } => {
            Fault::AlreadyExpired { expires_ms: *expires_ms, now_ms: *now_ms }
        }
        Refusal::ExpiresTooLate { expires_ms, now_ms, window_ms } => {
            Fault::ExpiresTooLate { expires_ms: *expires_ms, latest_ms: now_ms.saturating_add(*window_ms) }
        }
        Refusal::TooLarge { .. } => Fault::invalid(reason),
        Refusal::Duplicate { .. } => Fault::Conflict { reason },
        other => Fault::MempoolFull { reason, retry_after_ms: other.retry_after_ms().unwrap_or(RETRY_MS) },
    }
}

/// The state cannot be read.
pub(crate) fn fault_of_state(error: StateError) -> Fault {
    match error {
        StateError::Pruned { what, earliest } => Fault::Pruned { what, earliest },
        error => Fault::internal(error),
    }
}
