use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_new_home_is_closed_to_others() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("deep/home");
    let home = Home::create(&root).unwrap();
    for directory in ["", "keys", "data", "run"] {
        assert_eq!(mode(&root.join(directory)), 0o700, "{directory}");
    }
    assert!(!home.sign().exists(), "only a validator's init makes the journal");
}

#[test]
fn a_home_is_not_made_twice() {
    let scratch = tempfile::tempdir().unwrap();
    Home::create(scratch.path()).unwrap();
    Home::create(scratch.path()).expect("an unfinished home may be begun again").complete().unwrap();
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
    first.complete().unwrap();
    first.lock().unwrap();
    first.lock().expect("taking it twice is one lock");
    let mut second = Home::open(scratch.path()).unwrap();
    let said = second.lock().expect_err("held").to_string();
    assert!(said.contains(&format!("in use by process {}", std::process::id())), "{said}");
    drop(first);
    second.lock().expect("free again");
}

#[test]
fn a_file_is_replaced_whole() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("receipt");
    replace(&path, b"first", OPEN_MODE).unwrap();
    replace(&path, b"second", PRIVATE_MODE).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"second");
    assert_eq!(mode(&path), 0o600);
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1, "no temporary file stays");
    let said = replace(&scratch.path().join("gone/receipt"), b"x", OPEN_MODE).expect_err("no directory");
    assert!(said.to_string().contains("gone/receipt"), "{said}");
}
