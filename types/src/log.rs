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
        match self.leaf_context() {
            Some(context) => context.hash(data),
            None => sha256(&[&[0x00], data]),
        }
    }

    /// The leaf hash of each of `rows`, into `out`, which has as many places.
    pub fn leaves<const N: usize>(self, rows: &[[u8; N]], out: &mut [Hash]) {
        match self.leaf_context() {
            Some(context) => context.hash_rows(rows, out),
            None => rows.iter().zip(out).for_each(|(row, out)| *out = self.leaf(row)),
        }
    }

    /// The context of leaves; `None` under SHA-256.
    const fn leaf_context(self) -> Option<Context> {
        match self {
            Self::Batch => Some(Context::BatchLeaf),
            Self::Anchors => Some(Context::AnchorLeaf),
            Self::History => Some(Context::HistoryLeaf),
            Self::Transactions => Some(Context::TxLeaf),
            Self::BatchSha256 | Self::AnchorsSha256 => None,
        }
    }

    /// The hash of an inner node.
    pub fn node(self, left: &Hash, right: &Hash) -> Hash {
        let Some(context) = self.node_context() else {
            return sha256(&[&[0x01], left.as_bytes(), right.as_bytes()]);
        };
        let mut pair = [0; 64];
        let (first, second) = pair.split_at_mut(32);
        first.copy_from_slice(left.as_bytes());
        second.copy_from_slice(right.as_bytes());
        context.hash(&pair)
    }

    /// The nodes over the pairs of `below`, left to right, into `above`; a lone last node goes up as it is.
    /// `above` has half as many places, rounded up.
    pub fn nodes(self, below: &[Hash], above: &mut [Hash]) {
        if let Some(context) = self.node_context() {
            context.hash_pairs(below, above);
        } else {
            for (pair, out) in below.chunks_exact(2).zip(above.iter_mut()) {
                if let [left, right] = pair {
                    *out = self.node(left, right);
                }
            }
        }
        if let ([lone], Some(out)) = (below.chunks_exact(2).remainder(), above.last_mut()) {
            *out = *lone;
        }
    }

    /// The context of inner nodes; none under SHA-256.
    const fn node_context(self) -> Option<Context> {
        match self {
            Self::Batch => Some(Context::BatchNode),
            Self::Anchors => Some(Context::AnchorNode),
            Self::History => Some(Context::HistoryNode),
            Self::Transactions => Some(Context::TxNode),
            Self::BatchSha256 | Self::AnchorsSha256 => None,
        }
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
