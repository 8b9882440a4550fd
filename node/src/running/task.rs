//! What the loops ask of the executor and of the fetching side.

use std::sync::Arc;

use cairn_consensus::{CatchUp, EpochEnd};
use cairn_p2p::Peer;
use cairn_state::{Intake, StateError};
use cairn_types::{Address, Block, BlockId, CertifiedBlock, Height, Slot, ValidatorIndex};
use tokio::sync::oneshot;

/// Tasks waiting for the executor. The replica has at most one payload, a check per held block (some dozens)
/// and the commits in flight; range sync waits for each of its own.
pub(crate) const TASKS_MAX: usize = 1_024;
/// Requests waiting for the fetching side. The replica asks again for what it still needs; news of peers wait
/// for room.
pub(crate) const JOBS_MAX: usize = 256;

/// Told whether fetched blocks were applied.
pub(crate) type Applied = oneshot::Sender<Result<(), StateError>>;

/// Something for the executor to do.
#[derive(Debug)]
pub(crate) enum Task {
    /// Build and execute a block for this slot.
    Build(Slot),
    /// Execute a block on its parent and compare its roots.
    Check { block: Arc<Block>, lag_exponent: u32 },
    /// Make these blocks final. `backed`: the journal's block log holds all of them until the state is synced.
    Commit { blocks: Vec<CertifiedBlock>, backed: bool },
    /// The same for blocks fetched in a range, with an answer.
    Apply(Vec<CertifiedBlock>, Applied),
    /// Make these blocks final, the epoch's last one included, and begin the next epoch.
    EndEpoch(EpochEnd, Option<Applied>),
    /// Make a snapshot the state of a node without blocks.
    Adopt(Box<Intake>, Applied),
    /// Drop transactions that can no longer land.
    Expire,
}

/// Someone who may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// A validator with a link.
    Validator(Address),
    /// A public peer.
    Peer(Peer),
}

/// Something the fetching side should know or get.
#[derive(Debug)]
pub(crate) enum Job {
    /// One block, from whoever should hold it; from anyone when nobody is known to.
    Fetch { id: BlockId, from: Vec<ValidatorIndex> },
    /// Every final block up to this one.
    CatchUp(CatchUp),
    /// A block of this height is proven to be final; the peer that told should have it.
    Follow { peer: Peer, height: Height },
    /// May be asked from now on.
    Connected(Source),
    /// May be asked no more.
    Gone(Source),
}
