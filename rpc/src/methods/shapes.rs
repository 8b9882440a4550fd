//! Objects that several methods give.

use crate::method::{Field, Shape, opt, req};

pub(super) const RECORD: &[Field] = &[
    req("seq", Shape::Int, "position in the anchor log, from 0"),
    req("proof_id", Shape::Id, "the proof's id"),
    req("kind", Shape::Text, "what the root stands for: batch, claim, ..."),
    req("tree", Shape::OneOf(&["cairn-b3-v1", "rfc9162-sha256"]), "how the batch tree hashes"),
    req("root", Shape::Id, "the anchored root"),
    req("leaves", Shape::Int, "leaves under the root"),
    req("sender", Shape::Id, "who anchored it"),
    req("key_address", Shape::Id, "address of the first key that signed"),
    req("on_behalf_of", Shape::Any, "the principal, or null"),
    req("previous", Shape::Any, "the proof this one continues, or null"),
    req("subject", Shape::Any, "the proof this one speaks about, or null"),
    req("reference", Shape::Text, "the sender's own id; may be empty"),
    req("metadata_hash", Shape::Id, "H[metadata] of the proof's metadata"),
    req("tx_id", Shape::Id, "the transaction that carried it"),
    req("height", Shape::Int, "the block that carried it"),
    req("time", Shape::Time, "that block's time"),
    req("time_ms", Shape::Int, "the same in Unix milliseconds"),
    req("record_b64", Shape::B64, "canonical bytes of the record: the leaf of the anchor logs"),
];

/// A record with `state`, or what is known of a pending proof.
pub(super) const PROOF: &[Field] = &[
    req("state", Shape::OneOf(&["final", "pending"]), "a pending proof has only proof_id and tx_id beside"),
    req("proof_id", Shape::Id, "the proof's id"),
    req("tx_id", Shape::Id, "the transaction that carries it"),
    opt("seq", Shape::Int, "position in the anchor log, from 0"),
    opt("kind", Shape::Text, "what the root stands for"),
    opt("tree", Shape::Text, "how the batch tree hashes"),
    opt("root", Shape::Id, "the anchored root"),
    opt("leaves", Shape::Int, "leaves under the root"),
    opt("sender", Shape::Id, "who anchored it"),
    opt("key_address", Shape::Id, "address of the first key that signed"),
    opt("on_behalf_of", Shape::Any, "the principal, or null"),
    opt("previous", Shape::Any, "the proof this one continues, or null"),
    opt("subject", Shape::Any, "the proof this one speaks about, or null"),
    opt("reference", Shape::Text, "the sender's own id; may be empty"),
    opt("metadata_hash", Shape::Id, "H[metadata] of the proof's metadata"),
    opt("height", Shape::Int, "the block that carried it"),
    opt("time", Shape::Time, "that block's time"),
    opt("time_ms", Shape::Int, "the same in Unix milliseconds"),
    opt("record_b64", Shape::B64, "canonical bytes of the record"),
    opt("others", Shape::List(&Shape::Object(RECORD)), "further records with the same key, by seq"),
    opt("revoked", Shape::Bool, "whether its own author has revoked it"),
    opt(
        "statements",
        Shape::List(&Shape::AnyObject),
        "what was anchored about it through `subject`, the first 100",
    ),
];

pub(super) const HEADER: &[Field] = &[
    req("id", Shape::Id, "the block id"),
    req("version", Shape::Int, "header version"),
    req("chain", Shape::Id, "the chain's identity"),
    req("epoch", Shape::Int, "the epoch whose validators sign it"),
    req("view", Shape::Int, "the view it was proposed in"),
    req("height", Shape::Int, "distance from block 0"),
    req("parent", Shape::Id, "the parent block"),
    req("parent_view", Shape::Int, "the view of the parent's certificate"),
    req("time", Shape::Time, "block time"),
    req("time_ms", Shape::Int, "the same in Unix milliseconds"),
    req("proposer", Shape::Int, "index of the proposer in its validator set"),
    req("tx_root", Shape::Id, "root over the transactions"),
    req("tx_count", Shape::Int, "number of transactions"),
    req("state_root", Shape::Id, "root of identities, validators and parameters"),
    req("anchors_root", Shape::Id, "root of the anchor log"),
    req("anchors_size", Shape::Int, "records in the anchor log"),
    req("anchors_sha256", Shape::Id, "root of the same log under SHA-256"),
    req("history_root", Shape::Id, "root over all ancestors' ids"),
    req("validators", Shape::Id, "digest of the set that signs this block"),
    req("next_validators", Shape::Id, "digest of the set that follows"),
    req("header_b64", Shape::B64, "canonical bytes of the header"),
];

pub(super) const VERDICT: &[Field] = &[
    req("valid", Shape::Bool, "whether every check passed"),
    req("checks", Shape::List(&Shape::Object(CHECK)), "the checks made, up to the first that failed"),
    opt("height", Shape::Int, "the block that anchored the root"),
    opt("time", Shape::Time, "that block's time"),
    opt("time_ms", Shape::Int, "the same in Unix milliseconds"),
    opt("record", Shape::Object(RECORD), "receipt_verify: what a valid receipt proves to be anchored"),
    opt(
        "covers",
        Shape::OneOf(&["leaf", "root"]),
        "receipt_verify: root for what receipt_get gives, which speaks of no leaf",
    ),
    opt("advice", Shape::Text, "how to verify without trusting this node"),
];

const CHECK: &[Field] = &[
    req("name", Shape::Text, "what was checked"),
    req("ok", Shape::Bool, "whether it passed"),
    req("detail", Shape::Text, "what was found"),
];

pub(super) const ANCHORED: &[Field] = &[
    req("proof_id", Shape::Id, "id of the (first) proof"),
    req("tx_id", Shape::Id, "the transaction that carries it: the earlier one for a repeat"),
    req("state", Shape::OneOf(&["final", "pending"]), "pending only with wait = accepted"),
    req("duplicate", Shape::Bool, "true when the same proof was known already"),
    req("proofs", Shape::List(&Shape::Any), "every proof of the transaction: {proof_id, seq?}"),
    opt("height", Shape::Int, "the block that carries it"),
    opt("time", Shape::Time, "that block's time"),
    opt("time_ms", Shape::Int, "the same in Unix milliseconds"),
    opt("receipt", Shape::AnyObject, "the receipt of the (first) proof's root, once final"),
];

pub(super) const SUBMITTED: &[Field] = &[
    req("tx_id", Shape::Id, "the transaction"),
    req("state", Shape::OneOf(&["final", "pending"]), "pending only with wait = accepted"),
    req("duplicate", Shape::Bool, "true when it was known already"),
    req("proofs", Shape::List(&Shape::Any), "its proofs, when it has any: {proof_id, seq?}"),
    opt("height", Shape::Int, "the block that carries it"),
    opt("time", Shape::Time, "that block's time"),
    opt("time_ms", Shape::Int, "the same in Unix milliseconds"),
];
