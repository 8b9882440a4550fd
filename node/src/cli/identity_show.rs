//! What `cairn identity` shows.

use anyhow::bail;
use cairn_client::{Client, StateFinding};
use cairn_receipt::{StateDocument, StateSubject, StateVerdict};
use cairn_types::identity::IdentityEntry;
use cairn_types::login::LoginResponse;
use cairn_types::{Address, Height};
use clap::Args;
use serde_json::{Value, json};

use crate::cli::Common;
use crate::cli::actor::parse_did;
use crate::cli::output::{pairs, table, time};
use crate::cli::rpc::{NodeArgs, block_on};
use crate::exit::{Exit, WithExit};

/// Tries against a node that does not answer before that is said.
const REACH_TRIES: usize = 2;

/// `cairn identity show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The identity
    #[arg(value_parser = parse_did)]
    did: Address,
    /// As of this block: a height, or a block id [default: now]
    #[arg(long, value_name = "BLOCK")]
    at: Option<String>,
    /// As of this time, RFC 3339
    #[arg(long, value_name = "TIME", conflicts_with = "at")]
    at_time: Option<String>,
    #[command(flatten)]
    node: NodeArgs,
}

/// `cairn identity history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The identity
    #[arg(value_parser = parse_did)]
    did: Address,
    #[command(flatten)]
    node: NodeArgs,
}

fn client(common: &Common, node: &NodeArgs) -> anyhow::Result<Client> {
    Ok(Client::connect(&node.url(common)?).exit_with(Exit::Usage)?.with_tries(REACH_TRIES))
}

fn words(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(words).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

pub(crate) fn show(common: &Common, args: &ShowArgs) -> anyhow::Result<Exit> {
    let did = format!("did:cairn:{}", args.did);
    let (document, given, received) = block_on(async {
        let client = client(common, &args.node)?;
        let params = json!({ "did": did, "at": args.at, "at_time": args.at_time });
        let document = client.call("identity_get", params).await?;
        let given = client.delegation_list(args.did, false, None).await?.items;
        Ok((document, given, client.delegation_list(args.did, true, None).await?.items))
    })?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let signs: Vec<String> =
        ["authentication", "assertionMethod", "capabilityDelegation", "capabilityInvocation", "recovery"]
            .iter()
            .flat_map(|relation| list(&document[*relation]))
            .map(|id| words(&id))
            .collect();
    let rows = list(&document["verificationMethod"])
        .iter()
        .map(|key| {
            let state = if signs.contains(&words(&key["id"])) { "active" } else { "retired or expired" };
            vec![
                words(&key["index"]),
                state.to_owned(),
                words(&key["purposes"]),
                words(&key["scheme"]),
                words(&key["from_height"]),
                words(&key["until_height"]),
                key["expires_ms"].as_u64().map(time).unwrap_or_default(),
            ]
        })
        .collect();
    let mut facts = vec![
        ("identity", did),
        ("as of", format!("block {}", words(&document["as_of_height"]))),
        ("threshold", words(&document["threshold"])),
    ];
    if document["deactivated"] == true {
        facts.push(("deactivated", format!("at height {}", words(&document["deactivated_height"]))));
    }
    if document["agent"].is_object() {
        let confirmed = if document["agent"]["confirmed"] == true { "" } else { ", not confirmed" };
        facts.push(("agent of", format!("{}{confirmed}", words(&document["agent"]["owner"]))));
    }
    let standing = |in_force: bool| if in_force { "in force" } else { "ended" };
    facts.extend(
        given.iter().map(|it| ("delegated to", format!("{} ({})", it.delegate, standing(it.in_force)))),
    );
    facts.extend(
        received.iter().map(|it| ("acts for", format!("{} ({})", it.principal, standing(it.in_force)))),
    );
    let header = ["key", "state", "purposes", "scheme", "from", "until", "expires"];
    let text = format!("{}\n{}", pairs(facts), table(&header, rows));
    let value =
        json!({ "document": document, "given": delegations(&given), "received": delegations(&received) });
    common.output().show(&text, &value);
    Ok(Exit::Yes)
}

fn delegations(items: &[cairn_client::DelegationState]) -> Vec<Value> {
    items
        .iter()
        .map(|it| json!({ "principal": it.principal, "delegate": it.delegate, "in_force": it.in_force, "used": it.used }))
        .collect()
}

pub(crate) fn history(common: &Common, args: &HistoryArgs) -> anyhow::Result<Exit> {
    let items = block_on(async {
        let client = client(common, &args.node)?;
        let (mut items, mut cursor) = (Vec::new(), None);
        loop {
            let page = client.identity_history(args.did, cursor.as_deref()).await?;
            items.extend(page.items);
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok(items),
            }
        }
    })?;
    let rows = items
        .iter()
        .map(|item| {
            let more: Vec<String> = item
                .more
                .iter()
                .filter(|(name, _)| *name != "time")
                .map(|(name, value)| format!("{name} {}", words(value)))
                .collect();
            vec![item.height.to_string(), time(item.time_ms), item.event.clone(), more.join(", ")]
        })
        .collect();
    let value: Vec<Value> = items
        .iter()
        .map(|item| {
            json!({ "event": item.event, "identity": item.identity, "height": item.height, "time_ms": item.time_ms,
                    "tx_id": item.tx_id, "details": item.more })
        })
        .collect();
    let text = if items.is_empty() {
        "nothing has happened to this identity; it was never registered here".to_owned()
    } else {
        table(&["height", "time", "event", "details"], rows)
    };
    common.output().show(&text, &json!({ "items": value }));
    Ok(Exit::Yes)
}

/// A proven state in words.
pub(crate) fn finding(finding: &StateFinding) -> String {
    match finding {
        StateFinding::Absent => "nothing is held: never registered, or never granted".to_owned(),
        StateFinding::Identity(entry) => {
            let active = entry.keys.iter().filter(|key| key.until.is_none()).count();
            let over =
                entry.deactivated.map_or_else(String::new, |at| format!(", deactivated at height {at}"));
            format!("{active} of {} keys not retired, threshold {}{over}", entry.keys.len(), entry.threshold)
        }
        StateFinding::Delegation(entry) => match entry.open() {
            Some(grant) => format!("granted at height {} and not ended", grant.from),
            None => format!("{} grants, all ended", entry.grants.len()),
        },
    }
}

/// The identity that a verified document holds, for the answer to a challenge.
pub(crate) fn identity_of(
    document: &StateDocument,
    verdict: StateVerdict,
    response: &LoginResponse,
) -> anyhow::Result<(Option<IdentityEntry>, Height)> {
    let StateVerdict { verdict, finding } = verdict;
    if document.subject != StateSubject::Identity(response.challenge.address) {
        bail!("the document is not about did:cairn:{}", response.challenge.address);
    }
    let (Some(finding), Some(header)) = (finding, &verdict.header) else {
        let failed =
            verdict.failed().map_or_else(String::new, |check| format!("{}: {}", check.name, check.detail));
        bail!("the document does not verify; {failed}");
    };
    let entry = match finding {
        StateFinding::Identity(entry) => Some(*entry),
        _ => None,
    };
    Ok((entry, header.height))
}
