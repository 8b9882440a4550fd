//! T, A and R: giving a view up, moving on, and saying things again.

use cairn_consensus::{Blame, Input, Reject, TimerKind};
use cairn_types::{BlockCert, Status, ValidatorIndex, View};

use super::bench::{Bench, Row, certificate, proposal, timeout, timeout_cert};

#[test]
fn a_view_without_work_has_no_timer() {
    let mut bench = Bench::new(3);
    assert!(!bench.replica.is_working());
    assert_eq!(bench.give(Input::Work(true)).expect("work"), ["timer View 1000"]);
    let stale = bench.fire(TimerKind::View);
    assert_eq!(bench.give(Input::Work(false)).expect("no work"), [""; 0]);
    assert_eq!(bench.refuses("a timer that was let run out", stale), Reject::TimerReplaced);
}

#[test]
fn a_view_is_given_up_repeated_and_left_by_certificate() {
    let mut bench = Bench::new(3);
    let root = bench.world.root_cert();
    bench.give(Input::Work(true)).expect("work");
    let late = bench.fire(TimerKind::View);
    let expect = ["sync", "timeout 1 signs 0 carries 0", "status", "timer View 1000"];
    assert_eq!(bench.give(late).expect("fires"), expect);
    let again = bench.fire(TimerKind::View);
    bench.play(vec![
        Row {
            desc: "R: the same timeout again, with nothing to write",
            input: again,
            expect: &["timeout 1 signs 0 carries 0", "status", "timer View 1000"],
            state: "view 1 qc 0 tc 0 committed 0",
        },
        Row {
            desc: "our own comes back",
            input: bench.timeout(3, 1, &root, None),
            expect: &[],
            state: "view 1 qc 0 tc 0 committed 0",
        },
        Row {
            desc: "twice",
            input: bench.timeout(3, 1, &root, None),
            expect: &["refused: already known"],
            state: "view 1 qc 0 tc 0 committed 0",
        },
        Row {
            desc: "a second",
            input: bench.timeout(0, 1, &root, None),
            expect: &[],
            state: "view 1 qc 0 tc 0 committed 0",
        },
        Row {
            desc: "a quorum: TC and A; work goes on, for longer",
            input: bench.timeout(1, 1, &root, None),
            expect: &["sync", "formed tc 1 qc 0", "timer View 1500"],
            state: "view 2 qc 0 tc 1 committed 0",
        },
    ]);
}

#[test]
fn timeouts_of_weak_power_are_joined_without_work_of_our_own() {
    let mut bench = Bench::new(3);
    let root = bench.world.root_cert();
    assert_eq!(bench.give(bench.timeout(0, 1, &root, None)).expect("one"), [""; 0]);
    let got = bench.give(bench.timeout(1, 1, &root, None)).expect("two");
    assert_eq!(got, ["sync", "timeout 1 signs 0 carries 0", "timer View 1000"]);
}

#[test]
fn a_timeout_brings_its_receiver_to_its_view_or_is_refused() {
    let world = Bench::new(3).world;
    let (root, tc) = (world.root_cert(), world.tc(View::new(4), world.root_cert()));
    let mut bench = Bench::new(3);
    let skipped = bench.refuses("no proof of entry", bench.timeout(0, 5, &root, None));
    assert_eq!(skipped, Reject::NoEntryProof { view: View::new(5) });
    let other = bench.refuses("another view's", bench.timeout(0, 7, &root, Some(tc.clone())));
    assert_eq!(other.blame(), Blame::Peer);
    let signer = ValidatorIndex(0);
    let more = timeout(world.timeout(signer, View::new(5), View::new(3), root.clone(), Some(tc.clone())));
    assert!(matches!(bench.refuses("signs more than it carries", more), Reject::TimeoutCertificate { .. }));
    bench.give(bench.timeout(0, 5, &root, Some(tc))).expect("entered by timeout certificate");
    assert_eq!(bench.state(), "view 5 qc 0 tc 4 committed 0");
}

#[test]
fn two_timeouts_of_one_view_with_different_certificates_are_evidence() {
    let mut bench = Bench::new(3);
    let world = bench.world.clone();
    let a = world.child(&world.root, 0, 1, &[1]);
    let tc = world.tc(View::new(2), world.root_cert());
    bench.give(bench.timeout(0, 3, &world.root_cert(), Some(tc.clone()))).expect("the first");
    let got = bench.give(bench.timeout(0, 3, &world.qc(&a), Some(tc.clone()))).expect("the second");
    assert!(got.contains(&"accuse 0 of two timeouts".to_owned()), "{got:?}");
    // Carrying a higher certificate under the same signature is no offence.
    let resent =
        world.timeout(ValidatorIndex(1), View::new(3), View::ZERO, world.root_cert(), Some(tc.clone()));
    bench.give(timeout(resent)).expect("the first of validator 1");
    let resent = world.timeout(ValidatorIndex(1), View::new(3), View::ZERO, world.qc(&a), Some(tc));
    assert_eq!(bench.refuses("the same, re-sent", timeout(resent)), Reject::Known);
}

#[test]
fn a_timeout_certificate_carries_the_highest_certificate_of_its_timeouts() {
    let mut bench = Bench::new(3);
    let world = bench.world.clone();
    let a = world.child(&world.root, 0, 1, &[1]);
    let (root, qc) = (world.root_cert(), world.qc(&a));
    let tc = world.tc(View::new(2), root.clone());
    bench.give(bench.timeout(0, 3, &root, Some(tc.clone()))).expect("a");
    bench.give(bench.timeout(1, 3, &qc, Some(tc.clone()))).expect("b");
    let got = bench.give(bench.timeout(2, 3, &root, Some(tc))).expect("c");
    assert!(got.contains(&"formed tc 3 qc 1".to_owned()), "{got:?}");
}

#[test]
fn only_certificates_move_the_view() {
    let mut bench = Bench::new(3);
    let world = bench.world.clone();
    let far = world.child(&world.root, 0, 6, &[1]);
    bench.give(bench.vote(0, &far)).expect("counted");
    bench.give(bench.vote(1, &far)).expect("counted");
    let status = Status { epoch: world.set.epoch(), view: View::new(9), ..Status::default() };
    bench.give(Input::Status { from: ValidatorIndex(0), status }).expect("a hint");
    assert_eq!(bench.state(), "view 1 qc 0 tc 0 committed 0");
    bench.give(bench.vote(2, &far)).expect("the quorum");
    assert_eq!(bench.state(), "view 7 qc 6 tc 0 committed 0", "a certificate is looked at in any view");
    bench.give(certificate(world.qc(&world.child(&world.root, 0, 500, &[1])))).expect("far ahead");
    assert_eq!(bench.state(), "view 501 qc 500 tc 0 committed 0");
}

#[test]
fn bare_votes_are_counted_only_in_a_window_of_views() {
    let mut bench = Bench::new(3);
    let world = bench.world.clone();
    bench.give(certificate(world.qc(&world.child(&world.root, 0, 19, &[1])))).expect("to view 20");
    for (view, counted) in [(18, false), (19, true), (20, true), (28, true), (29, false)] {
        let block = world.child(&world.root, 0, view, &[view]);
        let step = bench.replica.step(bench.vote(1, &block));
        assert_eq!(step.is_ok(), counted, "vote of view {view}");
    }
    for (view, counted) in [(11, false), (12, true), (28, true), (29, false)] {
        let block = world.child(&world.root, 0, view, &[view]);
        let step = bench.replica.step(bench.commit_vote(1, &block));
        assert_eq!(step.is_ok(), counted, "commit vote of view {view}");
    }
}

#[test]
fn the_first_vote_counts_a_second_block_is_evidence_and_a_third_is_refused() {
    let mut bench = Bench::new(3);
    let world = bench.world.clone();
    let blocks: Vec<_> = (0..3).map(|n| world.child(&world.root, 0, 1, &[n])).collect();
    bench.give(bench.vote(0, &blocks[0])).expect("counted");
    assert_eq!(bench.refuses("again", bench.vote(0, &blocks[0])), Reject::Known);
    let got = bench.give(bench.vote(0, &blocks[1])).expect("counted for the second too");
    assert_eq!(got, ["accuse 0 of two votes"]);
    let third = bench.refuses("a third", bench.vote(0, &blocks[2]));
    assert!(matches!(third, Reject::TooManyBlocks { .. }));
    // The equivocator's vote completes the quorum of either block.
    bench.give(bench.vote(1, &blocks[1])).expect("counted");
    bench.give(bench.vote(2, &blocks[1])).expect("counted");
    assert_eq!(bench.state(), "view 2 qc 1 tc 0 committed 0");
}

#[test]
fn a_block_that_votes_name_is_fetched_from_a_voter_at_once() {
    let mut bench = Bench::new(3);
    let world = bench.world.clone();
    let a = world.child(&world.root, 0, 1, &[1]);
    bench.name(&a);
    assert_eq!(bench.give(bench.vote(0, &a)).expect("the leader's"), [""; 0]);
    let got = bench.give(bench.vote(1, &a)).expect("another's");
    assert_eq!(got[0], "fetch a from 0,1");
    let bare = bench.refuses("a bare body proves nothing", Input::BlockFetched { block: a.clone() });
    assert_eq!((bare.blame(), bare), (Blame::Nobody, Reject::Uncertified { id: a.id() }));
    let whole = proposal(world.proposal(&a, world.root_cert(), None));
    assert!(bench.give(whole).expect("the whole proposal").contains(&"check a k0".to_owned()));
    assert_eq!(bench.replica.proposal_for(&a.id()).map(|p| p.block.id()), Some(a.id()));
}

#[test]
fn whoever_is_ahead_answers_and_not_without_end() {
    let mut bench = Bench::new(3);
    let world = bench.world.clone();
    let a = world.child(&world.root, 0, 1, &[1]);
    bench.accept(&a, world.root_cert(), None);
    bench.give(certificate(world.qc(&a))).expect("to view 2");
    bench.give(timeout_cert(world.tc(View::new(2), world.qc(&a)))).expect("to view 3");
    let behind = Status { epoch: world.set.epoch(), view: View::new(1), ..Status::default() };
    let ask = || Input::Status { from: ValidatorIndex(1), status: behind };
    for _ in 0..3 {
        assert_eq!(bench.give(ask()).expect("a hint"), ["to 1: qc 1", "to 1: tc 2"]);
    }
    let last = ["to 1: qc 1", "to 1: tc 2", "timer Repair 1000"];
    assert_eq!(bench.give(ask()).expect("a hint"), last, "the last one of this period");
    assert_eq!(bench.give(ask()).expect("a hint"), [""; 0], "rate-limited");
    let other = Input::Status { from: ValidatorIndex(2), status: behind };
    assert_eq!(bench.give(other).expect("a hint").len(), 2, "per peer");
    let spent = bench.fire(TimerKind::Repair);
    bench.give(spent).expect("a base timeout later, also on an idle chain");
    assert_eq!(bench.give(ask()).expect("a hint"), ["to 1: qc 1", "to 1: tc 2"], "a new period");
    let late = bench.fire(TimerKind::View);
    bench.give(late).expect("a new period");
    assert_eq!(bench.give(ask()).expect("a hint").len(), 2);
    let same = Input::Status { from: ValidatorIndex(1), status: bench.replica.status() };
    assert_eq!(bench.give(same).expect("a hint"), [""; 0], "an equal needs no answer");
    let old =
        bench.timeout(2, 1, &BlockCert::Root { epoch: world.set.epoch(), block: world.root.id() }, None);
    assert_eq!(bench.give(old).expect("answered"), ["to 2: qc 1", "to 2: tc 2"], "a timeout of a lower view");
}

#[test]
fn everything_stored_is_said_again_to_whoever_connects() {
    let mut bench = Bench::new(3);
    let world = bench.world.clone();
    let a = world.child(&world.root, 0, 1, &[1]);
    let b = world.child(a.header(), 1, 2, &[2]);
    [&a, &b].into_iter().for_each(|block| bench.name(block));
    bench.accept(&a, world.root_cert(), None);
    bench.give(certificate(world.qc(&a))).expect("to view 2");
    bench.accept(&b, world.qc(&a), None);
    let late = bench.fire(TimerKind::View);
    bench.give(late).expect("fires");
    let got = bench.give(Input::Connected(ValidatorIndex(1))).expect("connected");
    assert_eq!(
        got,
        ["to 1: vote 2 b", "to 1: commit vote 1 a", "to 1: timeout 2 signs 1 carries 1", "to 1: status"]
    );
}

#[test]
fn a_payload_that_comes_after_the_view_was_given_up_is_neither_proposed_nor_repeated() {
    let mut bench = Bench::new(0);
    let a = bench.world.child(&bench.world.root.clone(), 0, 1, &[1]);
    bench.give(Input::Work(true)).expect("asks for a payload");
    let late = bench.fire(TimerKind::View);
    bench.give(late).expect("fires");
    let ready = Input::PayloadReady { view: View::new(1), block: a };
    assert_eq!(bench.refuses("too late", ready), Reject::WrongPayload);
    let got = bench.give(Input::Connected(ValidatorIndex(1))).expect("connected");
    assert_eq!(got, ["to 1: timeout 1 signs 0 carries 0", "to 1: status"]);
}

#[test]
fn commit_votes_of_the_highest_certificate_count_however_many_views_were_given_up() {
    let mut bench = Bench::new(3);
    let world = bench.world.clone();
    let a = world.child(&world.root, 0, 1, &[1]);
    bench.name(&a);
    bench.accept(&a, world.root_cert(), None);
    bench.give(certificate(world.qc(&a))).expect("to view 2");
    bench.give(bench.commit_vote(0, &a)).expect("counted");
    bench.give(timeout_cert(world.tc(View::new(40), world.qc(&a)))).expect("to view 41");
    bench.give(bench.commit_vote(3, &a)).expect("ours, repeated");
    let got = bench.give(bench.commit_vote(1, &a)).expect("the quorum");
    assert!(got.contains(&"commit a".to_owned()), "{got:?}");
}
