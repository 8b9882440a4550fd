//! Whose a journal is: every file says so.

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_types::{Address, ChainId};

use crate::fault::JournalFault;

/// Whose signatures a journal records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Owner {
    /// The validator's address.
    pub validator: Address,
    /// The chain it signs for.
    pub chain: ChainId,
}

impl Owner {
    /// Refuses another key's or another chain's files: these are in `place`.
    pub(crate) fn check(self, place: &str, expected: Self) -> Result<(), JournalFault> {
        let place = place.to_owned();
        if self.chain != expected.chain {
            return Err(JournalFault::WrongChain { place, got: self.chain, expected: expected.chain });
        }
        if self.validator != expected.validator {
            let (got, expected) = (self.validator, expected.validator);
            return Err(JournalFault::WrongValidator { place, got, expected });
        }
        Ok(())
    }
}
