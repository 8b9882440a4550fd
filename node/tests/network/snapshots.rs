//! Snapshots that running nodes make, and nodes that begin with one.

use std::time::{Duration, Instant};

use cairn_testnet::NodeApi;
use cairn_types::Scheme;
use serde_json::{Value, json};

use crate::cluster::{Cluster, params};

/// A snapshot every few blocks, and two kept.
const OFTEN: &str = "[snapshots]\nevery_blocks = 10\nkeep = 2\n";

/// The snapshots in a node's home, newest first.
fn listed(cluster: &Cluster, node: u16) -> Vec<Value> {
    let listed = cluster.cairn(&["snapshot", "list", "--home", &cluster.home(node)]);
    listed["snapshots"].as_array().expect("a list").clone()
}

/// Anchors until the chain has grown by so many blocks.
pub(crate) async fn grow(cluster: &mut Cluster, node: u16, blocks: u64) {
    let goal = cluster.height(node).await + blocks;
    while cluster.height(node).await < goal {
        cluster.anchor(node).await;
    }
}

/// The value of one of a node's metrics.
async fn metric(cluster: &Cluster, node: u16, name: &str) -> Option<u64> {
    let port = cluster.network.ports(node).unwrap().metrics;
    let text = NodeApi::new(&format!("http://127.0.0.1:{port}")).get("/metrics").await.unwrap();
    let line = text.lines().find(|line| line.split(' ').next() == Some(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// Waits until a node's newest snapshot is at least this high: it is written while blocks go on.
pub(crate) async fn snapshot_reaches(cluster: &Cluster, node: u16, height: u64) -> Vec<Value> {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let listed = listed(cluster, node);
        if listed.first().is_some_and(|newest| newest["height"].as_u64() >= Some(height)) {
            return listed;
        }
        assert!(Instant::now() < until, "{listed:?}\n{}", cluster.network.log_tail(node));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn running_nodes_make_snapshots_at_the_same_heights_and_keep_the_newest() {
    let mut cluster = Cluster::start_configured(4, Scheme::MlDsa65, params(), OFTEN).await;
    grow(&mut cluster, 0, 45).await;
    let genesis = cluster.network.layout().genesis().display().to_string();
    let mut heights = Vec::new();
    for node in 0..4 {
        let kept = snapshot_reaches(&cluster, node, 40).await;
        assert_eq!(kept.len(), 2, "{kept:?}");
        for snapshot in &kept {
            let path = snapshot["path"].as_str().unwrap();
            let checked = cluster.cairn(&["snapshot", "check", path, "--genesis", &genesis]);
            assert_eq!(checked["block"], snapshot["block"]);
            heights.push(snapshot["height"].as_u64().unwrap());
        }
        assert_eq!(metric(&cluster, node, "cairn_snapshot_height").await, kept[0]["height"].as_u64());
        assert_eq!(metric(&cluster, node, "cairn_snapshots_failed_total").await, Some(0));
    }
    let exact = heights.iter().filter(|height| *height % 10 == 0).count();
    assert!(exact * 2 > heights.len(), "few were frozen at the height they were due: {heights:?}");

    // A node that is switched on again goes on making them, and one that was killed leaves nothing half done.
    cluster.network.kill_node(3).unwrap();
    cluster.start_node(3).await;
    let height = cluster.height(0).await;
    grow(&mut cluster, 3, 15).await;
    assert_eq!(snapshot_reaches(&cluster, 3, height / 10 * 10 + 10).await.len(), 2);
    cluster.check().await;
}

#[tokio::test]
async fn a_snapshot_is_written_beside_a_running_node_and_a_new_node_begins_with_it() {
    let mut cluster = Cluster::start_configured(1, Scheme::MlDsa65, params(), "").await;
    grow(&mut cluster, 0, 12).await;
    let (home, pid) = (cluster.home(0), cluster.network.pid(0));
    let file = cluster.network.layout().dir().join("chain.snapshot").display().to_string();
    let before = cluster.height(0).await;
    let written = cluster.cairn(&["snapshot", "create", "--home", &home, "--out", &file]);
    assert!(written["height"].as_u64() >= Some(before), "{written} is older than {before}");
    assert_eq!(cluster.network.pid(0), pid);
    cluster.anchor(0).await;
    let left: Vec<_> = std::fs::read_dir(format!("{home}/run")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");

    let follower = cluster.network.add_follower().unwrap();
    let restored = cluster.cairn(&["snapshot", "restore", &file, "--home", &cluster.home(follower)]);
    assert_eq!(restored["block"], written["block"]);
    cluster.start_node(follower).await;
    grow(&mut cluster, 0, 3).await;
    cluster.reaches(follower, cluster.height(0).await).await;
    let anchored = cluster.anchor(follower).await;
    let at = json!({ "at": anchored["height"] });
    let [own, other] = [0, follower].map(|node| cluster.api(node));
    let of_validator = own.call("chain_header", at.clone()).await.unwrap();
    assert_eq!(other.call("chain_header", at).await.unwrap(), of_validator);
    cluster.network.stop_node(follower).unwrap();
    cluster.check().await;
}

#[tokio::test]
async fn peers_are_offered_what_was_made_here_and_is_unchanged() {
    let mut cluster = Cluster::start_configured(1, Scheme::MlDsa65, params(), OFTEN).await;
    grow(&mut cluster, 0, 25).await;
    let kept = snapshot_reaches(&cluster, 0, 20).await;
    cluster.network.stop_node(0).unwrap();
    let [newest, older] = [0, 1].map(|at| kept[at]["path"].as_str().unwrap());
    // One bit of its last chunk, and another file under a name that no snapshot was given here.
    let mut bytes = std::fs::read(newest).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(newest, bytes).unwrap();
    let brought = older.replace("snapshots/0", "snapshots/9");
    std::fs::copy(older, &brought).unwrap();
    cluster.start_node(0).await;
    let until = Instant::now() + Duration::from_secs(20);
    let refused = loop {
        let log = std::fs::read_to_string(cluster.network.layout().node(0).log).unwrap();
        let lines = log.lines().filter(|line| line.contains("a snapshot is not offered to peers"));
        let refused: Vec<String> = lines.map(str::to_owned).collect();
        if refused.len() >= 2 {
            break refused;
        }
        assert!(Instant::now() < until, "{log}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    // Newest first.
    assert!(refused[0].contains(&brought) && refused[1].contains(newest), "{refused:?}");
    assert!(refused.iter().all(|line| line.contains("it was not made here, or has changed since")));
    // The older one is what the node still offers: a new node begins with it.
    let node = cluster.network.add_follower().unwrap();
    cluster.configure(node, "[state]\nrole = \"prover\"\n[snapshots]\njoin_blocks = 10\n");
    cluster.start_node(node).await;
    cluster.reaches(node, cluster.height(0).await).await;
    let said = std::fs::read_to_string(cluster.network.layout().node(node).log).unwrap();
    let joined = format!("the state is that of a snapshot height={}", kept[1]["height"]);
    assert!(said.contains(&joined), "{said}");
}
