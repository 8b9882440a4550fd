//! What the joining machine is told, and what it asks for.

use cairn_types::{Epoch, Hash, Height};

use crate::input::{Claim, Failure};
use crate::output::RequestId;

/// A snapshot that a peer says it has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Offer {
    /// The height of its block.
    pub height: Height,
    /// Its [`crate::snapshot_id`].
    pub id: Hash,
    /// Chunks of the map and of the replay window.
    pub chunks: u32,
}

/// Something to ask a peer about snapshots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JoinQuestion {
    /// Which it has.
    Offers,
    /// The head of this one, and the hashes of its chunks.
    Contents(Hash),
    /// The ends of epochs from this one on.
    Handovers(Epoch),
    /// One chunk.
    Chunk {
        /// Of this snapshot.
        id: Hash,
        /// Which.
        index: u32,
    },
}

/// An answer about snapshots.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JoinAnswer {
    /// To [`JoinQuestion::Offers`].
    Offers(Vec<Offer>),
    /// To [`JoinQuestion::Contents`].
    Contents {
        /// The head, undecoded.
        head: Vec<u8>,
        /// The chunks' hashes.
        chunks: Vec<Hash>,
    },
    /// To [`JoinQuestion::Handovers`], undecoded.
    Handovers(Vec<u8>),
    /// To [`JoinQuestion::Chunk`], undecoded.
    Chunk(Vec<u8>),
    /// It has not what was asked for.
    Lacks,
}

/// What the driver's intake says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It was taken in. The header is certified once `reached` is `wanted`.
    Good {
        /// The epoch that hand-overs have led to.
        reached: Epoch,
        /// The header's epoch.
        wanted: Epoch,
    },
    /// What was given is wrong.
    Wrong(String),
    /// What was given is right, and shows that the head is wrong.
    WrongHead(String),
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum JoinInput<P> {
    /// A peer may be asked from now on.
    Connected {
        /// The peer.
        peer: P,
    },
    /// A peer may be asked no more.
    Gone {
        /// The peer.
        peer: P,
    },
    /// A peer said where its chain stands.
    Claimed {
        /// The peer.
        peer: P,
        /// What it said.
        claim: Claim,
        /// The height of its newest snapshot; `None` when it has none, or does not know the question.
        newest: Option<Height>,
    },
    /// An answer.
    Answer {
        /// What it answers.
        request: RequestId,
        /// The answer.
        answer: JoinAnswer,
    },
    /// There is no answer.
    Failed {
        /// What was asked.
        request: RequestId,
        /// Why.
        failure: Failure,
    },
    /// What came of [`JoinOutput::Begin`], [`JoinOutput::Take`] or [`JoinOutput::Install`].
    Judged {
        /// Of which.
        job: RequestId,
        /// The verdict.
        verdict: Verdict,
    },
    /// The state has blocks of its own now.
    Moved,
    /// Time has passed.
    Tick,
}

/// Something to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JoinOutput<P> {
    /// Ask, and report the answer or its absence under this id.
    Ask {
        /// Whom.
        peer: P,
        /// The id.
        request: RequestId,
        /// What.
        question: JoinQuestion,
    },
    /// Begin an intake with this head, of this height.
    Begin {
        /// To be named in the verdict.
        job: RequestId,
        /// The head.
        head: Vec<u8>,
        /// The height it must have.
        offer: Offer,
    },
    /// Take these hand-overs or this chunk in.
    Take {
        /// To be named in the verdict.
        job: RequestId,
        /// Undecoded.
        bytes: Vec<u8>,
        /// Chunks taken in before, for whoever watches; none while hand-overs are.
        done: Option<u32>,
    },
    /// Everything is here: make it the state.
    Install {
        /// To be named in the verdict.
        job: RequestId,
    },
    /// Forget the intake; a verdict under way counts no more.
    Abandon {
        /// Why, for the log.
        why: String,
    },
    /// The peer has provably lied.
    Punish {
        /// The peer.
        peer: P,
        /// How, for the log.
        why: String,
    },
    /// Whether fetching blocks is to wait.
    Hold(bool),
    /// No snapshot comes into question any more: whether one is installed.
    Over {
        /// Whether the state is a snapshot's now.
        joined: bool,
    },
}
