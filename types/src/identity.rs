//! Identities: who may sign for an address, and since when.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::id::{Address, Height};
use crate::key::PublicKey;

/// Keys one identity may hold over its life, retired ones included.
pub const IDENTITY_KEYS_MAX: usize = 256;

/// A registered identity, as the state holds it.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Identity {
    /// Its address: the hash of its first key, and unchanged by rotation.
    pub address: Address,
    /// How many different keys must sign.
    pub threshold: u16,
    /// All keys ever held; the position is the key index and is never reused.
    pub keys: Vec<IdentityKey>,
    /// Whether a registrar has admitted it (always true on an open chain once registered).
    pub admitted: bool,
}

/// One key of an identity, with the interval of heights in which it may sign.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct IdentityKey {
    /// The key.
    pub key: PublicKey,
    /// The block that added it; usable from the next block on.
    pub from: Height,
    /// The block that retired it; unusable from the next block on.
    pub until: Option<Height>,
}

impl Identity {
    /// The key with this index, when it may sign now.
    pub fn active_key(&self, index: u16) -> Option<&PublicKey> {
        self.keys.get(usize::from(index)).filter(|key| key.until.is_none()).map(|key| &key.key)
    }

    /// The index and key of each key that may sign now.
    pub fn active_keys(&self) -> impl Iterator<Item = (u16, &IdentityKey)> {
        (0u16..).zip(&self.keys).filter(|(_, key)| key.until.is_none())
    }
}

/// A change to the sender's identity (or, for `Admit`, a registrar's admission of another).
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum IdentityOp {
    /// Registers the sender, whose inline key becomes key 0.
    Register = 0,
    /// Adds a key under the next free index.
    AddKey(PublicKey) = 1,
    /// Retires key `index` and adds `key` under the next free index, in one step.
    RotateKey {
        /// The key to retire.
        index: u16,
        /// Its successor.
        key: PublicKey,
    } = 2,
    /// Retires a key. The identity must keep at least `threshold` active keys.
    RevokeKey(u16) = 3,
    /// Sets how many keys must sign; at least 1, at most the number of active keys.
    SetThreshold(u16) = 4,
    /// Sent by the registrar of a chain with registered admission: lets `Address` anchor.
    Admit(Address) = 5,
}
