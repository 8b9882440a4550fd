use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::TreeKind;
use crate::tree::{BatchTree, Peaks, path, root, root_from_path};

fn leaves(hash: TreeHash, size: u64) -> Vec<Hash> {
    (0..size).map(|index| hash.leaf(&index.to_le_bytes())).collect()
}

fn chosen(all: &[Hash], bits: u64) -> Vec<(u64, Hash)> {
    all.iter()
        .enumerate()
        .filter(|(at, _)| bits >> at & 1 == 1)
        .map(|(at, leaf)| (at as u64, *leaf))
        .collect()
}

fn indexes(leaves: &[(u64, Hash)]) -> Vec<u64> {
    leaves.iter().map(|(index, _)| *index).collect()
}

fn of_log(hash: TreeHash, all: &[Hash], indexes: &[u64]) -> Option<Vec<Hash>> {
    let mut peaks = Peaks::new();
    let nodes: HashMap<_, _> = all
        .iter()
        .flat_map(|leaf| peaks.append(hash, *leaf))
        .map(|node| ((node.level, node.index), node.hash))
        .collect();
    let node = |level, index| nodes.get(&(level, index)).copied();
    multiproof_from_nodes(hash, indexes, all.len() as u64, node)
}

#[test]
fn every_choice_of_leaves_of_small_trees_leads_to_the_root() {
    let hash = TreeHash::Batch;
    for size in 1..=9u64 {
        let all = leaves(hash, size);
        let tree = BatchTree::new(TreeKind::CairnB3V1, all.clone()).unwrap();
        for bits in 1..1u64 << size {
            let leaves = chosen(&all, bits);
            let proof = of_log(hash, &all, &indexes(&leaves)).unwrap();
            assert_eq!(tree.multiproof(&indexes(&leaves)), Some(proof.clone()), "{size} {bits:b}");
            assert_eq!(root_from_multiproof(hash, &leaves, size, &proof), Ok(root(hash, &all)));
        }
    }
}

#[test]
fn no_changed_multiproof_leads_to_the_root() {
    let hash = TreeHash::Batch;
    for size in [1u64, 2, 5, 8, 13] {
        let all = leaves(hash, size);
        let top = root(hash, &all);
        for bits in 1..1u64 << size {
            let leaves = chosen(&all, bits);
            let proof = of_log(hash, &all, &indexes(&leaves)).unwrap();
            for at in 0..proof.len() {
                let mut changed = proof.clone();
                changed[at].0[5] ^= 1;
                assert_ne!(root_from_multiproof(hash, &leaves, size, &changed), Ok(top));
                let mut shorter = proof.clone();
                shorter.remove(at);
                assert!(root_from_multiproof(hash, &leaves, size, &shorter).is_err());
            }
            let mut longer = proof.clone();
            longer.push(top);
            assert_eq!(
                root_from_multiproof(hash, &leaves, size, &longer),
                Err(MultiproofFault::TooLong { left: 1 })
            );
            for at in 0..leaves.len() {
                let mut changed = leaves.clone();
                changed[at].1.0[31] ^= 0x80;
                assert_ne!(root_from_multiproof(hash, &changed, size, &proof), Ok(top));
                let mut moved = leaves.clone();
                moved[at].0 += 1;
                assert_ne!(root_from_multiproof(hash, &moved, size, &proof), Ok(top));
            }
        }
    }
}

#[test]
fn bad_leaves_are_named() {
    let hash = TreeHash::Batch;
    let leaf = Hash([1; 32]);
    let of = |leaves: &[(u64, Hash)]| root_from_multiproof(hash, leaves, 4, &[leaf; 4]).unwrap_err();
    assert_eq!(of(&[]), MultiproofFault::NoLeaf);
    assert_eq!(of(&[(2, leaf), (1, leaf)]), MultiproofFault::Order { index: 1 });
    assert_eq!(of(&[(2, leaf), (2, leaf)]), MultiproofFault::Order { index: 2 });
    assert_eq!(of(&[(4, leaf)]), MultiproofFault::IndexOutside { index: 4, size: 4 });
    let short = root_from_multiproof(hash, &[(0, leaf)], 4, &[leaf]).unwrap_err();
    assert_eq!(short, MultiproofFault::TooShort { got: 1, size: 4 });
}

#[test]
fn contradicting_paths_are_refused() {
    let hash = TreeHash::Batch;
    let all = leaves(hash, 4);
    let mut known = Subtrees::new(hash, 4);
    known.add_path(0, all[0], &path(hash, &all, 0).unwrap()).unwrap();
    let mut other = path(hash, &all, 1).unwrap();
    other[1].0[0] ^= 1;
    assert_eq!(known.add_path(1, all[1], &other), Err(MultiproofFault::Contradiction { start: 2, end: 4 }));
    assert!(matches!(known.add_path(1, all[1], &[]), Err(MultiproofFault::Path(_))));
    assert!(matches!(known.add_path(4, all[1], &[]), Err(MultiproofFault::Path(_))));
    assert_eq!(known.path(2), None, "nothing is known about the leaves of 2..4");
}

proptest! {
    /// Paths make the multiproof that the tree makes, and the multiproof gives every path back.
    #[test]
    fn paths_and_multiproofs_turn_into_one_another(
        size in 1u64..300,
        picks in prop::collection::btree_set(0u64..300, 1..20),
    ) {
        let hash = TreeHash::Anchors;
        let all = leaves(hash, size);
        let picks: std::collections::BTreeSet<_> = picks.into_iter().map(|pick| pick % size).collect();
        let picks: Vec<_> = picks.into_iter().collect();
        let leaves: Vec<_> = picks.iter().map(|index| (*index, all[*index as usize])).collect();
        let mut known = Subtrees::new(hash, size);
        for (index, leaf) in &leaves {
            known.add_path(*index, *leaf, &path(hash, &all, *index as usize).unwrap()).unwrap();
        }
        let proof = known.multiproof(&picks).unwrap();
        prop_assert_eq!(&of_log(hash, &all, &picks), &Some(proof.clone()));
        let mut back = Subtrees::new(hash, size);
        back.add_multiproof(&leaves, &proof).unwrap();
        for (index, leaf) in leaves {
            let one = back.path(index).unwrap();
            prop_assert_eq!(&one, &path(hash, &all, index as usize).unwrap());
            prop_assert_eq!(root_from_path(hash, leaf, index, size, &one), Ok(root(hash, &all)));
        }
        // Some of the leaves can be shown without the others.
        let some: Vec<_> = picks.iter().copied().step_by(2).collect();
        prop_assert_eq!(back.multiproof(&some), of_log(hash, &all, &some));
    }

    #[test]
    fn arbitrary_multiproofs_never_panic(
        size: u64,
        picks in prop::collection::vec(any::<u64>(), 0..10),
        hashes in prop::collection::vec(any::<[u8; 32]>(), 0..200),
    ) {
        let hashes: Vec<_> = hashes.into_iter().map(Hash).collect();
        let leaves: Vec<_> = picks.into_iter().map(|index| (index, Hash::default())).collect();
        let _ = root_from_multiproof(TreeHash::Batch, &leaves, size, &hashes);
        let mut known = Subtrees::new(TreeHash::Batch, size);
        let _ = known.add_multiproof(&leaves, &hashes);
    }
}
