//! The links that carry messages to validators, shared by the mesh task (which adds and removes them)
//! and every [`crate::Handle`] (which queues messages without waiting for that task).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use cairn_types::Address;

use crate::frame::Frame;
use crate::message::{Outbound, Plane};
use crate::metrics::{DropReason, Metrics};
use crate::queue::Queues;

/// The links to each validator, at least one, the one used for sending last. Bounded by the validator sets admitted to
/// the mesh, and by the links kept to each.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    active: Arc<RwLock<HashMap<Address, Vec<Arc<Queues>>>>>,
    metrics: Metrics,
}

impl Links {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self { active: Arc::default(), metrics }
    }

    /// From now on these are the links to `address`, and it is sent to over the last one. None at all: it is forgotten.
    pub(crate) fn set(&self, address: Address, links: Vec<Arc<Queues>>) {
        let mut active = self.active.write().unwrap_or_else(PoisonError::into_inner);
        if links.is_empty() {
            active.remove(&address);
        } else {
            active.insert(address, links);
        }
        self.metrics.validators_linked(active.len());
    }

    /// Forgets the links to `address`.
    pub(crate) fn remove(&self, address: &Address) {
        let mut active = self.active.write().unwrap_or_else(PoisonError::into_inner);
        active.remove(address);
        self.metrics.validators_linked(active.len());
    }

    pub(crate) fn addresses(&self) -> Vec<Address> {
        self.active.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    pub(crate) fn broadcast(&self, message: &Outbound) {
        let Some(frame) = self.encode(message) else { return };
        let active = self.active.read().unwrap_or_else(PoisonError::into_inner);
        for queues in active.values().filter_map(|links| links.last()) {
            queues.push(message.plane, frame.clone());
        }
    }

    /// Sends over every link to `to`, since more than one process may hold its key.
    pub(crate) fn send_to_each_link(&self, to: &Address, message: &Outbound) {
        let Some(frame) = self.encode(message) else { return };
        let active = self.active.read().unwrap_or_else(PoisonError::into_inner);
        for queues in active.get(to).into_iter().flatten() {
            queues.push(message.plane, frame.clone());
        }
    }

    pub(crate) fn send_to(&self, to: &Address, message: &Outbound) -> bool {
        match (self.sending(to), self.encode(message)) {
            (Some(queues), Some(frame)) => queues.push(message.plane, frame),
            (None, Some(_)) => {
                self.metrics.dropped(message.plane, DropReason::Unlinked, 1);
                false
            }
            (_, None) => false,
        }
    }

    /// Bytes waiting for `address`, both planes.
    pub(crate) fn queued_bytes(&self, address: &Address) -> usize {
        self.sending(address).map_or(0, |queues| Plane::ALL.iter().map(|plane| queues.bytes(*plane)).sum())
    }

    /// The link that is used for sending to `to`.
    fn sending(&self, to: &Address) -> Option<Arc<Queues>> {
        self.active.read().unwrap_or_else(PoisonError::into_inner).get(to)?.last().cloned()
    }

    #[cfg(test)]
    pub(crate) fn queues(&self, to: &Address) -> Option<Arc<Queues>> {
        self.sending(to)
    }

    #[cfg(test)]
    pub(crate) fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    fn encode(&self, message: &Outbound) -> Option<Frame> {
        let frame = Frame::new(message);
        if frame.is_none() {
            self.metrics.dropped(message.plane, DropReason::TooLong, 1);
            tracing::error!(
                kind = message.kind.name(),
                bytes = message.body.len(),
                "a message longer than its plane allows was not sent"
            );
        }
        frame
    }
}
