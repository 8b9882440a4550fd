//! The trees of bundles, checkpoints and consistency proofs.

use anyhow::Context;
use cairn_receipt::{AnchorBundle, Checkpoint, ConsistencyProof, LOG_NAMES, core_of};
use cairn_types::receipt::Bundle;
use cairn_types::{Header, Record, decode};
use serde_json::{Value, json};

use super::{Node, final_nodes, finality_json, header_json, header_node, leaves, record_json, record_node};
use crate::cli::output::count;

/// Leaves of one batch that are shown; the rest is counted.
const LEAVES_SHOWN: usize = 20;

fn record_of(bytes: &[u8]) -> anyhow::Result<Record> {
    decode(bytes).context("a record is malformed")
}

fn header_of(bytes: &[u8]) -> anyhow::Result<Header> {
    decode(bytes).context("the header is malformed")
}

pub(super) fn nodes(bundle: &Bundle) -> anyhow::Result<Vec<Node>> {
    let mut nodes = Vec::new();
    for batch in &bundle.batches {
        let record = record_of(&batch.record_bytes)?;
        let shown = batch.leaves.iter().take(LEAVES_SHOWN).map(|leaf| {
            let place = format!("{} {}", leaf.subject.algorithm, leaf.subject.digest);
            Node::branch("leaf", format!("{}  {place}", leaf.index), Vec::new())
        });
        let mut parts: Vec<Node> = shown.collect();
        let rest = batch.leaves.len().saturating_sub(LEAVES_SHOWN);
        if rest > 0 {
            parts.push(Node::leaf("...", format!("{} more", leaves(rest as u64))));
        }
        let mut whole = record_node(&record);
        whole.children.append(&mut parts);
        let hashes = count(batch.path.len() as u64, "hash");
        let hashes = hashes.replace("hashs", "hashes");
        let held =
            format!("{} of {}, {hashes} to the root", leaves(batch.leaves.len() as u64), record.leaves);
        nodes.push(Node::branch("batch", held, vec![whole]));
    }
    nodes.extend(end_nodes(&core_of(bundle))?);
    if !bundle.external.is_empty() {
        nodes.push(Node::leaf("external", count(bundle.external.len() as u64, "unchecked item")));
    }
    Ok(nodes)
}

pub(super) fn core_nodes(core: &AnchorBundle) -> anyhow::Result<Vec<Node>> {
    let records = core.records.iter().map(|bytes| Ok(record_node(&record_of(bytes)?)));
    let mut nodes = records.collect::<anyhow::Result<Vec<_>>>()?;
    nodes.extend(end_nodes(core)?);
    Ok(nodes)
}

/// Anchor path, header and finality.
fn end_nodes(core: &AnchorBundle) -> anyhow::Result<Vec<Node>> {
    let header = header_of(&core.header_bytes)?;
    let way = format!(
        "{} hashes to the log's root of {}",
        core.anchor_path.len(),
        count(header.anchors_size, "record")
    );
    let mut nodes = vec![Node::leaf("anchor", way), header_node(&header)];
    nodes.extend(final_nodes(&core.finality, &core.epochs)?);
    Ok(nodes)
}

pub(super) fn checkpoint_nodes(checkpoint: &Checkpoint) -> anyhow::Result<Vec<Node>> {
    let mut nodes = vec![header_node(&header_of(&checkpoint.header_bytes)?)];
    nodes.extend(final_nodes(&checkpoint.finality, &checkpoint.epochs)?);
    Ok(nodes)
}

pub(super) fn consistency_nodes(proof: &ConsistencyProof) -> anyhow::Result<Vec<Node>> {
    let from = header_of(&proof.from_bytes)?;
    let earlier =
        format!("height {}, {}, block {}", from.height, count(from.anchors_size, "record"), from.id());
    let mut nodes = vec![
        Node::leaf("log", name_of(proof)),
        Node::leaf("earlier", earlier),
        Node::leaf("path", format!("{} hashes", proof.path.len())),
    ];
    nodes.extend(checkpoint_nodes(&proof.to)?);
    Ok(nodes)
}

fn name_of(proof: &ConsistencyProof) -> &'static str {
    LOG_NAMES.iter().find(|(_, log)| *log == proof.log).map_or("", |(name, _)| name)
}

pub(super) fn json(bundle: &Bundle) -> anyhow::Result<Value> {
    let batch = |batch: &cairn_types::receipt::BundledBatch| {
        let leaves: Vec<Value> = batch
            .leaves
            .iter()
            .map(|leaf| {
                json!({ "index": leaf.index, "digest": leaf.subject.digest.to_string(),
                "algorithm": leaf.subject.algorithm, "salt": hex::encode(&leaf.subject.salt) })
            })
            .collect();
        Ok(json!({ "record": record_json(&record_of(&batch.record_bytes)?), "leaves": leaves,
            "hashes": batch.path.len() }))
    };
    let mut value = end_json(&core_of(bundle))?;
    value["batches"] = bundle.batches.iter().map(batch).collect::<anyhow::Result<Vec<Value>>>()?.into();
    value["external"] = json!(bundle.external.len());
    Ok(value)
}

pub(super) fn core_json(core: &AnchorBundle) -> anyhow::Result<Value> {
    let records = core.records.iter().map(|bytes| Ok(record_json(&record_of(bytes)?)));
    let mut value = end_json(core)?;
    value["records"] = records.collect::<anyhow::Result<Vec<Value>>>()?.into();
    Ok(value)
}

fn end_json(core: &AnchorBundle) -> anyhow::Result<Value> {
    let header = header_of(&core.header_bytes)?;
    Ok(json!({
        "anchor": { "hashes": core.anchor_path.len(), "records": header.anchors_size },
        "header": header_json(&header),
        "finality": finality_json(&core.finality)?,
        "hand_overs": core.epochs.len(),
    }))
}

pub(super) fn checkpoint_json(checkpoint: &Checkpoint) -> anyhow::Result<Value> {
    Ok(json!({
        "header": header_json(&header_of(&checkpoint.header_bytes)?),
        "finality": finality_json(&checkpoint.finality)?,
        "hand_overs": checkpoint.epochs.len(),
    }))
}

pub(super) fn consistency_json(proof: &ConsistencyProof) -> anyhow::Result<Value> {
    let mut value = checkpoint_json(&proof.to)?;
    value["log"] = json!(name_of(proof));
    value["from"] = header_json(&header_of(&proof.from_bytes)?);
    value["hashes"] = json!(proof.path.len());
    Ok(value)
}
