use cairn_types::Context;
use jmt::storage::{Node, NodeKey};

use super::*;
use crate::authenticated::{NodeSource, update};
use crate::error::StateError;

struct Nothing;

impl NodeSource for Nothing {
    fn node(&self, _: &NodeKey) -> Result<Option<Node>, StateError> {
        Ok(None)
    }

    fn value(&self, _: &KeyHash) -> Result<Option<Vec<u8>>, StateError> {
        Ok(None)
    }
}

/// The edges of `all[from..to]`; `all` is every leaf, sorted.
fn edges(all: &[Leaf], from: usize, to: usize) -> Edges {
    let mut edges = Edges::default();
    let (Some(first), Some(last)) = (all.get(from), to.checked_sub(1).and_then(|last| all.get(last))) else {
        return edges;
    };
    let mut rest = all;
    for depth in 0..KEY_BITS {
        if rest.len() <= 1 {
            break;
        }
        let (left, right) = split(rest, depth);
        if first.bit(depth) {
            edges.left.push(subtree(left, depth.saturating_add(1)));
            rest = right;
        } else {
            rest = left;
        }
    }
    rest = all;
    for depth in 0..KEY_BITS {
        if rest.len() <= 1 {
            break;
        }
        let (left, right) = split(rest, depth);
        if last.bit(depth) {
            rest = right;
        } else {
            edges.right.push(subtree(right, depth.saturating_add(1)));
            rest = left;
        }
    }
    edges
}

fn leaves(count: u64) -> (Vec<Leaf>, Hash) {
    let values: Vec<_> = (0..count)
        .map(|at| (Context::State.hash(&at.to_le_bytes()), vec![at as u8; 1 + at as usize % 9]))
        .collect();
    let mut leaves: Vec<Leaf> = values.iter().map(|(key, value)| Leaf::new(key.0, value)).collect();
    leaves.sort_by_key(|leaf| leaf.key);
    let (root, _) = update(&Nothing, None, 0, values).unwrap();
    (leaves, root)
}

#[test]
fn every_run_of_leaves_leads_to_the_maps_own_root() {
    for count in [1, 2, 3, 7, 40] {
        let (all, expected) = leaves(count);
        for from in 0..all.len() {
            for to in from + 1..=all.len() {
                let edges = edges(&all, from, to);
                assert_eq!(root(&all[from..to], &edges), Some(expected), "{from}..{to} of {count}");
            }
        }
    }
}

#[test]
fn a_run_with_a_leaf_left_out_added_or_changed_leads_elsewhere() {
    let (all, expected) = leaves(40);
    let (run, edges) = (&all[5..25], edges(&all, 5, 25));
    for at in 0..run.len() {
        let mut short = run.to_vec();
        short.remove(at);
        assert_ne!(root(&short, &edges), Some(expected), "without leaf {at}");
        let mut changed = run.to_vec();
        changed[at].hash.0[3] ^= 1;
        assert_ne!(root(&changed, &edges), Some(expected), "leaf {at} changed");
        let mut swapped = run.to_vec();
        swapped.swap(at, (at + 1) % run.len());
        assert_eq!(root(&swapped, &edges), None, "out of order at {at}");
    }
    for side in [&edges.left, &edges.right] {
        assert!(!side.is_empty());
    }
    let mut cut = edges.clone();
    cut.left.pop();
    assert_ne!(root(run, &cut), Some(expected));
    let mut long = edges.clone();
    long.right.push(PLACEHOLDER);
    assert_ne!(root(run, &long), Some(expected));
}
