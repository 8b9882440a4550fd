//! Blocks: building, checking, siblings, commits, crashes, queries.

mod support;

use std::sync::Arc;

use cairn_state::{
    BlockFault, FaultMoment, HeaderField, ListFilter, MemoryStorage, RocksStorage, State, StateError,
    Storage, StorageError, Table, TxRefusal,
};
use cairn_types::log::TreeHash;
use cairn_types::tree::root_from_path;
use cairn_types::*;
use proptest::prelude::*;
use support::*;

#[test]
fn a_block_built_on_one_node_checks_and_commits_on_another_with_equal_contents() {
    on_both(|store| {
        let (a, other) = (State::open(store, &genesis()).unwrap(), memory());
        let b = open(&other);
        let twin = memory();
        let c = open(&twin);
        for round in 0..5 {
            let time = START_MS + 1_000 * (round + 1);
            let txs: Vec<_> = (0..7).map(|n| anchor(n, round * 10 + n, time)).collect();
            let block = grow(&a, time, txs.clone());
            b.check(&block, &txs).unwrap();
            b.commit(&[certified(&block)]).unwrap();
            c.apply_certified(&certified(&block)).unwrap();
        }
        assert_eq!((a.tip(), a.log_sizes().anchors), (b.tip(), 35));
        assert_eq!(other.contents(), twin.contents(), "checked and certified blocks leave the same bytes");
    });
}

#[test]
fn every_header_field_is_compared() {
    let (a, b) = (open(&memory()), open(&memory()));
    let time = START_MS + 1_000;
    let txs = vec![anchor(1, 1, time)];
    let good = a.build(slot_on(&a.tip().header, 0), time, txs.clone()).unwrap().block;
    let other = Hash([3; 32]);
    type Change = (HeaderField, Box<dyn Fn(&mut Header)>);
    let changes: Vec<Change> = vec![
        (HeaderField::Version, Box::new(|h| h.version = 2)),
        (HeaderField::Chain, Box::new(move |h| h.chain = ChainId::new(other))),
        (HeaderField::Epoch, Box::new(|h| h.epoch = Epoch::new(1))),
        (HeaderField::View, Box::new(|h| h.view = View::ZERO)),
        (HeaderField::Height, Box::new(|h| h.height = Height::new(2))),
        (HeaderField::ParentView, Box::new(|h| h.parent_view = View::new(1))),
        (HeaderField::TimeMs, Box::new(|h| h.time_ms = START_MS)),
        (HeaderField::Proposer, Box::new(|h| h.proposer = ValidatorIndex(4))),
        (HeaderField::TxRoot, Box::new(move |h| h.tx_root = other)),
        (HeaderField::TxCount, Box::new(|h| h.tx_count = 2)),
        (HeaderField::StateRoot, Box::new(move |h| h.state_root = other)),
        (HeaderField::AnchorsRoot, Box::new(move |h| h.anchors_root = other)),
        (HeaderField::AnchorsSize, Box::new(|h| h.anchors_size = 2)),
        (HeaderField::AnchorsSha256, Box::new(move |h| h.anchors_sha256 = other)),
        (HeaderField::HistoryRoot, Box::new(move |h| h.history_root = other)),
        (HeaderField::Validators, Box::new(move |h| h.validators = other)),
        (HeaderField::NextValidators, Box::new(move |h| h.next_validators = other)),
    ];
    for (expected, change) in changes {
        let mut header = good.header().clone();
        change(&mut header);
        let bad = Arc::new(Block::new(header, good.transactions().to_vec()));
        match b.check(&bad, &txs).unwrap_err() {
            fault @ BlockFault::Header { field, .. } => {
                assert_eq!(field, expected);
                assert!(fault.blames_proposer());
            }
            fault => panic!("{expected:?}: {fault}"),
        }
        assert!(matches!(
            b.commit(&[certified(&bad)]),
            Err(StateError::Diverged { .. } | StateError::NotNext { .. })
                | Err(StateError::CertificateMismatch { .. } | StateError::EpochProofMissing { .. })
        ));
    }
    assert_eq!(b.overlays(), 0, "a refused block leaves nothing");
    b.check(&good, &txs).unwrap();
    b.check(&good, &txs).unwrap();
    let mut header = good.header().clone();
    header.parent = BlockId::new(other);
    let fault = b.check(&Arc::new(Block::new(header, vec![])), &[]).unwrap_err();
    assert!(
        matches!(fault, BlockFault::Unavailable(StateError::UnknownParent { .. }))
            && !fault.blames_proposer()
    );
}

#[test]
fn a_body_swapped_under_a_known_header_is_refused() {
    let state = open(&memory());
    let time = START_MS + 1_000;
    let good = state.build(slot_on(&state.tip().header, 0), time, vec![anchor(1, 1, time)]).unwrap().block;
    let other = anchor(2, 2, time);
    let swapped = Arc::new(Block::new(good.header().clone(), vec![other.signed.clone()]));
    assert_eq!(swapped.id(), good.id());
    let fault = state.check(&swapped, &[other]).unwrap_err();
    assert!(matches!(fault, BlockFault::Header { field: HeaderField::TxRoot, .. }), "{fault}");
}

#[test]
fn siblings_never_see_one_another_and_only_the_committed_branch_survives() {
    on_both(|store| {
        let state = State::open(store, &genesis()).unwrap();
        let time = START_MS + 1_000;
        let base = state.tip().header;
        let shared = anchor(1, 1, time);
        let left = state.build(slot_on(&base, 0), time, vec![shared.clone()]).unwrap().block;
        let right =
            state.build(slot_on(&base, 1), time, vec![shared.clone(), anchor(2, 2, time)]).unwrap().block;
        assert_eq!(right.transactions().len(), 2, "the sibling's transaction is no repetition");
        let top = state.build(slot_on(right.header(), 0), time + 1, vec![shared.clone()]).unwrap();
        assert!(matches!(top.refused[0].1, TxRefusal::Replayed { height, .. } if height == Height::new(1)));
        assert_eq!(state.overlays(), 3);
        state.commit(&[certified(&right)]).unwrap();
        assert!(state.uncommitted(&left.id()).is_none(), "the competing branch is gone");
        assert!(state.uncommitted(&top.block.id()).is_some(), "the child stays");
        assert!(matches!(state.commit(&[certified(&left)]), Err(StateError::ForkedCommit { .. })));
        state.commit(&[certified(&right), certified(&top.block)]).unwrap();
        assert_eq!((state.tip().id, state.overlays()), (top.block.id(), 0));
    });
}

#[test]
fn a_commit_must_follow_the_tip_and_its_certificate_must_cover_it() {
    let state = open(&memory());
    let one = state.build(slot_on(&state.tip().header, 0), START_MS + 1, vec![]).unwrap().block;
    let two = state.build(slot_on(one.header(), 0), START_MS + 2, vec![]).unwrap().block;
    assert!(matches!(state.commit(&[certified(&two)]), Err(StateError::NotNext { .. })));
    let crossed = CertifiedBlock { block: two.clone(), certificate: certificate(&one) };
    assert!(matches!(state.commit(&[certified(&one), crossed]), Err(StateError::CertificateMismatch { .. })));
    assert_eq!(state.tip().header.height, Height::ZERO, "nothing was written");
    let by_descendant = CertifiedBlock { block: one.clone(), certificate: certificate(&two) };
    let committed = state.commit(&[by_descendant, certified(&two)]).unwrap();
    assert_eq!(committed.blocks.len(), 2);
    assert_eq!(state.certificate(Height::new(1)).unwrap(), None);
    assert_eq!(state.finality(Height::new(1)).unwrap().unwrap().header, *two.header());
    assert_eq!(state.newest_certificate().unwrap().unwrap().block, two.id());
}

#[test]
fn overlays_are_bounded_and_an_ancestor_is_never_given_up() {
    let state = open(&memory());
    let base = state.tip().header;
    let parent = state.build(slot_on(&base, 0), START_MS + 1, vec![]).unwrap().block;
    for skip in 1..=cairn_state::OVERLAYS_MAX as u64 + 5 {
        state.build(slot_on(&base, skip), START_MS + 1, vec![]).unwrap();
        state.build(slot_on(parent.header(), skip), START_MS + 2, vec![]).unwrap();
    }
    assert_eq!(state.overlays(), cairn_state::OVERLAYS_MAX);
    assert!(state.can_extend(&parent.id()));
}

/// Commits two blocks in one call and two more on their own; gives the blocks.
fn script(state: &State) -> Result<(), StateError> {
    let time = START_MS + 1_000;
    let one =
        state.build(slot_on(&state.tip().header, 0), time, vec![anchor(1, 1, time), anchor(2, 2, time)])?;
    let op = verified(operation(5, cairn_types::identity::IdentityOp::Register, time), vec![key(5)]);
    let two = state.build(slot_on(one.block.header(), 0), time + 1, vec![op, anchor(3, 3, time)])?;
    let by_descendant = CertifiedBlock { block: one.block, certificate: certificate(&two.block) };
    state.commit(&[by_descendant, certified(&two.block)])?;
    for n in 0..2 {
        let time = time + 10 + n;
        let block = state.build(slot_on(&state.tip().header, 0), time, vec![anchor(4, 10 + n, time)])?.block;
        state.commit(&[certified(&block)])?;
    }
    Ok(())
}

#[test]
fn a_fault_at_any_write_leaves_a_whole_state_before_or_after_it() {
    let whole = memory();
    script(&open(&whole)).unwrap();
    let writes = whole.writes();
    assert_eq!(writes, 5, "the genesis and four blocks");
    let reference = open(&whole);
    for write in 0..writes {
        for moment in [FaultMoment::BeforeWrite, FaultMoment::AfterWrite] {
            for power_lost in [false, true] {
                let store = memory();
                store.fail_write(write, moment);
                let failed = State::open(store.clone(), &genesis()).and_then(|state| {
                    let outcome = script(&state);
                    let again = state.build(slot_on(&state.tip().header, 0), START_MS + 9_000, vec![]);
                    assert!(matches!(again, Err(StateError::Halted { .. })), "no block after a failed write");
                    outcome
                });
                assert!(matches!(failed, Err(StateError::Storage(StorageError::Io { .. }))));
                if power_lost {
                    store.lose_power()
                } else {
                    store.restart()
                }
                let state = open(&store);
                let height = state.tip().header.height;
                assert_eq!(Some(state.tip().header.as_ref().clone()), reference.header(height).unwrap());
                if height == Height::new(1) {
                    assert_eq!(
                        state.newest_certificate().unwrap().unwrap().block,
                        reference.header(Height::new(2)).unwrap().unwrap().id()
                    );
                }
                for next in height.get() + 1..=4 {
                    let block = Arc::new(reference.block(Height::new(next)).unwrap().unwrap());
                    let certificate =
                        Arc::new(reference.finality(Height::new(next)).unwrap().unwrap().certificate);
                    state.apply_certified(&CertifiedBlock { block, certificate }).unwrap();
                }
                assert_eq!(without_carried(&store), without_carried(&whole), "write {write}, {moment:?}");
            }
        }
    }
}

fn without_carried(store: &MemoryStorage) -> Vec<(Table, Vec<u8>, Vec<u8>)> {
    store
        .contents()
        .into_iter()
        .filter(|(table, key, _)| *table != Table::Meta || key != b"certificate")
        .collect()
}

#[test]
fn a_state_is_the_same_after_reopening_at_every_height() {
    let folder = tempfile::tempdir().unwrap();
    let reference = open(&memory());
    for round in 0..12 {
        let state = State::open(Arc::new(RocksStorage::open(folder.path()).unwrap()), &genesis()).unwrap();
        assert_eq!(state.tip(), reference.tip());
        let time = START_MS + 1_000 * (round + 1);
        let txs: Vec<_> = (0..round).map(|n| anchor(n, round * 100 + n, time)).collect();
        let block = grow(&state, time, txs);
        reference.apply_certified(&certified(&block)).unwrap();
    }
}

#[test]
fn damage_in_any_checked_table_is_refused_at_start() {
    let make = || {
        let store = memory();
        let state = open(&store);
        for n in 0..5 {
            let time = START_MS + 1_000 * (n + 1);
            grow(&state, time, vec![anchor(1, n, time), anchor(2, n, time)]);
        }
        store
    };
    let store = make();
    let mut noticed = 0;
    for (table, name, value) in store.contents() {
        let checked = match table {
            Table::Meta => name != b"certificate",
            Table::Headers => name == 5u64.to_be_bytes() || name == 0u64.to_be_bytes(),
            // The last odd leaf of ten is inside a node; the top nodes are peaks.
            Table::LogNodes => name[9] == 3,
            Table::HistoryNodes => name[9] == 2,
            _ => false,
        };
        if !checked {
            continue;
        }
        for at in 0..value.len() {
            let damaged = make();
            let mut bytes = value.clone();
            // One bit off, the schema would be the layout before, which is converted.
            bytes[at] ^= if name == b"schema" { 4 } else { 1 };
            damaged.tamper(table, &name, Some(bytes));
            assert!(State::open(damaged, &genesis()).is_err(), "{table:?} {name:?} byte {at}");
            noticed += 1;
        }
        let damaged = make();
        damaged.tamper(table, &name, None);
        assert!(State::open(damaged, &genesis()).is_err(), "{table:?} {name:?} removed");
    }
    assert!(noticed > 500, "{noticed}");
    let root = store.contents().into_iter().find(|(table, ..)| *table == Table::TreeNodes).unwrap();
    store.tamper(root.0, &root.1, None);
    let error = State::open(store, &genesis()).err().unwrap();
    assert!(error.to_string().contains("authenticated map"), "{error}");
}

#[test]
fn another_genesis_schema_or_process_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(RocksStorage::open(folder.path()).unwrap());
    drop(State::open(store.clone(), &genesis()).unwrap());
    let other = Genesis { name: "other".into(), ..genesis() };
    assert!(matches!(State::open(store.clone(), &other), Err(StateError::WrongGenesis { .. })));
    let error = RocksStorage::open(folder.path()).err().unwrap();
    assert!(matches!(error, StorageError::Locked { .. }), "{error}");
    let memory = memory();
    drop(open(&memory));
    memory.tamper(Table::Meta, b"schema", Some(vec![1, 0, 0, 0]));
    assert_eq!(State::open(memory, &genesis()).err(), Some(StateError::Schema { found: 1, expected: 4 }));
}

#[test]
fn anchor_proofs_verify_against_every_certified_header() {
    on_both(|store| {
        let state = State::open(store, &genesis()).unwrap();
        assert_eq!(state.anchor_proof(0).unwrap(), None);
        for round in 0..9u64 {
            let time = START_MS + 1_000 * (round + 1);
            grow(&state, time, (0..=round).map(|n| anchor(n, round * 100 + n, time)).collect());
        }
        for seq in 0..state.log_sizes().anchors {
            for height in 1..=9 {
                let covers = state.header(Height::new(height)).unwrap().unwrap().anchors_size > seq;
                let found = state.anchor_proof_at(seq, Height::new(height)).unwrap();
                assert_eq!(found.is_some(), covers);
                let Some(found) = found else { continue };
                let leaf = TreeHash::Anchors.leaf(&found.record.to_bytes());
                let size = found.header.anchors_size;
                let root = root_from_path(TreeHash::Anchors, leaf, seq, size, &found.path).unwrap();
                assert_eq!((root, found.record.seq), (found.header.anchors_root, seq));
                assert_eq!(found.certificate.block, found.header.id());
            }
            assert_eq!(state.anchor_proof(seq).unwrap(), state.anchor_proof_at(seq, Height::new(9)).unwrap());
        }
        assert_eq!(state.anchor_proof(45).unwrap(), None);
    });
}

#[test]
fn records_are_found_by_everything_they_are_known_by() {
    on_both(|store| {
        let state = State::open(store, &genesis()).unwrap();
        let mut blocks = Vec::new();
        for round in 0..3u64 {
            let time = START_MS + 1_000 * (round + 1);
            blocks.push(grow(
                &state,
                time,
                vec![anchor(1, 7, time), anchor(2, 7, time), anchor(1, 20 + round, time)],
            ));
        }
        let (one, two, chain) = (key(1).address(), key(2).address(), state.chain());
        let by_proof = state.records_by_proof(&proof(7).id(chain, one)).unwrap().unwrap();
        assert_eq!((by_proof.first.seq, by_proof.others), (0, vec![3, 6]), "the lowest seq is canonical");
        let by_root = state.records_by_root(&proof(7).root).unwrap().unwrap();
        assert_eq!((by_root.first.seq, by_root.others), (0, vec![1, 3, 4, 6, 7]));
        let by_reference = state.records_by_reference(&two, "order-7").unwrap().unwrap();
        assert_eq!((by_reference.first.seq, by_reference.others), (1, vec![4, 7]));
        assert_eq!(state.records_by_reference(&two, "order-8").unwrap(), None);
        let block = &blocks[1];
        let id = block.transactions()[2].transaction.id();
        let (location, signed) = state.transaction_body(&id).unwrap().unwrap();
        assert_eq!((location.height, location.index, &signed), (Height::new(2), 2, &block.transactions()[2]));
        assert_eq!(state.records_by_tx(&id).unwrap()[0].reference, "order-21");
        assert_eq!(state.block(Height::new(2)).unwrap().as_ref(), Some(block.as_ref()));
        assert_eq!(state.block_by_id(&block.id()).unwrap().as_ref(), Some(block.as_ref()));
        assert_eq!(state.header_by_id(&block.id()).unwrap().as_ref(), Some(block.header()));
        assert_eq!(state.header(Height::new(4)).unwrap(), None);
    });
}

fn pages(state: &State, filter: &ListFilter, limit: usize) -> Vec<u64> {
    let (mut seqs, mut cursor) = (Vec::new(), None);
    loop {
        let page = state.list(filter, cursor, limit).unwrap();
        assert!(page.records.len() <= limit);
        seqs.extend(page.records.iter().map(|record| record.seq));
        cursor = page.next;
        if cursor.is_none() {
            return seqs;
        }
    }
}

#[test]
fn lists_page_through_exactly_what_matches() {
    on_both(|store| {
        let state = State::open(store, &genesis()).unwrap();
        for round in 0..6u64 {
            let time = START_MS + 1_000 * (round + 1);
            grow(&state, time, (0..5).map(|n| anchor(n, round * 5 + n, time)).collect());
        }
        for (sender, kind) in
            [(None, None), (Some(1), None), (None, Some(ProofKind::Work)), (Some(2), Some(ProofKind::Batch))]
        {
            for (from, to) in [(None, None), (Some(2), Some(4)), (Some(6), None), (None, Some(0))] {
                let filter = ListFilter {
                    sender: sender.map(|n| key(n).address()),
                    kind,
                    from: from.map(Height::new),
                    to: to.map(Height::new),
                    newest_first: false,
                };
                let mut expected: Vec<u64> = (0..30)
                    .filter(|seq| sender.is_none_or(|n| seq % 5 == n))
                    .filter(|seq| kind.is_none_or(|kind| (seq % 2 == 0) == (kind == ProofKind::Batch)))
                    .filter(|seq| {
                        from.is_none_or(|from| seq / 5 + 1 >= from) && to.is_none_or(|to| seq / 5 < to)
                    })
                    .collect();
                assert_eq!(pages(&state, &filter, 3), expected);
                expected.reverse();
                assert_eq!(pages(&state, &ListFilter { newest_first: true, ..filter }, 4), expected);
            }
        }
    });
}

#[test]
fn a_full_block_leaves_the_rest_for_later() {
    let mut small = genesis();
    small.params.block_bytes_max = 12_000;
    let state = State::open(memory(), &small).unwrap();
    let time = START_MS + 1_000;
    let txs = (0..4).map(|n| {
        let mut tx = inline(n, time + 1_000, proofs(vec![proof(n)]));
        tx.chain = state.chain();
        verified(tx, vec![key(n)])
    });
    let built = state.build(slot_on(&state.tip().header, 0), time, txs.collect()).unwrap();
    assert_eq!((built.block.transactions().len(), built.refused.len()), (2, 2));
    assert!(
        built
            .refused
            .iter()
            .all(|(_, why)| matches!(why, TxRefusal::BlockFull { .. }) && why.may_pass_later())
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_schedule_of_forks_commits_and_restarts_gives_one_history(
        steps in prop::collection::vec((0u8..6, 0u64..6, 1u64..4_000), 1..30)
    ) {
        let (store_a, store_b) = (memory(), memory());
        let (mut a, b) = (open(&store_a), open(&store_b));
        let mut head = a.tip().header.as_ref().clone();
        let mut open_blocks: Vec<Arc<Block>> = Vec::new();
        for (number, (what, sender, gap)) in steps.into_iter().enumerate() {
            let time = head.time_ms + gap;
            match what {
                0 => {
                    // A fork nobody will commit.
                    let _ = a.build(slot_on(&head, 7), time, vec![anchor(sender, 77, time)]).unwrap();
                }
                1 if !open_blocks.is_empty() => {
                    let last = open_blocks.last().unwrap().clone();
                    let group: Vec<_> = open_blocks.drain(..)
                        .map(|block| CertifiedBlock { block, certificate: certificate(&last) })
                        .collect();
                    a.commit(&group).unwrap();
                    b.commit(&group).unwrap();
                }
                2 => {
                    // A restart forgets the overlays; consensus hands the blocks in again.
                    drop(a);
                    a = open(&store_a);
                    for block in &open_blocks {
                        let txs: Vec<_> = block.transactions().iter().map(|signed| {
                            let keys = a.resolve_keys(Some(block.header().parent), &signed.transaction).unwrap();
                            verified(signed.transaction.clone(), keys)
                        }).collect();
                        a.check(block, &txs).unwrap();
                    }
                }
                _ => {
                    let txs: Vec<_> = (0..sender).map(|n| anchor(n, number as u64 * 10 + n, time)).collect();
                    let built = a.build(slot_on(&head, 0), time, txs).unwrap();
                    prop_assert!(built.refused.is_empty());
                    head = built.block.header().clone();
                    open_blocks.push(built.block);
                }
            }
        }
        prop_assert_eq!(a.tip(), b.tip());
        prop_assert_eq!(store_a.contents(), store_b.contents());
        drop(open(&store_a));
    }
}

#[test]
fn both_storages_scan_alike() {
    let folder = tempfile::tempdir().unwrap();
    let rocks = RocksStorage::open(folder.path()).unwrap();
    let memory = MemoryStorage::new();
    let mut batch = cairn_state::Batch::new();
    for n in 0..40u64 {
        for table in [Table::Records, Table::Roots] {
            let mut name = vec![(n % 3) as u8; 32];
            name.extend_from_slice(&n.to_be_bytes());
            batch.put(table, &name, &n.to_le_bytes());
        }
    }
    rocks.write(&batch, cairn_state::Durability::Buffered).unwrap();
    memory.write(&batch, cairn_state::Durability::Synced).unwrap();
    fn collect(store: &dyn Storage, scan: cairn_state::Scan<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        store
            .scan(scan, &mut |key, value| {
                rows.push((key.to_vec(), value.to_vec()));
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        rows
    }
    let starts: Vec<Vec<u8>> = (0..4u8)
        .flat_map(|d| (0..42u64).map(move |n| [vec![d; 32], n.to_be_bytes().to_vec()].concat()))
        .collect();
    for table in [Table::Records, Table::Roots] {
        for prefix in [vec![], vec![0u8; 32], vec![1; 32], vec![2; 32], vec![255; 32]] {
            for order in [cairn_state::Order::Ascending, cairn_state::Order::Descending] {
                for from in starts
                    .iter()
                    .filter(|start| start.starts_with(&prefix))
                    .map(|s| Some(s.as_slice()))
                    .chain([None])
                {
                    let scan = cairn_state::Scan { table, prefix: &prefix, from, order };
                    assert_eq!(collect(&rocks, scan), collect(&memory, scan), "{scan:?}");
                }
            }
        }
    }
}

#[test]
fn what_a_commit_returned_survives_a_power_cut() {
    let store = memory();
    let state = open(&store);
    script(&state).unwrap();
    let (tip, contents) = (state.tip(), store.contents());
    drop(state);
    store.lose_power();
    assert_eq!(store.contents(), contents);
    assert_eq!(open(&store).tip(), tip);
}
