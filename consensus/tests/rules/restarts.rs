//! What a crash leaves, and what comes of it.

use std::sync::Arc;

use cairn_consensus::{CommittedTip, Input, RecoverFault, Recovered, Replica, TimerKind, named_certificates};
use cairn_types::safety::SafetyRecord;
use cairn_types::{Block, Hash, ValidatorIndex, View};

use super::bench::{Bench, certificate, commit_cert, proposal, timeout_cert, valid};
use crate::cluster::node::Disk;

#[test]
fn a_vote_is_repeated_after_a_restart_once_its_block_executed_again_and_no_other_is_given() {
    let mut bench = Bench::new(3);
    let world = bench.world.clone();
    let (a, rival) = (world.child(&world.root, 0, 1, &[1]), world.child(&world.root, 0, 1, &[2]));
    bench.name(&a);
    bench.accept(&a, world.root_cert(), None);
    let mut bench = bench.restart();
    let got = bench.give(Input::Start).expect("starts");
    assert_eq!(got, ["timer Idle 60000", "status", "check a k0", "timer View 1000"]);
    assert_eq!(bench.give(valid(&a)).expect("checked"), ["vote 1 a"], "the same preimage needs no sync");
    assert_eq!(bench.accept(&rival, world.root_cert(), None), [""; 0]);
}

#[test]
fn a_proposal_is_repeated_after_a_restart_and_no_second_block_is_built() {
    let mut bench = Bench::new(0);
    let world = bench.world.clone();
    let a = world.child(&world.root, 0, 1, &[1]);
    bench.name(&a);
    bench.give(Input::Work(true)).expect("asks");
    bench.give(Input::PayloadReady { view: View::new(1), block: a.clone() }).expect("proposes");
    let mut bench = bench.restart();
    let got = bench.give(Input::Start).expect("starts");
    assert!(got.contains(&"propose 1 a qc 0".to_owned()), "{got:?}");
    let got = bench.give(Input::Work(true)).expect("work");
    assert!(!got.iter().any(|said| said.starts_with("build")), "{got:?}");
    assert_eq!(bench.give(valid(&a)).expect("checked"), ["vote 1 a"]);
    let whole = proposal(world.proposal(&a, world.root_cert(), None));
    bench.give(whole).expect("our own comes back");
    assert!(bench.replica.proposal_for(&a.id()).is_some(), "and can be served");
}

#[test]
fn another_body_under_the_header_of_a_block_held_is_neither_logged_nor_passed_on() {
    let mut bench = Bench::new(3);
    let world = bench.world.clone();
    let a = world.child(&world.root, 0, 1, &[1]);
    bench.name(&a);
    let hollow = Arc::new(Block::new(a.header().clone(), Vec::new()));
    assert_eq!(hollow.id(), a.id());
    // Its block was logged, and the power went before the record could say that it was voted for.
    bench.disk.bodies.push(a.clone());
    let mut bench = bench.restart();
    bench.give(Input::Start).expect("starts");
    bench.give(proposal(world.proposal(&hollow, world.root_cert(), None))).expect("its header is good");
    bench.give(valid(&a)).expect("checked");
    assert_eq!(bench.replica.record().last_voted, Some((View::new(1), a.id())));
    assert!(bench.disk.bodies.iter().all(|body| body.matches_tx_root()));
    assert!(bench.replica.proposal_for(&a.id()).is_some_and(|held| held.block.matches_tx_root()));
}

#[test]
fn a_commit_vote_and_a_timeout_are_repeated_after_a_restart() {
    let mut bench = Bench::new(3);
    let world = bench.world.clone();
    let a = world.child(&world.root, 0, 1, &[1]);
    bench.name(&a);
    bench.accept(&a, world.root_cert(), None);
    bench.give(certificate(world.qc(&a))).expect("to view 2");
    let late = bench.fire(TimerKind::View);
    bench.give(late).expect("fires");
    let mut bench = bench.restart();
    let got = bench.give(Input::Start).expect("starts");
    let expect = [
        "timer Idle 60000",
        "commit vote 1 a",
        "timeout 2 signs 1 carries 1",
        "status",
        "check a k0",
        "timer View 1000",
    ];
    assert_eq!(got, expect);
    assert_eq!(bench.state(), "view 2 qc 1 tc 0 committed 0");
}

#[test]
fn a_timeout_signed_with_a_low_certificate_is_repeated_with_the_one_known_now() {
    let mut bench = Bench::new(3);
    let world = bench.world.clone();
    bench.give(timeout_cert(world.tc(View::new(3), world.root_cert()))).expect("to view 4");
    bench.give(Input::Work(true)).expect("work");
    let late = bench.fire(TimerKind::View);
    bench.give(late).expect("the message is lost");
    let b = world.child(&world.root, 0, 2, &[1]);
    bench.give(certificate(world.qc(&b))).expect("a higher certificate, below the view");
    let mut bench = bench.restart();
    let got = bench.give(Input::Start).expect("starts");
    assert!(got.contains(&"timeout 4 signs 0 carries 2 tc 3".to_owned()), "{got:?}");
}

#[test]
fn a_restart_continues_above_the_committed_block() {
    let mut bench = Bench::new(3);
    let world = bench.world.clone();
    let a = world.child(&world.root, 0, 1, &[1]);
    bench.accept(&a, world.root_cert(), None);
    bench.give(commit_cert(world.commit_cert(&a))).expect("final");
    let commit = CommittedTip { header: a.header().clone(), certificate: world.commit_cert(&a) };
    let recovered = Recovered { commit: Some(commit), ..bench.disk.recovered() };
    let mut replica = Replica::new(world.config(Some(ValidatorIndex(3))), recovered).expect("whole");
    let step = replica.step(Input::Start).expect("starts");
    assert!(!step.is_empty());
    assert_eq!((replica.view(), replica.committed()), (View::new(2), (a.id(), a.header().height)));
    assert!(!replica.is_working(), "nothing is left to do");
}

#[test]
fn a_record_that_is_not_whole_is_refused() {
    let world = Bench::new(3).world;
    let me = Some(ValidatorIndex(3));
    let a = world.child(&world.root, 0, 1, &[1]);
    let start = |record: SafetyRecord| {
        Replica::new(world.config(me), Recovered { record, ..Recovered::default() }).expect_err("refused")
    };
    let qc = world.qc(&a);
    let named = SafetyRecord { high_qc: Some((qc.view(), qc.digest())), ..SafetyRecord::default() };
    assert!(matches!(start(named.clone()), RecoverFault::CertificateMissing { .. }));
    let tc = world.tc(View::new(1), world.root_cert());
    let timed = SafetyRecord { high_tc: Some((tc.view, tc.digest())), ..SafetyRecord::default() };
    assert!(matches!(start(timed), RecoverFault::CertificateMissing { .. }));
    let ahead = SafetyRecord { last_voted: Some((View::new(2), a.id())), ..SafetyRecord::default() };
    assert_eq!(start(ahead), RecoverFault::ViewUnproven { signed: View::new(2), reached: View::new(1) });
    let later = SafetyRecord { epoch: world.set.epoch().next(), ..SafetyRecord::default() };
    assert!(matches!(start(later), RecoverFault::LaterEpoch { .. }));
    let other = SafetyRecord { high_qc: Some((qc.view(), Hash::default())), ..SafetyRecord::default() };
    let recovered = Recovered { record: other, high_qc: Some(qc.clone()), ..Recovered::default() };
    assert!(Replica::new(world.config(me), recovered).is_err(), "another certificate than the one named");
    let nobody = Replica::new(world.config(Some(ValidatorIndex(4))), Recovered::default());
    assert!(matches!(nobody, Err(RecoverFault::NotInSet { .. })));
    assert!(named_certificates(&named, [b"torn".as_slice()]).is_err());
}

#[test]
fn certificates_are_found_again_among_all_those_written() {
    let mut bench = Bench::new(3);
    let world = bench.world.clone();
    let a = world.child(&world.root, 0, 1, &[1]);
    bench.give(certificate(world.qc(&a))).expect("a certificate");
    bench.give(timeout_cert(world.tc(View::new(2), world.qc(&a)))).expect("a timeout certificate");
    bench.give(timeout_cert(world.tc(View::new(3), world.qc(&a)))).expect("a later one");
    let Disk { record, certificates, .. } = &bench.disk;
    assert_eq!(certificates.len(), 3);
    let entries = certificates.iter().map(Vec::as_slice);
    let (qc, tc) = named_certificates(record, entries).expect("both");
    assert_eq!((qc.map(|qc| qc.view()), tc.map(|tc| tc.view)), (Some(View::new(1)), Some(View::new(3))));
}

#[test]
fn nothing_is_taken_before_the_start_and_the_start_only_once() {
    let world = Bench::new(3).world;
    let mut bench = Bench::recovered(world, Some(ValidatorIndex(3)), Disk::default());
    bench.refuses("not started", Input::Work(true));
    bench.give(Input::Start).expect("starts");
    bench.refuses("started", Input::Start);
}
