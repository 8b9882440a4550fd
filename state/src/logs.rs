//! The append-only logs: anchors under both hashes, and history.

use cairn_types::log::TreeHash;
use cairn_types::tree::Peaks;
use cairn_types::{BlockId, Hash};

use crate::layout::{LogTable, log_node};

/// A finished subtree to store: its key and one hash, or two for the anchor logs.
#[derive(Clone, Debug)]
pub(crate) struct StoredNode {
    pub(crate) log: LogTable,
    pub(crate) key: [u8; 10],
    pub(crate) hashes: Vec<u8>,
}

/// The peaks of the three logs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Logs {
    pub(crate) anchors: Peaks,
    pub(crate) anchors_sha256: Peaks,
    pub(crate) history: Peaks,
}

impl Logs {
    /// Appends a record's canonical bytes to both anchor logs. Leaves are not stored: the record gives them
    /// back, and so half of all nodes are never written.
    pub(crate) fn append_record(&mut self, record: &[u8], stored: &mut Vec<StoredNode>) {
        let blake = self.anchors.append(TreeHash::Anchors, TreeHash::Anchors.leaf(record));
        let sha = self.anchors_sha256.append(TreeHash::AnchorsSha256, TreeHash::AnchorsSha256.leaf(record));
        for (blake, sha) in blake.iter().zip(&sha).filter(|(node, _)| node.level > 0) {
            let mut hashes = Vec::with_capacity(64);
            hashes.extend_from_slice(blake.hash.as_bytes());
            hashes.extend_from_slice(sha.hash.as_bytes());
            let key = log_node(LogTable::Anchors, blake.level, blake.index);
            stored.push(StoredNode { log: LogTable::Anchors, key, hashes });
        }
    }

    /// Appends an ancestor's id to the history log.
    pub(crate) fn append_block(&mut self, id: &BlockId, stored: &mut Vec<StoredNode>) {
        let nodes = self.history.append(TreeHash::History, history_leaf(id));
        for node in nodes.iter().filter(|node| node.level > 0) {
            stored.push(StoredNode {
                log: LogTable::History,
                key: log_node(LogTable::History, node.level, node.index),
                hashes: node.hash.as_bytes().to_vec(),
            });
        }
    }
}

pub(crate) fn history_leaf(id: &BlockId) -> Hash {
    TreeHash::History.leaf(id.as_bytes())
}

/// Which hash of a stored anchor node is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lane {
    Blake3,
    Sha256,
}

/// One hash out of a stored node's bytes.
pub(crate) fn lane(bytes: &[u8], lane: Lane) -> Option<Hash> {
    let range = match lane {
        Lane::Blake3 => 0..32,
        Lane::Sha256 => 32..64,
    };
    bytes.get(range).and_then(|hash| hash.try_into().ok()).map(Hash)
}
