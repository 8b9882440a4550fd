//! Measures the batch tree: `cargo run --release -p cairn-types --example batch_tree [log2 of the leaves]`.
//!
//! Prints the median of several builds, leaf hashing included, on one thread and on all.

use std::time::{Duration, Instant};

use cairn_types::tree::{BatchTree, batch_leaf};
use cairn_types::{Hash, TreeKind};

const RUNS: usize = 7;

fn build(count: u64, kind: TreeKind) -> Hash {
    let salt = [7; 16];
    let leaves = (0..count).map(|i| {
        let mut item = [0; 32];
        item[..8].copy_from_slice(&i.to_le_bytes());
        batch_leaf(kind, &salt, &Hash(item))
    });
    BatchTree::new(kind, leaves.collect()).map(|tree| tree.root()).unwrap_or_default()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn measure(count: u64, kind: TreeKind, threads: usize) -> Result<Duration, rayon::ThreadPoolBuildError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let run = || {
        let started = Instant::now();
        std::hint::black_box(pool.install(|| build(count, kind)));
        started.elapsed()
    };
    Ok(median((0..RUNS).map(|_| run()).collect()))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let log2: u32 = std::env::args().nth(1).map_or(Ok(20), |text| text.parse())?;
    let count = 1u64 << log2.min(28);
    let all = std::thread::available_parallelism()?.get();
    println!("{count} leaves with salts, median of {RUNS}");
    for kind in [TreeKind::CairnB3V1, TreeKind::Rfc9162Sha256] {
        for threads in [1, all] {
            let took = measure(count, kind, threads)?;
            println!("{:<16} {threads} thread(s)  {:>7.1} ms", kind.name(), took.as_secs_f64() * 1e3);
        }
    }
    Ok(())
}
