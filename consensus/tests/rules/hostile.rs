//! Verified messages with every kind of number in them: nothing panics, and a refusal changes nothing.

use std::sync::Arc;

use cairn_consensus::{Blame, BlockVerdict, Input, Reject, Timer, TimerKind};
use cairn_types::certificate::{First, Second};
use cairn_types::{BlockCert, BlockId, Context, Epoch, Height, Status, ValidatorIndex, ValidatorSet, View};
use proptest::prelude::*;

use super::bench::{Bench, certificate, commit_cert, commit_vote, proposal, timeout, timeout_cert, vote};
use crate::cluster::world::World;

fn view() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0u64..12, 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1), 1 => any::<u64>()]
}

fn id(seed: u8) -> BlockId {
    BlockId::new(Context::Block.hash(&[seed]))
}

/// One message of any kind, its signatures good.
fn input(world: &World, kind: u8, at: u64, other: u64, who: u16, seed: u8) -> Input {
    let (at, other, signer) = (View::new(at), View::new(other), ValidatorIndex(who));
    let block = id(seed);
    let qc = BlockCert::Quorum(Arc::new(world.cert(&world.all(), other, block)));
    match kind {
        0 => vote(world.ballot::<First>(signer, at, block)),
        1 => commit_vote(world.ballot::<Second>(signer, at, block)),
        2 => timeout(world.timeout(signer, at, other, qc, None)),
        3 => timeout(world.timeout(
            signer,
            at,
            View::ZERO,
            world.root_cert(),
            Some(world.tc(other, world.root_cert())),
        )),
        4 => certificate(qc),
        5 => timeout_cert(world.tc(at, qc)),
        6 => commit_cert(Arc::new(world.cert(&world.all(), at, block))),
        7 => {
            let child = world.child(&world.root, other.get(), at.get(), &[u64::from(seed)]);
            proposal(world.proposal(&child, qc, None))
        }
        8 => {
            let child = world.child(&world.root, 0, at.get(), &[u64::from(seed)]);
            let tc = at.previous().map(|before| world.tc(before, world.root_cert()));
            proposal(world.proposal(&child, world.root_cert(), tc.filter(|_| at.get() > 1)))
        }
        9 => Input::Status {
            from: signer,
            status: Status {
                view: at,
                high_qc: other,
                committed: Height::new(at.get()),
                ..Status::default()
            },
        },
        10 => Input::Connected(signer),
        11 => Input::TimerFired(Timer { kind: TimerKind::View, generation: at.get() }),
        12 => Input::BlockChecked { id: block, verdict: BlockVerdict::Valid },
        13 => Input::BlockFetched { block: world.child(&world.root, other.get(), at.get(), &[1]) },
        14 => Input::PayloadReady { view: at, block: world.child(&world.root, other.get(), at.get(), &[1]) },
        15 => Input::PayloadFailed { view: at },
        _ => Input::Work(at.get() % 2 == 0),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_messages_panics_or_moves_the_record_back(
        steps in prop::collection::vec((0u8..17, view(), view(), 0u16..6, 0u8..4), 1..40)
    ) {
        let mut bench = Bench::new(0);
        let world = bench.world.clone();
        for (kind, at, other, who, seed) in steps {
            let before = bench.replica.record().clone();
            let standing = format!("{:?}", bench.replica);
            match bench.give(input(&world, kind, at, other, who, seed)) {
                Ok(_) => prop_assert!(before.check_next(bench.replica.record()).is_ok()),
                Err(_) => prop_assert_eq!(standing, format!("{:?}", bench.replica)),
            }
        }
    }
}

#[test]
fn messages_of_other_epochs_are_refused_without_blame() {
    let mut bench = Bench::new(3);
    let world = bench.world.clone();
    let later = ValidatorSet::new(Epoch::new(1), world.set.validators().to_vec()).expect("a set");
    let ahead = World { set: Arc::new(later), ..world.clone() };
    let a = ahead.child(&world.root, 0, 1, &[1]);
    let inputs = [
        bench_vote(&ahead, &a),
        commit_vote(ahead.ballot::<Second>(ValidatorIndex(1), View::new(1), a.id())),
        timeout(ahead.timeout(ValidatorIndex(1), View::new(1), View::ZERO, ahead.root_cert(), None)),
        certificate(ahead.qc(&a)),
        commit_cert(ahead.commit_cert(&a)),
        timeout_cert(ahead.tc(View::new(1), ahead.root_cert())),
        proposal(ahead.proposal(&a, ahead.root_cert(), None)),
        Input::Status {
            from: ValidatorIndex(1),
            status: Status { epoch: Epoch::new(1), ..Status::default() },
        },
    ];
    for input in inputs {
        let reject = bench.refuses("another epoch", input);
        assert_eq!(reject, Reject::OtherEpoch { got: Epoch::new(1), expected: Epoch::ZERO });
        assert_eq!(reject.blame(), Blame::Nobody);
    }
}

fn bench_vote(world: &World, block: &cairn_types::Block) -> Input {
    vote(world.ballot::<First>(ValidatorIndex(1), block.header().view, block.id()))
}

#[test]
fn votes_of_validators_that_do_not_exist_are_refused() {
    let mut bench = Bench::new(3);
    let world = bench.world.clone();
    let outside = ValidatorIndex(4);
    let a = world.child(&world.root, 0, 1, &[1]);
    let inputs = [
        vote(world.ballot::<First>(outside, View::new(1), a.id())),
        commit_vote(world.ballot::<Second>(outside, View::new(1), a.id())),
        timeout(world.timeout(outside, View::new(1), View::ZERO, world.root_cert(), None)),
        Input::Status { from: outside, status: Status::default() },
        Input::Connected(outside),
    ];
    for input in inputs {
        assert!(matches!(bench.refuses("outside the set", input), Reject::UnknownValidator { .. }));
    }
}
