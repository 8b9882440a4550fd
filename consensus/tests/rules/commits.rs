//! F and catching up: what becomes final, in which order, and how missing blocks come.

use std::sync::Arc;

use cairn_consensus::{BlockVerdict, Input, Reject, TimerKind};
use cairn_types::{Block, Verified};

use super::bench::{Bench, certificate, commit_cert, proposal, valid};
use crate::cluster::world::World;

/// A chain of `length` blocks in views 1, 2, ...
fn chain(world: &World, length: u64) -> Vec<Arc<Block>> {
    let mut blocks: Vec<Arc<Block>> = Vec::new();
    for view in 1..=length {
        let parent = blocks.last().map_or(&world.root, |block| block.header()).clone();
        blocks.push(world.child(&parent, view - 1, view, &[view]));
    }
    blocks
}

#[test]
fn a_block_that_missed_its_certificate_is_committed_as_an_ancestor_oldest_first_and_once() {
    let mut bench = Bench::new(3);
    let world = bench.world.clone();
    let blocks = chain(&world, 3);
    blocks.iter().for_each(|block| bench.name(block));
    bench.accept(&blocks[0], world.root_cert(), None);
    bench.accept(&blocks[1], world.qc(&blocks[0]), None);
    bench.accept(&blocks[2], world.qc(&blocks[1]), None);
    let got = bench.give(commit_cert(world.commit_cert(&blocks[2]))).expect("final");
    assert!(got.contains(&"commit a,b,c".to_owned()), "{got:?}");
    for block in &blocks {
        let again = bench.give(commit_cert(world.commit_cert(block))).expect("known");
        assert!(!again.iter().any(|said| said.starts_with("commit")), "{again:?}");
    }
    assert_eq!(bench.replica.committed(), (blocks[2].id(), blocks[2].header().height));
}

#[test]
fn each_validator_begins_with_another_one_to_ask_for_a_block() {
    let first = |me: u16| {
        let mut bench = Bench::new(me);
        let world = bench.world.clone();
        let block = world.child(&world.root, 0, 1, &[1]);
        bench.name(&block);
        let got = bench.give(commit_cert(world.commit_cert(&block))).expect("final");
        got.into_iter().find(|said| said.starts_with("fetch")).expect("it lacks the block")
    };
    let expected = ["fetch a from 1,2,3", "fetch a from 2,3,1", "fetch a from 3,1,2", "fetch a from 1,2,3"];
    assert_eq!([0, 1, 2, 3].map(first), expected);
}

#[test]
fn missing_bodies_are_fetched_along_parent_hashes_and_executed_before_the_commit() {
    let mut bench = Bench::new(3);
    let world = bench.world.clone();
    let blocks = chain(&world, 3);
    blocks.iter().for_each(|block| bench.name(block));
    let got = bench.give(commit_cert(world.commit_cert(&blocks[2]))).expect("final");
    assert_eq!(
        got,
        ["sync", "fetch c from 1,2,3", "timer Repair 1000"],
        "certificates move the view without blocks"
    );
    let fetched = |at: usize| Input::BlockFetched { block: blocks[at].clone() };
    assert_eq!(bench.give(fetched(2)).expect("asked for"), ["fetch b from 1,2,3"]);
    let again = bench.fire(TimerKind::Repair);
    assert_eq!(bench.give(again).expect("fires"), ["fetch b from 1,2,3", "timer Repair 1000"]);
    assert_eq!(bench.give(fetched(1)).expect("asked for"), ["fetch a from 1,2,3"]);
    assert_eq!(bench.give(fetched(0)).expect("asked for"), ["check a k0"]);
    assert_eq!(bench.give(valid(&blocks[0])).expect("checked"), ["check b k0"]);
    let late = Input::BlockChecked { id: blocks[1].id(), verdict: BlockVerdict::TooOld };
    assert_eq!(bench.give(late).expect("checked"), ["check c k0"], "age matters to votes alone");
    assert_eq!(bench.give(valid(&blocks[2])).expect("checked"), ["commit a,b,c", "timer Idle 60000"]);
}

#[test]
fn a_commit_keeps_the_blocks_above_it_and_lets_go_of_forks() {
    let mut bench = Bench::new(3);
    let world = bench.world.clone();
    let blocks = chain(&world, 2);
    let fork = world.child(&world.root, 0, 1, &[7]);
    bench.accept(&blocks[0], world.root_cert(), None);
    bench.accept(&fork, world.root_cert(), None);
    bench.accept(&blocks[1], world.qc(&blocks[0]), None);
    bench.give(commit_cert(world.commit_cert(&blocks[0]))).expect("final");
    assert!(bench.replica.block(&blocks[1].id()).is_some(), "its child stays");
    assert!(bench.replica.block(&fork.id()).is_none(), "its rival goes");
    assert!(bench.replica.block(&blocks[0].id()).is_none(), "it is the state's now");
}

#[test]
fn a_wrong_body_for_an_asked_block_is_refused() {
    let mut bench = Bench::new(3);
    let world = bench.world.clone();
    let a = world.child(&world.root, 0, 1, &[1]);
    bench.give(certificate(world.qc(&a))).expect("a certificate");
    let stolen = Arc::new(Block::new(a.header().clone(), Vec::new()));
    let refused = bench.refuses("not its transactions", Input::BlockFetched { block: stolen });
    assert_eq!(refused, Reject::BodyMismatch { id: a.id() });
    bench.give(Input::BlockFetched { block: a.clone() }).expect("the right one");
    assert_eq!(bench.refuses("again", Input::BlockFetched { block: a }), Reject::Known);
}

#[test]
fn a_late_proposal_serves_as_a_body_that_was_asked_for() {
    let mut bench = Bench::new(3);
    let world = bench.world.clone();
    let a = world.child(&world.root, 0, 1, &[1]);
    bench.name(&a);
    let whole = proposal(world.proposal(&a, world.root_cert(), None));
    bench.give(certificate(world.qc(&a))).expect("to view 2");
    assert_eq!(bench.give(whole.clone()).expect("asked for"), ["check a k0"]);
    assert!(matches!(bench.refuses("not asked for any more", whole), Reject::Stale { .. }));
}

#[test]
fn a_final_block_that_does_not_execute_here_stops_the_node() {
    let mut bench = Bench::new(3);
    let world = bench.world.clone();
    let a = world.child(&world.root, 0, 1, &[1]);
    bench.give(proposal(world.proposal(&a, world.root_cert(), None))).expect("good");
    bench.give(Input::BlockChecked { id: a.id(), verdict: BlockVerdict::Invalid }).expect("checked");
    let got = bench.give(commit_cert(world.commit_cert(&a))).expect("final");
    assert!(got.iter().any(|said| said.starts_with("halt")), "{got:?}");
    assert_eq!(bench.replica.step(Input::Work(true)).expect_err("stopped"), Reject::Halted);
}

#[test]
fn a_final_block_beside_the_committed_one_stops_the_node() {
    let mut bench = Bench::new(3);
    let world = bench.world.clone();
    let (a, b) = (world.child(&world.root, 0, 1, &[1]), world.child(&world.root, 0, 2, &[2]));
    bench.accept(&a, world.root_cert(), None);
    bench.give(commit_cert(world.commit_cert(&a))).expect("final");
    bench.give(commit_cert(world.commit_cert(&b))).expect("its body is asked for");
    let got = bench.give(Input::BlockFetched { block: b }).expect("asked for");
    assert!(got.iter().any(|said| said.starts_with("halt")), "{got:?}");
}

#[test]
fn a_long_gap_is_left_to_range_sync() {
    let mut bench = Bench::new(3);
    let world = bench.world.clone();
    let blocks = chain(&world, 60);
    bench.give(commit_cert(world.commit_cert(&blocks[58]))).expect("final");
    let got = bench.give(Input::BlockFetched { block: blocks[58].clone() }).expect("asked for");
    assert_eq!(got, ["catch up 1..59"]);
    let again = bench.fire(TimerKind::Repair);
    assert_eq!(bench.give(again).expect("fires"), ["catch up 1..59", "timer Repair 1000"]);
    #[expect(clippy::disallowed_methods, reason = "made by the test itself")]
    let certificate = Verified::assume(world.commit_cert(&blocks[49]));
    let header = blocks[49].header().clone();
    let part = Input::Committed { header, certificate };
    bench.give(part.clone()).expect("part of the way");
    assert_eq!(bench.replica.committed().1.get(), 50);
    assert_eq!(bench.refuses("again", part), Reject::Known);
    for at in (50..58).rev() {
        bench.give(Input::BlockFetched { block: blocks[at].clone() }).expect("the rest, by hash");
    }
    for block in &blocks[50..59] {
        bench.give(valid(block)).expect("executed in order");
    }
    assert_eq!(bench.replica.committed().1.get(), 59);
}

#[test]
fn a_follower_commits_and_signs_nothing() {
    let world = Bench::new(3).world;
    let mut bench = Bench::recovered(world.clone(), None, crate::cluster::node::Disk::default());
    bench.give(Input::Start).expect("starts");
    let blocks = chain(&world, 2);
    blocks.iter().for_each(|block| bench.name(block));
    bench.accept(&blocks[0], world.root_cert(), None);
    bench.accept(&blocks[1], world.qc(&blocks[0]), None);
    let late = bench.fire(TimerKind::View);
    assert_eq!(bench.give(late).expect("fires"), ["status", "timer View 1000"]);
    let got = bench.give(commit_cert(world.commit_cert(&blocks[1]))).expect("final");
    assert_eq!(got, ["commit a,b", "timer Idle 60000"]);
    assert_eq!(bench.disk.writes, 0);
}

#[test]
fn the_tree_is_bounded_and_opens_again_with_a_commit() {
    let mut bench = Bench::new(3);
    let world = bench.world.clone();
    let blocks = chain(&world, 130);
    let justify = |at: usize| if at == 0 { world.root_cert() } else { world.qc(&blocks[at - 1]) };
    for (at, block) in blocks.iter().take(128).enumerate() {
        bench.accept(block, justify(at), None);
    }
    let whole = || proposal(world.proposal(&blocks[128], justify(128), None));
    assert_eq!(bench.refuses("one more", whole()), Reject::TreeFull { held: 128 });
    bench.give(commit_cert(world.commit_cert(&blocks[126]))).expect("final");
    bench.give(whole()).expect("there is room again");
    // A fork does not fill it: the oldest block that nothing important builds on makes room.
    let mut bench = Bench::new(3);
    for n in 0..200 {
        let fork = world.child(&world.root, 0, n + 2, &[n]);
        let tc = world.tc(cairn_types::View::new(n + 1), world.root_cert());
        bench.give(proposal(world.proposal(&fork, world.root_cert(), Some(tc)))).expect("there is room");
    }
}
