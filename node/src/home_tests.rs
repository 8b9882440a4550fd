use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_new_home_is_closed_to_others() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("deep/home");
    let home = Home::create(&root).unwrap();
    assert_eq!(home.create_node_keys().unwrap(), ["keys/mesh.key", "keys/public.key"]);
    assert_eq!(home.create_node_keys().unwrap(), [] as [&str; 0], "existing keys are kept");
    for directory in ["", "keys", "data", "run"] {
        assert_eq!(mode(&root.join(directory)), 0o700, "{directory}");
    }
    assert_eq!(mode(&root.join("keys/mesh.key")), 0o600);
    assert!(!home.sign().exists(), "only a validator's init makes the journal");
    assert_ne!(*home.mesh_seed().unwrap(), *home.public_seed().unwrap());
}

#[test]
fn a_home_is_not_made_twice() {
    let scratch = tempfile::tempdir().unwrap();
    Home::create(scratch.path()).unwrap();
    let said = Home::create(scratch.path()).expect_err("exists").to_string();
    assert!(said.contains("already a Cairn home"), "{said}");
}

#[test]
fn opening_checks_the_layout() {
    let scratch = tempfile::tempdir().unwrap();
    let said = Home::open(scratch.path()).expect_err("empty").to_string();
    assert!(said.contains("VERSION is missing") && said.contains("cairn init"), "{said}");
    fs::write(scratch.path().join("VERSION"), "2\n").unwrap();
    let said = Home::open(scratch.path()).expect_err("newer").to_string();
    assert!(said.contains("layout 2") && said.contains("knows layout 1"), "{said}");
}

#[test]
fn the_lock_names_the_process_that_holds_it() {
    let scratch = tempfile::tempdir().unwrap();
    let mut first = Home::create(scratch.path()).unwrap();
    first.lock().unwrap();
    first.lock().expect("taking it twice is one lock");
    let mut second = Home::open(scratch.path()).unwrap();
    let said = second.lock().expect_err("held").to_string();
    assert!(said.contains(&format!("in use by process {}", std::process::id())), "{said}");
    drop(first);
    second.lock().expect("free again");
}

#[test]
fn a_damaged_node_key_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let home = Home::create(scratch.path()).unwrap();
    home.create_node_keys().unwrap();
    fs::write(scratch.path().join("keys/mesh.key"), "zz").unwrap();
    let said = home.mesh_seed().expect_err("damaged").to_string();
    assert!(said.contains("mesh.key is damaged"), "{said}");
}
