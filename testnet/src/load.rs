//! `cairn load`: PROOF transactions at an open-loop rate. Transaction `i` is due at `start + i / rate` whether
//! or not earlier ones were answered, and its latency counts from that moment, so a network that stalls
//! is charged for everything that should have been sent meanwhile (no coordinated omission).
//!
//! Everything is signed and encoded before the first one is due, so that signing does not compete with the
//! nodes for the processor. Finality is seen through one node's stream of final blocks: one connection,
//! transaction ids only.

pub(crate) mod finality;
mod measure;
mod sending;
pub(crate) mod signing;
mod single;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use cairn_types::{ChainId, Scheme};

use crate::api::NodeApi;
use crate::layout::{Layout, Manifest};
use crate::process;

pub use measure::{Latency, LoadReport, NodeUse};
pub use single::SingleReport;

/// Transactions signed ahead, at most: at about 8 kB each this bounds memory.
const TRANSACTIONS_MAX: u64 = 200_000;
/// How long after the last one is due a transaction may still become final and count.
const DRAIN_PATIENCE: Duration = Duration::from_secs(20);
/// Senders at most: each signs, and may be registered, on its own.
const SENDERS_MAX: u16 = 256;
/// Connections to one node, at most: so many let a flood reach the bounds of a node.
const CONNECTIONS_MAX: u16 = 4_096;
/// Longest run: transactions are signed for the moment they are due, and expire.
const SECONDS_MAX: u64 = 600;

/// What to send where.
#[derive(clap::Args, Clone, Debug)]
pub struct LoadArgs {
    /// JSON-RPC address of a node; give several to spread the load [default: the running validators of --dir]
    #[arg(long, value_name = "URL")]
    pub url: Vec<String>,
    /// Directory of a local network: its nodes' CPU and memory are measured
    #[arg(long, value_name = "DIR", default_value = ".testnet")]
    pub dir: PathBuf,
    /// Transactions per second, sent on time whether or not the network keeps up
    #[arg(long, value_name = "N", default_value_t = 500.0)]
    pub rate: f64,
    /// Seconds measured
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    pub duration: u64,
    /// Seconds sent before measuring begins
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub warmup: u64,
    /// Different signing keys
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub senders: u16,
    /// Register the senders first: transactions then name their key instead of carrying it, and are 2 kB shorter
    #[arg(long)]
    pub registered: bool,
    /// Connections to each node: so many submissions can be unanswered at one moment
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub connections: u16,
    /// Proofs in each transaction
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub proofs: u16,
    /// Bytes of metadata in each proof
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub metadata: u16,
    /// The senders' signature scheme: dilithium3 or ml-dsa-65
    #[arg(long, value_name = "SCHEME", default_value = "dilithium3", value_parser = parse_scheme)]
    pub scheme: Scheme,
    /// Instead: N anchors one after another on an idle network, each timed from submission to receipt
    #[arg(long, value_name = "N")]
    pub single: Option<u32>,
}

/// Who wants to know when transactions become final.
pub(crate) trait Finals: Send + Sync + 'static {
    /// A transaction was seen in a final block, perhaps again. Unknown ids belong to somebody else.
    fn became_final(&self, id: &cairn_types::TxId);
}

/// Reads a scheme's name.
pub(crate) fn parse_scheme(text: &str) -> Result<Scheme, String> {
    Scheme::from_name(text).ok_or_else(|| {
        let known = Scheme::ALL.map(Scheme::name).join(" or ");
        format!("expected {known}")
    })
}

/// The nodes to send to, and the processes to measure.
pub(crate) struct Target {
    pub(crate) apis: Vec<NodeApi>,
    pub(crate) processes: Vec<(u16, u32)>,
    pub(crate) chain: ChainId,
}

/// Sends the load and prints what came of it, with `as_json` as one JSON object.
///
/// # Errors
/// Arguments that make no sense, or a network that cannot be reached.
pub async fn run(args: LoadArgs, as_json: bool) -> Result<()> {
    check(&args)?;
    let target = find_target(&args).await?;
    match args.single {
        Some(count) => {
            let report = single::measure(&args, &target, count).await?;
            print(as_json, &report, &report.to_text());
        }
        None => {
            let report = open_loop(&args, &target, as_json).await?;
            print(as_json, &report, &report.to_text());
            ensure!(report.final_total > 0, "no transaction became final");
        }
    }
    Ok(())
}

fn print<T: serde::Serialize>(as_json: bool, report: &T, text: &str) {
    if as_json {
        println!("{}", serde_json::to_string_pretty(report).unwrap_or_default());
    } else {
        println!("{text}");
    }
}

fn check(args: &LoadArgs) -> Result<()> {
    ensure!(args.rate.is_finite() && args.rate > 0.0, "--rate is {}; expected more than 0", args.rate);
    ensure!(args.duration >= 1, "--duration is 0; expected at least 1 second");
    let seconds = args.duration.saturating_add(args.warmup);
    ensure!(seconds <= SECONDS_MAX, "{seconds} s of load; expected at most {SECONDS_MAX}");
    let planned = planned(args);
    ensure!(
        planned <= TRANSACTIONS_MAX,
        "{planned} transactions would be signed ahead; at most {TRANSACTIONS_MAX} fit: lower --rate or --duration"
    );
    for (name, value, most) in
        [("senders", args.senders, SENDERS_MAX), ("connections", args.connections, CONNECTIONS_MAX)]
    {
        ensure!((1..=most).contains(&value), "--{name} is {value}; expected 1 to {most}");
    }
    let (proofs, metadata) =
        (cairn_types::transaction::PROOFS_MAX, cairn_types::transaction::METADATA_BYTES_MAX);
    ensure!(
        (1..=proofs).contains(&args.proofs.into()),
        "--proofs is {}; expected 1 to {proofs}",
        args.proofs
    );
    ensure!(
        usize::from(args.metadata) <= metadata,
        "--metadata is {}; expected at most {metadata}",
        args.metadata
    );
    Ok(())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be positive and small"
)]
fn planned(args: &LoadArgs) -> u64 {
    let seconds = args.duration.saturating_add(args.warmup);
    (args.rate * seconds as f64).ceil() as u64
}

async fn find_target(args: &LoadArgs) -> Result<Target> {
    let (urls, processes) = match local(&args.dir) {
        Some(found) if args.url.is_empty() => found,
        Some((_, processes)) => (args.url.clone(), processes),
        None if args.url.is_empty() => bail!(
            "no running network in {} and no --url: start one with `cairn testnet up`, or name a node",
            args.dir.display()
        ),
        None => (args.url.clone(), Vec::new()),
    };
    let apis: Vec<NodeApi> = urls.iter().map(|url| NodeApi::new(url)).collect();
    let first = apis.first().context("no node to send to")?;
    let chain = first.chain().await.map_err(|fault| anyhow!("{} does not answer: {fault}", first.url()))?;
    Ok(Target { apis, processes, chain })
}

/// The addresses and processes of the running nodes of a local network; addresses of validators only.
#[expect(clippy::type_complexity, reason = "two lists, named by the caller's pattern")]
fn local(dir: &Path) -> Option<(Vec<String>, Vec<(u16, u32)>)> {
    let layout = Layout::new(dir).ok()?;
    let manifest = Manifest::read(&layout).ok()?;
    let (mut urls, mut processes) = (Vec::new(), Vec::new());
    for node in 0..manifest.nodes() {
        let Some(pid) = process::running(&layout.node(node)) else { continue };
        processes.push((node, pid));
        if node < manifest.validators {
            urls.push(format!("http://127.0.0.1:{}", manifest.ports(node).ok()?.rpc));
        }
    }
    (!urls.is_empty()).then_some((urls, processes))
}

async fn open_loop(args: &LoadArgs, target: &Target, as_json: bool) -> Result<LoadReport> {
    let count = usize::try_from(planned(args))?;
    let senders = if args.registered {
        signing::registered_senders(&target.apis[0], target.chain, args.scheme, args.senders.into()).await?
    } else {
        (0..args.senders).map(|_| signing::new_sender(args.scheme)).collect()
    };
    let plan = signing::Plan {
        chain: target.chain,
        senders,
        proofs: args.proofs.into(),
        metadata: args.metadata.into(),
        interval: Duration::from_secs_f64(args.rate.recip()),
    };
    if !as_json {
        eprintln!("signing {count} transactions of {} sender(s) ahead ...", args.senders);
    }
    let signed = tokio::task::spawn_blocking(move || signing::sign_all(&plan, count)).await??;
    let (ids, bodies): (Vec<_>, Vec<_>) = signed.into_iter().map(|one| (one.id, one.body)).unzip();
    let ledger = Arc::new(measure::Ledger::new(ids, args.rate));
    let follower = finality::follow(target.apis[0].clone(), Arc::clone(&ledger)).await?;
    if !as_json {
        let (rate, warmup, duration, nodes) = (args.rate, args.warmup, args.duration, target.apis.len());
        eprintln!(
            "sending {rate} transactions/s to {nodes} node(s): {warmup} s warm-up, {duration} s measured ..."
        );
    }
    let window = measure::Window::new(args.warmup, args.duration);
    let sampler = tokio::spawn(measure::sample(target.processes.clone(), window, Arc::clone(&ledger)));
    let errors = sending::send_all(&target.apis, args.connections, bodies, &ledger).await?;
    ledger.wait_final(DRAIN_PATIENCE).await;
    follower.abort();
    Ok(ledger.report(args, window, errors, &sampler.await?))
}
