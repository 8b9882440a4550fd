//! `cairn trust`: what verifications rest on, and how it stays fresh.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use cairn_client::{Client, write_atomically};
use cairn_receipt::{Checkpoint, Document, LOG_NAMES, ReceiptVerifier};
use cairn_types::receipt::{EpochHandover, Finality};
use cairn_types::{BlockId, Header, encode};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::store::{Pin, Source, Store};
use super::{Anchor, GenesisArgs, TrustArgs};
use crate::cli::output::{bytes, count, pairs, time};
use crate::cli::rpc::{NodeArgs, block_on};
use crate::cli::{Common, files};
use crate::exit::{Exit, WithExit};

/// Tries against a node that does not answer before that is said.
const REACH_TRIES: usize = 2;

/// `cairn trust ...`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
A receipt that rests on the genesis alone trusts every key that was ever a validator's. A pinned checkpoint is a
recent block that you hold to be final: receipts relative to it need no signature, and a log that does not
continue it is noticed. `cairn verify` uses the pins of the receipt's chain.

Examples:
  cairn trust show
  cairn trust fetch                      pin the newest final block of a node, once it verifies
  cairn trust pin checkpoint.json        pin a block that someone gave you, once it verifies
  cairn trust pin 3f9c..                 pin a block by its id, on your own word
  cairn trust export --out checkpoint.json")]
pub(crate) enum TrustVerb {
    /// Show the genesis and the pinned checkpoints
    Show(ShowArgs),
    /// Pin a block: by its id, or from a checkpoint, receipt or bundle that verifies
    Pin(PinArgs),
    /// Fetch the newest final block from a node, verify it and that its log continues the pins, and pin it
    Fetch(FetchArgs),
    /// Write the newest pinned checkpoint, for others to pin
    Export(ExportArgs),
}

/// `cairn trust show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    trust: TrustArgs,
}

/// `cairn trust pin`.
#[derive(Debug, Args)]
pub(crate) struct PinArgs {
    /// A block id of 64 hex digits, or a file
    what: String,
    #[command(flatten)]
    trust: TrustArgs,
}

/// `cairn trust fetch`.
#[derive(Debug, Args)]
pub(crate) struct FetchArgs {
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    genesis: GenesisArgs,
}

/// `cairn trust export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Where to write it [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
}

pub(crate) fn run(common: &Common, verb: &TrustVerb) -> anyhow::Result<Exit> {
    match verb {
        TrustVerb::Show(args) => show(common, &args.trust.load(common)?),
        TrustVerb::Pin(args) => pin(common, &args.trust.load(common)?, &args.what),
        TrustVerb::Fetch(args) => fetch(common, args),
        TrustVerb::Export(args) => export(common, &args.trust.load(common)?, args.out.as_deref()),
    }
}

fn show(common: &Common, anchor: &Anchor) -> anyhow::Result<Exit> {
    let store = Store::open(common, anchor.trusted.chain)?;
    let mut text = pairs([
        ("genesis", anchor.path.display().to_string()),
        ("chain", format!("{} {}", anchor.genesis.name, anchor.trusted.chain)),
        ("validators", count(anchor.trusted.validators.count() as u64, "validator")),
        ("pins", format!("{} in {}", count(store.pins().len() as u64, "block"), store.path().display())),
    ]);
    for pin in store.pins() {
        let header = pin.checkpoint().map(|(_, header)| header);
        let place = header.map_or_else(
            || "height unknown".to_owned(),
            |header| {
                format!(
                    "height {}, {}, {}",
                    header.height,
                    time(header.time_ms),
                    count(header.anchors_size, "record")
                )
            },
        );
        let block = pin.block().unwrap_or_default();
        text.push_str(&format!("  {block}  {place}  ({})\n", pin.source.name()));
    }
    if store.pins().is_empty() {
        text.push_str("nothing is pinned; `cairn trust fetch` pins a node's newest block once it verifies\n");
    }
    let pins: Vec<Value> = store.pins().iter().map(pin_json).collect();
    let value = json!({
        "genesis": anchor.path,
        "chain": anchor.trusted.chain.to_string(),
        "name": anchor.genesis.name,
        "validators": anchor.trusted.validators.count(),
        "store": store.path(),
        "pins": pins,
    });
    common.output().show(&text, &value);
    Ok(Exit::Yes)
}

fn pin_json(pin: &Pin) -> Value {
    let header = pin.checkpoint().map(|(_, header)| header);
    json!({
        "block": pin.block().map(|block| block.to_string()),
        "height": header.as_ref().map(|header| header.height.get()),
        "time_ms": header.as_ref().map(|header| header.time_ms),
        "anchors": header.as_ref().map(|header| header.anchors_size),
        "source": pin.source,
    })
}

fn pin(common: &Common, anchor: &Anchor, what: &str) -> anyhow::Result<Exit> {
    let mut store = Store::open(common, anchor.trusted.chain)?;
    let path = Path::new(what);
    let (block, new) = if path.exists() {
        let checkpoint = verified_checkpoint(anchor, path)?;
        let header: Header = cairn_types::decode(&checkpoint.header_bytes)?;
        (header.id(), store.pin(header.id(), Source::File, Some(&checkpoint))?)
    } else {
        let block = BlockId::from_hex(what)
            .with_context(|| format!("`{what}` is neither a file nor a block id of 64 hex digits"))
            .exit_with(Exit::Usage)?;
        (block, store.pin(block, Source::Named, None)?)
    };
    report_pin(common, &store, block, new)
}

fn report_pin(common: &Common, store: &Store, block: BlockId, new: bool) -> anyhow::Result<Exit> {
    let text = if new { format!("pinned {block}") } else { format!("{block} was pinned already") };
    let held = store.pins().iter().find(|pin| pin.block() == Some(block)).map(pin_json);
    common.output().show(&text, &json!({ "pinned": new, "pin": held, "store": store.path() }));
    Ok(Exit::Yes)
}

/// The final header of a file that verifies by signatures.
fn verified_checkpoint(anchor: &Anchor, path: &Path) -> anyhow::Result<Checkpoint> {
    let text = files::read_text(path, "checkpoint or receipt")?;
    let document = Document::parse(&text).with_context(|| path.display().to_string())?;
    let final_parts = |header: &[u8], finality: &Finality, epochs: &[EpochHandover]| {
        Checkpoint::new(header.to_vec(), finality.clone(), epochs.to_vec())
    };
    let checkpoint = match &document {
        Document::Receipt(it) => final_parts(&it.header_bytes, &it.finality, &it.epochs),
        Document::Bundle(it) => final_parts(&it.header_bytes, &it.finality, &it.epochs),
        Document::Anchor(it) => final_parts(&it.header_bytes, &it.finality, &it.epochs),
        Document::Anchors(it) => final_parts(&it.header_bytes, &it.finality, &it.epochs),
        Document::Checkpoint(it) => (**it).clone(),
        Document::Consistency(it) => it.to.clone(),
    };
    if checkpoint.finality == Finality::Checkpoint {
        bail!(
            "{} carries no signatures, so it cannot vouch for its block; pin the block by its id",
            path.display()
        );
    }
    // Signatures alone count here: what is pinned already must not vouch for itself.
    let mut trusted = anchor.trusted.clone();
    trusted.checkpoints.clear();
    let verdict = ReceiptVerifier::new(trusted).verify_checkpoint(&checkpoint);
    match verdict.failed() {
        None => Ok(checkpoint),
        Some(check) => {
            Err(anyhow!("{}: the check `{}` failed: {}", path.display(), check.name, check.detail))
        }
    }
}

fn fetch(common: &Common, args: &FetchArgs) -> anyhow::Result<Exit> {
    let (genesis, newest, checkpoint, header) = block_on(async {
        let url = args.node.url(common)?;
        let probe = Client::connect(&url).exit_with(Exit::Usage)?.with_tries(REACH_TRIES);
        let genesis = args.genesis.for_node(common, &probe).await?;
        let client = Client::connect(&url)?.with_genesis(genesis.clone())?;
        let (checkpoint, header) = client.checkpoint().await?;
        let newest = Store::open(common, genesis.chain())?.newest();
        if let Some((_, held)) = newest.as_ref().filter(|(_, held)| held.height < header.height) {
            for (_, log) in LOG_NAMES {
                client.consistency(log, &encode(held), &checkpoint).await.with_context(|| {
                    format!("the node's log does not continue the one pinned at height {}", held.height)
                })?;
            }
        }
        Ok((genesis, newest, checkpoint, header))
    })?;
    let mut store = Store::open(common, genesis.chain())?;
    if let Some((_, held)) = newest.filter(|(_, held)| held.height > header.height) {
        bail!(
            "the node's newest final block is {}; block {} is pinned already: the node is behind",
            header.height,
            held.height
        );
    }
    let new = store.pin(header.id(), Source::Node, Some(&checkpoint))?;
    report_pin(common, &store, header.id(), new)
}

fn export(common: &Common, anchor: &Anchor, out: Option<&Path>) -> anyhow::Result<Exit> {
    let store = Store::open(common, anchor.trusted.chain)?;
    let (checkpoint, header) = store
        .newest()
        .ok_or_else(|| anyhow!("no pinned checkpoint with its header; `cairn trust fetch` gets one"))
        .exit_with(Exit::TrustMissing)?;
    let text = checkpoint.to_json();
    let Some(out) = out else {
        common.output().show(&text, &serde_json::from_str(&text)?);
        return Ok(Exit::Yes);
    };
    write_atomically(out, text.as_bytes())?;
    let rows = [
        ("checkpoint", format!("{}, {}", out.display(), bytes(text.len() as u64))),
        ("block", header.id().to_string()),
        ("height", format!("{}, {}", header.height, time(header.time_ms))),
    ];
    let value = json!({ "checkpoint": out, "block": header.id().to_string(), "height": header.height.get(),
        "bytes": text.len() });
    common.output().show(&pairs(rows), &value);
    Ok(Exit::Yes)
}
