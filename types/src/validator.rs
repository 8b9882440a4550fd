//! Validator sets and the two weights that decide everything.

use std::io::{Read, Result as IoResult};

use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

use crate::codec::{encode, invalid};
use crate::hash::{Context, Hash};
use crate::id::{Address, Epoch, ValidatorIndex, View};
use crate::key::PublicKey;

/// Validators in one set, at most. Bounds bitmaps, certificates and the mesh.
pub const VALIDATORS_MAX: usize = 1_024;
/// Total power of a set stays below this, so that `3 * power` never overflows `u128` nor sums `u64`.
pub const TOTAL_POWER_MAX: u64 = 1 << 63;

/// One validator. The scheme is the key's own.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Validator {
    /// The validator's address. At genesis the hash of its key; stays when the key is rotated.
    pub address: Address,
    /// The key that signs its votes.
    pub key: PublicKey,
    /// Voting power, at least 1.
    pub power: u64,
}

/// The validators that sign one epoch, in strictly ascending address order.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize)]
pub struct ValidatorSet {
    epoch: Epoch,
    validators: Vec<Validator>,
}

/// Why validators do not make a set.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum SetFault {
    #[error("{got} validators; expected 1 to {VALIDATORS_MAX}")]
    Count { got: usize },
    #[error("validators must be in strictly ascending address order; position {position} is not")]
    Order { position: usize },
    #[error("validator {address} has power 0; expected at least 1")]
    NoPower { address: Address },
    #[error("the total power must stay below 2^63")]
    TooMuchPower,
}

impl ValidatorSet {
    /// The set of `epoch`.
    ///
    /// # Errors
    /// When empty, too large, out of order, repeated, or with a power of zero or 2^63 in total.
    pub fn new(epoch: Epoch, validators: Vec<Validator>) -> Result<Self, SetFault> {
        if !(1..=VALIDATORS_MAX).contains(&validators.len()) {
            return Err(SetFault::Count { got: validators.len() });
        }
        let mut total = 0u64;
        let mut before: Option<Address> = None;
        for (position, validator) in validators.iter().enumerate() {
            if before.is_some_and(|before| before >= validator.address) {
                return Err(SetFault::Order { position });
            }
            before = Some(validator.address);
            if validator.power == 0 {
                return Err(SetFault::NoPower { address: validator.address });
            }
            total = total
                .checked_add(validator.power)
                .filter(|total| *total < TOTAL_POWER_MAX)
                .ok_or(SetFault::TooMuchPower)?;
        }
        Ok(Self { epoch, validators })
    }

    /// The epoch this set signs.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The validators, in address order.
    pub fn validators(&self) -> &[Validator] {
        &self.validators
    }

    /// Number of validators, 1 to [`VALIDATORS_MAX`].
    pub fn count(&self) -> usize {
        self.validators.len()
    }

    /// The validator at this position.
    pub fn get(&self, index: ValidatorIndex) -> Option<&Validator> {
        self.validators.get(usize::from(index.0))
    }

    /// The position of the validator with this address.
    pub fn index_of(&self, address: &Address) -> Option<ValidatorIndex> {
        let at = self.validators.binary_search_by(|validator| validator.address.cmp(address)).ok()?;
        u16::try_from(at).ok().map(ValidatorIndex)
    }

    /// Each position with its validator.
    pub fn indexed(&self) -> impl Iterator<Item = (ValidatorIndex, &Validator)> {
        (0u16..).map(ValidatorIndex).zip(&self.validators)
    }

    /// The power of the validator at this position; 0 for none.
    pub fn power(&self, index: ValidatorIndex) -> u64 {
        self.get(index).map_or(0, |validator| validator.power)
    }

    /// The sum of all power, below 2^63.
    pub fn total_power(&self) -> u64 {
        self.validators.iter().fold(0u64, |sum, validator| sum.saturating_add(validator.power))
    }

    /// Whether `power` is a quorum: `3 * power > 2 * total`.
    pub fn is_quorum(&self, power: u64) -> bool {
        u128::from(power).saturating_mul(3) > u128::from(self.total_power()).saturating_mul(2)
    }

    /// Whether `power` holds at least one honest validator: `3 * power >= total`.
    pub fn is_weak(&self, power: u64) -> bool {
        u128::from(power).saturating_mul(3) >= u128::from(self.total_power())
    }

    /// The leader of `view`: position `(view - 1) mod n`. View 0 has no leader; it gives position 0.
    pub fn leader(&self, view: View) -> ValidatorIndex {
        let count = (self.validators.len() as u64).max(1);
        let turn = view.get().saturating_sub(1).checked_rem(count).unwrap_or(0);
        ValidatorIndex(u16::try_from(turn).unwrap_or(0))
    }

    /// `H[validator-set](borsh ValidatorSet)`: what headers name.
    pub fn digest(&self) -> Hash {
        Context::ValidatorSet.hash(&encode(self))
    }
}

impl BorshDeserialize for ValidatorSet {
    fn deserialize_reader<R: Read>(reader: &mut R) -> IoResult<Self> {
        let epoch = Epoch::deserialize_reader(reader)?;
        let count = u32::deserialize_reader(reader)? as usize;
        if count > VALIDATORS_MAX {
            return Err(invalid(SetFault::Count { got: count }.to_string()));
        }
        let validators =
            (0..count).map(|_| Validator::deserialize_reader(reader)).collect::<IoResult<Vec<_>>>()?;
        Self::new(epoch, validators).map_err(|fault| invalid(fault.to_string()))
    }
}
