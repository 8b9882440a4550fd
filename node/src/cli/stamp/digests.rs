//! Lists of digests: any number of leaves in one leaf file, and one receipt of their root.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cairn_client::{ClientFault, LeafFile, LeafWriter, write_atomically};
use cairn_types::Hash;
use serde_json::json;

use super::{StampArgs, connect};
use crate::cli::Common;
use crate::cli::output::{Output, bytes, count, pairs, time};
use crate::cli::rpc::block_on;
use crate::exit::Exit;

/// Bytes of one line, at most: a digest and a long file name.
const LINE_BYTES_MAX: usize = 8_192;
/// Digests between two steps of the progress display.
const PROGRESS_EVERY: u64 = 65_536;

/// A name with something appended, dots in it kept.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

pub(super) fn run(common: &Common, args: &StampArgs) -> anyhow::Result<Exit> {
    let began = Instant::now();
    let leaves = match (&args.digests, &args.leaves, &args.out) {
        (Some(list), _, Some(out)) => read(common.output(), args, list, &with_suffix(out, ".leaves"))?,
        (_, Some(path), _) => LeafFile::open(path)?,
        _ => bail!("--digests needs --out for the name of what it writes"),
    };
    let durable = began.elapsed();
    let core_path = leaves.path().with_extension(cairn_receipt::EXTENSION);
    if core_path.exists() && !args.force {
        bail!("{} exists already; --force replaces it", core_path.display());
    }
    block_on(async {
        let client = connect(common, args).await?;
        let proof = args.statement.about(leaves.proof(args.statement.kind, args.reference.clone()));
        let spinner = common.output().spinner("waiting for finality");
        let submitted = Instant::now();
        let anchored = client.anchor_batch(&proof).await;
        let finality = submitted.elapsed();
        spinner.finish_and_clear();
        let anchored = anchored.map_err(|fault| kept(fault, leaves.path()))?;
        write_atomically(&core_path, anchored.core().to_json().as_bytes())?;
        report(common, &leaves, &core_path, &anchored, durable, finality);
        Ok(Exit::Yes)
    })
}

/// What became of the leaf file when nothing was anchored.
fn kept(fault: ClientFault, leaves: &Path) -> anyhow::Error {
    let shown = leaves.display();
    let what = match fault {
        ClientFault::Refused(_) => format!(
            "{shown} is of use only if it is anchored later: `cairn stamp --leaves {shown}`, once what is refused is mended"
        ),
        _ => format!("the leaves are kept; `cairn stamp --leaves {shown}` with the same options goes on"),
    };
    anyhow::Error::new(fault).context(what)
}

fn read(output: Output, args: &StampArgs, list: &Path, path: &Path) -> anyhow::Result<LeafFile> {
    let shown =
        if list.as_os_str() == "-" { "standard input".to_owned() } else { list.display().to_string() };
    let mut reader: Box<dyn BufRead> = if list.as_os_str() == "-" {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        Box::new(BufReader::with_capacity(1 << 20, File::open(list).with_context(|| shown.clone())?))
    };
    let mut writer = LeafWriter::create(path, args.tree(), args.algorithm(), args.salting())?;
    let spinner = output.spinner("writing leaves");
    let (mut line, mut number) = (String::new(), 0u64);
    loop {
        line.clear();
        if reader.read_line(&mut line).with_context(|| shown.clone())? == 0 {
            break;
        }
        number += 1;
        if line.len() > LINE_BYTES_MAX {
            bail!("{shown}, line {number}: more than {LINE_BYTES_MAX} bytes");
        }
        let digest = line.split_whitespace().next().unwrap_or_default();
        if digest.is_empty() {
            continue;
        }
        let digest = Hash::from_hex(digest)
            .with_context(|| format!("{shown}, line {number}: expected a digest of 64 hex digits"))?;
        writer.push(&digest)?;
        if number.is_multiple_of(PROGRESS_EVERY) {
            spinner.set_message(format!("writing leaves: {number}"));
        }
    }
    spinner.finish_and_clear();
    writer.finish().with_context(|| shown)
}

fn report(
    common: &Common,
    leaves: &LeafFile,
    core: &Path,
    anchored: &cairn_client::Anchored,
    durable: Duration,
    finality: Duration,
) {
    let record = anchored.record();
    let (durable_ms, final_ms) = (durable.as_secs_f64() * 1e3, finality.as_secs_f64() * 1e3);
    let rate = record.leaves as f64 / (durable + finality).as_secs_f64();
    let size = std::fs::metadata(leaves.path()).map_or(0, |it| it.len());
    let again = if anchored.duplicate { " (it was on the chain already)" } else { "" };
    let rows = [
        (
            "leaves",
            format!("{} in {}, {}", count(record.leaves, "digest"), leaves.path().display(), bytes(size)),
        ),
        ("receipt", format!("{}, of their root", core.display())),
        (
            "anchored",
            format!(
                "block {}, {}, number {} in the log{again}",
                record.height,
                time(record.time_ms),
                record.seq
            ),
        ),
        (
            "took",
            format!(
                "{durable_ms:.0} ms until the leaves were durable, {final_ms:.0} ms until final: {rate:.0} digests/s"
            ),
        ),
        ("next", format!("cairn receipt cut {} --digest HEX --out FILE", leaves.path().display())),
    ];
    let value = json!({
        "leaves_file": leaves.path(),
        "receipt": core,
        "proof_id": record.proof_id.to_string(),
        "root": record.root.to_string(),
        "leaves": record.leaves,
        "seq": record.seq,
        "height": record.height.get(),
        "time_ms": record.time_ms,
        "on_behalf_of": record.on_behalf_of.map(|principal| principal.to_string()),
        "duplicate": anchored.duplicate,
        "durable_ms": durable_ms,
        "finality_ms": final_ms,
        "digests_per_second": rate,
    });
    common.output().show(&pairs(rows), &value);
}
