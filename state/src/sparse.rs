//! The authenticated map's shape, as far as a snapshot's chunks need it: proving that a run of leaves is all there
//! is between its first and its last key.
//!
//! The map is a binary Merkle tree over key bits, in which a subtree of one leaf is that leaf and an empty one
//! is a placeholder.

use cairn_types::Hash;
use jmt::proof::{INTERNAL_DOMAIN_SEPARATOR, LEAF_DOMAIN_SEPARATOR};
use jmt::{KeyHash, SimpleHasher, ValueHash};

use crate::authenticated::StateHasher;

/// The hash of an empty subtree.
pub(crate) const PLACEHOLDER: Hash = Hash(*b"SPARSE_MERKLE_PLACEHOLDER_HASH__");
/// Bits of a key.
const KEY_BITS: usize = 256;

/// A leaf: the hash of its key, and its own hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Leaf {
    pub(crate) key: [u8; 32],
    pub(crate) hash: Hash,
}

impl Leaf {
    pub(crate) fn new(key: [u8; 32], value: &[u8]) -> Self {
        let mut hasher = StateHasher::new();
        hasher.update(LEAF_DOMAIN_SEPARATOR);
        hasher.update(&KeyHash(key).0);
        hasher.update(&ValueHash::with::<StateHasher>(value).0);
        Self { key, hash: Hash(hasher.finalize()) }
    }

    fn bit(&self, depth: usize) -> bool {
        bit(&self.key, depth)
    }
}

/// A bit of a key hash, the most significant first.
pub(crate) fn bit(key: &[u8; 32], depth: usize) -> bool {
    let byte = key.get(depth >> 3).copied().unwrap_or_default();
    byte.wrapping_shr(7u32.saturating_sub(u32::try_from(depth & 7).unwrap_or_default())) & 1 == 1
}

fn join(left: Hash, right: Hash) -> Hash {
    if left == PLACEHOLDER && right == PLACEHOLDER {
        return PLACEHOLDER;
    }
    let mut hasher = StateHasher::new();
    hasher.update(INTERNAL_DOMAIN_SEPARATOR);
    hasher.update(left.as_bytes());
    hasher.update(right.as_bytes());
    Hash(hasher.finalize())
}

/// The two halves of sorted leaves that agree on their first `depth` bits.
fn split(leaves: &[Leaf], depth: usize) -> (&[Leaf], &[Leaf]) {
    leaves.split_at(leaves.partition_point(|leaf| !leaf.bit(depth)))
}

/// The hash of the subtree of these sorted leaves, which agree on their first `depth` bits.
fn subtree(leaves: &[Leaf], depth: usize) -> Hash {
    match leaves {
        [] => PLACEHOLDER,
        [leaf] => leaf.hash,
        _ if depth >= KEY_BITS => PLACEHOLDER,
        _ => {
            let (left, right) = split(leaves, depth);
            let below = depth.saturating_add(1);
            join(subtree(left, below), subtree(right, below))
        }
    }
}

/// What lies beside a run of leaves, from the root down: on the left of its first leaf's path, on the right of
/// its last one's.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Edges {
    pub(crate) left: Vec<Hash>,
    pub(crate) right: Vec<Hash>,
}

/// The root of a map in which exactly these sorted leaves lie between the first and the last of them, given
/// what lies beside; `None` when the edges do not fit the leaves.
pub(crate) fn root(leaves: &[Leaf], edges: &Edges) -> Option<Hash> {
    let rising = leaves.windows(2).all(|pair| matches!(pair, [below, above] if below.key < above.key));
    if leaves.is_empty() || !rising {
        return None;
    }
    let (mut left, mut right) = (edges.left.iter(), edges.right.iter());
    let hash = climb(leaves, 0, Some(&mut left), Some(&mut right))?;
    (left.next().is_none() && right.next().is_none()).then_some(hash)
}

type Side<'a, 'b> = Option<&'a mut std::slice::Iter<'b, Hash>>;

/// The next hash of an edge; a side without one holds nothing but the leaves given.
fn beside(side: &mut Side<'_, '_>) -> Option<Hash> {
    match side {
        Some(edge) => edge.next().copied(),
        None => Some(PLACEHOLDER),
    }
}

/// The subtree at `depth` that holds `leaves`; with a side, its edge lies within and more may lie beyond.
fn climb(leaves: &[Leaf], depth: usize, mut left: Side<'_, '_>, mut right: Side<'_, '_>) -> Option<Hash> {
    let open = |side: &Side<'_, '_>| side.as_ref().is_some_and(|side| side.len() > 0);
    if !open(&left) && !open(&right) {
        return Some(subtree(leaves, depth));
    }
    if depth >= KEY_BITS {
        return None;
    }
    let below = depth.saturating_add(1);
    let (lower, upper) = split(leaves, depth);
    match (lower.is_empty(), upper.is_empty()) {
        // All of it on one side: what is on the other is the edge's, or known to be nothing.
        (true, false) => {
            let beside = beside(&mut left)?;
            Some(join(beside, climb(upper, below, left, right)?))
        }
        (false, true) => {
            let beside = beside(&mut right)?;
            Some(join(climb(lower, below, left, right)?, beside))
        }
        (false, false) => Some(join(climb(lower, below, left, None)?, climb(upper, below, None, right)?)),
        (true, true) => None,
    }
}

#[cfg(test)]
#[path = "sparse_tests.rs"]
mod tests;
