use super::*;

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text.into()).unwrap()
}

#[test]
fn a_key_survives_the_file_under_both_schemes() {
    let directory = tempfile::tempdir().unwrap();
    for scheme in Scheme::ALL {
        let key = KeyPair::generate(scheme);
        let path = directory.path().join(format!("{scheme}.json"));
        let sealed = Keystore::seal(&key, &passphrase("correct horse")).unwrap();
        sealed.create(&path).unwrap();
        let loaded = Keystore::load(&path).unwrap();
        assert_eq!(loaded, sealed);
        assert_eq!(loaded.public(), key.public());
        let opened = loaded.open(&passphrase("correct horse")).unwrap();
        assert_eq!(crate::verify(key.public(), b"m", &opened.sign(b"m")), Ok(()));
        assert!(matches!(loaded.open(&passphrase("wrong")), Err(KeystoreFault::WrongPassphrase)));
        assert!(matches!(loaded.open(&Passphrase::none()), Err(KeystoreFault::WrongPassphrase)));
        // The last bytes: a Dilithium secret begins with a part that is public.
        let tail = key.secret_bytes().last_chunk::<16>().unwrap();
        assert!(!sealed.to_json().contains(&hex::encode(tail)));
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "no temporary file stays");
}

#[test]
fn no_passphrase_must_be_asked_for() {
    assert_eq!(Passphrase::new(String::new()).err(), Some(EmptyPassphrase));
    let key = KeyPair::generate(Scheme::MlDsa65);
    let sealed = Keystore::seal(&key, &Passphrase::none()).unwrap();
    assert_eq!(sealed.open(&Passphrase::none()).unwrap().public(), key.public());
}

#[test]
fn an_existing_file_is_never_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.json");
    let key = KeyPair::generate(Scheme::MlDsa65);
    let sealed = Keystore::seal(&key, &Passphrase::none()).unwrap();
    fs::write(&path, "something of mine").unwrap();
    assert!(matches!(sealed.create(&path), Err(KeystoreFault::Exists { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), "something of mine");
    assert!(matches!(sealed.create(&directory.path().join("no/such/key")), Err(KeystoreFault::Io { .. })));
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.json");
    let key = KeyPair::generate(Scheme::MlDsa65);
    Keystore::seal(&key, &Passphrase::none()).unwrap().create(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(Keystore::load(&path), Err(KeystoreFault::TooOpen { mode: 0o640, .. })));
}

#[test]
fn every_changed_field_is_refused() {
    let key = KeyPair::generate(Scheme::MlDsa65);
    let other = KeyPair::generate(Scheme::MlDsa65);
    let none = Passphrase::none();
    let text = Keystore::seal(&key, &none).unwrap().to_json();
    let good: serde_json::Value = serde_json::from_str(&text).unwrap();
    let flip = |text: &str| {
        let first = if text.starts_with('0') { "1" } else { "0" };
        serde_json::Value::from(format!("{first}{}", &text[1..]))
    };
    let strings = [
        "/scheme",
        "/address",
        "/public_key",
        "/kdf/name",
        "/kdf/salt",
        "/cipher/name",
        "/cipher/nonce",
        "/cipher/ciphertext",
    ];
    for at in strings {
        let mut changed = good.clone();
        let value = changed.pointer_mut(at).unwrap();
        *value = flip(value.as_str().unwrap());
        let refused = Keystore::from_json(&changed.to_string()).and_then(|it| it.open(&none));
        assert!(refused.is_err(), "{at}");
    }
    for (at, value) in [("/version", 2), ("/kdf/memory_kib", 8_192), ("/kdf/passes", 1), ("/kdf/lanes", 2)] {
        let mut changed = good.clone();
        *changed.pointer_mut(at).unwrap() = value.into();
        assert!(Keystore::from_json(&changed.to_string()).and_then(|it| it.open(&none)).is_err(), "{at}");
    }
    // The clear part as a whole exchanged for another key's.
    let mut changed = good.clone();
    changed["public_key"] = hex::encode(other.public().as_bytes()).into();
    changed["address"] = other.address().to_string().into();
    let refused = Keystore::from_json(&changed.to_string()).unwrap().open(&none);
    assert!(matches!(refused, Err(KeystoreFault::WrongPassphrase)));
}

#[test]
fn hostile_files_are_refused_cheaply() {
    let key = KeyPair::generate(Scheme::MlDsa65);
    let text = Keystore::seal(&key, &Passphrase::none()).unwrap().to_json();
    let costly = text.replace("\"memory_kib\": 32768", "\"memory_kib\": 4294967295");
    assert!(matches!(
        Keystore::from_json(&costly),
        Err(KeystoreFault::Field { field: "kdf.memory_kib", .. })
    ));
    let extra = text.replacen('{', "{\"note\": 1,", 1);
    assert!(matches!(Keystore::from_json(&extra), Err(KeystoreFault::Malformed { .. })));
    assert!(matches!(Keystore::from_json(&" ".repeat(70_000)), Err(KeystoreFault::TooLarge)));
    for cut in (0..text.len() - 2).step_by(101) {
        assert!(Keystore::from_json(&text[..cut]).is_err());
    }
}

#[test]
fn opening_takes_no_longer_than_a_person_notices() {
    let key = KeyPair::generate(Scheme::Dilithium3);
    let sealed = Keystore::seal(&key, &Passphrase::none()).unwrap();
    let best = (0..3)
        .map(|_| {
            let start = std::time::Instant::now();
            sealed.open(&Passphrase::none()).unwrap();
            start.elapsed()
        })
        .min()
        .unwrap();
    eprintln!("opening a keystore takes {best:?}");
    assert!(best.as_millis() < 500, "{best:?}");
}
