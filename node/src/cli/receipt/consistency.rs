//! `cairn receipt consistency`: that a later log begins with an earlier one, as a file.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cairn_client::write_atomically;
use cairn_receipt::{Checkpoint, Document, LOG_NAMES};
use cairn_types::{Header, decode, encode};
use clap::Args;
use serde_json::json;

use super::connect;
use crate::cli::output::{bytes, count, pairs};
use crate::cli::rpc::{NodeArgs, block_on};
use crate::cli::trust::GenesisArgs;
use crate::cli::{Common, files};
use crate::exit::Exit;

/// `cairn receipt consistency`.
#[derive(Debug, Args)]
#[command(after_help = "\
Shows someone who keeps an old receipt or checkpoint that nothing in the log it was made from was rewritten
since. `cairn verify` checks the file offline.

Example:
  cairn receipt consistency old.cairn --out growth.cairn")]
pub(crate) struct ConsistencyArgs {
    /// The earlier receipt, bundle or checkpoint: its header is where the proof begins
    earlier: PathBuf,
    /// The later one [default: the node's newest certified block]
    #[arg(long, value_name = "FILE")]
    later: Option<PathBuf>,
    /// Which of the logs over the same records: anchors or anchors_sha256
    #[arg(long, value_name = "LOG", default_value = "anchors", value_parser = ["anchors", "anchors_sha256"])]
    log: String,
    /// The proof to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    genesis: GenesisArgs,
}

pub(super) fn run(common: &Common, args: &ConsistencyArgs) -> anyhow::Result<Exit> {
    let from = final_part(&args.earlier)?;
    let from_header: Header = decode(&from.header_bytes).context("the earlier header is malformed")?;
    let later = args.later.as_deref().map(final_part).transpose()?;
    let log = LOG_NAMES.iter().find(|(name, _)| *name == args.log).map(|(_, log)| *log);
    let log = log.with_context(|| format!("there is no log `{}`", args.log))?;
    let proof = block_on(async {
        let client = connect(common, &args.node, &args.genesis).await?;
        let to = match later {
            Some(later) => later,
            None => client.checkpoint().await?.0,
        };
        Ok(client.consistency(log, &encode(&from_header), &to).await?)
    })?;
    let text = proof.to_json();
    write_atomically(&args.out, text.as_bytes())?;
    let to: Header = decode(&proof.to.header_bytes)?;
    let rows = [
        ("proof", format!("{}, {}", args.out.display(), bytes(text.len() as u64))),
        ("from", format!("height {}, {}", from_header.height, count(from_header.anchors_size, "record"))),
        ("to", format!("height {}, {}", to.height, count(to.anchors_size, "record"))),
    ];
    let value = json!({ "proof": args.out, "log": args.log, "first": from_header.anchors_size,
        "second": to.anchors_size, "bytes": text.len() });
    common.output().show(&pairs(rows), &value);
    Ok(Exit::Yes)
}

/// The final header of any document.
fn final_part(path: &Path) -> anyhow::Result<Checkpoint> {
    let text = files::read_text(path, "receipt or checkpoint")?;
    let part = |header: Vec<u8>, finality, epochs| Checkpoint::new(header, finality, epochs);
    Ok(match Document::parse(&text).with_context(|| path.display().to_string())? {
        Document::Receipt(it) => part(it.header_bytes, it.finality, it.epochs),
        Document::Bundle(it) => part(it.header_bytes, it.finality, it.epochs),
        Document::Anchor(it) => part(it.header_bytes, it.finality, it.epochs),
        Document::Anchors(it) => part(it.header_bytes, it.finality, it.epochs),
        Document::Checkpoint(it) => *it,
        Document::Consistency(_) => {
            bail!("{} is a consistency proof; expected a receipt or checkpoint", path.display())
        }
    })
}
