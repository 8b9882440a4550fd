//! Snapshots and pruning: what goes on from them, and what is refused.

mod support;

use std::sync::Arc;

use cairn_state::{
    Intake, KEEP_BLOCKS_MIN, MapRun, MemoryStorage, Role, SnapshotChunk, SnapshotFault, SnapshotHead, State,
    StateError, TxRefusal,
};
use cairn_types::identity::IdentityOp;
use cairn_types::{Hash, Height, TxId, decode, encode};
use support::*;

/// A chain with identities, anchors, and blocks in and out of the replay window.
fn chain() -> (Arc<MemoryStorage>, State, u64) {
    let store = memory();
    let state = open(&store);
    let mut now = START_MS;
    for n in 0..40u64 {
        now += 700;
        let txs = match n % 4 {
            0 => vec![signed_by_state(&state, operation(100 + n, IdentityOp::Register, now))],
            1 => (0..n).map(|at| anchor(200 + at, n * 100 + at, now)).collect(),
            2 => vec![],
            _ => vec![anchor(7, n, now)],
        };
        grow(&state, now, txs);
    }
    (store, state, now)
}

fn intake(frames: &[Vec<u8>]) -> Result<Intake, SnapshotFault> {
    let head: SnapshotHead = decode(&frames[0]).unwrap();
    assert_eq!(head.chunks as usize, frames.len() - 1);
    let mut intake = Intake::new(head, &genesis(), Arc::new(AnySignature))?;
    for frame in &frames[1..] {
        intake.add(frame)?;
    }
    intake.check_complete()?;
    Ok(intake)
}

#[test]
fn a_node_goes_on_from_a_snapshot_as_if_it_had_every_block() {
    let (_, state, now) = chain();
    let frames = snapshot_frames(&state);
    let store = memory();
    State::install(store.as_ref(), &genesis(), intake(&frames).unwrap()).unwrap();
    let restored = open(&store);
    assert_eq!(restored.tip(), state.tip());
    // Both go on alike, over the ends of subtrees of every size and through changes of the map.
    let mut time = now;
    for n in 0..70u64 {
        time += 300;
        let tx = if n % 10 == 3 {
            signed_by_state(&state, operation(500 + n, IdentityOp::Register, time))
        } else {
            anchor(800 + n, 90_000 + n, time)
        };
        let block = grow(&state, time, vec![tx]);
        restored.commit(&[certified(&block)]).unwrap();
        assert_eq!(restored.tip(), state.tip(), "block {n}");
    }
    drop(restored);
    let restored = open(&store);
    let seq = state.log_sizes().anchors - 1;
    assert_eq!(restored.anchor_proof(seq).unwrap(), state.anchor_proof(seq).unwrap());
    for below in [2, 3, 10, 40] {
        let seq = state.log_sizes().anchors - below;
        assert_eq!(restored.anchor_proof(seq).unwrap(), state.anchor_proof(seq).unwrap(), "{below} below");
    }
    let address = key(500 + 3).address();
    assert_eq!(restored.identity(&address).unwrap(), state.identity(&address).unwrap());
    assert!(matches!(restored.record(0), Err(StateError::Pruned { .. })));
    assert!(matches!(restored.block(Height::new(5)), Err(StateError::Pruned { .. })));
}

#[test]
fn an_open_state_without_blocks_becomes_that_of_a_snapshot() {
    on_both(|store| {
        let (_, state, now) = chain();
        let frames = snapshot_frames(&state);
        let joining = State::open(Arc::clone(&store), &genesis()).unwrap();
        // What was executed on block 0 means nothing any more.
        joining.build(slot_on(&joining.tip().header, 0), START_MS + 1, vec![]).unwrap();
        let header = joining.adopt(&genesis(), intake(&frames).unwrap()).unwrap();
        assert_eq!((&header, joining.tip()), (&*state.tip().header, state.tip()));
        assert_eq!((joining.overlays(), joining.kept().blocks_from), (0, header.height.next()));
        let replayed = refused(&joining, now + 100, anchor(7, 39, now));
        assert!(matches!(replayed, TxRefusal::Replayed { .. }), "landed before the snapshot: {replayed}");
        let again = joining.adopt(&genesis(), intake(&frames).unwrap()).unwrap_err();
        assert!(matches!(again, StateError::BadSnapshot { .. }), "{again}");
        for n in 0..5 {
            let time = now + 1_000 + n;
            let block = grow(&state, time, vec![anchor(9, n, time)]);
            joining.commit(&[certified(&block)]).unwrap();
            assert_eq!(joining.tip(), state.tip());
        }
        drop(joining);
        assert_eq!(State::open(store, &genesis()).unwrap().tip(), state.tip());
    });
}

#[test]
fn the_replay_window_survives_a_snapshot() {
    let (_, state, now) = chain();
    let replayed = anchor(7, 39, now);
    let expected = refused(&state, now + 100, replayed.clone());
    let store = memory();
    State::install(store.as_ref(), &genesis(), intake(&snapshot_frames(&state)).unwrap()).unwrap();
    let restored = open(&store);
    let got = refused(&restored, now + 100, replayed);
    assert_eq!(
        std::mem::discriminant(&got),
        std::mem::discriminant(&expected),
        "{got} instead of {expected}"
    );
}

#[test]
fn every_changed_byte_of_a_chunk_is_noticed_and_the_next_copy_serves() {
    let (_, state, _) = chain();
    let frames = snapshot_frames(&state);
    let head: SnapshotHead = decode(&frames[0]).unwrap();
    for number in 1..frames.len() {
        let mut so_far = Intake::new(head.clone(), &genesis(), Arc::new(AnySignature)).unwrap();
        for frame in &frames[1..number] {
            so_far.add(frame).unwrap();
        }
        let frame = &frames[number];
        for at in (0..frame.len()).step_by(1 + frame.len() / 400) {
            let mut changed = frame.clone();
            changed[at] ^= 1 << (at % 8);
            assert!(so_far.add(&changed).is_err(), "chunk {number}, byte {at}");
        }
        for length in (0..frame.len()).step_by(1 + frame.len() / 50) {
            assert!(so_far.add(&frame[..length]).is_err(), "chunk {number} cut at {length}");
        }
        // What was refused left no trace.
        for frame in &frames[number..] {
            so_far.add(frame).unwrap();
        }
        so_far.check_complete().unwrap();
    }
}

#[test]
fn chunks_left_out_repeated_or_out_of_order_are_refused() {
    let (_, state, _) = chain();
    let frames = snapshot_frames(&state);
    let head: SnapshotHead = decode(&frames[0]).unwrap();
    let empty = || Intake::new(head.clone(), &genesis(), Arc::new(AnySignature)).unwrap();
    for left_out in 1..frames.len() {
        let mut intake = empty();
        let rest = frames[1..].iter().enumerate().filter(|(at, _)| at + 1 != left_out);
        let outcome = rest.map(|(_, frame)| intake.add(frame)).collect::<Result<Vec<_>, _>>();
        assert!(outcome.is_err() || intake.check_complete().is_err(), "without chunk {left_out}");
    }
    let mut twice = empty();
    twice.add(&frames[1]).unwrap();
    assert!(twice.add(&frames[1]).is_err());
    let windows = frames[1..]
        .iter()
        .position(|frame| matches!(decode::<SnapshotChunk>(frame).unwrap(), SnapshotChunk::Window(_)));
    let first_window = 1 + windows.unwrap();
    let SnapshotChunk::Window(mut blocks) = decode(&frames[first_window]).unwrap() else { unreachable!() };
    assert_eq!(empty().add(&frames[first_window]), Err(SnapshotFault::WindowEarly));
    let with_map = || {
        let mut intake = empty();
        frames[1..first_window].iter().for_each(|frame| intake.add(frame).unwrap());
        intake
    };
    blocks[0].transactions.push((TxId::ZERO, Hash([1; 32])));
    let fault = with_map().add(&encode(&SnapshotChunk::Window(blocks.clone()))).unwrap_err();
    assert!(matches!(fault, SnapshotFault::WindowTransactions { .. }), "{fault}");
    blocks.remove(0);
    let fault = with_map().add(&encode(&SnapshotChunk::Window(blocks))).unwrap_err();
    assert!(matches!(fault, SnapshotFault::WindowLink { .. }), "{fault}");
}

#[test]
fn a_head_that_contradicts_itself_is_refused() {
    let (_, state, _) = chain();
    let head: SnapshotHead = decode(&snapshot_frames(&state)[0]).unwrap();
    let refused = |change: &dyn Fn(&mut SnapshotHead)| {
        let mut changed = head.clone();
        change(&mut changed);
        Intake::new(changed, &genesis(), Arc::new(AnySignature)).unwrap_err()
    };
    assert!(matches!(refused(&|head| head.version = 9), SnapshotFault::Version { got: 9 }));
    assert!(matches!(refused(&|head| head.header.time_ms += 1), SnapshotFault::WrongCertificate { .. }));
    assert!(matches!(
        refused(&|head| head.history = head.anchors.clone()),
        SnapshotFault::Peaks { log: "history", .. }
    ));
    assert!(matches!(
        refused(&|head| head.header.chain = Default::default()),
        SnapshotFault::WrongChain { .. }
    ));
}

#[test]
fn a_chunk_with_nothing_new_is_refused_so_that_no_snapshot_is_endless() {
    let (_, state, _) = chain();
    let frames = snapshot_frames(&state);
    let head: SnapshotHead = decode(&frames[0]).unwrap();
    let mut intake = Intake::new(head, &genesis(), Arc::new(AnySignature)).unwrap();
    assert_eq!(intake.add(&encode(&SnapshotChunk::Handovers(vec![]))), Err(SnapshotFault::Empty));
    intake.add(&frames[1]).unwrap();
    assert_eq!(intake.add(&encode(&SnapshotChunk::Window(vec![]))), Err(SnapshotFault::Empty));
    let (_, state) = many_identities(700);
    let frames = snapshot_frames(&state);
    let mut intake = Intake::new(decode(&frames[0]).unwrap(), &genesis(), Arc::new(AnySignature)).unwrap();
    intake.add(&frames[1]).unwrap();
    intake.add(&frames[2]).unwrap();
    // The last leaf again, with true edges, proves and brings nothing.
    let again = alone(&frames[2], &frames[3]);
    assert_eq!(intake.add(&encode(&SnapshotChunk::Map(again))), Err(SnapshotFault::Empty));
    frames[3..].iter().for_each(|frame| intake.add(frame).unwrap());
    intake.check_complete().unwrap();
}

/// The run of the one leaf that two runs share.
fn alone(before: &[u8], after: &[u8]) -> MapRun {
    let [SnapshotChunk::Map(before), SnapshotChunk::Map(after)] =
        [before, after].map(|frame| decode::<SnapshotChunk>(frame).unwrap())
    else {
        panic!("two runs of the map")
    };
    assert_eq!(before.leaves.last(), after.leaves.first());
    MapRun { leaves: vec![after.leaves[0].clone()], left: after.left, right: before.right, keys: vec![] }
}

/// A state with so many identities, each with a key of 1,952 bytes.
fn many_identities(count: u64) -> (Arc<MemoryStorage>, State) {
    let store = memory();
    let state = open(&store);
    let mut now = START_MS;
    for block in 0..count.div_ceil(100) {
        now += 700;
        let numbers = block * 100..((block + 1) * 100).min(count);
        let register = |n| signed_by_state(&state, operation(10_000 + n, IdentityOp::Register, now));
        grow(&state, now, numbers.map(register).collect());
    }
    (store, state)
}

#[test]
fn a_map_of_several_runs_is_written_and_taken_in_whole() {
    let (_, state) = many_identities(700);
    let frames = snapshot_frames(&state);
    let is_run = |frame: &&Vec<u8>| matches!(decode::<SnapshotChunk>(frame).unwrap(), SnapshotChunk::Map(_));
    let runs = frames[1..].iter().filter(is_run).count();
    assert!(runs >= 3, "{runs} runs");
    let store = memory();
    State::install(store.as_ref(), &genesis(), intake(&frames).unwrap()).unwrap();
    let restored = open(&store);
    for n in [0, 1, 350, 699] {
        let address = key(10_000 + n).address();
        assert!(restored.identity(&address).unwrap().is_some());
        assert_eq!(restored.identity(&address).unwrap(), state.identity(&address).unwrap());
    }
}

#[test]
fn what_is_frozen_stays_as_it_was_while_blocks_are_committed() {
    on_both(|store| {
        let state = State::open(store, &genesis()).unwrap();
        let mut now = START_MS;
        let mut step = |n: u64| {
            now += 400;
            let register = signed_by_state(&state, operation(100 + n, IdentityOp::Register, now));
            grow(&state, now, vec![register, anchor(7, n, now)]);
        };
        (0..20).for_each(&mut step);
        let frozen = state.freeze().unwrap().unwrap();
        let before = frozen_frames(&frozen);
        // Over a height at which old nodes of the map are removed.
        (20..90).for_each(&mut step);
        assert_eq!(frozen_frames(&frozen), before);
        assert_eq!(frozen.header().height, Height::new(20));
        intake(&before).unwrap();
    });
}

#[test]
fn a_node_that_lacks_transactions_of_the_window_says_so_until_it_has_moved_on() {
    let (_, state, now) = chain();
    let store = memory();
    State::install(store.as_ref(), &genesis(), intake(&snapshot_frames(&state)).unwrap()).unwrap();
    let restored = open(&store);
    let pruned = |state: &State| {
        let frozen = state.freeze().unwrap().unwrap();
        let outcome = frozen.write_chunks(&mut |_| panic!("nothing is written"));
        assert!(matches!(outcome, Err(StateError::Pruned { .. })), "{outcome:?}");
    };
    pruned(&restored);
    grow(&restored, now + WINDOW_MS / 2, vec![anchor(5, 1, now + WINDOW_MS / 2)]);
    pruned(&restored);
    for n in 1..4 {
        let time = now + 2 * WINDOW_MS + n * 1_000;
        grow(&restored, time, vec![anchor(5, 10 + n, time)]);
    }
    intake(&snapshot_frames(&restored)).unwrap();
}

#[test]
fn a_snapshot_goes_into_an_empty_folder_only() {
    let (store, state, _) = chain();
    let intake = intake(&snapshot_frames(&state)).unwrap();
    drop(state);
    let before = store.contents();
    let fault = State::install(store.as_ref(), &genesis(), intake).unwrap_err();
    assert!(matches!(fault, StateError::BadSnapshot { .. }), "{fault}");
    assert_eq!(store.contents(), before);
}

#[test]
fn a_node_that_prunes_keeps_the_transactions_of_the_replay_window() {
    for role in [Role::Prover, Role::Validator] {
        let state = open(&memory());
        let blocks = KEEP_BLOCKS_MIN + 400;
        // All of it in half a window.
        let time = |n: u64| START_MS + n * WINDOW_MS / 2 / blocks;
        for n in 1..=blocks {
            grow(&state, time(n), vec![anchor(7, n, time(n))]);
        }
        assert_eq!(prune_all(&state, role), Height::ZERO, "{role}");
        intake(&snapshot_frames(&state)).unwrap();
        // The window's end moves over the oldest blocks.
        for past in [3, 100, 101, 300] {
            let now = time(past) + WINDOW_MS;
            grow(&state, now, vec![anchor(7, past, now)]);
            let from = prune_all(&state, role).get();
            assert!(from > 0 && from < past + 1, "{role}: kept from {from}, the window from {past}");
            intake(&snapshot_frames(&state)).unwrap();
        }
    }
}

/// Prunes until nothing more goes: the lowest block kept.
fn prune_all(state: &State, role: Role) -> Height {
    let mut kept = state.kept();
    loop {
        let next = state.prune(role, 0).unwrap();
        if next == kept {
            return kept.blocks_from;
        }
        kept = next;
    }
}

#[test]
fn roles_keep_apart_what_they_promise() {
    for role in Role::ALL {
        let store = memory();
        let state = open(&store);
        let (mut now, mut txs) = (START_MS, Vec::new());
        for n in 0..KEEP_BLOCKS_MIN + 300 {
            now += 100;
            let tx = anchor(7, n, now);
            txs.push(tx.id);
            grow(&state, now, if n % 3 == 0 { vec![tx] } else { vec![] });
        }
        prune_all(&state, role);
        let kept = state.kept();
        drop(state);
        let state = open(&store);
        let tip = state.tip().header.height.get();
        let cut = tip - KEEP_BLOCKS_MIN;
        assert_eq!(state.kept(), kept, "what is kept survives a restart");
        let old = Height::new(cut / 2);
        match role {
            Role::Archive => {
                assert!(state.block(old).unwrap().is_some() && state.record(0).unwrap().is_some())
            }
            Role::Prover | Role::Validator => {
                assert_eq!(kept.blocks_from, Height::new(cut), "{role}");
                let fault = state.block(old).unwrap_err();
                assert!(fault.to_string().contains(&cut.to_string()), "{fault}");
            }
        }
        let proof = state.anchor_proof(0);
        match role {
            Role::Archive | Role::Prover => assert_eq!(proof.unwrap().unwrap().record.seq, 0, "{role}"),
            Role::Validator => {
                assert!(matches!(proof, Err(StateError::Pruned { .. })));
                assert!(state.records_by_tx(&txs[0]).unwrap().is_empty());
                assert_eq!(state.transaction(&txs[0]).unwrap(), None);
            }
        }
        // The newest blocks are whole, receipts of new records are given, and the chain goes on.
        assert!(state.block(Height::new(cut)).unwrap().is_some());
        let newest = state.log_sizes().anchors - 1;
        assert!(state.anchor_proof(newest).unwrap().is_some());
        grow(&state, now + 100, vec![anchor(9, 1_000_000, now + 100)]);
    }
}
