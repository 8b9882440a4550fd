//! Rule E on one replica, input by input.

use std::sync::Arc;

use cairn_consensus::{Across, Input, Reject, Replica, across};
use cairn_types::certificate::{First, Second};
use cairn_types::safety::SafetyRecord;
use cairn_types::{
    Block, BlockCert, Epoch, EpochProof, Header, Message, Params, Slot, ValidatorIndex, Verified, View,
};

use crate::cluster::node::Disk;
use crate::cluster::world::{Schedule, TURNING_NONCE, World};
use crate::rules::bench::{Bench, certificate, commit_cert, proposal, valid, vote};

fn world() -> World {
    World::scheduled(Schedule { keys: 5, seats: 4, turns: true }, Params::default())
}

fn end(world: &World) -> Arc<Block> {
    world.child(&world.root, 0, 1, &[TURNING_NONCE])
}

fn proof(world: &World, headers: &[&Arc<Block>]) -> Arc<EpochProof> {
    let last = headers.last().expect("a block");
    let certificate = Arc::new(world.cert::<Second>(&world.all(), last.header().view, last.id()));
    Arc::new(EpochProof { headers: headers.iter().map(|it| it.header().clone()).collect(), certificate })
}

fn carrier(world: &World, parent: &Header, view: u64) -> Arc<Block> {
    world.child(parent, parent.view.get(), view, &[])
}

#[expect(clippy::disallowed_methods, reason = "made by the simulation's own keys")]
fn given(proof: &Arc<EpochProof>) -> Input {
    Input::EpochProof(Verified::assume(proof.clone()))
}

fn started(world: &World) -> Bench {
    let mut bench = Bench::recovered(world.clone(), Some(ValidatorIndex(3)), Disk::default());
    bench.give(Input::Start).expect("starts");
    bench
}

#[test]
fn a_commit_certificate_of_the_last_block_ends_the_epoch() {
    let world = world();
    let (mut bench, end) = (started(&world), end(&world));
    bench.name(&end);
    bench.accept(&end, world.root_cert(), None);
    let said = bench.give(commit_cert(world.commit_cert(&end))).expect("a certificate");
    assert!(said.contains(&"end epoch a carriers 0".to_owned()), "{said:?}");
    assert!(bench.replica.is_over());
    let over = bench.give(Input::Work(true)).expect_err("over");
    assert_eq!(over, Reject::EpochOver { epoch: Epoch::ZERO });
}

#[test]
fn a_certificate_of_a_carrier_commits_up_to_the_last_block_only() {
    let world = world();
    let (mut bench, end) = (started(&world), end(&world));
    let carrier = carrier(&world, end.header(), 2);
    bench.name(&end);
    bench.name(&carrier);
    bench.accept(&end, world.root_cert(), None);
    bench.give(proposal(world.proposal(&carrier, world.qc(&end), None))).expect("a carrier's proposal");
    // The carrier need not be executed: its certificate says that it is one.
    let said = bench.give(commit_cert(world.commit_cert(&carrier))).expect("a certificate");
    assert!(said.contains(&"end epoch a carriers 1".to_owned()), "{said:?}");
    assert_eq!(bench.replica.committed().0, end.id());
}

#[test]
fn a_laggard_ends_the_epoch_by_its_proof_once_it_has_the_blocks() {
    let world = world();
    let (mut bench, end) = (started(&world), end(&world));
    let carrier = carrier(&world, end.header(), 2);
    bench.name(&end);
    let said = bench.give(given(&proof(&world, &[&end, &carrier]))).expect("a proof");
    assert!(said.iter().any(|it| it.starts_with("fetch a")), "{said:?}");
    assert!(!bench.replica.is_over());
    bench.give(Input::BlockFetched { block: end.clone() }).expect("the block");
    let said = bench.give(valid(&end)).expect("a verdict");
    assert!(said.contains(&"end epoch a carriers 1".to_owned()), "{said:?}");
    assert!(bench.replica.is_over());
}

#[test]
fn nothing_but_carriers_is_proposed_above_the_end() {
    let world = world();
    // Validator 1 leads view 2.
    let mut bench = Bench::recovered(world.clone(), Some(ValidatorIndex(1)), Disk::default());
    bench.give(Input::Start).expect("starts");
    let end = end(&world);
    bench.name(&end);
    bench.accept(&end, world.root_cert(), None);
    bench.give(certificate(world.qc(&end))).expect("a certificate");
    let said = bench.give(Input::Work(true)).expect("work");
    assert!(!said.iter().any(|it| it.starts_with("build")), "pooled work waits for the next epoch: {said:?}");
}

#[test]
fn the_next_epoch_begins_on_the_last_block_and_forgets_the_record_of_the_one_before() {
    let world = world();
    let end = end(&world);
    let proof = proof(&world, &[&end]);
    let next = world.turned(&proof);
    let record = SafetyRecord {
        last_voted: Some((View::new(9), end.id())),
        last_timeout: Some((View::new(9), View::new(8))),
        ..SafetyRecord::default()
    };
    let recovered = cairn_consensus::Recovered { record, ..Default::default() };
    let replica =
        Replica::new(next.config(Some(ValidatorIndex(0))), recovered).expect("a record of the past");
    assert_eq!((replica.epoch(), replica.view()), (Epoch::new(1), View::new(1)));
    assert_eq!(replica.committed(), (end.id(), end.header().height));
    assert_eq!(*replica.high_qc(), BlockCert::Root { epoch: Epoch::new(1), block: end.id() });
    assert_eq!(replica.record().last_voted, None);
    let slot = Slot {
        epoch: Epoch::new(1),
        view: View::new(1),
        height: end.header().height.next(),
        parent: end.id(),
        parent_view: View::ZERO,
        proposer: ValidatorIndex(0),
    };
    let first = next.block(end.header(), slot, end.header().time_ms + 1, Vec::new());
    assert_eq!(first.header().validators, end.header().next_validators);
    let later = SafetyRecord { epoch: Epoch::new(2), ..SafetyRecord::default() };
    let recovered = cairn_consensus::Recovered { record: later, ..Default::default() };
    assert!(Replica::new(next.config(None), recovered).is_err(), "a record of an epoch that is not proven");
}

#[test]
fn proofs_that_prove_nothing_are_refused_by_shape() {
    let world = world();
    let end = end(&world);
    let ordinary = world.child(&world.root, 0, 1, &[1]);
    let first = carrier(&world, end.header(), 2);
    let second = carrier(&world, first.header(), 3);
    let whole = proof(&world, &[&end, &first, &second]);
    let verifies = |proof: &Arc<EpochProof>| world.verify(&Message::EpochProof(proof.clone()));
    assert!(verifies(&whole) && verifies(&proof(&world, &[&end])));
    let cases: [(&str, &[&Arc<Block>]); 5] = [
        ("an ordinary block", &[&ordinary]),
        ("a carrier first", &[&first, &second]),
        ("a gap", &[&end, &second]),
        ("a repetition", &[&end, &end]),
        ("an ordinary block above", &[&end, &ordinary]),
    ];
    for (what, headers) in cases {
        assert!(!verifies(&proof(&world, headers)), "{what}");
    }
    let mut other = (*whole).clone();
    other.certificate = proof(&world, &[&end]).certificate.clone();
    assert!(!verifies(&Arc::new(other)), "a certificate of a header that is not the last");
    let mut touched = (*whole).clone();
    touched.headers[1].state_root = touched.headers[1].tx_root;
    assert!(!verifies(&Arc::new(touched)), "a carrier with roots of its own");
}

#[test]
fn only_the_proof_crosses() {
    let (one, two) = (Epoch::new(1), Epoch::new(2));
    assert_eq!(across(one, one), Across::Ours);
    assert_eq!(across(two, one), Across::AnswerWithProof);
    assert_eq!(across(one, two), Across::AskForProof);
    let world = world();
    let mut bench = started(&world.turned(&proof(&world, &[&end(&world)])));
    let block = end(&world);
    for old in [
        vote(world.ballot::<First>(ValidatorIndex(1), View::new(1), block.id())),
        certificate(world.qc(&block)),
        commit_cert(world.commit_cert(&block)),
        proposal(world.proposal(&block, world.root_cert(), None)),
    ] {
        let refused = bench.refuses("a message of the epoch before", old);
        assert_eq!(refused, Reject::OtherEpoch { got: Epoch::ZERO, expected: one });
    }
}
