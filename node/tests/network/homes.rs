//! What a node does about its own home: who may use it, how it leaves it, and what it refuses to start on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use cairn_testnet::process;

use crate::cluster::{Cluster, binary};

/// Runs `cairn start` on a home that must refuse.
fn start(home: &Path) -> Output {
    process::cairn(binary()).arg("start").arg("--home").arg(home).output().expect("the program runs")
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
async fn a_tampered_database_is_refused() {
    let mut cluster = Cluster::start(4).await;
    cluster.anchor(3).await;
    cluster.network.stop_node(3).unwrap();
    let home = cluster.network.layout().node(3).home;
    let data = files(&home.join("data"));
    let tables =
        data.iter().filter(|path| path.extension().is_some_and(|kind| kind == "sst" || kind == "log"));
    assert!(tables.map(|path| invert(path)).count() > 0, "{data:?}");
    let output = start(&home);
    let status = output.status.code();
    assert!(matches!(status, Some(1 | 78)), "{status:?} {}", said(&output));
    assert!(!said(&output).contains("panicked"), "{}", said(&output));
    assert!(said(&output).contains("data") || said(&output).contains("state"), "{}", said(&output));
    cluster.anchor(0).await;
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
