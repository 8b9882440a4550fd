//! Kills real validators with SIGKILL at random moments under load, again and again, and checks after every
//! few crashes that nothing was lost or contradicted. `scripts/crash_loop.sh` runs it.
//!
//! Usage: `crash_loop CAIRN_BINARY [CRASHES] [SEED]`. Every tenth crash takes all nodes at once. Ends with 1 at
//! the first node that is not ready in time, and at the first violated invariant.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cairn_testnet::anchoring::{Anchorer, Wait, request};
use cairn_testnet::create::Options;
use cairn_testnet::{LocalNetwork, NodeApi, invariants};
use cairn_types::{Genesis, Scheme};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Validators of the network.
const VALIDATORS: u16 = 4;
/// A restarted node must be ready within this time, the silence of its key included.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// Crashes between two checks of all invariants.
const CHECK_EVERY: u64 = 20;
/// Longest random pause before a crash, ms.
const PAUSE_MS_MAX: u64 = 400;

/// Submits through every node until told to stop.
#[derive(Default)]
struct Load {
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicU64>,
}

impl Load {
    fn start(network: &LocalNetwork, genesis: &Genesis) -> anyhow::Result<Self> {
        let load = Self::default();
        for node in network.nodes() {
            let anchorer = Anchorer::new(genesis.clone(), Scheme::Dilithium3)?;
            let (stop, accepted) = (Arc::clone(&load.stop), Arc::clone(&load.accepted));
            tokio::spawn(submit(network.api(node)?, anchorer, stop, accepted));
        }
        Ok(load)
    }
}

async fn submit(api: NodeApi, anchorer: Anchorer, stop: Arc<AtomicBool>, accepted: Arc<AtomicU64>) {
    while !stop.load(Ordering::Relaxed) {
        let Ok(signed) = anchorer.transaction() else { return };
        // A node that is down refuses the connection: that is the point.
        let pause = match api.post(request(&signed, Wait::Accepted)).await {
            Ok(_) => {
                accepted.fetch_add(1, Ordering::Relaxed);
                10
            }
            Err(_) => 50,
        };
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

/// Kills the given nodes, starts them again, and gives the time until all are ready.
async fn crash(network: &mut LocalNetwork, nodes: &[u16]) -> anyhow::Result<Duration> {
    for node in nodes {
        network.kill_node(*node)?;
    }
    let began = Instant::now();
    for node in nodes {
        network.start_node(*node)?;
    }
    network.wait_ready(nodes.iter().copied(), READY_WITHIN).await?;
    Ok(began.elapsed())
}

async fn check(network: &LocalNetwork, anchorer: &mut Anchorer, done: u64) -> anyhow::Result<()> {
    match invariants::check(network, anchorer).await {
        Ok(checked) => {
            println!(
                "{done} crashes: {} heights alike on {} nodes, {} receipts verify",
                checked.heights, checked.nodes, checked.receipts
            );
            Ok(())
        }
        Err(violations) => bail!("after {done} crashes:\n{violations}"),
    }
}

/// The whole loop; gives the mean and the longest time until killed nodes were ready again.
async fn run(
    network: &mut LocalNetwork,
    anchorer: &mut Anchorer,
    crashes: u64,
    seed: u64,
) -> anyhow::Result<(f64, f64)> {
    let mut random = StdRng::seed_from_u64(seed);
    let (mut slowest, mut total) = (Duration::ZERO, Duration::ZERO);
    for done in 1..=crashes {
        tokio::time::sleep(Duration::from_millis(random.random_range(0..PAUSE_MS_MAX))).await;
        let all: Vec<u16> = network.nodes().collect();
        let one = [random.random_range(0..VALIDATORS)];
        let took = crash(network, if done % 10 == 0 { &all } else { &one }).await?;
        (slowest, total) = (slowest.max(took), total + took);
        if done % CHECK_EVERY == 0 || done == crashes {
            check(network, anchorer, done).await?;
        }
    }
    Ok((total.as_secs_f64() / crashes.max(1) as f64, slowest.as_secs_f64()))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let binary = arguments.next().context("usage: crash_loop CAIRN_BINARY [CRASHES] [SEED]")?;
    let crashes: u64 =
        arguments.next().map_or(Ok(300), |text| text.parse()).context("CRASHES is a number")?;
    let seed: u64 = arguments.next().map_or(Ok(1), |text| text.parse()).context("SEED is a number")?;
    let scratch = std::env::temp_dir().join(format!("cairn-crash-loop-{}", std::process::id()));
    let options = Options { validators: VALIDATORS, base_port: 0, ..Options::new(&scratch) };
    let mut network = LocalNetwork::create(&options, Path::new(&binary))?;
    let genesis = cairn_genesis::load(&network.layout().genesis())?;
    let mut anchorer = Anchorer::new(genesis.clone(), Scheme::Dilithium3)?;
    println!("{crashes} crashes of seed {seed}, network in {}", scratch.display());
    network.start_all()?;
    network.wait_ready(network.nodes(), READY_WITHIN).await?;
    let load = Load::start(&network, &genesis)?;
    let outcome = run(&mut network, &mut anchorer, crashes, seed).await;
    load.stop.store(true, Ordering::Relaxed);
    network.stop_all()?;
    let (mean, slowest) =
        outcome.with_context(|| format!("the network's logs are kept in {}", scratch.display()))?;
    println!(
        "{crashes} of {crashes} recovered: ready after {mean:.2} s on average, {slowest:.2} s at most; {} transactions accepted meanwhile",
        load.accepted.load(Ordering::Relaxed)
    );
    network.clean()?;
    Ok(())
}
