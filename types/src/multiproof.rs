//! One proof for many leaves of one tree (FORMATS, "Multiproofs"): the subtrees that hold none of them, left
//! to right, and nothing that a verifier can compute by itself.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::hash::Hash;
use crate::log::TreeHash;
use crate::tree::{PathFault, largest_power_below, path_sides, range_root};

/// Why a multiproof was refused.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum MultiproofFault {
    #[error("it is about no leaf")]
    NoLeaf,
    #[error("leaf {index} does not stand above the one before it")]
    Order { index: u64 },
    #[error("leaf {index} is outside a tree of {size} leaves")]
    IndexOutside { index: u64, size: u64 },
    #[error("its {got} hashes are too few for these leaves of a tree of {size}")]
    TooShort { got: usize, size: u64 },
    #[error("{left} of its hashes are left over")]
    TooLong { left: usize },
    #[error("a path contradicts another one about leaves {start} to {end}")]
    Contradiction { start: u64, end: u64 },
    #[error("{0}")]
    Path(#[from] PathFault),
}

/// Where a range of more than one leaf splits.
fn middle(start: u64, end: u64) -> u64 {
    start.saturating_add(largest_power_below(end.saturating_sub(start)))
}

/// Walks the tree over leaves `start..end` depth first, left before right.
struct Walk<'a> {
    hash: TreeHash,
    size: u64,
    rest: std::slice::Iter<'a, Hash>,
    given: usize,
    /// Where the hash of every subtree that is met is kept, when it is wanted.
    seen: Option<&'a mut BTreeMap<(u64, u64), Hash>>,
}

impl Walk<'_> {
    /// The hash over `start..end`, of which exactly `leaves` are known. At most 64 deep.
    fn range(&mut self, start: u64, end: u64, leaves: &[(u64, Hash)]) -> Result<Hash, MultiproofFault> {
        let hash = match leaves.first() {
            None => {
                let short = MultiproofFault::TooShort { got: self.given, size: self.size };
                *self.rest.next().ok_or(short)?
            }
            Some((_, leaf)) if end.saturating_sub(start) == 1 => *leaf,
            Some(_) => {
                let middle = middle(start, end);
                let (left, right) = leaves.split_at(leaves.partition_point(|(index, _)| *index < middle));
                let left = self.range(start, middle, left)?;
                let right = self.range(middle, end, right)?;
                self.hash.node(&left, &right)
            }
        };
        if let Some(seen) = &mut self.seen {
            seen.insert((start, end), hash);
        }
        Ok(hash)
    }
}

fn check_leaves(indexes: impl Iterator<Item = u64>, size: u64) -> Result<(), MultiproofFault> {
    let mut before = None;
    for index in indexes {
        if index >= size {
            return Err(MultiproofFault::IndexOutside { index, size });
        }
        if before.is_some_and(|before| before >= index) {
            return Err(MultiproofFault::Order { index });
        }
        before = Some(index);
    }
    before.map(|_| ()).ok_or(MultiproofFault::NoLeaf)
}

fn walk(
    hash: TreeHash,
    leaves: &[(u64, Hash)],
    size: u64,
    path: &[Hash],
    seen: Option<&mut BTreeMap<(u64, u64), Hash>>,
) -> Result<Hash, MultiproofFault> {
    check_leaves(leaves.iter().map(|(index, _)| *index), size)?;
    let mut walk = Walk { hash, size, rest: path.iter(), given: path.len(), seen };
    let top = walk.range(0, size, leaves)?;
    match walk.rest.len() {
        0 => Ok(top),
        left => Err(MultiproofFault::TooLong { left }),
    }
}

/// The root that leaf hashes at their indexes (strictly ascending), the tree's size and a multiproof imply.
///
/// # Errors
/// When there is no leaf, one is out of order or outside, or the proof has not exactly the hashes needed.
pub fn root_from_multiproof(
    hash: TreeHash,
    leaves: &[(u64, Hash)],
    size: u64,
    path: &[Hash],
) -> Result<Hash, MultiproofFault> {
    walk(hash, leaves, size, path, None)
}

/// The multiproof of the leaves at `indexes` (strictly ascending) in the log of `size` leaves, read from its
/// stored complete subtrees as in [`crate::tree::path_from_nodes`]. `None` when the indexes do not fit or a
/// node is missing.
pub fn multiproof_from_nodes(
    hash: TreeHash,
    indexes: &[u64],
    size: u64,
    mut node: impl FnMut(u8, u64) -> Option<Hash>,
) -> Option<Vec<Hash>> {
    multiproof_from(indexes, size, &mut |start, end| range_root(hash, start, end, &mut node))
}

/// The multiproof of the leaves at `indexes`, given the hash over any range that the shape has.
pub(crate) fn multiproof_from(
    indexes: &[u64],
    size: u64,
    range: &mut impl FnMut(u64, u64) -> Option<Hash>,
) -> Option<Vec<Hash>> {
    check_leaves(indexes.iter().copied(), size).ok()?;
    let mut path = Vec::new();
    gather((0, size), indexes, range, &mut path)?;
    Some(path)
}

fn gather(
    (start, end): (u64, u64),
    indexes: &[u64],
    range: &mut impl FnMut(u64, u64) -> Option<Hash>,
    path: &mut Vec<Hash>,
) -> Option<()> {
    if indexes.is_empty() {
        path.push(range(start, end)?);
        return Some(());
    }
    if end.saturating_sub(start) > 1 {
        let middle = middle(start, end);
        let (left, right) = indexes.split_at(indexes.partition_point(|index| *index < middle));
        gather((start, middle), left, range, path)?;
        gather((middle, end), right, range, path)?;
    }
    Some(())
}

/// What is known of one tree's subtrees, from paths and multiproofs about it: enough to make others of them.
/// Knows nothing of the root: verify what goes in, or what comes out.
#[derive(Clone, Debug)]
pub struct Subtrees {
    hash: TreeHash,
    size: u64,
    known: BTreeMap<(u64, u64), Hash>,
}

impl Subtrees {
    /// Of a tree of `size` leaves, nothing known yet.
    pub const fn new(hash: TreeHash, size: u64) -> Self {
        Self { hash, size, known: BTreeMap::new() }
    }

    /// Learns a leaf with its path.
    ///
    /// # Errors
    /// When the path does not fit the tree, or contradicts what is known.
    pub fn add_path(&mut self, index: u64, leaf: Hash, path: &[Hash]) -> Result<(), MultiproofFault> {
        let size = self.size;
        if index >= size {
            return Err(PathFault::IndexOutside { index, size }.into());
        }
        let expected = path_sides(index, size).len();
        if expected != path.len() {
            return Err(PathFault::WrongLength { index, size, got: path.len(), expected }.into());
        }
        let (mut start, mut end) = (0, size);
        // A path is nearest first; the walk down meets its hashes from the far end.
        for sibling in path.iter().rev() {
            let middle = middle(start, end);
            if index < middle {
                self.learn(middle, end, *sibling)?;
                end = middle;
            } else {
                self.learn(start, middle, *sibling)?;
                start = middle;
            }
        }
        self.learn(index, index.saturating_add(1), leaf)
    }

    /// Learns the leaves of a multiproof, its hashes and what follows from them.
    ///
    /// # Errors
    /// As [`root_from_multiproof`]; or when it contradicts what is known.
    pub fn add_multiproof(&mut self, leaves: &[(u64, Hash)], path: &[Hash]) -> Result<(), MultiproofFault> {
        let mut seen = BTreeMap::new();
        walk(self.hash, leaves, self.size, path, Some(&mut seen))?;
        seen.into_iter().try_for_each(|((start, end), hash)| self.learn(start, end, hash))
    }

    fn learn(&mut self, start: u64, end: u64, hash: Hash) -> Result<(), MultiproofFault> {
        match self.known.insert((start, end), hash) {
            Some(before) if before != hash => Err(MultiproofFault::Contradiction { start, end }),
            _ => Ok(()),
        }
    }

    /// The hash over `start..end`, known or made of known ones. At most 64 deep.
    fn range(&self, start: u64, end: u64) -> Option<Hash> {
        if let Some(known) = self.known.get(&(start, end)) {
            return Some(*known);
        }
        if end.saturating_sub(start) <= 1 || !self.knows_within(start, end) {
            return None;
        }
        let middle = middle(start, end);
        let (left, right) = (self.range(start, middle)?, self.range(middle, end)?);
        Some(self.hash.node(&left, &right))
    }

    /// Whether anything is known that lies within: without it a walk into an unknown range need not begin.
    fn knows_within(&self, start: u64, end: u64) -> bool {
        self.known.range((start, 0)..(end, 0)).any(|((_, until), _)| *until <= end)
    }

    /// The inclusion path of leaf `index`, nearest sibling first; `None` when too little is known.
    pub fn path(&self, index: u64) -> Option<Vec<Hash>> {
        if index >= self.size {
            return None;
        }
        let (mut start, mut end) = (0, self.size);
        let mut siblings = Vec::new();
        while end.saturating_sub(start) > 1 {
            let middle = middle(start, end);
            if index < middle {
                siblings.push(self.range(middle, end)?);
                end = middle;
            } else {
                siblings.push(self.range(start, middle)?);
                start = middle;
            }
        }
        siblings.reverse();
        Some(siblings)
    }

    /// The multiproof of the leaves at `indexes`, strictly ascending; `None` when too little is known.
    pub fn multiproof(&self, indexes: &[u64]) -> Option<Vec<Hash>> {
        multiproof_from(indexes, self.size, &mut |start, end| self.range(start, end))
    }
}

#[cfg(test)]
#[path = "multiproof_tests.rs"]
mod tests;
