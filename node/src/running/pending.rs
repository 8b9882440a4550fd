//! The pool as this node holds it: with an index from proofs to the pending transaction that carries them,
//! so that a repeated submission is recognised before it is final.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cairn_mempool::{Limits, Pool, Refusal, Stats};
use cairn_types::{AuthenticatedTx, ChainId, Params, ProofId, SignedTransaction, TxId, Verified};

/// The pool and its index. Both hold the same transactions, so the pool's bounds bound the index:
/// at most 256 proofs a transaction, 32 bytes each.
pub(crate) struct Pending {
    chain: ChainId,
    pool: Pool,
    carried: HashMap<TxId, Vec<ProofId>>,
    carriers: HashMap<ProofId, TxId>,
}

impl Pending {
    /// An empty pool with the bounds of the chain.
    pub(crate) fn new(chain: ChainId, params: &Params) -> Self {
        let pool = Pool::new(Limits::of_chain(params));
        Self { chain, pool, carried: HashMap::new(), carriers: HashMap::new() }
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
        self.carried.insert(id, proofs);
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
            for proof in self.carried.remove(id).unwrap_or_default() {
                if self.carriers.get(&proof) == Some(id) {
                    self.carriers.remove(&proof);
                }
            }
        }
    }
}
