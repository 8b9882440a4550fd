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
//! 0x03 ‖ address (32)         1 ‖ borsh IdentityEntry
//! 0x04                        1 ‖ borsh [Motion]                  open motions; absent before the first
//! 0x05                        1 ‖ u8 protocol version             absent while it is 1
//! IdentityEntry { threshold u16, admitted bool, keys [KeyEntry] } position in keys = key index, never reused
//! KeyEntry      { address (32), from u64 height, until Option<u64 height> }
//! ```
//! `KeyEntry.address` is `H[address](scheme id ‖ public key)`, so it binds the key without repeating its
//! 1,952 bytes. A key may sign in the blocks after `from`, up to and including `until`.
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

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_types::{Address, Context, Hash};
use jmt::storage::{LeafNode, Node, NodeKey, TreeReader};
use jmt::{JellyfishMerkleTree, KeyHash, OwnedValue, SimpleHasher, Version};

use crate::error::StateError;

/// The version byte before each value.
const VALUE_VERSION: u8 = 1;

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

/// A key of the map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StateKey {
    Params,
    Admission,
    Validators,
    Identity(Address),
    Motions,
    Protocol,
}

impl StateKey {
    /// `H[state](key)`.
    pub(crate) fn hash(self) -> KeyHash {
        let hash = match self {
            Self::Params => Context::State.hash(&[0]),
            Self::Admission => Context::State.hash(&[1]),
            Self::Validators => Context::State.hash(&[2]),
            Self::Identity(address) => Context::State.hash_parts(&[&[3], address.as_bytes()]),
            Self::Motions => Context::State.hash(&[4]),
            Self::Protocol => Context::State.hash(&[5]),
        };
        KeyHash(hash.0)
    }
}

/// The bytes of a value.
pub(crate) fn value_bytes<T: BorshSerialize>(value: &T) -> Vec<u8> {
    cairn_types::encode(&(VALUE_VERSION, value))
}

/// A value from its bytes.
pub(crate) fn read_value<T: BorshDeserialize>(what: &'static str, bytes: &[u8]) -> Result<T, StateError> {
    let (version, value) =
        cairn_types::decode::<(u8, T)>(bytes).map_err(|error| StateError::damaged(what, error))?;
    if version != VALUE_VERSION {
        return Err(StateError::damaged(what, format!("value version {version}, expected {VALUE_VERSION}")));
    }
    Ok(value)
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
    values: Vec<(KeyHash, Vec<u8>)>,
) -> Result<(Hash, TreeWrites), StateError> {
    let reader = Reader { source, base };
    let tree = JellyfishMerkleTree::<_, StateHasher>::new(&reader);
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

fn damaged_tree(error: &anyhow::Error) -> StateError {
    // A storage failure travels through the tree's own error type.
    match error.chain().find_map(|cause| cause.downcast_ref::<StateError>()) {
        Some(own) => own.clone(),
        None => StateError::damaged("authenticated map", format!("{error:#}")),
    }
}
