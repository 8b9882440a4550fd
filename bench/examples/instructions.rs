//! Stages of a transaction's and a vote's way, each run a fixed number of times on the same bytes, for an instrument that counts
//! instructions: unlike times, counts do not wobble. `scripts/instructions.sh` runs it.
//!
//! Usage: `instructions` lists the stages, `instructions STAGE` runs one, prints how often, and does all its work
//! inside [`measured`], which is what is to be counted.

use std::collections::{HashMap, HashSet};
use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Context, bail};
use cairn_bench::{Chain, START_MS, check};
use cairn_crypto::{Verifier, verify};
use cairn_mempool::{Limits, Pool};
use cairn_state::{MemoryStorage, State};
use cairn_types::certificate::First;
use cairn_types::tree::batch_leaf;
use cairn_types::{
    Assembly, BlockId, CompactProposal, Hash, PublicKey, Scheme, Signature, SignedTransaction, Slot,
    TreeKind, ValidatorIndex, View, decode, encode,
};
use serde_json::Value;

/// Transactions of a block at some thousand a second.
const BLOCK: u64 = 200;
/// Runs of a stage that takes microseconds.
const RUNS: u64 = 200;

type Stage = (&'static str, fn() -> anyhow::Result<u64>);

const STAGES: [Stage; 12] = [
    ("verify a dilithium3 signature", || signature(Scheme::Dilithium3)),
    ("verify an ml-dsa-65 signature", || signature(Scheme::MlDsa65)),
    ("decode a transaction", decode_transaction),
    ("id and leaf of a transaction", transaction_leaf),
    ("check a transaction, its sender known", check_known),
    ("check a transaction, remembered", check_remembered),
    ("put a transaction into a pool of 2,000", pool_insert),
    ("select 200 of 2,000", pool_select),
    ("make a block of 200 whole from its leaves", assemble),
    ("execute a block of 200, in memory", execute),
    ("check a vote again", vote_again),
    ("hash a salted digest", salted_leaf),
];

/// Runs `work` over `items`. Counted are the instructions from here on down. Work that fails is no figure.
#[inline(never)]
fn measured<I, T, E: Into<anyhow::Error>>(
    items: impl IntoIterator<Item = I>,
    mut work: impl FnMut(I) -> Result<T, E>,
) -> anyhow::Result<u64> {
    let mut runs = 0;
    for item in items {
        // What it gives is dropped here, and counted with it: a node drops it too.
        drop(black_box(work(black_box(item)).map_err(Into::into)?));
        runs += 1;
    }
    Ok(runs)
}

/// Work that cannot fail.
#[expect(clippy::unnecessary_wraps, reason = "`measured` takes work that may fail")]
fn sure<T>(done: T) -> Result<T, std::convert::Infallible> {
    Ok(done)
}

fn field<'a>(value: &'a Value, name: &str) -> anyhow::Result<&'a str> {
    value[name].as_str().with_context(|| format!("the vectors have no {name}"))
}

/// The published vectors' key and signature: the same on every machine.
fn signature(scheme: Scheme) -> anyhow::Result<u64> {
    let vectors: Value = serde_json::from_str(include_str!("../../types/vectors/signatures.json"))?;
    let keys = vectors["keys"].as_array().context("the vectors have no keys")?;
    let of = keys.iter().find(|key| key["scheme"] == scheme.to_string()).context("no key of the scheme")?;
    let good = of["signatures"].as_array().and_then(|all| all.iter().find(|it| it["valid"] == true));
    let good = good.context("no valid signature")?;
    let key = PublicKey::new(scheme, &hex::decode(field(of, "public_key")?)?).context("a key's length")?;
    let signature =
        Signature::new(&hex::decode(field(good, "signature")?)?).context("a signature's length")?;
    let preimage = hex::decode(field(good, "preimage")?)?;
    verify(&key, &preimage, &signature)?;
    measured(0..RUNS, |_| verify(&key, &preimage, &signature))
}

fn transactions(count: u64) -> (Chain, Vec<Arc<SignedTransaction>>) {
    let chain = Chain::new(Scheme::Dilithium3);
    let txs = (0..count).map(|n| Arc::new(chain.transaction(n))).collect();
    (chain, txs)
}

fn decode_transaction() -> anyhow::Result<u64> {
    let bytes = encode(transactions(1).1[0].as_ref());
    let copies = vec![bytes; RUNS as usize];
    measured(copies, SignedTransaction::from_canonical)
}

fn transaction_leaf() -> anyhow::Result<u64> {
    let bytes = encode(transactions(1).1[0].as_ref());
    let fresh: Result<Vec<_>, _> =
        (0..RUNS).map(|_| SignedTransaction::from_canonical(bytes.clone())).collect();
    measured(fresh?, |tx| sure(tx.block_leaf()))
}

fn check_known() -> anyhow::Result<u64> {
    let (chain, txs) = transactions(BLOCK);
    let verifier = Verifier::new(chain.id());
    chain.checked(&verifier, BLOCK, BLOCK)?;
    measured(txs, |tx| check(&verifier, &tx))
}

fn check_remembered() -> anyhow::Result<u64> {
    let (chain, txs) = transactions(1);
    let verifier = Verifier::new(chain.id());
    check(&verifier, &txs[0])?;
    measured(0..RUNS, |_| check(&verifier, &txs[0]))
}

fn pool_insert() -> anyhow::Result<u64> {
    let (chain, _) = transactions(0);
    let verifier = Verifier::new(chain.id());
    let mut pool = Pool::new(Limits::of_chain(&chain.genesis.params));
    for tx in chain.checked(&verifier, 0, 10 * BLOCK)? {
        pool.insert(tx, START_MS)?;
    }
    let more = chain.checked(&verifier, 10 * BLOCK, RUNS)?;
    measured(more, |tx| pool.insert(tx, START_MS))
}

fn pool_select() -> anyhow::Result<u64> {
    let (chain, _) = transactions(0);
    let txs = chain.checked(&Verifier::new(chain.id()), 0, 10 * BLOCK)?;
    let bytes = txs.iter().take(BLOCK as usize).map(|tx| tx.bytes).sum();
    let mut pool = Pool::new(Limits::of_chain(&chain.genesis.params));
    for tx in txs {
        pool.insert(tx, START_MS)?;
    }
    measured(0..20, |_| sure(pool.select(bytes, START_MS, &HashSet::new())))
}

fn assemble() -> anyhow::Result<u64> {
    let (chain, txs) = transactions(BLOCK);
    let by_leaf: HashMap<Hash, _> = txs.iter().map(|tx| (tx.block_leaf(), tx)).collect();
    let proposal = chain.proposal(txs.clone());
    let bytes = encode(&CompactProposal::of(&proposal, |_| false));
    let whole = |_| {
        let mut assembly = Assembly::begin(decode(&bytes).ok()?).ok()?;
        assembly.fill(|leaf| by_leaf.get(leaf).map(|tx| Arc::clone(tx)));
        assembly.whole()
    };
    measured(0..20, |n| whole(n).context("the proposal is not made whole"))
}

fn execute() -> anyhow::Result<u64> {
    let (chain, _) = transactions(0);
    let txs = chain.checked(&Verifier::new(chain.id()), 0, BLOCK)?;
    let state = State::open(Arc::new(MemoryStorage::new()), &chain.genesis)?;
    let tip = state.tip();
    let (parent, proposer) = (tip.id, ValidatorIndex(0));
    let time_ms = tip.header.time_ms + 1;
    let (epoch, height, parent_view) = (tip.header.epoch, tip.header.height.next(), tip.header.view);
    let runs = (1..=10).map(|view| {
        (Slot { epoch, view: View::new(view), height, parent, parent_view, proposer }, txs.clone())
    });
    let runs: Vec<_> = runs.collect();
    measured(runs, |(slot, txs)| state.build(slot, time_ms, txs))
}

fn vote_again() -> anyhow::Result<u64> {
    let chain = Chain::new(Scheme::Dilithium3);
    let vote = chain.vote::<First>(1, View::new(7), BlockId::new(Hash([7; 32])));
    let verifier = Verifier::new(chain.id());
    verifier.vote(&chain.set, vote.clone())?;
    let copies = vec![vote; RUNS as usize];
    measured(copies, |vote| verifier.vote(&chain.set, vote))
}

fn salted_leaf() -> anyhow::Result<u64> {
    measured(0..RUNS, |n| sure(batch_leaf(TreeKind::CairnB3V1, &[7; 16], &Hash([n as u8; 32]))))
}

fn main() -> anyhow::Result<()> {
    let Some(name) = std::env::args().nth(1) else {
        STAGES.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(());
    };
    let Some((_, run)) = STAGES.iter().find(|(stage, _)| *stage == name) else {
        bail!("there is no stage '{name}'; without an argument all are listed");
    };
    println!("{}", run()?);
    Ok(())
}
