//! Proofs about the anchor logs, against headers.

mod support;

use cairn_state::{AnchorLog, State, StateError};
use cairn_types::consistency::verify_consistency;
use cairn_types::log::TreeHash;
use cairn_types::multiproof::root_from_multiproof;
use cairn_types::tree::root_from_path;
use cairn_types::*;
use support::*;

/// Nine blocks of five records each.
fn grown(state: &State) {
    for round in 0..9 {
        let time = START_MS + 1_000 * (round + 1);
        grow(state, time, (0..5).map(|n| anchor(n, round * 10 + n, time)).collect());
    }
}

fn header(state: &State, height: u64) -> Header {
    state.header(Height::new(height)).unwrap().unwrap()
}

#[test]
fn several_records_prove_under_one_header() -> Result<(), StateError> {
    on_both(|store| {
        let state = State::open(store, &genesis()).unwrap();
        assert_eq!(state.anchor_proofs(&[0], None).unwrap(), None);
        grown(&state);
        for (seqs, height) in [(vec![0], 1), (vec![0, 4, 5, 44], 9), (vec![3, 7, 21], 5), (vec![24], 5)] {
            let found = state.anchor_proofs(&seqs, Some(Height::new(height))).unwrap().unwrap();
            assert_eq!(found.header, header(&state, height));
            assert_eq!(found.certificate.as_ref().map(|it| it.block), Some(found.header.id()));
            let leaf = |record: &Record| (record.seq, TreeHash::Anchors.leaf(&record.to_bytes()));
            let leaves: Vec<_> = found.records.iter().map(leaf).collect();
            assert_eq!(leaves.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), seqs);
            let size = found.header.anchors_size;
            let root = root_from_multiproof(TreeHash::Anchors, &leaves, size, &found.path);
            assert_eq!(root, Ok(found.header.anchors_root));
        }
        assert_eq!(state.anchor_proofs(&[0], None).unwrap().unwrap().header, header(&state, 9));
        for (seqs, height) in [(vec![5], 1), (vec![45], 9), (vec![2, 1], 9), (vec![1, 1], 9), (vec![], 9)] {
            assert_eq!(state.anchor_proofs(&seqs, Some(Height::new(height))).unwrap(), None, "{seqs:?}");
        }
        assert_eq!(state.anchor_proofs(&[0], Some(Height::new(10))).unwrap(), None);
    });
    Ok(())
}

#[test]
fn any_two_sizes_of_both_logs_are_consistent() {
    let state = open(&memory());
    grown(&state);
    for second in 0..=9 {
        for first in 0..=second {
            let (old, new) = (header(&state, first), header(&state, second));
            let (m, n) = (old.anchors_size, new.anchors_size);
            let proof = state.consistency(AnchorLog::Blake3, m, n).unwrap().unwrap();
            let (a, b) = (old.anchors_root, new.anchors_root);
            assert_eq!(verify_consistency(TreeHash::Anchors, m, n, &proof, &a, &b), Ok(()));
            let proof = state.consistency(AnchorLog::Sha256, m, n).unwrap().unwrap();
            let (a, b) = (old.anchors_sha256, new.anchors_sha256);
            assert_eq!(verify_consistency(TreeHash::AnchorsSha256, m, n, &proof, &a, &b), Ok(()));
        }
    }
    // Also between sizes at which no block ends.
    assert!(state.consistency(AnchorLog::Blake3, 7, 23).unwrap().is_some());
    assert_eq!(state.consistency(AnchorLog::Blake3, 3, 46).unwrap(), None);
    assert_eq!(state.consistency(AnchorLog::Blake3, 4, 3).unwrap(), None);
}

#[test]
fn paths_lead_to_the_roots_of_both_logs() {
    let state = open(&memory());
    grown(&state);
    for height in [1, 4, 9] {
        let header = header(&state, height);
        let size = header.anchors_size;
        for seq in 0..size {
            let record = state.record(seq).unwrap().unwrap().to_bytes();
            for (log, hash, root) in [
                (AnchorLog::Blake3, TreeHash::Anchors, header.anchors_root),
                (AnchorLog::Sha256, TreeHash::AnchorsSha256, header.anchors_sha256),
            ] {
                let path = state.anchor_path(log, seq, size).unwrap().unwrap();
                assert_eq!(root_from_path(hash, hash.leaf(&record), seq, size, &path), Ok(root));
            }
        }
    }
    assert_eq!(state.anchor_path(AnchorLog::Blake3, 45, 46).unwrap(), None);
    assert_eq!(state.anchor_path(AnchorLog::Blake3, 5, 5).unwrap(), None);
    let covering = |size| state.header_covering(size).unwrap().map(|header| header.height.get());
    assert_eq!([0, 1, 5, 6, 45, 46].map(covering), [Some(0), Some(1), Some(1), Some(2), Some(9), None]);
}
