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
        ("[epochs]\nlenght = \"1s\"", "unknown field `lenght`, expected one of"),
        ("[[epochs.change]]\nat = \"1s\"\nelect = 4", "unknown field `elect`, expected one of"),
        ("[[epochs.change]]\nat = \"1s\"", "expected one of `join`, `leave`, `weigh` and `rotate`"),
        ("[[epochs.change]]\njoin = 4\nleave = 0", "expected one of `join`, `leave`, `weigh` and `rotate`"),
        ("[[epochs.change]]\njoin = 4", "node 4 has no validator key; expected 0 to 3"),
        ("[[epochs.change]]\njoin = 3", "node 3 is a validator already"),
        ("[[epochs.change]]\nweigh = 3", "`weigh` needs `power`"),
        ("[[epochs.change]]\nweigh = 3\npower = 1", "has power 1 already"),
        ("[[epochs.change]]\nleave = 3\npower = 1", "`power` belongs to"),
        (
            "[[epochs.change]]\nat = \"2s\"\nleave = 3\n[[epochs.change]]\nat = \"1s\"\nleave = 2",
            "in the order of",
        ),
        ("[epochs]\nlength = \"1s\"\n[[epochs.change]]\nleave = 3", "expected either it or"),
        ("[epochs]\ncount = 3", "expected `length`"),
        ("execution = \"shared\"\n[epochs]", "expected execution = \"own\""),
        ("[byzantine]\nsilent = [1]\n[[epochs.change]]\nleave = 0", "leaves the honest without a quorum"),
        ("[[perturb]]\nkind = \"crash\"\nboundary = 0", "`boundary` needs `[epochs]`"),
        ("[assert]\nfinality = \"1s\"", "unknown field `finality`"),
    ] {
        let got = Manifest::parse(text, "test").unwrap_err().to_string();
        assert!(got.contains(why), "{text}: {got}");
    }
    let change = "[epochs]\ncandidates = 1\n[[epochs.change]]\nat = \"1s\"\njoin = 4\npower = 2";
    assert_eq!(Manifest::parse(change, "test").unwrap().nodes(), 5);
    let two = "[byzantine]\nbeyond_f = true\nsilent = 2";
    assert!(Manifest::parse(two, "test").is_ok());
}
