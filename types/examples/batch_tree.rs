//! Measures the batch tree: `cargo run --release -p cairn-types --example batch_tree [log2 of the leaves]`.
//!
//! Prints the median of several builds, leaf hashing included, on one thread and on all.

use std::time::{Duration, Instant};

use cairn_types::tree::{BatchTree, batch_leaves};
use cairn_types::{Hash, TreeKind};

const RUNS: usize = 7;

/// Salts and digests, one after the other, as a client holds them.
fn rows(count: u64) -> Vec<[u8; 48]> {
    let row = |i: u64| {
        let mut row = [7; 48];
        row[16..24].copy_from_slice(&i.to_le_bytes());
        row
    };
    (0..count).map(row).collect()
}

fn build(rows: &[[u8; 48]], kind: TreeKind) -> Hash {
    BatchTree::new(kind, batch_leaves(kind, rows)).map(|tree| tree.root()).unwrap_or_default()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn measure(
    rows: &[[u8; 48]],
    kind: TreeKind,
    threads: usize,
) -> Result<Duration, rayon::ThreadPoolBuildError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let run = || {
        let started = Instant::now();
        std::hint::black_box(pool.install(|| build(rows, kind)));
        started.elapsed()
    };
    Ok(median((0..RUNS).map(|_| run()).collect()))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let log2: u32 = std::env::args().nth(1).map_or(Ok(20), |text| text.parse())?;
    let count = 1u64 << log2.min(28);
    let all = std::thread::available_parallelism()?.get();
    let rows = rows(count);
    println!("{count} leaves with salts, median of {RUNS}");
    for kind in [TreeKind::CairnB3V1, TreeKind::Rfc9162Sha256] {
        for threads in [1, all] {
            let took = measure(&rows, kind, threads)?;
            println!("{:<16} {threads} thread(s)  {:>7.1} ms", kind.name(), took.as_secs_f64() * 1e3);
        }
    }
    Ok(())
}
