//! A node without blocks, peers that have a snapshot, and liars of every kind.

mod peers;
mod run;

use std::time::Duration;

use cairn_catchup::{ATTEMPTS_MAX, LISTEN, LISTEN_ALONE};
use proptest::prelude::*;

use peers::{Kind, Snapshot};
use run::{BOUND, Run};

const MINUTE: Duration = Duration::from_secs(60);

/// Of epoch 7, so that hand-overs come in several answers.
fn snapshot() -> Snapshot {
    Snapshot::new(50_000, 7, 40)
}

#[test]
fn one_honest_peer_is_enough_among_any_one_kind_of_liar() {
    for liar in Kind::LIARS {
        for (kinds, honest) in [([liar, liar, liar, Kind::Honest], 3), ([Kind::Honest, liar, liar, liar], 0)]
        {
            for (epoch, run) in
                [(0, Run::new(&kinds, Snapshot::new(50_000, 0, 40))), (7, Run::new(&kinds, snapshot()))]
            {
                let seen = run.pruned().play(3 * MINUTE);
                assert_eq!(seen.joined, Some(true), "{liar:?} in epoch {epoch}: {seen:?}");
                assert_eq!(seen.installed, Some(50_000));
                assert!(!seen.punished.contains(&honest), "{liar:?}: the honest peer is punished");
                assert!(liar.lies_provably() || seen.punished.is_empty(), "{liar:?}: {:?}", seen.punished);
                assert!(
                    seen.took < Duration::from_secs(90),
                    "{liar:?} in epoch {epoch} cost {:?}",
                    seen.took
                );
            }
        }
    }
}

#[test]
fn each_provable_lie_is_punished_when_it_is_met() {
    for liar in Kind::LIARS.into_iter().filter(|kind| kind.lies_provably()) {
        // Alone, the liar is asked for everything; the honest one comes when it has shown itself.
        let mut run = Run::new(&[liar, Kind::Honest], snapshot()).pruned();
        run.late(1, Duration::from_secs(20));
        let seen = run.play(3 * MINUTE);
        assert_eq!((seen.joined, &seen.punished), (Some(true), &[0].into()), "{liar:?}: {seen:?}");
    }
}

#[test]
fn peers_that_are_near_are_followed_block_by_block() {
    let seen = Run::new(&[Kind::Honest; 3], Snapshot::new(500, 0, 3)).tip(BOUND).play(MINUTE);
    assert_eq!((seen.joined, seen.questions), (None, 0), "{seen:?}");
    assert!(seen.released.is_some_and(|at| at >= LISTEN && at < 2 * LISTEN), "{seen:?}");
    // One block more is far.
    let seen = Run::new(&[Kind::Honest; 3], Snapshot::new(500, 0, 3)).tip(BOUND + 1).play(MINUTE);
    assert_eq!(seen.joined, Some(true), "{seen:?}");
    // And so is any height of those who let the first blocks go.
    let seen = Run::new(&[Kind::Honest; 3], Snapshot::new(500, 0, 3)).tip(600).pruned().play(MINUTE);
    assert_eq!(seen.joined, Some(true), "{seen:?}");
}

#[test]
fn a_node_without_peers_is_not_held_back_for_long() {
    let seen = Run::new(&[], snapshot()).play(MINUTE);
    assert_eq!(seen.joined, None);
    assert!(seen.released.is_some_and(|at| at >= LISTEN_ALONE && at < 2 * LISTEN_ALONE), "{seen:?}");
}

#[test]
fn a_far_peer_that_comes_late_is_still_joined() {
    let mut run = Run::new(&[Kind::Honest, Kind::Honest], snapshot());
    run.late(0, Duration::from_secs(30));
    run.late(1, Duration::from_secs(31));
    assert_eq!(run.play(MINUTE).joined, Some(true));
}

#[test]
fn where_nobody_has_a_snapshot_the_first_blocks_are_fetched() {
    for kind in [Kind::Earlier, Kind::Empty, Kind::Boaster] {
        let seen = Run::new(&[kind; 4], snapshot()).play(MINUTE);
        assert_eq!(seen.joined, Some(false), "{kind:?}: {seen:?}");
        assert!(seen.took < Duration::from_secs(5), "{kind:?}: {seen:?}");
    }
    for kind in [Kind::Silent, Kind::Refusing, Kind::Lacking] {
        let seen = Run::new(&[kind; 4], snapshot()).play(60 * MINUTE);
        assert_eq!(seen.joined, Some(false), "{kind:?}: {seen:?}");
    }
}

#[test]
fn where_nobody_keeps_the_first_blocks_either_a_snapshot_is_waited_for() {
    let mut run = Run::new(&[Kind::Empty, Kind::Earlier, Kind::Honest], snapshot()).pruned();
    run.late(2, 10 * MINUTE);
    let seen = run.play(20 * MINUTE);
    assert_eq!(seen.joined, Some(true), "{seen:?}");
    assert!(seen.took > 10 * MINUTE && seen.took < 11 * MINUTE, "{seen:?}");
    assert!(seen.released.is_some_and(|at| at < MINUTE), "blocks that somebody might have are not held back");
    assert!(seen.questions < 400, "{} questions in ten minutes", seen.questions);
}

#[test]
fn liars_alone_cannot_keep_a_node_from_the_first_blocks() {
    let kinds: Vec<Kind> = (0..60).map(|_| Kind::FalseName).collect();
    let seen = Run::new(&kinds, snapshot()).play(10 * MINUTE);
    assert_eq!((seen.joined, seen.begun), (Some(false), ATTEMPTS_MAX.into()), "{seen:?}");
}

#[test]
fn distant_honest_peers_share_the_work() {
    let took = |count: usize| {
        let seen = Run::new(&vec![Kind::Distant; count], Snapshot::new(50_000, 0, 200)).play(10 * MINUTE);
        assert_eq!(seen.joined, Some(true));
        (seen.took, seen.chunks)
    };
    let (alone, _) = took(1);
    let (shared, chunks) = took(4);
    assert!(shared * 3 < alone, "{shared:?} with four, {alone:?} with one");
    assert!(chunks.len() == 4 && chunks.values().all(|asked| *asked >= 30), "{chunks:?}");
    assert!(chunks.values().sum::<u64>() <= 210, "slow is not silent: {chunks:?}");
}

#[test]
fn no_peer_is_asked_more_than_it_answers() {
    let seen = Run::new(&[Kind::Honest], Snapshot::new(50_000, 0, 600)).play(10 * MINUTE);
    assert_eq!(seen.joined, Some(true));
    // 20 a second, and 40 at once, is what a node gives.
    let seconds = seen.took.as_secs_f64();
    assert!(seen.questions as f64 <= 20.0 * seconds + 40.0, "{} in {seconds} s", seen.questions);
    assert!(seconds < 45.0, "{seconds} s");
}

#[test]
fn a_snapshot_that_peers_let_go_is_given_up_for_the_next() {
    let mut run = Run::new(&[Kind::Distant; 2], Snapshot::new(50_000, 0, 200)).pruned();
    run.makes(Snapshot::new(60_000, 0, 200), Duration::from_secs(3));
    run.makes(Snapshot::new(70_000, 1, 30), Duration::from_secs(6));
    let seen = run.play(10 * MINUTE);
    assert_eq!((seen.joined, seen.punished.len()), (Some(true), 0), "{seen:?}");
    assert!(seen.begun >= 2 && seen.installed > Some(50_000), "{seen:?}");
}

#[test]
fn blocks_that_come_by_themselves_end_it() {
    let mut run = Run::new(&[Kind::Distant; 2], snapshot());
    run.moves(Duration::from_secs(2));
    let seen = run.play(MINUTE);
    assert_eq!((seen.joined, seen.installed), (Some(false), None), "{seen:?}");
    assert_eq!(seen.took, Duration::from_secs(2));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any crowd of liars, connections that come and go: one honest peer that stays is enough.
    #[test]
    fn joining_needs_one_honest_peer(
        liars in prop::collection::vec(prop::sample::select(Kind::LIARS.to_vec()), 0..10),
        place in any::<prop::sample::Index>(),
        epoch in 0u64..9,
        chunks in 1u32..60,
        leaves in prop::collection::vec((any::<prop::sample::Index>(), 0u64..8_000, 1u64..3_000), 0..10),
    ) {
        let mut kinds = liars;
        let honest = place.index(kinds.len() + 1);
        kinds.insert(honest, Kind::Honest);
        let mut run = Run::new(&kinds, Snapshot::new(20_000, epoch, chunks)).pruned();
        for (peer, at, away) in leaves {
            let peer = peer.index(kinds.len());
            if peer != honest {
                let peer = u32::try_from(peer).unwrap();
                run.leaves(peer, Duration::from_millis(100 + at), Duration::from_millis(away));
            }
        }
        let seen = run.play(20 * MINUTE);
        prop_assert_eq!(seen.joined, Some(true), "{:?}", seen);
        prop_assert!(!seen.punished.contains(&u32::try_from(honest).unwrap()));
    }
}
