//! What must never happen, as far as it can be seen from outside a network of processes:
//!
//! (a) two blocks final at one height; (b) two roots for one height; (c) two votes of one key in one view;
//! (e) a receipt that stops verifying, or a record a node no longer serves; (f) no progress once a quorum
//! is connected; (g) a pool beyond its bounds; (h) a panic.
//!
//! (d), a lock that moves back, shows only inside a node: the simulation of the consensus core checks it.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use cairn_types::Genesis;
use serde_json::{Value, json};

use crate::anchoring::Anchorer;
use crate::api::NodeApi;
use crate::network::LocalNetwork;

/// Heights compared on every node, at most: the newest, and as many of the oldest.
const HEIGHTS_MAX: u64 = 400;
/// On top of the protocol's bound: what a loaded machine needs to run the processes.
const PROGRESS_MARGIN: Duration = Duration::from_secs(15);
/// How often lagging nodes are asked again.
const POLL: Duration = Duration::from_millis(50);

/// What was looked at, so that a test can see that something was.
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Nodes asked.
    pub nodes: usize,
    /// Heights compared on each.
    pub heights: u64,
    /// Receipts verified and found on each.
    pub receipts: usize,
    /// How long the last anchor took from submission to finality, ms; none without a quorum.
    pub progress_ms: Option<u128>,
}

/// Checks a network and every receipt it ever issued. With a quorum of validators running it also anchors
/// once more through each running node.
///
/// # Errors
/// Every violation found, each a sentence.
pub async fn check(network: &LocalNetwork, anchorer: &mut Anchorer) -> Result<Checked, String> {
    let mut violations = Vec::new();
    let running = network.running();
    let mut apis = Vec::new();
    for node in &running {
        apis.push((*node, network.api(*node).map_err(|fault| fault.to_string())?));
    }
    let validators = network.manifest().validators;
    let quorum = running.iter().filter(|node| **node < validators).count() * 3 > usize::from(validators) * 2;
    let mut progress_ms = None;
    if quorum {
        progress_ms = progress(&apis, anchorer, &mut violations).await;
    }
    let heights = same_chain(&apis, quorum, &mut violations).await;
    no_equivocation(network, &running, &mut violations).await;
    receipts_hold(&apis, anchorer, &mut violations).await;
    pools_within_bounds(&apis, &mut violations).await;
    no_panics(network, &mut violations);
    if violations.is_empty() {
        Ok(Checked { nodes: apis.len(), heights, receipts: anchorer.issued().len(), progress_ms })
    } else {
        Err(violations.join("\n"))
    }
}

/// The longest a connected quorum may take to finish a block: two of the largest timeouts and two views.
pub fn progress_bound(genesis: &Genesis) -> Duration {
    let params = genesis.params;
    let bound = 2 * params.timeout_cap_ms + 2 * params.timeout_base_ms;
    Duration::from_millis(bound) + PROGRESS_MARGIN
}

/// (f): an anchor through each node becomes final in time.
async fn progress(
    apis: &[(u16, NodeApi)],
    anchorer: &mut Anchorer,
    violations: &mut Vec<String>,
) -> Option<u128> {
    let bound = progress_bound(anchorer.genesis());
    let mut took = None;
    for (node, api) in apis {
        let began = Instant::now();
        match anchorer.anchor_within(api, bound).await {
            Ok(_) => took = Some(began.elapsed().as_millis()),
            Err(fault) => violations
                .push(format!("(f) no progress through node {node} within {} s: {fault}", bound.as_secs())),
        }
    }
    took
}

/// (a) and (b): every height that two nodes have is the same on both, and the heights link up.
async fn same_chain(apis: &[(u16, NodeApi)], catch_up: bool, violations: &mut Vec<String>) -> u64 {
    let mut latest = BTreeMap::new();
    for (node, api) in apis {
        latest.insert(*node, height(api).await.unwrap_or_default());
    }
    let highest = latest.values().copied().max().unwrap_or_default();
    if catch_up {
        for (node, api) in apis {
            if !reaches(api, highest, PROGRESS_MARGIN).await {
                violations.push(format!("(f) node {node} does not reach height {highest}"));
            }
        }
    }
    let shared = if catch_up { highest } else { latest.values().copied().min().unwrap_or_default() };
    let compared: Vec<u64> = (0..=shared).filter(|h| *h < HEIGHTS_MAX || h + HEIGHTS_MAX > shared).collect();
    let mut parent: Option<(u64, String)> = None;
    for h in &compared {
        let Some(id) = same_header(apis, *h, violations).await else { continue };
        let (own, above) = id;
        if let Some((below, below_id)) = &parent
            && below + 1 == *h
            && *below_id != above
        {
            violations.push(format!("(a) block {h} does not follow block {below}"));
        }
        parent = Some((*h, own));
    }
    compared.len() as u64
}

/// The id and parent of the block at `height`, when all nodes agree on the whole header.
async fn same_header(
    apis: &[(u16, NodeApi)],
    height: u64,
    violations: &mut Vec<String>,
) -> Option<(String, String)> {
    let mut first: Option<(u16, Value)> = None;
    for (node, api) in apis {
        let header = match api.call("chain_header", json!({ "at": height })).await {
            Ok(header) => header,
            Err(fault) => {
                violations.push(format!("(e) node {node} does not give header {height}: {fault}"));
                continue;
            }
        };
        match &first {
            None => first = Some((*node, header)),
            Some((other, expected)) if *expected != header => violations.push(format!(
                "(a)/(b) nodes {other} and {node} differ at height {height}: {expected} and {header}"
            )),
            Some(_) => {}
        }
    }
    let (_, header) = first?;
    let text = |name: &str| header[name].as_str().map(str::to_owned);
    let named = text("id").zip(text("parent"));
    if named.is_none() {
        violations.push(format!("header {height} names no id and parent: {header}"));
    }
    named
}

/// (c): no node has seen evidence of a double vote.
async fn no_equivocation(network: &LocalNetwork, running: &[u16], violations: &mut Vec<String>) {
    for node in running {
        let Ok(ports) = network.ports(*node) else { continue };
        let metrics = NodeApi::new(&format!("http://127.0.0.1:{}", ports.metrics)).get("/metrics").await;
        let Ok(metrics) = metrics else {
            violations.push(format!("node {node} serves no metrics"));
            continue;
        };
        let counters = metrics.lines().filter(|line| line.starts_with("cairn_equivocations_total "));
        let counters: Vec<_> = counters.collect();
        if counters.is_empty() {
            violations.push(format!("(c) node {node} does not count double votes"));
        }
        for line in counters.into_iter().filter(|line| !line.ends_with(" 0")) {
            violations.push(format!("(c) node {node} saw a double vote: {line}"));
        }
    }
}

/// (e): every receipt issued verifies against the genesis alone, and every node that runs still gives one.
async fn receipts_hold(apis: &[(u16, NodeApi)], anchorer: &Anchorer, violations: &mut Vec<String>) {
    for (proof, receipt) in anchorer.issued() {
        if let Err(why) = anchorer.verify(receipt) {
            violations.push(format!("(e) the receipt of {proof} no longer verifies: {why}"));
        }
        for (node, api) in apis {
            let fresh = match api.call("receipt_get", json!({ "proof_id": proof })).await {
                Ok(fresh) => fresh,
                Err(fault) => {
                    violations.push(format!("(e) node {node} lost {proof}: {fault}"));
                    continue;
                }
            };
            if let Err(why) = anchorer.verify(&fresh.to_string()) {
                violations.push(format!("(e) node {node} gives a receipt of {proof} that fails: {why}"));
            }
        }
    }
}

/// (g): the pool keeps to its bounds.
async fn pools_within_bounds(apis: &[(u16, NodeApi)], violations: &mut Vec<String>) {
    for (node, api) in apis {
        let Ok(info) = api.call("mempool_info", json!({})).await else {
            violations.push(format!("node {node} does not answer mempool_info"));
            continue;
        };
        for (now, most) in [("count", "count_max"), ("bytes", "bytes_max")] {
            match (info[now].as_u64(), info[most].as_u64()) {
                (Some(now), Some(most)) if now <= most => {}
                _ => violations.push(format!("(g) node {node}'s pool is beyond its bounds: {info}")),
            }
        }
    }
}

/// (h): no log tells of a panic.
fn no_panics(network: &LocalNetwork, violations: &mut Vec<String>) {
    for node in network.nodes() {
        let log = fs::read(network.layout().node(node).log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        if let Some(line) = log.lines().find(|line| line.contains("panicked at")) {
            violations.push(format!("(h) node {node} panicked: {line}"));
        }
    }
}

/// The last final height of a node.
pub async fn height(api: &NodeApi) -> Option<u64> {
    api.call("chain_status", json!({})).await.ok()?["height"].as_u64()
}

/// Waits until a node's last final height is at least `wanted`.
pub async fn reaches(api: &NodeApi, wanted: u64, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    loop {
        if height(api).await.is_some_and(|height| height >= wanted) {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        tokio::time::sleep(POLL).await;
    }
}
