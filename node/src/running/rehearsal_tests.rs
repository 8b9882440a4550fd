use std::fs;

use super::*;

fn losing() -> Arc<Disaster> {
    let rehearsal = Rehearsal { loss: Loss::Unsynced, die_at: None };
    Arc::new(Disaster { rehearsal, passed: AtomicU64::new(0) })
}

#[test]
fn what_was_not_synced_is_read_back_and_is_not_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = RehearsedFiles::open(dir.path(), losing()).unwrap();
    files.create("log").unwrap();
    files.write_at("log", 0, b"synced").unwrap();
    files.sync("log").unwrap();
    files.write_at("log", 6, b", lost").unwrap();
    files.write_at("log", 0, b"S").unwrap();
    assert_eq!(files.read("log").unwrap().unwrap(), b"Synced, lost");
    assert_eq!(fs::read(dir.path().join("log")).unwrap(), b"synced");
    files.truncate("log", 3).unwrap();
    assert_eq!(files.read("log").unwrap().unwrap(), b"Syn");
    files.sync("log").unwrap();
    assert_eq!(fs::read(dir.path().join("log")).unwrap(), b"Syn");
}

#[test]
fn a_node_that_others_reach_rehearses_nothing() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("config.toml"), "").unwrap();
    let mut config = Config::load(home.path(), &[]).unwrap().config;
    let rehearsal = Some(Rehearsal { loss: Loss::Unsynced, die_at: None });
    assert!(Disaster::new(rehearsal, &config).unwrap().loses_unsynced());
    config.p2p.mesh_listen = "0.0.0.0:26655".parse().unwrap();
    let fault = Disaster::new(rehearsal, &config).unwrap_err().to_string();
    assert!(fault.contains("loopback"), "{fault}");
    assert!(!Disaster::new(None, &config).unwrap().loses_unsynced());
}
