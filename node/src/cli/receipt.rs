//! `cairn receipt`: receipts fetched, taken together and apart, made fresh, and written for other tools.

mod bundle;
mod chain;
mod consistency;
mod cut;
mod export;
mod refresh;
mod split;
mod timestamp;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cairn_client::{Client, ProofQuery, ProofState, write_atomically};
use cairn_receipt::Document;
use cairn_types::receipt::Bundle;
use cairn_types::{Address, Hash, ProofId, TxId};
use clap::{ArgGroup, Args, Subcommand};
use serde_json::json;

use crate::cli::output::{bytes, pairs, time};
use crate::cli::rpc::{NodeArgs, block_on};
use crate::cli::trust::GenesisArgs;
use crate::cli::{Common, files};
use crate::exit::{Exit, WithExit};

/// Tries against a node that does not answer before that is said.
const REACH_TRIES: usize = 2;

/// `cairn receipt ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum ReceiptVerb {
    /// Fetch the receipt of an anchored root, verify it, and print or write it
    Get(GetArgs),
    /// Take receipts together into one file with one certificate
    Bundle(bundle::BundleArgs),
    /// Put receipts under a newer header, or relative to a checkpoint
    Refresh(refresh::RefreshArgs),
    /// Take receipts out of a bundle
    Split(split::SplitArgs),
    /// Take one digest's receipt out of a leaf file
    Cut(cut::CutArgs),
    /// Prove that the log of a later block begins with that of an earlier one
    Consistency(consistency::ConsistencyArgs),
    /// Write a receipt in another world's format
    Export(export::ExportArgs),
    /// Verify a proof and those before it along `previous`
    Chain(chain::ChainArgs),
    /// Ask an RFC 3161 authority for the time, and take its answer in
    Timestamp(timestamp::TimestampArgs),
}

/// `cairn receipt get`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).args(["id", "proof", "root", "tx", "reference"])), after_help = "\
A node knows roots, not leaves: what it gives lacks the way from your file to the root, which \
`cairn stamp` wrote into FILE.cairn. This is for those who built the batch themselves.")]
pub(crate) struct GetArgs {
    /// The proof's id
    #[arg(value_name = "PROOF_ID")]
    id: Option<String>,
    /// The same as PROOF_ID
    #[arg(long, value_name = "HEX")]
    proof: Option<String>,
    /// By batch root
    #[arg(long, value_name = "HEX")]
    root: Option<String>,
    /// By transaction id
    #[arg(long, value_name = "HEX")]
    tx: Option<String>,
    /// By the sender's own id; needs --sender
    #[arg(long, value_name = "TEXT", requires = "sender")]
    reference: Option<String>,
    /// The sender's address or DID
    #[arg(long, value_name = "ADDRESS", requires = "reference")]
    sender: Option<String>,
    /// Leave out the signatures, for verifiers that have pinned the block
    #[arg(long)]
    short: bool,
    /// Where to write it [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    genesis: GenesisArgs,
}

impl GetArgs {
    fn query(&self) -> anyhow::Result<ProofQuery> {
        let hash = |flag: &str, text: &str| {
            Hash::from_hex(text).with_context(|| format!("{flag} {text}: expected 64 hex digits"))
        };
        if let Some(text) = &self.id {
            return Ok(ProofQuery::Proof(ProofId::new(hash("PROOF_ID", text)?)));
        }
        if let Some(text) = &self.proof {
            return Ok(ProofQuery::Proof(ProofId::new(hash("--proof", text)?)));
        }
        if let Some(text) = &self.root {
            return Ok(ProofQuery::Root(hash("--root", text)?));
        }
        if let Some(text) = &self.tx {
            return Ok(ProofQuery::Tx(TxId::new(hash("--tx", text)?)));
        }
        let reference = self.reference.clone().unwrap_or_default();
        let sender = self.sender.as_deref().unwrap_or_default();
        let sender = hash("--sender", sender.strip_prefix("did:cairn:").unwrap_or(sender))?;
        Ok(ProofQuery::Reference { sender: Address::new(sender), reference })
    }
}

pub(crate) fn run(common: &Common, verb: &ReceiptVerb) -> anyhow::Result<Exit> {
    match verb {
        ReceiptVerb::Get(args) => get(common, args),
        ReceiptVerb::Bundle(args) => bundle::run(common, args),
        ReceiptVerb::Refresh(args) => refresh::run(common, args),
        ReceiptVerb::Split(args) => split::run(common, args),
        ReceiptVerb::Cut(args) => cut::run(common, args),
        ReceiptVerb::Consistency(args) => consistency::run(common, args),
        ReceiptVerb::Export(args) => export::run(common, args),
        ReceiptVerb::Chain(args) => chain::run(common, args),
        ReceiptVerb::Timestamp(args) => timestamp::run(common, args),
    }
}

/// A client of the node asked for, with the genesis to verify its answers by.
async fn connect(common: &Common, node: &NodeArgs, genesis: &GenesisArgs) -> anyhow::Result<Client> {
    let url = node.url(common)?;
    let probe = Client::connect(&url).exit_with(Exit::Usage)?.with_tries(REACH_TRIES);
    let genesis = genesis.for_node(common, &probe).await?;
    Ok(Client::connect(&url)?.with_genesis(genesis)?)
}

/// A whole receipt or bundle of a file, as a bundle.
fn load_bundle(path: &Path) -> anyhow::Result<Bundle> {
    let text = files::read_text(path, "receipt")?;
    let shown = || path.display().to_string();
    match Document::parse(&text).with_context(shown)? {
        Document::Receipt(receipt) => cairn_receipt::bundle(&[*receipt]).with_context(shown),
        Document::Bundle(bundle) => Ok(*bundle),
        other => bail!("{} is a {}; expected a receipt or a bundle", shown(), other.kind()),
    }
}

fn get(common: &Common, args: &GetArgs) -> anyhow::Result<Exit> {
    let query = args.query().exit_with(Exit::Usage)?;
    block_on(async {
        let client = connect(common, &args.node, &args.genesis).await?;
        let record = match client.proof_get(&query).await? {
            ProofState::Final { record, .. } => record,
            ProofState::Pending { proof_id, .. } => {
                common.output().show(
                    &format!("the proof {proof_id} is not final yet"),
                    &json!({ "proof_id": proof_id.to_string(), "state": "pending" }),
                );
                return Ok(Exit::NotFinal);
            }
        };
        let receipt = client.receipt_get(record.proof_id).await?;
        let text = if args.short { receipt.checkpoint_relative().to_json() } else { receipt.to_json() };
        let Some(out) = &args.out else {
            common.output().show(&text, &serde_json::from_str(&text)?);
            return Ok(Exit::Yes);
        };
        write_atomically(out, text.as_bytes())?;
        let rows = [
            ("receipt", format!("{}, {}", out.display(), bytes(text.len() as u64))),
            ("proof", record.proof_id.to_string()),
            ("root", record.root.to_string()),
            ("anchored", format!("block {}, {}", record.height, time(record.time_ms))),
        ];
        let value = json!({
            "receipt": out,
            "bytes": text.len(),
            "proof_id": record.proof_id.to_string(),
            "root": record.root.to_string(),
            "height": record.height.get(),
            "time_ms": record.time_ms,
        });
        common.output().show(&pairs(rows), &value);
        Ok(Exit::Yes)
    })
}
