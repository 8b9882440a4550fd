//! Power lost by all nodes at once: whatever nobody had synced is gone everywhere.

use std::time::{Duration, Instant, SystemTime};

use cairn_client::Sender;
use cairn_crypto::KeyPair;
use cairn_testnet::Rehearsal;
use cairn_testnet::anchoring::{LIFE_MS, Wait, random_proof, request};
use cairn_testnet::api::CallFault;
use cairn_testnet::rehearsal::{Loss, Point};
use cairn_types::transaction::Proofs;
use cairn_types::{Payload, Scheme};

use crate::cluster::Cluster;

/// The point is met for this time: some blocks into the nodes' lives.
const PASS: u64 = 8;
/// How long a network may take to meet a point.
const PATIENCE: Duration = Duration::from_secs(30);

/// Metadata of each proof of a large transaction, and how many they are: the block that holds it has its body in a file of the
/// state's own, not in its tables.
const LARGE: (usize, usize) = (1_024, 40);
/// The code of JSON-RPC for a request that can never be taken.
const INVALID_PARAMS: i64 = -32_602;
/// What a node says that found a final block's body gone, and in its safety journal.
const MENDED: &str = "brought back what a power cut took";

fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64
}

/// Anchors until one of the nodes dies at its point, and takes the power from the others.
async fn lose_power(cluster: &mut Cluster, sender: &Sender, point: Point) {
    let until = Instant::now() + PATIENCE;
    let chain = cluster.anchorer.chain();
    while cluster.network.running().len() == 4 {
        assert!(Instant::now() < until, "nobody met {point}");
        let (metadata, proofs) = LARGE;
        let proofs = Proofs((0..proofs).map(|_| random_proof(metadata)).collect());
        let signed = sender.sign(chain, now_ms() + LIFE_MS, Payload::Proofs(proofs)).unwrap();
        let answer = cluster.api(1).post(request(&signed, Wait::Accepted)).await;
        assert!(!matches!(answer, Err(CallFault::Refused { code: INVALID_PARAMS, .. })), "{answer:?}");
        // The answer may be lost with the node that gave it.
        let _ = cluster.try_anchor(1, Duration::from_millis(500)).await;
    }
    cluster.kill_all();
}

#[tokio::test]
async fn power_lost_by_all_at_every_step_of_a_block_loses_nothing_final() {
    let mut cluster = Cluster::start(4).await;
    let sender = Sender::inline(KeyPair::generate(Scheme::Dilithium3));
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
        lose_power(&mut cluster, &sender, point).await;
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
