//! What the networks tell the node. Two channels: consensus never queues behind transactions.

use bytes::Bytes;
use cairn_types::{Address, Epoch, View};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::message::{MessageKind, Peer, Plane, SyncRequest, SyncResponse};

/// A message from a validator. While it lives it counts against what that validator may have waiting
/// here, so drop it as soon as it has been dealt with.
#[derive(Debug)]
pub struct MeshMessage {
    /// Who sent it (its link is authenticated; the message itself is not verified).
    pub from: Address,
    /// The stream it came on.
    pub plane: Plane,
    /// What it claims to be.
    pub kind: MessageKind,
    /// The epoch it claims.
    pub epoch: Epoch,
    /// The view it claims.
    pub view: View,
    /// Its bytes, unchecked.
    pub body: Bytes,
    #[expect(dead_code, reason = "held for what its drop gives back")]
    pub(crate) charge: Option<OwnedSemaphorePermit>,
}

/// Events that consensus waits for.
#[derive(Debug)]
pub enum HotEvent {
    /// A validator's link is up (again): time to send it what rule R lists.
    Connected {
        /// The validator.
        address: Address,
    },
    /// A validator's last link is gone.
    Disconnected {
        /// The validator.
        address: Address,
    },
    /// A message of the hot plane.
    Message(MeshMessage),
    /// A repair request. Dropping `reply` tells the validator that there is no answer.
    Request {
        /// Who asks.
        from: Address,
        /// What it asks, opaque.
        body: Bytes,
        /// Takes the answer, at most [`crate::RESPONSE_BYTES_MAX`].
        reply: oneshot::Sender<Bytes>,
    },
}

/// Everything else.
#[derive(Debug)]
pub enum Event {
    /// A message of the bulk plane.
    Bulk(MeshMessage),
    /// A batch of transactions. To be answered with [`crate::Command::ReportValidation`] within 4 s, or
    /// it is not forwarded.
    Transactions {
        /// The peer it came from, which need not have made it.
        from: Peer,
        /// The transactions, undecoded.
        batch: Vec<Bytes>,
        /// Names the batch in the report.
        ticket: GossipTicket,
    },
    /// A finalised block's announcement. To be answered like `Transactions`.
    Announcement {
        /// The peer it came from.
        from: Peer,
        /// Its bytes, unchecked.
        bytes: Bytes,
        /// Names it in the report.
        ticket: GossipTicket,
    },
    /// A sync request. Dropping `reply` tells the peer that there is no answer.
    SyncRequest {
        /// Who asks.
        from: Peer,
        /// What it asks.
        request: SyncRequest,
        /// Takes the answer.
        reply: oneshot::Sender<SyncResponse>,
    },
    /// A public peer that speaks our chain's protocols is connected.
    PublicConnected {
        /// The peer.
        peer: Peer,
    },
    /// A public peer is gone.
    PublicDisconnected {
        /// The peer.
        peer: Peer,
    },
    /// A network listens on an address.
    Listening {
        /// Which network.
        swarm: SwarmName,
        /// The multiaddress, with our peer id.
        address: String,
    },
}

/// One of the two networks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SwarmName {
    /// Validators only.
    Mesh,
    /// Everyone.
    Public,
}

/// Names a gossiped message until its verdict is reported.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GossipTicket {
    pub(crate) message: libp2p::gossipsub::MessageId,
    pub(crate) source: libp2p::PeerId,
}

/// What the node thinks of a gossiped message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Good: forward it.
    Accept,
    /// Stale, known or not wanted now: do not forward, nobody's fault.
    Ignore,
    /// Invalid whatever the state: the peer that forwarded it is charged.
    Reject,
}
