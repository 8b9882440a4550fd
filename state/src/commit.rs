//! From overlays to the disk: one atomic batch per block, oldest first, one sync per call.

use cairn_types::{BlockId, Height, TxId};

use crate::state::Tip;

/// What [`crate::State::commit`] did.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The newest committed block now.
    pub tip: Tip,
    /// The blocks this call committed, oldest first. Blocks that were committed before are not repeated.
    pub blocks: Vec<CommittedBlock>,
}

/// One block that has just become final.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommittedBlock {
    /// Its height.
    pub height: Height,
    /// Its id.
    pub id: BlockId,
    /// Its time, Unix milliseconds.
    pub time_ms: u64,
    /// Its transactions, in order: no longer pending.
    pub transactions: Vec<TxId>,
    /// The seq of its first record.
    pub first_seq: u64,
    /// Number of its records.
    pub records: u64,
}
