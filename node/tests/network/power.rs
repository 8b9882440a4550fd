//! Power lost by all nodes at once: whatever nobody had synced is gone everywhere.

use std::time::{Duration, Instant};

use cairn_testnet::Rehearsal;
use cairn_testnet::rehearsal::Point;

use crate::cluster::Cluster;

/// The point is met for this time: some blocks into the nodes' lives.
const PASS: u64 = 8;
/// How long a network may take to meet a point.
const PATIENCE: Duration = Duration::from_secs(30);

/// Anchors until one of the nodes dies at its point, and takes the power from the others.
async fn lose_power(cluster: &mut Cluster, point: Point) {
    let until = Instant::now() + PATIENCE;
    while cluster.network.running().len() == 4 {
        assert!(Instant::now() < until, "nobody met {point}");
        // The answer may be lost with the node that gave it.
        let _ = cluster.try_anchor(1, Duration::from_millis(500)).await;
    }
    cluster.kill_all();
}

#[tokio::test]
async fn power_lost_by_all_at_every_step_of_a_block_loses_nothing_final() {
    let mut cluster = Cluster::start(4).await;
    cluster.anchor(0).await;
    cluster.network.stop_all().unwrap();
    for (at, point) in (0u64..).zip(Point::OF_BLOCKS) {
        for node in 0..4u16 {
            // The nodes meet the point at different moments, so that each is ahead of the others once.
            let pass = PASS + u64::from(node) + at;
            let rehearsal = Rehearsal { lose_unsynced: true, die_at: Some((point, pass)) };
            cluster.network.start_rehearsing(node, Some(rehearsal)).unwrap();
        }
        let _ = cluster.network.wait_ready(0..4, PATIENCE).await;
        lose_power(&mut cluster, point).await;
        cluster.start_all().await;
        let checked = cluster.check().await;
        assert_eq!(checked.nodes, 4, "{point}");
        cluster.network.stop_all().unwrap();
    }
    cluster.start_all().await;
    cluster.check().await;
}
