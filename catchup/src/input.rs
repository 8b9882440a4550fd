//! What the driver tells.

use cairn_types::{BlockId, Height};

use crate::output::RequestId;
use crate::range::Range;

/// A block by its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// Its height.
    pub height: Height,
    /// Its id.
    pub id: BlockId,
}

/// What a peer says it can serve. Not proven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Its newest final block.
    pub height: Height,
    /// The lowest block whose body it holds.
    pub earliest: Height,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Input<P> {
    /// A peer may be asked from now on.
    Connected {
        /// The peer.
        peer: P,
        /// Whether it answers [`crate::Question::Tip`].
        polled: bool,
    },
    /// A peer may be asked no more; whatever it was asked stays unanswered.
    Gone {
        /// The peer.
        peer: P,
    },
    /// A certificate that verified proves a final block at this height.
    Proven {
        /// The height.
        height: Height,
        /// Who told, if it is a peer: it should have the block.
        by: Option<P>,
    },
    /// The replica lacks a block.
    Want {
        /// The block.
        block: BlockId,
        /// Who should hold it, the likeliest first; empty when nobody is known to.
        from: Vec<P>,
    },
    /// An answer, decoded, and for a range judged by [`crate::check_range`].
    Answer {
        /// What it answers.
        request: RequestId,
        /// The answer.
        answer: Answer,
    },
    /// There is no answer.
    Failed {
        /// What was asked.
        request: RequestId,
        /// Why.
        failure: Failure,
    },
    /// The state is now here, be it by [`crate::Output::Apply`] or by the replica's own commits. Every
    /// `Apply` is answered with this.
    Committed {
        /// The newest committed block.
        tip: Position,
        /// Whether this answers an `Apply`.
        applied: bool,
    },
    /// Whether ranges are to wait, because a snapshot may take their place. Tips are asked for and single blocks fetched
    /// all the same.
    Hold(bool),
    /// Time has passed.
    Tick,
}

/// A decoded answer.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To [`crate::Question::Tip`].
    Tip(Claim),
    /// To [`crate::Question::Range`].
    Range(Range),
    /// To [`crate::Question::Block`]: whether the peer had it. The driver has checked the id and keeps the block.
    Block(bool),
}

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// It did not come in time.
    Silent,
    /// The peer would not, or could not be reached.
    Refused,
    /// What came is provably wrong.
    Wrong(String),
}
