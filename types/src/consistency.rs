//! Consistency proofs: that a log of `second` leaves begins with the very leaves of the log of `first`
//! (RFC 9162 section 2.1.4).

use thiserror::Error;

use crate::hash::Hash;
use crate::log::TreeHash;
use crate::tree::{largest_power_below, range_root};

/// Why a consistency proof was refused.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum ConsistencyFault {
    #[error("the log of {first} leaves cannot begin a log of {second}")]
    Sizes { first: u64, second: u64 },
    #[error("{got} hashes do not fit the sizes {first} and {second}")]
    WrongLength { first: u64, second: u64, got: usize },
    #[error("the hashes lead to root {got} at size {first}; expected {expected}")]
    FirstRoot { first: u64, got: Hash, expected: Hash },
    #[error("the hashes lead to root {got} at size {second}; expected {expected}")]
    SecondRoot { second: u64, got: Hash, expected: Hash },
}

/// The consistency proof between `first` and `second` leaves of a log, read from its stored complete subtrees
/// as in [`crate::tree::path_from_nodes`]. Empty when nothing has to be shown: `first` is 0 or `second`.
/// `None` when `first > second`, or a node is missing.
pub fn consistency_from_nodes(
    hash: TreeHash,
    first: u64,
    second: u64,
    mut node: impl FnMut(u8, u64) -> Option<Hash>,
) -> Option<Vec<Hash>> {
    if first > second {
        return None;
    }
    if first == 0 || first == second {
        return Some(Vec::new());
    }
    // SUBPROOF of section 2.1.4.1, from the top down; `whole` is its flag b.
    let (mut start, mut end, mut whole) = (0u64, second, true);
    let mut proof = Vec::new();
    while end > first {
        let middle = start.checked_add(largest_power_below(end.checked_sub(start)?))?;
        if first <= middle {
            proof.push(range_root(hash, middle, end, &mut node)?);
            end = middle;
        } else {
            proof.push(range_root(hash, start, middle, &mut node)?);
            start = middle;
            whole = false;
        }
    }
    if !whole {
        proof.push(range_root(hash, start, end, &mut node)?);
    }
    proof.reverse();
    Some(proof)
}

/// Checks that the log whose root is `second_root` at `second` leaves begins with the log whose root is
/// `first_root` at `first` leaves (RFC 9162 section 2.1.4.2).
///
/// # Errors
/// What does not fit. An empty log begins every log, with no hashes and the root of the empty log.
pub fn verify_consistency(
    hash: TreeHash,
    first: u64,
    second: u64,
    proof: &[Hash],
    first_root: &Hash,
    second_root: &Hash,
) -> Result<(), ConsistencyFault> {
    if first > second {
        return Err(ConsistencyFault::Sizes { first, second });
    }
    let wrong_length = ConsistencyFault::WrongLength { first, second, got: proof.len() };
    if first == 0 || first == second {
        if !proof.is_empty() {
            return Err(wrong_length);
        }
        if first == 0 {
            compare_first(first, hash.empty(), first_root)?;
            return if second == 0 { compare_second(second, hash.empty(), second_root) } else { Ok(()) };
        }
        return compare_second(second, *first_root, second_root);
    }
    let mut rest = proof.iter();
    let (mut node, mut last) = (first.saturating_sub(1), second.saturating_sub(1));
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    // A first log that is one complete subtree is its own first hash.
    let seed = if first.is_power_of_two() { Some(first_root) } else { rest.next() };
    let Some(seed) = seed else { return Err(wrong_length) };
    let (mut old, mut new) = (*seed, *seed);
    for sibling in rest {
        if last == 0 {
            return Err(wrong_length);
        }
        if node & 1 == 1 || node == last {
            old = hash.node(sibling, &old);
            new = hash.node(sibling, &new);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new = hash.node(&new, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(wrong_length);
    }
    compare_first(first, old, first_root)?;
    compare_second(second, new, second_root)
}

fn compare_first(first: u64, got: Hash, expected: &Hash) -> Result<(), ConsistencyFault> {
    if got == *expected {
        return Ok(());
    }
    Err(ConsistencyFault::FirstRoot { first, got, expected: *expected })
}

fn compare_second(second: u64, got: Hash, expected: &Hash) -> Result<(), ConsistencyFault> {
    if got == *expected {
        return Ok(());
    }
    Err(ConsistencyFault::SecondRoot { second, got, expected: *expected })
}

#[cfg(test)]
#[path = "consistency_tests.rs"]
mod tests;
