//! The authenticated map: a Jellyfish Merkle tree under `H[state]`, one version per block that changes it.
//!
//! # Format (FORMATS, "State")
//!
//! Every key is hashed: the tree's key hash is `H[state](key)`, its value hash `H[state](value)`.
//!
//! ```text
//! key                         value (first byte 1: the value version)
//! 0x00                        1 ‖ borsh Params
//! 0x01                        1 ‖ borsh Admission
//! 0x02                        1 ‖ borsh ValidatorSet              the set that signs the next block
//! 0x04                        1 ‖ borsh [Motion]                  open motions; absent before the first
//! 0x05                        1 ‖ u8 protocol version             absent while it is 1
//! ...                         `cairn_types::StateKey` has the rest
//! ```
//! Keys of identities stand in their entries by address, so that a value binds a key without repeating its
//! 1,952 bytes.
//!
//! ```text
//! leaf     = H[state]("JMT::LeafNode" ‖ key hash ‖ value hash)
//! inner    = H[state]("JMT::IntrnalNode" ‖ left ‖ right)          a binary tree over the key hash's bits,
//! empty    = "SPARSE_MERKLE_PLACEHOLDER_HASH__"                   most significant first; a subtree with one
//!                                                                  leaf is that leaf
//! ```
//! No key or value can be taken for a node: both begin with a byte below 6, a node with `J`. The tree's version is the
//! block's height. A block that changes nothing leaves the tree alone and repeats `state_root`.

use std::collections::HashMap;

use borsh::BorshDeserialize;
use cairn_types::state_key::read_state_value;
use cairn_types::state_proof::PathEnd;
use cairn_types::{Context, Hash, StateProof};
use jmt::storage::{LeafNode, Node, NodeKey, TreeReader};
use jmt::{JellyfishMerkleTree, KeyHash, OwnedValue, SimpleHasher, Version};

use crate::error::StateError;

/// BLAKE3 under `H[state]` as the tree wants it.
pub(crate) struct StateHasher(blake3::Hasher);

impl SimpleHasher for StateHasher {
    fn new() -> Self {
        Self(Context::State.hasher())
    }

    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finalize(self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

/// A value from its bytes.
pub(crate) fn read_value<T: BorshDeserialize>(what: &'static str, bytes: &[u8]) -> Result<T, StateError> {
    read_state_value(bytes).map_err(|error| StateError::damaged(what, error))
}

/// The table key of a tree node: version (big-endian), then the path.
pub(crate) fn node_key(key: &NodeKey) -> Vec<u8> {
    let mut bytes = key.version().to_be_bytes().to_vec();
    bytes.extend_from_slice(&cairn_types::encode(key.nibble_path()));
    bytes
}

/// What one block writes to the tree.
#[derive(Clone, Debug, Default)]
pub(crate) struct TreeWrites {
    pub(crate) nodes: HashMap<NodeKey, Node>,
    pub(crate) values: HashMap<KeyHash, Vec<u8>>,
    /// Nodes this block replaces.
    pub(crate) stale: Vec<NodeKey>,
}

/// Where tree nodes come from: overlays, then the committed table.
pub(crate) trait NodeSource {
    /// The node with this key.
    fn node(&self, key: &NodeKey) -> Result<Option<Node>, StateError>;
    /// The current value of a key.
    fn value(&self, key: &KeyHash) -> Result<Option<Vec<u8>>, StateError>;
}

/// Presents the newest version as the one just below the block being executed. The tree looks for the
/// root of `version - 1`, while blocks that change nothing make no version.
struct Reader<'a, S: NodeSource + ?Sized> {
    source: &'a S,
    /// The newest version there is; `None` before the genesis.
    base: Option<Version>,
}

impl<S: NodeSource + ?Sized> Reader<'_, S> {
    fn stored_key(&self, key: &NodeKey) -> Option<NodeKey> {
        if is_root(key) {
            let base = self.base?;
            return Some(NodeKey::new(base.min(key.version()), key.nibble_path().clone()));
        }
        Some(key.clone())
    }
}

fn is_root(key: &NodeKey) -> bool {
    key.nibble_path().num_nibbles() == 0
}

impl<S: NodeSource + ?Sized> TreeReader for Reader<'_, S> {
    fn get_node_option(&self, key: &NodeKey) -> anyhow::Result<Option<Node>> {
        match self.stored_key(key) {
            Some(key) => Ok(self.source.node(&key)?),
            None => Ok(None),
        }
    }

    fn get_value_option(&self, version: Version, key: KeyHash) -> anyhow::Result<Option<OwnedValue>> {
        anyhow::ensure!(
            self.base.is_none_or(|base| version >= base),
            "values are kept for the newest version only"
        );
        Ok(self.source.value(&key)?)
    }

    fn get_rightmost_leaf(&self) -> anyhow::Result<Option<(NodeKey, LeafNode)>> {
        anyhow::bail!("only a tree that is being restored has a rightmost leaf")
    }
}

/// Applies `values` on top of version `base` as version `version`: the new root and what to write.
/// `values` must not be empty.
pub(crate) fn update<S: NodeSource + ?Sized>(
    source: &S,
    base: Option<Version>,
    version: Version,
    values: Vec<(Hash, Vec<u8>)>,
) -> Result<(Hash, TreeWrites), StateError> {
    let reader = Reader { source, base };
    let tree = JellyfishMerkleTree::<_, StateHasher>::new(&reader);
    let values: Vec<_> = values.into_iter().map(|(key, value)| (KeyHash(key.0), value)).collect();
    let kept: HashMap<_, _> = values.iter().cloned().collect();
    let changes = values.into_iter().map(|(key, value)| (key, Some(value)));
    let (root, batch) = tree.put_value_set(changes, version).map_err(|error| damaged_tree(&error))?;
    let stale = batch
        .stale_node_index_batch
        .into_iter()
        .map(|stale| reader.stored_key(&stale.node_key).unwrap_or(stale.node_key))
        .collect();
    let nodes = batch.node_batch.nodes().clone().into_iter().collect();
    Ok((Hash(root.0), TreeWrites { nodes, values: kept, stale }))
}

/// The root of the newest version, from its stored root node.
pub(crate) fn root<S: NodeSource + ?Sized>(source: &S, version: Version) -> Result<Hash, StateError> {
    let reader = Reader { source, base: Some(version) };
    let tree = JellyfishMerkleTree::<_, StateHasher>::new(&reader);
    tree.get_root_hash(version).map(|root| Hash(root.0)).map_err(|error| damaged_tree(&error))
}

/// The proof of what `version` holds under `key`, whose current value is `value`.
pub(crate) fn prove<S: NodeSource + ?Sized>(
    source: &S,
    version: Version,
    key: Hash,
    value: Option<Vec<u8>>,
) -> Result<StateProof, StateError> {
    let reader = Reader { source, base: Some(version) };
    let tree = JellyfishMerkleTree::<_, StateHasher>::new(&reader);
    let (_, proof) = tree.get_with_proof(KeyHash(key.0), version).map_err(|error| damaged_tree(&error))?;
    // The library keeps the parts of a proof to itself, and gives them only in its canonical bytes.
    let bytes = cairn_types::encode(&proof);
    let (leaf, siblings): (Option<(Hash, Hash)>, Vec<Sibling>) = cairn_types::decode(&bytes)
        .map_err(|error| StateError::damaged("proof of the authenticated map", error))?;
    let end = match (leaf, value) {
        (None, _) => PathEnd::Empty,
        (Some((key_hash, _)), Some(value)) if key_hash == key => PathEnd::Value(value),
        (Some((key_hash, value_hash)), _) => PathEnd::Other { key_hash, value_hash },
    };
    Ok(StateProof { end, siblings: siblings.iter().map(Sibling::hash).collect() })
}

/// A sibling in the library's proofs.
#[derive(BorshDeserialize)]
enum Sibling {
    Empty,
    Inner { left: Hash, right: Hash },
    Leaf { key_hash: Hash, value_hash: Hash },
}

impl Sibling {
    fn hash(&self) -> Hash {
        match self {
            Self::Empty => cairn_types::state_proof::EMPTY,
            Self::Inner { left, right } => cairn_types::state_proof::inner(left, right),
            Self::Leaf { key_hash, value_hash } => cairn_types::state_proof::leaf(key_hash, value_hash),
        }
    }
}

fn damaged_tree(error: &anyhow::Error) -> StateError {
    // A storage failure travels through the tree's own error type.
    match error.chain().find_map(|cause| cause.downcast_ref::<StateError>()) {
        Some(own) => own.clone(),
        None => StateError::damaged("authenticated map", format!("{error:#}")),
    }
}
