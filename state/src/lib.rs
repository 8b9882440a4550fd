//! The chain's state: tables behind a storage trait, pure execution on overlays, atomic commits,
//! the append-only logs, the authenticated map, and every query the interfaces ask.
//!
//! Only this crate names RocksDB. It knows no consensus rule: it is given blocks that consensus chose
//! and says what they do.
//!
//! A block's life here: [`State::build`] or [`State::check`] executes it on its parent and keeps the
//! outcome as an *overlay* in memory; [`State::commit`] turns the oldest overlay into one atomic batch.
//! Uncommitted blocks read through their own parents down to the committed tables, so siblings never
//! see one another.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

mod accounts;
mod authenticated;
mod batch;
#[cfg(feature = "rocksdb")]
mod bodies;
mod check;
mod commit;
mod convert;
mod delegation;
mod epochs;
mod error;
mod execute;
mod freeze;
mod governance;
mod identity;
mod install;
mod keys;
mod landed;
mod layout;
mod log_proof;
mod logs;
mod memory;
mod mend;
mod multisig;
mod overlay;
mod prune;
mod query;
mod refusal;
mod registry;
#[cfg(feature = "rocksdb")]
mod rocks;
mod snapshot;
mod sparse;
mod startup;
mod state;
mod storage;
#[cfg(feature = "rocksdb")]
mod warm;

pub use accounts::{Part, ProvenState};
pub use batch::Batch;
pub use commit::{Committed, CommittedBlock};
pub use epochs::EpochBegin;
pub use error::StateError;
pub use freeze::Frozen;
pub use governance::GovernanceRefusal;
pub use layout::TxLocation;
pub use log_proof::AnchorLog;
pub use memory::{FaultMoment, MemoryStorage};
pub use prune::{KEEP_BLOCKS_MIN, Kept, PRUNE_STEP_BLOCKS, Role};
pub use query::{FinalHeader, ListFilter, LogSizes, Matches, Page, QUERY_MATCHES_MAX, QUERY_PAGE_MAX};
pub use refusal::{BlockFault, HeaderField, TxRefusal};
#[cfg(feature = "rocksdb")]
pub use rocks::{BLOCK_CACHE_MIB, RocksStorage, Unsynced};
pub use snapshot::{
    CHUNK_BYTES, CHUNK_BYTES_MAX, Intake, MapRun, SNAPSHOT_VERSION, SignatureCheck, SnapshotChunk,
    SnapshotFault, SnapshotHandover, SnapshotHead, WindowBlock,
};
pub use state::{Built, OVERLAYS_MAX, State, Tip};
pub use storage::{Durability, Order, ReadStorage, Scan, Storage, StorageError, Table, Visitor};
