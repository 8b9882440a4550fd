//! Whole clusters: a short campaign, reproducibility, every way to misbehave, every write, and runs that must break.

use cairn_sim::{
    Invariant, Manifest, Micros, Perturb, PerturbKind, RoleKind, Signatures, Transcript, Unsynced, Which,
    campaign, run,
};

/// Seeds of an ordinary run.
const SEEDS: u64 = 200;

fn manifest(text: &str) -> Manifest {
    Manifest::parse(text, "test").unwrap()
}

/// Runs it, and expects no violation.
fn clean(manifest: &Manifest) -> cairn_sim::Outcome {
    let outcome = run(manifest, false, &Transcript::default()).unwrap();
    if let Some(violation) = &outcome.violation {
        panic!("{violation}\n{}", manifest.to_toml());
    }
    outcome
}

#[test]
fn seeds_with_faults_and_misbehaviour_keep_every_invariant_and_recover() {
    let (mut crashes, mut accusations, mut timeouts, mut finals) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let n = if seed % 5 == 4 { 7 } else { 4 };
        let scenario = campaign::scenario(seed, n, Micros::secs(12));
        let outcome = campaign::play(&scenario, &Transcript::default()).unwrap();
        if let Some(violation) = outcome.violation {
            panic!("seed {seed}: {violation}\nreplay: cairn sim replay --n {n} --duration 12s --seed {seed}");
        }
        crashes += outcome.crashes;
        accusations += outcome.accusations;
        timeouts += outcome.timeouts;
        finals += outcome.finals;
    }
    // A campaign in which nothing went wrong would show nothing.
    assert!(crashes > SEEDS && accusations > 20 && timeouts > SEEDS && finals > 10 * SEEDS);
}

#[test]
fn the_same_seed_gives_the_same_events_and_another_seed_others() {
    for seed in [3, 17, 40] {
        let scenario = campaign::scenario(seed, 4, Micros::secs(12));
        let [first, second] = [0, 1].map(|_| campaign::play(&scenario, &Transcript::default()).unwrap());
        assert_eq!((first.hash, first.events), (second.hash, second.events), "seed {seed}");
        // Writing a transcript changes nothing.
        let third = campaign::play(&scenario, &Transcript::kept()).unwrap();
        assert_eq!(first.hash, third.hash, "seed {seed}");
    }
    let hash = |seed| {
        let scenario = campaign::scenario(seed, 4, Micros::secs(12));
        campaign::play(&scenario, &Transcript::default()).unwrap().hash
    };
    assert_ne!(hash(3), hash(4));
}

#[test]
fn real_signatures_give_the_events_of_stand_ins() {
    let text = "duration = \"3s\"\n[net]\nbandwidth = \"100Mbit\"\n[cpu]\nverify = \"51us\"\nsync = \"1ms\"\n\
                [load]\nrate = 10\n[byzantine]\nequivocating_leader = [1]";
    let mock = manifest(text);
    let real = Manifest { signatures: Signatures::Real, ..mock.clone() };
    let (mock, real) = (clean(&mock), clean(&real));
    assert!(mock.height > 5);
    assert_eq!((mock.hash, mock.events, mock.height), (real.hash, real.events, real.height));
}

#[test]
fn one_misbehaving_validator_of_four_harms_nobody_whatever_it_does() {
    let mut accused = Vec::new();
    for kind in RoleKind::ALL {
        for seed in 0..4 {
            let mut manifest = manifest(
                "duration = \"20s\"\n[net]\nlatency = \"2ms..40ms\"\n[load]\nrate = 5\n[params]\ntimeout_base = \"500ms\"\ntimeout_cap = \"2s\"",
            );
            manifest.seed = seed;
            manifest.byzantine.roles.insert(kind, Which::Nodes(vec![seed as usize % 4]));
            let outcome = clean(&manifest);
            assert!(outcome.height > 10, "{kind:?}: only {} blocks", outcome.height);
            if outcome.accusations > 0 {
                accused.push(kind);
            }
        }
    }
    for kind in [RoleKind::EquivocatingLeader, RoleKind::Colluder] {
        assert!(accused.contains(&kind), "nobody noticed a {kind:?}");
    }
}

#[test]
fn more_than_f_colluders_fork_the_chain_and_the_fork_is_reported() {
    let manifest = manifest("[byzantine]\nbeyond_f = true\ncolluder = [0, 1]\n[load]\nrate = 20");
    let transcript = Transcript::kept();
    let outcome = run(&manifest, false, &transcript).unwrap();
    let violation = outcome.violation.expect("a fork");
    assert_eq!(violation.invariant, Invariant::OneBlock);
    assert!(transcript.tail(1).starts_with("BROKEN: (a)"), "{}", transcript.tail(1));
    assert!(transcript.tail(40).contains("PROPOSES"));
}

#[test]
fn an_amnesiac_notices_that_its_key_has_signed_more_and_refuses() {
    let manifest = manifest("duration = \"30s\"\n[load]\nrate = 5\n[byzantine]\namnesiac = [2]");
    let transcript = Transcript::kept();
    let outcome = run(&manifest, false, &transcript).unwrap();
    assert_eq!(outcome.violation, None);
    let text = transcript.tail(usize::MAX);
    assert!(text.contains("comes back with an old backup"));
    assert!(text.contains("its key has signed beyond what its journal knows"), "{text}");
}

#[test]
fn a_crash_at_any_disk_operation_loses_nothing_that_was_promised() {
    for operation in 0..150 {
        for unsynced in [Unsynced::Lost, Unsynced::Torn, Unsynced::Partial, Unsynced::Kept] {
            let mut manifest = manifest("duration = \"6s\"\n[load]\nrate = 8\nretry = \"1s\"");
            manifest.seed = operation;
            manifest.perturb.push(Perturb {
                kind: PerturbKind::CrashAtWrite,
                nodes: vec![operation as usize % 4],
                operation: Some(operation),
                lasts: Some(Micros::secs(2)),
                at: Micros::ms(50),
                unsynced,
                ..Perturb::default()
            });
            let outcome = clean(&manifest);
            assert!(outcome.crashes == 1 || operation > 60, "operation {operation} was never reached");
        }
    }
}

#[test]
fn power_loss_of_all_at_any_moment_of_a_block_halts_nobody() {
    for at_ms in (1_000..1_100).step_by(3) {
        let mut manifest =
            manifest("duration = \"12s\"\n[load]\nrate = 10\nretry = \"1s\"\n[params]\ntimeout_cap = \"2s\"");
        manifest.perturb.push(Perturb {
            kind: PerturbKind::Crash,
            at: Micros::ms(at_ms),
            lasts: Some(Micros::ms(500)),
            unsynced: Unsynced::Lost,
            ..Perturb::default()
        });
        let outcome = clean(&manifest);
        assert!(outcome.crashes == 4 && outcome.height > 30, "{} blocks", outcome.height);
    }
}

#[test]
fn a_node_cut_off_for_long_catches_up_by_ranges_and_so_does_a_follower() {
    let manifest = manifest(
        "duration = \"70s\"\n[net]\nfollowers = 1\n[load]\nrate = 20\n[[perturb]]\nkind = \"isolate\"\nnodes = [3, 4]\nat = \"1s\"\nfor = \"50s\"",
    );
    let transcript = Transcript::kept();
    let outcome = run(&manifest, false, &transcript).unwrap();
    assert_eq!(outcome.violation, None);
    let last = format!("at height {}", outcome.height);
    let text = transcript.tail(usize::MAX);
    for name in ["v3", "f4"] {
        let near = (0..20).any(|back| {
            text.contains(&format!("{name}: COMMITS"))
                && text.lines().any(|line| {
                    line.contains(&format!("{name}: COMMITS"))
                        && line.contains(&format!("at height {} ", outcome.height - back))
                })
        });
        assert!(near, "{name} is far from {last}");
    }
}

#[test]
fn shared_execution_gives_the_same_chain_as_everyones_own() {
    let own = manifest("duration = \"5s\"\n[load]\nrate = 30\n[byzantine]\ninvalid_root = [2]");
    let shared = Manifest { execution: cairn_sim::Execution::Shared, ..own.clone() };
    let (own, shared) = (clean(&own), clean(&shared));
    assert!(own.height > 10);
    assert_eq!((own.hash, own.height, own.finals), (shared.hash, shared.height, shared.finals));
}
