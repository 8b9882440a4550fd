//! A node's stand-in for pool, executor and state: what would be behind `cairn-mempool` and `cairn-state`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cairn_consensus::BlockVerdict;
use cairn_types::{Block, BlockId, CertifiedBlock, EpochProof, Header, SignedTransaction, Slot, TxId};

use super::world::{World, next_root};

/// Transactions in one block, so that work spreads over several.
const BLOCK_TRANSACTIONS: usize = 3;

/// What survives: committed blocks, oldest first.
#[derive(Clone, Default)]
pub(crate) struct ChainOnDisk {
    pub(crate) blocks: Vec<CertifiedBlock>,
    /// The commit proof of each epoch that has ended, synced together with its last block.
    pub(crate) proofs: Vec<Arc<EpochProof>>,
}

impl ChainOnDisk {
    /// The epoch that it has come to.
    pub(crate) fn world(&self, genesis: &World) -> World {
        self.proofs.last().map_or_else(|| genesis.clone(), |proof| genesis.turned(proof))
    }
}

/// What does not: executed blocks above the committed one, and the pool.
pub(crate) struct Executor {
    world: World,
    executed: BTreeMap<BlockId, (Header, BTreeSet<TxId>)>,
    committed_ids: BTreeSet<TxId>,
    tip: Header,
    /// The tip's id, which costs a hash.
    tip_id: BlockId,
    pub(crate) pool: BTreeMap<TxId, Arc<SignedTransaction>>,
}

impl Executor {
    pub(crate) fn open(world: &World, chain: &ChainOnDisk) -> Self {
        let mut executor = Self {
            world: world.clone(),
            executed: BTreeMap::new(),
            committed_ids: BTreeSet::new(),
            tip: world.root.clone(),
            tip_id: world.root.id(),
            pool: BTreeMap::new(),
        };
        for certified in &chain.blocks {
            executor.apply(&certified.block);
        }
        executor.world = chain.world(world);
        executor
    }

    fn header(&self, id: &BlockId) -> Option<&Header> {
        if *id == self.tip_id {
            return Some(&self.tip);
        }
        self.executed.get(id).map(|(header, _)| header)
    }

    /// The ids in the uncommitted blocks up to `parent`; `None` when it was not executed here.
    fn included(&self, parent: &BlockId) -> Option<Vec<&BTreeSet<TxId>>> {
        let mut included = Vec::new();
        let mut at = *parent;
        while at != self.tip_id {
            let (header, ids) = self.executed.get(&at)?;
            included.push(ids);
            at = header.parent;
        }
        Some(included)
    }

    /// The pooled transactions that execute on `parent`; `None` when it was not executed here. Committed ones
    /// are not in the pool.
    pub(crate) fn candidates(
        &self,
        parent: &BlockId,
    ) -> Option<impl Iterator<Item = &Arc<SignedTransaction>>> {
        let included = self.included(parent)?;
        let fresh = self.pool.iter().filter(move |(id, _)| !included.iter().any(|ids| ids.contains(*id)));
        Some(fresh.map(|(_, tx)| tx))
    }

    pub(crate) fn build(&mut self, slot: Slot, clock_ms: u64) -> Option<Arc<Block>> {
        let parent = self.header(&slot.parent)?.clone();
        let carries = parent.ends_epoch() && parent.epoch == slot.epoch;
        let room = if carries { 0 } else { BLOCK_TRANSACTIONS };
        let transactions = self.candidates(&slot.parent)?.take(room).cloned().collect();
        let block = self.world.block(&parent, slot, clock_ms.max(parent.time_ms + 1), transactions);
        self.keep(&block);
        Some(block)
    }

    /// Executes a block on its parent. The caller has waited until its time is not ahead of the
    /// clock. `Unjudged` when the parent was let go of since, because another block was committed.
    pub(crate) fn check(&mut self, block: &Arc<Block>, oldest_ms: u64) -> BlockVerdict {
        let header = block.header();
        let Some(parent) = self.header(&header.parent).cloned() else { return BlockVerdict::Unjudged };
        let ids: Vec<TxId> = block.transactions().iter().map(|tx| tx.transaction.id()).collect();
        let again = |ids: &[TxId]| ids.iter().any(|id| self.committed_ids.contains(id));
        let transactions = block.transactions().to_vec();
        let expected = self.world.block(&parent, header.slot(), header.time_ms, transactions);
        if expected.header() != header || again(&ids) {
            return BlockVerdict::Invalid;
        }
        self.keep(block);
        if header.time_ms < oldest_ms { BlockVerdict::TooOld } else { BlockVerdict::Valid }
    }

    fn keep(&mut self, block: &Block) {
        let ids = block.transactions().iter().map(|tx| tx.transaction.id()).collect();
        self.executed.insert(block.id(), (block.header().clone(), ids));
    }

    /// Makes a block final. It must be the committed block's child and execute to its root.
    pub(crate) fn apply(&mut self, block: &Block) {
        let header = block.header();
        assert_eq!(header.parent, self.tip_id, "committed out of order");
        assert!(header.height.follows(self.tip.height), "heights not contiguous");
        assert_eq!(header.state_root, next_root(self.tip.state_root, header.tx_root), "state diverged");
        for tx in block.transactions() {
            let id = tx.transaction.id();
            assert!(self.committed_ids.insert(id), "a transaction was committed twice");
            self.pool.remove(&id);
        }
        self.executed.remove(&block.id());
        self.executed.retain(|_, (other, _)| other.height > header.height);
        self.tip = header.clone();
        self.tip_id = block.id();
    }

    /// The next epoch begins on the committed block. What was executed above it were its carriers.
    pub(crate) fn turn(&mut self, world: &World) {
        self.world = world.clone();
        self.executed.clear();
    }

    pub(crate) fn has_committed(&self, id: &TxId) -> bool {
        self.committed_ids.contains(id)
    }
}
