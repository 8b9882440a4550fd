//! Nodes without a validator key.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::cluster::Cluster;

#[tokio::test]
async fn a_follower_joins_by_one_address_and_serves_receipts() {
    let mut cluster = Cluster::start(4).await;
    let anchored = cluster.anchor(1).await;
    let follower = cluster.network.add_follower().unwrap();
    assert_eq!(follower, 4);
    cluster.start_node(follower).await;
    cluster.reaches(follower, anchored["height"].as_u64().unwrap()).await;

    let receipt = cluster
        .api(follower)
        .call("receipt_get", json!({ "proof_id": anchored["proof_id"] }))
        .await
        .expect("the follower has what was final before it joined");
    cluster.anchorer.verify(&receipt.to_string()).unwrap();
    let verdict = cluster.api(follower).call("receipt_verify", json!({ "receipt": receipt })).await.unwrap();
    assert_eq!((&verdict["valid"], &verdict["covers"]), (&json!(true), &json!("root")), "{verdict}");
    assert_eq!(verdict["record"]["proof_id"], anchored["proof_id"]);

    assert!(peers_reach(&cluster, follower, 2).await, "it found nobody but its bootstrap");
    // What is anchored through it reaches the validators and comes back final.
    cluster.anchor(follower).await;
    let checked = cluster.check().await;
    assert_eq!(checked.nodes, 5);
}

#[tokio::test]
async fn a_follower_goes_on_without_the_node_it_joined_by() {
    let mut cluster = Cluster::start(4).await;
    let follower = cluster.network.add_follower().unwrap();
    cluster.start_node(follower).await;
    cluster.anchor(follower).await;
    // It knew one address; the others come from the DHT.
    assert!(peers_reach(&cluster, follower, 3).await, "the follower found no peers beyond its bootstrap");
    cluster.network.kill_node(0).unwrap();
    for node in [1, 2, 3, 1] {
        let anchored = cluster.anchor(node).await;
        cluster.reaches(follower, anchored["height"].as_u64().unwrap()).await;
    }
    cluster.anchor(follower).await;
    cluster.start_node(0).await;
    cluster.check().await;
}

/// Whether a node has `wanted` peers before the cluster's bound has passed.
async fn peers_reach(cluster: &Cluster, node: u16, wanted: u64) -> bool {
    let until = Instant::now() + cluster.bound();
    while Instant::now() < until {
        let status = cluster.api(node).call("chain_status", json!({})).await.unwrap();
        if status["peers"].as_u64().is_some_and(|peers| peers >= wanted) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}
