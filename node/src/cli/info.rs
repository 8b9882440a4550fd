//! `cairn info`: what a receipt, bundle or checkpoint says, as a tree. Nothing is checked.

mod bundle;

use std::path::PathBuf;

use anyhow::Context;
use cairn_receipt::{AnchorReceipt, Document, ExternalTime, claimed_times};
use cairn_types::receipt::{EpochHandover, Finality, Receipt};
use cairn_types::{CommitCert, Header, Record, ValidatorSet, decode};
use clap::Args;
use serde_json::{Value, json};

use crate::cli::output::{bytes, count, time};
use crate::cli::{Common, files};
use crate::exit::Exit;

/// `cairn info`.
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// The receipt, bundle, checkpoint or consistency proof
    receipt: PathBuf,
}

/// A named value with what belongs to it.
struct Node {
    name: &'static str,
    value: String,
    children: Vec<Node>,
}

impl Node {
    fn leaf(name: &'static str, value: impl ToString) -> Self {
        Self { name, value: value.to_string(), children: Vec::new() }
    }

    fn branch(name: &'static str, value: impl ToString, children: Vec<Node>) -> Self {
        Self { name, value: value.to_string(), children }
    }
}

pub(crate) fn run(common: &Common, args: &InfoArgs) -> anyhow::Result<Exit> {
    let text = files::read_text(&args.receipt, "receipt")?;
    let document =
        Document::parse(&text).with_context(|| format!("{} is no receipt", args.receipt.display()))?;
    let (mut nodes, mut value) = match &document {
        Document::Receipt(receipt) => (whole(receipt)?, whole_json(receipt)?),
        Document::Anchor(core) => (anchor(core)?, anchor_json(core)?),
        Document::Bundle(it) => (bundle::nodes(it)?, bundle::json(it)?),
        Document::Anchors(core) => (bundle::core_nodes(core)?, bundle::core_json(core)?),
        Document::Checkpoint(it) => (bundle::checkpoint_nodes(it)?, bundle::checkpoint_json(it)?),
        Document::Consistency(it) => (bundle::consistency_nodes(it)?, bundle::consistency_json(it)?),
    };
    value["what"] = json!(document.kind());
    let claims = claimed_times(&document);
    nodes.extend(claims.iter().map(claim_node));
    if !claims.is_empty() {
        value["claimed_times"] = claims.iter().map(claim_json).collect();
    }
    let mut tree = format!("{}  {}\n", args.receipt.display(), bytes(text.len() as u64));
    render(&nodes, "", &mut tree);
    tree.push_str("nothing was checked; `cairn verify` does");
    common.output().show(&tree, &value);
    Ok(Exit::Yes)
}

fn whole(receipt: &Receipt) -> anyhow::Result<Vec<Node>> {
    let subject = &receipt.subject;
    let mut parts = vec![Node::leaf("algorithm", &subject.algorithm)];
    if !subject.salt.is_empty() {
        parts.push(Node::leaf("salt", hex::encode(&subject.salt)));
    }
    let mut nodes = vec![Node::branch("subject", subject.digest, parts)];
    if let Some(batch) = &receipt.batch {
        let steps = count(batch.path.len() as u64, "step");
        nodes.push(Node::leaf("batch", format!("leaf {}, {steps} to the root", batch.index)));
    }
    nodes.extend(anchor(&AnchorReceipt::of(receipt))?);
    if !receipt.external.is_empty() {
        nodes.push(Node::leaf("external", count(receipt.external.len() as u64, "unchecked item")));
    }
    Ok(nodes)
}

fn anchor(core: &AnchorReceipt) -> anyhow::Result<Vec<Node>> {
    let record = core.record().context("the record is malformed")?;
    let header = core.header().context("the header is malformed")?;
    let steps = count(core.anchor_path.len() as u64, "step");
    let way = format!("{steps} to the log's root of {}", count(header.anchors_size, "record"));
    let mut nodes = vec![record_node(&record), Node::leaf("anchor", way), header_node(&header)];
    nodes.extend(final_nodes(&core.finality, &core.epochs)?);
    Ok(nodes)
}

/// What makes a header final, and the hand-overs that lead to who signed it.
fn final_nodes(finality: &Finality, epochs: &[EpochHandover]) -> anyhow::Result<Vec<Node>> {
    let mut nodes = vec![finality_node(finality)?];
    for handover in epochs {
        let set: ValidatorSet =
            decode(&handover.validators).context("a hand-over's validators are malformed")?;
        let to = format!("to epoch {}, {}", set.epoch(), count(set.count() as u64, "validator"));
        nodes.push(Node::leaf("hand-over", to));
    }
    Ok(nodes)
}

fn record_node(record: &Record) -> Node {
    let mut parts = vec![
        Node::leaf("proof", record.proof_id),
        Node::leaf("kind", record.kind.name()),
        Node::leaf("root", record.root),
        Node::leaf("tree", format!("{}, {}", record.tree.name(), leaves(record.leaves))),
        Node::leaf("sender", format!("did:cairn:{}", record.sender)),
    ];
    if !record.reference.is_empty() {
        // Quoted and escaped: it is whatever the sender wrote.
        parts.push(Node::leaf("reference", format!("{:?}", record.reference)));
    }
    parts.extend(record.on_behalf_of.map(|id| Node::leaf("on behalf of", format!("did:cairn:{id}"))));
    parts.extend(record.previous.map(|id| Node::leaf("previous", id)));
    parts.extend(record.subject.map(|id| Node::leaf("about", id)));
    parts.push(Node::leaf("transaction", record.tx_id));
    let place = format!("number {}, block {}, {}", record.seq, record.height, time(record.time_ms));
    Node::branch("record", place, parts)
}

/// What a time stamp claims, or why it claims nothing.
fn claim_node(claim: &Result<ExternalTime, String>) -> Node {
    Node::leaf(
        "time stamp",
        match claim {
            Ok(it) => format!("{} at {}, signed as {}", it.part, time(it.time_ms), it.authority),
            Err(why) => format!("useless: {why}"),
        },
    )
}

fn claim_json(claim: &Result<ExternalTime, String>) -> Value {
    match claim {
        Ok(it) => json!({ "part": it.part.to_string(), "time_ms": it.time_ms, "authority": it.authority }),
        Err(why) => json!({ "fault": why }),
    }
}

fn leaves(number: u64) -> String {
    if number == 1 { "1 leaf".to_owned() } else { format!("{number} leaves") }
}

fn header_node(header: &Header) -> Node {
    let parts = vec![
        Node::leaf("block", header.id()),
        Node::leaf("chain", header.chain),
        Node::leaf("time", time(header.time_ms)),
        Node::leaf("proposer", format!("validator {}", header.proposer)),
        Node::leaf("validators", header.validators),
    ];
    let place = format!("height {}, epoch {}, view {}", header.height, header.epoch, header.view);
    Node::branch("header", place, parts)
}

fn finality_node(finality: &Finality) -> anyhow::Result<Node> {
    let Finality::Certificate(encoded) = finality else {
        return Ok(Node::leaf("finality", "by a checkpoint that the verifier must have pinned"));
    };
    let certificate: CommitCert = decode(encoded).context("the certificate is malformed")?;
    let signers: Vec<String> = certificate.signer_indexes().map(|index| index.to_string()).collect();
    let parts = vec![
        Node::leaf("signed", format!("epoch {}, view {}", certificate.epoch, certificate.view)),
        Node::leaf("signers", signers.join(" ")),
    ];
    let signatures = count(certificate.signatures.len() as u64, "signature");
    Ok(Node::branch("finality", format!("{signatures}, {}", bytes(encoded.len() as u64)), parts))
}

fn render(nodes: &[Node], indent: &str, text: &mut String) {
    let width = nodes.iter().map(|node| node.name.chars().count()).max().unwrap_or(0);
    for (index, node) in nodes.iter().enumerate() {
        let last = index + 1 == nodes.len();
        let (corner, below) = if last { ("└─", "   ") } else { ("├─", "│  ") };
        text.push_str(&format!("{indent}{corner} {:<width$}  {}\n", node.name, node.value));
        render(&node.children, &format!("{indent}{below}"), text);
    }
}

fn whole_json(receipt: &Receipt) -> anyhow::Result<Value> {
    let subject = &receipt.subject;
    let mut value = anchor_json(&AnchorReceipt::of(receipt))?;
    value["subject"] = json!({
        "digest": subject.digest.to_string(),
        "algorithm": subject.algorithm,
        "salt": hex::encode(&subject.salt),
    });
    value["batch"] = match &receipt.batch {
        Some(batch) => json!({ "index": batch.index, "steps": batch.path.len() }),
        None => Value::Null,
    };
    value["external"] = json!(receipt.external.len());
    Ok(value)
}

fn anchor_json(core: &AnchorReceipt) -> anyhow::Result<Value> {
    let header = core.header().context("the header is malformed")?;
    Ok(json!({
        "record": record_json(&core.record().context("the record is malformed")?),
        "anchor": { "steps": core.anchor_path.len(), "records": header.anchors_size },
        "header": header_json(&header),
        "finality": finality_json(&core.finality)?,
        "hand_overs": core.epochs.len(),
    }))
}

fn header_json(header: &Header) -> Value {
    json!({
        "block": header.id().to_string(),
        "chain": header.chain.to_string(),
        "height": header.height.get(),
        "epoch": header.epoch.get(),
        "view": header.view.get(),
        "time_ms": header.time_ms,
        "proposer": header.proposer.0,
        "validators": header.validators.to_string(),
    })
}

fn record_json(record: &Record) -> Value {
    json!({
        "seq": record.seq,
        "proof_id": record.proof_id.to_string(),
        "kind": record.kind.name(),
        "tree": record.tree.name(),
        "root": record.root.to_string(),
        "leaves": record.leaves,
        "sender": record.sender.to_string(),
        "reference": record.reference,
        "on_behalf_of": record.on_behalf_of.map(|id| id.to_string()),
        "previous": record.previous.map(|id| id.to_string()),
        "subject": record.subject.map(|id| id.to_string()),
        "tx_id": record.tx_id.to_string(),
        "height": record.height.get(),
        "time_ms": record.time_ms,
    })
}

fn finality_json(finality: &Finality) -> anyhow::Result<Value> {
    let Finality::Certificate(encoded) = finality else { return Ok(json!({ "checkpoint": true })) };
    let certificate: CommitCert = decode(encoded).context("the certificate is malformed")?;
    let signers: Vec<u16> = certificate.signer_indexes().map(|index| index.0).collect();
    Ok(json!({
        "epoch": certificate.epoch.get(),
        "view": certificate.view.get(),
        "block": certificate.block.to_string(),
        "signers": signers,
        "bytes": encoded.len(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_drawn_with_its_branches() {
        let nodes = vec![
            Node::branch("record", "number 5", vec![Node::leaf("proof", "aa"), Node::leaf("kind", "batch")]),
            Node::leaf("anchor", "3 steps"),
        ];
        let mut text = String::new();
        render(&nodes, "", &mut text);
        assert_eq!(text, "├─ record  number 5\n│  ├─ proof  aa\n│  └─ kind   batch\n└─ anchor  3 steps\n");
    }
}
