//! Nodes that begin with a snapshot fetched from peers, among them one that lies.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cairn_catchup::CHUNKS_PER_PEER_MAX;
use cairn_client::Sender;
use cairn_crypto::KeyPair;
use cairn_p2p::{Command, Event, Handle, LinkIdentity, P2p, P2pConfig, Peer, SyncRequest, SyncResponse};
use cairn_testnet::anchoring::{Wait, random_proof, request};
use cairn_types::{Address, Params, Scheme, Signature, SignedTransaction};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::cluster::{Cluster, params};
use crate::epochs::{enact, epoch_reaches};

/// A short replay window, so that nodes may prune.
const WINDOW_MS: u64 = 10_000;
/// Submitters, so that a block never waits for a transaction.
const SUBMITTERS: usize = 4;
/// Longest that a node may take for anything.
const PATIENCE: Duration = Duration::from_secs(120);
/// A node that keeps little and makes snapshots often.
const PRUNING: &str =
    "[state]\nrole = \"prover\"\nkeep_blocks = 1024\n[snapshots]\nevery_blocks = 500\nkeep = 8\n";
/// A node that begins with a snapshot of peers a little ahead.
const JOINING: &str = "[state]\nrole = \"prover\"\n[snapshots]\njoin_blocks = 30\nkeep = 4\n";

/// What a node says that has begun with a snapshot.
pub(crate) const JOINED: &str = "the state is that of a snapshot";

/// One validator under load, for as long as `_load` lives.
struct Loaded {
    cluster: Cluster,
    _load: Load,
}

/// Ends the load when dropped.
struct Load(Arc<AtomicBool>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Loaded {
    async fn start(params: Params, config: &str) -> Self {
        let cluster = Cluster::start_configured(1, Scheme::MlDsa65, params, config).await;
        let load = load(&cluster);
        Self { cluster, _load: load }
    }
}

/// Makes blocks through the validator, whether it runs or not.
fn load(cluster: &Cluster) -> Load {
    let stop = Arc::new(AtomicBool::new(false));
    for _ in 0..SUBMITTERS {
        let (api, sign, stop) = (cluster.api(0), signer(cluster), Arc::clone(&stop));
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                if api.post(request(&sign(), Wait::Final(Duration::from_secs(5)))).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        });
    }
    Load(stop)
}

/// Makes transactions of a sender of its own that expire within the replay window.
fn signer(cluster: &Cluster) -> impl Fn() -> SignedTransaction + Send + use<> {
    let genesis = cluster.anchorer.genesis();
    let (chain, life_ms) = (genesis.chain(), genesis.params.replay_window_ms / 2);
    let sender = Sender::inline(KeyPair::generate(Scheme::MlDsa65));
    move || sender.sign_proof(chain, now_ms() + life_ms, random_proof(0)).unwrap()
}

/// Waits until `done` says so.
pub(crate) async fn until(what: &str, cluster: &Cluster, node: u16, mut done: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done().await {
        assert!(Instant::now() < end, "{what}\n{}", cluster.network.log_tail(node));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) async fn status(cluster: &Cluster, node: u16) -> Value {
    cluster.api(node).call("chain_status", json!({})).await.unwrap_or_default()
}

async fn reaches(cluster: &Cluster, node: u16, height: u64) {
    let what = format!("node {node} does not reach height {height}");
    until(&what, cluster, node, async || status(cluster, node).await["height"].as_u64() >= Some(height))
        .await;
}

pub(crate) fn log(cluster: &Cluster, node: u16) -> String {
    std::fs::read_to_string(cluster.network.layout().node(node).log).unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "expiry is counted from the wall clock")]
fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Anchors through a node; gives its answer.
async fn anchor(cluster: &Cluster, node: u16) -> Value {
    let signed = signer(cluster)();
    let answer = cluster.api(node).post(request(&signed, Wait::Final(Duration::from_secs(10)))).await;
    let answer = answer.unwrap_or_else(|fault| panic!("{fault}\n{}", cluster.network.log_tail(node)));
    cluster.anchorer.verify(&answer["receipt"].to_string()).unwrap();
    answer
}

/// A new node that begins with a snapshot, bootstrapped at these addresses.
fn newcomer(cluster: &mut Cluster, bootstrap: &[String]) -> u16 {
    let node = cluster.network.add_follower().unwrap();
    cluster.configure(node, JOINING);
    set_bootstrap(cluster, node, bootstrap);
    node
}

pub(crate) fn set_bootstrap(cluster: &Cluster, node: u16, bootstrap: &[String]) {
    let path = cluster.network.layout().node(node).home.join("config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let line = text.lines().find(|line| line.starts_with("bootstrap = ")).unwrap().to_owned();
    let list: Vec<String> = bootstrap.iter().map(|address| format!("\"{address}\"")).collect();
    std::fs::write(path, text.replace(&line, &format!("bootstrap = [{}]", list.join(", ")))).unwrap();
}

pub(crate) fn public_address(cluster: &Cluster, node: u16) -> String {
    format!("/ip4/127.0.0.1/tcp/{}", cluster.network.ports(node).unwrap().public)
}

/// Snapshots that a node has begun and not finished.
pub(crate) fn unfinished(cluster: &Cluster, node: u16) -> usize {
    let entries = std::fs::read_dir(cluster.network.layout().node(node).home.join("snapshots"));
    // The node makes the folder.
    let names = entries.into_iter().flatten().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".unfinished")).count()
}

/// What a node that began with a snapshot must be able to do, and what it must say it lacks.
async fn is_whole(cluster: &Cluster, node: u16, through: u16) {
    let began = status(cluster, node).await["earliest"].as_u64().unwrap();
    assert!(began > 1, "it has the first blocks");
    let refused = cluster.api(node).call("chain_block", json!({ "at": 1 })).await.unwrap_err();
    assert_eq!(refused.kind(), "pruned", "{refused}");
    let anchored = anchor(cluster, through).await;
    let at = json!({ "at": anchored["height"] });
    for node in [node, 0] {
        reaches(cluster, node, anchored["height"].as_u64().unwrap()).await;
    }
    let [own, of_validator] = [node, 0].map(|node| cluster.api(node));
    let expected = of_validator.call("chain_header", at.clone()).await.unwrap();
    assert_eq!(own.call("chain_header", at).await.unwrap(), expected);
    let proof = json!({ "proof_id": anchored["proof_id"] });
    cluster.anchorer.verify(&own.call("receipt_get", proof).await.unwrap().to_string()).unwrap();
    assert!(!log(cluster, node).contains("panicked"), "{}", cluster.network.log_tail(node));
}

/// Changes what a peer is given, or keeps it back.
pub(crate) type Lie = Arc<dyn Fn(SyncRequest, SyncResponse) -> Option<SyncResponse> + Send + Sync>;

/// Nobody's key.
struct Nobody;

impl LinkIdentity for Nobody {
    fn address(&self) -> Option<Address> {
        None
    }

    fn sign(&self, _: &[u8]) -> Signature {
        unreachable!("whoever has no address signs nothing")
    }

    fn verify(&self, _: &Address, _: &[u8], _: &Signature) -> bool {
        false
    }
}

/// A node of the public network that knows `known` and nobody else.
fn public_node(cluster: &Cluster, known: Vec<String>, dir: &Path) -> P2p {
    let config = P2pConfig { public_peers: known, ..P2pConfig::new(cluster.anchorer.chain(), dir) };
    let mut registry = prometheus_client::registry::Registry::default();
    P2p::start(config, Arc::new(Nobody), Arc::new(|| 1), &mut registry).unwrap()
}

/// Whoever a node that was given one address is connected to, and a way to ask them.
async fn teller(honest: P2p) -> (Handle, Peer) {
    let P2p { handle, mut events, hot } = honest;
    let peer = loop {
        if let Some(Event::PublicConnected { peer }) = events.recv().await {
            break peer;
        }
    };
    tokio::spawn(async move {
        let _open = hot;
        while events.recv().await.is_some() {}
    });
    (handle, peer)
}

/// A peer that passes questions on to `honest` and lies about the answers. Gives its address. It consists of two nodes, of which
/// the one that answers knows nobody: whoever is connected to it finds no other through it.
pub(crate) async fn liar(cluster: &Cluster, honest: String, lie: Lie, dir: &Path) -> String {
    let [asking, answering] = ["asking", "answering"].map(|part| dir.join(part));
    [&asking, &answering].into_iter().for_each(|part| std::fs::create_dir(part).unwrap());
    let (teller, peer) = teller(public_node(cluster, vec![honest], &asking)).await;
    let P2p { handle, mut events, hot } = public_node(cluster, vec![], &answering);
    let (address, found) = oneshot::channel();
    tokio::spawn(async move {
        let (_open, _alive) = (hot, handle);
        let mut address = Some(address);
        while let Some(event) = events.recv().await {
            match event {
                Event::Listening { address: own, .. } => drop(address.take().map(|to| to.send(own))),
                Event::SyncRequest { request, reply, .. } => {
                    let (asked, answer) = oneshot::channel();
                    teller.send(Command::PublicRequest { peer, request, reply: asked }).await.unwrap();
                    let lie = Arc::clone(&lie);
                    tokio::spawn(async move {
                        if let Ok(Ok(answer)) = answer.await
                            && let Some(answer) = lie(request, answer)
                        {
                            let _ = reply.send(answer);
                        }
                    });
                }
                _ => {}
            }
        }
    });
    found.await.unwrap()
}

#[tokio::test]
async fn a_new_node_begins_with_a_snapshot_of_peers_that_have_pruned_though_one_lies() {
    let params = Params { replay_window_ms: WINDOW_MS, ..params() };
    let Loaded { mut cluster, _load } = Loaded::start(params, PRUNING).await;
    let follower = cluster.network.add_follower().unwrap();
    cluster.configure(follower, PRUNING);
    cluster.start_node(follower).await;
    for node in [0, follower] {
        let what = format!("node {node} does not let its first blocks go");
        until(&what, &cluster, node, async || {
            let status = status(&cluster, node).await;
            status["earliest"].as_u64() > Some(1) && status["height"].as_u64() > Some(1_200)
        })
        .await;
    }

    let dir = tempfile::tempdir().unwrap();
    let asked = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&asked);
    let lie: Lie = Arc::new(move |request, answer| match (request, answer) {
        (SyncRequest::SnapshotChunk { .. }, SyncResponse::SnapshotChunk(Some(bytes))) => {
            counted.fetch_add(1, Ordering::Relaxed);
            let mut bytes = bytes.to_vec();
            bytes[20] ^= 1;
            Some(SyncResponse::SnapshotChunk(Some(bytes.into())))
        }
        (_, answer) => Some(answer),
    });
    let honest = public_address(&cluster, 0);
    let address = liar(&cluster, honest, lie, dir.path()).await;
    // It knows the liar alone until that is caught.
    let node = newcomer(&mut cluster, &[address]);
    // Not waited for: it cannot be ready.
    cluster.network.start_node(node).unwrap();
    let caught = "of a snapshot is not the one that was asked for";
    until("the liar is not caught", &cluster, node, async || log(&cluster, node).contains(caught)).await;
    assert_eq!(status(&cluster, node).await["height"].as_u64(), Some(0));
    assert!(!log(&cluster, node).contains(JOINED), "{}", log(&cluster, node));

    // An honest one shows itself.
    cluster.network.stop_node(follower).unwrap();
    set_bootstrap(&cluster, follower, &[0, node].map(|node| public_address(&cluster, node)));
    let height = cluster.height(0).await;
    cluster.start_node(follower).await;
    reaches(&cluster, node, height).await;
    assert!(log(&cluster, node).contains(JOINED), "{}", log(&cluster, node));
    // What was under way to the liar when it was caught is all that it was asked for.
    let asked = asked.load(Ordering::Relaxed);
    assert!((1..=CHUNKS_PER_PEER_MAX as u64).contains(&asked), "the liar was asked for {asked} chunks");
    assert_eq!(log(&cluster, node).matches(caught).count(), 1);
    is_whole(&cluster, node, 0).await;

    // It has the snapshot itself now, gives it to others, and is the same after a restart.
    let kept = cluster.cairn(&["snapshot", "list", "--home", &cluster.home(node)]);
    let genesis = cluster.network.layout().genesis().display().to_string();
    let path = kept["snapshots"].as_array().unwrap().last().unwrap()["path"].as_str().unwrap();
    cluster.cairn(&["snapshot", "check", path, "--genesis", &genesis]);
    cluster.network.kill_node(node).unwrap();
    cluster.start_node(node).await;
    is_whole(&cluster, node, 0).await;
    assert_eq!(log(&cluster, node).matches(JOINED).count(), 1);
}

#[tokio::test]
async fn a_node_that_is_killed_while_it_joins_begins_again() {
    let Loaded { mut cluster, _load: load } =
        Loaded::start(params(), "[snapshots]\nevery_blocks = 200\nkeep = 8\n").await;
    // Two epochs end, so that hand-overs lead to the snapshot's.
    for (epoch, idle) in [(1, 50_000), (2, 40_000)] {
        enact(&cluster.network, &[(0, None)], &["--param", &format!("interval_idle_ms={idle}")]);
        epoch_reaches(&cluster, &[0], epoch).await;
    }
    let height = cluster.height(0).await;
    reaches(&cluster, 0, height + 210).await;
    let dir = tempfile::tempdir().unwrap();
    // All of it but the last chunks, which never come.
    let lie: Lie = Arc::new(|request, answer| match request {
        SyncRequest::SnapshotChunk { index: 1.., .. } => None,
        _ => Some(answer),
    });
    let honest = public_address(&cluster, 0);
    let address = liar(&cluster, honest.clone(), lie, dir.path()).await;
    let node = newcomer(&mut cluster, &[address]);
    // Not waited for: it cannot be ready.
    cluster.network.start_node(node).unwrap();
    until("it begins with no snapshot", &cluster, node, async || unfinished(&cluster, node) > 0).await;
    cluster.network.kill_node(node).unwrap();
    let said = log(&cluster, node);
    assert!(said.contains("beginning with a peer's snapshot"), "{said}");
    assert!(!said.contains(JOINED), "{said}");
    assert_eq!(unfinished(&cluster, node), 1);

    // A third epoch ends above the newest snapshot, so that hand-overs lead beyond it, too.
    until("no snapshot is just made", &cluster, 0, async || {
        (20..100).contains(&(cluster.height(0).await % 200))
    })
    .await;
    drop(load);
    enact(&cluster.network, &[(0, None)], &["--param", "interval_idle_ms=30000"]);
    epoch_reaches(&cluster, &[0], 3).await;

    set_bootstrap(&cluster, node, &[honest]);
    cluster.start_node(node).await;
    reaches(&cluster, node, cluster.height(0).await).await;
    let said = log(&cluster, node);
    let joined: Vec<&str> = said.lines().filter(|line| line.contains(JOINED)).collect();
    assert!(matches!(joined[..], [line] if line.contains("epoch=2")), "{joined:?}");
    assert_eq!(status(&cluster, node).await["epoch"], json!(3));
    assert_eq!(unfinished(&cluster, node), 0);
    is_whole(&cluster, node, node).await;
}

#[tokio::test]
async fn where_nobody_has_a_snapshot_a_new_node_replays_the_chain_and_an_archive_always_does() {
    let none = "[snapshots]\nevery_blocks = 0\n";
    let Loaded { mut cluster, _load } = Loaded::start(params(), none).await;
    reaches(&cluster, 0, 100).await;
    let bootstrap = [public_address(&cluster, 0)];
    let node = newcomer(&mut cluster, &bootstrap);
    cluster.start_node(node).await;
    reaches(&cluster, node, 100).await;

    // From now on there is one.
    cluster.network.stop_node(0).unwrap();
    let path = cluster.network.layout().node(0).home.join("config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("every_blocks = 0", "every_blocks = 20")).unwrap();
    cluster.start_node(0).await;
    let archive = cluster.network.add_follower().unwrap();
    cluster.configure(archive, "[snapshots]\njoin_blocks = 10\n");
    cluster.start_node(archive).await;
    let height = cluster.height(0).await;
    reaches(&cluster, archive, height + 40).await;
    for node in [node, archive] {
        assert!(!log(&cluster, node).contains("snapshot of"), "{}", log(&cluster, node));
        assert!(!log(&cluster, node).contains("beginning with"), "{}", log(&cluster, node));
        let block = cluster.api(node).call("chain_block", json!({ "at": 1 })).await.unwrap();
        assert_eq!(block, cluster.api(0).call("chain_block", json!({ "at": 1 })).await.unwrap());
        anchor(&cluster, node).await;
    }
}
