//! Validators that change, decided on chain: every kind of change, faults at each moment of an epoch's end, conviction, and
//! the way back of whoever was away.

use cairn_sim::{Manifest, Micros, Outcome, Perturb, PerturbKind, Transcript, Unsynced, run};

/// From the proposal of an epoch's last block to some message delays after everyone has turned, in half delays.
const MOMENTS: std::ops::Range<u64> = 0..18;
/// One message delay.
const DELAY_US: u64 = 10_000;

fn manifest(text: &str) -> Manifest {
    Manifest::parse(text, "test").unwrap()
}

/// Runs it, and expects no violation and this many epochs.
fn turns(manifest: &Manifest, epochs: u64) -> Outcome {
    let outcome = run(manifest, false, &Transcript::default()).unwrap();
    if let Some(violation) = &outcome.violation {
        panic!("{violation}\n{}", manifest.to_toml());
    }
    assert_eq!(outcome.epochs, epochs, "{}", manifest.to_toml());
    outcome
}

/// Four validators of which node 4 becomes the fifth at one second, when the fault strikes, and the first leaves at nine.
fn boundary(fault: Perturb) -> Manifest {
    let mut manifest = manifest(
        "duration = \"40s\"\n[net]\nlatency = \"10ms\"\n[params]\ntimeout_base = \"500ms\"\ntimeout_cap = \"2s\"\n\
         [load]\nrate = 3\nretry = \"1s\"\n[epochs]\ncandidates = 1\n[[epochs.change]]\nat = \"1s\"\njoin = 4\n\
         [[epochs.change]]\nat = \"9s\"\nleave = 0",
    );
    manifest.perturb.push(Perturb { boundary: Some(0), ..fault });
    manifest
}

fn at(half_delays: u64) -> Micros {
    Micros(half_delays * DELAY_US / 2)
}

#[test]
fn every_kind_of_change_comes_into_force_in_its_order() {
    let text = "duration = \"20s\"\n[load]\nrate = 5\n[epochs]\ncandidates = 2\n\
                [[epochs.change]]\nat = \"1s\"\njoin = 5\npower = 2\n[[epochs.change]]\nat = \"2s\"\nrotate = 1\n\
                [[epochs.change]]\nat = \"3s\"\nweigh = 2\npower = 3\n[[epochs.change]]\nat = \"4s\"\njoin = 4\n\
                [[epochs.change]]\nat = \"5s\"\nleave = 0\n[[epochs.change]]\nat = \"6s\"\nrotate = 1\n\
                [[epochs.change]]\nat = \"7s\"\njoin = 0";
    let transcript = Transcript::kept();
    let outcome = run(&manifest(text), false, &transcript).unwrap();
    assert_eq!((outcome.violation, outcome.epochs, outcome.convicted), (None, 7, 0));
    let text = transcript.tail(usize::MAX);
    let began = |epoch: u64| {
        let line = text.lines().find(|line| line.contains(&format!("EPOCH {epoch} begins")));
        let mut names: Vec<String> =
            line.unwrap().split_once(", of ").unwrap().1.split(' ').map(str::to_owned).collect();
        names.sort();
        names.join(" ")
    };
    let expected = [
        "v0 v1 v2 v3 v5:2",
        "v0 v1 v2 v3 v5:2",
        "v0 v1 v2:3 v3 v5:2",
        "v0 v1 v2:3 v3 v4 v5:2",
        "v1 v2:3 v3 v4 v5:2",
        "v1 v2:3 v3 v4 v5:2",
        "v0 v1 v2:3 v3 v4 v5:2",
    ];
    assert_eq!((1..=7).map(began).collect::<Vec<_>>(), expected);
    // Who joined signs, who left does not, and comes back.
    for (name, signs) in [("v5", 1), ("v4", 4), ("v0", 7)] {
        let after = text.split_once(&format!("EPOCH {signs} begins")).unwrap().1;
        assert!(after.contains(&format!("{name}: view")), "{name} never votes after epoch {signs} began");
    }
    let without =
        text.split_once("v0: EPOCH 5 begins").unwrap().1.split_once("v0: EPOCH 7 begins").unwrap().0;
    assert!(!without.contains("v0: view"), "v0 signs in epochs that it has no place in");
}

#[test]
fn epochs_turn_one_after_the_other_at_the_smallest_size_and_with_real_signatures() {
    let plan = |n: u64, count: u64| {
        manifest(&format!(
            "duration = \"60s\"\n[net]\nn = {n}\nlatency = \"1ms\"\n[cpu]\nsync = \"1ms\"\n[params]\ntimeout_base = \"100ms\"\n\
             drift = \"40ms\"\n[epochs]\ncandidates = 1\nlength = \"0s\"\ncount = {count}"
        ))
    };
    turns(&plan(1, 300), 300);
    turns(&plan(4, 100), 100);
    let mock = plan(4, 12);
    let real = Manifest { signatures: cairn_sim::Signatures::Real, ..mock.clone() };
    let (mock, real) = (turns(&mock, 12), turns(&real, 12));
    assert_eq!((mock.hash, mock.events), (real.hash, real.events));
}

#[test]
fn views_time_out_at_any_moment_of_an_end_and_the_next_epoch_begins() {
    let mut timeouts = 0;
    for moment in MOMENTS {
        for groups in [vec![vec![0, 1], vec![2, 3, 4]], vec![vec![0, 1, 2], vec![3, 4]]] {
            let fault = Perturb {
                kind: PerturbKind::Partition,
                groups,
                at: at(moment),
                lasts: Some(Micros::secs(4)),
                ..Perturb::default()
            };
            timeouts += turns(&boundary(fault), 2).timeouts;
        }
    }
    assert!(timeouts > MOMENTS.end, "only {timeouts} views timed out");
}

#[test]
fn a_crash_at_any_moment_of_an_end_loses_nothing() {
    for moment in MOMENTS {
        for nodes in [vec![0], vec![1], vec![4], Vec::new()] {
            let (crashed, lasts) = (if nodes.is_empty() { 5 } else { 1 }, Some(Micros::secs(3)));
            let unsynced = if moment % 2 == 0 { Unsynced::Lost } else { Unsynced::Torn };
            let fault = Perturb { at: at(moment), nodes, lasts, unsynced, ..Perturb::default() };
            assert_eq!(turns(&boundary(fault), 2).crashes, crashed);
        }
    }
}

#[test]
fn a_crash_at_any_write_of_an_end_loses_nothing() {
    for operation in 0..24 {
        for unsynced in [Unsynced::Lost, Unsynced::Torn, Unsynced::Partial] {
            let fault = Perturb {
                kind: PerturbKind::CrashAtWrite,
                nodes: vec![operation as usize % 4],
                operation: Some(operation),
                lasts: Some(Micros::secs(2)),
                unsynced,
                ..Perturb::default()
            };
            turns(&boundary(fault), 2);
        }
    }
}

#[test]
fn whoever_was_away_for_several_epochs_comes_back_and_votes() {
    // Node 3 is away while four epochs end; afterwards nothing is final without it.
    let text = "duration = \"60s\"\n[net]\nlatency = \"5ms\"\n[params]\ntimeout_cap = \"2s\"\n[load]\nrate = 30\nretry = \"1s\"\n\
                [epochs]\n[[epochs.change]]\nat = \"2s\"\nrotate = 0\n[[epochs.change]]\nat = \"4s\"\nrotate = 3\n\
                [[epochs.change]]\nat = \"6s\"\nweigh = 1\npower = 2\n[[epochs.change]]\nat = \"8s\"\nweigh = 1\npower = 1\n\
                [[perturb]]\nkind = \"isolate\"\nnodes = [3]\nat = \"1s\"\nfor = \"20s\"\n\
                [[perturb]]\nkind = \"crash\"\nnodes = [0]\nat = \"30s\"\nfor = \"10s\"";
    let transcript = Transcript::kept();
    let outcome = run(&manifest(text), false, &transcript).unwrap();
    assert_eq!((outcome.violation, outcome.epochs), (None, 4));
    let text = transcript.tail(usize::MAX);
    let alone =
        text.split_once("--- crash of [0] begins").unwrap().1.split_once("--- crash of [0] ends").unwrap().0;
    assert!(alone.contains("v3: COMMITS"), "nothing is final without the validator that was away");
}

#[test]
fn contradicting_signatures_cost_the_culprit_its_power_at_the_next_epoch() {
    for role in ["equivocating_leader", "colluder"] {
        let text = format!(
            "duration = \"30s\"\n[net]\nn = 7\n[load]\nrate = 20\n[byzantine]\n{role} = [2]\n[epochs]\n"
        );
        let outcome = run(&manifest(&text), false, &Transcript::default()).unwrap();
        assert_eq!((outcome.violation, outcome.epochs, outcome.convicted), (None, 1, 1), "{role}");
        // Where nobody brings it, it stays.
        let outcome =
            run(&manifest(&format!("{text}evidence = false")), false, &Transcript::default()).unwrap();
        assert_eq!((outcome.violation, outcome.epochs), (None, 0), "{role}");
        assert!(outcome.accusations > 0, "{role}");
    }
}
