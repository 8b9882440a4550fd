//! Identity, delegation and shared-control payloads as JSON, both ways.
//!
//! ```json
//! "identity":   { "op": "register" } | { "op": "register_agent", "owner": "<DID>" } | { "op": "deactivate" }
//!             | { "op": "add_key", "key": KEY, "purposes": ["assertion"], "key_expires_ms": 0 }
//!             | { "op": "rotate_key", "index": 0, "key": KEY, "key_expires_ms": 0 } | { "op": "revoke_key", "index": 0 }
//!             | { "op": "set_threshold", "threshold": 2 } | { "op": "admit", "address": "<DID>" }
//!             | { "op": "recover", "threshold": 1, "keys": [ { "scheme", "key_b64", "purposes", "expires_ms" } ] }
//! "delegation": { "op": "grant", "delegate": "<DID>", "terms": { "kinds": ["batch"], "tree": null,
//!                 "metadata_bytes_max": 1024, "proofs_max": null, "rate": { "count": 5, "period_ms": 60000 },
//!                 "expires_ms": null } }
//!             | { "op": "revoke", "delegate" } | { "op": "renounce", "principal" }
//!             | { "op": "set_agent", "agent", "mandate": { "kinds", "tree", "metadata_bytes_max", "rate" } }
//!             | { "op": "retire_agent", "agent" }
//! "multisig":   { "op": "propose", "expires_ms": 0, one of "identity", "delegation", "proofs" }
//!             | { "op": "approve", "proposal": "<tx id>" } | { "op": "cancel", "proposal": "<tx id>" }
//! ```
//! `KEY` is `{scheme, key_b64}`. Without `kinds` a scope covers every kind; without `purposes` a key has the four ordinary ones.

use cairn_types::delegation::{DelegationOp, Kinds, Mandate, Rate, Scope, Terms};
use cairn_types::identity::{IdentityOp, NewKey, Purpose, Purposes, RECOVERED_KEYS_MAX, RecoveredKeys};
use cairn_types::multisig::{MultisigOp, Proposed};
use cairn_types::transaction::METADATA_BYTES_MAX;
use cairn_types::{ProofKind, TreeKind};
use serde_json::{Map, Value, json};

use crate::args::Args;
use crate::fault::Fault;
use crate::json::{did, object};
use crate::txjson::{proofs_of, public_key, public_key_in};

/// Takes the operation's name, then refuses every field that it does not take.
fn operation(
    place: &str,
    value: Value,
    ops: &[(&'static str, &[&str])],
) -> Result<(&'static str, Args), Fault> {
    let every: Vec<&str> =
        ["op"].into_iter().chain(ops.iter().flat_map(|(_, fields)| fields.iter().copied())).collect();
    let mut args = Args::nested(place, value, &every)?;
    let names: Vec<&str> = ops.iter().map(|(name, _)| *name).collect();
    let op = args.one_of("op", &names, |name| ops.iter().find(|(known, _)| *known == name))?;
    let (name, fields) = args.need("op", op)?;
    if let Some(extra) = every.iter().find(|field| args.has(field) && !fields.contains(field)) {
        let list = if fields.is_empty() { "none".to_owned() } else { fields.join(", ") };
        return Err(Fault::invalid(format!("{place}: `{name}` takes no `{extra}`; it takes {list}")));
    }
    Ok((name, args))
}

fn small(args: &mut Args, place: &str, name: &str) -> Result<Option<u16>, Fault> {
    args.int(name)?
        .map(|value| {
            u16::try_from(value)
                .map_err(|_| Fault::invalid(format!("{place}.{name} is {value}; expected at most 65535")))
        })
        .transpose()
}

fn purposes(args: &mut Args, place: &str) -> Result<Purposes, Fault> {
    let Some(items) = args.list("purposes", Purpose::NAMES.len())? else { return Ok(Purposes::ORDINARY) };
    let known = Purpose::NAMES.map(|(_, name)| name).join(", ");
    let read = |item: &Value| item.as_str().and_then(Purpose::from_name);
    let all: Option<Vec<Purpose>> = items.iter().map(read).collect();
    all.and_then(Purposes::of).ok_or_else(|| {
        Fault::invalid(format!(
            "{place}.purposes must be some of {known}; recovery stands alone, and there must be at least one"
        ))
    })
}

const IDENTITY_OPS: &[(&str, &[&str])] = &[
    ("register", &[]),
    ("register_agent", &["owner"]),
    ("add_key", &["key", "purposes", "key_expires_ms"]),
    ("rotate_key", &["index", "key", "key_expires_ms"]),
    ("revoke_key", &["index"]),
    ("set_threshold", &["threshold"]),
    ("admit", &["address"]),
    ("recover", &["keys", "threshold"]),
    ("deactivate", &[]),
];

/// Reads an identity operation.
///
/// # Errors
/// What was wrong, and what was expected.
pub(crate) fn identity_op(place: &str, value: Value) -> Result<IdentityOp, Fault> {
    let (op, mut args) = operation(place, value, IDENTITY_OPS)?;
    let key = args.take("key").map(|key| public_key(&format!("{place}.key"), key)).transpose()?;
    let index = small(&mut args, place, "index")?;
    let threshold = small(&mut args, place, "threshold")?;
    let expires_ms = args.int("key_expires_ms")?;
    Ok(match op {
        "register" => IdentityOp::Register,
        "register_agent" => {
            let owner = args.address("owner")?;
            IdentityOp::RegisterAgent { owner: args.need("owner", owner)? }
        }
        "add_key" => {
            let purposes = purposes(&mut args, place)?;
            IdentityOp::AddKey(NewKey { key: args.need("key", key)?, purposes, expires_ms })
        }
        "rotate_key" => IdentityOp::RotateKey {
            index: args.need("index", index)?,
            key: args.need("key", key)?,
            expires_ms,
        },
        "revoke_key" => IdentityOp::RevokeKey(args.need("index", index)?),
        "set_threshold" => IdentityOp::SetThreshold(args.need("threshold", threshold)?),
        "recover" => {
            let keys = args.list("keys", RECOVERED_KEYS_MAX)?;
            let keys = args.need("keys", keys)?;
            if keys.is_empty() {
                return Err(Fault::invalid(format!(
                    "{place}.keys is empty; expected 1 to {RECOVERED_KEYS_MAX}"
                )));
            }
            let keys = keys
                .into_iter()
                .enumerate()
                .map(|(at, value)| new_key(&format!("{place}.keys[{at}]"), value))
                .collect::<Result<_, _>>()?;
            IdentityOp::Recover { keys: RecoveredKeys(keys), threshold: args.need("threshold", threshold)? }
        }
        "deactivate" => IdentityOp::Deactivate,
        _ => {
            let address = args.address("address")?;
            IdentityOp::Admit(args.need("address", address)?)
        }
    })
}

fn new_key(place: &str, value: Value) -> Result<NewKey, Fault> {
    let mut args = Args::nested(place, value, &["scheme", "key_b64", "purposes", "expires_ms"])?;
    let key = public_key_in(place, &mut args)?;
    Ok(NewKey { key, purposes: purposes(&mut args, place)?, expires_ms: args.int("expires_ms")? })
}

const DELEGATION_OPS: &[(&str, &[&str])] = &[
    ("grant", &["delegate", "terms"]),
    ("revoke", &["delegate"]),
    ("renounce", &["principal"]),
    ("set_agent", &["agent", "mandate"]),
    ("retire_agent", &["agent"]),
];

/// Reads a delegation operation.
///
/// # Errors
/// What was wrong, and what was expected.
pub(crate) fn delegation_op(place: &str, value: Value) -> Result<DelegationOp, Fault> {
    let (op, mut args) = operation(place, value, DELEGATION_OPS)?;
    let delegate = args.address("delegate")?;
    let agent = args.address("agent")?;
    let principal = args.address("principal")?;
    Ok(match op {
        "grant" => {
            let terms = terms(&format!("{place}.terms"), args.take("terms").unwrap_or_else(|| json!({})))?;
            DelegationOp::Grant { delegate: args.need("delegate", delegate)?, terms }
        }
        "revoke" => DelegationOp::Revoke { delegate: args.need("delegate", delegate)? },
        "renounce" => DelegationOp::Renounce { principal: args.need("principal", principal)? },
        "set_agent" => {
            let place = format!("{place}.mandate");
            let value = args.take("mandate").unwrap_or_else(|| json!({}));
            let mut inner = Args::nested(&place, value, &["kinds", "tree", "metadata_bytes_max", "rate"])?;
            let mandate = Mandate { scope: scope(&place, &mut inner)?, rate: rate(&place, &mut inner)? };
            DelegationOp::SetAgent { agent: args.need("agent", agent)?, mandate }
        }
        _ => DelegationOp::RetireAgent { agent: args.need("agent", agent)? },
    })
}

fn terms(place: &str, value: Value) -> Result<Terms, Fault> {
    let known = ["kinds", "tree", "metadata_bytes_max", "proofs_max", "rate", "expires_ms"];
    let mut args = Args::nested(place, value, &known)?;
    Ok(Terms {
        scope: scope(place, &mut args)?,
        proofs_max: args.int("proofs_max")?,
        rate: rate(place, &mut args)?,
        expires_ms: args.int("expires_ms")?,
    })
}

fn scope(place: &str, args: &mut Args) -> Result<Scope, Fault> {
    let kinds = match args.list("kinds", ProofKind::NAMES.len())? {
        None => Kinds::ALL,
        Some(items) => {
            let read = |item: &Value| item.as_str().and_then(ProofKind::from_name);
            let all: Option<Vec<ProofKind>> = items.iter().map(read).collect();
            all.and_then(Kinds::of).ok_or_else(|| {
                let known = ProofKind::NAMES.map(|(_, name)| name).join(", ");
                Fault::invalid(format!("{place}.kinds must be one or more of {known}"))
            })?
        }
    };
    let trees = [TreeKind::CairnB3V1.name(), TreeKind::Rfc9162Sha256.name()];
    let tree = args.one_of("tree", &trees, TreeKind::from_name)?;
    let metadata_bytes_max = small(args, place, "metadata_bytes_max")?.unwrap_or(METADATA_BYTES_MAX as u16);
    Ok(Scope { kinds, tree, metadata_bytes_max })
}

fn rate(place: &str, args: &mut Args) -> Result<Option<Rate>, Fault> {
    let Some(value) = args.take("rate") else { return Ok(None) };
    let place = format!("{place}.rate");
    let mut args = Args::nested(&place, value, &["count", "period_ms"])?;
    let count = args.int("count")?;
    let count = args.need("count", count)?;
    let count = u32::try_from(count)
        .map_err(|_| Fault::invalid(format!("{place}.count is {count}; expected at most {}", u32::MAX)))?;
    let period_ms = args.int("period_ms")?;
    Ok(Some(Rate { count, period_ms: args.need("period_ms", period_ms)? }))
}

const MULTISIG_OPS: &[(&str, &[&str])] = &[
    ("propose", &["expires_ms", "identity", "delegation", "proofs"]),
    ("approve", &["proposal"]),
    ("cancel", &["proposal"]),
];

/// Reads a step of shared control.
///
/// # Errors
/// What was wrong, and what was expected.
pub(crate) fn multisig_op(place: &str, value: Value) -> Result<MultisigOp, Fault> {
    let (op, mut args) = operation(place, value, MULTISIG_OPS)?;
    if op == "propose" {
        let expires_ms = args.int("expires_ms")?;
        let payload = match (args.take("identity"), args.take("delegation"), args.take("proofs")) {
            (Some(op), None, None) => Proposed::Identity(identity_op(&format!("{place}.identity"), op)?),
            (None, Some(op), None) => {
                Proposed::Delegation(delegation_op(&format!("{place}.delegation"), op)?)
            }
            (None, None, Some(proofs)) => Proposed::Proofs(proofs_of(&format!("{place}.proofs"), proofs)?),
            _ => {
                return Err(Fault::invalid(format!(
                    "{place} proposes exactly one of identity, delegation and proofs"
                )));
            }
        };
        return Ok(MultisigOp::Propose { payload, expires_ms: args.need("expires_ms", expires_ms)? });
    }
    let proposal = args.id("proposal")?;
    let proposal = args.need("proposal", proposal)?;
    Ok(if op == "approve" { MultisigOp::Approve { proposal } } else { MultisigOp::Cancel { proposal } })
}

fn public_key_json(key: &cairn_types::PublicKey) -> Map<String, Value> {
    object(crate::json::public_key(key))
}

pub(crate) fn purposes_json(purposes: Purposes) -> Value {
    purposes.iter().map(Purpose::name).collect::<Vec<_>>().into()
}

/// An identity operation as JSON, the form that is also read.
pub(crate) fn identity_op_json(op: &IdentityOp) -> Value {
    match op {
        IdentityOp::Register => json!({ "op": "register" }),
        IdentityOp::RegisterAgent { owner } => json!({ "op": "register_agent", "owner": did(owner) }),
        IdentityOp::AddKey(new) => json!({
            "op": "add_key", "key": public_key_json(&new.key), "purposes": purposes_json(new.purposes),
            "key_expires_ms": new.expires_ms,
        }),
        IdentityOp::RotateKey { index, key, expires_ms } => json!({
            "op": "rotate_key", "index": index, "key": public_key_json(key), "key_expires_ms": expires_ms,
        }),
        IdentityOp::RevokeKey(index) => json!({ "op": "revoke_key", "index": index }),
        IdentityOp::SetThreshold(threshold) => json!({ "op": "set_threshold", "threshold": threshold }),
        IdentityOp::Admit(address) => json!({ "op": "admit", "address": address.to_string() }),
        IdentityOp::Recover { keys, threshold } => {
            let keys: Vec<_> = keys
                .0
                .iter()
                .map(|new| {
                    let mut key = public_key_json(&new.key);
                    key.insert("purposes".into(), purposes_json(new.purposes));
                    key.insert("expires_ms".into(), new.expires_ms.into());
                    key
                })
                .collect();
            json!({ "op": "recover", "threshold": threshold, "keys": keys })
        }
        IdentityOp::Deactivate => json!({ "op": "deactivate" }),
    }
}

fn scope_json(scope: &Scope, rate: Option<Rate>) -> Map<String, Value> {
    object(json!({
        "kinds": scope.kinds.iter().map(ProofKind::name).collect::<Vec<_>>(),
        "tree": scope.tree.map(TreeKind::name),
        "metadata_bytes_max": scope.metadata_bytes_max,
        "rate": rate.map(|rate| json!({ "count": rate.count, "period_ms": rate.period_ms })),
    }))
}

pub(crate) fn terms_json(terms: &Terms) -> Value {
    let mut value = scope_json(&terms.scope, terms.rate);
    value.insert("proofs_max".into(), terms.proofs_max.into());
    value.insert("expires_ms".into(), terms.expires_ms.into());
    Value::Object(value)
}

pub(crate) fn mandate_json(mandate: &Mandate) -> Value {
    Value::Object(scope_json(&mandate.scope, mandate.rate))
}

/// A delegation operation as JSON, the form that is also read.
pub(crate) fn delegation_op_json(op: &DelegationOp) -> Value {
    match op {
        DelegationOp::Grant { delegate, terms } => {
            json!({ "op": "grant", "delegate": did(delegate), "terms": terms_json(terms) })
        }
        DelegationOp::Revoke { delegate } => json!({ "op": "revoke", "delegate": did(delegate) }),
        DelegationOp::Renounce { principal } => json!({ "op": "renounce", "principal": did(principal) }),
        DelegationOp::SetAgent { agent, mandate } => {
            json!({ "op": "set_agent", "agent": did(agent), "mandate": mandate_json(mandate) })
        }
        DelegationOp::RetireAgent { agent } => json!({ "op": "retire_agent", "agent": did(agent) }),
    }
}

/// A proposed payload as JSON: one of `identity`, `delegation`, `proofs`.
pub(crate) fn proposed_json(payload: &Proposed) -> Map<String, Value> {
    object(match payload {
        Proposed::Identity(op) => json!({ "identity": identity_op_json(op) }),
        Proposed::Delegation(op) => json!({ "delegation": delegation_op_json(op) }),
        Proposed::Proofs(proofs) => {
            json!({ "proofs": proofs.0.iter().map(crate::json::proof).collect::<Vec<_>>() })
        }
    })
}

/// A step of shared control as JSON, the form that is also read.
pub(crate) fn multisig_op_json(op: &MultisigOp) -> Value {
    match op {
        MultisigOp::Propose { payload, expires_ms } => {
            let mut value = proposed_json(payload);
            value.insert("op".into(), "propose".into());
            value.insert("expires_ms".into(), (*expires_ms).into());
            Value::Object(value)
        }
        MultisigOp::Approve { proposal } => json!({ "op": "approve", "proposal": proposal.to_string() }),
        MultisigOp::Cancel { proposal } => json!({ "op": "cancel", "proposal": proposal.to_string() }),
    }
}
