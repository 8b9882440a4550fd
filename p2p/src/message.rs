//! What travels, as the node sees it: kinds, planes and the sync protocol. Payloads are opaque bytes.

use std::fmt;

use bytes::Bytes;
use cairn_types::{BlockId, Epoch, Hash, Height, Message, View};

/// Which of a link's two streams carries a message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Plane {
    /// Votes, timeouts, proposals, certificates. The newer message of one kind and view replaces the older.
    Hot,
    /// Large payloads, in order.
    Bulk,
}

impl Plane {
    /// Both planes.
    pub const ALL: [Self; 2] = [Self::Hot, Self::Bulk];

    /// Its name in metrics and protocol names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Bulk => "bulk",
        }
    }
}

/// What a mesh message is, so that queues and metrics need not look inside.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[expect(missing_docs, reason = "each variant is the message of its name")]
pub enum MessageKind {
    Proposal,
    Vote,
    CommitVote,
    Timeout,
    Certificate,
    TimeoutCert,
    CommitCert,
    Status,
    /// A list of transactions for a leader.
    Transactions,
    EpochProof,
    /// A proposal that names its transactions.
    CompactProposal,
    /// Whether a validator's key is in use by another process.
    Presence,
}

impl MessageKind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::Proposal,
        Self::Vote,
        Self::CommitVote,
        Self::Timeout,
        Self::Certificate,
        Self::TimeoutCert,
        Self::CommitCert,
        Self::Status,
        Self::Transactions,
        Self::EpochProof,
        Self::CompactProposal,
        Self::Presence,
    ];

    /// The kind of a consensus message.
    pub const fn of(message: &Message) -> Self {
        match message {
            Message::Proposal(_) => Self::Proposal,
            Message::Vote(_) => Self::Vote,
            Message::CommitVote(_) => Self::CommitVote,
            Message::Timeout(_) => Self::Timeout,
            Message::Certificate(_) => Self::Certificate,
            Message::TimeoutCert(_) => Self::TimeoutCert,
            Message::CommitCert(_) => Self::CommitCert,
            Message::Status(_) => Self::Status,
            Message::EpochProof(_) => Self::EpochProof,
        }
    }

    /// Its number on the wire.
    pub const fn number(self) -> u32 {
        match self {
            Self::Proposal => 1,
            Self::Vote => 2,
            Self::CommitVote => 3,
            Self::Timeout => 4,
            Self::Certificate => 5,
            Self::TimeoutCert => 6,
            Self::CommitCert => 7,
            Self::Status => 8,
            Self::Transactions => 9,
            Self::EpochProof => 10,
            Self::CompactProposal => 11,
            Self::Presence => 12,
        }
    }

    /// The kind with this number on the wire.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Proposal => "proposal",
            Self::Vote => "vote",
            Self::CommitVote => "commit_vote",
            Self::Timeout => "timeout",
            Self::Certificate => "certificate",
            Self::TimeoutCert => "timeout_cert",
            Self::CommitCert => "commit_cert",
            Self::Status => "status",
            Self::Transactions => "transactions",
            Self::EpochProof => "epoch_proof",
            Self::CompactProposal => "compact_proposal",
            Self::Presence => "presence",
        }
    }
}

/// A message to send over the mesh. The body is shared by all links it goes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outbound {
    /// The stream it takes.
    pub plane: Plane,
    /// What it is.
    pub kind: MessageKind,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its view; zero when it has none.
    pub view: View,
    /// Its bytes.
    pub body: Bytes,
}

/// A peer of the public network.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer(pub(crate) libp2p::PeerId);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A question of the sync protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SyncRequest {
    /// Where the peer's chain stands.
    Status,
    /// Finalised blocks from `from` upwards, as many as fit, at most `count`.
    Blocks {
        /// The first height.
        from: Height,
        /// At most so many.
        count: u32,
    },
    /// One block by its id.
    Block {
        /// The block.
        id: BlockId,
    },
    /// The snapshots it has. To be asked, like the next three, of peers whose [`Tip`] names a snapshot alone: earlier
    /// builds take these questions for a fault.
    Snapshots,
    /// The head of a snapshot, and the hashes of its chunks.
    SnapshotContents {
        /// The snapshot.
        id: Hash,
    },
    /// One chunk of a snapshot.
    SnapshotChunk {
        /// The snapshot.
        id: Hash,
        /// Which, from 0.
        index: u32,
    },
    /// The ends of epochs from this one on, as many as make up one answer.
    Handovers {
        /// The first.
        from: Epoch,
    },
}

/// Where a peer's chain stands. A claim, not a proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tip {
    /// The height of its last finalised block.
    pub height: Height,
    /// That block.
    pub block: BlockId,
    /// Its epoch.
    pub epoch: Epoch,
    /// The lowest height it can serve.
    pub earliest: Height,
    /// The height of its newest snapshot; `None` when it has none, or is of a build that knows none.
    pub snapshot: Option<Height>,
}

/// A snapshot that a peer has. A claim, not a proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotOffer {
    /// The height of its block.
    pub height: Height,
    /// Its name, which binds its chunks.
    pub id: Hash,
    /// The number of its chunks.
    pub chunks: u32,
}

/// What a snapshot consists of, undecoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotContents {
    /// Its head.
    pub head: Bytes,
    /// The hashes of its chunks, 32 bytes each.
    pub chunks: Bytes,
}

/// Snapshots named in one answer, at most.
pub const SNAPSHOT_OFFERS_MAX: usize = 16;

/// An answer of the sync protocol. Blocks are opaque; at most [`RESPONSE_BYTES_MAX`] in all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SyncResponse {
    /// Answers [`SyncRequest::Status`].
    Status(Tip),
    /// Answers [`SyncRequest::Blocks`], lowest height first; empty when it has none of them.
    Blocks(Vec<Bytes>),
    /// Answers [`SyncRequest::Block`]; `None` when it has no such block.
    Block(Option<Bytes>),
    /// Answers [`SyncRequest::Snapshots`]; at most [`SNAPSHOT_OFFERS_MAX`].
    Snapshots(Vec<SnapshotOffer>),
    /// Answers [`SyncRequest::SnapshotContents`]; `None` when it has not that snapshot.
    SnapshotContents(Option<SnapshotContents>),
    /// Answers [`SyncRequest::SnapshotChunk`]; `None` when it has not that snapshot.
    SnapshotChunk(Option<Bytes>),
    /// Answers [`SyncRequest::Handovers`]; `None` when it knows no such end.
    Handovers(Option<Bytes>),
}

/// Longest request, bytes.
pub const REQUEST_BYTES_MAX: usize = 16 * 1_024;
/// Longest response, bytes: a 3 MiB block with its certificate, or many small blocks.
pub const RESPONSE_BYTES_MAX: usize = 4 * 1_024 * 1_024;
/// Longest body on the hot plane, bytes: a proposal of a 3 MiB block with certificates of 100 validators.
pub const HOT_BODY_BYTES_MAX: usize = 4 * 1_024 * 1_024 - FRAME_HEADROOM_BYTES;
/// Longest body on the bulk plane, bytes.
pub const BULK_BODY_BYTES_MAX: usize = 4 * 1_024 * 1_024;
/// Longest gossiped transaction batch, bytes. A transaction has at most 64 KiB, so each fits a batch.
pub const GOSSIP_BATCH_BYTES_MAX: usize = 64 * 1_024;
/// Most transactions in one gossiped batch.
pub const GOSSIP_BATCH_TRANSACTIONS_MAX: usize = 256;
/// Longest gossiped block announcement, bytes: a header and a certificate of 20 Dilithium signatures.
pub const ANNOUNCEMENT_BYTES_MAX: usize = 64 * 1_024;
/// Room for an envelope's header in a frame, bytes.
pub(crate) const FRAME_HEADROOM_BYTES: usize = 64;
