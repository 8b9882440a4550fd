//! Validators whose data folder is gone and which begin again with a snapshot: what they sign, and what never.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_p2p::SyncRequest;
use cairn_types::{Params, Scheme, View};

use crate::cluster::{Cluster, params};
use crate::epochs::{enact, epoch_reaches};
use crate::joining::{JOINED, Lie, liar, log, public_address, set_bootstrap, status, unfinished, until};
use crate::snapshots::{grow, snapshot_reaches};
use crate::twice::made_anew;

/// Nodes that make snapshots often, and begin with one when they are a little behind.
const CONFIG: &str =
    "[state]\nrole = \"validator\"\n[snapshots]\nevery_blocks = 10\nkeep = 8\njoin_blocks = 15\n";
/// The same for a node that always has every block.
const REPLAYING: &str =
    "[state]\nrole = \"validator\"\n[snapshots]\nevery_blocks = 10\nkeep = 8\njoin_blocks = 0\n";
/// Several times as long as validators of a network that stands still take to sign something.
const SIGNING_WATCHED: Duration = Duration::from_secs(6);

/// Two validators, so that each signs whatever becomes final, and a follower.
async fn two_validators(params: Params) -> (Cluster, u16) {
    let mut cluster = Cluster::start_configured(2, Scheme::MlDsa65, params, CONFIG).await;
    let follower = cluster.network.add_follower().unwrap();
    cluster.configure(follower, REPLAYING);
    cluster.start_node(follower).await;
    (cluster, follower)
}

/// Makes blocks until `node` has a snapshot of the epoch in force that a new node begins with.
async fn snapshot_at(cluster: &mut Cluster, node: u16) {
    grow(cluster, 0, 25).await;
    let height = cluster.height(0).await;
    snapshot_reaches(cluster, node, height / 10 * 10).await;
}

async fn next_epoch(cluster: &Cluster, epoch: u64) {
    let idle = format!("interval_idle_ms={}", 60_000 - 10_000 * epoch);
    enact(&cluster.network, &[(0, None), (1, None)], &["--param", &idle]);
    epoch_reaches(cluster, &[0, 1], epoch).await;
}

fn stop_validators(cluster: &mut Cluster) {
    for node in [0, 1] {
        cluster.network.stop_node(node).unwrap();
    }
}

fn home(cluster: &Cluster, node: u16) -> PathBuf {
    cluster.network.layout().node(node).home
}

/// What a validator has signed, as its journal has it.
fn signed(home: &Path) -> Vec<u8> {
    fs::read(home.join("sign").join("safety")).unwrap()
}

#[tokio::test]
async fn a_validator_that_lost_its_data_begins_with_a_snapshot_and_signs_on() {
    let (mut cluster, _) = two_validators(params()).await;
    // In its first epoch, where the journal has signed in the epoch that an empty folder is in, and in a later one.
    for epoch in [0, 1] {
        if epoch > 0 {
            next_epoch(&cluster, epoch).await;
        }
        snapshot_at(&mut cluster, 0).await;
        cluster.network.kill_node(1).unwrap();
        fs::remove_dir_all(home(&cluster, 1).join("data")).unwrap();
        fs::remove_dir_all(home(&cluster, 1).join("snapshots")).unwrap();
        cluster.start_node(1).await;
        let began = usize::try_from(epoch).unwrap() + 1;
        let joined = |cluster: &Cluster| log(cluster, 1).matches(JOINED).count() == began;
        until("it does not join", &cluster, 1, async || joined(&cluster)).await;
        assert!(status(&cluster, 1).await["earliest"].as_u64() > Some(1));
        // Nothing is final without its signature.
        let before = signed(&home(&cluster, 1));
        for node in [1, 0] {
            cluster.anchor(node).await;
        }
        assert_ne!(signed(&home(&cluster, 1)), before);
        assert!(!log(&cluster, 1).contains("panicked"), "{}", log(&cluster, 1));
    }
}

/// Puts a home made anew in the place of a validator's, which is given back. It knows one public address.
fn lose_everything(cluster: &Cluster, node: u16, known: String) -> PathBuf {
    let home = home(cluster, node);
    let kept = home.with_file_name("kept");
    fs::rename(&home, &kept).unwrap();
    made_anew(&kept, &home);
    set_bootstrap(cluster, node, &[known]);
    kept
}

#[tokio::test]
async fn a_new_journal_for_a_key_that_signed_what_a_snapshot_holds_is_refused_before_it_signs() {
    let (mut cluster, follower) = two_validators(params()).await;
    for epoch in [0, 1] {
        if epoch > 0 {
            next_epoch(&cluster, epoch).await;
        }
        snapshot_at(&mut cluster, follower).await;
        // No validator is left to tell it of its signatures.
        stop_validators(&mut cluster);
        let kept = lose_everything(&cluster, 1, public_address(&cluster, follower));
        let (nothing, told) = (signed(&home(&cluster, 1)), log(&cluster, 1).len());
        cluster.network.start_node(1).unwrap();
        let runs = |cluster: &Cluster| cluster.network.pid(1).is_some();
        until("it goes on", &cluster, 1, async || !runs(&cluster)).await;
        let code = cluster.network.exit_status(1).and_then(|status| status.code());
        let said = log(&cluster, 1).split_off(told);
        assert_eq!(code, Some(90), "{said}");
        assert!(said.contains("beginning with a peer's snapshot"), "{said}");
        assert!(said.contains("signed beyond what its safety journal knows"), "{said}");
        assert_eq!(signed(&home(&cluster, 1)), nothing, "it has signed: {said}");

        fs::remove_dir_all(home(&cluster, 1)).unwrap();
        fs::rename(kept, home(&cluster, 1)).unwrap();
        // Neither is ready without the other.
        cluster.network.start_node(0).unwrap();
        cluster.start_node(1).await;
        cluster.anchor(1).await;
    }
}

/// Starts a node again that dials nobody.
fn forget_everybody(cluster: &mut Cluster, node: u16) {
    cluster.network.stop_node(node).unwrap();
    fs::remove_file(home(cluster, node).join("address_book")).unwrap();
    set_bootstrap(cluster, node, &[]);
    cluster.network.start_node(node).unwrap();
}

#[tokio::test]
async fn a_new_journal_signs_nothing_while_a_snapshot_may_still_tell_of_its_key() {
    let restless = Params { interval_idle_ms: 1_000, ..params() };
    let (mut cluster, follower) = two_validators(restless).await;
    snapshot_at(&mut cluster, follower).await;
    stop_validators(&mut cluster);
    // Without blocks, the leader of the first view proposes one when nothing becomes final for a while.
    let set = cluster.anchorer.genesis().validator_set().unwrap();
    let leader = set.leader(View::new(1)).0;
    forget_everybody(&mut cluster, follower);
    let dir = tempfile::tempdir().unwrap();
    let lie: Lie = Arc::new(|request, answer| match request {
        SyncRequest::SnapshotChunk { .. } => None,
        _ => Some(answer),
    });
    let address = liar(&cluster, public_address(&cluster, follower), lie, dir.path()).await;
    lose_everything(&cluster, leader, address);
    let nothing = signed(&home(&cluster, leader));
    cluster.network.start_node(leader).unwrap();
    until("it begins with no snapshot", &cluster, leader, async || unfinished(&cluster, leader) > 0).await;
    let end = Instant::now() + SIGNING_WATCHED;
    while Instant::now() < end {
        assert_eq!(signed(&home(&cluster, leader)), nothing, "it has signed: {}", log(&cluster, leader));
        assert!(cluster.network.pid(leader).is_some(), "{}", log(&cluster, leader));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(unfinished(&cluster, leader), 1);
}
