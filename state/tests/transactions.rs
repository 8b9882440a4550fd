//! The rules of transactions: time, replay, keys, identities, admission.

mod support;

use std::sync::Arc;

use cairn_state::{Batch, BlockFault, Durability, ReadStorage, State, Storage, Table, TxRefusal};
use cairn_types::delegation::Lack;
use cairn_types::identity::{IDENTITY_KEYS_MAX, Identity, IdentityOp};
use cairn_types::*;
use support::*;

fn expiring(sender: u64, n: u64, expires_ms: u64) -> Verified<AuthenticatedTx> {
    verified(inline(sender, expires_ms, proofs(vec![proof(n)])), vec![key(sender)])
}

#[test]
fn a_transaction_is_valid_from_a_window_before_its_expiry_until_just_before_it() {
    let state = open(&memory());
    let expires = START_MS + 50_000;
    let tx = expiring(1, 1, expires);
    for (time, valid) in [
        (expires - WINDOW_MS - 1, false),
        (expires - WINDOW_MS, true),
        (expires - 1, true),
        (expires, false),
        (expires + 1, false),
    ] {
        assert_eq!(state.dry_run(None, &tx, time).is_ok(), valid, "at {time}");
    }
    assert!(matches!(refused(&state, expires, tx.clone()), TxRefusal::AlreadyExpired { .. }));
    let early = refused(&state, expires - WINDOW_MS - 1, tx);
    assert!(matches!(early, TxRefusal::ExpiresTooLate { latest_ms, .. } if latest_ms == expires - 1));
    assert!(early.may_pass_later());
}

#[test]
fn a_transaction_never_lands_twice() {
    on_both(|store| {
        let state = State::open(store, &genesis()).unwrap();
        let first = START_MS + 1_000;
        let tx = expiring(1, 1, first + WINDOW_MS);
        let twice =
            state.build(slot_on(&state.tip().header, 3), first, vec![tx.clone(), tx.clone()]).unwrap();
        assert!(matches!(twice.refused[0].1, TxRefusal::RepeatedInBlock { .. }));
        grow(&state, first, vec![tx.clone()]);
        // While it has not expired, the window still holds it; from its expiry on, time refuses it.
        for time in [first + 1, first + WINDOW_MS - 1] {
            assert!(
                matches!(refused(&state, time, tx.clone()), TxRefusal::Replayed { height, .. } if height == Height::new(1))
            );
        }
        assert!(matches!(refused(&state, first + WINDOW_MS, tx.clone()), TxRefusal::AlreadyExpired { .. }));
        // The same proof under another nonce is another transaction, and gets its own seq.
        let mut again = tx.signed.transaction.clone();
        again.nonce = 2;
        again.expires_ms = first + WINDOW_MS + 100;
        grow(&state, first + 200, vec![verified(again, vec![key(1)])]);
        assert_eq!(
            state.records_by_proof(&proof(1).id(state.chain(), key(1).address())).unwrap().unwrap().others,
            vec![1]
        );
    });
}

#[test]
fn what_landed_before_a_restart_or_after_it_never_lands_again() {
    on_both(|store| {
        let time = START_MS + 1_000;
        let (before, after, never) = (anchor(1, 1, time), anchor(2, 2, time), anchor(3, 3, time));
        let has = |state: &State, tx: &Verified<AuthenticatedTx>| {
            state.has_landed(&tx.id, &tx.signed.transaction).unwrap()
        };
        grow(&State::open(store.clone(), &genesis()).unwrap(), time, vec![before.clone()]);
        let state = State::open(store, &genesis()).unwrap();
        assert!(has(&state, &before) && !has(&state, &after));
        grow(&state, time + 1, vec![after.clone()]);
        for tx in [before, after] {
            assert!(has(&state, &tx));
            assert!(matches!(refused(&state, time + 2, tx), TxRefusal::Replayed { .. }));
        }
        assert!(!has(&state, &never));
        grow(&state, time + 2, vec![never]);
    });
}

#[test]
fn the_tables_are_asked_only_about_transactions_that_may_be_in_them() {
    let store = memory();
    let state = open(&store);
    let time = START_MS + 1_000;
    let landed = anchor(1, 1, time);
    grow(&state, time, vec![landed.clone()]);
    // Rows that no block wrote show who reads the tables.
    let place = store.get(Table::Transactions, landed.id.as_bytes()).unwrap().unwrap();
    let has = |state: &State, expires_ms| {
        let tx = expiring(2, 2, expires_ms);
        let mut batch = Batch::new();
        batch.put(Table::Transactions, tx.id.as_bytes(), &place);
        store.write(&batch, Durability::Synced).unwrap();
        state.has_landed(&tx.id, &tx.signed.transaction).unwrap()
    };
    assert!(!has(&state, time + WINDOW_MS), "a chain that it saw begin");
    let reopened = open(&store);
    assert!(has(&reopened, time + WINDOW_MS), "the last block before the restart could have it");
    assert!(!has(&reopened, time + WINDOW_MS + 1), "only blocks after the restart could");
}

#[test]
fn a_block_with_one_invalid_transaction_is_refused_and_names_it() {
    let (a, b) = (open(&memory()), open(&memory()));
    let time = START_MS + 1_000;
    let good = anchor(1, 1, time);
    let late = expiring(2, 2, time);
    let header =
        a.build(slot_on(&a.tip().header, 0), time, vec![good.clone()]).unwrap().block.header().clone();
    let txs = vec![good, late];
    let header = Header { tx_count: 2, ..header };
    let block = Arc::new(Block::new(header, txs.iter().map(|tx| tx.signed.clone()).collect()));
    let fault = b.check(&block, &txs).unwrap_err();
    let BlockFault::Transaction { index: 1, refusal, .. } = &fault else { panic!("{fault:?}") };
    assert!(matches!(**refusal, TxRefusal::AlreadyExpired { .. }));
    assert!(fault.blames_proposer());
    assert!(matches!(b.check(&block, &txs[..1]), Err(BlockFault::TransactionCount { .. })));
    let swapped = [txs[1].clone(), txs[0].clone()];
    assert!(matches!(b.check(&block, &swapped), Err(BlockFault::OtherTransaction { index: 0 })));
}

#[test]
fn shape_chain_and_size_are_checked() {
    let mut small = genesis();
    small.params.transaction_bytes_max = 6_000;
    let state = State::open(memory(), &small).unwrap();
    let time = START_MS + 1_000;
    assert!(matches!(refused(&state, time, anchor(1, 1, time)), TxRefusal::WrongChain { .. }));
    let mut tx = anchor(1, 1, time).signed.transaction.clone();
    tx.chain = state.chain();
    tx.payload = proofs((0..30).map(proof).collect());
    assert!(matches!(
        refused(&state, time, verified(tx.clone(), vec![key(1)])),
        TxRefusal::TooLarge { max: 6_000, .. }
    ));
    tx.payload = proofs(vec![proof(1), proof(1)]);
    assert!(matches!(
        refused(&state, time, verified(tx.clone(), vec![key(1)])),
        TxRefusal::Shape(TxFault::ProofRepeated { index: 1 })
    ));
    tx.payload = proofs(vec![proof(1)]);
    let two_signatures = verified(tx, vec![key(1), key(2)]);
    assert!(matches!(
        refused(&state, time, two_signatures),
        TxRefusal::Shape(TxFault::SignatureCount { got: 2, expected: 1 })
    ));
}

#[test]
fn proof_ids_are_unique_within_a_block_and_nobody_acts_for_another_unasked() {
    let state = open(&memory());
    let time = START_MS + 1_000;
    let mut again = anchor(1, 1, time).signed.transaction.clone();
    again.nonce = 77;
    let built = state
        .build(
            slot_on(&state.tip().header, 0),
            time,
            vec![anchor(1, 1, time), verified(again, vec![key(1)]), anchor(2, 1, time)],
        )
        .unwrap();
    assert_eq!(built.block.transactions().len(), 2, "another sender's proof is another proof");
    assert!(
        matches!(built.refused[0].1, TxRefusal::ProofRepeatedInBlock { .. })
            && built.refused[0].1.may_pass_later()
    );
    let acting = Proof { on_behalf_of: Some(key(9).address()), ..proof(3) };
    let tx = verified(inline(1, time + 1_000, proofs(vec![proof(2), acting])), vec![key(1)]);
    let why = refused(&state, time, tx);
    assert!(matches!(why, TxRefusal::DelegationMissing { index: 1, lack: Lack::NoPrincipal, .. }));
    assert_eq!(why.kind(), "delegation_missing");
}

#[test]
fn an_unregistered_sender_signs_with_exactly_the_key_it_hashes_from() {
    let state = open(&memory());
    let time = START_MS + 1_000;
    let payload = || proofs(vec![proof(1)]);
    let chain = state.chain();
    let other = tx(chain, key(1).address(), vec![KeyRef::Inline(key(2))], time + 1, payload());
    assert!(matches!(state.resolve_keys(None, &other), Err(TxRefusal::InlineKeyOfOther { .. })));
    assert!(matches!(
        refused(&state, time, verified(other, vec![key(2)])),
        TxRefusal::InlineKeyOfOther { .. }
    ));
    let indexed = registered(1, &[0], time, payload());
    assert!(matches!(
        refused(&state, time, verified(indexed, vec![key(1)])),
        TxRefusal::UnknownIdentity { .. }
    ));
    let mut both = [key(1), key(2)];
    both.sort();
    let two =
        tx(chain, key(1).address(), both.iter().cloned().map(KeyRef::Inline).collect(), time + 1, payload());
    assert!(matches!(
        refused(&state, time, verified(two, both.to_vec())),
        TxRefusal::SuperfluousKeys { required: 1, got: 2, .. }
    ));
    register(&state, 5);
    let twice = registered(5, &[0, 0], time, payload());
    assert_eq!(state.resolve_keys(None, &twice), Err(TxRefusal::Shape(TxFault::KeysNotAscending)));
    let time = time + 5_000;
    let lying = verified(inline(1, time + 1, payload()), vec![key(3)]);
    assert!(matches!(refused(&state, time, lying), TxRefusal::StaleKeys { .. }));
}

/// Sends one identity operation by these key indexes and commits it.
fn operate(state: &State, indexes: &[u16], op: IdentityOp) {
    let time = state.tip().header.time_ms + 1_000;
    let tx = registered(1, indexes, time, Payload::Identity(op));
    grow(state, time, vec![signed_by_state(state, tx)]);
}

fn operation_refused(state: &State, indexes: &[u16], op: IdentityOp) -> TxRefusal {
    let time = state.tip().header.time_ms + 1_000;
    let tx = registered(1, indexes, time, Payload::Identity(op));
    refused(state, time, signed_by_state(state, tx))
}

fn register(state: &State, sender: u64) {
    let time = state.tip().header.time_ms + 1_000;
    let mut tx = operation(sender, IdentityOp::Register, time);
    tx.chain = state.chain();
    grow(state, time, vec![verified(tx, vec![key(sender)])]);
}

/// Asserts that `op`, signed by these keys, is refused with a refusal of this shape.
macro_rules! refuses {
    ($state:expr, $keys:expr, $op:expr, $shape:pat) => {
        assert!(matches!(operation_refused($state, $keys, $op), $shape))
    };
}

/// The identity survives reopening, and its newest key anchors; anchors leave the map alone.
fn it_is_the_same_when_opened_again(store: Arc<dyn Storage>, state: State, identity: &Identity) {
    let tip = state.tip();
    drop(state);
    let state = State::open(store, &genesis()).unwrap();
    let address = identity.address;
    assert_eq!((state.tip(), state.identity(&address).unwrap().as_ref()), (tip, Some(identity)));
    let time = state.tip().header.time_ms + 1_000;
    let tx = registered(1, &[2], time, proofs(vec![proof(5)]));
    let block = grow(&state, time, vec![signed_by_state(&state, tx)]);
    let record = state.record(0).unwrap().unwrap();
    assert_eq!((record.key_address, record.sender), (key(3).address(), address));
    let before = state.header(Height::new(6)).unwrap().unwrap();
    assert_eq!(block.header().state_root, before.state_root);
}

#[test]
fn an_identity_lives_through_keys_and_thresholds() {
    on_both(|store| {
        let state = State::open(store.clone(), &genesis()).unwrap();
        let address = key(1).address();
        register(&state, 1);
        let time = state.tip().header.time_ms + 1_000;
        let by_inline = anchor(1, 1, time);
        assert!(matches!(refused(&state, time, by_inline), TxRefusal::InlineKeyOfRegistered { .. }));
        refuses!(&state, &[0], IdentityOp::Register, TxRefusal::AlreadyRegistered { .. });
        refuses!(&state, &[0], IdentityOp::RevokeKey(0), TxRefusal::TooFewKeysLeft { left: 0, .. });
        refuses!(&state, &[0], add_key(1), TxRefusal::KeyAlreadyHeld { index: 0, .. });
        operate(&state, &[0], add_key(2));
        for bad in [0, 3] {
            refuses!(&state, &[0], IdentityOp::SetThreshold(bad), TxRefusal::BadThreshold { active: 2, .. });
        }
        operate(&state, &[1], IdentityOp::SetThreshold(2));
        let payload = || proofs(vec![proof(5)]);
        let alone = registered(1, &[1], time + 9_000, payload());
        assert!(matches!(
            state.resolve_keys(None, &alone),
            Err(TxRefusal::ThresholdNotMet { required: 2, got: 1, .. })
        ));
        refuses!(
            &state,
            &[0, 1],
            IdentityOp::RevokeKey(0),
            TxRefusal::TooFewKeysLeft { left: 1, threshold: 2, .. }
        );
        operate(&state, &[0, 1], IdentityOp::RotateKey { index: 0, key: key(3), expires_ms: None });
        let three = registered(1, &[1, 2, 9], time, payload());
        assert!(matches!(
            state.resolve_keys(None, &three),
            Err(TxRefusal::UnknownKey { index: 9, held: 3, .. })
        ));
        let old = registered(1, &[0, 1], time, payload());
        assert!(
            matches!(state.resolve_keys(None, &old), Err(TxRefusal::KeyRevoked { index: 0, since, .. }) if since == Height::new(4))
        );
        refuses!(&state, &[1, 2], add_key(1), TxRefusal::KeyAlreadyHeld { index: 0, .. });
        refuses!(&state, &[1, 2], IdentityOp::RevokeKey(0), TxRefusal::KeyRevoked { .. });
        operate(&state, &[1, 2], IdentityOp::SetThreshold(1));
        let both = registered(1, &[1, 2], time, payload());
        assert!(matches!(
            state.resolve_keys(None, &both),
            Err(TxRefusal::SuperfluousKeys { required: 1, got: 2, .. })
        ));
        operate(&state, &[2], IdentityOp::RevokeKey(1));
        let identity = state.identity(&address).unwrap().unwrap();
        let lives: Vec<_> = identity
            .entry
            .keys
            .iter()
            .zip(&identity.keys)
            .map(|(held, key)| (key.clone(), held.from.get(), held.until.map(Height::get)))
            .collect();
        assert_eq!(lives, vec![(key(1), 1, Some(4)), (key(2), 2, Some(6)), (key(3), 4, None)]);
        assert_eq!((identity.entry.threshold, identity.entry.admitted), (1, true));
        it_is_the_same_when_opened_again(store, state, &identity);
    });
}

#[test]
fn a_threshold_never_exceeds_the_keys_a_transaction_can_name_nor_keys_their_room() {
    let state = open(&memory());
    register(&state, 1);
    for n in 0..17 {
        operate(&state, &[0], add_key(100 + n));
    }
    assert!(matches!(
        operation_refused(&state, &[0], IdentityOp::SetThreshold(17)),
        TxRefusal::BadThreshold { .. }
    ));
    for n in 18..IDENTITY_KEYS_MAX as u64 {
        operate(&state, &[0], add_key(100 + n));
    }
    assert!(matches!(operation_refused(&state, &[0], add_key(5_000)), TxRefusal::TooManyIdentityKeys { .. }));
    let rotate = IdentityOp::RotateKey { index: 1, key: key(5_000), expires_ms: None };
    assert!(matches!(operation_refused(&state, &[0], rotate), TxRefusal::TooManyIdentityKeys { .. }));
}

#[test]
fn whoever_changes_waits_for_the_next_block() {
    let state = open(&memory());
    let time = START_MS + 1_000;
    let register = verified(operation(1, IdentityOp::Register, time), vec![key(1)]);
    let built = state
        .build(
            slot_on(&state.tip().header, 0),
            time,
            vec![anchor(1, 1, time), register, anchor(1, 2, time), anchor(2, 3, time)],
        )
        .unwrap();
    assert_eq!(built.block.transactions().len(), 3);
    assert!(
        matches!(built.refused[0].1, TxRefusal::IdentityChangedInBlock { .. })
            && built.refused[0].1.may_pass_later()
    );
    // On top of the uncommitted block the identity is registered, in the committed state it is not yet.
    let next = registered(1, &[0], time, proofs(vec![proof(9)]));
    assert_eq!(state.resolve_keys(Some(built.block.id()), &next), Ok(vec![key(1)]));
    assert!(matches!(state.resolve_keys(None, &next), Err(TxRefusal::UnknownIdentity { .. })));
    assert!(matches!(state.resolve_keys(Some(BlockId::ZERO), &next), Err(TxRefusal::UnknownParent { .. })));
}

#[test]
fn keys_checked_before_a_rotation_are_noticed_after_it() {
    let state = open(&memory());
    register(&state, 1);
    operate(&state, &[0], add_key(2));
    let time = state.tip().header.time_ms + 1_000;
    let tx = verified(registered(1, &[1], time, proofs(vec![proof(1)])), vec![key(3)]);
    let why = refused(&state, time, tx);
    assert!(matches!(why, TxRefusal::StaleKeys { .. }) && why.kind() == "invalid_signature");
}

#[test]
fn with_registered_admission_only_the_admitted_anchor() {
    let registrar = key(50).address();
    let genesis = genesis_with(Admission::Registered { registrar });
    let state = State::open(memory(), &genesis).unwrap();
    let on_chain = |mut tx: Transaction, keys: Vec<PublicKey>| {
        tx.chain = state.chain();
        verified(tx, keys)
    };
    let time = || state.tip().header.time_ms + 1_000;
    let admit = |who: u64, by: u64| {
        on_chain(operation(by, IdentityOp::Admit(key(who).address()), time()), vec![key(by)])
    };
    let stranger = on_chain(inline(1, time() + 1, proofs(vec![proof(1)])), vec![key(1)]);
    assert!(matches!(refused(&state, time(), stranger), TxRefusal::UnknownIdentity { .. }));
    assert!(matches!(refused(&state, time(), admit(1, 50)), TxRefusal::UnknownIdentity { .. }));
    register(&state, 1);
    register(&state, 2);
    let anchoring = |n: u64| on_chain(registered(n, &[0], time(), proofs(vec![proof(1)])), vec![key(n)]);
    assert!(matches!(refused(&state, time(), anchoring(1)), TxRefusal::NotAdmitted { .. }));
    assert!(matches!(refused(&state, time(), admit(1, 60)), TxRefusal::NotRegistrar { .. }));
    // One registrar admits many in a block; the admitted wait for the next.
    let txs = vec![admit(1, 50), admit(2, 50), anchoring(1), admit(1, 50)];
    let built = state.build(slot_on(&state.tip().header, 0), time(), txs).unwrap();
    assert_eq!(built.block.transactions().len(), 2);
    assert!(matches!(built.refused[0].1, TxRefusal::IdentityChangedInBlock { .. }));
    assert!(matches!(built.refused[1].1, TxRefusal::RepeatedInBlock { .. }));
    state.commit(&[certified(&built.block)]).unwrap();
    grow(&state, time(), vec![anchoring(1), anchoring(2)]);
    let mut again = operation(50, IdentityOp::Admit(key(1).address()), time());
    again.nonce = 9;
    assert!(matches!(
        refused(&state, time(), on_chain(again, vec![key(50)])),
        TxRefusal::AlreadyAdmitted { .. }
    ));
    let open_chain = open(&memory());
    let tx = operation(50, IdentityOp::Admit(key(1).address()), START_MS + 1_000);
    assert!(matches!(
        refused(&open_chain, START_MS + 1_000, verified(tx, vec![key(50)])),
        TxRefusal::AdmissionIsOpen
    ));
}

#[test]
fn identity_changes_far_apart_and_on_forks_give_the_same_root_everywhere() {
    let (store_a, store_b) = (memory(), memory());
    let (a, b) = (open(&store_a), open(&store_b));
    for round in 0..40u64 {
        let time = a.tip().header.time_ms + 1_000;
        let base = a.tip().header;
        let ops = |from: u64, count: u64| -> Vec<_> {
            (from..from + count)
                .map(|n| verified(operation(n, IdentityOp::Register, time), vec![key(n)]))
                .collect()
        };
        // A sibling that changes other identities must leave no trace.
        a.build(slot_on(&base, 5), time, ops(10_000 + round * 10, 3)).unwrap();
        let txs = if round.is_multiple_of(3) { ops(round * 20, 7) } else { vec![] };
        let parent = a.build(slot_on(&base, 0), time, txs).unwrap().block;
        let child = a.build(slot_on(parent.header(), 0), time + 1, vec![]).unwrap().block;
        assert_eq!(child.header().state_root, parent.header().state_root);
        let group = [CertifiedBlock { block: parent, certificate: certificate(&child) }, certified(&child)];
        a.commit(&group).unwrap();
        b.commit(&group).unwrap();
    }
    assert_eq!(store_a.contents(), store_b.contents());
    assert_eq!(open(&store_a).tip(), b.tip());
}

#[test]
fn replaced_nodes_of_the_map_are_forgotten_after_a_while_and_no_others() {
    let store = memory();
    let state = open(&store);
    for round in 0..1_300u64 {
        let time = state.tip().header.time_ms + 10;
        // Only every third block changes the map, so versions have gaps.
        let txs = if round.is_multiple_of(3) {
            vec![verified(operation(round, IdentityOp::Register, time), vec![key(round)])]
        } else {
            vec![]
        };
        grow(&state, time, txs);
    }
    let rows = store.contents();
    let nodes: std::collections::HashSet<_> = rows
        .iter()
        .filter(|(table, ..)| *table == Table::TreeNodes)
        .map(|(_, name, _)| name.clone())
        .collect();
    let stale: Vec<_> = rows.iter().filter(|(table, ..)| *table == Table::TreeStale).collect();
    let oldest = stale.iter().map(|(_, name, _)| u64::from_be_bytes(name[..8].try_into().unwrap())).min();
    assert!(oldest.is_some_and(|oldest| (1_280 - 1_024 + 1..1_300).contains(&oldest)), "{oldest:?}");
    assert!(
        stale.iter().all(|(_, name, _)| nodes.contains(&name[8..])),
        "a replaced node is listed under its own key"
    );
    drop(state);
    let state = open(&store);
    for n in (0..1_300).step_by(3) {
        assert!(state.identity(&key(n).address()).unwrap().is_some());
    }
    register(&state, 2_000);
}
