//! Governance and evidence: what an epoch is run by, who may propose and approve changes of it, and when they
//! are enacted. Pure: no storage, no time but the one given.

use std::sync::Arc;

use cairn_types::governance::{MOTION_LIFE_MS_MAX, MOTIONS_MAX, MOTIONS_OF_ONE_MAX};
use cairn_types::{
    Address, Admission, ChainId, Change, ChangeFault, Epoch, Evidence, GovernanceOp, Hash, Height, KeyRef,
    Motion, Params, Payload, Regime, Transaction, TxId, Validator, ValidatorIndex, ValidatorSet,
};
use thiserror::Error;

/// What never changes within an epoch.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) chain: ChainId,
    pub(crate) params: Params,
    pub(crate) admission: Admission,
    pub(crate) set: Arc<ValidatorSet>,
    pub(crate) set_digest: Hash,
    pub(crate) protocol: u8,
    /// The set of the epoch before, whose offences still count.
    pub(crate) previous: Option<Arc<ValidatorSet>>,
}

/// Why a governance transaction or evidence is refused.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum GovernanceRefusal {
    #[error("{address} is not a validator of epoch {epoch}: only validators propose, approve and withdraw")]
    NotValidator { address: Address, epoch: Epoch },
    #[error(
        "governance of {address} is signed with its validator key of epoch {epoch}, inline and alone, whatever its account's policy"
    )]
    NotValidatorKey { address: Address, epoch: Epoch },
    #[error("a motion stays open for 1 to {MOTION_LIFE_MS_MAX} ms; got {got}")]
    Life { got: u64 },
    #[error("{open} motions are open, the most allowed: approve, withdraw or wait for one to expire")]
    TooManyMotions { open: usize },
    #[error("{address} has {open} open motions, the most allowed for one validator")]
    TooManyOfOne { address: Address, open: usize },
    #[error("no motion {id} is open: it was enacted, withdrawn, has expired, or never was")]
    UnknownMotion { id: TxId },
    #[error("{address} approved motion {id} already")]
    AlreadyApproved { address: Address, id: TxId },
    #[error("only {proposer}, who proposed motion {id}, may withdraw it")]
    NotProposer { id: TxId, proposer: Address },
    #[error(transparent)]
    Change(#[from] ChangeFault),
    #[error("this block ends the epoch already: the next change waits for the next epoch")]
    EpochEnds,
    #[error("evidence of epoch {got}; in epoch {current} only offences of it and of the epoch before count")]
    EvidenceEpoch { got: Epoch, current: Epoch },
    #[error("evidence against validator {got} of epoch {epoch}, which has {count}")]
    UnknownAccused { got: ValidatorIndex, epoch: Epoch, count: usize },
}

impl GovernanceRefusal {
    /// The error kind of the interfaces.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::NotValidator { .. } | Self::NotValidatorKey { .. } | Self::NotProposer { .. } => {
                "unauthorized"
            }
            Self::UnknownMotion { .. } => "not_found",
            Self::Life { .. } | Self::UnknownAccused { .. } => "invalid_params",
            Self::TooManyMotions { .. }
            | Self::TooManyOfOne { .. }
            | Self::AlreadyApproved { .. }
            | Self::Change(_)
            | Self::EpochEnds
            | Self::EvidenceEpoch { .. } => "conflict",
        }
    }
}

/// What a step of governance leaves: the open motions, and what the next epoch is run by when it ends this one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Governed {
    pub(crate) motions: Vec<Motion>,
    pub(crate) enacted: Option<Regime>,
}

/// The block and the sender of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) sender: Address,
    pub(crate) tx: TxId,
    pub(crate) height: Height,
    pub(crate) time_ms: u64,
}

impl Rules {
    pub(crate) fn regime(&self) -> Regime {
        Regime { set: (*self.set).clone(), params: self.params, protocol: self.protocol }
    }

    /// The rules of the epoch after this one.
    pub(crate) fn next(&self, regime: Regime) -> Self {
        Self {
            chain: self.chain,
            params: regime.params,
            admission: self.admission,
            set_digest: regime.set.digest(),
            set: Arc::new(regime.set),
            protocol: regime.protocol,
            previous: Some(Arc::clone(&self.set)),
        }
    }

    /// The validator that evidence accuses, as it was in the epoch of the offence.
    pub(crate) fn accused(&self, evidence: &Evidence) -> Result<&Validator, GovernanceRefusal> {
        let (got, current) = (evidence.epoch, self.set.epoch());
        let set = match &self.previous {
            _ if got == current => &self.set,
            Some(previous) if previous.epoch() == got => previous,
            _ => return Err(GovernanceRefusal::EvidenceEpoch { got, current }),
        };
        let index = evidence.validator;
        let unknown = GovernanceRefusal::UnknownAccused { got: index, epoch: got, count: set.count() };
        set.get(index).ok_or(unknown)
    }

    /// The key that signs in place of the account's: a validator's own, for governance always, for evidence
    /// when it is the one given. `None` when the account's policy decides.
    pub(crate) fn validator_key(&self, tx: &Transaction) -> Result<Option<Address>, GovernanceRefusal> {
        if !tx.may_use_validator_key() {
            return Ok(None);
        }
        let (address, epoch) = (tx.sender, self.set.epoch());
        let is_governance = matches!(tx.payload, Payload::Governance(_));
        let validator = self.set.index_of(&address).and_then(|index| self.set.get(index));
        let signs = |it: &&Validator| matches!(tx.keys.as_slice(), [KeyRef::Inline(key)] if *key == it.key);
        match (validator, is_governance) {
            (None, true) => Err(GovernanceRefusal::NotValidator { address, epoch }),
            (Some(it), true) if !signs(&it) => Err(GovernanceRefusal::NotValidatorKey { address, epoch }),
            (it, _) => Ok(it.filter(signs).map(|it| it.key.address())),
        }
    }
}

/// Applies one step of governance to the motions as they stand, expired ones included.
pub(crate) fn govern(
    op: &GovernanceOp,
    at: Moment,
    rules: &Rules,
    mut motions: Vec<Motion>,
) -> Result<Governed, GovernanceRefusal> {
    motions.retain(|motion| motion.expires_ms > at.time_ms);
    match op {
        GovernanceOp::Propose { changes, life_ms } => {
            check_room(&motions, at.sender)?;
            if !(1..=MOTION_LIFE_MS_MAX).contains(life_ms) {
                return Err(GovernanceRefusal::Life { got: *life_ms });
            }
            rules.regime().after(&changes.0)?; // nobody is asked to approve the impossible
            motions.push(Motion {
                id: at.tx,
                proposer: at.sender,
                changes: changes.clone(),
                height: at.height,
                expires_ms: at.time_ms.saturating_add(*life_ms),
                approvals: vec![at.sender],
            });
            enact_if_approved(motions, at.tx, rules)
        }
        GovernanceOp::Approve(id) => {
            let motion = find(&mut motions, id)?;
            if !motion.approvals.contains(&at.sender) {
                motion.approvals.push(at.sender);
            } else if !rules.set.is_quorum(motion.power(&rules.set)) {
                // Whoever approved already may still enact what a change of the set has made a quorum.
                return Err(GovernanceRefusal::AlreadyApproved { address: at.sender, id: *id });
            }
            enact_if_approved(motions, *id, rules)
        }
        GovernanceOp::Withdraw(id) => {
            let proposer = find(&mut motions, id)?.proposer;
            if proposer != at.sender {
                return Err(GovernanceRefusal::NotProposer { id: *id, proposer });
            }
            motions.retain(|motion| motion.id != *id);
            Ok(Governed { motions, enacted: None })
        }
    }
}

/// What proven evidence leads to: the accused is out of the next epoch's set. The last validator stays, for a
/// chain without any could never heal.
pub(crate) fn convict(evidence: &Evidence, rules: &Rules) -> Result<Regime, GovernanceRefusal> {
    let culprit = rules.accused(evidence)?.address;
    Ok(rules.regime().after(&[Change::Leave(culprit)])?)
}

fn check_room(motions: &[Motion], sender: Address) -> Result<(), GovernanceRefusal> {
    let own = motions.iter().filter(|motion| motion.proposer == sender).count();
    if own >= MOTIONS_OF_ONE_MAX {
        return Err(GovernanceRefusal::TooManyOfOne { address: sender, open: own });
    }
    if motions.len() >= MOTIONS_MAX {
        return Err(GovernanceRefusal::TooManyMotions { open: motions.len() });
    }
    Ok(())
}

fn find<'a>(motions: &'a mut [Motion], id: &TxId) -> Result<&'a mut Motion, GovernanceRefusal> {
    motions.iter_mut().find(|motion| motion.id == *id).ok_or(GovernanceRefusal::UnknownMotion { id: *id })
}

fn enact_if_approved(
    mut motions: Vec<Motion>,
    id: TxId,
    rules: &Rules,
) -> Result<Governed, GovernanceRefusal> {
    let motion = find(&mut motions, &id)?;
    if !rules.set.is_quorum(motion.power(&rules.set)) {
        return Ok(Governed { motions, enacted: None });
    }
    // The set may have changed since it was proposed.
    let regime = rules.regime().after(&motion.changes.0)?;
    motions.retain(|motion| motion.id != id);
    Ok(Governed { motions, enacted: Some(regime) })
}
