//! Which hash a tree or log uses for its leaves, nodes and empty root.

use sha2::{Digest, Sha256};

use crate::hash::{Context, Hash};
use crate::transaction::TreeKind;

/// One family of trees, all of the RFC 9162 shape.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TreeHash {
    /// A `cairn-b3-v1` batch.
    Batch,
    /// An `rfc9162-sha256` batch.
    BatchSha256,
    /// The log of anchor records.
    Anchors,
    /// The log of the same records under plain RFC 9162 SHA-256.
    AnchorsSha256,
    /// The log of block ids.
    History,
    /// The transactions of one block.
    Transactions,
}

impl TreeHash {
    /// The hash family of a batch of this kind.
    pub const fn of_batch(kind: TreeKind) -> Self {
        match kind {
            TreeKind::CairnB3V1 => Self::Batch,
            TreeKind::Rfc9162Sha256 => Self::BatchSha256,
        }
    }

    /// The leaf hash of `data`.
    pub fn leaf(self, data: &[u8]) -> Hash {
        match self {
            Self::Batch => Context::BatchLeaf.hash(data),
            Self::Anchors => Context::AnchorLeaf.hash(data),
            Self::History => Context::HistoryLeaf.hash(data),
            Self::Transactions => Context::TxLeaf.hash(data),
            Self::BatchSha256 | Self::AnchorsSha256 => sha256(&[&[0x00], data]),
        }
    }

    /// The hash of an inner node.
    pub fn node(self, left: &Hash, right: &Hash) -> Hash {
        let context = match self {
            Self::Batch => Context::BatchNode,
            Self::Anchors => Context::AnchorNode,
            Self::History => Context::HistoryNode,
            Self::Transactions => Context::TxNode,
            Self::BatchSha256 | Self::AnchorsSha256 => {
                return sha256(&[&[0x01], left.as_bytes(), right.as_bytes()]);
            }
        };
        let mut pair = [0; 64];
        let (first, second) = pair.split_at_mut(32);
        first.copy_from_slice(left.as_bytes());
        second.copy_from_slice(right.as_bytes());
        context.hash(&pair)
    }

    /// The root of the tree with no leaves: `H[<log>-node]("")`, or `SHA-256("")`.
    pub fn empty(self) -> Hash {
        match self {
            Self::Batch => Context::BatchNode.hash(b""),
            Self::Anchors => Context::AnchorNode.hash(b""),
            Self::History => Context::HistoryNode.hash(b""),
            Self::Transactions => Context::TxNode.hash(b""),
            Self::BatchSha256 | Self::AnchorsSha256 => sha256(&[]),
        }
    }
}

pub(crate) fn sha256(parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    Hash(hasher.finalize().into())
}
