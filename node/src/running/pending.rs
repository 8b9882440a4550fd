//! The pool as this node holds it: with an index from proofs to the pending transaction that carries them,
//! so that a repeated submission is recognised before it is final, and one from block leaves, by which
//! proposals name transactions.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_mempool::{Limits, Pool, Refusal, Stats};
use cairn_types::{AuthenticatedTx, ChainId, Hash, Params, ProofId, SignedTransaction, TxId, Verified};

/// What the indexes hold of one transaction.
struct Carried {
    proofs: Vec<ProofId>,
    leaf: Hash,
    since: Instant,
}

/// The pool and its index. Both hold the same transactions, so the pool's bounds bound the index:
/// at most 256 proofs a transaction, 32 bytes each.
pub(crate) struct Pending {
    chain: ChainId,
    pool: Pool,
    carried: HashMap<TxId, Carried>,
    carriers: HashMap<ProofId, TxId>,
    /// By block leaf, for proposals that name transactions so.
    leaves: HashMap<Hash, TxId>,
    /// Transactions of our clients that the other validators were not sent yet.
    unsent: HashSet<TxId>,
}

impl Pending {
    /// An empty pool with the bounds of the chain.
    pub(crate) fn new(chain: ChainId, params: &Params) -> Self {
        let pool = Pool::new(Limits::of_chain(params));
        Self {
            chain,
            pool,
            carried: HashMap::new(),
            carriers: HashMap::new(),
            leaves: HashMap::new(),
            unsent: HashSet::new(),
        }
    }

    /// From now on takes what the chain takes under these parameters.
    pub(crate) fn set_params(&mut self, params: &Params) {
        self.pool.set_limits(Limits::of_chain(params));
    }

    /// Takes a transaction; gives those that had to make room for it.
    pub(crate) fn insert(
        &mut self,
        tx: Verified<AuthenticatedTx>,
        now_ms: u64,
    ) -> Result<Vec<TxId>, Refusal> {
        let (id, signed) = (tx.id, Arc::clone(&tx.signed));
        let admitted = self.pool.insert(tx, now_ms)?;
        let transaction = &signed.transaction;
        let proofs: Vec<_> =
            transaction.proofs().iter().map(|proof| proof.id(self.chain, transaction.sender)).collect();
        for proof in &proofs {
            self.carriers.entry(*proof).or_insert(id);
        }
        let leaf = signed.block_leaf();
        self.carried.insert(id, Carried { proofs, leaf, since: Instant::now() });
        self.leaves.insert(leaf, id);
        self.forget(&admitted.evicted);
        Ok(admitted.evicted)
    }

    /// The first pending transaction that carries this proof.
    pub(crate) fn carrier(&self, proof: &ProofId) -> Option<TxId> {
        self.carriers.get(proof).copied()
    }

    /// Whether a transaction is pending.
    pub(crate) fn contains(&self, id: &TxId) -> bool {
        self.pool.contains(id)
    }

    /// A pending transaction.
    pub(crate) fn get(&self, id: &TxId) -> Option<Arc<SignedTransaction>> {
        self.pool.get(id).map(|tx| Arc::clone(&tx.signed))
    }

    /// A pending transaction as it was checked.
    pub(crate) fn checked(&self, id: &TxId) -> Option<&Verified<AuthenticatedTx>> {
        self.pool.get(id)
    }

    /// How long a pending transaction waited until `until`.
    pub(crate) fn waited(&self, id: &TxId, until: Instant) -> Option<Duration> {
        self.carried.get(id).map(|carried| until.saturating_duration_since(carried.since))
    }

    /// The pending transaction with this block leaf.
    pub(crate) fn of_leaf(&self, leaf: &Hash) -> Option<Arc<SignedTransaction>> {
        self.leaves.get(leaf).and_then(|id| self.get(id))
    }

    /// Remembers that the other validators are still to be sent a pending transaction.
    pub(crate) fn set_unsent(&mut self, id: TxId) {
        if self.pool.contains(&id) {
            self.unsent.insert(id);
        }
    }

    /// Whether the other validators are still to be sent a transaction.
    pub(crate) fn is_unsent(&self, id: &TxId) -> bool {
        self.unsent.contains(id)
    }

    /// The others are sent these transactions now. Gives those that are still worth sending.
    pub(crate) fn take_unsent(
        &mut self,
        mut transactions: Vec<Arc<SignedTransaction>>,
    ) -> Vec<Arc<SignedTransaction>> {
        transactions.retain(|tx| self.unsent.remove(&tx.id()));
        transactions
    }

    /// Pending transactions in order of arrival.
    pub(crate) fn oldest(&self, limit: usize) -> Vec<Arc<SignedTransaction>> {
        self.pool.oldest(limit).map(|tx| Arc::clone(&tx.signed)).collect()
    }

    /// Candidates for a block: see [`Pool::select`].
    pub(crate) fn select(
        &self,
        bytes_max: usize,
        time_ms: u64,
        exclude: &HashSet<TxId>,
    ) -> Vec<Verified<AuthenticatedTx>> {
        self.pool.select(bytes_max, time_ms, exclude)
    }

    /// Drops transactions that landed or never will.
    pub(crate) fn remove(&mut self, ids: &[TxId]) {
        self.pool.remove(ids);
        self.forget(ids);
    }

    /// Drops what can no longer land, and gives it with its expiry.
    pub(crate) fn expire(&mut self, now_ms: u64) -> Vec<TxId> {
        let expired = self.pool.expire(now_ms);
        self.forget(&expired);
        expired
    }

    /// Number of pending transactions.
    pub(crate) fn len(&self) -> usize {
        self.pool.stats().transactions
    }

    /// Its size.
    pub(crate) fn stats(&self) -> Stats {
        self.pool.stats()
    }

    /// Its bounds.
    pub(crate) const fn limits(&self) -> &Limits {
        self.pool.limits()
    }

    fn forget(&mut self, ids: &[TxId]) {
        for id in ids {
            self.unsent.remove(id);
            let Some(Carried { proofs, leaf, .. }) = self.carried.remove(id) else { continue };
            self.leaves.remove(&leaf);
            for proof in proofs {
                if self.carriers.get(&proof) == Some(id) {
                    self.carriers.remove(&proof);
                }
            }
        }
    }
}
