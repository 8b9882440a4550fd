//! Governance: changes of the validator set, the parameters and the protocol version, proposed and approved
//! by the validators themselves (FORMATS, "Governance").

use std::collections::BTreeMap;
use std::io::{Read, Result as IoResult};

use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

use crate::certificate::read_list;
use crate::codec::invalid;
use crate::genesis::{ParamFault, Params};
use crate::id::{Address, Height, TxId};
use crate::key::PublicKey;
use crate::validator::{SetFault, Validator, ValidatorSet};

/// Changes of one motion, at most. Bounds a motion's bytes to 16 kB of keys.
pub const CHANGES_MAX: usize = 8;
/// How long a motion may stay open, ms: thirty days. A forgotten one must not be enacted years later.
pub const MOTION_LIFE_MS_MAX: u64 = 30 * 24 * 3_600 * 1_000;

/// What a validator asks for or agrees to. A motion is named by the id of the transaction that proposed it.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum GovernanceOp {
    /// Opens a motion, which its proposer approves by that.
    Propose {
        /// What is to change, all at once, in this order.
        changes: Changes,
        /// How long the motion stays open from the block's time on, 1 to [`MOTION_LIFE_MS_MAX`].
        life_ms: u64,
    } = 0,
    /// Approves an open motion. More than two thirds of the power enact it, and end the epoch.
    Approve(TxId) = 1,
    /// Takes an open motion back; only its proposer may.
    Withdraw(TxId) = 2,
}

/// The changes of a motion: 1 to [`CHANGES_MAX`], bounded while decoding.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize)]
pub struct Changes(pub Vec<Change>);

impl BorshDeserialize for Changes {
    fn deserialize_reader<R: Read>(reader: &mut R) -> IoResult<Self> {
        let changes: Vec<Change> = read_list(reader, CHANGES_MAX)?;
        if changes.is_empty() {
            return Err(invalid(format!("0 changes where 1 to {CHANGES_MAX} are allowed")));
        }
        Ok(Self(changes))
    }
}

/// One change, in force from the next epoch on.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Change {
    /// A validator joins. Its address is its key's.
    Join {
        /// The key that signs its votes.
        key: PublicKey,
        /// Its power, at least 1.
        power: u64,
    } = 0,
    /// A validator leaves.
    Leave(Address) = 1,
    /// A validator's power changes.
    Power {
        /// Who.
        validator: Address,
        /// Its new power, at least 1.
        power: u64,
    } = 2,
    /// A validator signs with another key from the next epoch on, of the same scheme or another. Its address stays.
    Rotate {
        /// Who.
        validator: Address,
        /// The new key.
        key: PublicKey,
    } = 3,
    /// New network parameters. The replay window must stay as it is.
    Params(Params) = 4,
    /// A higher protocol version.
    Protocol(u8) = 5,
}

/// Motions open at one time, at most, and so the bytes that governance adds to the state.
pub const MOTIONS_MAX: usize = 16;
/// Motions of one validator open at one time, at most: no single one can keep the others from proposing.
pub const MOTIONS_OF_ONE_MAX: usize = 4;

/// An open motion, as the state holds it.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Motion {
    /// The transaction that proposed it.
    pub id: TxId,
    /// Who proposed it.
    pub proposer: Address,
    /// What is to change.
    pub changes: Changes,
    /// The block that it was proposed in.
    pub height: Height,
    /// Unix milliseconds of a block's time from which on it is closed.
    pub expires_ms: u64,
    /// Who approved it, the proposer first, in order of approval.
    pub approvals: Vec<Address>,
}

impl Motion {
    /// The power of those of `set` that approved it. Who left the set since does not count.
    pub fn power(&self, set: &ValidatorSet) -> u64 {
        let powers = self.approvals.iter().filter_map(|it| set.index_of(it)).map(|index| set.power(index));
        powers.fold(0, u64::saturating_add)
    }
}

/// What an epoch is run by, and what changes work on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Regime {
    /// The validators.
    pub set: ValidatorSet,
    /// The network's parameters.
    pub params: Params,
    /// The protocol version: that of the epoch's headers.
    pub protocol: u8,
}

/// Why changes cannot be made.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum ChangeFault {
    #[error("{address} is a validator already; expected a key that is new to the set")]
    AlreadyValidator { address: Address },
    #[error("{address} is not a validator of the current epoch")]
    NotValidator { address: Address },
    #[error("{address} has power {power} already; expected another")]
    SamePower { address: Address, power: u64 },
    #[error("that key signs for validator {address} already; expected a key of its own for each validator")]
    KeyInUse { address: Address },
    #[error("the next set cannot be: {0}")]
    Set(#[from] SetFault),
    #[error("the parameters cannot be: {0}")]
    Params(#[from] ParamFault),
    #[error("the replay window is fixed for the chain's life at {expected} ms; got {got} ms")]
    ReplayWindow { got: u64, expected: u64 },
    #[error("these are the parameters already in force")]
    SameParams,
    #[error("protocol version {got}; expected more than the current {current}")]
    ProtocolNotHigher { got: u8, current: u8 },
}

impl Regime {
    /// What the next epoch is run by when all of `changes` are made, in order.
    ///
    /// # Errors
    /// The first change that cannot be made, or why the outcome cannot be.
    pub fn after(&self, changes: &[Change]) -> Result<Self, ChangeFault> {
        let mut validators: BTreeMap<Address, Validator> =
            self.set.validators().iter().map(|it| (it.address, it.clone())).collect();
        let (mut params, mut protocol) = (self.params, self.protocol);
        for change in changes {
            match change {
                Change::Params(wanted) => params = checked_params(&params, wanted)?,
                Change::Protocol(got) if *got <= protocol => {
                    return Err(ChangeFault::ProtocolNotHigher { got: *got, current: protocol });
                }
                Change::Protocol(wanted) => protocol = *wanted,
                change => change_validators(&mut validators, change)?,
            }
        }
        let set = ValidatorSet::new(self.set.epoch().next(), validators.into_values().collect())?;
        Ok(Self { set, params, protocol })
    }

    /// What the next epoch is run by when this validator is excluded.
    ///
    /// # Errors
    /// When it is not in the set, or nobody would be left.
    pub fn without(&self, culprit: Address) -> Result<Self, ChangeFault> {
        self.after(&[Change::Leave(culprit)])
    }
}

fn checked_params(current: &Params, wanted: &Params) -> Result<Params, ChangeFault> {
    let (got, expected) = (wanted.replay_window_ms, current.replay_window_ms);
    if got != expected {
        return Err(ChangeFault::ReplayWindow { got, expected });
    }
    if wanted == current {
        return Err(ChangeFault::SameParams);
    }
    wanted.check()?;
    Ok(*wanted)
}

fn change_validators(
    validators: &mut BTreeMap<Address, Validator>,
    change: &Change,
) -> Result<(), ChangeFault> {
    match change {
        Change::Join { key, power } => {
            let address = key.address();
            if validators.contains_key(&address) {
                return Err(ChangeFault::AlreadyValidator { address });
            }
            check_key_free(validators, key)?;
            validators.insert(address, Validator { address, key: key.clone(), power: *power });
        }
        Change::Leave(address) => {
            validators.remove(address).ok_or(ChangeFault::NotValidator { address: *address })?;
        }
        Change::Power { validator: address, power } => {
            let held = validator_mut(validators, address)?;
            if held.power == *power {
                return Err(ChangeFault::SamePower { address: *address, power: *power });
            }
            held.power = *power;
        }
        Change::Rotate { validator, key } => {
            check_key_free(validators, key)?;
            // An address is its first key's hash: another's must stay free for the key that hashes to it.
            if key.address() != *validator && validators.contains_key(&key.address()) {
                return Err(ChangeFault::KeyInUse { address: key.address() });
            }
            validator_mut(validators, validator)?.key = key.clone();
        }
        Change::Params(_) | Change::Protocol(_) => {}
    }
    Ok(())
}

fn validator_mut<'a>(
    validators: &'a mut BTreeMap<Address, Validator>,
    address: &Address,
) -> Result<&'a mut Validator, ChangeFault> {
    validators.get_mut(address).ok_or(ChangeFault::NotValidator { address: *address })
}

fn check_key_free(validators: &BTreeMap<Address, Validator>, key: &PublicKey) -> Result<(), ChangeFault> {
    match validators.values().find(|it| it.key == *key) {
        Some(holder) => Err(ChangeFault::KeyInUse { address: holder.address }),
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "governance_tests.rs"]
mod tests;
