//! `cairn validator`: who the validators are, and what they are asked to change. A motion is proposed and approved
//! with a validator's own key; more than two thirds of the power enact it, and the epoch ends.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cairn_crypto::KeyPair;
use cairn_types::block::HEADER_VERSION;
use cairn_types::transaction::TRANSACTION_VERSION;
use cairn_types::{
    Address, ChainId, Change, Changes, GovernanceOp, KeyRef, Params, Payload, SignedTransaction, Transaction,
    TxId, encode,
};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::genesis::{read_validator, set_param};
use crate::cli::output::{pairs, table};
use crate::cli::rpc::{NodeArgs, block_on, call};
use crate::cli::{Common, keys};
use crate::exit::{Exit, WithExit};
use crate::passphrase::Source;

/// How long a transaction of this verb may take to land, ms.
const LIFE_MS: u64 = 60_000;
/// How long to wait for finality, ms.
const WAIT_MS: u64 = 20_000;
/// Milliseconds of a day.
const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// What to do about validators.
#[derive(Debug, Subcommand)]
pub(crate) enum ValidatorVerb {
    /// The validators that sign the next block, or signed an earlier one
    List(ListArgs),
    /// The open motions, with who approved them
    Motions {
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Propose changes of the validators, parameters or protocol: all of them in one motion
    Propose(ProposeArgs),
    /// Approve an open motion
    Approve(MotionArgs),
    /// Take a motion of one's own back
    Withdraw(MotionArgs),
}

/// `cairn validator list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Of this block: a height, or a block id [default: the next]
    #[arg(long, value_name = "BLOCK")]
    at: Option<String>,
    /// Of the last block not after this time, RFC 3339 or Unix ms
    #[arg(long, value_name = "TIME", conflicts_with = "at")]
    at_time: Option<String>,
    #[command(flatten)]
    node: NodeArgs,
}

/// Who signs, and which node is asked.
#[derive(Debug, Args)]
pub(crate) struct SignArgs {
    /// The validator's keystore [default: the home's keys/validator.json]
    #[arg(long, value_name = "KEYSTORE")]
    key: Option<PathBuf>,
    /// File with the keystore's passphrase [default: ask on the terminal]
    #[arg(long, value_name = "FILE", env = "CAIRN_KEYS__PASSPHRASE_FILE", hide_env_values = true)]
    passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    node: NodeArgs,
}

/// `cairn validator propose`.
#[derive(Debug, Args)]
#[command(after_help = "\
Everything that is given is one motion: enacted together, or not at all. Whoever proposes approves by that.

Examples:
  cairn validator propose --join eve.pub.json=1
  cairn validator propose --leave <address> --power <address>=3
  cairn validator propose --rotate <address>=alice-ml.pub.json       the same validator, another key or scheme
  cairn validator propose --param interval_idle_ms=30000 --days 2
  cairn validator propose --protocol 2")]
pub(crate) struct ProposeArgs {
    /// A validator joins: its keystore or public-key file, with its power (1)
    #[arg(long, value_name = "FILE[=POWER]")]
    join: Vec<String>,
    /// A validator leaves
    #[arg(long, value_name = "ADDRESS")]
    leave: Vec<String>,
    /// A validator's power changes
    #[arg(long, value_name = "ADDRESS=POWER")]
    power: Vec<String>,
    /// A validator goes on with another key, of the same scheme or another
    #[arg(long, value_name = "ADDRESS=FILE")]
    rotate: Vec<String>,
    /// A network parameter; several times
    #[arg(long, value_name = "NAME=VALUE")]
    param: Vec<String>,
    /// A higher protocol version
    #[arg(long, value_name = "VERSION")]
    protocol: Option<u8>,
    /// How many days the motion stays open
    #[arg(long, value_name = "DAYS", default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..=30))]
    days: u64,
    #[command(flatten)]
    sign: SignArgs,
}

/// One motion.
#[derive(Debug, Args)]
pub(crate) struct MotionArgs {
    /// Its id, as `cairn validator motions` lists it
    #[arg(value_name = "MOTION")]
    id: String,
    #[command(flatten)]
    sign: SignArgs,
}

pub(crate) fn run(common: &Common, verb: &ValidatorVerb) -> anyhow::Result<Exit> {
    match verb {
        ValidatorVerb::List(args) => list(common, args),
        ValidatorVerb::Motions { node } => motions(common, node),
        ValidatorVerb::Propose(args) => propose(common, args),
        ValidatorVerb::Approve(args) => {
            let op = GovernanceOp::Approve(motion_id(&args.id)?);
            submit(common, &args.sign, |_| Ok(op))
        }
        ValidatorVerb::Withdraw(args) => {
            let op = GovernanceOp::Withdraw(motion_id(&args.id)?);
            submit(common, &args.sign, |_| Ok(op))
        }
    }
}

fn list(common: &Common, args: &ListArgs) -> anyhow::Result<Exit> {
    let url = args.node.url(common)?;
    let params = json!({ "at": args.at, "at_time": args.at_time });
    let answer = block_on(async { Ok(call(&url, "validator_list", params).await?) })?;
    let row = |item: &Value| {
        ["index", "address", "scheme", "power", "proposed", "missed"].map(|name| text(&item[name])).to_vec()
    };
    let items = answer["items"].as_array().cloned().unwrap_or_default();
    let rows = items.iter().map(row).collect();
    let head = format!(
        "block {}, epoch {}, total power {}",
        answer["height"], answer["epoch"], answer["total_power"]
    );
    let body = table(&["#", "address", "scheme", "power", "proposed", "missed"], rows);
    common.output().show(&format!("{head}\n{body}"), &answer);
    Ok(Exit::Yes)
}

fn motions(common: &Common, node: &NodeArgs) -> anyhow::Result<Exit> {
    let url = node.url(common)?;
    let answer = block_on(async { Ok(call(&url, "validator_motions", json!({})).await?) })?;
    let items = answer["items"].as_array().cloned().unwrap_or_default();
    let mut said =
        format!("epoch {}, protocol {}, {} open", answer["epoch"], answer["protocol"], items.len());
    for item in &items {
        let changes = item["changes"].as_array().map(|it| it.iter().map(change).collect::<Vec<_>>());
        let approvals = item["approvals"].as_array().map_or(0, Vec::len);
        said.push_str("\n\n");
        said.push_str(&pairs([
            ("motion", text(&item["id"])),
            ("changes", changes.unwrap_or_default().join("; ")),
            ("proposer", text(&item["proposer"])),
            ("approved", format!("by {approvals}, power {} of {}", item["power"], item["total_power"])),
            ("expires", text(&item["expires"])),
        ]));
    }
    common.output().show(&said, &answer);
    Ok(Exit::Yes)
}

/// A value as people read it.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn change(item: &Value) -> String {
    let (address, power) = (text(&item["address"]), &item["power"]);
    match item["change"].as_str() {
        Some("join") => format!("{address} joins with power {power}"),
        Some("leave") => format!("{address} leaves"),
        Some("power") => format!("{address} gets power {power}"),
        Some("rotate") => format!("{address} goes on with a {} key", text(&item["key"]["scheme"])),
        Some("params") => format!("parameters {}", item["params"]),
        Some("protocol") => format!("protocol version {}", item["version"]),
        _ => item.to_string(),
    }
}

fn propose(common: &Common, args: &ProposeArgs) -> anyhow::Result<Exit> {
    let mut changes = Vec::new();
    for join in &args.join {
        let (key, power) = read_validator(join)?;
        changes.push(Change::Join { key, power });
    }
    for leave in &args.leave {
        changes.push(Change::Leave(address(leave)?));
    }
    for given in &args.power {
        let (validator, power) = split("--power", given)?;
        let power =
            power.parse().ok().with_context(|| format!("--power {given}: expected a whole number"))?;
        changes.push(Change::Power { validator: address(validator)?, power });
    }
    for given in &args.rotate {
        let (validator, file) = split("--rotate", given)?;
        changes.push(Change::Rotate {
            validator: address(validator)?,
            key: keys::read_public(Path::new(file))?,
        });
    }
    if let Some(version) = args.protocol {
        if version > HEADER_VERSION {
            common.output().note(&format!(
                "this build of cairn knows protocol versions up to {HEADER_VERSION}: every node that does not know \
                 version {version} stops where it begins"
            ));
        }
        changes.push(Change::Protocol(version));
    }
    if changes.is_empty() && args.param.is_empty() {
        bail!("nothing to propose: give --join, --leave, --power, --rotate, --param or --protocol");
    }
    let life_ms = args.days.saturating_mul(DAY_MS);
    submit(common, &args.sign, |params| {
        if !args.param.is_empty() {
            changes.push(Change::Params(changed(params, &args.param)?));
        }
        Ok(GovernanceOp::Propose { changes: Changes(changes), life_ms })
    })
}

/// The parameters in force with what was asked for changed.
fn changed(params: &Value, texts: &[String]) -> anyhow::Result<Params> {
    let mut wanted = Params::default();
    for (name, value) in params.as_object().into_iter().flatten() {
        let value = value.as_u64().with_context(|| format!("the node gives no number for {name}"))?;
        set_param(&mut wanted, name, value)?;
    }
    for text in texts {
        let (name, value) = split("--param", text)?;
        let value = value.parse().ok().with_context(|| format!("--param {text}: expected a whole number"))?;
        set_param(&mut wanted, name, value).exit_with(Exit::Usage)?;
    }
    Ok(wanted)
}

fn split<'a>(flag: &str, text: &'a str) -> anyhow::Result<(&'a str, &'a str)> {
    let parts = text.split_once('=');
    parts
        .with_context(|| format!("{flag} {text}: expected two parts with = between them"))
        .exit_with(Exit::Usage)
}

fn address(text: &str) -> anyhow::Result<Address> {
    let hex = text.strip_prefix("did:cairn:").unwrap_or(text);
    let found = Address::from_hex(hex);
    found.with_context(|| format!("{text}: expected an address of 64 hex digits")).exit_with(Exit::Usage)
}

fn motion_id(text: &str) -> anyhow::Result<TxId> {
    let found = TxId::from_hex(text);
    found.with_context(|| format!("{text}: expected a motion's id of 64 hex digits")).exit_with(Exit::Usage)
}

/// Signs a step of governance with the validator key and waits until it is final. `op` is given the parameters
/// in force.
fn submit(
    common: &Common,
    args: &SignArgs,
    op: impl FnOnce(&Value) -> anyhow::Result<GovernanceOp>,
) -> anyhow::Result<Exit> {
    let path = args.key.clone().unwrap_or_else(|| common.home().join("keys/validator.json"));
    let key = keys::open(&path, &Source::file_or_prompt(args.passphrase_file.clone()))?;
    let url = args.node.url(common)?;
    let ask = |method: &'static str, params| {
        let url = &url;
        async move { call(url, method, params).await }
    };
    let (answer, before) = block_on(async {
        let status = ask("chain_status", json!({})).await?;
        let set = ask("validator_list", json!({})).await?;
        let params = ask("chain_params", json!({})).await?;
        let op = op(&params["params"])?;
        let signed = sign(&key, &status, &set, op)?;
        let tx = STANDARD.encode(encode(&signed));
        let submitted = ask("tx_submit", json!({ "tx": tx, "wait": "final", "timeout_ms": WAIT_MS })).await?;
        Ok((submitted, set["epoch"].as_u64().unwrap_or(0)))
    })?;
    // What came of it is said for convenience: a node that stops at this very epoch has nothing more to say.
    let after = block_on(async { Ok(ask("validator_motions", json!({})).await.unwrap_or(Value::Null)) })?;
    report(common, &answer, before, &after);
    Ok(Exit::Yes)
}

fn sign(key: &KeyPair, status: &Value, set: &Value, op: GovernanceOp) -> anyhow::Result<SignedTransaction> {
    let chain = status["chain"].as_str().and_then(ChainId::from_hex).context("the node names no chain")?;
    let mine = STANDARD.encode(key.public().as_bytes());
    let scheme = key.public().scheme().name();
    let items = set["items"].as_array().cloned().unwrap_or_default();
    let validator = items.iter().find(|item| item["key_b64"] == mine.as_str() && item["scheme"] == scheme);
    let sender = validator.and_then(|item| item["address"].as_str()).and_then(Address::from_hex);
    let Some(sender) = sender else {
        bail!(
            "the key {} signs for no validator of epoch {}: --key names another",
            key.address(),
            set["epoch"]
        );
    };
    let now =
        u64::try_from(jiff::Timestamp::now().as_millisecond()).context("the clock stands before 1970")?;
    let transaction = Transaction {
        version: TRANSACTION_VERSION,
        chain,
        sender,
        nonce: now,
        expires_ms: now.saturating_add(LIFE_MS),
        keys: vec![KeyRef::Inline(key.public().clone())],
        payload: Payload::Governance(op),
    };
    let signatures = vec![key.sign(&transaction.preimage())];
    Ok(SignedTransaction::new(transaction, signatures))
}

fn report(common: &Common, answer: &Value, before: u64, after: &Value) {
    let id = text(&answer["tx_id"]);
    let epoch = after["epoch"].as_u64().unwrap_or(before);
    let open =
        after["items"].as_array().and_then(|items| items.iter().find(|item| item["id"] == id.as_str()));
    let outcome = match open {
        _ if epoch > before => format!("enacted: epoch {epoch} has begun"),
        Some(motion) => format!("open, power {} of {} behind it", motion["power"], motion["total_power"]),
        None => "final".to_owned(),
    };
    let said = pairs([
        ("transaction", id.clone()),
        ("block", text(&answer["height"])),
        ("outcome", outcome.clone()),
    ]);
    let value = json!({
        "tx_id": id, "height": answer["height"], "outcome": outcome, "enacted": epoch > before, "epoch": epoch,
    });
    common.output().show(&said, &value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_start_from_those_in_force() {
        let in_force = json!({ "timeout_base_ms": 700, "replay_window_ms": 90_000, "drift_ms": 100 });
        let wanted = changed(&in_force, &["drift_ms=200".to_owned()]).unwrap();
        assert_eq!((wanted.timeout_base_ms, wanted.replay_window_ms, wanted.drift_ms), (700, 90_000, 200));
        let slip = changed(&in_force, &["drift=1".to_owned()]).expect_err("no such parameter").to_string();
        assert!(slip.contains("there is no parameter `drift`"), "{slip}");
        assert!(changed(&in_force, &["drift_ms".to_owned()]).is_err());
    }

    #[test]
    fn addresses_and_motions_are_hex() {
        let hex = "ab".repeat(32);
        assert_eq!(address(&format!("did:cairn:{hex}")).unwrap().to_string(), hex);
        assert!(address("ab").is_err());
        assert!(motion_id("xyz").is_err());
    }

    #[test]
    fn changes_read_as_sentences() {
        assert_eq!(change(&json!({ "change": "leave", "address": "ab" })), "ab leaves");
        let rotate = json!({ "change": "rotate", "address": "ab", "key": { "scheme": "ml-dsa-65" } });
        assert_eq!(change(&rotate), "ab goes on with a ml-dsa-65 key");
    }
}
