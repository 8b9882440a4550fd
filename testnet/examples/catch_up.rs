//! How fast a new node catches up with a chain of real blocks while the validators go on. `scripts/catch_up.sh` runs it.
//!
//! Usage: `catch_up CAIRN_BINARY [BLOCKS]`. Four validators make BLOCKS blocks as fast as they can, then a follower that
//! keeps everything begins from nothing. Ends with 1 when it does not catch up five times as fast as the
//! blocks were made, when the validators stop meanwhile, or when an invariant is violated.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cairn_testnet::anchoring::{Anchorer, Wait, request};
use cairn_testnet::create::Options;
use cairn_testnet::{LocalNetwork, NodeApi, invariants};
use cairn_types::{Genesis, Params, Scheme};

/// Submitters, so that a block never waits for a transaction.
const SUBMITTERS: u16 = 8;
/// Longest the whole chain may take to be made, for each block.
const BLOCK_PATIENCE: Duration = Duration::from_secs(2);
/// How much faster than they were made the blocks must come.
const RATIO_MIN: f64 = 5.0;
/// As far behind as a follower of a growing chain is at any moment.
const CLOSE: u64 = 8;

async fn submit(api: NodeApi, genesis: Genesis, stop: Arc<AtomicBool>) {
    let Ok(anchorer) = Anchorer::new(genesis, Scheme::Dilithium3) else { return };
    while !stop.load(Ordering::Relaxed) {
        let Ok(signed) = anchorer.transaction() else { return };
        // A full pool is no fault here.
        let _ = api.post(request(&signed, Wait::Final(Duration::from_secs(10)))).await;
    }
}

async fn height(api: &NodeApi) -> anyhow::Result<u64> {
    invariants::height(api).await.context("a node does not answer")
}

async fn reach(api: &NodeApi, wanted: u64, patience: Duration) -> anyhow::Result<Duration> {
    let began = Instant::now();
    while invariants::height(api).await.is_none_or(|height| height < wanted) {
        if began.elapsed() > patience {
            bail!("height {wanted} was not reached within {} s", patience.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(began.elapsed())
}

async fn run(network: &mut LocalNetwork, genesis: &Genesis, blocks: u64) -> anyhow::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for at in 0..SUBMITTERS {
        tokio::spawn(submit(network.api(at % 4)?, genesis.clone(), Arc::clone(&stop)));
    }
    let first = network.api(0)?;
    let patience = BLOCK_PATIENCE * u32::try_from(blocks)?;
    let made = reach(&first, blocks, patience).await?;
    let pace = blocks as f64 / made.as_secs_f64();
    println!("{blocks} blocks made in {:.1} s, {pace:.0} a second", made.as_secs_f64());

    let follower = network.add_follower()?;
    network.start_node(follower)?;
    let api = network.api(follower)?;
    reach(&api, 1, patience).await?;
    let (began, from) = (Instant::now(), height(&api).await?);
    let before = height(&first).await?;
    let took = loop {
        let (own, top) = (height(&api).await?, height(&first).await?);
        if own + CLOSE >= top {
            break began.elapsed();
        }
        if began.elapsed() > patience {
            bail!("the follower is at {own}, the chain at {top}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let (reached, after) = (height(&api).await?, height(&first).await?);
    stop.store(true, Ordering::Relaxed);
    let rate = (reached - from) as f64 / took.as_secs_f64();
    println!(
        "a new node caught up {} blocks in {:.1} s, {rate:.0} a second, {:.1} times the pace they were made at; the \
         validators made {} more meanwhile",
        reached - from,
        took.as_secs_f64(),
        rate / pace,
        after - before
    );
    if after <= before {
        bail!("the validators stopped");
    }
    if rate < RATIO_MIN * pace {
        bail!("less than {RATIO_MIN} times the pace");
    }
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let binary = arguments.next().context("usage: catch_up CAIRN_BINARY [BLOCKS]")?;
    let blocks: u64 =
        arguments.next().map_or(Ok(5_000), |text| text.parse()).context("BLOCKS is a number")?;
    let scratch = std::env::temp_dir().join(format!("cairn-catch-up-{}", std::process::id()));
    let params = Params { interval_min_ms: 0, ..Params::default() };
    let options = Options { validators: 4, base_port: 0, params, ..Options::new(&scratch) };
    let mut network = LocalNetwork::create(&options, Path::new(&binary))?;
    let genesis = cairn_genesis::load(&network.layout().genesis())?;
    network.start_all()?;
    network.wait_ready(network.nodes(), Duration::from_secs(30)).await?;
    let mut outcome = run(&mut network, &genesis, blocks).await;
    if outcome.is_ok() {
        let mut anchorer = Anchorer::new(genesis, Scheme::Dilithium3)?;
        outcome = match invariants::check(&network, &mut anchorer).await {
            Ok(checked) => {
                println!("{} heights alike on {} nodes", checked.heights, checked.nodes);
                Ok(())
            }
            Err(violations) => Err(anyhow::anyhow!(violations)),
        };
    }
    network.stop_all()?;
    outcome.with_context(|| format!("the network's logs are kept in {}", scratch.display()))?;
    network.clean()?;
    Ok(())
}
