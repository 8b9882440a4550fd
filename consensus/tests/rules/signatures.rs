//! V and C: what a replica signs for a block, and when it refuses to.

use std::sync::Arc;

use cairn_consensus::{BlockVerdict, Input, Reject, TimerKind};
use cairn_types::message::Carried;
use cairn_types::{Block, Header, Proposal, View};

use super::bench::{
    Bench, FullDisk, Row, Writes, certificate, commit_cert, proposal, row, timeout_cert, valid,
};

#[test]
fn an_anchor_is_voted_certified_and_committed() {
    let mut bench = Bench::new(3);
    let root = bench.world.root.clone();
    let a = bench.world.child(&root, 0, 1, &[1]);
    bench.name(&a);
    let p = bench.world.proposal(&a, bench.world.root_cert(), None);
    let rows = vec![
        row("the leader's vote overtakes its block", bench.vote(0, &a), &[], "view 1 qc 0 tc 0 committed 0"),
        row(
            "the proposal is executed before anything else, and makes work",
            proposal(p),
            &["check a k0", "timer View 1000"],
            "view 1 qc 0 tc 0 committed 0",
        ),
        row("V", valid(&a), &["sync", "vote 1 a"], "view 1 qc 0 tc 0 committed 0"),
        row("our own vote comes back", bench.vote(3, &a), &[], "view 1 qc 0 tc 0 committed 0"),
        row(
            "the quorum: H, C, A",
            bench.vote(2, &a),
            &["sync", "formed qc 1", "commit vote 1 a", "timer View 1000"],
            "view 2 qc 1 tc 0 committed 0",
        ),
        row("a commit vote", bench.commit_vote(0, &a), &[], "view 2 qc 1 tc 0 committed 0"),
        row(
            "the same again",
            bench.commit_vote(0, &a),
            &["refused: already known"],
            "view 2 qc 1 tc 0 committed 0",
        ),
        row("ours comes back", bench.commit_vote(3, &a), &[], "view 2 qc 1 tc 0 committed 0"),
        row(
            "F: final; nothing is left to press on with",
            bench.commit_vote(1, &a),
            &["formed cc 1", "commit a", "timer Idle 60000"],
            "view 2 qc 1 tc 0 committed 1",
        ),
    ];
    bench.play(rows);
    assert!(!bench.replica.is_working());
}

#[test]
fn the_leader_proposes_from_the_moment_there_is_work() {
    let mut bench = Bench::new(0);
    let root = bench.world.root.clone();
    let a = bench.world.child(&root, 0, 1, &[1]);
    bench.name(&a);
    let ready = |block: &Arc<Block>| Input::PayloadReady { view: View::new(1), block: block.clone() };
    bench.play(vec![
        Row {
            desc: "work",
            input: Input::Work(true),
            expect: &["timer View 1000", "build 1 on ?"],
            state: "view 1 qc 0 tc 0 committed 0",
        },
        Row {
            desc: "the block is executed already: propose and vote under one record",
            input: ready(&a),
            expect: &["sync", "propose 1 a qc 0", "vote 1 a"],
            state: "view 1 qc 0 tc 0 committed 0",
        },
        Row {
            desc: "a second payload for the same slot",
            input: ready(&a),
            expect: &["refused: the payload does not fill the slot that was asked for, or comes too late"],
            state: "view 1 qc 0 tc 0 committed 0",
        },
        Row {
            desc: "more work does not make a second block",
            input: Input::Work(true),
            expect: &[],
            state: "view 1 qc 0 tc 0 committed 0",
        },
    ]);
}

#[test]
fn an_empty_block_needs_a_reason() {
    let mut bench = Bench::new(0);
    let root = bench.world.root.clone();
    let empty = bench.world.child(&root, 0, 1, &[]);
    bench.name(&empty);
    bench.give(Input::Work(true)).expect("asks");
    let ready = Input::PayloadReady { view: View::new(1), block: empty };
    assert_eq!(bench.give(ready.clone()).expect("taken"), [""; 0], "the pool emptied meanwhile");
    bench.give(Input::Work(false)).expect("and the driver says so");
    assert!(!bench.replica.is_working());
    let beat = bench.fire(TimerKind::Idle);
    assert_eq!(bench.give(beat).expect("fires"), ["status", "timer Idle 60000", "build 1 on ?"]);
    assert_eq!(
        bench.give(ready).expect("a heartbeat"),
        ["sync", "propose 1 a qc 0", "vote 1 a", "timer View 1000"]
    );
}

#[test]
fn uncommitted_work_is_finished_with_an_empty_block_after_a_quarter_of_the_base_timeout() {
    let mut bench = Bench::new(1);
    let root = bench.world.root.clone();
    let a = bench.world.child(&root, 0, 1, &[1]);
    let b = bench.world.child(a.header(), 1, 2, &[]);
    bench.name(&a);
    bench.name(&b);
    bench.accept(&a, bench.world.root_cert(), None);
    let got = bench.give(certificate(bench.world.qc(&a))).expect("a certificate");
    assert_eq!(got, ["sync", "commit vote 1 a", "timer View 1000", "timer Finish 250"]);
    let finish = bench.fire(TimerKind::Finish);
    assert_eq!(bench.give(finish).expect("fires"), ["build 2 on a"]);
    let ready = Input::PayloadReady { view: View::new(2), block: b };
    assert_eq!(bench.give(ready).expect("taken"), ["sync", "propose 2 b qc 1", "vote 2 b"]);
}

#[test]
fn an_emptied_pool_does_not_keep_a_leader_from_finishing_uncommitted_work() {
    let mut bench = Bench::new(1);
    let root = bench.world.root.clone();
    let a = bench.world.child(&root, 0, 1, &[1]);
    let b = bench.world.child(a.header(), 1, 2, &[]);
    bench.name(&a);
    bench.name(&b);
    bench.accept(&a, bench.world.root_cert(), None);
    bench.give(certificate(bench.world.qc(&a))).expect("a certificate");
    assert_eq!(bench.give(Input::Work(true)).expect("work"), ["build 2 on a"]);
    let empty = Input::PayloadReady { view: View::new(2), block: b };
    assert_eq!(bench.give(empty.clone()).expect("the pool emptied meanwhile"), [""; 0]);
    let finish = bench.fire(TimerKind::Finish);
    assert_eq!(bench.give(finish).expect("fires"), ["build 2 on a"]);
    assert_eq!(bench.give(empty).expect("now there is a reason"), ["sync", "propose 2 b qc 1", "vote 2 b"]);
}

#[test]
fn a_failed_payload_is_asked_for_again_with_new_work_and_not_before() {
    let mut bench = Bench::new(0);
    bench.give(Input::Work(true)).expect("asks");
    let failed = Input::PayloadFailed { view: View::new(1) };
    assert_eq!(bench.give(failed.clone()).expect("none"), [""; 0]);
    assert!(matches!(bench.refuses("nothing was asked", failed), Reject::WrongPayload));
    assert_eq!(bench.give(Input::Work(true)).expect("asks"), ["build 1 on ?"]);
}

#[test]
fn a_block_that_cannot_be_judged_now_is_checked_again_later() {
    let mut bench = Bench::new(3);
    let a = bench.world.child(&bench.world.root.clone(), 0, 1, &[1]);
    bench.name(&a);
    bench.give(proposal(bench.world.proposal(&a, bench.world.root_cert(), None))).expect("good");
    let unjudged = Input::BlockChecked { id: a.id(), verdict: BlockVerdict::Unjudged };
    assert_eq!(bench.give(unjudged).expect("asked for"), ["timer Repair 1000"]);
    let repair = bench.fire(TimerKind::Repair);
    assert_eq!(bench.give(repair).expect("fires"), ["check a k0"]);
    assert_eq!(bench.give(valid(&a)).expect("checked"), ["sync", "vote 1 a"]);
}

#[test]
fn the_leader_waits_the_least_interval_from_the_parents_certificate() {
    let mut bench = Bench::new(1);
    bench.world.params.interval_min_ms = 300;
    let world = bench.world.clone();
    let mut bench = Bench::recovered(world, Some(cairn_types::ValidatorIndex(1)), bench.disk);
    bench.give(Input::Start).expect("starts");
    let a = bench.world.child(&bench.world.root.clone(), 0, 1, &[1]);
    bench.name(&a);
    bench.accept(&a, bench.world.root_cert(), None);
    let got = bench.give(certificate(bench.world.qc(&a))).expect("a certificate");
    assert_eq!(got, ["sync", "commit vote 1 a", "timer Pace 300", "timer View 1000"]);
    assert_eq!(bench.give(Input::Work(true)).expect("work"), [""; 0]);
    let pace = bench.fire(TimerKind::Pace);
    assert_eq!(bench.give(pace).expect("fires"), ["build 2 on a"]);
}

/// The proposal of view 4 on block `a` of view 1, changed by each row.
#[test]
fn a_proposal_that_breaks_v_is_refused_and_changes_nothing() {
    let mut bench = Bench::new(0);
    let world = bench.world.clone();
    let a = world.child(&world.root, 0, 1, &[1]);
    bench.accept(&a, world.root_cert(), None);
    bench.give(timeout_cert(world.tc(View::new(2), world.qc(&a)))).expect("to view 3");
    let (qc, tc) = (world.qc(&a), world.tc(View::new(2), world.qc(&a)));
    let c = world.child(a.header(), 1, 3, &[3]);
    let good = world.proposal(&c, qc.clone(), Some(tc.clone()));
    let with = |change: &dyn Fn(&mut Header)| -> Proposal {
        let mut header = c.header().clone();
        change(&mut header);
        let block = Arc::new(Block::new(header, c.transactions().to_vec()));
        world.proposal(&block, qc.clone(), Some(tc.clone()))
    };
    let bare = world.proposal(&c, qc.clone(), None);
    let old_tc = world.proposal(&c, qc.clone(), Some(world.tc(View::new(1), world.root_cert())));
    let d = world.child(&world.root, 0, 3, &[3]);
    let low = world.proposal(&d, world.root_cert(), Some(tc.clone()));
    let stolen = Arc::new(Block::new(c.header().clone(), Vec::new()));
    let reference = Carried::Reference(cairn_types::message::CertReference {
        epoch: world.set.epoch(),
        view: View::new(1),
        block: a.id(),
        signers: Vec::new(),
        digest: qc.digest(),
    });
    let rows: Vec<(&str, Proposal)> = vec![
        ("another leader", with(&|h| h.proposer.0 = 1)),
        ("another chain", with(&|h| h.chain = cairn_types::ChainId::ZERO)),
        ("another header version", with(&|h| h.version += 1)),
        ("another validator set", with(&|h| h.validators = h.state_root)),
        ("a later epoch", with(&|h| h.epoch = h.epoch.next())),
        ("parent is not justify.block", with(&|h| h.parent = world.root.id())),
        ("parent_view is not justify.view", with(&|h| h.parent_view = View::ZERO)),
        ("height", with(&|h| h.height = h.height.next())),
        ("time does not rise", with(&|h| h.time_ms = a.header().time_ms)),
        ("a view that was never entered", with(&|h| h.view = View::new(7))),
        ("a view that is over", with(&|h| h.view = View::ZERO)),
        ("no timeout certificate", bare),
        ("the timeout certificate of another view", old_tc),
        ("justify below the timeout certificate's", low),
        ("another body", world.proposal(&stolen, qc.clone(), Some(tc.clone()))),
        ("a certificate by reference", Proposal { justify: reference, ..good.clone() }),
    ];
    for (desc, bad) in rows {
        bench.refuses(desc, proposal(bad));
    }
    bench.name(&c);
    assert_eq!(bench.give(proposal(good.clone())).expect("the unchanged one"), ["check a k1"]);
    assert_eq!(bench.refuses("the same again", proposal(good)), Reject::Known);
}

#[test]
fn nothing_is_voted_for_that_does_not_execute_or_comes_too_late() {
    for (verdict, votes) in [(BlockVerdict::Valid, 1), (BlockVerdict::TooOld, 0), (BlockVerdict::Invalid, 0)]
    {
        let mut bench = Bench::new(3);
        let a = bench.world.child(&bench.world.root.clone(), 0, 1, &[1]);
        bench.give(proposal(bench.world.proposal(&a, bench.world.root_cert(), None))).expect("good");
        let got = bench.give(Input::BlockChecked { id: a.id(), verdict }).expect("asked for");
        assert_eq!(got.iter().filter(|said| said.starts_with("vote")).count(), votes, "{verdict:?}");
    }
}

#[test]
fn the_first_valid_of_two_proposals_gets_the_vote_and_the_leader_is_accused() {
    let mut bench = Bench::new(3);
    let root = bench.world.root.clone();
    let blocks: Vec<Arc<Block>> = (1..4).map(|n| bench.world.child(&root, 0, 1, &[n])).collect();
    blocks.iter().for_each(|block| bench.name(block));
    let proposals: Vec<Proposal> =
        blocks.iter().map(|block| bench.world.proposal(block, bench.world.root_cert(), None)).collect();
    bench.give(proposal(proposals[0].clone())).expect("the first");
    let got = bench.give(proposal(proposals[1].clone())).expect("the second");
    assert_eq!(got, ["accuse 0 of two proposals", "check b k0"]);
    let third = bench.refuses("a third says nothing new", proposal(proposals[2].clone()));
    assert!(matches!(third, Reject::TooManyBlocks { .. }));
    bench.give(Input::BlockChecked { id: blocks[0].id(), verdict: BlockVerdict::Invalid }).expect("checked");
    assert_eq!(bench.give(valid(&blocks[1])).expect("checked"), ["sync", "vote 1 b"]);
}

#[test]
fn only_one_vote_per_view_and_none_after_a_timeout() {
    let mut bench = Bench::new(3);
    let root = bench.world.root.clone();
    let (a, b) = (bench.world.child(&root, 0, 1, &[1]), bench.world.child(&root, 0, 1, &[2]));
    assert!(bench.accept(&a, bench.world.root_cert(), None).contains(&"vote 1 ?".to_owned()));
    assert_eq!(bench.accept(&b, bench.world.root_cert(), None), [""; 0], "a second block of the view");

    let mut bench = Bench::new(3);
    bench.give(Input::Work(true)).expect("work");
    let late = bench.fire(TimerKind::View);
    bench.give(late).expect("fires");
    assert_eq!(bench.accept(&a, bench.world.root_cert(), None), [""; 0], "the view was given up");
}

#[test]
fn c_refuses_after_a_timeout_of_the_view_but_h_and_a_still_hold() {
    let mut bench = Bench::new(3);
    let a = bench.world.child(&bench.world.root.clone(), 0, 1, &[1]);
    bench.accept(&a, bench.world.root_cert(), None);
    let late = bench.fire(TimerKind::View);
    bench.give(late).expect("fires");
    let got = bench.give(certificate(bench.world.qc(&a))).expect("a certificate");
    assert_eq!(got, ["sync", "timer View 1000"]);
    assert_eq!(bench.state(), "view 2 qc 1 tc 0 committed 0");
}

#[test]
fn c_refuses_a_view_below_the_last_vote_and_needs_no_body() {
    let world = Bench::new(3).world;
    let a = world.child(&world.root, 0, 1, &[1]);
    let mut bench = Bench::new(3);
    bench.name(&a);
    // No body: the certificate alone is enough.
    let got = bench.give(certificate(world.qc(&a))).expect("a certificate");
    assert_eq!(
        got,
        ["sync", "commit vote 1 a", "fetch a from 1,2,3", "timer View 1000", "timer Repair 1000"]
    );
    assert!(matches!(
        bench.refuses(
            "a block nobody asked for",
            Input::BlockFetched { block: world.child(&world.root, 0, 1, &[9]) }
        ),
        Reject::Unasked { .. }
    ));

    // Voted in view 2 through a timeout certificate; then the certificate of view 1 arrives.
    let mut bench = Bench::new(3);
    let tc = world.tc(View::new(1), world.root_cert());
    let b = world.child(&world.root, 0, 2, &[2]);
    bench.accept(&b, world.root_cert(), Some(tc));
    assert_eq!(bench.disk.record.last_voted, Some((View::new(2), b.id())));
    bench.give(certificate(world.qc(&a))).expect("a certificate");
    assert_eq!(bench.disk.record.last_commit_voted, None);
    assert_eq!(bench.state(), "view 2 qc 1 tc 1 committed 0", "H all the same");
}

#[test]
fn a_replica_that_entered_by_certificate_votes_for_a_leader_that_entered_by_timeout() {
    // The certificate of view 1 reached half of the network, the timeout certificate the other half.
    let mut bench = Bench::new(3);
    let world = bench.world.clone();
    let a = world.child(&world.root, 0, 1, &[1]);
    bench.accept(&a, world.root_cert(), None);
    bench.give(certificate(world.qc(&a))).expect("a certificate");
    let b = world.child(&world.root, 0, 2, &[2]);
    let tc = world.tc(View::new(1), world.root_cert());
    assert_eq!(bench.accept(&b, world.root_cert(), Some(tc)), ["sync", "vote 2 ?"]);
}

#[test]
fn a_commit_certificate_serves_as_a_certificate_of_its_view() {
    let mut bench = Bench::new(3);
    let world = bench.world.clone();
    let a = world.child(&world.root, 0, 1, &[1]);
    bench.name(&a);
    bench.accept(&a, world.root_cert(), None);
    let got = bench.give(commit_cert(world.commit_cert(&a))).expect("a certificate");
    assert_eq!(got, ["sync", "commit a", "timer Idle 60000"]);
    assert_eq!(bench.state(), "view 2 qc 1 tc 0 committed 1");
    let b = world.child(a.header(), 1, 2, &[2]);
    let justify = cairn_types::BlockCert::Commit(world.commit_cert(&a));
    assert_eq!(bench.accept(&b, justify, None), ["sync", "vote 2 ?"]);
}

#[test]
fn nothing_comes_out_of_a_step_that_could_not_be_written() {
    let mut bench = Bench::new(3);
    let a = bench.world.child(&bench.world.root.clone(), 0, 1, &[1]);
    bench.give(proposal(bench.world.proposal(&a, bench.world.root_cert(), None))).expect("good");
    let step = bench.replica.step(valid(&a)).expect("checked");
    assert_eq!(step.commit_to(&mut FullDisk).expect_err("the disk is full"), "no space left");
}

#[test]
fn merged_steps_share_one_write() {
    let mut bench = Bench::new(3);
    let world = bench.world.clone();
    let a = world.child(&world.root, 0, 1, &[1]);
    bench.give(proposal(world.proposal(&a, world.root_cert(), None))).expect("good");
    let mut step = bench.replica.step(valid(&a)).expect("checked");
    step.merge(bench.replica.step(certificate(world.qc(&a))).expect("a certificate"));
    let mut writes = Writes::default();
    let Ok(actions) = step.commit_to(&mut writes);
    assert_eq!(writes.0.len(), 1, "one write for the vote and the commit vote");
    assert_eq!(writes.0[0].record, *bench.replica.record());
    assert_eq!((writes.0[0].bodies.len(), writes.0[0].certificates.len()), (1, 1));
    assert!(actions.len() >= 2);
}
