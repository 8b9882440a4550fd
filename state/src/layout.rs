//! Keys and small values of the tables. Numbers in keys are big-endian so that keys sort by number.

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_types::tree::Peaks;
use cairn_types::{Address, BlockId, Hash, Height, ProofId};

use crate::error::StateError;
use crate::storage::Table;

/// The layout this build reads and writes.
pub(crate) const SCHEMA_VERSION: u32 = 4;
/// The layout before it: every body was in its row. This build reads it as it is.
pub(crate) const SCHEMA_WITHOUT_FILES: u32 = 3;

/// Meta: [`SCHEMA_VERSION`], u32 little-endian.
pub(crate) const META_SCHEMA: &[u8] = b"schema";
/// Meta: the genesis hash.
pub(crate) const META_CHAIN: &[u8] = b"chain";
/// Meta: [`StoredTip`].
pub(crate) const META_TIP: &[u8] = b"tip";
/// Meta: the newest commit certificate, when it names a block above the tip.
pub(crate) const META_CERTIFICATE: &[u8] = b"certificate";

/// Meta: the first height in the newest file of bodies, as in its key; absent while there is none.
#[cfg(feature = "rocksdb")]
pub(crate) const META_BODIES: &[u8] = b"bodies";

/// Meta: [`crate::Kept`]; absent while everything is.
pub(crate) const META_KEPT: &[u8] = b"kept";

/// Where a transaction landed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct TxLocation {
    /// Its block's height.
    pub height: Height,
    /// Its position in the block.
    pub index: u32,
    /// Its block's time, Unix milliseconds.
    pub time_ms: u64,
    /// The seq of its first record; its others follow. Meaningless when `records` is 0.
    pub first_seq: u64,
    /// Number of its records.
    pub records: u16,
}

/// The newest committed block and what is needed to append to it.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct StoredTip {
    pub(crate) height: Height,
    pub(crate) id: BlockId,
    pub(crate) anchors: Peaks,
    pub(crate) anchors_sha256: Peaks,
    pub(crate) history: Peaks,
    /// The newest version of the authenticated map: the height of the last block that changed it.
    pub(crate) tree_version: u64,
}

pub(crate) fn number(value: u64) -> [u8; 8] {
    value.to_be_bytes()
}

pub(crate) fn read_number(bytes: &[u8], what: &'static str) -> Result<u64, StateError> {
    let array = <[u8; 8]>::try_from(bytes)
        .map_err(|_| StateError::damaged(what, format!("{} bytes where 8 are expected", bytes.len())))?;
    Ok(u64::from_be_bytes(array))
}

/// `prefix ‖ seq`: one entry of an index from a prefix to many seqs.
pub(crate) fn indexed(prefix: &[u8], seq: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(prefix.len().saturating_add(8));
    key.extend_from_slice(prefix);
    key.extend_from_slice(&number(seq));
    key
}

/// The seq at the end of an index key.
pub(crate) fn indexed_seq(key: &[u8]) -> Result<u64, StateError> {
    let at = key.len().saturating_sub(8);
    read_number(key.get(at..).unwrap_or_default(), "index key")
}

/// The References prefix of `reference` as used by `sender`. Local to this folder, so any collision-free
/// digest serves.
pub(crate) fn reference_prefix(sender: &Address, reference: &str) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(sender.as_bytes());
    hasher.update(reference.as_bytes());
    Hash(*hasher.finalize().as_bytes())
}

/// How one proof names another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Link {
    /// It continues it.
    Previous = 0,
    /// It speaks about it.
    Subject = 1,
}

/// The Links prefix of everything that names `proof` in this way.
pub(crate) fn link_prefix(link: Link, proof: &ProofId) -> [u8; 33] {
    let mut prefix = [link as u8; 33];
    prefix.split_at_mut(1).1.copy_from_slice(proof.as_bytes());
    prefix
}

/// First byte of a StateKeys entry that lists a delegation by its delegate. No key of the map begins with it.
const RECEIVED_PREFIX: u8 = 0x90;

/// The StateKeys prefix of every delegation that `delegate` ever received.
pub(crate) fn received_prefix(delegate: &Address) -> Vec<u8> {
    let mut prefix = vec![RECEIVED_PREFIX];
    prefix.extend_from_slice(delegate.as_bytes());
    prefix
}

/// The StateKeys entry of one delegation by its delegate.
pub(crate) fn received_key(delegate: &Address, principal: &Address) -> Vec<u8> {
    let mut key = received_prefix(delegate);
    key.extend_from_slice(principal.as_bytes());
    key
}

/// Which logs a node belongs to. The two anchor logs have the same shape, so one entry holds both hashes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum LogTable {
    Anchors = 2,
    History = 3,
}

impl LogTable {
    /// Where its nodes are.
    pub(crate) const fn table(self) -> Table {
        match self {
            Self::Anchors => Table::LogNodes,
            Self::History => Table::HistoryNodes,
        }
    }
}

/// A complete subtree's key: the log, the last leaf below it, its level. What a log appends is then last in its table, and no
/// compaction meets the rows of before; ordered by level, new rows would lie among old ones.
pub(crate) fn log_node(log: LogTable, level: u8, index: u64) -> [u8; 10] {
    let width = 1u64.wrapping_shl(level.into());
    let last = index.wrapping_shl(level.into()) | width.wrapping_sub(1);
    let mut key = [level; 10];
    let (head, tail) = key.split_at_mut(1);
    head.copy_from_slice(&[log as u8]);
    tail.split_at_mut(8).0.copy_from_slice(&number(last));
    key
}
