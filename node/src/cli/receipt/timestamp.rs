//! `cairn receipt timestamp`: a time from outside the chain, by any RFC 3161 authority.

use std::path::{Path, PathBuf};

use anyhow::Context;
use cairn_client::write_atomically;
use cairn_receipt::{Document, attach_timestamp, timestamp_request};
use clap::Args;
use serde_json::json;

use crate::cli::output::{bytes, pairs, time};
use crate::cli::{Common, files};
use crate::exit::{Exit, WithExit};

/// `cairn receipt timestamp`.
#[derive(Debug, Args)]
#[command(after_help = "\
Works offline: the request and the answer are files, carried to the authority by whatever means.
A receipt, or a bundle of one batch, has its record stamped, which outlives every refresh; a bundle of several and a
checkpoint have their header stamped.

Example:
  cairn receipt timestamp model.bin.cairn              writes model.bin.cairn.tsq
  curl -sS -H 'Content-Type: application/timestamp-query' --data-binary @model.bin.cairn.tsq \\
      https://tsa.example/ -o model.bin.cairn.tsr      any RFC 3161 authority
  cairn receipt timestamp model.bin.cairn --answer model.bin.cairn.tsr
  cairn verify model.bin --tsa-ca authority.pem        the authority's root certificate, from its own site")]
pub(crate) struct TimestampArgs {
    /// A receipt, bundle or checkpoint
    receipt: PathBuf,
    /// The authority's answer to the request, to take into the receipt
    #[arg(long, value_name = "FILE")]
    answer: Option<PathBuf>,
    /// Where to write the request, or the receipt with its time [default: RECEIPT.tsq, or over the receipt]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(common: &Common, args: &TimestampArgs) -> anyhow::Result<Exit> {
    let text = files::read_text(&args.receipt, "receipt")?;
    let shown = || args.receipt.display().to_string();
    let mut document = Document::parse(&text).with_context(shown)?;
    match &args.answer {
        None => request(common, args, &document),
        Some(answer) => attach(common, args, &mut document, answer),
    }
}

fn request(common: &Common, args: &TimestampArgs, document: &Document) -> anyhow::Result<Exit> {
    let (part, request) = timestamp_request(document).exit_with(Exit::No)?;
    let out = args.out.clone().unwrap_or_else(|| {
        let mut name = args.receipt.clone().into_os_string();
        name.push(".tsq");
        name.into()
    });
    write_atomically(&out, &request)?;
    let rows = [
        ("request", format!("{}, {}", out.display(), bytes(request.len() as u64))),
        ("for", format!("the SHA-256 of {part}")),
        ("next", format!("send it to an RFC 3161 authority, then --answer its answer to {}", shown(args))),
    ];
    let value = json!({ "request": out, "part": part.to_string(), "bytes": request.len() });
    common.output().show(&pairs(rows), &value);
    Ok(Exit::Yes)
}

fn shown(args: &TimestampArgs) -> String {
    args.receipt.display().to_string()
}

fn attach(
    common: &Common,
    args: &TimestampArgs,
    document: &mut Document,
    answer: &Path,
) -> anyhow::Result<Exit> {
    let answer_bytes = files::read_bytes(answer, "answer")?;
    let claim = attach_timestamp(document, &answer_bytes)
        .with_context(|| format!("{} was not taken into {}", answer.display(), shown(args)))
        .exit_with(Exit::No)?;
    let out = args.out.as_ref().unwrap_or(&args.receipt);
    let text = document.to_json();
    write_atomically(out, text.as_bytes())?;
    let rows = [
        ("receipt", format!("{}, {}", out.display(), bytes(text.len() as u64))),
        ("of", claim.part.to_string()),
        ("time", time(claim.time_ms)),
        ("signed by", format!("{}; whose certificate that is was not checked", claim.authority)),
        ("check it", "cairn verify ... --tsa-ca FILE, with a certificate that you trust".to_owned()),
    ];
    let value = json!({
        "receipt": out,
        "bytes": text.len(),
        "part": claim.part.to_string(),
        "time_ms": claim.time_ms,
        "accuracy_ms": claim.accuracy_ms,
        "authority": claim.authority,
        "policy": claim.policy,
        "serial": claim.serial,
    });
    common.output().show(&pairs(rows), &value);
    Ok(Exit::Yes)
}
