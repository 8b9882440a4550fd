//! `cairn receipt cut`: one digest's receipt out of a leaf file.

use std::path::PathBuf;

use anyhow::{Context, bail};
use cairn_client::{LeafFile, write_atomically};
use cairn_receipt::{AnchorReceipt, ReceiptVerifier, to_json};
use cairn_types::Hash;
use clap::{ArgGroup, Args};
use serde_json::json;

use crate::cli::output::bytes;
use crate::cli::trust::TrustArgs;
use crate::cli::{Common, files};
use crate::exit::{Exit, WithExit};

/// `cairn receipt cut`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).args(["digest", "index"])), after_help = "\
What `cairn stamp --digests` wrote holds every digest with its salt; the receipt that is cut out of it stands by itself.

Example:
  cairn receipt cut batch.leaves --digest 9f2c.. --out one.cairn")]
pub(crate) struct CutArgs {
    /// The leaf file
    leaves: PathBuf,
    /// Its root's receipt [default: beside it, with .cairn in place of .leaves]
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// The digest
    #[arg(long, value_name = "HEX")]
    digest: Option<String>,
    /// The leaf's number, from 0
    #[arg(long, value_name = "N")]
    index: Option<u64>,
    /// The receipt to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    trust: TrustArgs,
}

pub(super) fn run(common: &Common, args: &CutArgs) -> anyhow::Result<Exit> {
    let anchor = args.trust.load(common)?;
    let beside = args.leaves.with_extension(cairn_receipt::EXTENSION);
    let core_path = args.receipt.as_ref().unwrap_or(&beside);
    let text = files::read_text(core_path, "receipt of the root")?;
    let core = AnchorReceipt::parse(&text).with_context(|| core_path.display().to_string())?;
    let leaves = LeafFile::open(&args.leaves)?;
    let index = match (&args.digest, args.index) {
        (_, Some(index)) => index,
        (Some(text), None) => {
            let digest = Hash::from_hex(text)
                .with_context(|| format!("--digest {text}: expected 64 hex digits"))
                .exit_with(Exit::Usage)?;
            let found = leaves.find(&digest)?;
            found.with_context(|| format!("{} holds no such digest", args.leaves.display()))?
        }
        (None, None) => bail!("name the leaf by --digest or --index"),
    };
    let receipt = leaves.receipt(&core, index)?;
    let verdict = ReceiptVerifier::new(anchor.trusted).verify(&receipt);
    if let Some(check) = verdict.failed() {
        bail!("the receipt does not verify, check `{}`: {}", check.name, check.detail);
    }
    let text = to_json(&receipt);
    write_atomically(&args.out, text.as_bytes())?;
    let size = text.len() as u64;
    let line = format!("{}  leaf {index} of {}, {}", args.out.display(), leaves.leaves(), bytes(size));
    let value = json!({ "receipt": args.out, "index": index, "leaves": leaves.leaves(), "bytes": size,
        "digest": receipt.subject.digest.to_string() });
    common.output().show(&line, &value);
    Ok(Exit::Yes)
}
