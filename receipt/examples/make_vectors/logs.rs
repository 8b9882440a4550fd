//! Vectors of what is proved of the two logs alone.

use cairn_types::Hash;
use cairn_types::consistency::consistency_from_nodes;
use cairn_types::multiproof::multiproof_from_nodes;
use cairn_types::tree::{Peaks, root};
use serde_json::{Value, json};

/// Multiproofs and consistency proofs of both logs, and of each the same with one hash changed.
pub(crate) fn log_proofs() -> Value {
    let (mut multiproofs, mut consistency) = (Vec::new(), Vec::new());
    for (name, hash) in cairn_receipt::LOG_NAMES {
        let leaves: Vec<Hash> = (0..13u64).map(|index| hash.leaf(&index.to_le_bytes())).collect();
        let mut peaks = Peaks::new();
        let nodes: Vec<_> = leaves.iter().flat_map(|leaf| peaks.append(hash, *leaf)).collect();
        let node = |level, index| {
            nodes.iter().find(|node| (node.level, node.index) == (level, index)).map(|node| node.hash)
        };
        let picks: [&[u64]; 4] = [&[0], &[12], &[2, 3, 9], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]];
        for indexes in picks {
            let path = multiproof_from_nodes(hash, indexes, 13, node).expect("all nodes are there");
            let chosen: Vec<_> = indexes
                .iter()
                .map(|index| json!({"index": index, "hash": leaves[*index as usize].to_string()}))
                .collect();
            for (path, valid) in twice(&path) {
                multiproofs.push(json!({"name": format!("leaves {indexes:?} of 13"), "log": name, "size": 13,
                    "leaves": chosen, "path": path, "root": root(hash, &leaves).to_string(), "valid": valid}));
            }
        }
        for (first, second) in [(0u64, 13u64), (1, 2), (3, 7), (4, 8), (6, 13), (8, 13), (13, 13)] {
            let path = consistency_from_nodes(hash, first, second, node).expect("all nodes are there");
            for (path, valid) in twice(&path) {
                consistency.push(
                    json!({"name": format!("{first} begin {second}"), "log": name, "first": first,
                    "second": second, "path": path, "valid": valid,
                    "first_root": root(hash, &leaves[..first as usize]).to_string(),
                    "second_root": root(hash, &leaves[..second as usize]).to_string()}),
                );
            }
        }
    }
    json!({ "multiproofs": multiproofs, "consistency": consistency })
}

/// A path as it is, and with one bit changed, or one hash more where it is empty.
fn twice(path: &[Hash]) -> [(Vec<String>, bool); 2] {
    let mut changed = path.to_vec();
    match changed.first_mut() {
        Some(first) => first.0[0] ^= 1,
        None => changed.push(Hash([1; 32])),
    }
    [(path, true), (&changed, false)].map(|(path, valid)| (path.iter().map(Hash::to_string).collect(), valid))
}
