//! Transactions travel in batches: sent at once when nothing was sent for a while, else together with
//! what comes until then.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tokio::time::Instant;

use crate::message::{GOSSIP_BATCH_BYTES_MAX, GOSSIP_BATCH_TRANSACTIONS_MAX};

/// Bytes that wait to be gossiped; above it transactions are dropped here. They stay in the pool and
/// reach leaders over the mesh.
const WAITING_BYTES_MAX: usize = 4 * 1_024 * 1_024;
/// Protobuf around one transaction: a tag and a length of up to 3 bytes.
const ITEM_OVERHEAD_BYTES: usize = 4;
/// Longest encoded batch: one transaction of the full size with its overhead.
pub(crate) const ENCODED_BYTES_MAX: usize = GOSSIP_BATCH_BYTES_MAX + ITEM_OVERHEAD_BYTES;

#[derive(Clone, PartialEq, prost::Message)]
struct WireBatch {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    transactions: Vec<Bytes>,
}

/// The transactions of a gossiped batch; `None` when it breaks a limit.
pub(crate) fn decode(bytes: Bytes) -> Option<Vec<Bytes>> {
    if bytes.len() > ENCODED_BYTES_MAX {
        return None;
    }
    let transactions = WireBatch::decode(bytes).ok()?.transactions;
    let count = transactions.len();
    (count > 0 && count <= GOSSIP_BATCH_TRANSACTIONS_MAX && transactions.iter().all(|tx| !tx.is_empty()))
        .then_some(transactions)
}

/// Transactions that wait for their batch.
#[derive(Debug)]
pub(crate) struct Batcher {
    interval: Duration,
    waiting: VecDeque<Bytes>,
    bytes: usize,
    sent: Option<Instant>,
}

impl Batcher {
    pub(crate) const fn new(interval: Duration) -> Self {
        Self { interval, waiting: VecDeque::new(), bytes: 0, sent: None }
    }

    /// Adds transactions; gives how many were dropped, for want of room or for being too long.
    pub(crate) fn push(&mut self, transactions: Vec<Bytes>) -> usize {
        let mut dropped = 0;
        for transaction in transactions {
            let length = transaction.len();
            if length == 0 || length > GOSSIP_BATCH_BYTES_MAX || self.bytes + length > WAITING_BYTES_MAX {
                dropped += 1;
                continue;
            }
            self.bytes += length;
            self.waiting.push_back(transaction);
        }
        dropped
    }

    /// When to send; `None` while nothing waits.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        if self.waiting.is_empty() {
            return None;
        }
        Some(self.sent.map_or(now, |sent| now.max(sent + self.interval)))
    }

    /// The next batch, encoded; `None` when nothing waits.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Vec<u8>> {
        let mut transactions = Vec::new();
        let mut bytes = 0;
        while let Some(first) = self.waiting.front() {
            let cost = first.len() + ITEM_OVERHEAD_BYTES;
            let full =
                bytes + cost > ENCODED_BYTES_MAX || transactions.len() >= GOSSIP_BATCH_TRANSACTIONS_MAX;
            if full {
                break;
            }
            bytes += cost;
            self.bytes -= first.len();
            transactions.extend(self.waiting.pop_front());
        }
        if transactions.is_empty() {
            return None;
        }
        self.sent = Some(now);
        Some(WireBatch { transactions }.encode_to_vec())
    }

    /// Puts a batch that could not be sent back to the front.
    pub(crate) fn put_back(&mut self, batch: &[u8], now: Instant) {
        self.sent = Some(now);
        let transactions = decode(Bytes::copy_from_slice(batch)).unwrap_or_default();
        for transaction in transactions.into_iter().rev() {
            if self.bytes + transaction.len() <= WAITING_BYTES_MAX {
                self.bytes += transaction.len();
                self.waiting.push_front(transaction);
            }
        }
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
