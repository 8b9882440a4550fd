use super::*;

fn leaves(count: usize) -> Vec<Hash> {
    (0..count).map(|i| TreeHash::Anchors.leaf(&i.to_le_bytes())).collect()
}

/// RFC 9162 section 2.1.1, written out as the definition reads.
fn reference_root(hash: TreeHash, leaves: &[Hash]) -> Hash {
    match leaves.len() {
        0 => hash.empty(),
        1 => leaves[0],
        n => {
            let mut k = 1;
            while k * 2 < n {
                k *= 2;
            }
            hash.node(&reference_root(hash, &leaves[..k]), &reference_root(hash, &leaves[k..]))
        }
    }
}

#[test]
fn every_way_to_a_root_agrees() {
    let hash = TreeHash::Anchors;
    let mut peaks = Peaks::new();
    for n in 0..200 {
        let all = leaves(n);
        assert_eq!(root(hash, &all), reference_root(hash, &all), "size {n}");
        assert_eq!(peaks.root(hash), reference_root(hash, &all), "peaks at {n}");
        peaks.append(hash, TreeHash::Anchors.leaf(&n.to_le_bytes()));
    }
    let large = leaves(10_001);
    assert_eq!(root(hash, &large), reference_root(hash, &large));
}

#[test]
fn paths_verify_and_only_at_their_own_place() {
    let hash = TreeHash::Anchors;
    for n in 1..40usize {
        let all = leaves(n);
        let top = root(hash, &all);
        for i in 0..n {
            let siblings = path(hash, &all, i).unwrap();
            assert_eq!(Some(siblings.len()), path_length(i as u64, n as u64));
            let got = root_from_path(hash, all[i], i as u64, n as u64, &siblings).unwrap();
            assert_eq!(got, top, "leaf {i} of {n}");
            for other in (0..n).filter(|other| *other != i) {
                assert_ne!(root_from_path(hash, all[i], other as u64, n as u64, &siblings), Ok(top));
            }
            let mut longer = siblings.clone();
            longer.push(top);
            assert!(root_from_path(hash, all[i], i as u64, n as u64, &longer).is_err());
            if let Some((_, shorter)) = siblings.split_last() {
                assert!(root_from_path(hash, all[i], i as u64, n as u64, shorter).is_err());
            }
        }
        assert!(root_from_path(hash, top, n as u64, n as u64, &[]).is_err());
        assert_eq!(path(hash, &all, n), None);
    }
}

#[test]
fn stored_nodes_give_the_same_paths() {
    let hash = TreeHash::AnchorsSha256;
    let mut peaks = Peaks::new();
    let mut nodes = std::collections::HashMap::new();
    let mut all = Vec::new();
    for n in 1..=70u64 {
        let leaf = hash.leaf(&n.to_le_bytes());
        all.push(leaf);
        for node in peaks.append(hash, leaf) {
            nodes.insert((node.level, node.index), node.hash);
        }
        for i in 0..n {
            let stored = path_from_nodes(hash, i, n, |level, index| nodes.get(&(level, index)).copied());
            assert_eq!(stored, path(hash, &all, i as usize), "leaf {i} of {n}");
        }
        // A smaller tree than the log's: what an older header needs.
        let older =
            path_from_nodes(hash, 0, n.div_ceil(2), |level, index| nodes.get(&(level, index)).copied());
        assert_eq!(older, path(hash, &all[..n.div_ceil(2) as usize], 0));
    }
    assert_eq!(path_from_nodes(hash, 70, 70, |_, _| None), None);
}

#[test]
fn a_repeated_last_leaf_changes_the_root() {
    for kind in [TreeKind::CairnB3V1, TreeKind::Rfc9162Sha256] {
        let three = leaves(3);
        let mut four = three.clone();
        four.push(three[2]);
        assert_ne!(BatchTree::new(kind, three).unwrap().root(), BatchTree::new(kind, four).unwrap().root());
    }
}

#[test]
fn batch_trees_match_the_definition_for_both_kinds() {
    for kind in [TreeKind::CairnB3V1, TreeKind::Rfc9162Sha256] {
        for n in 1..70usize {
            let hash = TreeHash::of_batch(kind);
            let all: Vec<_> = (0..n).map(|i| batch_leaf(kind, &[7; 16], &Hash([i as u8; 32]))).collect();
            let tree = BatchTree::new(kind, all.clone()).unwrap();
            assert_eq!(tree.root(), bind_leaf_count(kind, n as u64, &reference_root(hash, &all)));
            for i in 0..n as u64 {
                let siblings = tree.path(i).unwrap();
                let leaf = all[i as usize];
                assert_eq!(verify_batch_path(kind, leaf, i, n as u64, &siblings, &tree.root()), Ok(true));
                assert_ne!(verify_batch_path(kind, leaf, i, n as u64 + 1, &siblings, &tree.root()), Ok(true));
            }
            assert_eq!(tree.path(n as u64), None);
        }
    }
    assert!(BatchTree::new(TreeKind::CairnB3V1, Vec::new()).is_none());
}

#[test]
fn large_batches_hash_as_small_ones_do() {
    for kind in [TreeKind::CairnB3V1, TreeKind::Rfc9162Sha256] {
        for n in [4_095, 4_096, 4_097, 4_111, 8_191, 8_193] {
            let item = |i: u64| Hash(*blake3::hash(&i.to_le_bytes()).as_bytes());
            let rows: Vec<_> = (0..n).map(|i| salted_row(&[i as u8; 16], &item(i))).collect();
            let alone: Vec<_> = (0..n).map(|i| batch_leaf(kind, &[i as u8; 16], &item(i))).collect();
            assert_eq!(batch_leaves(kind, &rows), alone, "{n}");
            let top = reference_root(TreeHash::of_batch(kind), &alone);
            let tree = BatchTree::new(kind, alone).unwrap();
            assert_eq!(tree.root(), bind_leaf_count(kind, n, &top), "{n}");
        }
    }
}

#[test]
fn the_sha256_tree_is_the_one_of_rfc_6962() {
    // Vectors of RFC 6962's reference implementation (certificate-transparency, merkle_tree_test):
    // the empty root, and the root over the single leaf "".
    let hash = TreeHash::AnchorsSha256;
    assert_eq!(hash.empty().to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_eq!(
        hash.leaf(b"").to_string(),
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    );
    let two = [hash.leaf(b""), hash.leaf(&[0])];
    assert_eq!(
        root(hash, &two).to_string(),
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
    );
}
