//! Proofs of what the authenticated map holds, or does not hold, under a key: verified against a header's
//! `state_root` with nothing but hashing (FORMATS, "State proofs").

use std::io::{Read, Result as IoResult};

use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

use crate::codec::invalid;
use crate::hash::{Context, Hash};
use crate::key::read_bytes;
use crate::state_key::StateKey;

/// Siblings of one path: one per bit of a key hash.
pub const STATE_SIBLINGS_MAX: usize = 256;
/// Bytes of a value inside a proof: the largest set of validators has 2 MB.
pub const STATE_VALUE_BYTES_MAX: usize = 4 << 20;

/// The hash of a subtree that holds nothing.
pub const EMPTY: Hash = Hash(*b"SPARSE_MERKLE_PLACEHOLDER_HASH__");
/// What precedes the two hashes of a leaf.
const LEAF: &[u8] = b"JMT::LeafNode";
/// What precedes the two hashes of an inner node.
const INNER: &[u8] = b"JMT::IntrnalNode";

/// What stands where a key's path ends.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum PathEnd {
    /// Nothing: the key is absent.
    Empty = 0,
    /// The only leaf of the subtree, of another key: the key is absent.
    Other {
        /// That leaf's key hash.
        key_hash: Hash,
        /// That leaf's value hash.
        value_hash: Hash,
    } = 1,
    /// The key's own leaf, with these bytes as its value.
    Value(Vec<u8>) = 2,
}

impl BorshDeserialize for PathEnd {
    fn deserialize_reader<R: Read>(reader: &mut R) -> IoResult<Self> {
        match u8::deserialize_reader(reader)? {
            0 => Ok(Self::Empty),
            1 => {
                let key_hash = Hash::deserialize_reader(reader)?;
                Ok(Self::Other { key_hash, value_hash: Hash::deserialize_reader(reader)? })
            }
            2 => read_bytes(reader, STATE_VALUE_BYTES_MAX).map(Self::Value),
            other => Err(invalid(format!("path end {other}; expected 0 to 2"))),
        }
    }
}

/// A proof of membership or absence. For one root and one key there is exactly one that verifies.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize)]
pub struct StateProof {
    /// What stands at the end of the key's path.
    pub end: PathEnd,
    /// The siblings of the path, deepest first; at most [`STATE_SIBLINGS_MAX`].
    pub siblings: Vec<Hash>,
}

impl BorshDeserialize for StateProof {
    fn deserialize_reader<R: Read>(reader: &mut R) -> IoResult<Self> {
        let end = PathEnd::deserialize_reader(reader)?;
        let count = u32::deserialize_reader(reader)? as usize;
        if count > STATE_SIBLINGS_MAX {
            return Err(invalid(format!("{count} siblings where at most {STATE_SIBLINGS_MAX} are allowed")));
        }
        let siblings = (0..count).map(|_| Hash::deserialize_reader(reader)).collect::<IoResult<_>>()?;
        Ok(Self { end, siblings })
    }
}

/// Why a proof does not hold.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum StateProofFault {
    #[error("{got} siblings; a path has at most {STATE_SIBLINGS_MAX}")]
    TooDeep { got: usize },
    #[error("the leaf that is said to be another's is the key's own")]
    OwnLeaf,
    #[error("the leaf shares {shared} bits with the key; {needed} are needed to stand in for it")]
    OtherBranch { shared: usize, needed: usize },
    #[error("the proof leads to state root {got}; expected {expected}")]
    Root { got: Hash, expected: Hash },
}

impl StateProof {
    /// Checks the proof for `key` against a header's `state_root`: the value's bytes, or `None` when the
    /// proof shows that there is none.
    ///
    /// # Errors
    /// Why it shows neither.
    pub fn verify(&self, key: &StateKey, state_root: Hash) -> Result<Option<&[u8]>, StateProofFault> {
        self.verify_hashed(key.hash(), state_root)
    }

    fn verify_hashed(&self, key: Hash, expected: Hash) -> Result<Option<&[u8]>, StateProofFault> {
        let needed = self.siblings.len();
        if needed > STATE_SIBLINGS_MAX {
            return Err(StateProofFault::TooDeep { got: needed });
        }
        let (below, value) = match &self.end {
            PathEnd::Empty => (EMPTY, None),
            PathEnd::Other { key_hash, value_hash } => {
                let shared = shared_bits(&key, key_hash);
                if key == *key_hash {
                    return Err(StateProofFault::OwnLeaf);
                }
                if shared < needed {
                    return Err(StateProofFault::OtherBranch { shared, needed });
                }
                (leaf(key_hash, value_hash), None)
            }
            PathEnd::Value(value) => (leaf(&key, &Context::State.hash(value)), Some(value.as_slice())),
        };
        // The sibling at position p is at depth needed - 1 - p; the bit there says which side is ours.
        let depths = (0..needed).rev();
        let got = self.siblings.iter().zip(depths).fold(below, |below, (sibling, depth)| {
            if bit(&key, depth) { inner(sibling, &below) } else { inner(&below, sibling) }
        });
        if got == expected { Ok(value) } else { Err(StateProofFault::Root { got, expected }) }
    }
}

/// The hash of a leaf.
pub fn leaf(key_hash: &Hash, value_hash: &Hash) -> Hash {
    Context::State.hash_parts(&[LEAF, key_hash.as_bytes(), value_hash.as_bytes()])
}

/// The hash of an inner node.
pub fn inner(left: &Hash, right: &Hash) -> Hash {
    Context::State.hash_parts(&[INNER, left.as_bytes(), right.as_bytes()])
}

/// Bit `depth` of a hash, the most significant of the first byte being bit 0.
fn bit(hash: &Hash, depth: usize) -> bool {
    let byte = hash.0.get(depth / 8).copied().unwrap_or(0);
    byte.checked_shl(u32::try_from(depth % 8).unwrap_or(0)).unwrap_or(0) & 0x80 != 0
}

fn shared_bits(a: &Hash, b: &Hash) -> usize {
    (0..STATE_SIBLINGS_MAX).take_while(|depth| bit(a, *depth) == bit(b, *depth)).count()
}
