//! What the node decides about networking. Raw values: [`crate::P2p::start`] checks them.

use std::path::PathBuf;
use std::time::Duration;

use cairn_types::{Address, ChainId, Epoch};

/// Node configuration of both networks. Addresses are multiaddresses as text, for instance
/// `/ip4/10.0.0.1/tcp/7000` or, with a peer id, `/dns4/a.example/tcp/7001/p2p/12D3...`.
#[derive(Clone, Debug)]
pub struct P2pConfig {
    /// The chain; every protocol name and topic contains it.
    pub chain: ChainId,
    /// The epoch of `validators`.
    pub epoch: Epoch,
    /// The validators admitted to the mesh at the start: those of the previous, current and next epoch.
    pub validators: Vec<Address>,
    /// Where the mesh listens. `None`: no mesh (a follower).
    pub mesh_listen: Option<String>,
    /// Where the public network listens, a TCP address; QUIC takes the UDP port of the same number.
    pub public_listen: String,
    /// File of the mesh's Ed25519 node key, made with mode 0600 when missing.
    pub mesh_key: PathBuf,
    /// File of the public network's Ed25519 node key, made with mode 0600 when missing.
    pub public_key: PathBuf,
    /// Mesh addresses of validators that are always dialled, with or without a peer id.
    pub mesh_peers: Vec<String>,
    /// Public addresses that are always dialled: static peers and bootstrap peers, with or without a peer id.
    pub public_peers: Vec<String>,
    /// Mesh addresses to publish in our node record; empty: the addresses listened on.
    pub mesh_external: Vec<String>,
    /// Public addresses to publish; empty: the addresses listened on.
    pub public_external: Vec<String>,
    /// Whether the public network also speaks QUIC.
    pub quic: bool,
    /// File of the address book; `None`: nothing is remembered over a restart.
    pub address_book: Option<PathBuf>,
    /// Most peers of the public network, 4 to 1,000.
    pub public_peers_max: u32,
    /// How often our node record is signed and published anew; at most 12 h.
    pub record_interval: Duration,
    /// How often validators without a link are looked up, and public peers dialled anew.
    pub lookup_interval: Duration,
    /// How long a transaction waits for others before its batch is sent.
    pub gossip_interval: Duration,
    /// How long a sync or repair request waits for its answer.
    pub request_timeout: Duration,
}

impl P2pConfig {
    /// A public network on a loopback port of the system's choice, no mesh, no peers; keys in `dir`.
    pub fn new(chain: ChainId, dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        Self {
            chain,
            epoch: Epoch::ZERO,
            validators: Vec::new(),
            mesh_listen: None,
            public_listen: "/ip4/127.0.0.1/tcp/0".to_owned(),
            mesh_key: dir.join("mesh.key"),
            public_key: dir.join("public.key"),
            mesh_peers: Vec::new(),
            public_peers: Vec::new(),
            mesh_external: Vec::new(),
            public_external: Vec::new(),
            quic: false,
            address_book: Some(dir.join("address_book")),
            public_peers_max: 64,
            record_interval: Duration::from_secs(30 * 60),
            lookup_interval: Duration::from_secs(2),
            gossip_interval: Duration::from_millis(50),
            request_timeout: Duration::from_secs(5),
        }
    }
}
