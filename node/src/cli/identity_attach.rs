//! `cairn identity attach`: puts the states that a receipt's record rests on beside it.

use std::path::PathBuf;

use anyhow::bail;
use cairn_client::{Client, StateSubject, write_atomically};
use cairn_receipt::{CheckName, ReceiptVerifier, StateDocument, Trusted, parse, to_json};
use cairn_types::{Record, decode};
use clap::Args;
use serde_json::json;

use crate::cli::output::{bytes, pairs};
use crate::cli::rpc::{NodeArgs, block_on};
use crate::cli::trust::GenesisArgs;
use crate::cli::{Common, files};
use crate::exit::{Exit, WithExit};

/// `cairn identity attach`.
#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// The receipt, FILE.cairn
    receipt: PathBuf,
    /// Where to write it [default: over the receipt]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    genesis: GenesisArgs,
}

/// Whether an item of a receipt's external evidence is about one of these subjects.
fn is_about(item: &str, subjects: &[StateSubject]) -> bool {
    StateDocument::parse(item).is_ok_and(|document| subjects.contains(&document.subject))
}

pub(crate) fn run(common: &Common, args: &AttachArgs) -> anyhow::Result<Exit> {
    let text = files::read_text(&args.receipt, "receipt")?;
    let mut receipt = parse(&text).exit_with(Exit::No)?;
    let record: Record = decode(&receipt.record_bytes).exit_with(Exit::No)?;
    let mut subjects = vec![StateSubject::Identity(record.sender)];
    if let Some(principal) = record.on_behalf_of {
        subjects.push(StateSubject::Delegation { principal, delegate: record.sender });
    }
    let trusted = block_on(async {
        let client = Client::connect(&args.node.url(common)?).exit_with(Exit::Usage)?;
        let genesis = args.genesis.for_node(common, &client).await?;
        let trusted = Trusted::genesis(&genesis).exit_with(Exit::TrustMissing)?;
        let client = client.with_genesis(genesis)?;
        // A newer state says as much as an older one, so it takes its place.
        receipt.external.retain(|item| !is_about(item, &subjects));
        for subject in &subjects {
            receipt.external.push(client.state_proof(*subject).await?.document.to_json());
        }
        Ok(trusted)
    })?;
    let verdict = ReceiptVerifier::new(trusted).verify(&receipt);
    if let Some(check) = verdict.failed() {
        bail!(
            "the receipt does not verify with these states, nothing was written; {}: {}",
            check.name,
            check.detail
        );
    }
    let said: Vec<_> = verdict
        .checks
        .iter()
        .filter(|check| matches!(check.name, CheckName::Signer | CheckName::Delegation))
        .map(|check| (check.name.name(), check.detail.clone()))
        .collect();
    let text = to_json(&receipt);
    let out = args.out.as_ref().unwrap_or(&args.receipt);
    write_atomically(out, text.as_bytes())?;
    let mut rows = vec![("receipt", format!("{}, {}", out.display(), bytes(text.len() as u64)))];
    rows.extend(said.iter().cloned());
    let checks: Vec<_> =
        said.iter().map(|(name, detail)| json!({ "name": name, "detail": detail })).collect();
    common.output().show(&pairs(rows), &json!({ "receipt": out, "bytes": text.len(), "checks": checks }));
    Ok(Exit::Yes)
}
