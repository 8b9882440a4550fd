//! `cairn stamp`: files, folders, standard input and lists of digests to receipts.

mod digests;
mod statement;
mod walk;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cairn_client::{
    Algorithm, AnchorOptions, Anchored, Client, ClientFault, Item, Pending, Salting, hash_reader,
    receipt_path,
};
use cairn_types::TreeKind;
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
/// Files in one batch from a command line: bounds the memory of one tree. Lists of digests have no such bound.
const FILES_MAX: usize = 1 << 20;

/// Receipts that are listed; of more, the number is said.
const RECEIPTS_SHOWN: usize = 100;

/// `cairn stamp`.
#[derive(Debug, Args)]
#[command(after_help = "\
All files go into one batch, under one root and one signature. FILE.cairn is written beside each \
file once the root is final and the node's answer has been verified against the genesis. Digests and salts are \
on disk before the root is submitted.

The sender key is made on first use (~/.config/cairn/sender.json) and asks for a passphrase; \
unattended machines give --passphrase-file or CAIRN_PASSPHRASE_FILE.

Examples:
  cairn stamp model.bin
  cairn stamp results/*.csv --sha256 --url http://node.example:26657
  cairn stamp results/ --bundle results.cairn      every file below a folder, one receipt for all
  make report | cairn stamp - --out report.cairn   what standard input gives
  sha256sum * | cairn stamp --digests - --sha256 --out batch
                                       any number of digests: batch.leaves and batch.cairn, from which \
`cairn receipt cut` takes each one's receipt
  cairn stamp report.pdf --kind work --on-behalf-of did:cairn:<hex> --key bot.json
                                       for an identity that delegated it to this key's
  cairn stamp --resume                 finish what an interruption left

Exit codes: 0 final, 3 accepted but not final yet (cairn stamp --resume goes on).")]
pub(crate) struct StampArgs {
    /// Files, folders (every file below, receipts excepted), or - for standard input
    #[arg(value_name = "FILE", required_unless_present_any = ["resume", "digests", "leaves"])]
    files: Vec<PathBuf>,
    /// Anchor the digests of a list, a line each: 64 hex digits, and what follows a space is ignored; - reads standard input
    #[arg(long, value_name = "LIST", conflicts_with_all = ["files", "resume"], requires = "out")]
    digests: Option<PathBuf>,
    /// Go on with a leaf file that an interrupted --digests left
    #[arg(long, value_name = "FILE.leaves", conflicts_with_all = ["files", "resume", "digests"])]
    leaves: Option<PathBuf>,
    /// Where the receipt of standard input goes; with --digests, the name before .leaves and .cairn
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write one bundle of all receipts in place of one file each
    #[arg(long, value_name = "FILE", conflicts_with_all = ["digests", "leaves"])]
    bundle: Option<PathBuf>,
    /// How the batch's tree hashes: cairn-b3-v1, or rfc9162-sha256 for tools that know SHA-256 alone
    #[arg(long, value_name = "KIND", default_value = "cairn-b3-v1", value_parser = ["cairn-b3-v1", "rfc9162-sha256"])]
    tree: String,
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
    statement: statement::StatementArgs,
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

/// What goes into the batch: digests, and where each one's receipt goes.
struct Prepared {
    items: Vec<Item>,
    receipts: Vec<PathBuf>,
}

pub(crate) fn run(common: &Common, args: &StampArgs) -> anyhow::Result<Exit> {
    if args.digests.is_some() || args.leaves.is_some() {
        return digests::run(common, args);
    }
    // Files first: a mistyped name should cost neither a passphrase nor a transaction.
    let prepared = prepare(common, args)?;
    if !args.force {
        keep_receipts(&prepared, args.bundle.as_deref())?;
    }
    block_on(async {
        let client = connect(common, args).await?;
        let stamped = if args.resume {
            resume(common, &client).await?
        } else {
            vec![stamp(common, args, &client, prepared).await?]
        };
        report(common, &stamped)
    })
}

impl StampArgs {
    const fn algorithm(&self) -> Algorithm {
        if self.sha256 { Algorithm::Sha256 } else { Algorithm::Blake3 }
    }

    fn tree(&self) -> TreeKind {
        if self.tree == TreeKind::Rfc9162Sha256.name() {
            TreeKind::Rfc9162Sha256
        } else {
            TreeKind::CairnB3V1
        }
    }

    const fn salting(&self) -> Salting {
        if self.no_salt { Salting::None } else { Salting::Random }
    }
}

fn prepare(common: &Common, args: &StampArgs) -> anyhow::Result<Prepared> {
    let algorithm = args.algorithm();
    let item = |digest| Item { digest, algorithm: algorithm.name().to_owned() };
    if args.files.iter().any(|file| file.as_os_str() == "-") {
        let (1, Some(out)) = (args.files.len(), args.out.as_ref().or(args.bundle.as_ref())) else {
            bail!("standard input is stamped by itself, with --out for its receipt");
        };
        let digest = hash_reader(algorithm, &mut std::io::stdin().lock()).context("standard input")?;
        let receipts = if args.bundle.is_none() { vec![out.clone()] } else { Vec::new() };
        return Ok(Prepared { items: vec![item(digest)], receipts });
    }
    if args.out.is_some() {
        bail!(
            "--out names the receipt of standard input; files get theirs beside them, or --bundle names one for all"
        );
    }
    let files = walk::files(&args.files, FILES_MAX)?;
    let items = hash_all(common, &files, algorithm)?;
    let receipts = if args.bundle.is_none() {
        files.iter().map(|file| receipt_path(file)).collect()
    } else {
        Vec::new()
    };
    Ok(Prepared { items, receipts })
}

fn hash_all(common: &Common, files: &[PathBuf], algorithm: Algorithm) -> anyhow::Result<Vec<Item>> {
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
fn keep_receipts(prepared: &Prepared, bundle: Option<&Path>) -> anyhow::Result<()> {
    if let Some(bundle) = bundle.filter(|bundle| bundle.exists()) {
        bail!("{} exists already; --force replaces it", bundle.display());
    }
    for (path, item) in prepared.receipts.iter().zip(&prepared.items) {
        if path.exists() {
            bail!("{}; --force replaces it", what_lies_there(path, item));
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
    let sender = args.statement.sender(&probe, key).await?;
    Ok(Client::connect(&url)?.with_genesis(genesis)?.with_sender(sender))
}

/// Where batches lie between sending and their receipts.
fn pending_directory() -> PathBuf {
    user_config().join("pending")
}

async fn stamp(
    common: &Common,
    args: &StampArgs,
    client: &Client,
    prepared: Prepared,
) -> anyhow::Result<Stamped> {
    let directory = pending_directory();
    // Absolute, so that --resume finds the places from any directory.
    let absolute = |path: &PathBuf| std::path::absolute(path).context("the working directory");
    let options = AnchorOptions {
        kind: args.statement.kind,
        reference: args.reference.clone(),
        previous: args.statement.previous,
        subject: args.statement.subject,
        on_behalf_of: args.statement.on_behalf_of,
        tree: args.tree(),
        salting: args.salting(),
        bundle: args.bundle.as_ref().map(absolute).transpose()?,
        pending: Some(directory.clone()),
        ..AnchorOptions::default()
    };
    let receipts = prepared.receipts.iter().map(absolute).collect::<anyhow::Result<Vec<_>>>()?;
    let pending = client.prepare(prepared.items, receipts, &options)?;
    let spinner = common.output().spinner("waiting for finality");
    let began = Instant::now();
    let anchored = client.anchor_prepared(&pending, Some(&directory)).await;
    let took = began.elapsed();
    spinner.finish_and_clear();
    let anchored = match anchored {
        Err(refused @ ClientFault::Refused(_)) => return Err(refused.into()),
        outcome => outcome.with_context(|| {
            format!("the batch is kept in {}; `cairn stamp --resume` goes on with it", directory.display())
        })?,
    };
    let bar = common.output().progress(pending.receipts.len() as u64, "writing receipts");
    anchored.write(&pending, || bar.inc(1))?;
    bar.finish_and_clear();
    pending.remove(&directory)?;
    let named = prepared.receipts.into_iter().chain(args.bundle.clone());
    Ok(Stamped { anchored, receipts: named.collect(), took })
}

async fn resume(common: &Common, client: &Client) -> anyhow::Result<Vec<Stamped>> {
    let (mut stamped, mut aside) = (Vec::new(), None);
    for path in Pending::list(&pending_directory())? {
        let spinner = common.output().spinner("finishing an earlier batch");
        let began = Instant::now();
        let finished = client.resume(&path).await;
        spinner.finish_and_clear();
        match finished {
            Ok((anchored, receipts)) => stamped.push(Stamped { anchored, receipts, took: began.elapsed() }),
            // It holds up nothing else, and is not found again.
            Err(fault @ ClientFault::SetAside { .. }) => {
                eprintln!("warning: {fault}");
                aside = aside.or(Some(fault));
            }
            Err(fault) => return Err(fault).with_context(|| path.display().to_string()),
        }
    }
    match aside {
        // Something was finished: that is the answer, and the warning stands.
        None => Ok(stamped),
        Some(_) if !stamped.is_empty() => Ok(stamped),
        Some(fault) => Err(fault.into()),
    }
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
    for (index, path) in batch.receipts.iter().enumerate() {
        let size = size_of(path)?;
        if index < RECEIPTS_SHOWN {
            text.push_str(&format!("  {}  {}\n", path.display(), bytes(size)));
        }
        receipts.push(json!({ "receipt": path, "bytes": size }));
    }
    if let Some(more) = batch.receipts.len().checked_sub(RECEIPTS_SHOWN).filter(|more| *more > 0) {
        text.push_str(&format!("  and {more} more\n"));
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
        "on_behalf_of": record.on_behalf_of.map(|principal| principal.to_string()),
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
