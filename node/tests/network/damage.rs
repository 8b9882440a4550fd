//! A data folder damaged file by file: refused with a sentence or fetched again, never acted upon.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_testnet::Fault;

use crate::cluster::Cluster;

/// How long a node may take to judge its data folder.
const PATIENCE: Duration = Duration::from_secs(30);

/// The folder beside RocksDB's files.
const BODIES: &str = "bodies";

/// What is left of a file; nothing for one that goes missing.
type Damage = fn(Vec<u8>) -> Option<Vec<u8>>;

/// Ways to damage a file.
const WAYS: [(&str, Damage); 4] = [
    ("flipped", |mut bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        Some(bytes)
    }),
    ("cut", |mut bytes| {
        bytes.truncate(bytes.len() / 2);
        Some(bytes)
    }),
    ("zeroed", |bytes| Some(vec![0; bytes.len()])),
    ("missing", |_| None),
];

/// The files of one kind in a data folder.
fn of_kind(data: &Path, kind: &str) -> Vec<PathBuf> {
    let folders = [data.to_path_buf(), data.join(BODIES)];
    let entries =
        folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    let is = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let long = fs::metadata(path).is_ok_and(|found| found.len() > 0);
        long && (name.starts_with(kind) || name.ends_with(kind))
    };
    entries.filter(is).collect()
}

fn copy(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).unwrap();
    }
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (path, copied) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &copied);
        } else {
            fs::copy(path, copied).unwrap();
        }
    }
}

/// Starts node 3 on its folder; whether it runs and has caught up. A refusal must be a sentence.
async fn judged(cluster: &mut Cluster, what: &str, height: u64) -> bool {
    cluster.network.start_node(3).unwrap();
    match cluster.network.wait_ready([3], PATIENCE).await {
        Ok(_) => {
            cluster.reaches(3, height).await;
            true
        }
        Err(Fault::Died { tail, .. }) => {
            let status = cluster.network.exit_status(3).and_then(|status| status.code());
            assert!(matches!(status, Some(1 | 78)), "{what}: {status:?} {tail}");
            assert!(!tail.contains("panicked"), "{what}: {tail}");
            false
        }
        Err(fault) => panic!("{what}: {fault}"),
    }
}

#[tokio::test]
async fn every_kind_of_database_file_may_be_damaged_in_every_way() {
    let mut cluster = Cluster::start(4).await;
    for node in [0, 1, 2, 3, 0, 1, 2, 3] {
        cluster.anchor(node).await;
    }
    // Restarting turns logs into tables: both kinds of file hold something then.
    cluster.network.stop_node(3).unwrap();
    cluster.start_node(3).await;
    for node in [3, 0, 1] {
        cluster.submit_large(node).await;
        cluster.anchor(node).await;
    }
    let height = cluster.height(0).await;
    cluster.network.stop_node(3).unwrap();
    let data = cluster.network.layout().node(3).home.join("data");
    let whole = data.with_extension("whole");
    copy(&data, &whole);
    let (mut refused, mut fetched) = (0, 0);
    for kind in [".sst", ".log", ".blob", ".bodies", "MANIFEST", "CURRENT", "OPTIONS"] {
        for (way, damage) in WAYS {
            copy(&whole, &data);
            let files = of_kind(&data, kind);
            if files.is_empty() {
                assert_ne!(kind, ".bodies");
                continue;
            }
            for file in &files {
                match damage(fs::read(file).unwrap()) {
                    Some(bytes) => fs::write(file, bytes).unwrap(),
                    None => fs::remove_file(file).unwrap(),
                }
            }
            let what = format!("{kind} {way}");
            if judged(&mut cluster, &what, height).await {
                fetched += 1;
                let checked = cluster.check().await;
                assert_eq!(checked.nodes, 4, "{what}");
                cluster.network.stop_node(3).unwrap();
            } else {
                refused += 1;
            }
            println!("{what}: refused {refused}, fetched or not needed {fetched}");
        }
    }
    assert!(refused > 0 && refused + fetched >= 20, "{refused} refused, {fetched} went on");
    // The way back that every refusal names: without the folder the chain is fetched again.
    fs::remove_dir_all(&data).unwrap();
    cluster.start_node(3).await;
    cluster.reaches(3, height).await;
    cluster.check().await;
}
