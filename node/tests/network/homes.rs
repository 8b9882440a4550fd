//! What a node does about its own home: who may use it, how it leaves it, and what it refuses to start on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use cairn_state::{Batch, Durability, RocksStorage, Storage, Table};
use cairn_testnet::{Fault, process};

use crate::cluster::{Cluster, binary};

/// How long a start that must be refused may take.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(30);

/// Runs `cairn start` on a home that must refuse. A node that runs on is killed and fails the test.
fn start(home: &Path) -> Output {
    let mut command = process::cairn(binary());
    command.arg("start").arg("--home").arg(home).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    let until = Instant::now() + REFUSAL_PATIENCE;
    while child.try_wait().expect("the process is ours").is_none() {
        if Instant::now() >= until {
            child.kill().expect("the process is ours");
            let output = child.wait_with_output().expect("the process is ours");
            panic!("the node runs on {} instead of refusing it: {}", home.display(), said(&output));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().expect("the process is ours")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Every regular file below `dir`, largest first.
fn files(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().len()));
    found
}

fn invert(path: &Path) {
    let bytes: Vec<u8> = fs::read(path).unwrap().into_iter().map(|byte| !byte).collect();
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_second_process_on_a_home_is_refused_and_names_the_first() {
    let mut cluster = Cluster::start(1).await;
    let pid = cluster.network.pid(0).unwrap();
    let output = start(&cluster.network.layout().node(0).home);
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    assert!(said(&output).contains(&pid.to_string()), "{}", said(&output));
    cluster.anchor(0).await;
    cluster.check().await;
}

#[tokio::test]
async fn a_home_of_another_state_schema_is_refused_in_a_sentence_and_left_as_it_was() {
    let mut cluster = Cluster::start(4).await;
    cluster.anchor(3).await;
    cluster.network.stop_node(3).unwrap();
    let home = cluster.network.layout().node(3).home;
    let data = home.join("data");
    // What builds of the first schema wrote under this name; a later build's is refused no less.
    for schema in [1u32, 5] {
        set_schema(&data, schema);
        let output = start(&home);
        assert_eq!(output.status.code(), Some(78), "{}", said(&output));
        let expected = format!("the data folder has schema version {schema}, this build reads version 4");
        let text = said(&output);
        assert!(text.contains(&expected) && text.contains("fetch the chain anew"), "{text}");
        assert!(text.contains(&data.display().to_string()) && !text.contains("panicked"), "{text}");
    }
    // The one before is taken as it is.
    set_schema(&data, 3);
    cluster.start_node(3).await;
    cluster.network.stop_node(3).unwrap();

    // What the sentence advises: without the folder the node fetches the chain, under its old journal.
    set_schema(&data, 1);
    fs::rename(&data, home.join("data.old")).unwrap();
    cluster.start_node(3).await;
    cluster.anchor(3).await;
    cluster.check().await;
}

/// Writes a schema version into a stopped node's data folder.
fn set_schema(data: &Path, schema: u32) {
    let storage = RocksStorage::open(data).expect("the node is stopped");
    let mut batch = Batch::new();
    batch.put(Table::Meta, b"schema", &schema.to_le_bytes());
    storage.write(&batch, Durability::Synced).expect("writable");
}

#[tokio::test]
async fn sigterm_ends_a_node_cleanly() {
    let mut cluster = Cluster::start(1).await;
    cluster.anchor(0).await;
    assert!(cluster.network.stop_node(0).unwrap(), "SIGTERM was not enough");
    assert!(cluster.network.exit_status(0).is_some_and(|status| status.success()));
    cluster.start_node(0).await;
    cluster.check().await;
}

#[tokio::test]
async fn a_validator_without_its_journal_refuses_to_sign() {
    let mut cluster = Cluster::start(4).await;
    cluster.anchor(3).await;
    cluster.network.stop_node(3).unwrap();
    let home = cluster.network.layout().node(3).home;
    let kept = home.join("sign.kept");
    fs::rename(home.join("sign"), &kept).unwrap();
    let output = start(&home);
    assert_eq!(output.status.code(), Some(90), "{}", said(&output));
    assert!(said(&output).contains("journal") && !said(&output).contains("panicked"), "{}", said(&output));
    assert!(!home.join("sign").exists(), "a refused start must not make a journal");

    fs::rename(&kept, home.join("sign")).unwrap();
    cluster.start_node(3).await;
    cluster.check().await;
}

#[tokio::test]
async fn a_damaged_journal_refuses_to_sign() {
    let mut cluster = Cluster::start(4).await;
    cluster.anchor(3).await;
    cluster.network.stop_node(3).unwrap();
    let home = cluster.network.layout().node(3).home;
    for file in files(&home.join("sign")) {
        invert(&file);
    }
    let output = start(&home);
    assert_eq!(output.status.code(), Some(90), "{}", said(&output));
    assert!(!said(&output).contains("panicked"), "{}", said(&output));
    cluster.anchor(0).await;
    cluster.check().await;
}

#[tokio::test]
async fn a_damaged_database_is_refused_or_fetched_again_but_never_believed() {
    let mut cluster = Cluster::start(4).await;
    for node in 0..4 {
        cluster.anchor(node).await;
    }
    let height = cluster.height(0).await;
    cluster.network.stop_node(3).unwrap();
    let data = files(&cluster.network.layout().node(3).home.join("data"));
    let tables =
        data.iter().filter(|path| path.extension().is_some_and(|kind| kind == "sst" || kind == "log"));
    assert!(tables.map(|path| invert(path)).count() > 0, "{data:?}");
    cluster.network.start_node(3).unwrap();
    match cluster.network.wait_ready([3], REFUSAL_PATIENCE).await {
        // RocksDB drops a log it cannot read: what is missing comes from the peers, certified.
        Ok(_) => cluster.reaches(3, height).await,
        Err(Fault::Died { tail, .. }) => {
            let status = cluster.network.exit_status(3).and_then(|status| status.code());
            assert!(matches!(status, Some(1 | 78)), "{status:?} {tail}");
        }
        Err(fault) => panic!("{fault}"),
    }
    cluster.check().await;
}

#[tokio::test]
async fn the_database_of_another_chain_is_refused() {
    let (mut cluster, mut other) = (Cluster::start(1).await, Cluster::start(1).await);
    other.anchor(0).await;
    cluster.anchor(0).await;
    cluster.network.stop_node(0).unwrap();
    other.network.stop_node(0).unwrap();
    let [data, foreign] =
        [&cluster, &other].map(|network| network.network.layout().node(0).home.join("data"));
    let kept = data.with_extension("kept");
    fs::rename(&data, &kept).unwrap();
    fs::rename(&foreign, &data).unwrap();
    let output = start(data.parent().unwrap());
    assert!(matches!(output.status.code(), Some(1 | 78)), "{:?} {}", output.status, said(&output));
    assert!(!said(&output).contains("panicked") && said(&output).contains("chain"), "{}", said(&output));

    fs::remove_dir_all(&data).unwrap();
    fs::rename(&kept, &data).unwrap();
    cluster.start_node(0).await;
    cluster.check().await;
}

#[tokio::test]
async fn a_validator_that_lost_its_database_fetches_the_chain_again() {
    let mut cluster = Cluster::start(4).await;
    for node in [0, 1, 2, 3] {
        cluster.anchor(node).await;
    }
    let height = cluster.height(0).await;
    cluster.network.stop_node(3).unwrap();
    fs::remove_dir_all(cluster.network.layout().node(3).home.join("data")).unwrap();
    cluster.start_node(3).await;
    cluster.reaches(3, height).await;
    cluster.check().await;
}

#[tokio::test]
async fn the_genesis_of_another_chain_is_refused() {
    let mut cluster = Cluster::start(1).await;
    cluster.anchor(0).await;
    cluster.network.stop_node(0).unwrap();
    let genesis = cluster.network.layout().node(0).home.join("genesis.json");
    let own = fs::read_to_string(&genesis).unwrap();
    let mut other = cluster.anchorer.genesis().clone();
    other.time_ms += 1;
    fs::write(&genesis, cairn_genesis::to_json(&other)).unwrap();
    let output = start(&cluster.network.layout().node(0).home);
    assert!(matches!(output.status.code(), Some(1 | 78 | 90)), "{:?} {}", output.status, said(&output));
    assert!(said(&output).contains(&other.chain().to_string()), "{}", said(&output));

    fs::write(&genesis, own).unwrap();
    cluster.start_node(0).await;
    cluster.check().await;
}
