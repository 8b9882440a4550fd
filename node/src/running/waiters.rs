//! Callers that wait for a transaction to become final.

use std::collections::HashMap;

use cairn_rpc::Fault;
use cairn_types::TxId;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Callers waiting at one moment: twice the calls that the interfaces answer at once.
const WAITERS_MAX: usize = 16_384;

/// What a waiter is told: final, or why it never will be.
type News = Result<(), Fault>;

/// The waiting callers, by transaction.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    waiting: Mutex<HashMap<TxId, Vec<oneshot::Sender<News>>>>,
}

impl Waiters {
    /// Starts to wait. The caller looks the transaction up *after* this, so that no news is missed.
    /// `None` when too many wait already.
    pub(crate) fn register(&self, tx: TxId) -> Option<oneshot::Receiver<News>> {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= WAITERS_MAX {
            waiting.retain(|_, senders| senders.iter().any(|sender| !sender.is_closed()));
        }
        if waiting.len() >= WAITERS_MAX {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        let senders = waiting.entry(tx).or_default();
        senders.retain(|sender| !sender.is_closed());
        senders.push(sender);
        Some(receiver)
    }

    /// Tells everyone who waits for `tx`.
    pub(crate) fn tell(&self, tx: &TxId, news: &News) {
        let senders = self.waiting.lock().remove(tx).unwrap_or_default();
        for sender in senders {
            // A caller that gave up needs no news.
            let _ = sender.send(news.clone());
        }
    }
}
