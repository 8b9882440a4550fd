//! One key in two places: whichever signs beyond its journal stops for good with exit code 90.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use cairn_testnet::process;

use crate::cluster::{Cluster, binary};

/// How long a second signer may take to notice.
const PATIENCE: Duration = Duration::from_secs(60);

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// Starts a node of its own on a copied home, on ports of its own.
fn start_copy(home: &Path) -> Child {
    let log = fs::File::create(home.join("second.log")).unwrap();
    let mut command = process::cairn(binary());
    command.arg("start").arg("--home").arg(home).args(["--grpc-listen", "", "--metrics-listen", ""]);
    for flag in ["--rpc-listen", "--public-listen", "--mesh-listen"] {
        command.args([flag, "127.0.0.1:0"]);
    }
    command.stdout(Stdio::null()).stderr(log).spawn().expect("the program runs")
}

/// Waits until a second signer ends, with an anchor through the others now and then unless all are `idle`; gives its
/// exit code and what it said.
async fn ending(cluster: &mut Cluster, home: &Path, child: &mut Child, idle: bool) -> (Option<i32>, String) {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if let Some(status) = child.try_wait().unwrap() {
            return (status.code(), fs::read_to_string(home.join("second.log")).unwrap());
        }
        if !idle {
            cluster.anchor(0).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    panic!("it signed on: {}", fs::read_to_string(home.join("second.log")).unwrap());
}

/// A copy of a running validator's home, without the keys by which the networks know the machine unless `whole`, is
/// started beside it and refuses; the first process goes on.
async fn a_copy_refuses(whole: bool, idle: bool) {
    let mut cluster = Cluster::start(4).await;
    cluster.anchor(3).await;
    let home = cluster.network.layout().node(3).home;
    let second = home.with_file_name("second");
    copy(&home, &second);
    if !whole {
        for key in ["mesh.key", "public.key"] {
            fs::remove_file(second.join("keys").join(key)).unwrap();
        }
    }
    let before = fs::read(second.join("sign").join("safety")).unwrap();
    let mut child = start_copy(&second);
    let (code, said) = ending(&mut cluster, &second, &mut child, idle).await;
    assert_eq!(code, Some(90), "{said}");
    assert!(said.contains("signs in another process too") && !said.contains("panicked"), "{said}");
    assert_eq!(fs::read(second.join("sign").join("safety")).unwrap(), before, "the copy signed something");
    assert!(cluster.network.pid(3).is_some(), "the first process has stopped");
    cluster.anchor(3).await;
    cluster.check().await;
}

#[tokio::test]
async fn a_second_process_on_another_machine_refuses_with_code_90() {
    a_copy_refuses(false, false).await;
}

#[tokio::test]
async fn a_second_process_refuses_on_an_idle_network_too() {
    a_copy_refuses(false, true).await;
}

#[tokio::test]
async fn a_second_process_with_the_same_machine_keys_refuses() {
    a_copy_refuses(true, true).await;
}

/// A home made anew for a running validator's key, so that nothing on its disk tells of the first one's signatures.
pub(crate) fn made_anew(home: &Path, second: &Path) {
    let made = process::cairn(binary())
        .args(["init", "--home"])
        .arg(second)
        .arg("--genesis")
        .arg(home.join("genesis.json"))
        .arg("--validator-key")
        .arg(home.join("keys").join("validator.json"))
        .arg("--passphrase-file")
        .arg(home.with_file_name("passphrase"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    fs::copy(home.join("config.toml"), second.join("config.toml")).unwrap();
}

#[tokio::test]
async fn a_second_process_with_a_journal_of_its_own_refuses_and_the_first_goes_on() {
    let mut cluster = Cluster::start(4).await;
    cluster.anchor(3).await;
    let home = cluster.network.layout().node(3).home;
    let second = home.with_file_name("second");
    made_anew(&home, &second);
    let before = fs::read(second.join("sign").join("safety")).unwrap();
    let mut child = start_copy(&second);
    let (code, said) = ending(&mut cluster, &second, &mut child, false).await;
    assert_eq!(code, Some(90), "{said}");
    assert!(said.contains("is in use by another process") && !said.contains("panicked"), "{said}");
    assert_eq!(fs::read(second.join("sign").join("safety")).unwrap(), before, "it signed something");
    assert!(cluster.network.pid(3).is_some(), "the first process has stopped");
    cluster.anchor(3).await;
    cluster.check().await;
}

#[tokio::test]
async fn a_journal_restored_from_a_backup_stops_with_code_90() {
    let mut cluster = Cluster::start(4).await;
    cluster.anchor(3).await;
    cluster.network.stop_node(3).unwrap();
    let home = cluster.network.layout().node(3).home;
    let backup = home.join("backup");
    copy(&home.join("sign"), &backup);
    cluster.start_node(3).await;
    // With one other away, node 3 signs every certificate.
    cluster.network.stop_node(1).unwrap();
    for node in [0, 2, 3, 0, 2, 3] {
        cluster.anchor(node).await;
    }
    cluster.start_node(1).await;
    cluster.network.stop_node(3).unwrap();
    fs::remove_dir_all(home.join("sign")).unwrap();
    copy(&backup, &home.join("sign"));
    let mut child = start_copy(&home);
    let (code, said) = ending(&mut cluster, &home, &mut child, false).await;
    assert_eq!(code, Some(90), "{said}");
    assert!(said.contains("restored from a backup") && !said.contains("panicked"), "{said}");
    cluster.anchor(0).await;
    cluster.check().await;
}
