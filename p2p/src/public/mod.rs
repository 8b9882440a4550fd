//! The public network: Kademlia (how validators find one another), gossip (transactions, finalised
//! blocks), sync requests. Open to everyone who speaks this chain's protocols.

pub(crate) mod batch;
pub(crate) mod book;
mod discovery;
mod gossip;
mod records;
mod swarm;
mod sync;
pub(crate) mod task;
