//! `chain_*`.

use std::sync::Arc;

use cairn_types::Epoch;
use serde_json::{Value, json};

use super::proof::parse_own;
use super::shapes::HEADER;
use crate::args::Args;
use crate::backend::{NodeAbout, NodeStatus};
use crate::calls;
use crate::context::Context;
use crate::fault::{self, Fault, FaultKind};
use crate::feed::Stream;
use crate::json;
use crate::method::{Field, Method, Serve, Shape, opt, req};

const AT: &[Field] = &[opt("at", Shape::At, "the block; latest when left out")];
const AT_ERRORS: &[FaultKind] = &[fault::NOT_FOUND, fault::PRUNED, fault::FUTURE_HEIGHT];

pub(crate) const METHODS: &[Method] = &[
    Method {
        name: "chain_status",
        doc: "Where the chain and this node are.",
        params: &[],
        result: Shape::Object(&[
            req("chain", Shape::Id, "the chain's identity: the genesis hash"),
            req("chain_name", Shape::Text, "its name"),
            req("height", Shape::Int, "the last final block"),
            req("block", Shape::Id, "its id"),
            req("time", Shape::Time, "its time"),
            req("time_ms", Shape::Int, "the same in Unix milliseconds"),
            req("final_age_ms", Shape::Int, "milliseconds since that time, by this node's clock"),
            req("epoch", Shape::Int, "current epoch of consensus"),
            req("view", Shape::Int, "current view of consensus"),
            req("anchors", Shape::Int, "proofs anchored so far"),
            req("earliest", Shape::Int, "the earliest block this node keeps"),
            req("best_known", Shape::Int, "the highest final block any peer told of"),
            req("syncing", Shape::Bool, "whether the node is catching up"),
            req("peers", Shape::Int, "links to peers; a validator may be linked on both networks"),
            req("validators", Shape::Int, "validators of the epoch"),
            req("pending", Shape::Int, "pending transactions"),
            req("role", Shape::OneOf(&["validator", "follower"]), "what this node is"),
            req("validator", Shape::Any, "its validator address, or null"),
            req("moniker", Shape::Text, "its name for people"),
            req("version", Shape::Text, "its software"),
            req("uptime_ms", Shape::Int, "milliseconds since it started"),
        ]),
        errors: &[],
        example: "{}",
        serve: Serve::Call(|cx, _| Box::pin(status(cx))),
    },
    Method {
        name: "chain_block",
        doc: "A final block with its transactions.",
        params: AT,
        result: Shape::Object(&[
            req("header", Shape::Object(HEADER), "the header"),
            req("transactions", Shape::List(&Shape::AnyObject), "the transactions, in order"),
        ]),
        errors: AT_ERRORS,
        example: r#"{"at":"latest"}"#,
        serve: Serve::Call(|cx, args| Box::pin(block(cx, args))),
    },
    Method {
        name: "chain_header",
        doc: "A final header.",
        params: AT,
        result: Shape::Object(HEADER),
        errors: AT_ERRORS,
        example: r#"{"at":"earliest"}"#,
        serve: Serve::Call(|cx, args| Box::pin(header(cx, args))),
    },
    Method {
        name: "chain_certificate",
        doc: "The commit certificate that made a block final: its own, or that of the next certified descendant (`block` says which).",
        params: AT,
        result: Shape::Object(&[
            req("epoch", Shape::Int, "the epoch that signed"),
            req("view", Shape::Int, "the view of the certified block"),
            req("block", Shape::Id, "the certified block"),
            req("signers", Shape::List(&Shape::Int), "indexes of those who signed"),
            req("certificate_b64", Shape::B64, "canonical bytes"),
        ]),
        errors: AT_ERRORS,
        example: r#"{"at":"latest"}"#,
        serve: Serve::Call(|cx, args| Box::pin(certificate(cx, args))),
    },
    Method {
        name: "chain_genesis",
        doc: "The genesis file. Take the genesis hash you trust from somewhere else.",
        params: &[],
        result: Shape::AnyObject,
        errors: &[],
        example: "{}",
        serve: Serve::Call(|cx, _| Box::pin(genesis(cx))),
    },
    Method {
        name: "chain_params",
        doc: "The network parameters in force at a block.",
        params: AT,
        result: Shape::Object(&[
            req("height", Shape::Int, "the block"),
            req("digest", Shape::Id, "H[params] of the parameters"),
            req("admission", Shape::OneOf(&["open", "registered"]), "who may anchor"),
            req("registrar", Shape::Any, "who admits identities, or null"),
            req("params", Shape::AnyObject, "the parameters"),
        ]),
        errors: AT_ERRORS,
        example: r#"{"at":"latest"}"#,
        serve: Serve::Call(|cx, args| Box::pin(params(cx, args))),
    },
    Method {
        name: "chain_trust",
        doc: "What a verifier needs to follow the validator sets from an epoch on: the genesis hash, the sets, and the signed hand-over to each later one.",
        params: &[opt("from_epoch", Shape::Int, "the first set; 0 when left out")],
        result: Shape::Object(&[
            req("chain", Shape::Id, "the genesis hash"),
            req("sets", Shape::List(&Shape::AnyObject), "{epoch, digest, validators_b64}"),
            req(
                "handovers",
                Shape::List(&Shape::AnyObject),
                "{headers, certificate, validators}, as in receipts",
            ),
        ]),
        errors: &[fault::NOT_FOUND],
        example: r#"{"from_epoch":0}"#,
        serve: Serve::Call(|cx, args| Box::pin(trust(cx, args))),
    },
    Method {
        name: "chain_subscribe",
        doc: "Final blocks as they come (WebSocket). Each event is `{kind: \"block\", cursor, block}`; one that is not read in time is followed by `{kind: \"lagged\", resume_from}` and the end. `GET /v1/events` gives the same without WebSocket.",
        params: &[opt("from_cursor", Shape::Text, "resume after this event")],
        result: Shape::Any,
        errors: &[fault::PRUNED, fault::FUTURE_HEIGHT],
        example: r#"{"from_cursor":"0"}"#,
        serve: Serve::Subscribe {
            stream: Stream::Blocks,
            notification: "chain_event",
            unsubscribe: "chain_unsubscribe",
        },
    },
    Method {
        name: "rpc.discover",
        doc: "This table as an OpenRPC document; the same as GET /openrpc.json.",
        params: &[],
        result: Shape::AnyObject,
        errors: &[],
        example: "{}",
        serve: Serve::Call(|cx, _| {
            Box::pin(async move { Ok(crate::docs::openrpc(&cx.backend.about().version)) })
        }),
    },
];

async fn status(cx: Arc<Context>) -> Result<Value, Fault> {
    let status = cx.backend.status().await?;
    Ok(status_json(&cx, &status))
}

fn status_json(cx: &Context, status: &NodeStatus) -> Value {
    let NodeAbout { chain, chain_name, moniker, version, validator, .. } = cx.backend.about();
    json!({
        "chain": chain.to_string(),
        "chain_name": chain_name,
        "height": status.tip.height.get(),
        "block": status.tip.id().to_string(),
        "time": json::time(status.tip.time_ms),
        "time_ms": status.tip.time_ms,
        "final_age_ms": status.final_age_ms,
        "epoch": status.epoch.get(),
        "view": status.view.get(),
        "anchors": status.tip.anchors_size,
        "earliest": cx.backend.earliest().get(),
        "best_known": status.best_known.get(),
        "syncing": status.syncing,
        "peers": status.peers,
        "validators": status.validators,
        "pending": status.pending,
        "role": if validator.is_some() { "validator" } else { "follower" },
        "validator": validator.map(|address| address.to_string()),
        "moniker": moniker,
        "version": version,
        "uptime_ms": status.uptime_ms,
    })
}

async fn block(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    Ok(json::block(&*calls::block(&cx, args.block_ref("at")?).await?))
}

async fn header(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    Ok(json::header(&calls::header(&cx, args.block_ref("at")?).await?))
}

async fn certificate(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    Ok(json::certificate(&calls::certificate(&cx, args.block_ref("at")?).await?))
}

async fn genesis(cx: Arc<Context>) -> Result<Value, Fault> {
    parse_own(&cx.backend.genesis().await?)
}

async fn params(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let at = calls::locate(&cx, args.block_ref("at")?)?;
    let found = cx.backend.params(at).await?.ok_or_else(|| Fault::not_found("that block"))?;
    let (admission, registrar) = match cx.backend.about().admission {
        cairn_types::Admission::Open => ("open", None),
        cairn_types::Admission::Registered { registrar } => ("registered", Some(registrar.to_string())),
    };
    Ok(json!({
        "height": found.height.get(),
        "digest": found.params.digest().to_string(),
        "admission": admission,
        "registrar": registrar,
        "params": json::params(&found.params),
    }))
}

async fn trust(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let from = Epoch::new(args.int("from_epoch")?.unwrap_or(0));
    let trust = cx.backend.trust(from).await?;
    if trust.sets.is_empty() {
        return Err(Fault::not_found(format!("epoch {from}")));
    }
    let encoded = |items: &[Vec<u8>]| items.iter().map(|bytes| json::b64(bytes)).collect::<Vec<_>>();
    let handovers: Vec<_> = trust
        .handovers
        .iter()
        .map(|step| {
            json!({
                "headers": encoded(&step.headers),
                "certificate": json::b64(&step.certificate),
                "validators": json::b64(&step.validators),
            })
        })
        .collect();
    let sets: Vec<_> = trust.sets.iter().map(json::validator_set).collect();
    Ok(json!({ "chain": cx.backend.about().chain.to_string(), "sets": sets, "handovers": handovers }))
}
