use std::fs;
use std::os::unix::fs::PermissionsExt;

use clap::Parser;

use super::*;

#[derive(Parser)]
struct TestnetOnly {
    #[command(flatten)]
    testnet: TestnetArgs,
}

fn parse(words: &[&str]) -> TestnetArgs {
    TestnetOnly::try_parse_from([&["testnet"], words].concat()).unwrap().testnet
}

/// A program that does what `cairn init` is asked for, as far as the network's maker looks at it.
fn stand_in(dir: &Path) -> PathBuf {
    let path = dir.join("stand-in");
    fs::write(&path, "#!/bin/sh\nmkdir -p \"$3\"\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

async fn refusal(words: &[&str], dir: &Path, binary: &Path) -> String {
    let dir = dir.to_string_lossy().into_owned();
    run(parse(&[words, &["--dir", &dir]].concat()), binary, false).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_verb_without_a_network_says_how_to_make_one() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("none");
    for words in [&["down"][..], &["status"], &["kill", "1"], &["restart", "1"], &["clean"]] {
        let said = refusal(words, &nowhere, Path::new("/bin/true")).await;
        assert!(said.contains("cairn testnet up"), "{words:?}: {said}");
    }
    assert!(!nowhere.exists());
}

#[tokio::test]
async fn a_directory_with_other_files_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("precious"), "x").unwrap();
    let binary = stand_in(tempfile::tempdir().unwrap().keep().as_path());
    let said = refusal(&["up", "--base-port", "0"], dir.path(), &binary).await;
    assert!(said.contains("nothing in it was touched"), "{said}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_missing_binary_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let said = refusal(&["up"], &dir.path().join("net"), &dir.path().join("cairn")).await;
    assert!(said.contains("cargo build"), "{said}");
}

#[tokio::test]
async fn too_many_validators_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let binary = stand_in(dir.path());
    let said = refusal(&["up", "--validators", "65"], &dir.path().join("net"), &binary).await;
    assert!(said.contains("65 validators; expected 1 to 64"), "{said}");
}

#[tokio::test]
async fn an_existing_network_is_not_taken_for_another() {
    let dir = tempfile::tempdir().unwrap();
    let (net, binary) = (dir.path().join("net"), stand_in(dir.path()));
    let options = Options { validators: 1, base_port: 0, ..Options::new(&net) };
    let made = LocalNetwork::create(&options, &binary).unwrap();
    let said = refusal(&["up", "--validators", "7"], &net, &binary).await;
    assert!(said.contains("has validators 1, not 7"), "{said}");
    let mode = fs::metadata(made.layout().passphrase()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let config = fs::read_to_string(made.layout().node(0).home.join("config.toml")).unwrap();
    assert!(config.contains("bootstrap = []"), "{config}");
}

#[tokio::test]
async fn followers_know_only_node_0() {
    let dir = tempfile::tempdir().unwrap();
    let (net, binary) = (dir.path().join("net"), stand_in(dir.path()));
    let options = Options { validators: 1, base_port: 0, ..Options::new(&net) };
    let mut network = LocalNetwork::create(&options, &binary).unwrap();
    let node = network.add_follower().unwrap();
    assert_eq!((node, network.manifest().followers), (1, 1));
    let config = fs::read_to_string(network.layout().node(node).home.join("config.toml")).unwrap();
    let first = network.ports(0).unwrap().public;
    assert!(config.contains(&format!("bootstrap = [\"/ip4/127.0.0.1/tcp/{first}\"]")), "{config}");
    assert!(config.contains("validator = \"\""), "{config}");
    assert_eq!(LocalNetwork::open(&net, &binary).unwrap().manifest().followers, 1);
}

#[tokio::test]
async fn what_an_interrupted_creation_left_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let net = dir.path().join("net");
    let failing = dir.path().join("failing");
    fs::write(&failing, "#!/bin/sh\necho no space left >&2; exit 1\n").unwrap();
    fs::set_permissions(&failing, fs::Permissions::from_mode(0o755)).unwrap();
    let options = Options { validators: 1, base_port: 0, ..Options::new(&net) };
    let fault = LocalNetwork::create(&options, &failing).unwrap_err().to_string();
    assert!(fault.contains("no space left"), "{fault}");
    assert!(matches!(LocalNetwork::open(&net, &failing), Err(Fault::NoNetwork(_))));
    LocalNetwork::create(&options, &stand_in(dir.path())).unwrap();
}

#[tokio::test]
async fn a_port_in_use_is_named_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let base = ports::find_base(1, 7_919).unwrap();
    let _listener = std::net::TcpListener::bind(("127.0.0.1", base + 3)).unwrap();
    let binary = stand_in(dir.path());
    let net = dir.path().join("net");
    let port = base.to_string();
    let said = refusal(&["up", "--validators", "1", "--base-port", &port], &net, &binary).await;
    assert!(said.contains(&(base + 3).to_string()) && said.contains("gRPC of node 0"), "{said}");
    assert!(!net.join("network.json").exists());
}
