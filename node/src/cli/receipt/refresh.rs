//! `cairn receipt refresh`: the same leaves under another header.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cairn_client::{BUNDLE_RECORDS_MAX, BlockRef, Client, write_atomically};
use cairn_receipt::{
    AnchorBundle, Document, ReceiptVerifier, Trusted, bundle_to_json, core_of, receipts_of, refreshed,
    to_json,
};
use cairn_types::receipt::Bundle;
use cairn_types::{BlockId, Header, Height, Record, decode};
use clap::Args;
use serde_json::{Value, json};

use super::{connect, load_bundle};
use crate::cli::output::{bytes, count, time};
use crate::cli::rpc::{NodeArgs, block_on};
use crate::cli::trust::TrustArgs;
use crate::cli::{Common, files};
use crate::exit::{Exit, WithExit};

/// `cairn receipt refresh`.
#[derive(Debug, Args)]
#[command(after_help = "\
The log only grows, so one later certificate covers every earlier record. A refreshed receipt proves the same
record, under the newest final block; what it replaces is kept unless the new one verifies.

Examples:
  cairn receipt refresh model.bin.cairn
  cairn receipt refresh *.cairn --short --at 3f9c..   relative to a block that you have pinned: no signatures")]
pub(crate) struct RefreshArgs {
    /// Receipts or bundles, each replaced
    #[arg(required = true, value_name = "RECEIPT")]
    receipts: Vec<PathBuf>,
    /// Write the only one here and leave it as it is
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The block whose header it goes under, by height or id [default: the newest with a certificate of its own]
    #[arg(long, value_name = "BLOCK")]
    at: Option<String>,
    /// Leave out the signatures: for verifiers that have pinned the block
    #[arg(long)]
    short: bool,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    trust: TrustArgs,
}

pub(super) fn run(common: &Common, args: &RefreshArgs) -> anyhow::Result<Exit> {
    if args.out.is_some() && args.receipts.len() > 1 {
        return Err(anyhow::anyhow!("--out takes one receipt, {} are named", args.receipts.len()))
            .exit_with(Exit::Usage);
    }
    let at = args.at.as_deref().map(block_ref).transpose().exit_with(Exit::Usage)?;
    block_on(async {
        let client = connect(common, &args.node, args.trust.genesis()).await?;
        let (mut text, mut values) = (String::new(), Vec::new());
        for path in &args.receipts {
            let old = load_bundle(path)?;
            check_old(common, &args.trust, &old).with_context(|| path.display().to_string())?;
            let new = refresh(&client, &old, at, args.short).await?;
            let out = args.out.as_deref().unwrap_or(path);
            let (line, value) = write(path, out, &old, &new)?;
            text.push_str(&line);
            values.push(value);
        }
        common.output().show(&text, &json!({ "refreshed": values }));
        Ok(Exit::Yes)
    })
}

/// The leaves must hold before they are put under a header that vouches for their record: what does not
/// verify by itself is not made to look fresh. A checkpoint that is not pinned is no reason to refuse.
fn check_old(common: &Common, trust: &TrustArgs, old: &Bundle) -> anyhow::Result<()> {
    let anchor = trust.load(common)?;
    let header: Header = decode(&old.header_bytes).context("the header is malformed")?;
    let mut trusted: Trusted = anchor.trusted;
    trusted.checkpoints.push(header.id());
    let relative = refreshed(old, core_of(old).checkpoint_relative())?;
    let verdict = ReceiptVerifier::new(trusted).verify_bundle(&relative);
    match verdict.failed() {
        None => Ok(()),
        Some(check) => bail!("it does not verify, check `{}`: {}", check.name, check.detail),
    }
}

/// A block named by height or id.
pub(super) fn block_ref(text: &str) -> anyhow::Result<BlockRef> {
    if let Ok(height) = text.parse() {
        return Ok(BlockRef::Height(Height::new(height)));
    }
    let id = BlockId::from_hex(text);
    id.map(BlockRef::Id)
        .with_context(|| format!("--at {text}: expected a height or a block id of 64 hex digits"))
}

/// The bundle under another header, by a node's word that was verified.
pub(super) async fn refresh(
    client: &Client,
    old: &Bundle,
    at: Option<BlockRef>,
    short: bool,
) -> anyhow::Result<Bundle> {
    let core = fetch_core(client, &seqs_of(old)?, at, short).await?;
    Ok(refreshed(old, core)?)
}

/// The core of these records.
pub(super) async fn fetch_core(
    client: &Client,
    seqs: &[u64],
    at: Option<BlockRef>,
    short: bool,
) -> anyhow::Result<AnchorBundle> {
    if seqs.len() > BUNDLE_RECORDS_MAX {
        bail!("{} batches; a node gives at most {BUNDLE_RECORDS_MAX} under one header at once", seqs.len());
    }
    Ok(client.receipt_bundle(seqs, at, short).await?)
}

/// Where a bundle's records stand in the log.
pub(super) fn seqs_of(bundle: &Bundle) -> anyhow::Result<Vec<u64>> {
    let seq = |bytes: &Vec<u8>| -> anyhow::Result<u64> {
        let record: Record = decode(bytes).context("a record is malformed")?;
        Ok(record.seq)
    };
    bundle.batches.iter().map(|batch| seq(&batch.record_bytes)).collect()
}

/// A receipt stays a receipt, a bundle a bundle.
fn write(path: &Path, out: &Path, old: &Bundle, new: &Bundle) -> anyhow::Result<(String, Value)> {
    let was = Document::parse(&files::read_text(path, "receipt")?)?;
    let text = match was {
        Document::Receipt(_) => {
            let one = receipts_of(new)?;
            to_json(one.first().context("a receipt became none")?)
        }
        _ => bundle_to_json(new),
    };
    write_atomically(out, text.as_bytes())?;
    let height = |bundle: &Bundle| decode::<Header>(&bundle.header_bytes).map(|it| (it.height, it.time_ms));
    let ((from, _), (to, time_ms)) = (height(old)?, height(new)?);
    let size = text.len() as u64;
    let mut line = format!("{}  block {from} -> {to}, {}, {}\n", out.display(), time(time_ms), bytes(size));
    let left = old.external.len().saturating_sub(new.external.len());
    if left > 0 {
        line.push_str(&format!("  left out: {} of the earlier header\n", count(left as u64, "time stamp")));
    }
    let value = json!({ "receipt": out, "from_height": from.get(), "height": to.get(), "bytes": size,
        "time_stamps_left_out": left });
    Ok((line, value))
}
