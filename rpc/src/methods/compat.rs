//! Answers in the shapes that CometBFT's tools and an existing proof server's client expect. Where both
//! have a method of one name, the result holds both shapes.

use std::sync::Arc;
use std::time::Duration;

use cairn_types::{Header, encode};
use serde_json::{Map, Value, json};

use super::node::validators_at;
use crate::args::{Args, BlockRef};
use crate::backend::RecordKey;
use crate::calls::{self, Outcome, Wait};
use crate::config::{PAGE_ITEMS_MAX, WAIT_MS_DEFAULT};
use crate::context::Context;
use crate::fault::Fault;
use crate::json::{self, object, time};
use crate::txjson;

pub(super) fn health() -> Value {
    json!({})
}

pub(super) async fn status(cx: Arc<Context>) -> Result<Value, Fault> {
    let status = cx.backend.status().await?;
    let about = cx.backend.about();
    let id = status.tip.id().to_string();
    let height = status.tip.height.get();
    let power = match about.validator {
        Some(address) => {
            let set = validators_at(&cx, BlockRef::Latest).await?.set;
            set.index_of(&address).map_or(0, |index| set.power(index))
        }
        None => 0,
    };
    Ok(json!({
        "chain_id": about.chain.to_string(),
        "height": height,
        "block_hash": id,
        "timestamp": status.tip.time_ms / 1_000,
        "validators": status.validators,
        "pending_txs": status.pending,
        "node_info": {
            "network": about.chain_name,
            "moniker": about.moniker,
            "version": about.version,
            "protocol_version": { "block": status.tip.version.to_string() },
        },
        "sync_info": {
            "latest_block_hash": id,
            "latest_app_hash": status.tip.state_root.to_string(),
            "latest_block_height": height.to_string(),
            "latest_block_time": time(status.tip.time_ms),
            "earliest_block_height": cx.backend.earliest().get().to_string(),
            "catching_up": status.syncing,
        },
        "validator_info": {
            "address": about.validator.map(|address| address.to_string()),
            "voting_power": power.to_string(),
        },
    }))
}

pub(super) async fn genesis(cx: Arc<Context>) -> Result<Value, Fault> {
    let text = cx.backend.genesis().await?;
    Ok(json!({ "genesis": serde_json::from_str::<Value>(&text).map_err(Fault::internal)? }))
}

fn comet_header(header: &Header, name: &str) -> Value {
    json!({
        "chain_id": name,
        "height": header.height.get().to_string(),
        "time": time(header.time_ms),
        "last_block_id": { "hash": header.parent.to_string() },
        "data_hash": header.tx_root.to_string(),
        "app_hash": header.state_root.to_string(),
        "validators_hash": header.validators.to_string(),
        "next_validators_hash": header.next_validators.to_string(),
        "proposer_index": header.proposer.0,
    })
}

pub(super) async fn block(cx: Arc<Context>, at: BlockRef) -> Result<Value, Fault> {
    let block = calls::block(&cx, at).await?;
    let header = block.header();
    let txs: Vec<_> = block.transactions().iter().map(|tx| json::b64(&encode(tx.as_ref()))).collect();
    Ok(json!({
        "height": header.height.get(),
        "hash": block.id().to_string(),
        "block_hash": block.id().to_string(),
        "timestamp": header.time_ms / 1_000,
        "tx_count": header.tx_count,
        "block_id": { "hash": block.id().to_string() },
        "block": { "header": comet_header(header, &cx.backend.about().chain_name), "data": { "txs": txs } },
    }))
}

pub(super) async fn block_by_hash(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let hash = args.id("hash")?;
    block(cx, BlockRef::Id(args.need("hash", hash)?)).await
}

pub(super) async fn header(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let header = calls::header(&cx, args.block_ref("height")?).await?;
    Ok(json!({ "header": comet_header(&header, &cx.backend.about().chain_name) }))
}

pub(super) async fn commit(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let at = args.block_ref("height")?;
    let header = calls::header(&cx, at).await?;
    let certificate = calls::certificate(&cx, BlockRef::Height(header.height)).await?;
    Ok(json!({
        "signed_header": {
            "header": comet_header(&header, &cx.backend.about().chain_name),
            "commit": {
                "height": header.height.get().to_string(),
                "round": certificate.view.get(),
                "block_id": { "hash": certificate.block.to_string() },
                "certificate": json::certificate(&certificate),
            },
        },
        "canonical": true,
    }))
}

pub(super) async fn validators(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let at = args.block_ref("height")?;
    let header = calls::header(&cx, at).await?;
    let found = validators_at(&cx, at).await?;
    let items: Vec<_> = found
        .set
        .validators()
        .iter()
        .map(|validator| {
            json!({
                "address": validator.address.to_string(),
                "stake": validator.power,
                "active": true,
                "voting_power": validator.power.to_string(),
                "pub_key": { "type": validator.key.scheme().name(), "value": json::b64(validator.key.as_bytes()) },
            })
        })
        .collect();
    let count = items.len().to_string();
    Ok(
        json!({ "block_height": header.height.get().to_string(), "validators": items, "count": count, "total": count }),
    )
}

pub(super) async fn validator(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let address = args.address("address")?;
    let address = args.need("address", address)?;
    let set = validators_at(&cx, BlockRef::Latest).await?.set;
    let index = set
        .index_of(&address)
        .ok_or_else(|| Fault::not_found(format!("validator {address} in the latest set")))?;
    Ok(json!({ "address": address.to_string(), "stake": set.power(index), "active": true }))
}

pub(super) async fn account(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let address = args.address("address")?;
    let address = args.need("address", address)?;
    let registered = cx.backend.identity(address, None).await?.is_some();
    // A nonce is any number here, not a sequence; the chain's time is one that moves on.
    let tip = cx.backend.status().await?.tip;
    Ok(json!({ "address": address.to_string(), "nonce": tip.time_ms, "registered": registered }))
}

pub(super) async fn tx(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let hash = args.id("hash")?;
    let hash = args.need("hash", hash)?;
    let found = calls::transaction(&cx, hash).await?;
    let mut value = object(json!({
        "hash": hash.to_string(),
        "status": if found.landed.is_some() { "final" } else { "pending" },
        "height": found.landed.as_ref().map(|landed| landed.height.get()),
        "index": found.landed.as_ref().map(|landed| landed.index),
        "timestamp": found.landed.as_ref().map(|landed| landed.time_ms / 1_000),
        "tx_result": { "code": 0 },
    }));
    value.insert("tx".into(), found.signed.map(|signed| json::b64(&encode(signed.as_ref()))).into());
    Ok(Value::Object(value))
}

pub(super) async fn proof(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    // The client's own id of a proof is a digest too, written `proof:<hex>`: it finds its proof by either.
    let id = args.hash_after("proof:", "id")?;
    let id = args.need("id", id)?;
    let found = match cx.backend.records(RecordKey::Proof(cairn_types::ProofId::new(id))).await? {
        found if !found.is_empty() => found,
        _ => cx.backend.records(RecordKey::Root(id)).await?,
    };
    let Some(record) = found.first() else { return Err(Fault::not_found(format!("proof {id}"))) };
    Ok(json!({
        "proof_id": record.proof_id.to_string(),
        "proof_hash": record.root.to_string(),
        "height": record.height.get(),
        "tx_hash": record.tx_id.to_string(),
        "timestamp": record.time_ms / 1_000,
    }))
}

pub(super) async fn unconfirmed(cx: Arc<Context>, mut args: Args, with_txs: bool) -> Result<Value, Fault> {
    let info = cx.backend.mempool().await?;
    let mut value = Map::new();
    if with_txs {
        let limit = args.int("limit")?.unwrap_or(30).clamp(1, PAGE_ITEMS_MAX as u64);
        let pending = cx.backend.pending(usize::try_from(limit).unwrap_or(PAGE_ITEMS_MAX)).await?;
        let txs: Vec<_> = pending.iter().map(|tx| json::b64(&encode(tx.as_ref()))).collect();
        value.insert("n_txs".into(), txs.len().to_string().into());
        value.insert("txs".into(), txs.into());
    } else {
        value.insert("n_txs".into(), info.count.to_string().into());
    }
    value.insert("total".into(), info.count.to_string().into());
    value.insert("total_bytes".into(), info.bytes.to_string().into());
    Ok(Value::Object(value))
}

async fn broadcast(cx: &Context, args: &mut Args, wait: Wait) -> Result<Outcome, Fault> {
    let tx = args.take("tx").ok_or_else(|| args.missing("tx"))?;
    let tx = txjson::broadcast(tx, cx.backend.about().chain)?;
    calls::submit(cx, tx, wait).await
}

pub(super) async fn broadcast_sync(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let outcome = broadcast(&cx, &mut args, Wait::Accepted).await?;
    Ok(json!({
        "hash": outcome.tx_id.to_string(),
        "height": outcome.landed.map_or(0, |(height, _)| height.get()),
        "status": if outcome.landed.is_some() { "final" } else { "pending" },
        "gas_used": 0,
        "proof_id": outcome.proof_ids.first().map(ToString::to_string),
        "duplicate": outcome.duplicate,
        "code": 0,
        "log": "",
        "data": "",
    }))
}

pub(super) async fn broadcast_commit(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let wait = Wait::Final(Duration::from_millis(WAIT_MS_DEFAULT));
    let outcome = broadcast(&cx, &mut args, wait).await?;
    Ok(json!({
        "hash": outcome.tx_id.to_string(),
        "height": outcome.landed.map_or(0, |(height, _)| height.get()).to_string(),
        "check_tx": { "code": 0 },
        "tx_result": { "code": 0 },
        "duplicate": outcome.duplicate,
    }))
}

/// The block reference of a CometBFT-style `height`: a number, a string of digits, or a word.
pub(super) fn height_of(args: &mut Args) -> Result<BlockRef, Fault> {
    args.block_ref("height")
}
