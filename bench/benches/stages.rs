//! Every stage of a transaction's and a vote's way through a node, one by one.
#![allow(missing_docs, reason = "criterion's macros make public items without any")]

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_bench::{Chain, START_MS, check};
use cairn_crypto::{KeyPair, Verifier, verify};
use cairn_journal::Journal;
use cairn_mempool::{Limits, Pool};
use cairn_state::{RocksStorage, State};
use cairn_types::certificate::First;
use cairn_types::safety::SafetyRecord;
use cairn_types::{
    Assembly, Block, BlockCert, BlockId, CertifiedBlock, CompactProposal, Hash, Proposal, Scheme,
    SignedTransaction, Slot, TxId, ValidatorIndex, View, decode, encode,
};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

/// Transactions of a block at some thousand a second.
const BLOCK: u64 = 200;

fn signatures(c: &mut Criterion) {
    let mut group = c.benchmark_group("signature");
    for scheme in Scheme::ALL {
        let (key, preimage) = (KeyPair::generate(scheme), vec![7; 2_200]);
        let signature = key.sign(&preimage);
        group.bench_function(format!("sign/{scheme}"), |b| b.iter(|| key.sign(&preimage)));
        group.bench_function(format!("verify/{scheme}"), |b| {
            b.iter(|| verify(key.public(), &preimage, &signature).unwrap());
        });
    }
}

fn transaction(c: &mut Criterion) {
    let chain = Chain::new(Scheme::Dilithium3);
    let signed = chain.transaction(1);
    let bytes = encode(&signed);
    let mut group = c.benchmark_group("transaction");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    let fresh = || SignedTransaction::from(signed.clone().into_parts());
    let kept = || SignedTransaction::from_canonical(bytes.clone()).unwrap();
    group.bench_function("decode", |b| {
        b.iter_batched(|| bytes.clone(), SignedTransaction::from_canonical, BatchSize::SmallInput);
    });
    group.bench_function("encode", |b| {
        b.iter_batched(fresh, |tx| tx.canonical().len(), BatchSize::SmallInput);
    });
    group
        .bench_function("id and leaf", |b| b.iter_batched(kept, |tx| tx.block_leaf(), BatchSize::SmallInput));
    group.bench_function("check, new", |b| {
        let setup = || (Verifier::new(chain.id()), Arc::new(kept()));
        b.iter_batched(setup, |(verifier, tx)| check(&verifier, &tx).unwrap(), BatchSize::SmallInput);
    });
    let verifier = Verifier::new(chain.id());
    check(&verifier, &Arc::new(chain.transaction(0))).unwrap();
    // Transaction n is of sender n modulo 8.
    let mut next = (8..).step_by(8).map(|n| Arc::new(chain.transaction(n)));
    group.bench_function("check, sender known", |b| {
        let next = || next.next().unwrap();
        b.iter_batched(next, |tx| check(&verifier, &tx).unwrap(), BatchSize::SmallInput);
    });
    group.bench_function("check, remembered", |b| {
        b.iter_batched(|| Arc::new(kept()), |tx| check(&verifier, &tx).unwrap(), BatchSize::SmallInput);
    });
}

fn pool(c: &mut Criterion) {
    let chain = Chain::new(Scheme::Dilithium3);
    let verifier = Verifier::new(chain.id());
    let txs = chain.checked(&verifier, 0, 10 * BLOCK).unwrap();
    let limits = Limits::of_chain(&chain.genesis.params);
    let fill = || {
        let mut pool = Pool::new(limits);
        txs.iter().skip(1).for_each(|tx| drop(pool.insert(tx.clone(), START_MS).unwrap()));
        pool
    };
    let mut group = c.benchmark_group("pool");
    group.bench_function("insert into 2,000", |b| {
        let insert = |mut pool: Pool| (pool.insert(txs[0].clone(), START_MS).unwrap(), pool);
        b.iter_batched(fill, insert, BatchSize::LargeInput);
    });
    let full = fill();
    let bytes = txs.iter().take(BLOCK as usize).map(|tx| tx.bytes).sum();
    group.bench_function("select 200 of 2,000", |b| {
        b.iter(|| full.select(bytes, START_MS, &HashSet::new()).len());
    });
    let ids: Vec<TxId> = txs.iter().skip(1).take(BLOCK as usize).map(|tx| tx.id).collect();
    group.bench_function("remove 200", |b| {
        b.iter_batched(fill, |mut pool| (pool.remove(&ids), pool), BatchSize::LargeInput);
    });
}

fn proposals(c: &mut Criterion) {
    let chain = Chain::new(Scheme::Dilithium3);
    let txs: Vec<_> = (0..BLOCK).map(|n| Arc::new(chain.transaction(n))).collect();
    let whole = chain.proposal(txs.clone());
    let (whole_bytes, compact) = (encode(&whole), CompactProposal::of(&whole, |_| false));
    let compact_bytes = encode(&compact);
    let mut group = c.benchmark_group("proposal of 200");
    println!("whole {} bytes, compact {} bytes", whole_bytes.len(), compact_bytes.len());
    group.bench_function("encode whole", |b| b.iter(|| encode(&whole)));
    group.bench_function("encode compact", |b| {
        b.iter(|| encode(&CompactProposal::of(&whole, |_| false)));
    });
    group.bench_function("decode whole, find its root", |b| {
        b.iter(|| decode::<Proposal>(&whole_bytes).unwrap().block.matches_tx_root());
    });
    let by_leaf: std::collections::HashMap<Hash, _> = txs.iter().map(|tx| (tx.block_leaf(), tx)).collect();
    group.bench_function("decode compact, make whole", |b| {
        b.iter(|| {
            let mut assembly = Assembly::begin(decode(&compact_bytes).unwrap()).unwrap();
            assembly.fill(|leaf| by_leaf.get(leaf).map(|tx| Arc::clone(tx)));
            assembly.whole().unwrap()
        });
    });
}

fn votes(c: &mut Criterion) {
    let chain = Chain::new(Scheme::Dilithium3);
    let (view, block) = (View::new(7), BlockId::new(Hash([7; 32])));
    let vote = chain.vote::<First>(1, view, block);
    let cert = chain.quorum(view, block);
    let mut group = c.benchmark_group("vote");
    group.bench_function("sign and encode", |b| b.iter(|| encode(&chain.vote::<First>(0, view, block))));
    group.bench_function("check, new", |b| {
        let setup = || (Verifier::new(chain.id()), vote.clone());
        b.iter_batched(
            setup,
            |(verifier, vote)| verifier.vote(&chain.set, vote).unwrap(),
            BatchSize::SmallInput,
        );
    });
    let verifier = Verifier::new(chain.id());
    for index in 0..3 {
        verifier.vote(&chain.set, chain.vote::<First>(index, view, block)).unwrap();
    }
    group.bench_function("check again", |b| {
        verifier.vote(&chain.set, vote.clone()).unwrap();
        b.iter(|| verifier.vote(&chain.set, vote.clone()).unwrap());
    });
    let cert = BlockCert::Quorum(Arc::new(cert));
    group.bench_function("certificate, again", |b| {
        b.iter(|| verifier.block_cert(&chain.set, BlockId::ZERO, cert.clone()).unwrap());
    });
}

fn slot(state: &State, view: u64) -> (Slot, u64) {
    let tip = state.tip();
    let slot = Slot {
        epoch: tip.header.epoch,
        view: View::new(view),
        height: tip.header.height.next(),
        parent: tip.id,
        parent_view: tip.header.view,
        proposer: ValidatorIndex(0),
    };
    (slot, tip.header.time_ms + 1)
}

fn state(c: &mut Criterion) {
    let chain = Chain::new(Scheme::Dilithium3);
    let verifier = Verifier::new(chain.id());
    let txs = chain.checked(&verifier, 0, 20 * BLOCK).unwrap();
    let blocks: Vec<_> = txs.chunks(BLOCK as usize).collect();
    let open = || {
        let folder = tempfile::tempdir().unwrap();
        let state =
            State::open(Arc::new(RocksStorage::open(folder.path()).unwrap()), &chain.genesis).unwrap();
        (state, folder)
    };
    let mut group = c.benchmark_group("block of 200");
    let (one, _folder) = open();
    group.bench_function("build and execute", |b| {
        let (slot, time_ms) = slot(&one, 1);
        b.iter_batched(
            || blocks[0].to_vec(),
            |txs| one.build(slot, time_ms, txs).unwrap(),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("write, not synced", |b| {
        b.iter_custom(|count| {
            let (mut spent, mut left) = (Duration::ZERO, count);
            while left > 0 {
                let (state, _folder) = open();
                for (view, txs) in (1..).zip(&blocks).take(left.min(blocks.len() as u64) as usize) {
                    let (slot, time_ms) = slot(&state, view);
                    let block = state.build(slot, time_ms, txs.to_vec()).unwrap().block;
                    let certificate = Arc::new(chain.commit(View::new(view), block.id()));
                    let began = Instant::now();
                    state.commit_buffered(&[CertifiedBlock { block, certificate }]).unwrap();
                    spent += began.elapsed();
                    left -= 1;
                }
            }
            spent
        });
    });
}

fn journal(c: &mut Criterion) {
    let chain = Chain::new(Scheme::Dilithium3);
    let txs: Vec<_> = (0..BLOCK).map(|n| Arc::new(chain.transaction(n))).collect();
    let whole = chain.proposal(txs);
    let folder = tempfile::tempdir().unwrap();
    let address = chain.set.validators()[0].address;
    let mut journal = Journal::create(&folder.path().join("sign"), address, chain.id()).unwrap();
    let mut view = 0u64;
    let mut group = c.benchmark_group("journal, synced");
    group.bench_function("record", |b| {
        b.iter(|| {
            view += 1;
            let record = SafetyRecord {
                last_timeout: Some((View::new(view), View::ZERO)),
                ..journal.record().clone()
            };
            journal.write(&record, &[], &[]).unwrap();
        });
    });
    group.bench_function("record and block of 200", |b| {
        b.iter(|| {
            view += 1;
            let mut header = whole.block.header().clone();
            (header.view, header.height) = (View::new(view), cairn_types::Height::new(view));
            let block = Arc::new(Block::new(header, whole.block.transactions().to_vec()));
            let record =
                SafetyRecord { last_voted: Some((View::new(view), block.id())), ..journal.record().clone() };
            journal.write(&record, &[], &[block]).unwrap();
            journal.prune(cairn_types::Height::new(view));
        });
    });
}

criterion_group! {
    name = stages;
    config = Criterion::default().sample_size(30).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    targets = signatures, transaction, pool, proposals, votes, state, journal
}
criterion_main!(stages);
