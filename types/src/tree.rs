//! Merkle trees of the RFC 9162 shape (section 2.1): a tree of n > 1 leaves splits at the largest
//! power of two below n. No leaf is ever duplicated, so `A B C` and `A B C C` have different roots.

use borsh::{BorshDeserialize, BorshSerialize};
use rayon::prelude::*;
use thiserror::Error;

use crate::codec::encode;
use crate::hash::{Context, Hash};
use crate::log::{TreeHash, sha256};
use crate::multiproof::multiproof_from;
use crate::transaction::TreeKind;

/// Below this many leaves a tree is hashed on the calling thread.
const PARALLEL_LEAVES_MIN: usize = 4_096;
/// Nodes that are hashed at a time: as many as there are lanes, and few enough to be handed on in registers and the nearest cache.
const PIECE_NODES: usize = 16;
/// Pieces that one core hashes before it looks for more: some 20 microseconds of work.
const PIECES_MIN: usize = 64;

/// Why a path was refused.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum PathFault {
    #[error("index {index} is outside a tree of {size} leaves")]
    IndexOutside { index: u64, size: u64 },
    #[error("the path has {got} hashes, a tree of {size} leaves has {expected} at index {index}")]
    WrongLength { index: u64, size: u64, got: usize, expected: usize },
}

/// The largest power of two below `size`; `size` must be at least 2.
fn split(size: usize) -> usize {
    let below = size.saturating_sub(1).max(1);
    1usize.checked_shl(below.ilog2()).unwrap_or(1)
}

/// The root over leaf hashes.
pub fn root(hash: TreeHash, leaves: &[Hash]) -> Hash {
    match leaves {
        [] => hash.empty(),
        [only] => *only,
        [left, right] => hash.node(left, right),
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            if leaves.len() >= PARALLEL_LEAVES_MIN {
                let (l, r) = rayon::join(|| root(hash, left), || root(hash, right));
                hash.node(&l, &r)
            } else {
                hash.node(&root(hash, left), &root(hash, right))
            }
        }
    }
}

/// The inclusion path of leaf `index`, nearest sibling first; `None` when there is no such leaf.
pub fn path(hash: TreeHash, leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    if index >= leaves.len() {
        return None;
    }
    let mut siblings = Vec::new();
    let (mut rest, mut at) = (leaves, index);
    while rest.len() > 1 {
        let (left, right) = rest.split_at(split(rest.len()));
        if at < left.len() {
            siblings.push(root(hash, right));
            rest = left;
        } else {
            siblings.push(root(hash, left));
            at = at.saturating_sub(left.len());
            rest = right;
        }
    }
    siblings.reverse();
    Some(siblings)
}

/// The number of hashes in the path of leaf `index` in a tree of `size` leaves.
pub fn path_length(index: u64, size: u64) -> Option<usize> {
    (index < size).then(|| path_sides(index, size).len())
}

/// For each step from the leaf up: whether the sibling stands on the left.
pub(crate) fn path_sides(index: u64, size: u64) -> Vec<bool> {
    // RFC 9162 section 2.1.3.2, with fn = index and sn = size - 1.
    let (mut node, mut last) = (index, size.saturating_sub(1));
    let mut sides = Vec::new();
    while last > 0 {
        if node & 1 == 1 {
            sides.push(true);
        } else if node < last {
            sides.push(false);
        }
        node >>= 1;
        last >>= 1;
    }
    sides
}

/// The root that a leaf hash, its index, the tree's size and a path imply.
///
/// # Errors
/// When the index is outside the tree, or the path has not exactly the length that (index, size) implies.
pub fn root_from_path(
    hash: TreeHash,
    leaf: Hash,
    index: u64,
    size: u64,
    path: &[Hash],
) -> Result<Hash, PathFault> {
    if index >= size {
        return Err(PathFault::IndexOutside { index, size });
    }
    let sides = path_sides(index, size);
    if sides.len() != path.len() {
        return Err(PathFault::WrongLength { index, size, got: path.len(), expected: sides.len() });
    }
    Ok(sides.iter().zip(path).fold(leaf, |below, (sibling_left, sibling)| {
        if *sibling_left { hash.node(sibling, &below) } else { hash.node(&below, sibling) }
    }))
}

/// The peaks of an append-only log: the roots of its complete subtrees, largest first. Enough to
/// append and to know the root; 32 bytes for each one-bit of the size.
#[derive(Clone, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct Peaks {
    size: u64,
    peaks: Vec<Hash>,
}

/// A complete subtree that an append finished: `2^level` leaves starting at `index * 2^level`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Node {
    /// Height above the leaves; 0 is a leaf.
    pub level: u8,
    /// Position among the nodes of its level.
    pub index: u64,
    /// Its hash.
    pub hash: Hash,
}

impl Peaks {
    /// The empty log.
    pub const fn new() -> Self {
        Self { size: 0, peaks: Vec::new() }
    }

    /// Rebuilds from stored peaks; `None` unless there is exactly one for each one-bit of `size`.
    pub fn from_parts(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        (usize::try_from(size.count_ones()) == Ok(peaks.len())).then_some(Self { size, peaks })
    }

    /// Number of leaves.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The peaks, largest subtree first.
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Appends a leaf hash and gives every subtree it completed, the leaf itself first.
    pub fn append(&mut self, hash: TreeHash, leaf: Hash) -> Vec<Node> {
        let mut index = self.size;
        let mut top = leaf;
        let mut level = 0u8;
        let mut nodes = vec![Node { level, index, hash: leaf }];
        while index & 1 == 1
            && let Some(left) = self.peaks.pop()
        {
            top = hash.node(&left, &top);
            index >>= 1;
            level = level.saturating_add(1);
            nodes.push(Node { level, index, hash: top });
        }
        self.peaks.push(top);
        self.size = self.size.saturating_add(1);
        nodes
    }

    /// The root over all leaves.
    pub fn root(&self, hash: TreeHash) -> Hash {
        let mut from_right = self.peaks.iter().rev();
        let Some(last) = from_right.next() else { return hash.empty() };
        from_right.fold(*last, |right, left| hash.node(left, &right))
    }
}

/// The path of leaf `index` in the log of `size` leaves, read from its stored complete subtrees.
/// `node(level, index)` gives the hash of a complete subtree that lies inside the first `size` leaves.
/// `None` when there is no such leaf or a node is missing.
pub fn path_from_nodes(
    hash: TreeHash,
    index: u64,
    size: u64,
    mut node: impl FnMut(u8, u64) -> Option<Hash>,
) -> Option<Vec<Hash>> {
    if index >= size {
        return None;
    }
    let mut siblings = Vec::new();
    let (mut start, mut end) = (0u64, size);
    while end.checked_sub(start)? > 1 {
        let middle = start.checked_add(largest_power_below(end.checked_sub(start)?))?;
        if index < middle {
            siblings.push(range_root(hash, middle, end, &mut node)?);
            end = middle;
        } else {
            siblings.push(range_root(hash, start, middle, &mut node)?);
            start = middle;
        }
    }
    siblings.reverse();
    Some(siblings)
}

/// The root of leaves `start..end`, where `start` is a multiple of the largest power of two in the range.
pub(crate) fn range_root(
    hash: TreeHash,
    start: u64,
    end: u64,
    node: &mut impl FnMut(u8, u64) -> Option<Hash>,
) -> Option<Hash> {
    let size = end.checked_sub(start)?;
    if size.is_power_of_two() {
        let level = size.trailing_zeros();
        return node(u8::try_from(level).ok()?, start.checked_shr(level)?);
    }
    let middle = start.checked_add(largest_power_below(size))?;
    let left = range_root(hash, start, middle, node)?;
    let right = range_root(hash, middle, end, node)?;
    Some(hash.node(&left, &right))
}

/// The largest power of two below `size`, for `size` of at least 2.
pub(crate) fn largest_power_below(size: u64) -> u64 {
    let below = size.saturating_sub(1).max(1);
    1u64.checked_shl(below.ilog2()).unwrap_or(1)
}

/// The leaf hash of a batch item: `H[batch-leaf](salt ‖ item)`, or its SHA-256 twin. `salt` has 0 or 16 bytes.
pub fn batch_leaf(kind: TreeKind, salt: &[u8], item: &Hash) -> Hash {
    let hash = TreeHash::of_batch(kind);
    match <&[u8; 16]>::try_from(salt) {
        Ok(salt) => hash.leaf(&salted_row(salt, item)),
        Err(_) => hash.leaf(&[salt, item.as_bytes().as_slice()].concat()),
    }
}

/// `salt ‖ item`: what the leaf of an item with a salt hashes.
pub fn salted_row(salt: &[u8; 16], item: &Hash) -> [u8; 48] {
    let mut row = [0; 48];
    let (first, rest) = row.split_at_mut(16);
    first.copy_from_slice(salt);
    rest.copy_from_slice(item.as_bytes());
    row
}

/// The leaf hashes of batch items, each a [`salted_row`] of 48 bytes, or the 32 bytes of an item without a salt.
pub fn batch_leaves<const N: usize>(kind: TreeKind, rows: &[[u8; N]]) -> Vec<Hash> {
    let hash = TreeHash::of_batch(kind);
    hashed::<1, _>(rows, |rows, leaves| hash.leaves(rows, leaves))
}

/// What `fill` makes of each `PER` of `from`, and of what is left in the end. Each hash is written once: room for a million, filled
/// with zeros first, is another 32 MB that pass through memory.
fn hashed<const PER: usize, T: Sync>(from: &[T], fill: impl Fn(&[T], &mut [Hash]) + Sync) -> Vec<Hash> {
    let piece_of = |part: &[T]| {
        let mut piece = [Hash::default(); PIECE_NODES];
        fill(part, &mut piece);
        piece
    };
    let taken = PER.saturating_mul(PIECE_NODES);
    // Room for what is left in the end, too.
    let mut pieces = Vec::with_capacity(from.len().div_ceil(taken));
    if from.len() >= PARALLEL_LEAVES_MIN {
        from.par_chunks_exact(taken).with_min_len(PIECES_MIN).map(piece_of).collect_into_vec(&mut pieces);
    } else {
        pieces.extend(from.chunks_exact(taken).map(piece_of));
    }
    let rest = from.chunks_exact(taken).remainder();
    let mut hashes = pieces.into_flattened();
    let mut last = [Hash::default(); PIECE_NODES];
    if let Some(last) = last.get_mut(..rest.len().div_ceil(PER)) {
        fill(rest, last);
        hashes.extend_from_slice(last);
    }
    hashes
}

/// Binds the leaf count to the top of a batch tree: the root that is anchored.
pub fn bind_leaf_count(kind: TreeKind, leaves: u64, top: &Hash) -> Hash {
    match kind {
        TreeKind::CairnB3V1 => Context::BatchRoot.hash_parts(&[&leaves.to_le_bytes(), top.as_bytes()]),
        TreeKind::Rfc9162Sha256 => sha256(&[&[0x02], &leaves.to_le_bytes(), top.as_bytes()]),
    }
}

/// A batch tree held in memory: leaf hashes and everything above them.
#[derive(Clone, Debug)]
pub struct BatchTree {
    kind: TreeKind,
    levels: Vec<Vec<Hash>>,
}

impl BatchTree {
    /// Builds the tree over leaf hashes (see [`batch_leaf`]); `None` for no leaves.
    pub fn new(kind: TreeKind, leaves: Vec<Hash>) -> Option<Self> {
        if leaves.is_empty() {
            return None;
        }
        // Level by level: a lone last node moves up unchanged, which is exactly the RFC 9162 shape.
        let hash = TreeHash::of_batch(kind);
        let mut levels = vec![leaves];
        while let Some(below) = levels.last()
            && below.len() > 1
        {
            levels.push(level_above(hash, below));
        }
        Some(Self { kind, levels })
    }

    /// Number of leaves.
    pub fn leaves(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// How the tree hashes.
    pub const fn kind(&self) -> TreeKind {
        self.kind
    }

    /// The root to anchor, leaf count bound.
    pub fn root(&self) -> Hash {
        let top = self.levels.last().and_then(|level| level.first()).copied().unwrap_or_default();
        bind_leaf_count(self.kind, self.leaves(), &top)
    }

    /// The inclusion path of leaf `index`.
    pub fn path(&self, index: u64) -> Option<Vec<Hash>> {
        let mut at = usize::try_from(index).ok().filter(|_| index < self.leaves())?;
        let mut siblings = Vec::with_capacity(self.levels.len());
        for level in &self.levels {
            if let Some(sibling) = level.get(at ^ 1) {
                siblings.push(*sibling);
            }
            at >>= 1;
        }
        Some(siblings)
    }

    /// One proof for the leaves at `indexes`, strictly ascending (see [`crate::multiproof`]); `None` when they
    /// do not fit.
    pub fn multiproof(&self, indexes: &[u64]) -> Option<Vec<Hash>> {
        multiproof_from(indexes, self.leaves(), &mut |start, end| {
            // The range is a complete subtree, or the rightmost one of its level.
            let level = end.checked_sub(start)?.checked_next_power_of_two()?.trailing_zeros();
            let at = usize::try_from(start.checked_shr(level)?).ok()?;
            self.levels.get(usize::try_from(level).ok()?)?.get(at).copied()
        })
    }
}

/// The level above: the nodes over its pairs, and a lone last node as it is.
pub fn level_above(hash: TreeHash, below: &[Hash]) -> Vec<Hash> {
    hashed::<2, _>(below, |below, above| hash.nodes(below, above))
}

/// Checks that `item` is leaf `index` of the batch with this root and leaf count.
///
/// # Errors
/// See [`root_from_path`]. `Ok(false)` when the path is well formed but leads to another root.
pub fn verify_batch_path(
    kind: TreeKind,
    leaf: Hash,
    index: u64,
    leaves: u64,
    path: &[Hash],
    root: &Hash,
) -> Result<bool, PathFault> {
    let top = root_from_path(TreeHash::of_batch(kind), leaf, index, leaves, path)?;
    Ok(bind_leaf_count(kind, leaves, &top) == *root)
}

/// The `tx_root` of a block: the root over its block leaves.
pub fn tx_root(leaves: &[Hash]) -> Hash {
    root(TreeHash::Transactions, leaves)
}

/// The digest of a canonical value under `context`, for the small hashed structs (validator set, parameters).
pub fn digest<T: BorshSerialize>(context: Context, value: &T) -> Hash {
    context.hash(&encode(value))
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
