//! Nodes that die, one, two or all at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cairn_testnet::anchoring::{Anchorer, Wait, request};
use cairn_types::Scheme;
use serde_json::json;

use crate::cluster::Cluster;

#[tokio::test]
async fn three_of_four_go_on_and_the_fourth_catches_up() {
    let mut cluster = Cluster::start(4).await;
    cluster.anchor(3).await;
    cluster.network.kill_node(3).unwrap();
    // Two rounds of leaders: the dead one's turn comes twice.
    for node in [0, 1, 2, 0, 1, 2, 0, 1] {
        cluster.anchor(node).await;
    }
    let height = cluster.height(0).await;
    assert!(height >= 9, "nine anchors, one after another, make at least nine blocks: {height}");
    cluster.start_node(3).await;
    cluster.reaches(3, height).await;
    let checked = cluster.check().await;
    assert_eq!((checked.nodes, checked.receipts), (4, 13));
    assert!(checked.heights > height);
}

#[tokio::test]
async fn two_of_four_stop_without_forking_and_go_on_when_the_others_return() {
    let mut cluster = Cluster::start(4).await;
    cluster.anchor(0).await;
    cluster.network.kill_node(2).unwrap();
    cluster.network.kill_node(3).unwrap();
    let before = cluster.height(0).await;
    let fault = cluster.try_anchor(0, Duration::from_secs(3)).await.unwrap_err();
    assert_eq!(fault.code(), Some(-32_024), "{fault}");
    // What was on its way when they died may have become final; nothing after.
    let stopped = cluster.height(0).await;
    assert!(stopped <= before + 1, "no quorum, yet the chain grew from {before} to {stopped}");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(cluster.height(0).await, stopped);
    let checked = cluster.check().await;
    assert!(checked.progress_ms.is_none() && checked.nodes == 2);

    let pending = match &fault {
        cairn_testnet::CallFault::Refused { data, .. } => data["tx_id"].as_str().unwrap().to_owned(),
        other => panic!("{other}"),
    };
    cluster.start_node(2).await;
    cluster.start_node(3).await;
    cluster.anchor(1).await;
    assert!(
        becomes_final(&cluster, &pending).await,
        "what was accepted without a quorum was lost: {pending}"
    );
    cluster.check().await;
}

#[tokio::test]
async fn all_nodes_killed_under_load_go_on_with_every_receipt() {
    let mut cluster = Cluster::start(4).await;
    for round in 0..3u16 {
        let traffic = Traffic::start(&cluster);
        for node in 0..4 {
            cluster.anchor(node).await;
        }
        let before = cluster.height(round).await;
        std::thread::scope(|scope| {
            for node in 0..4 {
                let paths = cluster.network.layout().node(node);
                scope.spawn(move || cairn_testnet::process::kill(node, &paths).unwrap());
            }
        });
        let accepted = traffic.stop().await;
        assert!(accepted > 0, "the crash met no traffic");
        cluster.start_all().await;
        cluster.reaches(round, before).await;
        let checked = cluster.check().await;
        assert!(checked.progress_ms.is_some() && checked.heights > before);
    }
}

#[tokio::test]
async fn nodes_restarted_in_turn_under_load_stay_on_one_chain() {
    let mut cluster = Cluster::start(4).await;
    let traffic = Traffic::start(&cluster);
    for node in 0..4 {
        assert!(cluster.network.stop_node(node).unwrap(), "SIGTERM was not enough for node {node}");
        cluster.anchor((node + 1) % 4).await;
        cluster.start_node(node).await;
        let height = cluster.height((node + 1) % 4).await;
        cluster.reaches(node, height).await;
    }
    assert!(traffic.stop().await > 0);
    cluster.check().await;
}

#[tokio::test]
async fn a_network_of_one_and_the_other_scheme_work_alike() {
    let mut cluster = Cluster::start_with(1, Scheme::MlDsa65).await;
    cluster.anchor(0).await;
    cluster.network.kill_node(0).unwrap();
    cluster.start_node(0).await;
    cluster.anchor(0).await;
    cluster.check().await;
}

/// Whether a transaction that node 0 accepted becomes final before it expires.
async fn becomes_final(cluster: &Cluster, tx_id: &str) -> bool {
    let until = tokio::time::Instant::now() + cluster.bound();
    while tokio::time::Instant::now() < until {
        let found = cluster.api(0).call("tx_get", json!({ "tx_id": tx_id })).await.unwrap();
        if found["state"] == "final" {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

/// Anchors through every node until stopped, waiting for none to become final.
struct Traffic {
    stop: Arc<AtomicBool>,
    workers: Vec<tokio::task::JoinHandle<u64>>,
}

impl Traffic {
    fn start(cluster: &Cluster) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let workers = cluster
            .network
            .nodes()
            .map(|node| {
                let (api, stop) = (cluster.api(node), Arc::clone(&stop));
                let anchorer = Anchorer::new(cluster.anchorer.genesis().clone(), Scheme::Dilithium3).unwrap();
                tokio::spawn(async move {
                    let mut accepted = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let body = request(&anchorer.transaction().unwrap(), Wait::Accepted);
                        // Refusals and dead nodes are what this traffic is for.
                        accepted += u64::from(api.post(body).await.is_ok());
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    accepted
                })
            })
            .collect();
        Self { stop, workers }
    }

    async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let mut accepted = 0;
        for worker in self.workers {
            accepted += worker.await.unwrap();
        }
        accepted
    }
}
