//! `receipt_bundle`, `log_*`, `chain_blocks`: what holders of receipts and auditors ask for.

use std::sync::Arc;

use cairn_types::{Hash, Height, encode};
use serde_json::{Value, json};

use super::proof::{FORMS, form_of, parse_own};
use crate::args::Args;
use crate::backend::{AnchorLog, ReceiptForm};
use crate::calls;
use crate::context::Context;
use crate::fault::{self, Fault};
use crate::json;
use crate::method::{Method, Serve, Shape, opt, req};

/// Records in one `receipt_bundle`, at most: about 1 MB of JSON.
pub(crate) const BUNDLE_RECORDS_MAX: usize = 1_000;
/// Blocks in one `chain_blocks`, at most.
const BLOCKS_MAX: u64 = 1_000;
/// Bytes of the blocks in one `chain_blocks`, about; base64 makes a third more of them.
const BLOCKS_BYTES_MAX: usize = 3 << 20;

const LOGS: &[&str] = &["anchors", "anchors_sha256"];

pub(crate) const METHODS: &[Method] = &[
    Method {
        name: "receipt_bundle",
        doc: "The receipts of several proofs' batch roots under one header, with one certificate: the core of a bundle. Add the leaves, or let `cairn receipt refresh` and `cairn receipt bundle` do it.",
        params: &[
            req(
                "seqs",
                Shape::List(&Shape::Int),
                "1 to 1000 positions in the anchor log, strictly ascending",
            ),
            opt("form", Shape::OneOf(FORMS), "standalone when left out"),
            opt(
                "at",
                Shape::At,
                "the block whose header covers them; the newest certified one when left out",
            ),
        ],
        result: Shape::AnyObject,
        errors: &[fault::NOT_FOUND, fault::PRUNED, fault::FUTURE_HEIGHT],
        example: r#"{"seqs":[0,2],"form":"standalone"}"#,
        serve: Serve::Call(|cx, args| Box::pin(bundle(cx, args))),
    },
    Method {
        name: "log_consistency",
        doc: "The proof (RFC 9162 section 2.1.4) that an anchor log of `second` records begins with the log of `first` records. The roots are those of headers with these sizes.",
        params: &[
            req("first", Shape::Int, "the smaller size"),
            req("second", Shape::Int, "the larger size"),
            opt("log", Shape::OneOf(LOGS), "anchors when left out"),
        ],
        result: Shape::Object(&[
            req("log", Shape::OneOf(LOGS), "which log"),
            req("first", Shape::Int, "the smaller size"),
            req("second", Shape::Int, "the larger size"),
            req("path", Shape::List(&Shape::Id), "the proof's hashes"),
        ]),
        errors: &[fault::NOT_FOUND, fault::PRUNED],
        example: r#"{"first":1,"second":2}"#,
        serve: Serve::Call(|cx, args| Box::pin(consistency(cx, args))),
    },
    Method {
        name: "log_proof",
        doc: "The path of one record in the first `size` records of an anchor log.",
        params: &[
            req("seq", Shape::Int, "the record"),
            req("size", Shape::Int, "the size of the log"),
            opt("log", Shape::OneOf(LOGS), "anchors when left out"),
        ],
        result: Shape::Object(&[
            req("log", Shape::OneOf(LOGS), "which log"),
            req("seq", Shape::Int, "the record"),
            req("size", Shape::Int, "the size of the log"),
            req("path", Shape::List(&Shape::Id), "siblings, nearest first"),
        ]),
        errors: &[fault::NOT_FOUND, fault::PRUNED],
        example: r#"{"seq":0,"size":2,"log":"anchors_sha256"}"#,
        serve: Serve::Call(|cx, args| Box::pin(path(cx, args))),
    },
    Method {
        name: "log_checkpoint",
        doc: "The SHA-256 log's checkpoint in C2SP's format, signed with this node's note key (Ed25519), and its signature for COSE receipts. Nothing of the chain's finality rests on these: they are for tools that know no other.",
        params: &[opt("at", Shape::At, "the block whose log it is; latest when left out")],
        result: Shape::Object(&[
            req("height", Shape::Int, "the block"),
            req("block", Shape::Id, "its id"),
            req("size", Shape::Int, "records in the log"),
            req("root", Shape::Id, "its root"),
            req("note", Shape::Text, "the signed note"),
            req("verifier_key", Shape::Text, "the key of its plain signature, as note tools take it"),
            req("cosigner_key", Shape::Text, "the key of its cosignature"),
            req("note_key_b64", Shape::B64, "the public key alone"),
            req("cose_signature_b64", Shape::B64, "its signature for COSE receipts of this size"),
            req("validator", Shape::Any, "the validator that says the note key is its own, or null"),
            req("binding_b64", Shape::Any, "that validator's signature under cairn-checkpt, or null"),
        ]),
        errors: &[fault::NOT_FOUND, fault::PRUNED, fault::FUTURE_HEIGHT],
        example: r#"{"at":"latest"}"#,
        serve: Serve::Call(|cx, args| Box::pin(checkpoint(cx, args))),
    },
    Method {
        name: "chain_blocks",
        doc: "Final blocks in bulk, as their canonical bytes, each with the commit certificate of exactly that block where there is one. For auditors; may give fewer than asked for.",
        params: &[
            req("from", Shape::Int, "the first height"),
            opt("limit", Shape::Int, "at most so many, up to 1000; 100 when left out"),
        ],
        result: Shape::Object(&[
            req("items", Shape::List(&Shape::AnyObject), "{height, block_b64, certificate_b64 or null}"),
            req("latest", Shape::Int, "the last final height"),
        ]),
        errors: &[fault::PRUNED, fault::FUTURE_HEIGHT],
        example: r#"{"from":1,"limit":2}"#,
        serve: Serve::Call(|cx, args| Box::pin(blocks(cx, args))),
    },
];

fn log_of(args: &mut Args) -> Result<AnchorLog, Fault> {
    let read = |name: &str| match name {
        "anchors" => Some(AnchorLog::Anchors),
        "anchors_sha256" => Some(AnchorLog::Sha256),
        _ => None,
    };
    Ok(args.one_of("log", LOGS, read)?.unwrap_or(AnchorLog::Anchors))
}

const fn name_of(log: AnchorLog) -> &'static str {
    match log {
        AnchorLog::Anchors => "anchors",
        AnchorLog::Sha256 => "anchors_sha256",
    }
}

fn hashes(path: &[Hash]) -> Vec<String> {
    path.iter().map(Hash::to_string).collect()
}

async fn bundle(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let form = form_of(&mut args)?;
    let items = args.list("seqs", BUNDLE_RECORDS_MAX)?;
    let items = args.need("seqs", items)?;
    let seqs: Option<Vec<u64>> = items.iter().map(Value::as_u64).collect();
    let seqs = seqs.filter(|seqs| !seqs.is_empty() && seqs.windows(2).all(|pair| pair.first() < pair.last()));
    let seqs = seqs.ok_or_else(|| {
        Fault::invalid(format!("seqs must be 1 to {BUNDLE_RECORDS_MAX} integers, strictly ascending"))
    })?;
    let at = match args.has("at") {
        true => Some(calls::locate(&cx, args.block_ref("at")?)?),
        false => None,
    };
    let last = seqs.last().copied().unwrap_or_default();
    let text = bundle_text(&cx, seqs, form, at).await?;
    let text = text.ok_or_else(|| {
        Fault::not_found(format!("record {last} under that block's header (or the block has no certificate of its own: ask for form checkpoint)"))
    })?;
    parse_own(&text)
}

/// The core of a bundle, JSON text; shared with gRPC.
pub(crate) async fn bundle_text(
    cx: &Context,
    seqs: Vec<u64>,
    form: ReceiptForm,
    at: Option<crate::backend::At>,
) -> Result<Option<String>, Fault> {
    cx.backend.receipts(seqs, form, at).await
}

async fn consistency(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let log = log_of(&mut args)?;
    let (first, second) = (args.int("first")?, args.int("second")?);
    let (first, second) = (args.need("first", first)?, args.need("second", second)?);
    let path = consistency_path(&cx, log, first, second).await?;
    Ok(json!({ "log": name_of(log), "first": first, "second": second, "path": hashes(&path) }))
}

/// A consistency proof's hashes; shared with gRPC.
pub(crate) async fn consistency_path(
    cx: &Context,
    log: AnchorLog,
    first: u64,
    second: u64,
) -> Result<Vec<Hash>, Fault> {
    if first > second {
        return Err(Fault::invalid(format!(
            "first is {first} and second {second}; expected first <= second"
        )));
    }
    let path = cx.backend.consistency(log, first, second).await?;
    path.ok_or_else(|| Fault::not_found(format!("a log of {second} records")))
}

async fn path(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let log = log_of(&mut args)?;
    let (seq, size) = (args.int("seq")?, args.int("size")?);
    let (seq, size) = (args.need("seq", seq)?, args.need("size", size)?);
    if seq >= size {
        return Err(Fault::invalid(format!("seq is {seq} and size {size}; expected seq < size")));
    }
    let path = cx.backend.log_path(log, seq, size).await?;
    let path = path.ok_or_else(|| Fault::not_found(format!("a log of {size} records")))?;
    Ok(json!({ "log": name_of(log), "seq": seq, "size": size, "path": hashes(&path) }))
}

async fn checkpoint(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let at = calls::locate(&cx, args.block_ref("at")?)?;
    let found = cx.backend.log_checkpoint(at).await?.ok_or_else(|| Fault::not_found("that block"))?;
    let (validator, binding) = found.binding.unzip();
    Ok(json!({
        "height": found.header.height.get(),
        "block": found.header.id().to_string(),
        "size": found.header.anchors_size,
        "root": found.header.anchors_sha256.to_string(),
        "note": found.note,
        "verifier_key": found.verifier_key,
        "cosigner_key": found.cosigner_key,
        "note_key_b64": json::b64(&found.note_key),
        "cose_signature_b64": json::b64(&found.cose_signature),
        "validator": validator.map(|address| address.to_string()),
        "binding_b64": binding.map(|signature| json::b64(&signature)),
    }))
}

async fn blocks(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let from = args.int("from")?;
    let from = Height::new(args.need("from", from)?);
    let limit = args.int("limit")?.unwrap_or(100);
    let limit = Some(limit)
        .filter(|limit| (1..=BLOCKS_MAX).contains(limit))
        .ok_or_else(|| Fault::invalid(format!("limit is {limit}; expected 1 to {BLOCKS_MAX}")))?;
    calls::locate(&cx, crate::args::BlockRef::Height(from))?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let blocks = cx.backend.blocks(from, limit, BLOCKS_BYTES_MAX).await?;
    let items: Vec<_> = blocks
        .iter()
        .map(|stored| {
            json!({
                "height": stored.block.header().height.get(),
                "block_b64": json::b64(&encode(stored.block.as_ref())),
                "certificate_b64": stored.certificate.as_ref().map(|it| json::b64(&encode(it))),
            })
        })
        .collect();
    Ok(json!({ "items": items, "latest": calls::latest(&cx).get() }))
}
