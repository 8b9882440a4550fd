use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::tree::{Peaks, root};

const SIZE_MAX: u64 = 70;

struct Log {
    hash: TreeHash,
    leaves: Vec<Hash>,
    nodes: HashMap<(u8, u64), Hash>,
}

impl Log {
    fn new(hash: TreeHash, size: u64) -> Self {
        let leaves: Vec<_> = (0..size).map(|index| hash.leaf(&index.to_le_bytes())).collect();
        let mut peaks = Peaks::new();
        let nodes = leaves.iter().flat_map(|leaf| peaks.append(hash, *leaf)).collect::<Vec<_>>();
        Self { hash, leaves, nodes: nodes.into_iter().map(|it| ((it.level, it.index), it.hash)).collect() }
    }

    fn root(&self, size: u64) -> Hash {
        root(self.hash, &self.leaves[..size as usize])
    }

    fn prove(&self, first: u64, second: u64) -> Option<Vec<Hash>> {
        consistency_from_nodes(self.hash, first, second, |level, index| {
            self.nodes.get(&(level, index)).copied()
        })
    }

    fn verify(&self, first: u64, second: u64, proof: &[Hash]) -> Result<(), ConsistencyFault> {
        verify_consistency(self.hash, first, second, proof, &self.root(first), &self.root(second))
    }
}

/// SUBPROOF of RFC 9162 section 2.1.4.1, written out as it reads.
fn subproof(hash: TreeHash, m: usize, leaves: &[Hash], b: bool) -> Vec<Hash> {
    let n = leaves.len();
    if m == n {
        return if b { Vec::new() } else { vec![root(hash, leaves)] };
    }
    let mut k = 1;
    while k * 2 < n {
        k *= 2;
    }
    if m <= k {
        let mut proof = subproof(hash, m, &leaves[..k], b);
        proof.push(root(hash, &leaves[k..]));
        proof
    } else {
        let mut proof = subproof(hash, m - k, &leaves[k..], false);
        proof.push(root(hash, &leaves[..k]));
        proof
    }
}

#[test]
fn every_pair_of_sizes_has_the_proof_of_the_rfc_and_it_verifies() {
    for hash in [TreeHash::Anchors, TreeHash::AnchorsSha256] {
        let log = Log::new(hash, SIZE_MAX);
        for second in 0..=SIZE_MAX {
            for first in 0..=second {
                let proof = log.prove(first, second).expect("all nodes are there");
                let whole = &log.leaves[..second as usize];
                if first > 0 {
                    assert_eq!(proof, subproof(hash, first as usize, whole, true), "{first} {second}");
                }
                assert_eq!(log.verify(first, second, &proof), Ok(()), "{first} {second}");
            }
            assert_eq!(log.prove(second + 1, second), None);
            assert!(matches!(
                log.verify(second.min(SIZE_MAX - 1) + 1, second.min(SIZE_MAX - 1), &[]),
                Err(ConsistencyFault::Sizes { .. })
            ));
        }
    }
}

#[test]
fn no_changed_proof_size_or_root_verifies() {
    let hash = TreeHash::Anchors;
    let log = Log::new(hash, 34);
    for second in 1..=33 {
        for first in 1..=second {
            let proof = log.prove(first, second).expect("all nodes are there");
            for at in 0..proof.len() {
                for byte in [0, 31] {
                    let mut changed = proof.clone();
                    changed[at].0[byte] ^= 1;
                    assert!(log.verify(first, second, &changed).is_err(), "{first} {second} hash {at}");
                }
                let mut shorter = proof.clone();
                shorter.remove(at);
                assert!(log.verify(first, second, &shorter).is_err(), "{first} {second} without {at}");
            }
            let mut longer = proof.clone();
            longer.push(hash.empty());
            assert!(log.verify(first, second, &longer).is_err());
            let (old, new) = (log.root(first), log.root(second));
            let mut other = old;
            other.0[7] ^= 4;
            assert!(verify_consistency(hash, first, second, &proof, &other, &new).is_err());
            let mut other = new;
            other.0[7] ^= 4;
            assert!(verify_consistency(hash, first, second, &proof, &old, &other).is_err());
            // Sizes are bound by whoever signed size and root together: with other sizes and their roots.
            for (a, b) in [(first - 1, second), (first + 1, second), (first, second + 1), (first, second - 1)]
            {
                if a <= b && log.prove(a, b).as_ref() != Some(&proof) {
                    assert!(log.verify(a, b, &proof).is_err(), "{a} {b}");
                }
            }
        }
    }
}

#[test]
fn the_empty_log_begins_every_log_and_only_with_its_own_root() {
    let hash = TreeHash::Anchors;
    let log = Log::new(hash, 3);
    assert_eq!(log.verify(0, 3, &[]), Ok(()));
    assert_eq!(log.verify(0, 0, &[]), Ok(()));
    assert!(verify_consistency(hash, 0, 3, &[], &log.root(1), &log.root(3)).is_err());
    assert!(verify_consistency(hash, 0, 0, &[], &hash.empty(), &log.root(1)).is_err());
    assert!(log.verify(0, 3, &[hash.empty()]).is_err());
}

proptest! {
    /// A log that was rewritten below `first` has no proof made of its own nodes.
    #[test]
    fn a_rewritten_log_is_never_consistent(second in 2u64..200, first in 1u64..200, at in 0u64..200) {
        let hash = TreeHash::AnchorsSha256;
        let first = first % second + 1;
        let at = at % first;
        let honest = Log::new(hash, second);
        let mut leaves = honest.leaves.clone();
        leaves[at as usize].0[0] ^= 1;
        let mut peaks = Peaks::new();
        let nodes = leaves.iter().flat_map(|leaf| peaks.append(hash, *leaf)).collect::<Vec<_>>();
        let nodes = nodes.into_iter().map(|it| ((it.level, it.index), it.hash)).collect();
        let forged = Log { hash, leaves, nodes };
        let proof = forged.prove(first, second).expect("all nodes are there");
        let (old, new) = (honest.root(first), forged.root(second));
        prop_assert!(verify_consistency(hash, first, second, &proof, &old, &new).is_err());
        prop_assert_eq!(forged.verify(first, second, &proof), Ok(()));
    }

    #[test]
    fn arbitrary_proofs_never_panic(first: u64, second: u64, hashes in prop::collection::vec(any::<[u8; 32]>(), 0..70)) {
        let proof: Vec<_> = hashes.into_iter().map(Hash).collect();
        let zero = Hash::default();
        let _ = verify_consistency(TreeHash::Anchors, first, second, &proof, &zero, &zero);
    }
}
