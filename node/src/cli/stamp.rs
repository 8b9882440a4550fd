//! `cairn stamp`: files to receipts.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cairn_client::{Algorithm, AnchorOptions, Anchored, Client, Item, Pending, Salting, receipt_path};
use clap::Args;
use serde_json::{Value, json};

use crate::cli::digest::of_file;
use crate::cli::output::{bytes, time};
use crate::cli::rpc::{NodeArgs, block_on};
use crate::cli::sender::SenderArgs;
use crate::cli::trust::GenesisArgs;
use crate::cli::{Common, files, user_config};
use crate::exit::{Exit, WithExit};

/// Tries against a node that does not answer before that is said.
const REACH_TRIES: usize = 2;
/// Files in one batch from a command line: bounds the memory of one tree.
const FILES_MAX: usize = 1 << 20;

/// `cairn stamp`.
#[derive(Debug, Args)]
#[command(after_help = "\
All files go into one batch, under one root and one signature. FILE.cairn is written beside each \
file once the root is final and the node's answer has been verified against the genesis.

The sender key is made on first use (~/.config/cairn/sender.json) and asks for a passphrase; \
unattended machines give --passphrase-file or CAIRN_PASSPHRASE_FILE.

Examples:
  cairn stamp model.bin
  cairn stamp results/*.csv --sha256 --url http://node.example:26657
  cairn stamp --resume                 finish what an interruption left

Exit codes: 0 final, 3 accepted but not final yet (cairn stamp --resume goes on).")]
pub(crate) struct StampArgs {
    /// The files
    #[arg(value_name = "FILE", required_unless_present = "resume")]
    files: Vec<PathBuf>,
    /// Hash with SHA-256 in place of BLAKE3
    #[arg(long)]
    sha256: bool,
    /// Your own id for the batch, at most 128 bytes; anyone can read it
    #[arg(long, value_name = "TEXT", default_value = "")]
    reference: String,
    /// Leave out the random salts: whoever holds one receipt can then test guesses of its neighbours' digests
    #[arg(long)]
    no_salt: bool,
    /// Replace receipts that lie beside the files already
    #[arg(long)]
    force: bool,
    /// Finish batches that were sent but whose receipts were not written
    #[arg(long, conflicts_with = "files")]
    resume: bool,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    sender: SenderArgs,
    #[command(flatten)]
    genesis: GenesisArgs,
}

/// A batch that is final.
struct Stamped {
    anchored: Anchored,
    receipts: Vec<PathBuf>,
    took: Duration,
}

pub(crate) fn run(common: &Common, args: &StampArgs) -> anyhow::Result<Exit> {
    // Files first: a mistyped name should cost neither a passphrase nor a transaction.
    let algorithm = if args.sha256 { Algorithm::Sha256 } else { Algorithm::Blake3 };
    let items = hash_all(common, &args.files, algorithm)?;
    if !args.force {
        keep_receipts(&args.files, &items)?;
    }
    block_on(async {
        let client = connect(common, args).await?;
        let stamped = if args.resume {
            resume(common, &client).await?
        } else {
            vec![stamp(common, args, &client, items).await?]
        };
        report(common, &stamped)
    })
}

fn hash_all(common: &Common, files: &[PathBuf], algorithm: Algorithm) -> anyhow::Result<Vec<Item>> {
    if files.len() > FILES_MAX {
        bail!("{} files; one batch from the command line takes at most {FILES_MAX}", files.len());
    }
    let mut named = HashSet::new();
    if let Some(twice) = files.iter().find(|file| !named.insert(file.as_path())) {
        bail!("{} is named twice", twice.display());
    }
    let bar = common.output().progress(files.len() as u64, "hashing files");
    let mut items = Vec::with_capacity(files.len());
    for file in files {
        let digest = of_file(file, algorithm, common.output())?;
        items.push(Item { digest, algorithm: algorithm.name().to_owned() });
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(items)
}

/// A receipt shows that a file existed at a time, and a later one shows less: none is replaced unasked.
fn keep_receipts(files: &[PathBuf], items: &[Item]) -> anyhow::Result<()> {
    for (file, item) in files.iter().zip(items) {
        let path = receipt_path(file);
        if path.exists() {
            bail!("{}; --force replaces it", what_lies_there(&path, item));
        }
    }
    Ok(())
}

fn what_lies_there(path: &Path, item: &Item) -> String {
    let shown = path.display();
    let text = files::read_text(path, "receipt").unwrap_or_default();
    let Ok(receipt) = cairn_receipt::parse(&text) else {
        return format!("{shown} exists already and is no receipt");
    };
    let subject = &receipt.subject;
    if subject.algorithm != item.algorithm {
        return format!("{shown} exists already, with the {} of a file", subject.algorithm);
    }
    if subject.digest != item.digest {
        return format!("{shown} is a receipt for other content, perhaps an earlier state of the file");
    }
    let record = cairn_receipt::AnchorReceipt::of(&receipt).record();
    let since =
        record.map_or_else(|_| String::new(), |record| format!(", anchored at {}", time(record.time_ms)));
    format!("{shown} is a receipt for this very file already{since}")
}

async fn connect(common: &Common, args: &StampArgs) -> anyhow::Result<Client> {
    let url = args.node.url(common)?;
    let probe = Client::connect(&url).exit_with(Exit::Usage)?.with_tries(REACH_TRIES);
    let genesis = args.genesis.for_node(common, &probe).await?;
    let key = args.sender.open(common.output())?;
    Ok(Client::connect(&url)?.with_genesis(genesis)?.with_key(key))
}

/// Where batches lie between sending and their receipts.
fn pending_directory() -> PathBuf {
    user_config().join("pending")
}

async fn stamp(
    common: &Common,
    args: &StampArgs,
    client: &Client,
    items: Vec<Item>,
) -> anyhow::Result<Stamped> {
    let directory = pending_directory();
    let options = AnchorOptions {
        reference: args.reference.clone(),
        salting: if args.no_salt { Salting::None } else { Salting::Random },
        pending: Some(directory.clone()),
        ..AnchorOptions::default()
    };
    // Absolute, so that --resume finds the places from any directory.
    let receipts = args.files.iter().map(|file| std::path::absolute(receipt_path(file)));
    let receipts = receipts.collect::<Result<Vec<_>, _>>().context("the working directory")?;
    let pending = client.prepare(items, receipts, &options)?;
    let spinner = common.output().spinner("waiting for finality");
    let began = Instant::now();
    let anchored = client.anchor_batch(&pending.proof).await;
    let took = began.elapsed();
    spinner.finish_and_clear();
    let anchored = anchored.with_context(|| {
        format!("the batch is kept in {}; `cairn stamp --resume` goes on with it", directory.display())
    })?;
    write_receipts(&anchored, &pending)?;
    pending.remove(&directory)?;
    Ok(Stamped { anchored, receipts: args.files.iter().map(|file| receipt_path(file)).collect(), took })
}

fn write_receipts(anchored: &Anchored, pending: &Pending) -> anyhow::Result<()> {
    for (index, path) in (0..).zip(&pending.receipts) {
        anchored.receipt(&pending.batch, index)?.save(path)?;
    }
    Ok(())
}

async fn resume(common: &Common, client: &Client) -> anyhow::Result<Vec<Stamped>> {
    let mut stamped = Vec::new();
    for path in Pending::list(&pending_directory())? {
        let spinner = common.output().spinner("finishing an earlier batch");
        let began = Instant::now();
        let finished = client.resume(&path).await;
        spinner.finish_and_clear();
        let (anchored, receipts) = finished.with_context(|| path.display().to_string())?;
        stamped.push(Stamped { anchored, receipts, took: began.elapsed() });
    }
    Ok(stamped)
}

fn report(common: &Common, stamped: &[Stamped]) -> anyhow::Result<Exit> {
    let mut text = String::new();
    let mut values = Vec::new();
    for batch in stamped {
        let (lines, value) = describe(batch)?;
        text.push_str(&lines);
        values.push(value);
    }
    if stamped.is_empty() {
        text.push_str("nothing was left to finish");
    }
    common.output().show(&text, &json!({ "batches": values }));
    Ok(Exit::Yes)
}

fn describe(batch: &Stamped) -> anyhow::Result<(String, Value)> {
    let record = batch.anchored.record();
    let took_ms = batch.took.as_secs_f64() * 1e3;
    let again = if batch.anchored.duplicate { " (it was on the chain already)" } else { "" };
    let mut text = format!(
        "final in {took_ms:.0} ms{again}: block {}, {}, number {} in the log\n",
        record.height,
        time(record.time_ms),
        record.seq
    );
    let mut receipts = Vec::new();
    for path in &batch.receipts {
        let size = size_of(path)?;
        text.push_str(&format!("  {}  {}\n", path.display(), bytes(size)));
        receipts.push(json!({ "receipt": path, "bytes": size }));
    }
    let value = json!({
        "proof_id": record.proof_id.to_string(),
        "tx_id": record.tx_id.to_string(),
        "root": record.root.to_string(),
        "leaves": record.leaves,
        "seq": record.seq,
        "height": record.height.get(),
        "time": time(record.time_ms),
        "time_ms": record.time_ms,
        "sender": record.sender.to_string(),
        "duplicate": batch.anchored.duplicate,
        "finality_ms": took_ms,
        "receipts": receipts,
    });
    Ok((text, value))
}

fn size_of(path: &Path) -> anyhow::Result<u64> {
    let metadata = std::fs::metadata(path).with_context(|| format!("the receipt {}", path.display()))?;
    Ok(metadata.len())
}
