//! What the node asks of the networks.

use bytes::Bytes;
use cairn_types::{Address, Epoch};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot};

use crate::event::{GossipTicket, Verdict};
use crate::fault::{RequestFault, SendFault};
use crate::links::Links;
use crate::message::{Outbound, Peer, SyncRequest, SyncResponse};

/// Something for the networks to do.
#[derive(Debug)]
pub enum Command {
    /// Sends to every validator that has a link.
    MeshBroadcast(Outbound),
    /// Sends to one validator. Dropped, and counted, when it has no link.
    MeshSend {
        /// The validator.
        to: Address,
        /// The message.
        message: Outbound,
    },
    /// Asks one validator (repair: fetch a block by id). The body is opaque, at most 16 KiB.
    MeshRequest {
        /// The validator.
        to: Address,
        /// The request.
        body: Bytes,
        /// Gets the answer.
        reply: oneshot::Sender<Result<Bytes, RequestFault>>,
    },
    /// Asks one public peer.
    PublicRequest {
        /// The peer.
        peer: Peer,
        /// The question.
        request: SyncRequest,
        /// Gets the answer.
        reply: oneshot::Sender<Result<SyncResponse, RequestFault>>,
    },
    /// Gossips transactions, in batches.
    GossipTransactions(Vec<Bytes>),
    /// Gossips that a block is final.
    AnnounceBlock(Bytes),
    /// The verdict on gossiped transactions or an announcement.
    ReportValidation {
        /// From the event.
        ticket: GossipTicket,
        /// The verdict.
        verdict: Verdict,
    },
    /// The validators admitted to the mesh from now on: those of epochs N-1, N and N+1.
    SetValidators {
        /// The current epoch, N.
        epoch: Epoch,
        /// The validators.
        addresses: Vec<Address>,
    },
    /// Signs and publishes our node record now; it is also done by itself at the start, whenever an address
    /// changes, and every `record_interval`.
    PublishNodeRecord,
    /// Charges a public peer for a fault; after a few it is disconnected and banned for a while.
    Penalise {
        /// The peer.
        peer: Peer,
        /// What it did, for the log.
        why: String,
    },
    /// Describes the networks.
    NetInfo {
        /// Gets the description.
        reply: oneshot::Sender<NetInfo>,
    },
    /// Ends both networks.
    Shutdown,
}

/// A description of both networks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NetInfo {
    /// Our mesh peer id; `None` without a mesh.
    pub mesh_peer: Option<String>,
    /// Our public peer id.
    pub public_peer: String,
    /// Where the mesh listens.
    pub mesh_listen: Vec<String>,
    /// Where the public network listens.
    pub public_listen: Vec<String>,
    /// The validators with a link.
    pub validators: Vec<MeshPeerInfo>,
    /// The public peers.
    pub peers: Vec<PublicPeerInfo>,
    /// Public peers banned now.
    pub banned: usize,
    /// Validators whose node record is known.
    pub records: usize,
}

/// A validator with a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeshPeerInfo {
    /// The validator.
    pub address: Address,
    /// Its mesh peer id.
    pub peer: String,
    /// The remote multiaddress.
    pub endpoint: String,
    /// Bytes waiting to be sent to it, both planes.
    pub queued_bytes: usize,
}

/// A public peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicPeerInfo {
    /// The peer.
    pub peer: Peer,
    /// The remote multiaddress.
    pub endpoint: String,
    /// Whether it dialled us.
    pub inbound: bool,
    /// What it says it runs.
    pub agent: String,
}

/// Commands of one network that wait for its task. 1,024: a second of work for a busy node; beyond it
/// the sender waits.
pub(crate) const COMMANDS_MAX: usize = 1_024;

/// The way to give commands. Cheap to clone. Networking ends when [`Command::Shutdown`] is sent or every
/// handle is gone.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) links: Links,
    pub(crate) mesh: Option<mpsc::Sender<MeshCommand>>,
    pub(crate) public: mpsc::Sender<PublicCommand>,
}

/// Commands of the mesh task.
#[derive(Debug)]
pub(crate) enum MeshCommand {
    Request {
        to: Address,
        body: Bytes,
        reply: oneshot::Sender<Result<Bytes, RequestFault>>,
    },
    SetValidators {
        epoch: Epoch,
        addresses: Vec<Address>,
    },
    /// From the public network: a verified node record.
    Known {
        address: Address,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
    },
    NetInfo {
        reply: oneshot::Sender<NetInfo>,
    },
    Shutdown,
}

/// Commands of the public task.
#[derive(Debug)]
pub(crate) enum PublicCommand {
    Request { peer: Peer, request: SyncRequest, reply: oneshot::Sender<Result<SyncResponse, RequestFault>> },
    Gossip(Vec<Bytes>),
    Announce(Bytes),
    Report { ticket: GossipTicket, verdict: Verdict },
    SetValidators { addresses: Vec<Address> },
    PublishNodeRecord,
    Penalise { peer: Peer, why: String },
    NetInfo { mesh: Option<NetInfo>, reply: oneshot::Sender<NetInfo> },
    Shutdown,
}

impl Handle {
    /// Queues a message for every validator that has a link. Never waits: a full queue drops and counts.
    pub fn broadcast(&self, message: &Outbound) {
        self.links.broadcast(message);
    }

    /// Queues a message for one validator. Never waits. Returns whether it was queued.
    pub fn send_to(&self, to: &Address, message: &Outbound) -> bool {
        self.links.send_to(to, message)
    }

    /// Queues a message for every process that holds a validator's key: on each of its links. Never waits.
    pub fn send_to_each_link(&self, to: &Address, message: &Outbound) {
        self.links.send_to_each_link(to, message);
    }

    /// The validators that have a link now.
    pub fn linked(&self) -> Vec<Address> {
        self.links.addresses()
    }

    /// Gives a command, waiting for room in its queue.
    ///
    /// # Errors
    /// [`SendFault::Closed`] when networking has ended.
    pub async fn send(&self, command: Command) -> Result<(), SendFault> {
        match self.route(command) {
            Routed::Done => Ok(()),
            Routed::Mesh(command) => match &self.mesh {
                Some(mesh) => mesh.send(command).await.map_err(|_| SendFault::Closed),
                None => Ok(()),
            },
            Routed::Public(command) => self.public.send(command).await.map_err(|_| SendFault::Closed),
            Routed::Both(first, second) => {
                // One network may have ended; the other is told all the same.
                let first = match &self.mesh {
                    Some(mesh) => mesh.send(first).await.map_err(|_| SendFault::Closed),
                    None => Ok(()),
                };
                self.public.send(second).await.map_err(|_| SendFault::Closed).and(first)
            }
            Routed::NetInfo(reply) => self.net_info(reply).await,
        }
    }

    /// Gives a command without waiting: for callers that must never be held up, such as the consensus loop.
    ///
    /// # Errors
    /// [`SendFault::Full`] when its queue has no room, [`SendFault::Closed`] when networking has ended.
    pub fn try_send(&self, command: Command) -> Result<(), SendFault> {
        match self.route(command) {
            Routed::Done => Ok(()),
            Routed::Mesh(command) => self.mesh.as_ref().map_or(Ok(()), |mesh| offer(mesh, command)),
            Routed::Public(command) => offer(&self.public, command),
            Routed::Both(first, second) => {
                let first = self.mesh.as_ref().map_or(Ok(()), |mesh| offer(mesh, first));
                offer(&self.public, second).and(first)
            }
            Routed::NetInfo(reply) => offer(&self.public, PublicCommand::NetInfo { mesh: None, reply }),
        }
    }

    async fn net_info(&self, reply: oneshot::Sender<NetInfo>) -> Result<(), SendFault> {
        let mut info = None;
        if let Some(mesh) = &self.mesh {
            let (sender, receiver) = oneshot::channel();
            mesh.send(MeshCommand::NetInfo { reply: sender }).await.map_err(|_| SendFault::Closed)?;
            info = receiver.await.ok();
        }
        let command = PublicCommand::NetInfo { mesh: info, reply };
        self.public.send(command).await.map_err(|_| SendFault::Closed)
    }

    fn route(&self, command: Command) -> Routed {
        match command {
            Command::MeshBroadcast(message) => {
                self.broadcast(&message);
                Routed::Done
            }
            Command::MeshSend { to, message } => {
                self.send_to(&to, &message);
                Routed::Done
            }
            Command::MeshRequest { to, body, reply } => match self.mesh {
                Some(_) => Routed::Mesh(MeshCommand::Request { to, body, reply }),
                None => {
                    // The asker may have gone; then nobody misses the answer.
                    let _ = reply.send(Err(RequestFault::NotConnected));
                    Routed::Done
                }
            },
            Command::PublicRequest { peer, request, reply } => {
                Routed::Public(PublicCommand::Request { peer, request, reply })
            }
            Command::GossipTransactions(batch) => Routed::Public(PublicCommand::Gossip(batch)),
            Command::AnnounceBlock(bytes) => Routed::Public(PublicCommand::Announce(bytes)),
            Command::ReportValidation { ticket, verdict } => {
                Routed::Public(PublicCommand::Report { ticket, verdict })
            }
            Command::SetValidators { epoch, addresses } => Routed::Both(
                MeshCommand::SetValidators { epoch, addresses: addresses.clone() },
                PublicCommand::SetValidators { addresses },
            ),
            Command::PublishNodeRecord => Routed::Public(PublicCommand::PublishNodeRecord),
            Command::Penalise { peer, why } => Routed::Public(PublicCommand::Penalise { peer, why }),
            Command::NetInfo { reply } => Routed::NetInfo(reply),
            Command::Shutdown => Routed::Both(MeshCommand::Shutdown, PublicCommand::Shutdown),
        }
    }
}

enum Routed {
    Done,
    Mesh(MeshCommand),
    Public(PublicCommand),
    Both(MeshCommand, PublicCommand),
    NetInfo(oneshot::Sender<NetInfo>),
}

fn offer<T>(queue: &mpsc::Sender<T>, command: T) -> Result<(), SendFault> {
    queue.try_send(command).map_err(|fault| match fault {
        mpsc::error::TrySendError::Full(_) => SendFault::Full,
        mpsc::error::TrySendError::Closed(_) => SendFault::Closed,
    })
}
