//! How an audit is watched: metrics, and a webhook when something is wrong.

use std::sync::atomic::AtomicU64;

use cairn_client::notify;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::json;

use super::auditor::Progress;
use super::finding::Finding;

/// What an audit exposes on its metrics port.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuditMetrics {
    height: Gauge<u64, AtomicU64>,
    behind: Gauge<u64, AtomicU64>,
    blocks: Counter,
    proofs: Counter,
    findings: Counter,
    unanswered: Counter,
}

impl AuditMetrics {
    /// The metrics, registered.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let audit = registry.sub_registry_with_prefix("cairn_audit");
        audit.register("height", "The last block that was audited", metrics.height.clone());
        audit.register("behind", "Final blocks that were not audited yet", metrics.behind.clone());
        audit.register("blocks", "Blocks executed again", metrics.blocks.clone());
        audit.register("proofs", "Records compared and proven", metrics.proofs.clone());
        audit.register(
            "findings",
            "Checks that failed; anything but 0 is an alarm",
            metrics.findings.clone(),
        );
        audit.register("unanswered", "Times the node did not answer", metrics.unanswered.clone());
        metrics
    }

    pub(crate) fn advanced(&self, progress: &Progress) {
        self.height.set(progress.height.get());
        self.behind.set(progress.latest.get().saturating_sub(progress.height.get()));
        self.blocks.inc_by(progress.blocks);
        self.proofs.inc_by(progress.proofs);
    }

    pub(crate) fn found(&self) {
        self.findings.inc();
    }

    pub(crate) fn unanswered(&self) {
        self.unanswered.inc();
    }
}

/// Tells a webhook, as JSON. That it does not answer is said, and changes nothing else.
pub(crate) async fn alert(webhook: &str, chain: &str, url: &str, finding: &Finding) {
    let body = json!({ "alert": "cairn audit", "chain": chain, "node": url, "finding": finding.to_json(),
        "text": format!("cairn audit of {url}: {finding}") });
    if let Err(fault) = notify(webhook, &body).await {
        eprintln!("warning: the webhook was not reached: {fault}");
    }
}
