//! The rows of the names that other tools already use.

use super::compat;
use super::proof::SUBMIT_ERRORS;
use crate::fault::{self, FaultKind};
use crate::method::{Field, Method, Serve, Shape, opt, req};

const HEIGHT: &[Field] = &[opt("height", Shape::At, "a height, or latest; latest when left out")];
const AT_ERRORS: &[FaultKind] = &[fault::NOT_FOUND, fault::PRUNED, fault::FUTURE_HEIGHT];
const PAGED: &[Field] = &[
    opt("height", Shape::At, "a height, or latest; latest when left out"),
    opt("page", Shape::Any, "accepted and ignored: all validators are on one page"),
    opt("per_page", Shape::Any, "accepted and ignored"),
];
const TX: &[Field] = &[req(
    "tx",
    Shape::Transaction,
    "base64 of a signed transaction, or {type: 7, data: {sender, expires_ms, key, ...PROOF fields}, signature, nonce, timestamp}",
)];

pub(crate) const METHODS: &[Method] = &[
    Method {
        name: "health",
        doc: "Answers when the node runs.",
        params: &[],
        result: Shape::AnyObject,
        errors: &[],
        example: "{}",
        serve: Serve::Call(|_, _| Box::pin(async { Ok(compat::health()) })),
    },
    Method {
        name: "status",
        doc: "Flat `chain_id, height, block_hash, timestamp, validators, pending_txs` beside CometBFT's `node_info, sync_info, validator_info`.",
        params: &[],
        result: Shape::AnyObject,
        errors: &[],
        example: "{}",
        serve: Serve::Call(|cx, _| Box::pin(compat::status(cx))),
    },
    Method {
        name: "genesis",
        doc: "The genesis file under `genesis`.",
        params: &[],
        result: Shape::AnyObject,
        errors: &[],
        example: "{}",
        serve: Serve::Call(|cx, _| Box::pin(compat::genesis(cx))),
    },
    Method {
        name: "block",
        doc: "A final block.",
        params: HEIGHT,
        result: Shape::AnyObject,
        errors: AT_ERRORS,
        example: r#"{"height":"latest"}"#,
        serve: Serve::Call(|cx, mut args| {
            Box::pin(async move {
                let at = compat::height_of(&mut args)?;
                compat::block(cx, at).await
            })
        }),
    },
    Method {
        name: "block_by_hash",
        doc: "A final block by its id.",
        params: &[req("hash", Shape::Id, "the block id")],
        result: Shape::AnyObject,
        errors: &[fault::NOT_FOUND],
        example: r#"{"hash":"<block_id>"}"#,
        serve: Serve::Call(|cx, args| Box::pin(compat::block_by_hash(cx, args))),
    },
    Method {
        name: "header",
        doc: "A final header.",
        params: HEIGHT,
        result: Shape::AnyObject,
        errors: AT_ERRORS,
        example: r#"{"height":1}"#,
        serve: Serve::Call(|cx, args| Box::pin(compat::header(cx, args))),
    },
    Method {
        name: "commit",
        doc: "A final header with the certificate that made it final.",
        params: HEIGHT,
        result: Shape::AnyObject,
        errors: AT_ERRORS,
        example: r#"{"height":1}"#,
        serve: Serve::Call(|cx, args| Box::pin(compat::commit(cx, args))),
    },
    Method {
        name: "validators",
        doc: "The validators: `address, stake, active` beside CometBFT's fields.",
        params: PAGED,
        result: Shape::AnyObject,
        errors: AT_ERRORS,
        example: "{}",
        serve: Serve::Call(|cx, args| Box::pin(compat::validators(cx, args))),
    },
    Method {
        name: "validator",
        doc: "One validator of the latest set.",
        params: &[req("address", Shape::Address, "its address")],
        result: Shape::AnyObject,
        errors: &[fault::NOT_FOUND],
        example: r#"{"address":"<address>"}"#,
        serve: Serve::Call(|cx, args| Box::pin(compat::validator(cx, args))),
    },
    Method {
        name: "account",
        doc: "`{nonce}`: a nonce not used yet. Nonces are any numbers here, not a sequence.",
        params: &[req("address", Shape::Address, "the address or DID")],
        result: Shape::AnyObject,
        errors: &[],
        example: r#"{"address":"<address>"}"#,
        serve: Serve::Call(|cx, args| Box::pin(compat::account(cx, args))),
    },
    Method {
        name: "tx",
        doc: "A transaction by its id.",
        params: &[
            req("hash", Shape::Id, "the transaction id"),
            opt("prove", Shape::Any, "accepted and ignored"),
        ],
        result: Shape::AnyObject,
        errors: &[fault::NOT_FOUND],
        example: r#"{"hash":"<tx_id>"}"#,
        serve: Serve::Call(|cx, args| Box::pin(compat::tx(cx, args))),
    },
    Method {
        name: "proof",
        doc: "`{proof_id, proof_hash, height, tx_hash}` of a final proof, by its id or its root; an error, never null, when there is none.",
        params: &[req("id", Shape::Id, "the proof's id, or its root")],
        result: Shape::AnyObject,
        errors: &[fault::NOT_FOUND],
        example: r#"{"id":"<proof_id>"}"#,
        serve: Serve::Call(|cx, args| Box::pin(compat::proof(cx, args))),
    },
    Method {
        name: "unconfirmed_txs",
        doc: "Pending transactions.",
        params: &[opt("limit", Shape::Int, "at most so many, up to 100; 30 when left out")],
        result: Shape::AnyObject,
        errors: &[],
        example: r#"{"limit":5}"#,
        serve: Serve::Call(|cx, args| Box::pin(compat::unconfirmed(cx, args, true))),
    },
    Method {
        name: "num_unconfirmed_txs",
        doc: "How many transactions are pending.",
        params: &[],
        result: Shape::AnyObject,
        errors: &[],
        example: "{}",
        serve: Serve::Call(|cx, args| Box::pin(compat::unconfirmed(cx, args, false))),
    },
    Method {
        name: "broadcast_tx_sync",
        doc: "Submits and returns at once: `{hash, height, status, gas_used}`; height is 0 while pending. The type 7 object is rebuilt to canonical bytes, which is what its signature must be over.",
        params: TX,
        result: Shape::AnyObject,
        errors: SUBMIT_ERRORS,
        example: r#"{"tx":"<tx>"}"#,
        serve: Serve::Call(|cx, args| Box::pin(compat::broadcast_sync(cx, args))),
    },
    Method {
        name: "broadcast_tx_commit",
        doc: "Submits and waits until it is final, at most 10 s.",
        params: TX,
        result: Shape::AnyObject,
        errors: SUBMIT_ERRORS,
        example: r#"{"tx":"<tx>"}"#,
        serve: Serve::Call(|cx, args| Box::pin(compat::broadcast_commit(cx, args))),
    },
];
