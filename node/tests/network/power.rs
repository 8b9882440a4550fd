//! Power lost by all nodes at once: whatever nobody had synced is gone everywhere.

use std::time::{Duration, Instant};

use cairn_testnet::Rehearsal;
use cairn_testnet::rehearsal::{Loss, Point};

use crate::cluster::Cluster;

/// The point is met for this time: some blocks into the nodes' lives.
const PASS: u64 = 8;
/// How long a network may take to meet a point.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a node says that found a final block's body gone, and in its safety journal.
const MENDED: &str = "brought back what a power cut took";

/// Anchors until one of the nodes dies at its point, and takes the power from the others.
async fn lose_power(cluster: &mut Cluster, point: Point) {
    let until = Instant::now() + PATIENCE;
    while cluster.network.running().len() == 4 {
        assert!(Instant::now() < until, "nobody met {point}");
        cluster.submit_large(1).await;
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
            // Half of them lose everything, half the bodies of final blocks alone.
            let loss = if (u64::from(node) + at).is_multiple_of(2) { Loss::Unsynced } else { Loss::Bodies };
            let rehearsal = Rehearsal { loss, die_at: Some((point, pass)) };
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
    let logs = cluster.network.nodes().map(|node| cluster.network.layout().node(node).log);
    let mended = logs.filter(|log| std::fs::read_to_string(log).unwrap().contains(MENDED)).count();
    assert!(mended > 0, "no power cut took a body alone");
}
