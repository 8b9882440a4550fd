//! The public swarm's protocols.

use std::num::NonZeroUsize;
use std::time::Duration;

use cairn_types::ChainId;
use cairn_types::node_record::NODE_RECORD_BYTES_MAX;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::kad::store::{MemoryStore, MemoryStoreConfig};
use libp2p::swarm::NetworkBehaviour;
use libp2p::{
    PeerId, Swarm, SwarmBuilder, connection_limits, identify, kad, ping, request_response, tcp, tls, yamux,
};

use super::gossip::{self, Gossip, Topics};
use crate::exchange::{self, BytesCodec};
use crate::fault::P2pFault;
use crate::gate::Gate;
use crate::link::protocol;

/// Node records kept for others: those of three validator sets of 100, with room.
const RECORDS_MAX: usize = 512;
/// A reply with a node record of 3.7 kB and 20 closer peers.
const KAD_PACKET_BYTES_MAX: usize = 32 * 1_024;
/// Handshakes under way in each direction.
const PENDING_MAX: u32 = 64;
/// Connections to one peer: one that each side dialled, and one that replaces a dead one.
const PER_PEER_MAX: u32 = 3;
/// Peers come and go by the limits, not by idleness.
const IDLE_MAX: Duration = Duration::from_secs(600);
/// Streams of one connection, all protocols.
const YAMUX_STREAMS_MAX: usize = 128;

/// Limits first, so that nothing is made for a connection they refuse.
#[derive(NetworkBehaviour)]
pub(crate) struct PublicBehaviour {
    limits: connection_limits::Behaviour,
    pub(crate) gate: Gate,
    pub(crate) identify: identify::Behaviour,
    pub(crate) kad: kad::Behaviour<MemoryStore>,
    pub(crate) gossip: Gossip,
    pub(crate) sync: request_response::Behaviour<BytesCodec>,
    ping: ping::Behaviour,
}

/// What the public swarm is made of.
pub(crate) struct SwarmParts<'a> {
    pub(crate) key: &'a Keypair,
    pub(crate) chain: ChainId,
    pub(crate) topics: &'a Topics,
    pub(crate) peers_max: u32,
    pub(crate) request_timeout: Duration,
}

/// The protocol version told to peers; those that tell another follow another chain.
pub(crate) fn identity_version(chain: ChainId) -> String {
    format!("/cairn/{chain}/1")
}

fn kademlia(chain: ChainId, local: PeerId) -> kad::Behaviour<MemoryStore> {
    let store = MemoryStoreConfig {
        max_records: RECORDS_MAX,
        max_value_bytes: NODE_RECORD_BYTES_MAX,
        max_providers_per_key: 1,
        max_provided_keys: 0,
    };
    let mut config = kad::Config::new(protocol(chain, "kad"));
    config
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .disjoint_query_paths(true)
        .set_parallelism(NonZeroUsize::new(3).unwrap_or(NonZeroUsize::MIN))
        .set_record_ttl(Some(Duration::from_secs(24 * 3_600)))
        .set_publication_interval(None)
        .set_replication_interval(None)
        .set_max_packet_size(KAD_PACKET_BYTES_MAX)
        .set_periodic_bootstrap_interval(Some(Duration::from_secs(300)))
        .set_query_timeout(Duration::from_secs(20))
        .set_caching(kad::Caching::Disabled);
    let mut kad = kad::Behaviour::with_config(local, MemoryStore::with_config(local, store), config);
    kad.set_mode(Some(kad::Mode::Server));
    kad
}

/// Builds the swarm. It listens nowhere yet.
pub(crate) fn build(parts: &SwarmParts<'_>) -> Result<Swarm<PublicBehaviour>, P2pFault> {
    let setup = |why: String| P2pFault::Setup { swarm: "public", why };
    let local = parts.key.public().to_peer_id();
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(PENDING_MAX))
        .with_max_pending_outgoing(Some(PENDING_MAX))
        // At least 30 % are left to peers of our own choice.
        .with_max_established_incoming(Some(parts.peers_max * 7 / 10))
        .with_max_established(Some(parts.peers_max))
        .with_max_established_per_peer(Some(PER_PEER_MAX));
    let identify = identify::Config::new(identity_version(parts.chain), parts.key.public())
        .with_agent_version(concat!("cairn/", env!("CARGO_PKG_VERSION")).to_owned())
        .with_hide_listen_addrs(true)
        .with_push_listen_addr_updates(true)
        .with_cache_size(0);
    let behaviour = PublicBehaviour {
        limits: connection_limits::Behaviour::new(limits),
        gate: Gate::new(),
        identify: identify::Behaviour::new(identify),
        kad: kademlia(parts.chain, local),
        gossip: gossip::behaviour(parts.topics).map_err(setup)?,
        sync: exchange::behaviour(protocol(parts.chain, "sync"), parts.request_timeout),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(Duration::from_secs(10))),
    };
    let muxer = || {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(YAMUX_STREAMS_MAX);
        config
    };
    let swarm = SwarmBuilder::with_existing_identity(parts.key.clone())
        .with_tokio()
        .with_tcp(tcp::Config::new().nodelay(true), tls::Config::new, muxer)
        .map_err(|why| setup(why.to_string()))?
        .with_quic()
        .with_dns()
        .map_err(|why| setup(format!("name resolution: {why}")))?
        .with_behaviour(|_| behaviour)
        .map_err(|why| setup(why.to_string()))?
        .with_swarm_config(|config| {
            config
                .with_idle_connection_timeout(IDLE_MAX)
                .with_substream_upgrade_protocol_override(Version::V1Lazy)
        })
        .build();
    Ok(swarm)
}
