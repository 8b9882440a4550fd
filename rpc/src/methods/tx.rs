//! `tx_*`.

use std::sync::Arc;

use serde_json::{Value, json};

use super::proof::{SUBMIT_ERRORS, WAITS, outcome_json, wait_of};
use super::shapes::SUBMITTED;
use crate::args::Args;
use crate::backend::{FinalTx, SubmitState};
use crate::calls;
use crate::context::Context;
use crate::fault::{self, Fault};
use crate::json;
use crate::method::{Method, Serve, Shape, opt, req};
use crate::txjson;

pub(crate) const METHODS: &[Method] = &[
    Method {
        name: "tx_submit",
        doc: "Submits a signed transaction of any kind, and waits as asked.",
        params: &[
            req("tx", Shape::Transaction, "the signed transaction"),
            opt("wait", Shape::OneOf(WAITS), "what to wait for; final when left out"),
            opt("timeout_ms", Shape::Int, "longest wait, at most 30000; 10000 when left out"),
        ],
        result: Shape::Object(SUBMITTED),
        errors: SUBMIT_ERRORS,
        example: r#"{"tx":"<tx>","wait":"accepted"}"#,
        serve: Serve::Call(|cx, args| Box::pin(submit(cx, args))),
    },
    Method {
        name: "tx_get",
        doc: "A transaction, pending or final.",
        params: &[req("tx_id", Shape::Id, "the transaction's id")],
        result: Shape::Object(&[
            req("tx_id", Shape::Id, "the transaction's id"),
            req("state", Shape::OneOf(&["final", "pending"]), "whether a final block holds it"),
            opt("height", Shape::Int, "the block that holds it"),
            opt("block", Shape::Id, "that block's id"),
            opt("index", Shape::Int, "position in the block"),
            opt("time", Shape::Time, "that block's time"),
            opt("time_ms", Shape::Int, "the same in Unix milliseconds"),
            opt("proofs", Shape::List(&Shape::Any), "the records it made"),
            opt("transaction", Shape::AnyObject, "its content, while this node keeps it"),
        ]),
        errors: &[fault::NOT_FOUND],
        example: r#"{"tx_id":"<tx_id>"}"#,
        serve: Serve::Call(|cx, args| Box::pin(get(cx, args))),
    },
    Method {
        name: "tx_check",
        doc: "Everything submitting checks, with no effect. An invalid transaction gives the error that submitting would.",
        params: &[req("tx", Shape::Transaction, "the signed transaction")],
        result: Shape::Object(&[
            req("ok", Shape::Bool, "true"),
            req("tx_id", Shape::Id, "the id it has, or the earlier one for a repeat"),
            req("duplicate", Shape::Bool, "whether it is known already"),
            req("proof_ids", Shape::List(&Shape::Id), "the ids of its proofs"),
        ]),
        errors: SUBMIT_ERRORS,
        example: r#"{"tx":"<tx>"}"#,
        serve: Serve::Call(|cx, args| Box::pin(check(cx, args))),
    },
];

async fn submit(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let wait = wait_of(&mut args)?;
    let tx = args.take("tx").ok_or_else(|| args.missing("tx"))?;
    let tx = txjson::transaction(tx, cx.backend.about().chain)?;
    Ok(Value::Object(outcome_json(&calls::submit(&cx, tx, wait).await?)))
}

async fn get(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let id = args.id("tx_id")?;
    let id = args.need("tx_id", id)?;
    let found = calls::transaction(&cx, id).await?;
    let mut value = found.landed.as_ref().map(landed_json).unwrap_or_default();
    value.insert("tx_id".into(), id.to_string().into());
    value.insert("state".into(), if found.landed.is_some() { "final" } else { "pending" }.into());
    if let Some(signed) = &found.signed {
        value.insert("transaction".into(), json::transaction(signed));
    }
    Ok(Value::Object(value))
}

fn landed_json(landed: &FinalTx) -> serde_json::Map<String, Value> {
    let proofs: Vec<_> = landed.records.iter().map(json::record).collect();
    json::object(json!({
        "height": landed.height.get(),
        "block": landed.block.to_string(),
        "index": landed.index,
        "time": json::time(landed.time_ms),
        "time_ms": landed.time_ms,
        "proofs": proofs,
    }))
}

async fn check(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let tx = args.take("tx").ok_or_else(|| args.missing("tx"))?;
    let checked = cx.backend.check(txjson::transaction(tx, cx.backend.about().chain)?).await?;
    let proof_ids: Vec<_> = checked.proof_ids.iter().map(ToString::to_string).collect();
    Ok(json!({
        "ok": true,
        "tx_id": checked.tx_id.to_string(),
        "duplicate": checked.state != SubmitState::New,
        "proof_ids": proof_ids,
    }))
}
