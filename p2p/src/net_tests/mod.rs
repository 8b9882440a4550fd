//! Real swarms on loopback.

mod gossip;
mod hostile;
mod mesh;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use cairn_types::{Address, ChainId, Epoch, Hash, Signature, View};
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::{
    Command, Event, Handle, HotEvent, LinkIdentity, MeshMessage, MessageKind, NetInfo, Outbound, P2p,
    P2pConfig, Plane, SwarmName,
};

/// Generous: tests wait for events, and a busy machine must not fail them.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn chain() -> ChainId {
    ChainId::new(Hash([0xca; 32]))
}

pub(crate) fn address(number: u8) -> Address {
    Address::new(Hash([number; 32]))
}

pub(crate) fn addresses(count: u8) -> Vec<Address> {
    (1..=count).map(address).collect()
}

/// Signs with a keyed hash: whoever knows the address knows the right key, so a wrong key stands for a
/// forger.
pub(crate) struct TestIdentity {
    pub(crate) address: Option<Address>,
    pub(crate) key: [u8; 32],
    pub(crate) known: BTreeSet<Address>,
}

impl TestIdentity {
    pub(crate) fn validator(address: Address, known: &[Address]) -> Self {
        Self { address: Some(address), key: *address.as_bytes(), known: known.iter().copied().collect() }
    }

    pub(crate) fn follower(known: &[Address]) -> Self {
        Self { address: None, key: [0; 32], known: known.iter().copied().collect() }
    }
}

fn mac(key: &[u8; 32], preimage: &[u8]) -> Signature {
    Signature::new(blake3::keyed_hash(key, preimage).as_bytes()).unwrap()
}

impl LinkIdentity for TestIdentity {
    fn address(&self) -> Option<Address> {
        self.address
    }

    fn sign(&self, preimage: &[u8]) -> Signature {
        mac(&self.key, preimage)
    }

    fn verify(&self, address: &Address, preimage: &[u8], signature: &Signature) -> bool {
        self.known.contains(address) && mac(address.as_bytes(), preimage) == *signature
    }
}

#[expect(clippy::disallowed_methods, reason = "the test stands in for the node, which reads the clock")]
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

pub(crate) struct Node {
    pub(crate) p2p: P2p,
    pub(crate) mesh: Option<String>,
    pub(crate) public: String,
    pub(crate) address: Option<Address>,
    pub(crate) directory: Arc<TempDir>,
}

pub(crate) fn validator_config(directory: &Path, validators: &[Address]) -> P2pConfig {
    P2pConfig {
        validators: validators.to_vec(),
        mesh_listen: Some("/ip4/127.0.0.1/tcp/0".to_owned()),
        lookup_interval: Duration::from_millis(500),
        ..P2pConfig::new(chain(), directory)
    }
}

impl Node {
    pub(crate) async fn start(config: P2pConfig, identity: TestIdentity, directory: Arc<TempDir>) -> Self {
        let address = identity.address;
        let has_mesh = config.mesh_listen.is_some();
        let mut p2p =
            P2p::start(config, Arc::new(identity), Arc::new(now_ms), &mut Registry::default()).unwrap();
        let (mut mesh, mut public) = (None, None);
        while public.is_none() || (has_mesh && mesh.is_none()) {
            match timeout(PATIENCE, p2p.events.recv()).await.unwrap().unwrap() {
                Event::Listening { swarm: SwarmName::Mesh, address } => mesh = Some(address),
                Event::Listening { swarm: SwarmName::Public, address } => public = Some(address),
                _ => {}
            }
        }
        Self { p2p, mesh, public: public.unwrap(), address, directory }
    }

    /// A validator that knows some mesh addresses and some public ones.
    pub(crate) async fn validator(
        number: u8,
        validators: &[Address],
        mesh_peers: &[&Node],
        public_peers: &[&Node],
    ) -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let config = P2pConfig {
            mesh_peers: mesh_peers.iter().filter_map(|node| node.mesh.clone()).collect(),
            public_peers: public_peers.iter().map(|node| node.public.clone()).collect(),
            ..validator_config(directory.path(), validators)
        };
        Self::start(config, TestIdentity::validator(address(number), validators), directory).await
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.p2p.handle
    }

    pub(crate) async fn hot(&mut self) -> HotEvent {
        timeout(PATIENCE, self.p2p.hot.recv()).await.expect("an event in time").expect("an open channel")
    }

    pub(crate) async fn event(&mut self) -> Event {
        timeout(PATIENCE, self.p2p.events.recv()).await.expect("an event in time").expect("an open channel")
    }

    /// Waits until this validator has a link.
    pub(crate) async fn connected(&mut self, to: Address) {
        loop {
            match self.hot().await {
                HotEvent::Connected { address } if address == to => return,
                _ => {}
            }
        }
    }

    pub(crate) async fn disconnected(&mut self, from: Address) {
        loop {
            match self.hot().await {
                HotEvent::Disconnected { address } if address == from => return,
                _ => {}
            }
        }
    }

    pub(crate) async fn message(&mut self) -> MeshMessage {
        loop {
            if let HotEvent::Message(message) = self.hot().await {
                return message;
            }
        }
    }

    pub(crate) async fn bulk(&mut self) -> MeshMessage {
        loop {
            if let Event::Bulk(message) = self.event().await {
                return message;
            }
        }
    }

    pub(crate) async fn info(&self) -> NetInfo {
        let (reply, info) = tokio::sync::oneshot::channel();
        self.handle().send(Command::NetInfo { reply }).await.unwrap();
        timeout(PATIENCE, info).await.unwrap().unwrap()
    }
}

/// Two linked validators, 1 and 2.
pub(crate) async fn pair() -> (Node, Node) {
    let validators = addresses(2);
    let mut first = Node::validator(1, &validators, &[], &[]).await;
    let mut second = Node::validator(2, &validators, &[&first], &[]).await;
    first.connected(address(2)).await;
    second.connected(address(1)).await;
    (first, second)
}

pub(crate) fn hot(kind: MessageKind, view: u64, body: impl Into<Bytes>) -> Outbound {
    Outbound { plane: Plane::Hot, kind, epoch: Epoch::ZERO, view: View::new(view), body: body.into() }
}

pub(crate) fn bulk(kind: MessageKind, view: u64, body: impl Into<Bytes>) -> Outbound {
    Outbound { plane: Plane::Bulk, ..hot(kind, view, body) }
}
