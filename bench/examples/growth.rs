//! What an anchor costs one node's state while a chain grows, RocksDB's work in the background included, which no short run of a
//! network shows.
//!
//! Usage: `growth FOLDER MILLIONS`: anchors that many million in a new folder, 256 in a transaction, and measures
//! transactions of one before and after.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use cairn_bench::{Chain, check};
use cairn_crypto::Verifier;
use cairn_state::{RocksStorage, State};
use cairn_types::{CertifiedBlock, Scheme, Slot, ValidatorIndex};

/// Anchors of a block of many, and in one of its transactions.
const MANY: (u64, u16) = (2_048, 256);
/// Anchors of a block of single ones, and how many blocks of them are measured.
const SINGLE: u64 = 200;
const SINGLES: u64 = 150;
/// RocksDB is at rest when the process uses less than a hundredth of this.
const REST: Duration = Duration::from_secs(1);
/// Clock ticks of a second in `/proc`.
const TICKS: f64 = 100.0;

/// A chain that one program makes by itself.
struct Growing {
    chain: Chain,
    verifier: Verifier,
    state: State,
    signed: u64,
}

/// What a process or thread has used.
#[derive(Clone, Copy)]
struct Used {
    /// Processor time of all threads, and of the one that executes, s.
    all: f64,
    executing: f64,
    /// MB handed to files.
    written: f64,
}

/// Processor time by a `stat` file of `/proc`, s.
fn processor(stat: &str) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(stat)?;
    let fields: Vec<&str> = text.rsplit(')').next().context("no name")?.split_whitespace().collect();
    let ticks = |at: usize| -> anyhow::Result<f64> { Ok(fields.get(at).context("too few fields")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / TICKS)
}

fn used() -> anyhow::Result<Used> {
    let io = std::fs::read_to_string("/proc/self/io")?;
    let written = io.lines().find_map(|line| line.strip_prefix("wchar: ")).context("no wchar")?;
    Ok(Used {
        all: processor("/proc/self/stat")?,
        executing: processor("/proc/thread-self/stat")?,
        written: written.parse::<f64>()? / 1e6,
    })
}

/// Bytes of the files in a folder, MB.
fn size(folder: &Path) -> anyhow::Result<f64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        // A file may go between its listing and its size.
        bytes += entry?.metadata().map_or(0, |it| it.len());
    }
    Ok(bytes as f64 / 1e6)
}

impl Growing {
    /// Appends a block of `count` anchors, `proofs` in a transaction; gives the seconds that signing took.
    fn append(&mut self, count: u64, proofs: u16) -> anyhow::Result<f64> {
        let start = processor("/proc/thread-self/stat")?;
        let first = self.signed;
        self.signed += count / u64::from(proofs);
        let checked = |n| check(&self.verifier, &Arc::new(self.chain.batches(n, proofs)));
        let txs = (first..self.signed).map(checked).collect::<Result<_, _>>()?;
        let tip = self.state.tip();
        let (view, epoch) = (tip.header.view.next(), tip.header.epoch);
        let (height, parent, parent_view) = (tip.header.height.next(), tip.id, tip.header.view);
        let slot = Slot { epoch, view, height, parent, parent_view, proposer: ValidatorIndex(0) };
        let mut certificate = self.chain.commit(view, parent);
        let signing = processor("/proc/thread-self/stat")? - start;
        let built = self.state.build(slot, tip.header.time_ms + 1, txs)?;
        if !built.refused.is_empty() {
            bail!("{} transactions were refused", built.refused.len());
        }
        let block = built.block;
        certificate.block = block.id(); // the state takes a certificate for good
        let certificate = Arc::new(certificate);
        self.state.commit_buffered(&[CertifiedBlock { block, certificate }])?;
        Ok(signing)
    }

    /// Prints what appending that many anchors takes, until RocksDB is at rest again.
    fn measure(&mut self, folder: &Path, blocks: u64, count: u64, proofs: u16) -> anyhow::Result<()> {
        let (before, mut signing) = (used()?, 0.0);
        for _ in 0..blocks {
            signing += self.append(count, proofs)?;
        }
        self.state.sync()?;
        settle()?;
        let now = used()?;
        let made = (blocks * count) as f64;
        let executing = now.executing - before.executing - signing;
        let background = now.all - before.all - signing - executing;
        let per_anchor = |total: f64| total / made * 1e6;
        let chain = self.state.tip().header.anchors_size;
        println!(
            "{chain:>10} {proofs:>13} {:>17.1} {:>18.1} {:>19.0} {:>20.0}",
            per_anchor(executing),
            per_anchor(background),
            per_anchor(now.written - before.written),
            size(folder)? / chain as f64 * 1e6,
        );
        Ok(())
    }
}

fn settle() -> anyhow::Result<()> {
    loop {
        let before = used()?.all;
        std::thread::sleep(REST);
        if used()?.all - before < REST.as_secs_f64() / 100.0 {
            return Ok(());
        }
    }
}

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, millions] = args.as_slice() else { bail!("usage: growth FOLDER MILLIONS") };
    let folder = Path::new(folder);
    std::fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let chain = Chain::new(Scheme::Dilithium3);
    let state = State::open(Arc::new(RocksStorage::open(folder)?), &chain.genesis)?;
    let mut growing = Growing { verifier: Verifier::new(chain.id()), chain, state, signed: 0 };
    let anchors = (millions.parse::<f64>().context("MILLIONS is no number")? * 1e6) as u64;
    println!(
        "     chain   in one tx   us: executing   us: in background   written B an anchor   on disk B an anchor"
    );
    growing.measure(folder, SINGLES, SINGLE, 1)?;
    growing.measure(folder, anchors / MANY.0, MANY.0, MANY.1)?;
    growing.measure(folder, SINGLES, SINGLE, 1)
}
