//! Identifiers and counters. Each kind is a type of its own, so a block id is never taken for a
//! transaction id, nor a view for a height.

use std::cmp::Ordering;
use std::fmt;
use std::hash::Hasher as StdHasher;
use std::io::{Read, Result as IoResult, Write};
use std::marker::PhantomData;

use borsh::{BorshDeserialize, BorshSerialize};

use crate::hash::Hash;

/// Markers that tell the kinds of [`Id`] and [`Counter`] apart.
#[expect(missing_docs, reason = "each marker is named after the kind it marks")]
pub mod kind {
    pub enum Chain {}
    pub enum Address {}
    pub enum Tx {}
    pub enum Proof {}
    pub enum Block {}
    pub enum Epoch {}
    pub enum View {}
    pub enum Height {}
}

/// A 32-byte identifier of one kind of object.
pub struct Id<K> {
    hash: Hash,
    kind: PhantomData<fn() -> K>,
}

/// The chain's identity: the genesis hash.
pub type ChainId = Id<kind::Chain>;
/// An identity's address: `H[address](scheme id ‖ public key)` of its first key.
pub type Address = Id<kind::Address>;
/// A transaction's id: `H[tx](borsh Transaction)`, without signatures.
pub type TxId = Id<kind::Tx>;
/// A proof's id: `H[proof](chain ‖ sender ‖ borsh Proof)`.
pub type ProofId = Id<kind::Proof>;
/// A block's id: `H[block](borsh Header)`.
pub type BlockId = Id<kind::Block>;

impl<K> Id<K> {
    /// The id whose bytes are `hash`.
    pub const fn new(hash: Hash) -> Self {
        Self { hash, kind: PhantomData }
    }

    /// All zero bytes: the parent of block 0, and nothing else.
    pub const ZERO: Self = Self::new(Hash([0; 32]));

    /// The bytes as a hash.
    pub const fn hash(&self) -> Hash {
        self.hash
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        self.hash.as_bytes()
    }

    /// Reads 64 hex digits, with or without a leading `0x`.
    pub fn from_hex(text: &str) -> Option<Self> {
        Hash::from_hex(text).map(Self::new)
    }
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Id<K> {}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.hash.cmp(&other.hash)
    }
}
impl<K> std::hash::Hash for Id<K> {
    fn hash<H: StdHasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}
impl<K> Default for Id<K> {
    fn default() -> Self {
        Self::ZERO
    }
}
impl<K> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hash.fmt(f)
    }
}
impl<K> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hash.fmt(f)
    }
}
impl<K> BorshSerialize for Id<K> {
    fn serialize<W: Write>(&self, writer: &mut W) -> IoResult<()> {
        self.hash.serialize(writer)
    }
}
impl<K> BorshDeserialize for Id<K> {
    fn deserialize_reader<R: Read>(reader: &mut R) -> IoResult<Self> {
        Hash::deserialize_reader(reader).map(Self::new)
    }
}

/// A 64-bit counter of one kind. It has no arithmetic but [`Counter::next`] and [`Counter::previous`].
pub struct Counter<K> {
    value: u64,
    kind: PhantomData<fn() -> K>,
}

/// The number of a validator set. The genesis set is epoch 0.
pub type Epoch = Counter<kind::Epoch>;
/// A consensus view within its epoch. View 0 has an implicit certificate, the first leader leads view 1.
pub type View = Counter<kind::View>;
/// A block's distance from block 0.
pub type Height = Counter<kind::Height>;

impl<K> Counter<K> {
    /// The counter with this value.
    pub const fn new(value: u64) -> Self {
        Self { value, kind: PhantomData }
    }

    /// Zero.
    pub const ZERO: Self = Self::new(0);

    /// The value.
    pub const fn get(self) -> u64 {
        self.value
    }

    /// One more. Stays at `u64::MAX`, which no honest quorum ever signs.
    #[must_use]
    pub const fn next(self) -> Self {
        Self::new(self.value.saturating_add(1))
    }

    /// One less, or `None` for zero.
    pub const fn previous(self) -> Option<Self> {
        match self.value.checked_sub(1) {
            Some(value) => Some(Self::new(value)),
            None => None,
        }
    }

    /// Whether `self` is exactly one more than `other`.
    pub const fn follows(self, other: Self) -> bool {
        match other.value.checked_add(1) {
            Some(next) => next == self.value,
            None => false,
        }
    }
}

impl<K> Clone for Counter<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Counter<K> {}
impl<K> PartialEq for Counter<K> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}
impl<K> Eq for Counter<K> {}
impl<K> PartialOrd for Counter<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Counter<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.value.cmp(&other.value)
    }
}
impl<K> std::hash::Hash for Counter<K> {
    fn hash<H: StdHasher>(&self, state: &mut H) {
        self.value.hash(state);
    }
}
impl<K> Default for Counter<K> {
    fn default() -> Self {
        Self::ZERO
    }
}
impl<K> fmt::Display for Counter<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}
impl<K> fmt::Debug for Counter<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}
impl<K> BorshSerialize for Counter<K> {
    fn serialize<W: Write>(&self, writer: &mut W) -> IoResult<()> {
        self.value.serialize(writer)
    }
}
impl<K> BorshDeserialize for Counter<K> {
    fn deserialize_reader<R: Read>(reader: &mut R) -> IoResult<Self> {
        u64::deserialize_reader(reader).map(Self::new)
    }
}

/// A validator's position in its epoch's set, which is in address order.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, BorshSerialize, BorshDeserialize,
)]
pub struct ValidatorIndex(pub u16);

impl fmt::Display for ValidatorIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
