//! A validator that signs two votes in one view, in front of real nodes: they notice it themselves, bring the evidence
//! on chain, and go on without it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cairn_crypto::{KeyPair, Keystore};
use cairn_p2p::{HotEvent, LinkIdentity, MessageKind, Outbound, P2p, P2pConfig, Plane};
use cairn_types::signing::{Tag, block_preimage};
use cairn_types::{
    Address, BlockId, Epoch, Hash, Message, Signature, ValidatorIndex, ValidatorSet, View, Vote, encode,
};
use prometheus_client::registry::Registry;
use serde_json::json;

use crate::cluster::Cluster;

/// How long links and the end of the epoch may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Views ahead of the present in which the culprit contradicts itself: validators look at as many.
const VIEWS_AHEAD: u64 = 4;

/// A validator's key without its node.
struct Culprit {
    key: KeyPair,
    set: ValidatorSet,
}

impl LinkIdentity for Culprit {
    fn address(&self) -> Option<Address> {
        Some(self.key.address())
    }

    fn sign(&self, preimage: &[u8]) -> Signature {
        self.key.sign(preimage)
    }

    fn verify(&self, address: &Address, preimage: &[u8], signature: &Signature) -> bool {
        let validator = self.set.index_of(address).and_then(|index| self.set.get(index));
        validator.is_some_and(|it| cairn_crypto::verify(&it.key, preimage, signature).is_ok())
    }
}

impl Culprit {
    fn of(cluster: &Cluster, node: u16) -> Self {
        let home = cluster.network.layout().node(node).home;
        let passphrase = cairn_testnet::create::read_passphrase(cluster.network.layout()).unwrap();
        let key = Keystore::load(&home.join("keys/validator.json")).unwrap().open(&passphrase).unwrap();
        Self { key, set: cluster.anchorer.genesis().validator_set().unwrap() }
    }

    /// A vote for a block that nobody has, in a view of epoch 0.
    fn vote(&self, cluster: &Cluster, view: View, block: u8) -> Outbound {
        let (chain, block) = (cluster.anchorer.genesis().chain(), BlockId::new(Hash([block; 32])));
        let index: ValidatorIndex = self.set.index_of(&self.key.address()).unwrap();
        let signature = self.key.sign(&block_preimage(Tag::Vote, chain, Epoch::ZERO, view, block));
        let message = Message::Vote(Vote::new(Epoch::ZERO, view, block, index, signature));
        Outbound {
            plane: Plane::Hot,
            kind: MessageKind::Vote,
            epoch: Epoch::ZERO,
            view,
            body: encode(&message).into(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the test stands in for a node, which reads the clock")]
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// The culprit's own networking, linked to every other validator.
async fn linked(cluster: &Cluster, culprit: Arc<Culprit>, dir: &std::path::Path, others: &[u16]) -> P2p {
    let mesh_peers = others.iter().map(|node| {
        let port = cluster.network.ports(*node).unwrap().mesh;
        format!("/ip4/127.0.0.1/tcp/{port}")
    });
    let config = P2pConfig {
        validators: culprit.set.validators().iter().map(|it| it.address).collect(),
        mesh_listen: Some("/ip4/127.0.0.1/tcp/0".to_owned()),
        mesh_peers: mesh_peers.collect(),
        address_book: None,
        ..P2pConfig::new(cluster.anchorer.genesis().chain(), dir)
    };
    let mut p2p = P2p::start(config, culprit, Arc::new(now_ms), &mut Registry::default()).unwrap();
    let mut links = 0;
    while links < others.len() {
        let event = tokio::time::timeout(PATIENCE, p2p.hot.recv()).await.expect("links come up");
        links += usize::from(matches!(event.expect("it runs"), HotEvent::Connected { .. }));
    }
    p2p
}

#[tokio::test]
async fn validators_convict_whoever_votes_twice_before_their_eyes() {
    let mut cluster = Cluster::start(4).await;
    cluster.anchor(0).await;
    cluster.network.stop_node(3).unwrap();
    let culprit = Arc::new(Culprit::of(&cluster, 3));
    let dir = tempfile::tempdir().unwrap();
    let p2p = linked(&cluster, Arc::clone(&culprit), dir.path(), &[0, 1, 2]).await;

    let status = cluster.api(0).call("chain_status", json!({})).await.unwrap();
    let view = View::new(status["view"].as_u64().unwrap() + VIEWS_AHEAD);
    // Saying one thing twice convicts nobody.
    p2p.handle.broadcast(&culprit.vote(&cluster, view, 1));
    tokio::time::sleep(Duration::from_millis(300)).await;
    p2p.handle.broadcast(&culprit.vote(&cluster, view, 1));
    tokio::time::sleep(Duration::from_millis(700)).await;
    let list = cluster.api(0).call("validator_list", json!({})).await.unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 4, "convicted without a contradiction: {list}");

    p2p.handle.broadcast(&culprit.vote(&cluster, view, 2));
    let until = Instant::now() + PATIENCE;
    loop {
        let status = cluster.api(1).call("chain_status", json!({})).await.unwrap();
        if status["epoch"] == json!(1) {
            break;
        }
        assert!(Instant::now() < until, "nobody brings evidence: {status}\n{}", cluster.network.log_tail(0));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let list = cluster.api(1).call("validator_list", json!({})).await.unwrap();
    let address = culprit.key.address().to_string();
    let items = list["items"].as_array().unwrap();
    assert!(items.len() == 3 && items.iter().all(|item| item["address"] != json!(address)), "{list}");
    for node in [0, 1, 2] {
        cluster.anchor(node).await;
    }

    // The three begin again without it. (What they saw of it is a finding to the checks, until they do.)
    cluster.network.stop_all().unwrap();
    for node in [0, 1, 2] {
        cluster.network.start_node(node).unwrap();
    }
    cluster.network.wait_ready([0, 1, 2], PATIENCE).await.unwrap();
    let checked = cluster.check().await;
    assert!(checked.nodes == 3 && checked.progress_ms.is_some());
}
