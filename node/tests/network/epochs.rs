//! Epochs with real processes: validators join, leave, change keys and are removed, and the chain goes on.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cairn_client::{BlockRef, When};
use cairn_crypto::{KeyPair, Keystore};
use cairn_testnet::rehearsal::{Loss, Point};
use cairn_testnet::{LocalNetwork, Rehearsal, process};
use cairn_types::evidence::Pair;
use cairn_types::signing::{Tag, block_preimage};
use cairn_types::{
    BlockId, Conflict, Epoch, Evidence, Hash, Height, KeyRef, Payload, Scheme, SignedTransaction,
    Transaction, ValidatorIndex, View, encode,
};
use serde_json::{Value, json};

use crate::cluster::{Cluster, binary};

/// Runs `cairn` with `--json` and gives its answer.
fn cairn(args: &[&str]) -> Value {
    let output = process::cairn(binary()).args(args).arg("--json").output().expect("the program runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "cairn {args:?}: {said} {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&said).unwrap_or_else(|fault| panic!("cairn {args:?} says no JSON: {fault}: {said}"))
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A node's own part in governance, signed by `key` or by the home's validator key.
pub(crate) fn govern(network: &LocalNetwork, node: u16, key: Option<&Path>, args: &[&str]) -> Value {
    let (home, passphrase) = (network.layout().node(node).home, network.layout().passphrase());
    let key = key.map_or_else(|| home.join("keys/validator.json"), Path::to_path_buf);
    let own = ["--home", path(&home), "--passphrase-file", path(&passphrase), "--key", path(&key)];
    cairn(&[&["validator"], args, &own].concat())
}

/// Proposed by the first of `by` and approved by the others; the last approval ends the epoch.
pub(crate) fn enact(network: &LocalNetwork, by: &[(u16, Option<&Path>)], changes: &[&str]) {
    let motion = govern(network, by[0].0, by[0].1, &[&["propose"], changes].concat());
    let id = motion["tx_id"].as_str().expect("an id").to_owned();
    for (at, (node, key)) in by.iter().enumerate().skip(1) {
        let answer = govern(network, *node, *key, &["approve", &id]);
        assert_eq!(answer["enacted"], json!(at + 1 == by.len()), "approval {at}: {answer}");
    }
}

pub(crate) async fn epoch_reaches(cluster: &Cluster, nodes: &[u16], epoch: u64) {
    let until = Instant::now() + cluster.bound();
    for node in nodes {
        loop {
            let status = cluster.api(*node).call("chain_status", json!({})).await;
            if status.as_ref().is_ok_and(|status| status["epoch"] == json!(epoch)) {
                break;
            }
            assert!(Instant::now() < until, "node {node}: {status:?}\n{}", cluster.network.log_tail(*node));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn set_of(cluster: &Cluster, node: u16) -> Vec<Value> {
    let answer = cluster.api(node).call("validator_list", json!({})).await.expect("a list");
    answer["items"].as_array().expect("items").clone()
}

fn new_key(network: &LocalNetwork, scheme: Scheme, out: &Path) {
    let passphrase = network.layout().passphrase();
    cairn(&[
        "keys",
        "new",
        "--scheme",
        scheme.name(),
        "--out",
        path(out),
        "--passphrase-file",
        path(&passphrase),
    ]);
}

/// A node with a validator key that no set names yet.
fn add_candidate(cluster: &mut Cluster) -> (u16, PathBuf) {
    let node = cluster.network.add_follower().expect("room for one more");
    let layout = cluster.network.layout();
    let (home, key) = (layout.node(node).home, layout.dir().join("candidate.json"));
    new_key(&cluster.network, Scheme::Dilithium3, &key);
    let config = fs::read_to_string(home.join("config.toml")).expect("a configuration");
    fs::remove_dir_all(&home).expect("ours");
    let (genesis, passphrase) = (layout.genesis(), layout.passphrase());
    cairn(&[
        "init",
        "--home",
        path(&home),
        "--genesis",
        path(&genesis),
        "--validator-key",
        path(&key),
        "--passphrase-file",
        path(&passphrase),
    ]);
    let config = config.replace("validator = \"\"", "validator = \"keys/validator.json\"");
    let config = config.replace("passphrase_file = \"\"", "passphrase_file = \"../passphrase\"");
    fs::write(home.join("config.toml"), config).expect("ours");
    (node, key)
}

pub(crate) fn address_of(key: &Path) -> String {
    Keystore::load(key).expect("a keystore").address().to_string()
}

/// The validators of then and now, by height and by time, from the node, the command line and the client, which
/// verifies them.
async fn five_now_and_four_before(cluster: &Cluster) {
    let (url, genesis) = (cluster.api(1).url().to_owned(), cluster.network.layout().genesis());
    let header = cluster.api(1).call("chain_header", json!({ "at": 1 })).await.expect("a header");
    let time_ms = header["time_ms"].as_u64().expect("a time");
    let time = jiff::Timestamp::from_millisecond(time_ms as i64 + 1).expect("a time").to_string();
    let genesis = cairn_genesis::load(&genesis).expect("the genesis");
    let client = cairn_client::Client::connect(&url).unwrap().with_genesis(genesis).unwrap();
    let at_one = BlockRef::Height(Height::new(1));
    for (arguments, when, validators) in [
        (vec![], When::default(), 5),
        (vec!["--at", "1"], When::from(at_one), 4),
        (vec!["--at-time", &time], When::Time(time_ms + 1), 4),
    ] {
        let shown = cairn(&[&["validator", "list", "--url", &url], &arguments[..]].concat());
        assert_eq!(shown["items"].as_array().map(Vec::len), Some(validators), "{arguments:?}: {shown}");
        let signers = client.validators(when).await.expect("they verify");
        assert_eq!(signers.set.count(), validators);
        assert_eq!(shown["digest"], json!(signers.set.digest().to_string()));
    }
}

#[tokio::test]
async fn a_fifth_validator_joins_a_running_network_votes_serves_receipts_and_leaves() {
    let mut cluster = Cluster::start(4).await;
    cluster.anchor(0).await;
    let (fifth, key) = add_candidate(&mut cluster);
    cluster.start_node(fifth).await;
    enact(&cluster.network, &[(0, None), (1, None), (2, None)], &["--join", path(&key)]);
    epoch_reaches(&cluster, &[0, 1, 2, 3, fifth], 1).await;
    assert_eq!(set_of(&cluster, fifth).await.len(), 5);
    five_now_and_four_before(&cluster).await;

    // Four of five are needed: without the first, the fifth one's vote is.
    cluster.network.kill_node(0).unwrap();
    let anchored = cluster.anchor(1).await;
    cluster.reaches(fifth, anchored["height"].as_u64().unwrap()).await;
    let proof_id = json!({ "proof_id": anchored["proof_id"] });
    let receipt = cluster.api(fifth).call("receipt_get", proof_id).await.expect("a receipt");
    assert_eq!(receipt["epochs"].as_array().map(Vec::len), Some(1), "{receipt}");
    cluster.anchorer.verify(&receipt.to_string()).expect("it verifies from the genesis alone");
    cluster.start_node(0).await;
    epoch_reaches(&cluster, &[0], 1).await;

    let leaves = ["--leave", &address_of(&key)];
    enact(&cluster.network, &[(fifth, None), (1, None), (2, None), (3, None)], &leaves);
    epoch_reaches(&cluster, &[0, 1, 2, 3, fifth], 2).await;
    let anchored = cluster.anchor(0).await;
    cluster.reaches(fifth, anchored["height"].as_u64().unwrap()).await;
    cluster.anchor(fifth).await;
    let trust = cluster.api(2).call("chain_trust", json!({ "from_epoch": 1 })).await.expect("trust");
    assert_eq!(
        (trust["sets"].as_array().map(Vec::len), trust["handovers"].as_array().map(Vec::len)),
        (Some(2), Some(1))
    );
    cluster.check().await;
}

#[tokio::test]
async fn a_network_moves_to_the_other_scheme_validator_by_validator() {
    let mut cluster = Cluster::start(4).await;
    let keys: Vec<PathBuf> = (0..4)
        .map(|node| cluster.network.layout().node(node).home.join("keys/validator-next.json"))
        .collect();
    for node in 0..4u16 {
        let at = usize::from(node);
        new_key(&cluster.network, Scheme::MlDsa65, &keys[at]);
        let own = cluster.network.layout().node(node).home.join("keys/validator.json");
        let rotate = format!("{}={}", address_of(&own), path(&keys[at]));
        // Whoever moved already signs with the new key.
        let with = |by: u16| (by, (by < node).then_some(keys[usize::from(by)].as_path()));
        enact(&cluster.network, &[with(0), with(1), with(3)], &["--rotate", &rotate]);
        epoch_reaches(&cluster, &[0, 1, 2, 3], u64::from(node) + 1).await;
        cluster.anchor(node).await;
    }
    let schemes: Vec<_> = set_of(&cluster, 2).await.iter().map(|item| item["scheme"].clone()).collect();
    assert_eq!(schemes, vec![json!("ml-dsa-65"); 4]);
    // A restart finds its key among the two of the home; three of four need it.
    cluster.network.kill_node(2).unwrap();
    cluster.anchor(0).await;
    cluster.start_node(2).await;
    cluster.network.kill_node(3).unwrap();
    cluster.anchor(2).await;
    cluster.start_node(3).await;
    cluster.check().await;
}

#[tokio::test]
async fn evidence_removes_the_culprit_which_goes_on_as_a_follower() {
    let mut cluster = Cluster::start(4).await;
    cluster.anchor(0).await;
    let culprit = 3u16;
    let home = cluster.network.layout().node(culprit).home;
    let passphrase = cairn_testnet::create::read_passphrase(cluster.network.layout()).unwrap();
    let key = Keystore::load(&home.join("keys/validator.json")).unwrap().open(&passphrase).unwrap();
    let chain = cluster.anchorer.genesis().chain();
    let said = |n: u8| {
        let block = BlockId::new(Hash([n; 32]));
        (block, key.sign(&block_preimage(Tag::Vote, chain, Epoch::ZERO, View::new(2), block)))
    };
    let evidence = |conflict| Evidence {
        epoch: Epoch::ZERO,
        view: View::new(2),
        validator: ValidatorIndex(culprit),
        conflict,
    };
    let mut forged = said(2);
    forged.0 = BlockId::new(Hash([3; 32]));
    let bad = accuse(&cluster, evidence(Conflict::Votes(Pair::new(said(1), forged).unwrap()))).await;
    assert!(bad.unwrap_err().to_string().contains("signature"), "a forged accusation is refused");
    let good = accuse(&cluster, evidence(Conflict::Votes(Pair::new(said(1), said(2)).unwrap()))).await;
    good.expect("it is final");
    epoch_reaches(&cluster, &[0, 1, 2, culprit], 1).await;
    assert_eq!(set_of(&cluster, 0).await.len(), 3);
    let anchored = cluster.anchor(1).await;
    cluster.reaches(culprit, anchored["height"].as_u64().unwrap()).await;
    cluster.check().await;
}

/// Anybody's transaction with this evidence.
async fn accuse(cluster: &Cluster, evidence: Evidence) -> Result<Value, cairn_testnet::CallFault> {
    let sender = KeyPair::generate(Scheme::Dilithium3);
    let tip = cluster.api(0).call("chain_header", json!({ "at": "latest" })).await?;
    let transaction = Transaction {
        version: 1,
        chain: cluster.anchorer.genesis().chain(),
        sender: sender.address(),
        nonce: 1,
        expires_ms: tip["time_ms"].as_u64().expect("a time") + 60_000,
        keys: vec![KeyRef::Inline(sender.public().clone())],
        payload: Payload::Evidence(evidence),
    };
    let signatures = vec![sender.sign(&transaction.preimage())];
    let tx = STANDARD.encode(encode(&SignedTransaction::new(transaction, signatures)));
    cluster.api(0).call("tx_submit", json!({ "tx": tx, "wait": "final" })).await
}

#[tokio::test]
async fn a_node_stops_before_a_protocol_version_that_it_does_not_know() {
    let mut cluster = Cluster::start(1).await;
    let anchored = cluster.anchor(0).await;
    govern(&cluster.network, 0, None, &["propose", "--protocol", "2"]);
    let until = Instant::now() + Duration::from_secs(20);
    while cluster.network.exit_status(0).is_none() {
        assert!(Instant::now() < until, "the node runs on\n{}", cluster.network.log_tail(0));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let status = cluster.network.exit_status(0).and_then(|status| status.code());
    assert_eq!(status, Some(91), "{}", cluster.network.log_tail(0));
    let home = cluster.network.layout().node(0).home;
    let again =
        process::cairn(binary()).arg("start").arg("--home").arg(&home).output().expect("the program runs");
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert_eq!(again.status.code(), Some(91), "{said}");
    assert!(said.contains("protocol version 2") && said.contains("install a newer cairn"), "{said}");
    assert!(anchored["height"].as_u64().is_some());
}

#[tokio::test]
async fn a_validator_that_lost_its_state_comes_back_through_the_epochs_and_signs_again() {
    let mut cluster = Cluster::start(4).await;
    cluster.anchor(0).await;
    let own = |node: u16, cluster: &Cluster| {
        address_of(&cluster.network.layout().node(node).home.join("keys/validator.json"))
    };
    let power = format!("{}=2", own(0, &cluster));
    enact(&cluster.network, &[(0, None), (1, None), (2, None)], &["--power", &power]);
    epoch_reaches(&cluster, &[0, 1, 2, 3], 1).await;
    cluster.anchor(1).await;
    cluster.network.stop_node(3).unwrap();
    fs::remove_dir_all(cluster.network.layout().node(3).home.join("data")).unwrap();
    cluster.start_node(3).await;
    epoch_reaches(&cluster, &[3], 1).await;
    // Powers 2, 1, 1, 1: without the second and with the fourth there are 4 of 5.
    cluster.network.kill_node(1).unwrap();
    cluster.anchor(2).await;
    cluster.start_node(1).await;
    cluster.check().await;
}

#[tokio::test]
async fn power_lost_by_all_where_an_epoch_ends_leads_into_the_next_one() {
    let mut cluster = Cluster::start(4).await;
    let anchored = cluster.anchor(0).await;
    cluster.network.stop_all().unwrap();
    for node in 0..4u16 {
        let rehearsal = Rehearsal { loss: Loss::Unsynced, die_at: Some((Point::EpochSynced, 1)) };
        cluster.network.start_rehearsing(node, Some(rehearsal)).unwrap();
    }
    cluster.network.wait_ready(0..4, Duration::from_secs(30)).await.unwrap();
    let network = &cluster.network;
    let own = network.layout().node(1).home.join("keys/validator.json");
    let motion = govern(network, 0, None, &["propose", "--power", &format!("{}=2", address_of(&own))]);
    let id = motion["tx_id"].as_str().expect("an id").to_owned();
    govern(network, 1, None, &["approve", &id]);
    // The approval that ends the epoch: the node may be gone before it answers.
    let (home, passphrase) = (network.layout().node(2).home, network.layout().passphrase());
    let last = ["validator", "approve", &id, "--home", path(&home), "--passphrase-file", path(&passphrase)];
    process::cairn(binary()).args(last).arg("--json").output().expect("the program runs");
    let until = Instant::now() + Duration::from_secs(30);
    while cluster.network.running().len() > 1 {
        assert!(Instant::now() < until, "alive: {:?}", cluster.network.running());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Whoever heard of the end from nobody in time.
    cluster.kill_all();
    cluster.start_all().await;
    epoch_reaches(&cluster, &[0, 1, 2, 3], 1).await;
    assert_eq!(set_of(&cluster, 3).await.iter().filter(|it| it["power"] == json!(2)).count(), 1);
    for node in 0..4 {
        cluster.anchor(node).await;
    }
    let proof_id = json!({ "proof_id": anchored["proof_id"] });
    cluster.api(3).call("receipt_get", proof_id).await.expect("what was final before is served");
    cluster.check().await;
}
