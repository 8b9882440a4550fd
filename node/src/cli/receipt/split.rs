//! `cairn receipt split`: receipts out of a bundle.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cairn_client::write_atomically;
use cairn_receipt::{places_of, receipt_of, receipts_of, to_json};
use cairn_types::Hash;
use cairn_types::receipt::{Bundle, Receipt};
use clap::{ArgGroup, Args};
use serde_json::json;

use super::load_bundle;
use crate::cli::Common;
use crate::cli::digest::{algorithm, of_file};
use crate::cli::output::{bytes, count};
use crate::exit::{Exit, WithExit};

/// `cairn receipt split`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).args(["file", "digest", "all"])))]
pub(crate) struct SplitArgs {
    /// The bundle
    bundle: PathBuf,
    /// The receipt of this file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The receipt of this digest
    #[arg(long, value_name = "HEX")]
    digest: Option<String>,
    /// Every receipt
    #[arg(long)]
    all: bool,
    /// The receipt to write; with --all, the directory
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
}

pub(super) fn run(common: &Common, args: &SplitArgs) -> anyhow::Result<Exit> {
    let whole = load_bundle(&args.bundle)?;
    let mut written = Vec::new();
    if args.all {
        std::fs::create_dir_all(&args.out)
            .with_context(|| format!("cannot create {}", args.out.display()))?;
        for (position, receipt) in receipts_of(&whole)?.iter().enumerate() {
            let name = format!("{position:05}-{}.cairn", short(&receipt.subject.digest));
            written.push(write(&args.out.join(name), receipt)?);
        }
    } else {
        written.push(write(&args.out, &one(common, args, &whole)?)?);
    }
    let text = match written.as_slice() {
        [(path, size)] => format!("{}  {}", path.display(), bytes(*size)),
        all => format!("{} in {}", count(all.len() as u64, "receipt"), args.out.display()),
    };
    let values: Vec<_> =
        written.iter().map(|(path, size)| json!({ "receipt": path, "bytes": size })).collect();
    common.output().show(&text, &json!({ "receipts": values }));
    Ok(Exit::Yes)
}

fn short(digest: &Hash) -> String {
    digest.to_string().chars().take(16).collect()
}

fn one(common: &Common, args: &SplitArgs, whole: &Bundle) -> anyhow::Result<Receipt> {
    let mut wanted = Vec::new();
    if let Some(text) = &args.digest {
        let digest = Hash::from_hex(text);
        wanted.push(
            digest
                .with_context(|| format!("--digest {text}: expected 64 hex digits"))
                .exit_with(Exit::Usage)?,
        );
    }
    if let Some(file) = &args.file {
        let leaves = whole.batches.iter().flat_map(|batch| &batch.leaves);
        let mut names: Vec<&str> = leaves.map(|leaf| leaf.subject.algorithm.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            wanted.push(of_file(file, algorithm(name)?, common.output())?);
        }
    }
    let place = wanted.iter().find_map(|digest| places_of(whole, digest).first().copied());
    let Some((batch, leaf)) = place else {
        bail!("{} holds no receipt of it", args.bundle.display());
    };
    Ok(receipt_of(whole, batch, leaf)?)
}

fn write(path: &Path, receipt: &Receipt) -> anyhow::Result<(PathBuf, u64)> {
    let text = to_json(receipt);
    write_atomically(path, text.as_bytes())?;
    Ok((path.to_owned(), text.len() as u64))
}
