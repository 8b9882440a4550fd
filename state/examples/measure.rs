//! Prints what a block of 1,000 single-proof transactions costs: building, checking, committing, disk.
//!
//! `cargo run --release -p cairn-state --example measure`

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_state::{RocksStorage, State};
use support::*;

const TRANSACTIONS: u64 = 1_000;
const BLOCKS: u64 = 20;

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(RocksStorage::open(folder.path()).expect("a store"));
    let mut genesis = genesis();
    genesis.params.block_bytes_max = 8 << 20;
    let leader = State::open(memory(), &genesis).expect("a state");
    let state = State::open(store.clone(), &genesis).expect("a state");
    let (mut build, mut check, mut commit) = (Vec::new(), Vec::new(), Vec::new());
    let mut body_bytes = 0;
    for round in 0..BLOCKS {
        let time = START_MS + 1_000 * (round + 1);
        let txs: Vec<_> = (0..TRANSACTIONS)
            .map(|n| {
                let number = round * TRANSACTIONS + n;
                let mut tx = inline(n, time + 5_000, proofs(vec![proof(number)]));
                tx.chain = state.chain();
                verified(tx, vec![key(n)])
            })
            .collect();
        body_bytes += txs.iter().map(|tx| tx.bytes).sum::<usize>();
        let start = Instant::now();
        let built = leader.build(slot_on(&leader.tip().header, 0), time, txs.clone()).expect("built");
        build.push(start.elapsed());
        assert!(built.refused.is_empty());
        let start = Instant::now();
        state.check(&built.block, &txs).expect("valid");
        check.push(start.elapsed());
        let group = [certified(&built.block)];
        let start = Instant::now();
        state.commit(&group).expect("committed");
        commit.push(start.elapsed());
        leader.commit(&group).expect("committed");
    }
    store.compact().expect("compacted");
    let disk = store.disk_bytes().expect("measured");
    let anchors = BLOCKS * TRANSACTIONS;
    println!("{TRANSACTIONS} transactions a block, {BLOCKS} blocks");
    for (what, mut times) in
        [("build (memory)", build), ("check (RocksDB)", check), ("commit, synced", commit)]
    {
        times.sort();
        let at = |share: usize| times[(times.len() - 1) * share / 100];
        println!("{what:16} best {} p50 {} p95 {}", ms(at(0)), ms(at(50)), ms(at(95)));
    }
    println!(
        "disk {} B per anchor, of which {} B are the transaction",
        disk / anchors,
        body_bytes as u64 / anchors
    );
}

fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}
