//! How fast a new node joins a chain with a snapshot of its peers, and how fast by replaying every block, while the
//! validators go on. `scripts/join.sh` runs it.
//!
//! Usage: `join CAIRN_BINARY [BLOCKS]`. Four validators under load make BLOCKS blocks, and snapshots meanwhile; then a
//! node that keeps everything begins from nothing, and after it one that may begin with a snapshot. Ends with 1 when
//! either does not arrive, or not in its own way.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cairn_testnet::anchoring::{Anchorer, Wait, request};
use cairn_testnet::create::Options;
use cairn_testnet::{LocalNetwork, NodeApi, invariants};
use cairn_types::{Genesis, Params, Scheme};
use serde_json::json;

/// Submitters, so that a block never waits for a transaction.
const SUBMITTERS: u16 = 8;
/// Longest the chain may take to be made, or to be fetched, for each block.
const BLOCK_PATIENCE: Duration = Duration::from_secs(2);
/// As far behind as a follower of a growing chain is at any moment.
const CLOSE: u64 = 8;
/// Snapshots are made as often as it takes for one to be at hand.
const SNAPSHOTS: u64 = 10;

async fn submit(api: NodeApi, genesis: Genesis, stop: Arc<AtomicBool>) {
    let Ok(anchorer) = Anchorer::new(genesis, Scheme::Dilithium3) else { return };
    while !stop.load(Ordering::Relaxed) {
        let Ok(signed) = anchorer.transaction() else { return };
        // A full pool is no fault here.
        let _ = api.post(request(&signed, Wait::Final(Duration::from_secs(10)))).await;
    }
}

/// Lets a stopped node's configuration go on with `config`.
fn configure(network: &LocalNetwork, node: u16, config: &str) -> anyhow::Result<()> {
    let path = network.layout().node(node).home.join("config.toml");
    let text = std::fs::read_to_string(&path)?;
    Ok(std::fs::write(path, format!("{text}\n{config}"))?)
}

/// Starts a new node with `config`: how long it takes until it is as high as the chain, and its earliest block.
async fn arrival(
    network: &mut LocalNetwork,
    config: &str,
    patience: Duration,
) -> anyhow::Result<(Duration, u64)> {
    let node = network.add_follower()?;
    configure(network, node, config)?;
    let (api, first) = (network.api(node)?, network.api(0)?);
    let before = invariants::height(&first).await.context("the validators stopped")?;
    network.start_node(node)?;
    let began = Instant::now();
    let took = loop {
        let (own, top) = (invariants::height(&api).await, invariants::height(&first).await);
        if let (Some(own), Some(top)) = (own, top)
            && own + CLOSE >= top
        {
            break began.elapsed();
        }
        if began.elapsed() > patience {
            bail!("the new node is at {own:?}, the chain at {top:?}\n{}", network.log_tail(node));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let (status, after) =
        (api.call("chain_status", json!({})).await?, invariants::height(&first).await.unwrap_or_default());
    println!(
        "{config:?}: at height {} after {:.1} s, blocks from {} on are here; the validators made {} meanwhile",
        status["height"],
        took.as_secs_f64(),
        status["earliest"],
        after.saturating_sub(before)
    );
    network.stop_node(node)?;
    Ok((took, status["earliest"].as_u64().context("chain_status says no earliest block")?))
}

async fn run(network: &mut LocalNetwork, genesis: &Genesis, blocks: u64) -> anyhow::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for at in 0..SUBMITTERS {
        tokio::spawn(submit(network.api(at % 4)?, genesis.clone(), Arc::clone(&stop)));
    }
    let patience = BLOCK_PATIENCE * u32::try_from(blocks)?;
    let began = Instant::now();
    if !invariants::reaches(&network.api(0)?, blocks, patience).await {
        bail!("{blocks} blocks were not made in {} s", patience.as_secs());
    }
    println!("{blocks} blocks made in {:.1} s", began.elapsed().as_secs_f64());
    let (replayed, first) = arrival(network, "", patience).await?;
    let joining = format!("[state]\nrole = \"prover\"\n[snapshots]\njoin_blocks = {}\n", blocks / 2);
    let (joined, above) = arrival(network, &joining, patience).await?;
    stop.store(true, Ordering::Relaxed);
    if first > 1 || above <= 1 {
        bail!(
            "by replay the earliest block is {first}, with a snapshot {above}: one of them came another way"
        );
    }
    let [replayed, joined] = [replayed, joined].map(|took| took.as_secs_f64());
    println!(
        "{replayed:.1} s by replay, {joined:.1} s with a snapshot: {:.1} times as fast",
        replayed / joined
    );
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let binary = arguments.next().context("usage: join CAIRN_BINARY [BLOCKS]")?;
    let blocks: u64 =
        arguments.next().map_or(Ok(5_000), |text| text.parse()).context("BLOCKS is a number")?;
    let scratch = std::env::temp_dir().join(format!("cairn-join-{}", std::process::id()));
    let params = Params { interval_min_ms: 0, ..Params::default() };
    let options = Options { validators: 4, base_port: 0, params, ..Options::new(&scratch) };
    let mut network = LocalNetwork::create(&options, Path::new(&binary))?;
    for node in 0..4 {
        configure(&network, node, &format!("[snapshots]\nevery_blocks = {}\n", blocks / SNAPSHOTS))?;
    }
    let genesis = cairn_genesis::load(&network.layout().genesis())?;
    network.start_all()?;
    network.wait_ready(network.nodes(), Duration::from_secs(30)).await?;
    let outcome = run(&mut network, &genesis, blocks).await;
    network.stop_all()?;
    outcome.with_context(|| format!("the network's logs are kept in {}", scratch.display()))?;
    network.clean()?;
    Ok(())
}
