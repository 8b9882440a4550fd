//! The node's own figures, shown on the metrics port beside those of the networks and the interfaces.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Bucket bounds for work on a block, seconds.
const WORK_BUCKETS: [f64; 12] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0];

/// Counters and gauges of the loops.
#[derive(Debug)]
pub(crate) struct NodeMetrics {
    pub(crate) height: Gauge,
    pub(crate) view: Gauge,
    pub(crate) epoch: Gauge,
    pub(crate) pool: Gauge,
    pub(crate) transactions: Counter,
    pub(crate) records: Counter,
    pub(crate) timeouts: Counter,
    pub(crate) rejected: Counter,
    pub(crate) blocks_refused: Counter,
    pub(crate) equivocations: Counter,
    pub(crate) transactions_pulled: Counter,
    pub(crate) refused_full: Counter,
    pub(crate) journal_sync: Histogram,
    pub(crate) build: Histogram,
    pub(crate) check: Histogram,
    pub(crate) commit: Histogram,
}

impl NodeMetrics {
    /// Figures at zero, registered.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            height: Gauge::default(),
            view: Gauge::default(),
            epoch: Gauge::default(),
            pool: Gauge::default(),
            transactions: Counter::default(),
            records: Counter::default(),
            timeouts: Counter::default(),
            rejected: Counter::default(),
            blocks_refused: Counter::default(),
            equivocations: Counter::default(),
            transactions_pulled: Counter::default(),
            refused_full: Counter::default(),
            journal_sync: Histogram::new(WORK_BUCKETS),
            build: Histogram::new(WORK_BUCKETS),
            check: Histogram::new(WORK_BUCKETS),
            commit: Histogram::new(WORK_BUCKETS),
        };
        metrics.register(registry);
        metrics
    }

    fn register(&self, registry: &mut Registry) {
        let chain = registry.sub_registry_with_prefix("cairn");
        chain.register("height", "Height of the last final block", self.height.clone());
        chain.register("view", "Current consensus view", self.view.clone());
        chain.register("epoch", "Epoch in force", self.epoch.clone());
        chain.register("pool_transactions", "Pending transactions", self.pool.clone());
        chain.register("transactions", "Transactions made final", self.transactions.clone());
        chain.register("records", "Proofs anchored", self.records.clone());
        chain.register("timeouts", "Views given up by a quorum", self.timeouts.clone());
        chain.register(
            "rejected",
            "Consensus messages refused as a validator's fault",
            self.rejected.clone(),
        );
        chain.register("blocks_refused", "Proposed blocks that are not valid", self.blocks_refused.clone());
        chain.register("equivocations", "Contradicting signatures seen", self.equivocations.clone());
        chain.register(
            "transactions_pulled",
            "Transactions of a proposed block that had to be asked for",
            self.transactions_pulled.clone(),
        );
        chain.register(
            "refused_full",
            "Submissions refused unchecked because too many transactions wait",
            self.refused_full.clone(),
        );
        chain.register("journal_sync_seconds", "Time to sync the safety journal", self.journal_sync.clone());
        chain.register("build_seconds", "Time to build and execute our own block", self.build.clone());
        chain.register("check_seconds", "Time to verify and execute another's block", self.check.clone());
        chain.register("commit_seconds", "Time to write and sync final blocks", self.commit.clone());
    }
}
