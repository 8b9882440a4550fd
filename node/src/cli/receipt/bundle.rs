//! `cairn receipt bundle`: many receipts, one certificate.

use std::path::PathBuf;

use anyhow::{Context, bail};
use cairn_client::write_atomically;
use cairn_receipt::{BundleFault, bundle, bundle_to_json, receipts_of};
use cairn_types::receipt::{Bundle, Receipt};
use clap::Args;
use serde_json::json;

use super::refresh::{fetch_core, seqs_of};
use super::{connect, load_bundle};
use crate::cli::Common;
use crate::cli::output::{bytes, count, pairs};
use crate::cli::rpc::{NodeArgs, block_on};
use crate::cli::trust::GenesisArgs;
use crate::exit::Exit;

/// `cairn receipt bundle`.
#[derive(Debug, Args)]
#[command(after_help = "\
Leaves of one batch share its record and their common hashes, batches share the path in the log, and all share
one certificate: a hundred receipts take little more room than one. Receipts under different headers are put
under the newest one first, which asks a node. `cairn verify FILE --receipt BUNDLE` finds the file's leaf.

Examples:
  cairn receipt bundle results/*.cairn --out results.cairn
  cairn receipt split results.cairn --file results/a.csv --out a.csv.cairn")]
pub(crate) struct BundleArgs {
    /// Receipts, and bundles to join with them
    #[arg(required = true, value_name = "RECEIPT")]
    receipts: Vec<PathBuf>,
    /// The bundle to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Ask no node: refuse receipts under different headers
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    genesis: GenesisArgs,
}

pub(super) fn run(common: &Common, args: &BundleArgs) -> anyhow::Result<Exit> {
    let mut receipts = Vec::new();
    for path in &args.receipts {
        receipts.extend(receipts_of(&load_bundle(path)?).with_context(|| path.display().to_string())?);
    }
    let whole = match bundle(&receipts) {
        Ok(whole) => whole,
        Err(fault @ BundleFault::OtherHeader { .. }) if args.offline => bail!("{fault}"),
        Err(BundleFault::OtherHeader { .. }) => block_on(under_one_header(common, args, &receipts))?,
        Err(fault) => return Err(fault.into()),
    };
    let text = bundle_to_json(&whole);
    write_atomically(&args.out, text.as_bytes())?;
    let leaves: usize = whole.batches.iter().map(|batch| batch.leaves.len()).sum();
    let size = text.len() as u64;
    let rows = [
        ("bundle", format!("{}, {}", args.out.display(), bytes(size))),
        (
            "holds",
            format!("{} of {}", count(leaves as u64, "receipt"), count(whole.batches.len() as u64, "record")),
        ),
    ];
    let value =
        json!({ "bundle": args.out, "bytes": size, "receipts": leaves, "batches": whole.batches.len() });
    common.output().show(&pairs(rows), &value);
    Ok(Exit::Yes)
}

/// Puts every receipt under the newest header, then takes them together.
async fn under_one_header(
    common: &Common,
    args: &BundleArgs,
    receipts: &[Receipt],
) -> anyhow::Result<Bundle> {
    let mut seqs: Vec<u64> = Vec::new();
    for receipt in receipts {
        seqs.extend(seqs_of(&bundle(std::slice::from_ref(receipt))?)?);
    }
    seqs.sort_unstable();
    seqs.dedup();
    let client = connect(common, &args.node, &args.genesis).await?;
    let core = fetch_core(&client, &seqs, None, false).await?;
    let cores = core.apart()?;
    let mut fresh = Vec::with_capacity(receipts.len());
    for receipt in receipts {
        let core = cores.iter().find(|core| core.record_bytes == receipt.record_bytes);
        let core = core.with_context(|| "the node holds another record at a receipt's place in the log")?;
        let mut one = core.clone().complete(receipt.subject.clone(), receipt.batch.clone());
        one.external.clone_from(&receipt.external);
        fresh.push(one);
    }
    Ok(bundle(&fresh)?)
}
