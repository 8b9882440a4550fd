//! The chain's types as the API's JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cairn_types::transaction::{KeyRef, Payload};
use cairn_types::{
    Address, Block, CommitCert, Header, Params, Proof, PublicKey, Record, SignedTransaction, ValidatorSet,
    encode,
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::backend::{FinalBlock, Verdict};
use crate::control_json;
use crate::governance_json;

/// Padded base64.
pub(crate) fn b64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Unix milliseconds as RFC 3339 in UTC; empty for a time no calendar reaches.
pub(crate) fn time(time_ms: u64) -> String {
    i64::try_from(time_ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .map_or_else(String::new, |time| format!("{time:.3}"))
}

/// `did:cairn:<address>`.
pub(crate) fn did(address: &Address) -> String {
    format!("did:cairn:{address}")
}

fn optional<T: ToString>(value: Option<T>) -> Value {
    value.map_or(Value::Null, |value| Value::String(value.to_string()))
}

pub(crate) fn record(record: &Record) -> Map<String, Value> {
    let value = json!({
        "seq": record.seq,
        "proof_id": record.proof_id.to_string(),
        "kind": record.kind.name(),
        "tree": record.tree.name(),
        "root": record.root.to_string(),
        "leaves": record.leaves,
        "sender": record.sender.to_string(),
        "key_address": record.key_address.to_string(),
        "on_behalf_of": optional(record.on_behalf_of),
        "previous": optional(record.previous),
        "subject": optional(record.subject),
        "reference": record.reference,
        "metadata_hash": record.metadata_hash.to_string(),
        "tx_id": record.tx_id.to_string(),
        "height": record.height.get(),
        "time": time(record.time_ms),
        "time_ms": record.time_ms,
        "record_b64": b64(&record.to_bytes()),
    });
    object(value)
}

/// The members of an object value.
pub(crate) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

pub(crate) fn header(header: &Header) -> Value {
    json!({
        "id": header.id().to_string(),
        "version": header.version,
        "chain": header.chain.to_string(),
        "epoch": header.epoch.get(),
        "view": header.view.get(),
        "height": header.height.get(),
        "parent": header.parent.to_string(),
        "parent_view": header.parent_view.get(),
        "time": time(header.time_ms),
        "time_ms": header.time_ms,
        "proposer": header.proposer.0,
        "tx_root": header.tx_root.to_string(),
        "tx_count": header.tx_count,
        "state_root": header.state_root.to_string(),
        "anchors_root": header.anchors_root.to_string(),
        "anchors_size": header.anchors_size,
        "anchors_sha256": header.anchors_sha256.to_string(),
        "history_root": header.history_root.to_string(),
        "validators": header.validators.to_string(),
        "next_validators": header.next_validators.to_string(),
        "header_b64": b64(&encode(header)),
    })
}

pub(crate) fn block(block: &Block) -> Value {
    let transactions: Vec<_> = block.transactions().iter().map(|tx| transaction(tx)).collect();
    json!({ "header": header(block.header()), "transactions": transactions })
}

/// A transaction without its signatures, and with the canonical bytes that include them.
pub(crate) fn transaction(signed: &SignedTransaction) -> Value {
    let tx = &signed.transaction;
    let keys: Vec<_> = tx.keys.iter().map(key_ref).collect();
    let mut value = object(json!({
        "tx_id": tx.id().to_string(),
        "version": tx.version,
        "chain": tx.chain.to_string(),
        "sender": tx.sender.to_string(),
        "nonce": tx.nonce,
        "expires_ms": tx.expires_ms,
        "keys": keys,
        "tx_b64": b64(&encode(signed)),
    }));
    match &tx.payload {
        Payload::Proofs(proofs) => {
            let proofs: Vec<_> = proofs.0.iter().map(|proof| proof_in(signed, proof)).collect();
            value.insert("proofs".into(), proofs.into());
        }
        Payload::Identity(op) => {
            value.insert("identity".into(), control_json::identity_op_json(op));
        }
        Payload::Delegation(op) => {
            value.insert("delegation".into(), control_json::delegation_op_json(op));
        }
        Payload::Multisig(op) => {
            value.insert("multisig".into(), control_json::multisig_op_json(op));
        }
        Payload::Governance(op) => {
            value.insert("governance".into(), governance_json::governance(op));
        }
        Payload::Evidence(evidence) => {
            value.insert("evidence".into(), governance_json::evidence(evidence));
        }
    }
    Value::Object(value)
}

fn key_ref(key: &KeyRef) -> Value {
    match key {
        KeyRef::Inline(key) => json!({ "scheme": key.scheme().name(), "address": key.address().to_string() }),
        KeyRef::Registered(index) => json!({ "index": index }),
    }
}

fn proof_in(signed: &SignedTransaction, given: &Proof) -> Value {
    let tx = &signed.transaction;
    let mut value = object(proof(given));
    value.insert("proof_id".into(), given.id(tx.chain, tx.sender).to_string().into());
    Value::Object(value)
}

/// A proof as JSON, the form that is also read.
pub(crate) fn proof(proof: &Proof) -> Value {
    json!({
        "kind": proof.kind.name(),
        "tree": proof.tree.name(),
        "root": proof.root.to_string(),
        "leaves": proof.leaves,
        "reference": proof.reference,
        "previous": optional(proof.previous),
        "subject": optional(proof.subject),
        "on_behalf_of": optional(proof.on_behalf_of),
        "metadata_b64": b64(&proof.metadata),
    })
}

pub(crate) fn public_key(key: &PublicKey) -> Value {
    json!({ "scheme": key.scheme().name(), "key_b64": b64(key.as_bytes()) })
}

pub(crate) fn certificate(cert: &CommitCert) -> Value {
    let signers: Vec<_> = cert.signer_indexes().map(|index| index.0).collect();
    json!({
        "epoch": cert.epoch.get(),
        "view": cert.view.get(),
        "block": cert.block.to_string(),
        "signers": signers,
        "certificate_b64": b64(&encode(cert)),
    })
}

pub(crate) fn final_block(block: &FinalBlock) -> Map<String, Value> {
    let transactions: Vec<_> = block.transactions.iter().map(ToString::to_string).collect();
    object(json!({
        "height": block.header.height.get(),
        "id": block.id.to_string(),
        "epoch": block.header.epoch.get(),
        "view": block.header.view.get(),
        "time": time(block.header.time_ms),
        "time_ms": block.header.time_ms,
        "proposer": block.header.proposer.0,
        "anchors_size": block.header.anchors_size,
        "proofs": block.records.len(),
        "transactions": transactions,
    }))
}

pub(crate) fn params(params: &Params) -> Value {
    json!({
        "timeout_base_ms": params.timeout_base_ms,
        "timeout_cap_ms": params.timeout_cap_ms,
        "drift_ms": params.drift_ms,
        "lag_max_ms": params.lag_max_ms,
        "interval_min_ms": params.interval_min_ms,
        "interval_idle_ms": params.interval_idle_ms,
        "block_bytes_max": params.block_bytes_max,
        "transaction_bytes_max": params.transaction_bytes_max,
        "replay_window_ms": params.replay_window_ms,
    })
}

pub(crate) fn validator_set(set: &ValidatorSet) -> Value {
    json!({ "epoch": set.epoch().get(), "digest": set.digest().to_string(), "validators_b64": b64(&encode(set)) })
}

pub(crate) fn verdict(verdict: &Verdict) -> Map<String, Value> {
    let checks: Vec<_> = verdict
        .checks
        .iter()
        .map(|check| json!({ "name": check.name, "ok": check.ok, "detail": check.detail }))
        .collect();
    let mut value = object(json!({ "valid": verdict.valid, "checks": checks }));
    if let Some(proven) = &verdict.record {
        value.insert("record".into(), record(proven).into());
    }
    value
}
