//! `validator_*`, `mempool_info`, `net_*`.

use std::sync::Arc;

use serde_json::{Value, json};

use super::identity::{Then, moment};
use crate::args::{Args, BlockRef};
use crate::backend::{Motions, PeerInfo, ValidatorsAt};
use crate::calls;
use crate::context::Context;
use crate::fault::{self, Fault};
use crate::governance_json;
use crate::json;
use crate::method::{Field, Method, Serve, Shape, opt, req};

const VALIDATOR: &[Field] = &[
    req("index", Shape::Int, "position in the set"),
    req("address", Shape::Id, "its address"),
    req("scheme", Shape::Text, "its signature scheme"),
    req("key_b64", Shape::B64, "its public key"),
    req("power", Shape::Int, "voting power"),
    req("proposed", Shape::Int, "final blocks it proposed since this node counts"),
    req("missed", Shape::Int, "views it led that were given up since this node counts"),
];

const MOTION: &[Field] = &[
    req("id", Shape::Id, "the transaction that proposed it"),
    req("proposer", Shape::Id, "the validator that did"),
    req("changes", Shape::List(&Shape::AnyObject), "what is to change, all at once"),
    req("height", Shape::Int, "the block that it was proposed in"),
    req("expires", Shape::Text, "when it closes, RFC 3339"),
    req("expires_ms", Shape::Int, "the same in Unix milliseconds"),
    req("approvals", Shape::List(&Shape::Id), "who approved it"),
    req("power", Shape::Int, "the power of those who did and are validators still"),
    req("total_power", Shape::Int, "the sum of all power"),
];

const PEER: &[Field] = &[
    req("peer_id", Shape::Text, "its id"),
    req("plane", Shape::OneOf(&["mesh", "public"]), "which network"),
    req("address", Shape::Text, "its remote address"),
    req("outbound", Shape::Any, "whether this node dialed it; null when unknown"),
    req("validator", Shape::Any, "its validator address once its link is authenticated, or null"),
    req("rtt_ms", Shape::Any, "round-trip time in ms, or null"),
];

pub(crate) const METHODS: &[Method] = &[
    Method {
        name: "validator_list",
        doc: "The validators that sign a block, in address order, with what they did. For the latest block: those that sign the next.",
        params: &[
            opt("at", Shape::At, "the block; latest when left out"),
            opt(
                "at_time",
                Shape::Text,
                "in place of `at`: the last block not after this time, RFC 3339 or Unix ms",
            ),
        ],
        result: Shape::Object(&[
            req("height", Shape::Int, "the block they sign; for the latest, the one to come"),
            req("epoch", Shape::Int, "the set's epoch"),
            req("digest", Shape::Id, "what headers call it"),
            req("total_power", Shape::Int, "the sum of all power"),
            req("items", Shape::List(&Shape::Object(VALIDATOR)), "the validators"),
        ]),
        errors: &[fault::NOT_FOUND, fault::PRUNED, fault::FUTURE_HEIGHT],
        example: r#"{"at":"latest"}"#,
        serve: Serve::Call(|cx, args| Box::pin(validators(cx, args))),
    },
    Method {
        name: "validator_get",
        doc: "One validator of the latest set.",
        params: &[req("address", Shape::Address, "its address")],
        result: Shape::Object(VALIDATOR),
        errors: &[fault::NOT_FOUND],
        example: r#"{"address":"<address>"}"#,
        serve: Serve::Call(|cx, args| Box::pin(validator(cx, args))),
    },
    Method {
        name: "validator_motions",
        doc: "What the validators are asked to change: the open motions, with who approved them and the power behind each. More than two thirds of the power enact a motion, which ends the epoch.",
        params: &[],
        result: Shape::Object(&[
            req("epoch", Shape::Int, "the epoch in force"),
            req("protocol", Shape::Int, "the protocol version in force"),
            req("total_power", Shape::Int, "the sum of all power"),
            req("items", Shape::List(&Shape::Object(MOTION)), "the open motions, oldest first"),
        ]),
        errors: &[],
        example: "{}",
        serve: Serve::Call(|cx, _| Box::pin(motions(cx))),
    },
    Method {
        name: "mempool_info",
        doc: "The pool of pending transactions: size and bounds.",
        params: &[],
        result: Shape::Object(&[
            req("count", Shape::Int, "pending transactions"),
            req("bytes", Shape::Int, "their bytes"),
            req("count_max", Shape::Int, "most transactions"),
            req("bytes_max", Shape::Int, "most bytes"),
            req("senders", Shape::Int, "senders with something pending"),
        ]),
        errors: &[],
        example: "{}",
        serve: Serve::Call(|cx, _| Box::pin(mempool(cx))),
    },
    Method {
        name: "net_info",
        doc: "This node's place in the network; also in CometBFT's shape.",
        params: &[],
        result: Shape::Object(&[
            req("peer_id", Shape::Text, "its id on the public plane"),
            req("listen", Shape::List(&Shape::Text), "addresses it listens on"),
            req("mesh", Shape::Int, "connected peers on the validators' mesh"),
            req("inbound", Shape::Int, "connected peers that dialed this node"),
            req("listening", Shape::Bool, "whether it listens at all"),
            req("listeners", Shape::List(&Shape::Text), "the same as listen"),
            req("n_peers", Shape::Text, "connected peers, a number as text"),
            req(
                "peers",
                Shape::List(&Shape::AnyObject),
                "connected peers in CometBFT's shape; net_peers says more",
            ),
        ]),
        errors: &[],
        example: "{}",
        serve: Serve::Call(|cx, _| Box::pin(net(cx))),
    },
    Method {
        name: "net_peers",
        doc: "Connected peers.",
        params: &[],
        result: Shape::Object(&[req("items", Shape::List(&Shape::Object(PEER)), "the peers")]),
        errors: &[],
        example: "{}",
        serve: Serve::Call(|cx, _| Box::pin(peers(cx))),
    },
];

/// The validators at a block.
pub(super) async fn validators_at(cx: &Context, block: BlockRef) -> Result<ValidatorsAt, Fault> {
    let at = calls::locate(cx, block)?;
    cx.backend.validators(at).await?.ok_or_else(|| Fault::not_found("that block"))
}

fn validator_items(found: &ValidatorsAt) -> Vec<Value> {
    let activity = found.activity.iter().copied().chain(std::iter::repeat(Default::default()));
    found
        .set
        .indexed()
        .zip(activity)
        .map(|((index, validator), did)| {
            json!({
                "index": index.0,
                "address": validator.address.to_string(),
                "scheme": validator.key.scheme().name(),
                "key_b64": json::b64(validator.key.as_bytes()),
                "power": validator.power,
                "proposed": did.proposed,
                "missed": did.missed,
            })
        })
        .collect()
}

async fn validators(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let Then { height, block: (signed, _) } = moment(&cx, &mut args).await?;
    let found = validators_at(&cx, height.map_or(BlockRef::Latest, BlockRef::Height)).await?;
    Ok(json!({
        "height": signed.get(),
        "epoch": found.set.epoch().get(),
        "digest": found.set.digest().to_string(),
        "total_power": found.set.total_power(),
        "items": validator_items(&found),
    }))
}

async fn validator(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let address = args.address("address")?;
    let address = args.need("address", address)?;
    let found = validators_at(&cx, BlockRef::Latest).await?;
    let at = found.set.index_of(&address).map(|index| usize::from(index.0));
    at.and_then(|at| validator_items(&found).into_iter().nth(at))
        .ok_or_else(|| Fault::not_found(format!("validator {address} in the latest set")))
}

async fn motions(cx: Arc<Context>) -> Result<Value, Fault> {
    let Motions { open, set, protocol } = cx.backend.motions().await?;
    let items: Vec<_> = open.iter().map(|motion| governance_json::motion(motion, &set)).collect();
    Ok(json!({
        "epoch": set.epoch().get(),
        "protocol": protocol,
        "total_power": set.total_power(),
        "items": items,
    }))
}

async fn mempool(cx: Arc<Context>) -> Result<Value, Fault> {
    let info = cx.backend.mempool().await?;
    Ok(json!({
        "count": info.count,
        "bytes": info.bytes,
        "count_max": info.count_max,
        "bytes_max": info.bytes_max,
        "senders": info.senders,
    }))
}

async fn net(cx: Arc<Context>) -> Result<Value, Fault> {
    let net = cx.backend.net().await?;
    let peers: Vec<_> = net
        .peers
        .iter()
        .map(|peer| {
            json!({
                "node_info": { "id": peer.peer_id },
                "is_outbound": peer.outbound.unwrap_or(false),
                "remote_ip": ip_of(&peer.address),
            })
        })
        .collect();
    Ok(json!({
        "peer_id": net.peer_id,
        "listening": !net.listen.is_empty(),
        "listeners": net.listen,
        "n_peers": peers.len().to_string(),
        "peers": peers,
        "listen": net.listen,
        "mesh": net.peers.iter().filter(|peer| peer.plane == "mesh").count(),
        "inbound": net.peers.iter().filter(|peer| peer.outbound == Some(false)).count(),
    }))
}

/// The host of a multiaddress (`/ip4/10.0.0.1/tcp/26656/...`); all of it when it names none.
fn ip_of(address: &str) -> &str {
    let mut parts = address.split('/').skip(1);
    match (parts.next(), parts.next()) {
        (Some("ip4" | "ip6" | "dns" | "dns4" | "dns6"), Some(host)) => host,
        _ => address,
    }
}

fn peer_json(peer: &PeerInfo) -> Value {
    json!({
        "peer_id": peer.peer_id,
        "plane": peer.plane,
        "address": peer.address,
        "outbound": peer.outbound,
        "validator": peer.validator.map(|address| address.to_string()),
        "rtt_ms": peer.rtt_ms,
    })
}

async fn peers(cx: Arc<Context>) -> Result<Value, Fault> {
    let net = cx.backend.net().await?;
    Ok(json!({ "items": net.peers.iter().map(peer_json).collect::<Vec<_>>() }))
}
