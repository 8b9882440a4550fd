//! `cairn receipt chain`: a proof and those before it, verified from end to end.

use anyhow::Context;
use cairn_client::ProofChain;
use cairn_types::{Hash, ProofId};
use clap::Args;
use serde_json::json;

use super::connect;
use crate::cli::Common;
use crate::cli::output::{count, time};
use crate::cli::rpc::{NodeArgs, block_on};
use crate::cli::trust::GenesisArgs;
use crate::exit::{Exit, WithExit};

/// `cairn receipt chain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each record is fetched with what makes it final and verified against the genesis; then each link is checked: the
proof named as previous must be anchored, and before the one that continues it.

Exit codes: 0 every link holds back to the start, 1 one does not (it is named), 4 no genesis.")]
pub(crate) struct ChainArgs {
    /// The newest proof of the chain
    #[arg(value_name = "PROOF_ID")]
    proof: String,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    genesis: GenesisArgs,
}

pub(super) fn run(common: &Common, args: &ChainArgs) -> anyhow::Result<Exit> {
    let proof = Hash::from_hex(&args.proof).map(ProofId::new);
    let proof = proof
        .with_context(|| format!("PROOF_ID {}: expected 64 hex digits", args.proof))
        .exit_with(Exit::Usage)?;
    let chain = block_on(async {
        let client = connect(common, &args.node, &args.genesis).await?;
        Ok(client.proof_chain(proof).await?)
    })?;
    let (text, value) = described(&chain);
    common.output().show(&text, &value);
    Ok(if chain.is_whole() { Exit::Yes } else { Exit::No })
}

fn described(chain: &ProofChain) -> (String, serde_json::Value) {
    let proofs = count(chain.records.len() as u64, "proof");
    let mut text = match &chain.broken {
        None => format!("WHOLE: {proofs}, every link holds back to the start\n"),
        Some(why) => format!("BROKEN: {why}\n"),
    };
    let mut items = Vec::new();
    for record in &chain.records {
        let place = format!("number {}, block {}, {}", record.seq, record.height, time(record.time_ms));
        text.push_str(&format!("  {}  {place}\n", record.proof_id));
        items.push(json!({
            "proof_id": record.proof_id.to_string(),
            "seq": record.seq,
            "height": record.height.get(),
            "time_ms": record.time_ms,
            "sender": record.sender.to_string(),
            "root": record.root.to_string(),
        }));
    }
    let value = json!({ "whole": chain.is_whole(), "complete": chain.complete, "broken": chain.broken, "items": items });
    (text, value)
}
