//! Kills real validators under load, again and again, at random moments and at named points of a block's life, and
//! checks after every few crashes that nothing was lost or contradicted. `scripts/crash_loop.sh` runs it.
//!
//! Usage: `crash_loop CAIRN_BINARY [CRASHES] [SEED]`. Every tenth crash takes all nodes at once, half of these at the
//! very moment one of them dies at a named point. In the second half of the run each death is also a power
//! loss: what a node had not synced is gone. Ends with 1 at the first node that is not ready in time, and at
//! the first violated invariant.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cairn_testnet::anchoring::{Anchorer, Wait, request};
use cairn_testnet::create::Options;
use cairn_testnet::rehearsal::{Loss, Point, Rehearsal};
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
/// Every so many crashes take all nodes.
const ALL_EVERY: u64 = 10;
/// Longest random pause before a crash, ms.
const PAUSE_MS_MAX: u64 = 400;
/// A node meets every point some times a second under load: whoever lives longer than this does not meet it.
const POINT_PATIENCE: Duration = Duration::from_secs(20);
/// A node dies when it passes its point for the n-th time, n at most this.
const PASS_MAX: u64 = 60;

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

/// What was done to the network.
#[derive(Default)]
struct Tally {
    /// Deaths by point; random moments under the empty name.
    deaths: BTreeMap<&'static str, u64>,
    power_losses: u64,
    all_at_once: u64,
    slowest: Duration,
    total: Duration,
}

struct Crashes {
    network: LocalNetwork,
    random: StdRng,
    tally: Tally,
    /// What each running node is to die of.
    fates: BTreeMap<u16, Rehearsal>,
}

impl Crashes {
    /// Lets `victim` die at its point, if it has one; kills those of `nodes` that live, starts them and whoever has
    /// died meanwhile with new fates, and waits until they are ready.
    async fn crash(&mut self, victim: u16, nodes: &[u16], power: bool) -> anyhow::Result<()> {
        if self.fates.get(&victim).is_some_and(|fate| fate.die_at.is_some()) {
            self.dies(victim).await;
        }
        let nodes: Vec<u16> =
            self.network.nodes().filter(|node| nodes.contains(node) || self.is_dead(*node)).collect();
        for node in &nodes {
            let alive = !self.is_dead(*node);
            if alive {
                self.network.kill_node(*node)?;
            }
            self.count(*node, alive);
        }
        let began = Instant::now();
        for node in &nodes {
            self.start(*node, power)?;
        }
        let mut slowest = Duration::ZERO;
        for node in &nodes {
            slowest = slowest.max(self.ready(*node, began).await?);
        }
        self.tally.slowest = self.tally.slowest.max(slowest);
        self.tally.total += slowest;
        Ok(())
    }

    /// Waits until a node is ready; gives how long that took since `began`, or since others were started. Without
    /// a quorum it cannot be: whoever meets its point meanwhile, itself or another, is started again without one.
    async fn ready(&mut self, node: u16, began: Instant) -> anyhow::Result<Duration> {
        let mut began = began;
        loop {
            let fault = match self.network.wait_ready([node], READY_WITHIN).await {
                Ok(_) => return Ok(began.elapsed()),
                Err(fault) => fault,
            };
            let fated = |node: &u16| self.fates.get(node).is_some_and(|fate| fate.die_at.is_some());
            let met: Vec<u16> =
                self.network.nodes().filter(|node| self.is_dead(*node) && fated(node)).collect();
            if met.is_empty() {
                return Err(fault.into());
            }
            began = Instant::now();
            for node in met {
                self.count(node, false);
                let fate = self.fates.entry(node).or_default();
                fate.die_at = None;
                let rehearsal = (*fate != Rehearsal::default()).then_some(*fate);
                self.network.start_rehearsing(node, rehearsal)?;
            }
        }
    }

    fn is_dead(&self, node: u16) -> bool {
        self.network.pid(node).is_none()
    }

    /// Counts a death: at its point, or killed at a random moment.
    fn count(&mut self, node: u16, killed: bool) {
        let fate = self.fates.get(&node).copied().unwrap_or_default();
        let name = fate.die_at.filter(|_| !killed).map_or("", |(point, _)| point.name());
        *self.tally.deaths.entry(name).or_default() += 1;
        self.tally.power_losses += u64::from(fate.loss != Loss::Nothing);
    }

    /// Starts a node, half of the time with a point to die at.
    fn start(&mut self, node: u16, power: bool) -> anyhow::Result<()> {
        let point = Point::OF_BLOCKS[self.random.random_range(0..Point::OF_BLOCKS.len())];
        let pass = self.random.random_range(1..=PASS_MAX);
        let die_at = self.random.random_bool(0.5).then_some((point, pass));
        let loss = match power {
            true if self.random.random_bool(0.5) => Loss::Bodies,
            true => Loss::Unsynced,
            false => Loss::Nothing,
        };
        let fate = Rehearsal { loss, die_at };
        self.fates.insert(node, fate);
        let rehearsal = (fate != Rehearsal::default()).then_some(fate);
        Ok(self.network.start_rehearsing(node, rehearsal)?)
    }

    /// Waits a while for a node to die by itself.
    async fn dies(&self, node: u16) {
        let until = Instant::now() + POINT_PATIENCE;
        while Instant::now() < until && !self.is_dead(node) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn check(&mut self, anchorer: &mut Anchorer, done: u64) -> anyhow::Result<()> {
        // A check wants every node alive: those that wait for their points are killed and started without.
        for node in self.network.nodes() {
            let alive = !self.is_dead(node);
            if alive {
                self.network.kill_node(node)?;
            }
            self.count(node, alive);
            self.fates.remove(&node);
            self.network.start_node(node)?;
        }
        self.network.wait_ready(self.network.nodes(), READY_WITHIN).await?;
        match invariants::check(&self.network, anchorer).await {
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

    async fn run(&mut self, anchorer: &mut Anchorer, crashes: u64) -> anyhow::Result<()> {
        for done in 1..=crashes {
            let pause = self.random.random_range(0..PAUSE_MS_MAX);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let victim = self.random.random_range(0..VALIDATORS);
            let all = done % ALL_EVERY == 0;
            let nodes = if all { self.network.nodes().collect() } else { vec![victim] };
            self.tally.all_at_once += u64::from(all);
            self.crash(victim, &nodes, done * 2 > crashes).await?;
            if done % CHECK_EVERY == 0 || done == crashes {
                self.check(anchorer, done).await?;
            }
        }
        Ok(())
    }
}

fn report(crashes: u64, tally: &Tally, accepted: u64) {
    println!(
        "{crashes} of {crashes} crashes recovered, {} of all nodes at once: ready after {:.2} s on average, {:.2} s at \
         most; {accepted} transactions accepted meanwhile; {} deaths, {} of them power losses:",
        tally.all_at_once,
        tally.total.as_secs_f64() / crashes.max(1) as f64,
        tally.slowest.as_secs_f64(),
        tally.deaths.values().sum::<u64>(),
        tally.power_losses,
    );
    for (point, deaths) in &tally.deaths {
        let point = if point.is_empty() { "a random moment" } else { point };
        println!("  {deaths:4} at {point}");
    }
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
    let (random, tally, fates) = (StdRng::seed_from_u64(seed), Tally::default(), BTreeMap::new());
    let mut loop_ = Crashes { network, random, tally, fates };
    let outcome = loop_.run(&mut anchorer, crashes).await;
    load.stop.store(true, Ordering::Relaxed);
    loop_.network.stop_all()?;
    outcome.with_context(|| format!("the network's logs are kept in {}", scratch.display()))?;
    report(crashes, &loop_.tally, load.accepted.load(Ordering::Relaxed));
    loop_.network.clean()?;
    Ok(())
}
