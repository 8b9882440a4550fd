//! `cairn audit`: executes a node's chain again, and says what is wrong.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use cairn_client::Client;
use cairn_state::{MemoryStorage, RocksStorage, State, Storage, Unsynced};
use cairn_types::Genesis;
use clap::Args;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::audit::{AuditFault, AuditJournal, AuditMetrics, Auditor, Finding, Progress, alert};
use crate::cli::output::{count, pairs};
use crate::cli::rpc::{NodeArgs, block_on_all_cores};
use crate::cli::trust::GenesisArgs;
use crate::cli::{Common, user_config};
use crate::exit::{Exit, WithExit};

/// Tries of one call before the node counts as silent.
const TRIES: usize = 4;
/// Pause between two looks at a node that has nothing new, or does not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// Memory for the audit's own database.
const CACHE_BYTES: usize = 64 << 20;

/// `cairn audit`.
#[derive(Debug, Args)]
#[command(after_help = "\
Believes nothing: every transaction's signatures, every block, every certificate by its epoch's validators, every
record of the log, and the node's proofs that its logs only grow are checked against a state of the audit's own,
executed from the genesis. It resumes where it was; a node that then shows another history is found out.

Examples:
  cairn audit --genesis genesis.json --url http://node.example:26657
  cairn audit --follow --webhook http://127.0.0.1:9000/alert --metrics 127.0.0.1:9100

Exit codes: 0 all is as it should be, 1 something is wrong (height and index are named), 3 the node did not answer.")]
pub(crate) struct AuditArgs {
    /// Where state and journal are kept [default: audit/ beside the sender key, one folder for each chain]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Keep the state in memory: each run begins at the genesis; the journal is kept
    #[arg(long)]
    memory: bool,
    /// Go on as the chain grows, until something is wrong
    #[arg(long)]
    follow: bool,
    /// POST a JSON object here when something is wrong (plain HTTP)
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,
    /// Serve Prometheus metrics here
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    genesis: GenesisArgs,
}

/// What a whole run did.
#[derive(Default)]
struct Totals {
    blocks: u64,
    proofs: u64,
}

pub(crate) fn run(common: &Common, args: &AuditArgs) -> anyhow::Result<Exit> {
    block_on_all_cores(audit(common, args))
}

async fn audit(common: &Common, args: &AuditArgs) -> anyhow::Result<Exit> {
    let url = args.node.url(common)?;
    let client = Client::connect(&url).exit_with(Exit::Usage)?.with_tries(TRIES);
    let genesis = args.genesis.for_node(common, &client).await.exit_with_silence()?;
    let client = client.with_genesis(genesis.clone())?;
    let chain = genesis.chain();
    let data = args.data.clone().unwrap_or_else(|| user_config().join("audit").join(chain.to_string()));
    let journal = AuditJournal::open(&data.join("audit.jsonl"), chain)?;
    let state = open_state(args, &data, &genesis)?;
    let mut registry = Registry::default();
    let metrics = AuditMetrics::register(&mut registry);
    if let Some(address) = args.metrics {
        cairn_rpc::serve_metrics(address, Arc::new(registry), CancellationToken::new()).await?;
    }
    let began = Instant::now();
    let mut totals = Totals::default();
    let outcome = match Auditor::resume(client, &genesis, state, journal).await {
        Ok(mut auditor) => {
            let outcome = follow(common, args, &mut auditor, &metrics, &mut totals).await;
            if let Err(AuditFault::Wrong(finding)) = &outcome {
                auditor.record(finding)?;
            }
            outcome
        }
        Err(fault) => Err(fault),
    };
    match outcome {
        Ok(height) => {
            report(common, &totals, height, began.elapsed(), None);
            Ok(Exit::Yes)
        }
        Err(AuditFault::Wrong(finding)) => {
            metrics.found();
            report(common, &totals, finding.height.get(), began.elapsed(), Some(&finding));
            if let Some(webhook) = &args.webhook {
                alert(webhook, &chain.to_string(), &url, &finding).await;
            }
            Ok(Exit::No)
        }
        Err(AuditFault::NoAnswer(fault)) => Err(fault).exit_with(Exit::NotFinal),
        Err(AuditFault::Own(error)) => Err(error),
    }
}

fn open_state(args: &AuditArgs, data: &std::path::Path, genesis: &Genesis) -> anyhow::Result<State> {
    let storage: Arc<dyn Storage> = if args.memory {
        Arc::new(MemoryStorage::new())
    } else {
        let place = data.join("state");
        std::fs::create_dir_all(&place).with_context(|| format!("cannot create {}", place.display()))?;
        Arc::new(RocksStorage::open_with(place, CACHE_BYTES, Unsynced::Stays)?)
    };
    Ok(State::open(storage, genesis)?)
}

/// Audits until nothing is new, or, following, until something is wrong. Gives the height it came to.
async fn follow(
    common: &Common,
    args: &AuditArgs,
    auditor: &mut Auditor,
    metrics: &AuditMetrics,
    totals: &mut Totals,
) -> Result<u64, AuditFault> {
    let bar = common.output().spinner("auditing");
    loop {
        match auditor.batch().await {
            Ok(progress) => {
                metrics.advanced(&progress);
                totals.add(&progress);
                bar.set_message(format!("auditing: block {} of {}", progress.height, progress.latest));
                if progress.blocks > 0 {
                    continue;
                }
                if !args.follow {
                    bar.finish_and_clear();
                    return Ok(auditor.height().get());
                }
            }
            Err(AuditFault::NoAnswer(fault)) if args.follow => {
                metrics.unanswered();
                common.output().note(&format!("{fault}; trying again"));
            }
            Err(fault) => {
                bar.finish_and_clear();
                return Err(fault);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Totals {
    fn add(&mut self, progress: &Progress) {
        self.blocks += progress.blocks;
        self.proofs += progress.proofs;
    }
}

fn report(common: &Common, totals: &Totals, height: u64, took: Duration, finding: Option<&Finding>) {
    let seconds = took.as_secs_f64();
    let rate = |number: u64| if seconds > 0.0 { number as f64 / seconds } else { 0.0 };
    let verdict = match finding {
        None => format!("all is as it should be up to block {height}"),
        Some(finding) => format!("WRONG: {finding}"),
    };
    let rows = [
        ("verdict", verdict),
        ("blocks", format!("{} executed again, {:.0}/s", totals.blocks, rate(totals.blocks))),
        (
            "proofs",
            format!("{} compared and proven, {:.0}/s", count(totals.proofs, "record"), rate(totals.proofs)),
        ),
    ];
    let value = json!({
        "valid": finding.is_none(),
        "height": height,
        "blocks": totals.blocks,
        "proofs": totals.proofs,
        "seconds": seconds,
        "blocks_per_second": rate(totals.blocks),
        "proofs_per_second": rate(totals.proofs),
        "finding": finding.map(Finding::to_json),
    });
    common.output().show(&pairs(rows), &value);
}

/// A node that cannot be reached says nothing about the chain.
trait Silence<T> {
    fn exit_with_silence(self) -> anyhow::Result<T>;
}

impl<T> Silence<T> for anyhow::Result<T> {
    fn exit_with_silence(self) -> Self {
        self.or_else(|error| {
            let silent = error.chain().any(|cause| {
                matches!(cause.downcast_ref(), Some(cairn_client::ClientFault::Unreachable { .. }))
            });
            if silent { Err(error).exit_with(Exit::NotFinal) } else { Err(error) }
        })
    }
}
