//! Faults at each moment of an epoch's end, swept one message delay at a time.

use cairn_types::Params;

use super::{UNIT, network};
use crate::cluster::scenario::params;
use crate::cluster::world::{START_MS, Schedule, TURNING_NONCE};
use crate::cluster::{Cluster, Event, Fault};

/// From the submission of the transaction to some units after everyone has turned, in half units.
const MOMENTS: std::ops::Range<u64> = 0..16;

fn four_of_five() -> Schedule {
    Schedule { keys: 5, seats: 4, turns: true }
}

/// The network just before the transaction that ends epoch 0 is submitted, and that moment.
fn before_the_end() -> (Cluster, u64) {
    let mut cluster = network(four_of_five(), params(), 7);
    cluster.start_all();
    cluster.at(START_MS + 100, Event::Submit(1));
    let submitted = START_MS + 2_000;
    cluster.at(submitted, Event::Submit(TURNING_NONCE));
    (cluster, submitted)
}

/// Everyone comes to the next epoch, and the chain goes on in it.
fn assert_goes_on(mut cluster: Cluster, from: u64, what: &str) -> Cluster {
    let turned = cluster.run(from + 60_000, |it| it.all_in_epoch(1) && it.all_committed());
    assert!(turned, "{what}: the epoch does not end");
    cluster.at(cluster.now, Event::Submit(2));
    let deadline = cluster.now + 60_000;
    assert!(cluster.run(deadline, Cluster::all_committed), "{what}: nothing becomes final in the next epoch");
    assert_eq!(cluster.checks.epochs, 1, "{what}");
    cluster
}

/// Two halves that hear nothing of each other from each moment on: both time out, at the boundary among others.
#[test]
fn a_split_at_any_moment_of_the_end_heals() {
    let mut carried = 0;
    for moment in MOMENTS {
        for groups in [vec![0, 0, 1, 1, 0], vec![0, 1, 0, 1, 1], vec![0, 0, 0, 1, 0]] {
            let (mut cluster, submitted) = before_the_end();
            let cut = submitted + moment * UNIT / 2;
            cluster.at(cut, Event::Fault(Fault::Partition(groups.clone())));
            let healed = cut + 5_000;
            cluster.at(healed, Event::Fault(Fault::Heal));
            let what = format!("split {groups:?} {moment} half units after the submission");
            carried += assert_goes_on(cluster, healed, &what).checks.carried;
        }
    }
    assert!(carried > 0, "no split made a carrier necessary");
}

/// What one validator says is lost from each moment on, its commit vote among the rest, and comes long after the
/// others have turned: the repetition crosses into their epoch and is answered with the proof.
#[test]
fn a_withheld_commit_vote_is_answered_with_the_proof() {
    let mut crossed = 0;
    for moment in MOMENTS {
        for mute in 0..4 {
            let (mut cluster, submitted) = before_the_end();
            let cut = submitted + moment * UNIT / 2;
            for other in (0..5).filter(|other| *other != mute) {
                cluster.at(cut, Event::Fault(Fault::OneWay(mute, other)));
                cluster.at(cut, Event::Fault(Fault::OneWay(other, mute)));
            }
            let healed = cut + 8_000;
            cluster.at(healed, Event::Fault(Fault::Heal));
            let what = format!("validator {mute} mute {moment} half units after the submission");
            let cluster = assert_goes_on(cluster, healed, &what);
            crossed += cluster.sent.get("across").copied().unwrap_or(0);
        }
    }
    assert!(crossed > 0, "no message ever crossed epochs");
}

/// Everything that is not synced is gone, everywhere, at each moment.
#[test]
fn power_loss_of_all_at_any_moment_of_the_end() {
    for moment in MOMENTS {
        let (mut cluster, submitted) = before_the_end();
        let dark = submitted + moment * UNIT / 2;
        cluster.at(dark, Event::Fault(Fault::PowerLoss(500)));
        // Pools are lost too; clients repeat.
        cluster.at(dark + 2_000, Event::Submit(TURNING_NONCE));
        assert_goes_on(cluster, dark, &format!("power loss {moment} half units after the submission"));
    }
}

/// Each validator dies at each moment and comes back when the others are in the next epoch.
#[test]
fn a_crash_at_any_moment_of_the_end() {
    for moment in MOMENTS {
        for node in 0..4 {
            let (mut cluster, submitted) = before_the_end();
            let at = submitted + moment * UNIT / 2;
            cluster.at(at, Event::Fault(Fault::Crash(node)));
            cluster.at(at + 4_000, Event::Fault(Fault::Restart(node)));
            cluster.at(at + 5_000, Event::Submit(TURNING_NONCE));
            assert_goes_on(
                cluster,
                at,
                &format!("node {node} dies {moment} half units after the submission"),
            );
        }
    }
}

/// Someone who was away for several epochs and many blocks comes back by ranges and proofs, and votes.
#[test]
fn a_laggard_comes_through_many_epochs() {
    let mut cluster = network(Schedule { keys: 4, seats: 4, turns: true }, Params { ..params() }, 3);
    cluster.start_all();
    cluster.run(START_MS + 500, |_| false);
    cluster.nodes[3].crash();
    let mut nonce = 0;
    for epoch in 0..5 {
        for _ in 0..120 {
            nonce += 1;
            cluster.at(cluster.now, Event::Submit(nonce));
            cluster.run(cluster.now + 4 * UNIT, |_| false);
        }
        cluster.at(cluster.now, Event::Submit(TURNING_NONCE + epoch));
        let (deadline, others) = (cluster.now + 60_000, epoch as usize + 1);
        let turned =
            cluster.run(deadline, |it| it.nodes[..3].iter().all(|n| n.disk.chain.proofs.len() == others));
        assert!(turned, "three of four do not come to epoch {}", epoch + 1);
    }
    let height = cluster.checks.height().get();
    assert!(height > 100, "only {height} blocks");
    cluster.at(cluster.now, Event::Fault(Fault::Restart(3)));
    let deadline = cluster.now + 60_000;
    assert!(cluster.run(deadline, |it| it.all_in_epoch(5) && it.all_committed()), "the laggard stays behind");
    // Without another validator its vote is needed.
    cluster.nodes[0].crash();
    cluster.at(cluster.now, Event::Submit(nonce + 1));
    let deadline = cluster.now + 60_000;
    let last = cluster.world.transaction(nonce + 1).transaction.id();
    let voted = cluster
        .run(deadline, |it| it.nodes[3].live.as_ref().is_some_and(|live| live.executor.has_committed(&last)));
    assert!(voted, "the laggard does not vote");
}
