//! `cairn multisig`: what several keys of one identity decide together, on the chain.

use std::path::PathBuf;

use anyhow::{Context, bail};
use cairn_client::{ProposalState, Wait};
use cairn_types::multisig::{MultisigOp, Proposed};
use cairn_types::{Address, Payload, TxId};
use clap::Subcommand;
use serde_json::{Map, Value, json};

use crate::cli::actor::{ActorArgs, Changed, parse_did, parse_duration_ms, report};
use crate::cli::output::{pairs, table, time};
use crate::cli::rpc::{NodeArgs, block_on};
use crate::cli::{Common, files};
use crate::exit::{Exit, WithExit};

const EXAMPLES: &str = "\
A proposal is signed by one key of the identity (--key, and --as when the identity is not that key's own). It is \
carried out by the approval that reaches the threshold. Changes of the identity are proposed more easily with \
`cairn identity ... --propose`.

Examples:
  echo '{\"proofs\":[{\"root\":\"<64 hex>\",\"leaves\":3}]}' > payload.json
  cairn multisig propose payload.json --as did:cairn:<hex> --key alice.json --open-for 2d
  cairn multisig pending did:cairn:<hex>
  cairn multisig approve <proposal> --as did:cairn:<hex> --key bob.json";

/// `cairn multisig ...`.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum MultisigVerb {
    /// Propose a payload, and approve it with the proposing key
    Propose {
        /// The payload in the API's JSON: {"proofs": [...]}, {"identity": {...}} or {"delegation": {...}}
        payload: PathBuf,
        /// How long it may be approved, for instance 2h, 7d
        #[arg(long, value_name = "TIME", value_parser = parse_duration_ms, default_value = "24h")]
        open_for: u64,
        #[command(flatten)]
        actor: ActorArgs,
    },
    /// Approve a proposal
    Approve {
        /// The proposal: the transaction that made it
        #[arg(value_parser = parse_tx)]
        proposal: TxId,
        #[command(flatten)]
        actor: ActorArgs,
    },
    /// Withdraw your proposal, or vote against another's
    Cancel {
        /// The proposal: the transaction that made it
        #[arg(value_parser = parse_tx)]
        proposal: TxId,
        #[command(flatten)]
        actor: ActorArgs,
    },
    /// The open proposals of an identity
    Pending {
        /// The identity
        #[arg(value_parser = parse_did)]
        did: Address,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// One proposal, open or ended
    Show {
        /// The proposal: the transaction that made it
        #[arg(value_parser = parse_tx)]
        proposal: TxId,
        #[command(flatten)]
        node: NodeArgs,
    },
}

fn parse_tx(text: &str) -> Result<TxId, String> {
    TxId::from_hex(text).ok_or_else(|| "expected 64 hex digits".to_owned())
}

pub(crate) fn run(common: &Common, verb: &MultisigVerb) -> anyhow::Result<Exit> {
    block_on(async {
        match verb {
            MultisigVerb::Propose { payload, open_for, actor } => {
                let text = files::read_text(payload, "payload")?;
                let payload = cairn_rpc::read_payload(&text).map_err(|fault| anyhow::anyhow!("{fault}"));
                let payload = match payload.exit_with(Exit::Usage)? {
                    Payload::Identity(op) => Proposed::Identity(op),
                    Payload::Delegation(op) => Proposed::Delegation(op),
                    Payload::Proofs(proofs) => Proposed::Proofs(proofs),
                    _ => bail!("only proofs, identity and delegation can be proposed"),
                };
                let now_ms = actor.client(common)?.status().await?.time_ms;
                let op = MultisigOp::Propose { payload, expires_ms: now_ms.saturating_add(*open_for) };
                step(common, actor, op, None).await
            }
            MultisigVerb::Approve { proposal, actor } => {
                step(common, actor, MultisigOp::Approve { proposal: *proposal }, Some(*proposal)).await
            }
            MultisigVerb::Cancel { proposal, actor } => {
                step(common, actor, MultisigOp::Cancel { proposal: *proposal }, Some(*proposal)).await
            }
            MultisigVerb::Pending { did, node } => {
                let client = cairn_client::Client::connect(&node.url(common)?).exit_with(Exit::Usage)?;
                let found = client.multisig_pending(*did).await?;
                let rows = found.iter().map(row).collect();
                let text = if found.is_empty() {
                    "no open proposals".to_owned()
                } else {
                    table(&["proposal", "state", "for", "against", "needed", "expires"], rows)
                };
                common.output().show(&text, &json!({ "items": found.iter().map(value).collect::<Vec<_>>() }));
                Ok(Exit::Yes)
            }
            MultisigVerb::Show { proposal, node } => {
                let client = cairn_client::Client::connect(&node.url(common)?).exit_with(Exit::Usage)?;
                let found = client.multisig_get(*proposal).await?;
                show(common, &found)?;
                Ok(Exit::Yes)
            }
        }
    })
}

async fn step(
    common: &Common,
    actor: &ActorArgs,
    op: MultisigOp,
    proposal: Option<TxId>,
) -> anyhow::Result<Exit> {
    let (client, identity) = actor.signing(common).await?;
    let submitted = client.send(Payload::Multisig(op), Wait::Final).await?;
    let proposal = proposal.unwrap_or(submitted.tx_id);
    let state = client.multisig_get(proposal).await?;
    let votes = format!("{} for, {} against", state.approvals.len(), state.rejections.len());
    let done =
        format!("proposal {proposal} is {} ({votes}, {} needed)", state.state, state.threshold.unwrap_or(0));
    let more = Map::from_iter([("proposal".to_owned(), value(&state))]);
    Ok(report(common, &Changed { identity, submitted, proposed: false }, &done, more))
}

fn row(found: &ProposalState) -> Vec<String> {
    vec![
        found.proposal.clone(),
        found.state.clone(),
        found.approvals.len().to_string(),
        found.rejections.len().to_string(),
        found.threshold.map(|threshold| threshold.to_string()).unwrap_or_default(),
        time(found.expires_ms),
    ]
}

fn value(found: &ProposalState) -> Value {
    let keys = |votes: &[cairn_client::KeyVote]| votes.iter().map(|vote| vote.key_index).collect::<Vec<_>>();
    json!({
        "proposal": found.proposal, "account": found.account, "state": found.state, "threshold": found.threshold,
        "expires_ms": found.expires_ms, "approvals": keys(&found.approvals), "rejections": keys(&found.rejections),
        "payload": found.payload,
    })
}

fn show(common: &Common, found: &ProposalState) -> anyhow::Result<()> {
    let keys = |votes: &[cairn_client::KeyVote]| {
        votes.iter().map(|vote| vote.key_index.to_string()).collect::<Vec<_>>().join(", ")
    };
    let payload = serde_json::to_string_pretty(&found.payload).context("the payload cannot be shown")?;
    let rows = [
        ("proposal", found.proposal.clone()),
        ("identity", found.account.clone()),
        ("state", found.state.clone()),
        ("keys for", keys(&found.approvals)),
        ("keys against", keys(&found.rejections)),
        ("needed", found.threshold.map(|threshold| threshold.to_string()).unwrap_or_default()),
        ("expires", time(found.expires_ms)),
    ];
    common.output().show(&format!("{}\n{payload}", pairs(rows)), &value(found));
    Ok(())
}
