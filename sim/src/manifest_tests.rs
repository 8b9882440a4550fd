use super::*;

#[test]
fn an_empty_manifest_is_four_quiet_validators() {
    let manifest = Manifest::parse("", "test").unwrap();
    assert_eq!((manifest.net.n, manifest.perturb.len()), (4, 0));
    assert_eq!(Manifest::parse(&manifest.to_toml(), "again").unwrap(), manifest);
}

#[test]
fn every_shipped_experiment_is_read_and_written_back_the_same() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let manifest = Manifest::read(&entry.unwrap().path()).unwrap();
        assert_eq!(Manifest::parse(&manifest.to_toml(), "again").unwrap(), manifest);
        assert!(!manifest.about.is_empty());
        count += 1;
    }
    assert!(count >= 5);
}

#[test]
fn what_makes_no_sense_is_refused_with_what_was_expected() {
    for (text, why) in [
        ("sed = 1", "unknown field `sed`, expected one of"),
        ("[net]\nloos = 0.1", "unknown field `loos`"),
        ("[net]\nn = 0", "expected 1 to 256"),
        ("[net]\nloss = 2.0", "expected 0 to 1"),
        ("[net]\nlatency = \"soon\"", "no length of time"),
        ("[load]\nproofs = 0", "1 to 256 proofs"),
        ("[byzantine]\nsleepy = 1", "unknown variant `sleepy`, expected one of"),
        ("[byzantine]\nsilent = 2", "at most 1"),
        ("[byzantine]\nsilent = [9]", "does not exist"),
        ("[[perturb]]\nkind = \"partition\"", "needs `groups`"),
        ("[[perturb]]\nkind = \"crash\"\nnodes = [4]", "node 4 does not exist; expected 0 to 3"),
        ("[[perturb]]\nkind = \"loss\"", "needs `share`"),
        ("[[perturb]]\nkind = \"earthquake\"", "unknown variant `earthquake`"),
        ("[params]\ntimeout_base = \"2s\"\ntimeout_cap = \"1s\"", "timeout_base <= timeout_cap"),
        ("[assert]\nfinality = \"1s\"", "unknown field `finality`"),
    ] {
        let got = Manifest::parse(text, "test").unwrap_err().to_string();
        assert!(got.contains(why), "{text}: {got}");
    }
    let two = "[byzantine]\nbeyond_f = true\nsilent = 2";
    assert!(Manifest::parse(two, "test").is_ok());
}
