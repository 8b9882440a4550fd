//! A folder of the layout before this one is brought to it, whatever interrupts that.

mod support;

use std::sync::Arc;

use cairn_state::{FaultMoment, MemoryStorage, State, Table};
use support::*;

const BEFORE: [u8; 4] = [2, 0, 0, 0];

/// The store as the layout before would have kept it: a log node's key was log, level and index.
fn as_before(store: &MemoryStorage) {
    for (table, key, value) in store.contents() {
        if !matches!(table, Table::LogNodes | Table::HistoryNodes) {
            continue;
        }
        let (log, level) = (key[0] - 2, key[9]);
        let last = u64::from_be_bytes(key[1..9].try_into().unwrap());
        let index = (last >> level).to_be_bytes();
        store.tamper(table, &key, None);
        store.tamper(Table::LogNodes, &[&[log, level], index.as_slice()].concat(), Some(value));
    }
    store.tamper(Table::Meta, b"schema", Some(BEFORE.to_vec()));
}

/// More nodes than one write moves.
fn grown() -> Arc<MemoryStorage> {
    let store = memory();
    let state = open(&store);
    for round in 0..10 {
        let time = START_MS + 1_000 * (round + 1);
        grow(&state, time, (0..450).map(|n| anchor(n, round * 450 + n, time)).collect());
    }
    store
}

#[test]
fn nodes_in_the_order_of_their_levels_are_moved() {
    let store = grown();
    let expected = store.contents();
    as_before(&store);
    assert_ne!(store.contents(), expected);
    let before = store.writes();
    let state = open(&store);
    assert_eq!(store.contents(), expected);
    assert_eq!(store.writes() - before, 4, "two for the anchors, one for history, one for the version");
    let time = START_MS + 20_000;
    grow(&state, time, vec![anchor(7, 9_999, time)]);
}

#[test]
fn an_interrupted_conversion_goes_on() {
    let grown = grown();
    let expected = grown.contents();
    for write in 0..4 {
        for moment in [FaultMoment::BeforeWrite, FaultMoment::AfterWrite] {
            let store = memory();
            for (table, key, value) in &expected {
                store.tamper(*table, key, Some(value.clone()));
            }
            as_before(&store);
            store.fail_write(store.writes() + write, moment);
            assert!(State::open(store.clone(), &genesis()).is_err(), "write {write}, {moment:?}");
            store.restart();
            drop(open(&store));
            assert!(store.contents() == expected, "write {write}, {moment:?}");
        }
    }
}

#[test]
fn a_damaged_key_is_named() {
    let store = memory();
    drop(open(&store));
    as_before(&store);
    store.tamper(Table::LogNodes, &[0, 1, 2], Some(vec![7; 64]));
    let error = State::open(store, &genesis()).err().unwrap().to_string();
    assert!(error.contains("log node key"), "{error}");
}
