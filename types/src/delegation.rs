//! Delegation: one identity lets another anchor in its name, within a scope and limits. Agents: identities
//! that belong to another and may do only what their mandate says.

use std::fmt;
use std::io::{Read, Result as IoResult};

use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

use crate::codec::invalid;
use crate::id::{Address, Height};
use crate::transaction::{METADATA_BYTES_MAX, Proof, ProofKind, TreeKind};

/// Grants that one principal may give one delegate over time, ended ones included: the state keeps them all, so
/// that the newest one proves which was in force when.
pub const GRANTS_MAX: usize = 64;
/// Shortest period of a rate, ms: blocks are not much closer.
pub const RATE_PERIOD_MIN_MS: u64 = 1_000;
/// Longest period of a rate, ms: a leap year.
pub const RATE_PERIOD_MAX_MS: u64 = 366 * 24 * 3_600_000;

/// A set of proof kinds. Borsh: u32, bit n for the kind with discriminant n; never empty.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize)]
pub struct Kinds(u32);

impl Kinds {
    /// Every kind.
    pub const ALL: Self = Self(0x1_ffff);

    /// The set with these bits; `None` when it is empty or has an unknown kind.
    pub const fn from_bits(bits: u32) -> Option<Self> {
        if bits == 0 || bits & !Self::ALL.0 != 0 { None } else { Some(Self(bits)) }
    }

    /// The set of these kinds; `None` when there are none.
    pub fn of(kinds: impl IntoIterator<Item = ProofKind>) -> Option<Self> {
        Self::from_bits(kinds.into_iter().fold(0, |bits, kind| bits | bit(kind as u8)))
    }

    /// The bits.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether `kind` is in it.
    pub fn has(self, kind: ProofKind) -> bool {
        self.0 & bit(kind as u8) != 0
    }

    /// The kinds, in order.
    pub fn iter(self) -> impl Iterator<Item = ProofKind> {
        ProofKind::NAMES.into_iter().map(|(kind, _)| kind).filter(move |kind| self.has(*kind))
    }
}

fn bit(number: u8) -> u32 {
    1u32.checked_shl(u32::from(number)).unwrap_or(0)
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(ProofKind::name).collect();
        f.write_str(&names.join(", "))
    }
}

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl BorshDeserialize for Kinds {
    fn deserialize_reader<R: Read>(reader: &mut R) -> IoResult<Self> {
        let bits = u32::deserialize_reader(reader)?;
        Self::from_bits(bits)
            .ok_or_else(|| invalid(format!("proof kinds {bits:#x}; expected 0x1 to 0x1ffff")))
    }
}

/// What may be anchored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Scope {
    /// Proofs of these kinds.
    pub kinds: Kinds,
    /// Under this tree only; `None` = any.
    pub tree: Option<TreeKind>,
    /// With at most so many bytes of metadata, up to [`METADATA_BYTES_MAX`].
    pub metadata_bytes_max: u16,
}

impl Scope {
    /// Everything.
    pub const ALL: Self =
        Self { kinds: Kinds::ALL, tree: None, metadata_bytes_max: METADATA_BYTES_MAX as u16 };

    /// Whether it covers `proof`.
    ///
    /// # Errors
    /// What it lacks.
    pub fn check(&self, proof: &Proof) -> Result<(), Lack> {
        if !self.kinds.has(proof.kind) {
            return Err(Lack::Kind { got: proof.kind.name(), allowed: self.kinds });
        }
        match self.tree {
            Some(tree) if tree != proof.tree => {
                return Err(Lack::Tree { got: proof.tree.name(), allowed: tree.name() });
            }
            _ => {}
        }
        let (got, max) = (proof.metadata.len(), self.metadata_bytes_max);
        if got > usize::from(max) { Err(Lack::Metadata { got, max }) } else { Ok(()) }
    }
}

/// At most `count` proofs in each period, counted from the epoch of Unix time: period number = block time /
/// `period_ms`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Rate {
    /// Proofs per period, at least 1.
    pub count: u32,
    /// The period, [`RATE_PERIOD_MIN_MS`] to [`RATE_PERIOD_MAX_MS`].
    pub period_ms: u64,
}

/// What an owner lets an agent do, in its own name or another's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Mandate {
    /// What it may anchor.
    pub scope: Scope,
    /// How much; `None` = no bound.
    pub rate: Option<Rate>,
}

/// What a delegation allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Terms {
    /// What may be anchored.
    pub scope: Scope,
    /// How many proofs in all; `None` = no bound.
    pub proofs_max: Option<u64>,
    /// How many in each period; `None` = no bound.
    pub rate: Option<Rate>,
    /// Unix milliseconds: in force only in blocks with an earlier time; `None` = until revoked.
    pub expires_ms: Option<u64>,
}

/// One grant with the interval of heights in which it was, or is, in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Grant {
    /// What it allows.
    pub terms: Terms,
    /// The block that granted it; in force from the next block on.
    pub from: Height,
    /// The block that revoked or replaced it; not in force from the next block on.
    pub until: Option<Height>,
}

/// All grants of one principal to one delegate, as the authenticated map holds them. The last may be open.
#[derive(Clone, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct DelegationEntry {
    /// In order of time; at most [`GRANTS_MAX`].
    pub grants: Vec<Grant>,
}

impl DelegationEntry {
    /// The number and terms of the grant in force in the block at `height` with time `time_ms`.
    ///
    /// # Errors
    /// What is lacking.
    pub fn in_force(&self, height: Height, time_ms: u64) -> Result<(u32, &Grant), Lack> {
        let covers = |grant: &Grant| grant.from < height && grant.until.is_none_or(|until| height <= until);
        let Some((number, grant)) = (0u32..).zip(&self.grants).find(|(_, grant)| covers(grant)) else {
            let before = self.grants.iter().rfind(|grant| grant.from < height);
            return Err(match before.and_then(|grant| grant.until) {
                Some(at) => Lack::Revoked { at },
                None => Lack::NeverGranted,
            });
        };
        match grant.terms.expires_ms {
            Some(expires_ms) if time_ms >= expires_ms => Err(Lack::Expired { expires_ms }),
            _ => Ok((number, grant)),
        }
    }

    /// The grant that has not been ended by anyone.
    pub fn open(&self) -> Option<&Grant> {
        self.grants.last().filter(|grant| grant.until.is_none())
    }
}

/// What has been used of a grant or a mandate, as the authenticated map holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct Usage {
    /// The number of the grant, or the mandate's revision, that this counts for.
    pub of: u32,
    /// Proofs in all.
    pub total: u64,
    /// The period that `used` counts for.
    pub period: u64,
    /// Proofs in that period.
    pub used: u32,
}

impl Usage {
    /// Counts one proof at `time_ms` under grant (or mandate revision) `of`.
    ///
    /// # Errors
    /// The limit it would break; nothing is counted then.
    pub fn spend(
        &mut self,
        of: u32,
        proofs_max: Option<u64>,
        rate: Option<Rate>,
        time_ms: u64,
    ) -> Result<(), Lack> {
        let mut next = if self.of == of { *self } else { Self { of, ..Self::default() } };
        if let Some(max) = proofs_max
            && next.total >= max
        {
            return Err(Lack::Count { max });
        }
        if let Some(Rate { count, period_ms }) = rate {
            let period = time_ms.checked_div(period_ms).unwrap_or(0);
            if next.period != period {
                next.period = period;
                next.used = 0;
            }
            if next.used >= count {
                let next_ms = period.saturating_add(1).saturating_mul(period_ms);
                return Err(Lack::Rate { count, period_ms, next_ms });
            }
            next.used = next.used.saturating_add(1);
        }
        next.total = next.total.saturating_add(1);
        *self = next;
        Ok(())
    }
}

/// What a proof lacks to be anchored by an agent, or on behalf of another.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum Lack {
    #[error("nothing was ever granted")]
    NeverGranted,
    #[error("the grant ended at height {at}")]
    Revoked { at: Height },
    #[error("the grant expired at {expires_ms} (Unix ms)")]
    Expired { expires_ms: u64 },
    #[error("kind {got} is outside the scope ({allowed})")]
    Kind { got: &'static str, allowed: Kinds },
    #[error("tree {got} is outside the scope ({allowed})")]
    Tree { got: &'static str, allowed: &'static str },
    #[error("{got} bytes of metadata are outside the scope (at most {max})")]
    Metadata { got: usize, max: u16 },
    #[error("all {max} proofs granted have been used")]
    Count { max: u64 },
    #[error(
        "{count} proofs per {period_ms} ms have been used; the next period begins at {next_ms} (Unix ms)"
    )]
    Rate { count: u32, period_ms: u64, next_ms: u64 },
    #[error("the principal is no registered identity")]
    NoPrincipal,
    #[error("the principal was deactivated at height {at}")]
    PrincipalGone { at: Height },
    #[error("its owner has not confirmed it with a mandate")]
    NoMandate,
}

impl Lack {
    /// Whether waiting alone may mend it.
    pub const fn may_pass_later(&self) -> bool {
        matches!(self, Self::Rate { .. })
    }
}

/// A change to what another identity may do for the sender.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum DelegationOp {
    /// Lets `delegate` anchor on the sender's behalf. Replaces what was granted to it before.
    Grant {
        /// Who may act.
        delegate: Address,
        /// What it may do.
        terms: Terms,
    } = 0,
    /// Ends what was granted to `delegate`.
    Revoke {
        /// Who may act no more.
        delegate: Address,
    } = 1,
    /// Sent by a delegate: gives back what `principal` granted.
    Renounce {
        /// On whose behalf the sender acts no more.
        principal: Address,
    } = 2,
    /// Sent by an owner: confirms an agent that named it, or changes what the agent may do.
    SetAgent {
        /// The agent.
        agent: Address,
        /// What it may do from now on.
        mandate: Mandate,
    } = 3,
    /// Sent by an owner: ends an agent's identity for good.
    RetireAgent {
        /// The agent.
        agent: Address,
    } = 4,
}

/// Why a delegation's own bytes break the rules, whatever the state.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum DelegationFault {
    #[error("a scope with {got} bytes of metadata; expected at most {METADATA_BYTES_MAX}")]
    Metadata { got: u16 },
    #[error("a rate of 0 proofs; expected at least 1")]
    NoRate,
    #[error("a rate per {got} ms; expected {RATE_PERIOD_MIN_MS} to {RATE_PERIOD_MAX_MS}")]
    Period { got: u64 },
    #[error("a delegation of 0 proofs; expected at least 1, or no bound")]
    NoProofs,
    #[error("an identity needs no delegation to act for itself")]
    ToItself,
}

impl DelegationOp {
    /// The other identity it names.
    pub const fn other(&self) -> Address {
        match self {
            Self::Grant { delegate, .. } | Self::Revoke { delegate } => *delegate,
            Self::Renounce { principal } => *principal,
            Self::SetAgent { agent, .. } | Self::RetireAgent { agent } => *agent,
        }
    }

    /// Checks every rule that needs no state.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn check_shape(&self, sender: Address) -> Result<(), DelegationFault> {
        if self.other() == sender {
            return Err(DelegationFault::ToItself);
        }
        match self {
            Self::Grant { terms, .. } => {
                if terms.proofs_max == Some(0) {
                    return Err(DelegationFault::NoProofs);
                }
                check_limits(&terms.scope, terms.rate)
            }
            Self::SetAgent { mandate, .. } => check_limits(&mandate.scope, mandate.rate),
            Self::Revoke { .. } | Self::Renounce { .. } | Self::RetireAgent { .. } => Ok(()),
        }
    }
}

fn check_limits(scope: &Scope, rate: Option<Rate>) -> Result<(), DelegationFault> {
    if usize::from(scope.metadata_bytes_max) > METADATA_BYTES_MAX {
        return Err(DelegationFault::Metadata { got: scope.metadata_bytes_max });
    }
    match rate {
        Some(Rate { count: 0, .. }) => Err(DelegationFault::NoRate),
        Some(Rate { period_ms, .. }) if !(RATE_PERIOD_MIN_MS..=RATE_PERIOD_MAX_MS).contains(&period_ms) => {
            Err(DelegationFault::Period { got: period_ms })
        }
        _ => Ok(()),
    }
}

/// A delegation with what has been used of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delegation {
    /// Who granted.
    pub principal: Address,
    /// Who may act.
    pub delegate: Address,
    /// Every grant there was.
    pub entry: DelegationEntry,
    /// What has been used of the last one that had limits.
    pub usage: Usage,
}

/// Which side of a delegation is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// What an identity has granted.
    Given,
    /// What has been granted to it.
    Received,
}
