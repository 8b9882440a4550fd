//! The pool itself.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use cairn_types::{Address, AuthenticatedTx, Payload, TxId, Verified};
use thiserror::Error;

use crate::shares::{Measure, Shares};

/// Transactions pooled: some ten full blocks, what a burst may put ahead of finality.
const TRANSACTIONS_MAX: usize = 20_000;
/// Bytes pooled, of the canonical form: what a node may spend on transactions that are not yet anyone's. Each is held
/// decoded as well, so memory is up to twice that.
const BYTES_MAX: usize = 64 << 20;
/// Transactions of one sender: a tenth of the pool, so that ten busy senders fill it without eviction.
const SENDER_TRANSACTIONS_MAX: usize = 2_048;
/// What a client is told to wait when the pool is full: a few blocks.
const RETRY_AFTER_MS: u64 = 1_000;
/// How far a sender's clock may be ahead of ours before its expiry counts as too late.
const CLOCK_SLACK_MS: u64 = 2_000;
/// Transactions in a row that do not fit a block's last bytes before selection stops looking.
const MISFITS_MAX: usize = 16;

/// The pool's bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Transactions, at most.
    pub transactions_max: usize,
    /// Bytes of transactions, at most.
    pub bytes_max: usize,
    /// Transactions of one sender, at most.
    pub sender_transactions_max: usize,
    /// Bytes of one transaction, at most: the chain's `transaction_bytes_max`.
    pub transaction_bytes_max: usize,
    /// The chain's `replay_window_ms`: no block accepts an expiry further ahead.
    pub window_ms: u64,
}

impl Limits {
    /// The usual bounds on a chain with these parameters.
    pub fn of_chain(params: &cairn_types::Params) -> Self {
        Self {
            transactions_max: TRANSACTIONS_MAX,
            bytes_max: BYTES_MAX,
            sender_transactions_max: SENDER_TRANSACTIONS_MAX,
            transaction_bytes_max: usize::try_from(params.transaction_bytes_max).unwrap_or(usize::MAX),
            window_ms: params.replay_window_ms,
        }
    }
}

/// Why a transaction was not pooled. A refusal changes nothing.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum Refusal {
    #[error("transaction {id} is pooled already")]
    Duplicate { id: TxId },
    #[error("the transaction expired at {expires_ms}, it is {now_ms} now")]
    Expired { expires_ms: u64, now_ms: u64 },
    #[error(
        "the transaction expires at {expires_ms}; expected at most {window_ms} ms after {now_ms}, the time now"
    )]
    ExpiresTooLate { expires_ms: u64, now_ms: u64, window_ms: u64 },
    #[error("the transaction has {got} bytes; expected at most {expected}")]
    TooLarge { got: usize, expected: usize },
    #[error(
        "sender {sender} has {held} transactions pooled, the most one sender may have; wait until some are final"
    )]
    SenderFull { sender: Address, held: usize, retry_after_ms: u64 },
    #[error(
        "the pool is full and sender {sender} holds its fair share of it; try again in {retry_after_ms} ms"
    )]
    Full { sender: Address, retry_after_ms: u64 },
}

impl Refusal {
    /// How long to wait before trying again; `None` when trying again does not help.
    pub const fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::SenderFull { retry_after_ms, .. } | Self::Full { retry_after_ms, .. } => {
                Some(*retry_after_ms)
            }
            Self::Duplicate { .. }
            | Self::Expired { .. }
            | Self::ExpiresTooLate { .. }
            | Self::TooLarge { .. } => None,
        }
    }
}

/// A transaction was pooled.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Admitted {
    /// The transactions of bigger senders that gave way to it.
    pub evicted: Vec<TxId>,
}

/// How full the pool is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Transactions.
    pub transactions: usize,
    /// Bytes of their canonical form.
    pub bytes: usize,
    /// Different senders.
    pub senders: usize,
}

#[derive(Debug)]
struct Entry {
    tx: Verified<AuthenticatedTx>,
    arrival: u64,
}

impl Entry {
    fn sender(&self) -> Address {
        self.tx.signed.transaction.sender
    }

    fn expires_ms(&self) -> u64 {
        self.tx.signed.transaction.expires_ms
    }
}

/// Pending transactions, bounded by [`Limits`].
#[derive(Debug)]
pub struct Pool {
    limits: Limits,
    entries: HashMap<TxId, Entry>,
    arrivals: BTreeMap<u64, TxId>,
    expiries: BTreeSet<(u64, TxId)>,
    shares: Shares,
    bytes: usize,
    next_arrival: u64,
}

impl Pool {
    /// An empty pool.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: HashMap::new(),
            arrivals: BTreeMap::new(),
            expiries: BTreeSet::new(),
            shares: Shares::default(),
            bytes: 0,
            next_arrival: 0,
        }
    }

    /// Bounds what is taken from now on; what is held stays.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Pools `tx`. When the pool is full, the newest transactions of the biggest sender give way, as long
    /// as that sender stays at least as big as this one becomes.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub fn insert(&mut self, tx: Verified<AuthenticatedTx>, now_ms: u64) -> Result<Admitted, Refusal> {
        self.check(&tx, now_ms)?;
        let sender = tx.signed.transaction.sender;
        let mut evicted = Vec::new();
        while let Some(measure) = self.overflow(tx.bytes) {
            let Some(victim) = self.victim(&sender, tx.bytes, measure).and_then(|id| self.take(&id)) else {
                evicted.into_iter().rev().for_each(|entry| self.put(entry));
                return Err(Refusal::Full { sender, retry_after_ms: RETRY_AFTER_MS });
            };
            evicted.push(victim);
        }
        let arrival = self.next_arrival;
        self.next_arrival = arrival.saturating_add(1);
        self.put(Entry { tx, arrival });
        Ok(Admitted { evicted: evicted.iter().map(|entry| entry.tx.id).collect() })
    }

    /// Whether this transaction is pooled.
    pub fn contains(&self, id: &TxId) -> bool {
        self.entries.contains_key(id)
    }

    /// A pooled transaction.
    pub fn get(&self, id: &TxId) -> Option<&Verified<AuthenticatedTx>> {
        self.entries.get(id).map(|entry| &entry.tx)
    }

    /// Up to `limit` transactions, in order of arrival.
    pub fn oldest(&self, limit: usize) -> impl Iterator<Item = &Verified<AuthenticatedTx>> {
        self.arrivals.values().take(limit).filter_map(|id| self.get(id))
    }

    /// What to put into a block of time `time_ms`: at most `bytes_max` bytes, one transaction of each sender
    /// in turn, each sender's in order of arrival. Left out are those in `exclude` (the uncommitted
    /// ancestors'), those a block of this time may not hold, and what follows a sender's change to its
    /// identity, which ends its part of a block. Changes nothing.
    ///
    /// Work grows with what is selected and left out, not with the pool.
    pub fn select(
        &self,
        bytes_max: usize,
        time_ms: u64,
        exclude: &HashSet<TxId>,
    ) -> Vec<Verified<AuthenticatedTx>> {
        let mut selected = Vec::new();
        let mut room = bytes_max;
        let mut misfits = 0usize;
        let mut fresh = self.shares.queues();
        let mut waiting = VecDeque::new();
        while misfits < MISFITS_MAX
            && let Some(mut queue) = fresh.next().or_else(|| waiting.pop_front())
        {
            let fits = |id: &TxId| !exclude.contains(id) && self.is_valid_at(id, time_ms);
            let Some(entry) = queue.find(fits).and_then(|id| self.entries.get(&id)) else { continue };
            let Some(rest) = room.checked_sub(entry.tx.bytes) else {
                misfits = misfits.saturating_add(1);
                continue;
            };
            room = rest;
            misfits = 0;
            selected.push(entry.tx.clone());
            if !matches!(entry.tx.signed.transaction.payload, Payload::Identity(_)) {
                waiting.push_back(queue);
            }
        }
        selected
    }

    /// Forgets transactions, usually because they are final. Their senders go to the end of the rotation.
    /// Unknown ids are fine.
    pub fn remove<'a>(&mut self, ids: impl IntoIterator<Item = &'a TxId>) {
        for id in ids {
            if let Some(entry) = self.take(id) {
                self.shares.served(&entry.sender());
            }
        }
    }

    /// Forgets what no block of time `now_ms` or later may hold, and names it.
    pub fn expire(&mut self, now_ms: u64) -> Vec<TxId> {
        let mut expired = Vec::new();
        while let Some((expires_ms, id)) = self.expiries.first().copied()
            && expires_ms <= now_ms
        {
            self.take(&id);
            expired.push(id);
        }
        expired
    }

    /// How full it is.
    pub fn stats(&self) -> Stats {
        Stats { transactions: self.entries.len(), bytes: self.bytes, senders: self.shares.senders() }
    }

    /// Its bounds.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    fn check(&self, tx: &AuthenticatedTx, now_ms: u64) -> Result<(), Refusal> {
        let Limits { window_ms, sender_transactions_max, transaction_bytes_max: expected, .. } = self.limits;
        if tx.bytes > expected {
            return Err(Refusal::TooLarge { got: tx.bytes, expected });
        }
        let expires_ms = tx.signed.transaction.expires_ms;
        if expires_ms <= now_ms {
            return Err(Refusal::Expired { expires_ms, now_ms });
        }
        if expires_ms > now_ms.saturating_add(window_ms).saturating_add(CLOCK_SLACK_MS) {
            return Err(Refusal::ExpiresTooLate { expires_ms, now_ms, window_ms });
        }
        if self.contains(&tx.id) {
            return Err(Refusal::Duplicate { id: tx.id });
        }
        let sender = tx.signed.transaction.sender;
        let held = self.shares.held(&sender, Measure::Transactions);
        if held >= sender_transactions_max {
            return Err(Refusal::SenderFull { sender, held, retry_after_ms: RETRY_AFTER_MS });
        }
        Ok(())
    }

    /// The bound that one more transaction of `bytes` would break.
    fn overflow(&self, bytes: usize) -> Option<Measure> {
        if self.entries.len() >= self.limits.transactions_max {
            Some(Measure::Transactions)
        } else if self.bytes.saturating_add(bytes) > self.limits.bytes_max {
            Some(Measure::Bytes)
        } else {
            None
        }
    }

    /// The transaction that gives way to one of `bytes` from `sender`, when somebody bigger holds more.
    fn victim(&self, sender: &Address, bytes: usize, measure: Measure) -> Option<TxId> {
        let more = match measure {
            Measure::Transactions => 1,
            Measure::Bytes => bytes,
        };
        let becomes = self.shares.held(sender, measure).saturating_add(more);
        let (held, biggest) = self.shares.biggest(measure)?;
        (biggest != *sender && held > becomes).then(|| self.shares.newest(&biggest)).flatten()
    }

    /// Whether a block of `time_ms` may hold it: `time_ms < expires_ms <= time_ms + window`.
    fn is_valid_at(&self, id: &TxId, time_ms: u64) -> bool {
        let latest = time_ms.saturating_add(self.limits.window_ms);
        self.entries
            .get(id)
            .map(Entry::expires_ms)
            .is_some_and(|expires| expires > time_ms && expires <= latest)
    }

    fn put(&mut self, entry: Entry) {
        let (id, bytes) = (entry.tx.id, entry.tx.bytes);
        self.shares.add(entry.sender(), entry.arrival, id, bytes);
        self.arrivals.insert(entry.arrival, id);
        self.expiries.insert((entry.expires_ms(), id));
        self.bytes = self.bytes.saturating_add(bytes);
        self.entries.insert(id, entry);
    }

    fn take(&mut self, id: &TxId) -> Option<Entry> {
        let entry = self.entries.remove(id)?;
        self.shares.take(&entry.sender(), entry.arrival, entry.tx.bytes);
        self.arrivals.remove(&entry.arrival);
        self.expiries.remove(&(entry.expires_ms(), *id));
        self.bytes = self.bytes.saturating_sub(entry.tx.bytes);
        Some(entry)
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
