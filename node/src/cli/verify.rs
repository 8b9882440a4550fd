//! `cairn verify`: offline, with nothing but the genesis.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use cairn_client::receipt_path;
use cairn_receipt::{
    Check, CheckName, Document, ExternalTime, ReceiptVerifier, TimeAuthorities, Trust, Verdict, places_of,
};
use cairn_types::receipt::{Bundle, Subject};
use clap::Args;
use serde_json::{Value, json};

use crate::cli::digest::{algorithm, of_file};
use crate::cli::output::{bytes, time};
use crate::cli::trust::{Anchor, TrustArgs};
use crate::cli::{Common, files};
use crate::exit::{Exit, WithExit};

/// The check this command adds to those of the format: the file is the one the receipt speaks of.
const FILE_CHECK: &str = "file";

/// `cairn verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Needs no network and no node: only the file, its receipt and the chain's genesis.

Examples:
  cairn verify model.bin --genesis genesis.json        with model.bin.cairn
  cairn verify model.bin --receipt elsewhere.cairn     with another receipt
  cairn verify model.bin.cairn                         the receipt alone, without the file
  cairn verify model.bin --receipt all.cairn           with a bundle that holds its receipt
  cairn verify model.bin --tsa-ca authority.pem        with the time of an authority outside the chain

Exit codes: 0 valid, 1 invalid (the check that failed is named), 4 no genesis or unpinned checkpoint.")]
pub(crate) struct VerifyArgs {
    /// The file that was stamped, or a receipt to check by itself
    file: PathBuf,
    /// Its receipt [default: FILE.cairn]
    #[arg(long, value_name = "RECEIPT")]
    receipt: Option<PathBuf>,
    /// Certificates of time authorities that you trust, PEM or DER; several times. The receipt must then carry a
    /// time stamp (RFC 3161) that leads to one of them
    #[arg(long, value_name = "FILE")]
    tsa_ca: Vec<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
}

/// What is to be verified: a receipt, and the file it speaks of when there is one.
struct Question {
    file: Option<PathBuf>,
    receipt: PathBuf,
}

/// One line of the answer.
struct Line {
    name: String,
    passed: bool,
    detail: String,
}

impl From<&Check> for Line {
    fn from(check: &Check) -> Self {
        Self { name: check.name.to_string(), passed: check.passed, detail: check.detail.clone() }
    }
}

pub(crate) fn run(common: &Common, args: &VerifyArgs) -> anyhow::Result<Exit> {
    let question = question(args)?;
    let mut anchor = args.trust.load(common)?;
    anchor.trusted.authorities = authorities(&args.tsa_ca).exit_with(Exit::TrustMissing)?;
    let text = files::read_text(&question.receipt, "receipt")?;
    let verifier = ReceiptVerifier::new(anchor.trusted.clone());
    let mut lines = Vec::new();
    let (document, mut verdict) = verifier.verify_any(&text);
    if let (Some(document), Some(file)) = (&document, &question.file) {
        lines.push(match document {
            Document::Receipt(receipt) => compare(file, &receipt.subject, common)?,
            Document::Bundle(bundle) => find(file, bundle, &mut verdict, common)?,
            other => Line { name: FILE_CHECK.to_owned(), passed: false, detail: speaks_of_no_file(other) },
        });
    }
    if question.file.is_none() {
        verdict.warnings.push("only the receipt was checked: no file was compared with it".to_owned());
    }
    verdict.valid &= lines.iter().all(|line| line.passed);
    lines.extend(verdict.checks.iter().map(Line::from));
    let exit = exit_of(&verdict);
    let size = text.len() as u64;
    common.output().show(
        &readable(&question, &anchor, &lines, &verdict, size),
        &as_json(&question, &anchor, &lines, &verdict, exit),
    );
    Ok(exit)
}

/// The time authorities of the files named.
fn authorities(paths: &[PathBuf]) -> anyhow::Result<TimeAuthorities> {
    let mut all = TimeAuthorities::default();
    for path in paths {
        let bytes = files::read_bytes(path, "certificate")?;
        let read = TimeAuthorities::read(&bytes);
        all.extend(read.map_err(|why| anyhow!("--tsa-ca {}: {why}", path.display()))?);
    }
    Ok(all)
}

fn question(args: &VerifyArgs) -> anyhow::Result<Question> {
    if let Some(receipt) = &args.receipt {
        return Ok(Question { file: Some(args.file.clone()), receipt: receipt.clone() });
    }
    let beside = receipt_path(&args.file);
    if beside.exists() {
        return Ok(Question { file: Some(args.file.clone()), receipt: beside });
    }
    if args.file.extension().is_some_and(|extension| extension == cairn_receipt::EXTENSION) {
        return Ok(Question { file: None, receipt: args.file.clone() });
    }
    bail!(
        "there is no receipt {}; name one with --receipt, or make one with `cairn stamp {}`",
        beside.display(),
        args.file.display()
    )
}

/// Why a document that holds no digest does not vouch for a file.
fn speaks_of_no_file(document: &Document) -> String {
    match document {
        Document::Anchor(_) => {
            "the receipt is of a batch's root, as `cairn receipt get` writes it, and speaks of \
                                no file; use the one that `cairn stamp` wrote"
                .to_owned()
        }
        other => format!("this is a {}, which speaks of no file", other.kind()),
    }
}

/// Whether one of a bundle's leaves is the file. The record that the verdict names is then that leaf's.
fn find(file: &Path, bundle: &Bundle, verdict: &mut Verdict, common: &Common) -> anyhow::Result<Line> {
    let leaves = bundle.batches.iter().flat_map(|batch| &batch.leaves);
    let mut names: Vec<&str> = leaves.map(|leaf| leaf.subject.algorithm.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut tried = Vec::new();
    for name in names {
        let algorithm = algorithm(name)?;
        let digest = of_file(file, algorithm, common.output()).context("the file that was stamped")?;
        let place = places_of(bundle, &digest).into_iter().find(|(batch, leaf)| {
            let held = bundle.batches.get(*batch).and_then(|batch| batch.leaves.get(*leaf));
            held.is_some_and(|leaf| leaf.subject.algorithm == name)
        });
        if let Some((batch, leaf)) = place {
            verdict.record = verdict.records.get(batch).cloned();
            let detail = format!("{name} {digest}, leaf {leaf} of batch {batch} in the bundle");
            return Ok(Line { name: FILE_CHECK.to_owned(), passed: true, detail });
        }
        tried.push(format!("{name} {digest}"));
    }
    let detail = format!("the bundle has no leaf with its digest ({})", tried.join(", "));
    Ok(Line { name: FILE_CHECK.to_owned(), passed: false, detail })
}

fn compare(file: &Path, subject: &Subject, common: &Common) -> anyhow::Result<Line> {
    let algorithm = algorithm(&subject.algorithm)?;
    let digest = of_file(file, algorithm, common.output()).context("the file that was stamped")?;
    let passed = digest == subject.digest;
    let name = algorithm.name();
    let detail = match passed {
        true => format!("{name} {digest}"),
        false => format!("its {name} is {digest}; the receipt is for {}", subject.digest),
    };
    Ok(Line { name: FILE_CHECK.to_owned(), passed, detail })
}

/// A checkpoint that is not pinned is missing trust; everything else that fails is an invalid receipt.
fn exit_of(verdict: &Verdict) -> Exit {
    match (verdict.valid, verdict.failed().map(|check| check.name)) {
        (true, _) => Exit::Yes,
        (false, Some(CheckName::Checkpoint)) => Exit::TrustMissing,
        (false, _) => Exit::No,
    }
}

fn readable(question: &Question, anchor: &Anchor, lines: &[Line], verdict: &Verdict, size: u64) -> String {
    let what = question.file.as_ref().unwrap_or(&question.receipt).display();
    let mut text = match (verdict.valid, &verdict.record) {
        (true, Some(record)) => format!(
            "VALID: {what} was anchored at {} in block {} of `{}`\n",
            time(record.time_ms),
            record.height,
            anchor.genesis.name
        ),
        _ => match lines.iter().find(|line| !line.passed) {
            Some(line) => format!("INVALID: {what}: the check `{}` failed\n", line.name),
            None => format!("INVALID: {what}\n"),
        },
    };
    if verdict.valid && verdict.record.is_none() {
        text = readable_of_many(&question.receipt.display().to_string(), verdict);
    }
    for line in lines {
        let mark = if line.passed { "ok" } else { "FAILED" };
        text.push_str(&format!("  {:<11} {mark:<6}  {}\n", line.name, line.detail));
    }
    if verdict.valid {
        text.push_str(&format!("receipt: {}, {}\n", question.receipt.display(), bytes(size)));
        text.push_str(&format!("trust: {}\n", trust(anchor, verdict.trust)));
        for stated in &verdict.times {
            let (part, at) = (stated.part, time(stated.time_ms));
            text.push_str(&format!("time: {part} existed at {at}, by the word of {}\n", stated.authority));
        }
        for warning in &verdict.warnings {
            text.push_str(&format!("note: {warning}\n"));
        }
    }
    text
}

/// The first line about what holds no record, or many.
fn readable_of_many(what: &str, verdict: &Verdict) -> String {
    let height = verdict.header.as_ref().map_or(0, |header| header.height.get());
    match verdict.records.as_slice() {
        [] => format!("VALID: {what}: block {height} is final\n"),
        [first, .., last] => format!(
            "VALID: {what}: {} batches, anchored from {} to {}\n",
            verdict.records.len(),
            time(first.time_ms),
            time(last.time_ms)
        ),
        [one] => format!("VALID: {what} was anchored at {} in block {}\n", time(one.time_ms), one.height),
    }
}

fn trust(anchor: &Anchor, trust: Trust) -> String {
    let genesis = format!("{} (chain {})", anchor.path.display(), anchor.trusted.chain);
    match trust {
        Trust::Nothing => "nothing".to_owned(),
        Trust::Genesis { epoch } if epoch.get() == 0 => format!("{genesis}, and a quorum of its validators"),
        Trust::Genesis { epoch } => {
            format!("{genesis}, and a quorum of each validator set from it up to epoch {epoch}")
        }
        Trust::Checkpoint(block) => {
            format!("the checkpoint {block} that you pinned, of chain {}", anchor.trusted.chain)
        }
    }
}

fn as_json(question: &Question, anchor: &Anchor, lines: &[Line], verdict: &Verdict, exit: Exit) -> Value {
    let checks: Vec<Value> = lines
        .iter()
        .map(|line| json!({ "name": line.name, "passed": line.passed, "detail": line.detail }))
        .collect();
    let trust = match verdict.trust {
        Trust::Nothing => Value::Null,
        Trust::Genesis { epoch } => json!({ "kind": "genesis", "epoch": epoch.get() }),
        Trust::Checkpoint(block) => json!({ "kind": "checkpoint", "block": block.to_string() }),
    };
    let record = verdict.record.as_ref().filter(|_| verdict.valid).map(|record| {
        json!({
            "seq": record.seq,
            "proof_id": record.proof_id.to_string(),
            "root": record.root.to_string(),
            "sender": record.sender.to_string(),
            "height": record.height.get(),
            "time": time(record.time_ms),
            "time_ms": record.time_ms,
        })
    });
    let times: Vec<Value> = verdict.times.iter().map(time_json).collect();
    json!({
        "valid": verdict.valid,
        "exit_code": exit as u8,
        "file": question.file,
        "receipt": question.receipt,
        "chain": anchor.trusted.chain.to_string(),
        "checks": checks,
        "failed": lines.iter().find(|line| !line.passed).map(|line| line.name.as_str()),
        "trust": trust,
        "warnings": verdict.warnings,
        "record": record,
        "records": verdict.records.len(),
        "times": times,
        "height": verdict.header.as_ref().map(|header| header.height.get()),
    })
}

fn time_json(stated: &ExternalTime) -> Value {
    json!({
        "part": stated.part.to_string(),
        "time": time(stated.time_ms),
        "time_ms": stated.time_ms,
        "accuracy_ms": stated.accuracy_ms,
        "authority": stated.authority,
        "root": stated.root,
        "policy": stated.policy,
        "serial": stated.serial,
    })
}
