//! The protocol holds within the default bounds, every broken twin is found, and the pipeline says so when not.

use cairn_model::Property;
use cairn_model::rules::{Fault, Rules};
use cairn_model::search::{Outcome, STATES_MAX};
use cairn_model::twins::{Twin, judge, spares, twins, verify};

/// Explores the protocol, and expects at least so many states: a search that visits nothing proves nothing.
fn holds(rules: &Rules, states_min: usize) {
    let report = verify(rules, STATES_MAX);
    if let Err(fault) = judge(rules, &report) {
        panic!("{fault}");
    }
    assert!(report.states >= states_min, "only {} states", report.states);
}

#[test]
fn three_views_hold() {
    holds(&Rules::new(3, 3), 50_000);
}

#[test]
fn four_views_hold() {
    holds(&Rules::new(4, 2), 1_000_000);
}

#[test]
fn an_epoch_boundary_holds() {
    holds(&Rules::epochs(2, 2, 2), 70_000);
    holds(&Rules::epochs(3, 1, 2), 100_000);
    holds(&Rules::epochs(1, 3, 2), 30_000);
}

#[test]
fn every_twin_is_found() {
    let twins = twins();
    assert!(twins.len() >= 20, "only {} twins", twins.len());
    let mut missed = Vec::new();
    for twin in &twins {
        let report = twin.hunt();
        match twin.judge(&report) {
            Ok(()) => {
                let Outcome::Broken(found) = &report.outcome else { unreachable!("judged as found") };
                let (ms, moves) = (report.elapsed.as_millis(), found.lines(&twin.rules).join("\n"));
                println!("{} ({}): {} states, {ms} ms\n{moves}\n", twin.name, twin.what, report.states);
            }
            Err(fault) => missed.push(fault),
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn a_twin_breaks_nothing_once_it_is_mended() {
    // What is found is the fault's doing: without it, the same bounds hold.
    for mut twin in twins() {
        twin.rules.faults.clear();
        let report = twin.hunt();
        assert!(matches!(report.outcome, Outcome::Holds), "{}: {:?}", twin.name, report.outcome);
    }
}

#[test]
fn a_spare_guard_alone_does_no_harm() {
    for spare in spares(2) {
        let report = spare.hunt();
        assert!(matches!(report.outcome, Outcome::Holds), "{}: {:?}", spare.name, report.outcome);
    }
}

#[test]
fn canary_a_twin_that_is_not_found_is_reported() {
    let sound =
        Twin { name: "sound", rule: "-", what: "nothing", rules: Rules::new(2, 2), harm: Property::Fork };
    let fault = sound.judge(&sound.hunt()).expect_err("there is nothing to find");
    assert!(fault.contains("NOT FOUND"), "{fault}");
}

#[test]
fn canary_a_twin_found_by_another_harm_is_reported() {
    let mut twin = twins().into_iter().find(|twin| twin.name == "vote_twice").expect("it is a twin");
    let report = twin.hunt();
    twin.harm = Property::LockBack;
    let fault = twin.judge(&report).expect_err("it does another harm");
    assert!(fault.contains("expected high_qc moved back"), "{fault}");
}

#[test]
fn canary_a_broken_protocol_is_reported_with_its_moves() {
    let rules = Rules::new(3, 2).with(&[Fault::TcHighIgnored]);
    let fault = judge(&rules, &verify(&rules, STATES_MAX)).expect_err("it forks");
    assert!(fault.starts_with("two conflicting final blocks:\n 1. validator 1 votes for 1a"), "{fault}");
}

#[test]
fn canary_a_search_that_did_not_finish_is_no_proof() {
    let rules = Rules::new(3, 2);
    let fault = judge(&rules, &verify(&rules, 1_000)).expect_err("it has more states");
    assert!(fault.contains("not exhausted"), "{fault}");
}
