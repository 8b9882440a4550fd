//! What the driver is asked to do.

use std::sync::Arc;

use cairn_types::{BlockId, CertifiedBlock, EpochProof, Height};

/// Names one question, so that its answer finds back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub(crate) u64);

/// Something to ask a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Question {
    /// Where its chain stands.
    Tip,
    /// Final blocks from this height upwards, as many as fit, at most `count`.
    Range {
        /// The first height.
        from: Height,
        /// At most so many.
        count: u32,
    },
    /// One block, final or not.
    Block(BlockId),
}

/// Something to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output<P> {
    /// Ask, and report the answer or its absence under this id.
    Ask {
        /// Whom.
        peer: P,
        /// The id.
        request: RequestId,
        /// What.
        question: Question,
    },
    /// Make these blocks final, oldest first; then report [`crate::Input::Committed`]. One at a time.
    Apply {
        /// The blocks.
        blocks: Vec<CertifiedBlock>,
        /// The commit proof of their epoch, when the last of them ends it.
        end: Option<Arc<EpochProof>>,
    },
    /// The peer has provably lied.
    Punish {
        /// The peer.
        peer: P,
        /// How, for the log.
        why: String,
    },
    /// Whether this node is far behind what is proven to be final.
    Behind(bool),
    /// Two blocks are final at one height: more than a third of the power is faulty, or the state here is
    /// not the chain's. Stop.
    Fork {
        /// The height of the certified block.
        height: Height,
        /// The block committed below it here.
        committed: BlockId,
        /// The parent that the certified block names instead.
        parent: BlockId,
    },
}
