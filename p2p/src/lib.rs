//! Cairn's networks: [`Command`] in, events out. Nothing here knows what a vote means, and no libp2p
//! type leaves this crate.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing))]

mod command;
mod config;
mod event;
mod fault;
mod frame;
mod identity;
mod links;
mod message;
mod metrics;
mod queue;

use std::sync::Arc;

use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

pub use command::{Command, Handle, MeshPeerInfo, NetInfo, PublicPeerInfo};
pub use config::P2pConfig;
pub use event::{Event, GossipTicket, HotEvent, MeshMessage, SwarmName, Verdict};
pub use fault::{P2pFault, RequestFault, SendFault};
pub use identity::{Clock, LinkIdentity};
pub use message::{
    ANNOUNCEMENT_BYTES_MAX, BULK_BODY_BYTES_MAX, GOSSIP_BATCH_BYTES_MAX, GOSSIP_BATCH_TRANSACTIONS_MAX,
    HOT_BODY_BYTES_MAX, MessageKind, Outbound, Peer, Plane, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX,
    SyncRequest, SyncResponse, Tip,
};

/// The running networks.
#[derive(Debug)]
pub struct P2p {
    /// Gives commands.
    pub handle: Handle,
    /// What consensus waits for. To be drained without delay.
    pub hot: mpsc::Receiver<HotEvent>,
    /// Everything else.
    pub events: mpsc::Receiver<Event>,
}

impl P2p {
    /// Starts both networks on the current tokio runtime.
    ///
    /// # Errors
    /// When the configuration, a key file or the address book is unusable, or an address cannot be bound.
    pub fn start(
        config: P2pConfig,
        identity: Arc<dyn LinkIdentity>,
        clock: Clock,
        registry: &mut Registry,
    ) -> Result<Self, P2pFault> {
        let _ = (config, identity, clock, metrics::Metrics::registered(registry));
        Err(P2pFault::Setup { swarm: "mesh", why: "being built".to_owned() })
    }
}
