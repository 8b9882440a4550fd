//! `cairn testnet run MANIFEST`: an experiment of the simulator (`docs/SIMULATOR.md`) with real processes: real
//! disks, real signatures, real time, and [`crate::links`] for the network. What only a simulator can do is
//! refused by name, never left out silently.

mod clients;
mod faults;
mod plan;
mod results;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use cairn_sim::Manifest;
use cairn_types::Scheme;
use clap::Args;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::anchoring::Anchorer;
use crate::invariants::{self, Checked};
use crate::links::Links;
use crate::load::parse_scheme;
use crate::network::{LocalNetwork, READY_PATIENCE};
use clients::Submission;
use results::Results;

/// How long after the run what was submitted may still become final.
const DRAIN_PATIENCE: Duration = Duration::from_secs(30);

/// What to run, and where results go.
#[derive(Args, Clone, Debug)]
pub struct ExperimentArgs {
    /// The experiment, a TOML file (docs/SIMULATOR.md)
    manifest: PathBuf,
    /// Where results go [default: testnet-results/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Signature scheme of validators and clients: dilithium3 or ml-dsa-65
    #[arg(long, value_name = "SCHEME", default_value = "dilithium3", value_parser = parse_scheme)]
    scheme: Scheme,
}

/// What a run showed.
struct Observed {
    submissions: Vec<Submission>,
    /// The invariants that can be seen from outside, or how they were violated.
    checked: Result<Checked, String>,
    /// Bytes from each node to each other one.
    bytes: Vec<(u16, u16, u64)>,
    /// Views given up by a quorum, as the node that saw most of them counts.
    timeouts: u64,
    headers: Vec<serde_json::Value>,
    /// When the first transaction could be due, Unix milliseconds.
    started_ms: u64,
}

/// Runs the experiment and writes its folder. `Ok(false)` when an invariant or an assertion does not hold.
///
/// # Errors
/// A manifest that is refused, a network that does not start, a folder that cannot be written.
pub async fn run(args: &ExperimentArgs, binary: &Path, as_json: bool) -> Result<bool> {
    let manifest = Manifest::read(&args.manifest)?;
    plan::check(&manifest).map_err(|why| anyhow!("{}: {why}", args.manifest.display()))?;
    let folder = args.out.clone().unwrap_or_else(|| Path::new("testnet-results").join(&manifest.name));
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let home = folder.join("network");
    if home.exists() {
        bail!("{} is left from a run that failed: look at its logs, then remove it", home.display());
    }
    let network = plan::create(&manifest, &home, args.scheme, binary)?;
    let network = Arc::new(Mutex::new(network));
    let observed = observe(&manifest, &network, args.scheme, as_json).await;
    let stopped = network.lock().stop_all();
    let observed = observed?;
    stopped?;
    let command = rerun_command(args);
    let results = Results::of(&manifest, &observed, &command);
    results.write(&folder)?;
    if results.is_good() {
        std::fs::remove_dir_all(&home).with_context(|| format!("cannot remove {}", home.display()))?;
    }
    results.print(&folder, as_json);
    Ok(results.is_good())
}

fn rerun_command(args: &ExperimentArgs) -> String {
    let mut command = format!("cairn testnet run {}", args.manifest.display());
    if let Some(out) = &args.out {
        command.push_str(&format!(" --out {}", out.display()));
    }
    if args.scheme != Scheme::Dilithium3 {
        command.push_str(&format!(" --scheme {}", args.scheme.name()));
    }
    command
}

/// From starting the processes to the last check, with everything healed in the end.
async fn observe(
    manifest: &Manifest,
    network: &Arc<Mutex<LocalNetwork>>,
    scheme: Scheme,
    quiet: bool,
) -> Result<Observed> {
    let bandwidth = manifest.net.bandwidth.0.map(|bits| bits / 8);
    let view = network.lock().view();
    let links = Arc::new(Links::start(&view, bandwidth).await?);
    let ways = plan::set_links(manifest, &links).map_err(|why| anyhow!(why))?;
    network.lock().start_all()?;
    let nodes = ready(network).await?;
    let first = network.lock().api(0)?;
    let chain = first.chain().await.map_err(|fault| anyhow!("node 0 does not answer: {fault}"))?;
    if !quiet {
        let (name, seconds) = (&manifest.name, manifest.duration.as_secs_f64());
        eprintln!("{name}: {nodes} processes, {seconds:.0} s of load and faults in real time ...");
    }
    let apis = (0..nodes).map(|node| network.lock().api(node)).collect::<Result<Vec<_>, _>>()?;
    let clients = clients::Clients::prepare(manifest, chain, scheme, &apis).await?;
    let (started, started_ms) = (Instant::now(), crate::clock::unix_ms());
    let faults = faults::Faults::new(manifest, Arc::clone(network), Arc::clone(&links), ways, quiet);
    let breaking = tokio::spawn(faults.play(started));
    clients.submit(started).await;
    breaking.await??;
    ready(network).await?;
    clients.drain(started, DRAIN_PATIENCE).await;
    let genesis = cairn_genesis::load(&network.lock().layout().genesis())?;
    let mut anchorer = Anchorer::new(genesis, scheme)?;
    let checked = invariants::check(&view, &mut anchorer).await;
    let pairs = (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to)));
    Ok(Observed {
        submissions: clients.submissions(),
        checked,
        bytes: pairs.map(|(from, to)| (from, to, links.delivered(from, to))).collect(),
        timeouts: results::timeouts(&view).await,
        headers: results::headers(&apis[0]).await?,
        started_ms,
    })
}

/// Waits until every node is ready; how many there are.
async fn ready(network: &Arc<Mutex<LocalNetwork>>) -> Result<u16> {
    let mut view = network.lock().view();
    let nodes = view.manifest().nodes();
    view.wait_ready(0..nodes, READY_PATIENCE).await?;
    Ok(nodes)
}
