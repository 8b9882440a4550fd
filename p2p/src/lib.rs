//! Cairn's networks: [`Command`] in, events out. Nothing here knows what a vote means, and no libp2p
//! type leaves this crate.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing))]

mod address;
mod command;
mod config;
mod dialer;
mod event;
mod exchange;
mod fault;
mod frame;
mod gate;
mod identity;
mod link;
mod links;
mod mesh;
mod message;
mod metrics;
mod node_key;
mod public;
mod queue;
mod start;

#[cfg(test)]
mod net_tests;

pub use command::{Command, Handle, MeshPeerInfo, NetInfo, PublicPeerInfo};
pub use config::P2pConfig;
pub use event::{Event, GossipTicket, HotEvent, MeshMessage, SwarmName, Verdict};
pub use fault::{P2pFault, RequestFault, SendFault};
pub use identity::{Clock, LinkIdentity};
pub use message::{
    ANNOUNCEMENT_BYTES_MAX, BULK_BODY_BYTES_MAX, GOSSIP_BATCH_BYTES_MAX, GOSSIP_BATCH_TRANSACTIONS_MAX,
    HOT_BODY_BYTES_MAX, MessageKind, Outbound, Peer, Plane, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX,
    SNAPSHOT_OFFERS_MAX, SnapshotContents, SnapshotOffer, SyncRequest, SyncResponse, Tip,
};
pub use start::P2p;
