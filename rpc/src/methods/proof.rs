//! `proof_*` and `receipt_*`.

use std::sync::Arc;
use std::time::Duration;

use cairn_types::{Hash, ProofKind, Record, SignedTransaction, tree};
use futures::future::join_all;
use serde_json::{Map, Value, json};

use super::identity::moment;
use super::limit_field;
use super::links::said_about;
use super::shapes::{ANCHORED, PROOF, RECORD, VERDICT};
use crate::args::Args;
use crate::backend::{ReceiptForm, RecordFilter, RecordKey, Verdict, VerdictCheck};
use crate::calls::{self, Outcome, Wait};
use crate::config::{PAGE_ITEMS_MAX, WAIT_MS_DEFAULT, WAIT_MS_MAX};
use crate::context::Context;
use crate::fault::{self, Fault, FaultKind};
use crate::feed::Stream;
use crate::json;
use crate::method::{Field, Method, Serve, Shape, opt, req};
use crate::txjson;

/// Transactions in one `proof_anchor_many`.
const MANY_MAX: usize = 100;
/// Longest batch path: a tree of 2^64 leaves.
const PATH_MAX: usize = 64;

pub(super) const WAITS: &[&str] = &["accepted", "final"];

/// What submitting can end with.
pub(super) const SUBMIT_ERRORS: &[FaultKind] = &[
    fault::NOT_READY,
    fault::MEMPOOL_FULL,
    fault::TIMEOUT_NOT_FINAL,
    fault::INVALID_SIGNATURE,
    fault::ALREADY_EXPIRED,
    fault::UNKNOWN_IDENTITY,
    fault::KEY_REVOKED,
    fault::THRESHOLD_NOT_MET,
    fault::WRONG_CHAIN,
    fault::EXPIRES_TOO_LATE,
    fault::CONFLICT,
    fault::DELEGATION_MISSING,
    fault::SECRET_MATERIAL,
];

const GET_PARAMS: &[Field] = &[
    opt("proof_id", Shape::Id, "by the proof's id"),
    opt("root", Shape::Id, "by the anchored root"),
    opt("tx_id", Shape::Id, "by the transaction that carried it"),
    opt("sender", Shape::Address, "together with reference"),
    opt("reference", Shape::Text, "the sender's own id, together with sender"),
    opt("at", Shape::At, "as of this block: what was anchored and said by then; latest when left out"),
    opt("at_time", Shape::Text, "in place of `at`: as of this time, RFC 3339 or Unix ms"),
];

pub(crate) const METHODS: &[Method] = &[
    Method {
        name: "proof_anchor",
        doc: "Submits a signed PROOF transaction and, unless told otherwise, waits until it is final and gives the receipt. Submitting the same proof again gives the existing one with `duplicate: true`. The receipt covers the batch root; add the path of your leaf to it.",
        params: &[
            req("tx", Shape::Transaction, "the signed transaction"),
            opt("wait", Shape::OneOf(WAITS), "what to wait for; final when left out"),
            opt("timeout_ms", Shape::Int, "longest wait, at most 30000; 10000 when left out"),
        ],
        result: Shape::Object(ANCHORED),
        errors: SUBMIT_ERRORS,
        example: r#"{"tx":"<tx>","wait":"final","timeout_ms":10000}"#,
        serve: Serve::Call(|cx, args| Box::pin(anchor(cx, args))),
    },
    Method {
        name: "proof_anchor_many",
        doc: "The same for up to 100 transactions: a result or an error for each, in the same order. Each is charged as one call.",
        params: &[
            req("txs", Shape::List(&Shape::Transaction), "1 to 100 signed transactions"),
            opt("wait", Shape::OneOf(WAITS), "what to wait for; final when left out"),
            opt("timeout_ms", Shape::Int, "longest wait for all, at most 30000; 10000 when left out"),
        ],
        result: Shape::Object(&[req(
            "items",
            Shape::List(&Shape::Any),
            "{result} or {error} for each, in order",
        )]),
        errors: SUBMIT_ERRORS,
        example: r#"{"txs":["<tx>"],"wait":"final"}"#,
        serve: Serve::Call(|cx, args| Box::pin(anchor_many(cx, args))),
    },
    Method {
        name: "proof_get",
        doc: "One proof: by its id, its root, its transaction, or its sender and reference. When several records share the key, the one with the lowest seq, the rest in `others`. `statements` lists what was anchored about it through `subject`.",
        params: GET_PARAMS,
        result: Shape::Object(PROOF),
        errors: &[fault::NOT_FOUND, fault::FUTURE_HEIGHT],
        example: r#"{"proof_id":"<proof_id>"}"#,
        serve: Serve::Call(|cx, args| Box::pin(get(cx, args))),
    },
    Method {
        name: "proof_list",
        doc: "Final proofs in the order of the anchor log.",
        params: &[
            opt("sender", Shape::Address, "only of this sender"),
            opt("kind", Shape::Text, "only of this kind"),
            opt("from", Shape::Int, "only from this height on"),
            opt("to", Shape::Int, "only up to this height"),
            limit_field(),
            opt("cursor", Shape::Text, "next_cursor of the page before"),
        ],
        result: Shape::Object(&[
            req("items", Shape::List(&Shape::Object(RECORD)), "records"),
            req("next_cursor", Shape::Any, "text for the next page, or null after the last"),
        ]),
        errors: &[],
        example: r#"{"sender":"<address>","limit":10}"#,
        serve: Serve::Call(|cx, args| Box::pin(list(cx, args))),
    },
    Method {
        name: "proof_verify",
        doc: "Checks that a root is anchored and, with a digest, that the digest is a leaf of its batch. This trusts the node: a receipt verified offline does not.",
        params: &[
            req("root", Shape::Id, "the anchored root"),
            opt("digest", Shape::Id, "the item"),
            opt("salt", Shape::Text, "the leaf's salt, hex of 16 bytes"),
            opt("index", Shape::Int, "the leaf's position; 0 when left out"),
            opt("leaves", Shape::Int, "leaves of the batch; must be the record's"),
            opt("path", Shape::List(&Shape::Id), "siblings, nearest first"),
        ],
        result: Shape::Object(VERDICT),
        errors: &[],
        example: r#"{"root":"<root>"}"#,
        serve: Serve::Call(|cx, args| Box::pin(verify(cx, args))),
    },
    Method {
        name: "proof_subscribe",
        doc: "Final proofs as they come (WebSocket). Each event is `{kind: \"proof\", cursor, proof}`; one that is not read in time is followed by `{kind: \"lagged\", resume_from}` and the end. `GET /v1/events?stream=proofs` gives the same without WebSocket.",
        params: &[
            opt("sender", Shape::Address, "only of this sender"),
            opt("kind", Shape::Text, "only of this kind"),
            opt("from_cursor", Shape::Text, "resume after this event"),
        ],
        result: Shape::Any,
        errors: &[fault::PRUNED, fault::FUTURE_HEIGHT],
        example: r#"{"from_cursor":"0"}"#,
        serve: Serve::Subscribe {
            stream: Stream::Proofs,
            notification: "proof_event",
            unsubscribe: "proof_unsubscribe",
        },
    },
    Method {
        name: "receipt_get",
        doc: "The receipt of a proof's batch root. `standalone` carries the certificate, `checkpoint` relies on a header the verifier has pinned. Add `batch` and your leaf's digest to `subject`, or let `cairn receipt` do it.",
        params: &[
            opt("proof_id", Shape::Id, "by the proof's id"),
            opt("root", Shape::Id, "by the anchored root: the record with the lowest seq"),
            opt("form", Shape::OneOf(FORMS), "standalone when left out"),
        ],
        result: Shape::AnyObject,
        errors: &[fault::NOT_FOUND, fault::PRUNED],
        example: r#"{"proof_id":"<proof_id>","form":"standalone"}"#,
        serve: Serve::Call(|cx, args| Box::pin(receipt_get(cx, args))),
    },
    Method {
        name: "receipt_verify",
        doc: "Verifies a receipt against this node's chain: that of a leaf, or that of a batch's root as `receipt_get` gives it. A receipt is made to be verified offline: prefer `cairn verify`, which trusts only the genesis.",
        params: &[req("receipt", Shape::AnyObject, "the receipt")],
        result: Shape::Object(VERDICT),
        errors: &[],
        example: r#"{"receipt":{"version":1}}"#,
        serve: Serve::Call(|cx, args| Box::pin(receipt_verify(cx, args))),
    },
];

pub(super) const FORMS: &[&str] = &["standalone", "checkpoint"];

/// Reads `form`.
pub(super) fn form_of(args: &mut Args) -> Result<ReceiptForm, Fault> {
    let forms = [ReceiptForm::Standalone, ReceiptForm::Checkpoint];
    let read = |name: &str| FORMS.iter().zip(forms).find(|(known, _)| **known == name).map(|(_, form)| form);
    Ok(args.one_of("form", FORMS, read)?.unwrap_or(ReceiptForm::Standalone))
}

/// Reads `wait` and `timeout_ms`.
pub(super) fn wait_of(args: &mut Args) -> Result<Wait, Fault> {
    let read = |name: &str| WAITS.iter().position(|known| *known == name);
    let wait = args.one_of("wait", WAITS, read)?;
    let timeout_ms = args.int("timeout_ms")?.unwrap_or(WAIT_MS_DEFAULT);
    if timeout_ms > WAIT_MS_MAX {
        return Err(Fault::invalid(format!("timeout_ms is {timeout_ms}; expected at most {WAIT_MS_MAX}")));
    }
    Ok(if wait == Some(0) { Wait::Accepted } else { Wait::Final(Duration::from_millis(timeout_ms)) })
}

async fn anchor(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let wait = wait_of(&mut args)?;
    let tx = args.take("tx").ok_or_else(|| args.missing("tx"))?;
    anchor_one(&cx, tx, wait).await
}

async fn anchor_one(cx: &Context, tx: Value, wait: Wait) -> Result<Value, Fault> {
    let tx = proofs_only(txjson::transaction(tx, cx.backend.about().chain)?)?;
    let outcome = calls::submit(cx, tx, wait).await?;
    let receipt = match outcome.records.first() {
        Some(record) => cx.backend.receipt(record.seq, ReceiptForm::Standalone).await?,
        None => None,
    };
    let mut value = outcome_json(&outcome);
    value.insert("proof_id".into(), outcome.proof_ids.first().map(ToString::to_string).into());
    if let Some(receipt) = receipt {
        value.insert("receipt".into(), parse_own(&receipt)?);
    }
    Ok(Value::Object(value))
}

fn proofs_only(tx: SignedTransaction) -> Result<SignedTransaction, Fault> {
    if tx.transaction.proofs().is_empty() {
        return Err(Fault::invalid("this transaction carries no proofs; other transactions go to tx_submit"));
    }
    Ok(tx)
}

/// JSON text that the node itself made.
pub(super) fn parse_own(text: &str) -> Result<Value, Fault> {
    serde_json::from_str(text).map_err(Fault::internal)
}

/// The part that `proof_anchor` and `tx_submit` share.
pub(super) fn outcome_json(outcome: &Outcome) -> Map<String, Value> {
    let proofs: Vec<_> = outcome
        .proof_ids
        .iter()
        .enumerate()
        .map(|(index, id)| match outcome.records.get(index) {
            Some(record) => json!({ "proof_id": id.to_string(), "seq": record.seq }),
            None => json!({ "proof_id": id.to_string() }),
        })
        .collect();
    let mut value = json::object(json!({
        "tx_id": outcome.tx_id.to_string(),
        "state": if outcome.landed.is_some() { "final" } else { "pending" },
        "duplicate": outcome.duplicate,
        "proofs": proofs,
    }));
    if let Some((height, time_ms)) = outcome.landed {
        value.insert("height".into(), height.get().into());
        value.insert("time".into(), json::time(time_ms).into());
        value.insert("time_ms".into(), time_ms.into());
    }
    value
}

async fn anchor_many(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let wait = wait_of(&mut args)?;
    let txs = args.list("txs", MANY_MAX)?;
    let txs = args.need("txs", txs)?;
    if txs.is_empty() {
        return Err(Fault::invalid(format!("txs is empty; expected 1 to {MANY_MAX} transactions")));
    }
    // The call itself is charged already.
    cx.charge(args.caller(), u32::try_from(txs.len() - 1).unwrap_or(u32::MAX))?;
    let answers = join_all(txs.into_iter().map(|tx| anchor_one(&cx, tx, wait))).await;
    let items: Vec<_> = answers
        .into_iter()
        .map(|answer| match answer {
            Ok(result) => json!({ "result": result }),
            Err(fault) => json!({ "error": fault.to_json() }),
        })
        .collect();
    Ok(json!({ "items": items }))
}

fn key_of(args: &mut Args) -> Result<RecordKey, Fault> {
    let proof = args.id("proof_id")?.map(RecordKey::Proof);
    let root = args.hash("root")?.map(RecordKey::Root);
    let tx = args.id("tx_id")?.map(RecordKey::Tx);
    let reference = match (args.address("sender")?, args.text("reference")?) {
        (Some(sender), Some(reference)) if !reference.is_empty() => {
            Some(RecordKey::Reference { sender, reference })
        }
        (None, None) => None,
        _ => return Err(Fault::invalid("sender and a reference that is not empty belong together")),
    };
    let mut given = [proof, root, tx, reference].into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(key), None) => Ok(key),
        _ => Err(Fault::invalid(
            "name the proof by exactly one of: proof_id, root, tx_id, sender with reference",
        )),
    }
}

async fn get(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let key = key_of(&mut args)?;
    let then = moment(&cx, &mut args).await?.height;
    let until = then.unwrap_or_else(|| calls::latest(&cx));
    let mut records = match calls::records(&cx, key.clone()).await {
        Ok(records) => records,
        Err(not_found @ Fault::NotFound { .. }) if then.is_none() => {
            return pending(&cx, &key).await?.ok_or(not_found);
        }
        Err(other) => return Err(other),
    };
    records.retain(|record| record.height <= until);
    let Some(first) = records.first() else {
        return Err(Fault::not_found(format!("this proof as of height {until} (it was anchored later)")));
    };
    let said = said_about(&cx, first, until).await?;
    let mut value = with_others(&records);
    value.extend(said);
    Ok(Value::Object(value))
}

async fn pending(cx: &Context, key: &RecordKey) -> Result<Option<Value>, Fault> {
    let RecordKey::Proof(proof) = key else { return Ok(None) };
    let tx = cx.backend.pending_proof(*proof).await?;
    Ok(tx.map(|tx| json!({ "state": "pending", "proof_id": proof.to_string(), "tx_id": tx.to_string() })))
}

fn with_others(records: &[Record]) -> Map<String, Value> {
    let mut all = records.iter();
    let mut value = all.next().map(json::record).unwrap_or_default();
    value.insert("state".into(), "final".into());
    let others: Vec<_> = all.map(json::record).collect();
    if !others.is_empty() {
        value.insert("others".into(), others.into());
    }
    value
}

/// Reads a proof kind's name.
pub(crate) fn kind_of(args: &mut Args) -> Result<Option<ProofKind>, Fault> {
    args.one_of("kind", &ProofKind::NAMES.map(|(_, name)| name), ProofKind::from_name)
}

/// Reads a page's size.
pub(super) fn limit_of(args: &mut Args) -> Result<usize, Fault> {
    let limit = args.int("limit")?.unwrap_or(PAGE_ITEMS_MAX as u64);
    usize::try_from(limit)
        .ok()
        .filter(|limit| (1..=PAGE_ITEMS_MAX).contains(limit))
        .ok_or_else(|| Fault::invalid(format!("limit is {limit}; expected 1 to {PAGE_ITEMS_MAX}")))
}

async fn list(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let start = match args.text("cursor")? {
        None => 0,
        Some(cursor) => {
            cursor.parse().map_err(|_| Fault::invalid("cursor must be the next_cursor of an earlier page"))?
        }
    };
    let filter = RecordFilter {
        sender: args.address("sender")?,
        kind: kind_of(&mut args)?,
        from: args.int("from")?.map(cairn_types::Height::new),
        to: args.int("to")?.map(cairn_types::Height::new),
        start,
        limit: limit_of(&mut args)?,
    };
    let page = cx.backend.list(filter).await?;
    let items: Vec<_> = page.records.iter().map(json::record).collect();
    Ok(json!({ "items": items, "next_cursor": page.next.map(|seq| seq.to_string()) }))
}

async fn verify(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let root = args.hash("root")?;
    let root = args.need("root", root)?;
    let leaf = Leaf::read(&mut args)?;
    let found = cx.backend.records(RecordKey::Root(root)).await?;
    let Some(record) = found.first() else {
        let check = failed("anchored", "this node knows no final proof of this root".into());
        return Ok(Value::Object(json::verdict(&Verdict {
            valid: false,
            checks: vec![check],
            record: None,
        })));
    };
    let detail = format!("record {} in block {}", record.seq, record.height);
    let mut checks = vec![VerdictCheck { name: "anchored".into(), ok: true, detail }];
    checks.extend(leaf.checks(record));
    let valid = checks.iter().all(|check| check.ok);
    let mut value = json::verdict(&Verdict { valid, checks, record: None });
    value.insert("height".into(), record.height.get().into());
    value.insert("time".into(), json::time(record.time_ms).into());
    value.insert("time_ms".into(), record.time_ms.into());
    Ok(Value::Object(value))
}

fn failed(name: &str, detail: String) -> VerdictCheck {
    VerdictCheck { name: name.into(), ok: false, detail }
}

/// The leaf that `proof_verify` is asked about.
struct Leaf {
    digest: Option<Hash>,
    salt: Vec<u8>,
    index: u64,
    leaves: Option<u64>,
    path: Vec<Hash>,
}

impl Leaf {
    fn read(args: &mut Args) -> Result<Self, Fault> {
        let salt = args.hex("salt", 16)?.unwrap_or_default();
        if !matches!(salt.len(), 0 | 16) {
            return Err(Fault::invalid(format!("the salt has {} bytes; expected 0 or 16", salt.len())));
        }
        let path = args.list("path", PATH_MAX)?.unwrap_or_default();
        let path = path
            .iter()
            .enumerate()
            .map(|(at, hash)| {
                hash.as_str()
                    .and_then(Hash::from_hex)
                    .ok_or_else(|| Fault::invalid(format!("path[{at}] must be 64 hex digits")))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let leaf = Self {
            digest: args.hash("digest")?,
            salt,
            index: args.int("index")?.unwrap_or(0),
            leaves: args.int("leaves")?,
            path,
        };
        if leaf.digest.is_none() && !(leaf.path.is_empty() && leaf.salt.is_empty()) {
            return Err(Fault::invalid("salt and path say nothing without a digest"));
        }
        Ok(leaf)
    }

    fn checks(&self, record: &Record) -> Vec<VerdictCheck> {
        let mut checks = Vec::new();
        if let Some(leaves) = self.leaves {
            let ok = leaves == record.leaves;
            let detail = format!("{leaves} given, the record has {}", record.leaves);
            checks.push(VerdictCheck { name: "leaves".into(), ok, detail });
        }
        if let Some(digest) = self.digest {
            let leaf = tree::batch_leaf(record.tree, &self.salt, &digest);
            let verified = tree::verify_batch_path(
                record.tree,
                leaf,
                self.index,
                record.leaves,
                &self.path,
                &record.root,
            );
            checks.push(match verified {
                Ok(true) => {
                    let detail = format!("leaf {} of {}", self.index, record.leaves);
                    VerdictCheck { name: "batch path".into(), ok: true, detail }
                }
                Ok(false) => failed("batch path", "the path leads to another root".into()),
                Err(why) => failed("batch path", why.to_string()),
            });
        }
        checks
    }
}

async fn receipt_get(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let form = form_of(&mut args)?;
    let key = match (args.id("proof_id")?, args.hash("root")?) {
        (Some(id), None) => RecordKey::Proof(id),
        (None, Some(root)) => RecordKey::Root(root),
        _ => return Err(Fault::invalid("name the proof by exactly one of: proof_id, root")),
    };
    parse_own(&receipt_text(&cx, key, form).await?)
}

/// The receipt of the first record with this key, JSON text.
///
/// # Errors
/// [`Fault::NotFound`].
pub(crate) async fn receipt_text(cx: &Context, key: RecordKey, form: ReceiptForm) -> Result<String, Fault> {
    let records = calls::records(cx, key).await?;
    let Some(record) = records.first() else { return Err(Fault::not_found("a receipt")) };
    let text = cx.backend.receipt(record.seq, form).await?;
    text.ok_or_else(|| Fault::not_found(format!("a receipt of record {}", record.seq)))
}

async fn receipt_verify(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let receipt = match args.take("receipt") {
        Some(receipt @ Value::Object(_)) => receipt,
        _ => return Err(Fault::invalid("receipt must be the receipt's JSON object")),
    };
    let covers = if receipt.get("subject").is_some() { "leaf" } else { "root" };
    let verdict = cx.backend.verify_receipt(receipt.to_string()).await?;
    let mut value = json::verdict(&verdict);
    value.insert("covers".into(), covers.into());
    let advice =
        "this answer trusts the node; `cairn verify` checks the receipt offline against the genesis alone";
    value.insert("advice".into(), advice.into());
    Ok(Value::Object(value))
}
