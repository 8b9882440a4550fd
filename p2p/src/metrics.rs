//! What operators watch.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::message::{MessageKind, Plane};

/// Why a frame was not sent, or not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DropReason {
    /// No room in the queue.
    Overflow,
    /// A newer frame of the same kind and view took its place.
    Replaced,
    /// No link to the validator.
    Unlinked,
    /// Longer than the plane allows.
    TooLong,
    /// Received bytes that are no envelope of a known kind.
    Malformed,
}

impl DropReason {
    const fn name(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::Replaced => "replaced",
            Self::Unlinked => "unlinked",
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PlaneLabel {
    plane: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DropLabel {
    plane: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TrafficLabel {
    plane: &'static str,
    kind: &'static str,
    direction: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// All metrics of both networks; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics(Arc<Families>);

#[derive(Debug, Default)]
struct Families {
    queue_bytes: Family<PlaneLabel, Gauge>,
    dropped: Family<DropLabel, Counter>,
    bytes: Family<TrafficLabel, Counter>,
    messages: Family<TrafficLabel, Counter>,
    links: Gauge,
    link_attempts: Family<OutcomeLabel, Counter>,
    public_peers: Gauge,
    gossip: Family<OutcomeLabel, Counter>,
    events_dropped: Counter,
    records: Gauge,
    records_refused: Counter,
}

impl Metrics {
    /// Metrics registered under `p2p_`.
    pub(crate) fn registered(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let families = &metrics.0;
        let registry = registry.sub_registry_with_prefix("p2p");
        registry.register(
            "queue_bytes",
            "Bytes waiting to be sent, all validators",
            families.queue_bytes.clone(),
        );
        registry.register("dropped", "Frames not sent or not taken, by reason", families.dropped.clone());
        registry.register("mesh_bytes", "Bytes of mesh frames, by plane and kind", families.bytes.clone());
        registry.register("mesh_messages", "Mesh frames, by plane and kind", families.messages.clone());
        registry.register(
            "validators_linked",
            "Validators with an authenticated link",
            families.links.clone(),
        );
        registry.register(
            "link_attempts",
            "Link authentications, by outcome",
            families.link_attempts.clone(),
        );
        registry.register("public_peers", "Peers of the public network", families.public_peers.clone());
        registry.register("gossip", "Gossiped messages, by outcome", families.gossip.clone());
        registry.register(
            "events_dropped",
            "Public events dropped because the node was busy",
            families.events_dropped.clone(),
        );
        registry.register("node_records", "Validators whose node record is known", families.records.clone());
        registry.register(
            "node_records_refused",
            "Node records that broke a rule",
            families.records_refused.clone(),
        );
        metrics
    }

    pub(crate) fn queue_changed(&self, plane: Plane, before: usize, after: usize) {
        let gauge = self.0.queue_bytes.get_or_create(&PlaneLabel { plane: plane.name() });
        gauge.inc_by(signed(after) - signed(before));
    }

    pub(crate) fn dropped(&self, plane: Plane, reason: DropReason, count: usize) {
        if count > 0 {
            let label = DropLabel { plane: plane.name(), reason: reason.name() };
            self.0.dropped.get_or_create(&label).inc_by(count as u64);
        }
    }

    pub(crate) fn sent(&self, plane: Plane, kind: MessageKind, bytes: usize) {
        self.traffic(plane, kind, "out", bytes);
    }

    pub(crate) fn received(&self, plane: Plane, kind: MessageKind, bytes: usize) {
        self.traffic(plane, kind, "in", bytes);
    }

    fn traffic(&self, plane: Plane, kind: MessageKind, direction: &'static str, bytes: usize) {
        let label = TrafficLabel { plane: plane.name(), kind: kind.name(), direction };
        self.0.bytes.get_or_create(&label).inc_by(bytes as u64);
        self.0.messages.get_or_create(&label).inc();
    }

    pub(crate) fn validators_linked(&self, count: usize) {
        self.0.links.set(signed(count));
    }

    pub(crate) fn link_attempt(&self, outcome: &'static str) {
        self.0.link_attempts.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(crate) fn public_peers(&self, count: usize) {
        self.0.public_peers.set(signed(count));
    }

    pub(crate) fn gossip(&self, outcome: &'static str) {
        self.0.gossip.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(crate) fn event_dropped(&self) {
        self.0.events_dropped.inc();
    }

    pub(crate) fn records(&self, count: usize) {
        self.0.records.set(signed(count));
    }

    pub(crate) fn record_refused(&self) {
        self.0.records_refused.inc();
    }

    #[cfg(test)]
    pub(crate) fn drops(&self, plane: Plane, reason: DropReason) -> u64 {
        self.0.dropped.get_or_create(&DropLabel { plane: plane.name(), reason: reason.name() }).get()
    }

    #[cfg(test)]
    pub(crate) fn link_attempts(&self, outcome: &'static str) -> u64 {
        self.0.link_attempts.get_or_create(&OutcomeLabel { outcome }).get()
    }

    #[cfg(test)]
    pub(crate) fn queued(&self, plane: Plane) -> i64 {
        self.0.queue_bytes.get_or_create(&PlaneLabel { plane: plane.name() }).get()
    }
}

/// Counts here are of things in memory, far below the bound.
fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
