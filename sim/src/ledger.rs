//! A node's executor and its final blocks: the real state over storage in memory, of its own or shared.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use cairn_catchup::{Covering, Entry};
use cairn_consensus::BlockVerdict;
use cairn_state::{BlockFault, Built, EpochBegin, MemoryStorage, State, StateError, TxRefusal};
use cairn_types::{
    AuthenticatedTx, Block, BlockId, CertifiedBlock, CommitCert, EpochProof, Header, Height, PublicKey, Slot,
    Transaction, TxId, Verified,
};

use crate::disk::Disk;
use crate::manifest::Execution;
use crate::world::World;

/// Final blocks of a node whose execution is shared, with what of them is synced.
#[derive(Default)]
pub(crate) struct Chain {
    blocks: Vec<CertifiedBlock>,
    synced: usize,
}

impl Chain {
    pub(crate) fn unsynced(&self) -> usize {
        self.blocks.len() - self.synced
    }

    pub(crate) fn lose_power_after(&mut self, kept: usize) {
        self.blocks.truncate((self.synced + kept).min(self.blocks.len()));
        self.synced = self.blocks.len();
    }
}

/// The one executor of a run with shared execution.
pub(crate) struct Hub {
    state: State,
    /// Verdicts so far. Bounded by the blocks of a run.
    verdicts: HashMap<BlockId, BlockVerdict>,
}

/// What executes blocks for a node.
pub(crate) enum Ledger {
    /// A state of its own.
    Own(Box<State>),
    /// The run's.
    Shared(Rc<RefCell<Hub>>),
}

/// How blocks become final.
#[derive(Clone, Copy)]
pub(crate) enum How<'a> {
    /// Not synced yet.
    Buffered,
    /// Synced at once.
    Synced,
    /// Synced at once, with the commit proof of the epoch that the last of them ends.
    End(&'a EpochProof),
}

/// What became final, in order.
pub(crate) struct Landed {
    pub(crate) height: Height,
    pub(crate) transactions: Vec<TxId>,
}

/// The executor that all nodes of a run share, where the manifest wants one.
pub(crate) fn hub(world: &World, execution: Execution) -> Result<Option<Rc<RefCell<Hub>>>, String> {
    if execution == Execution::Own {
        return Ok(None);
    }
    let state = State::open(Arc::new(MemoryStorage::new()), &world.genesis).map_err(|why| why.to_string())?;
    Ok(Some(Rc::new(RefCell::new(Hub { state, verdicts: HashMap::new() }))))
}

impl Ledger {
    /// Opens what the disk holds.
    pub(crate) fn open(
        world: &World,
        disk: &Disk,
        hub: Option<&Rc<RefCell<Hub>>>,
    ) -> Result<Self, StateError> {
        Ok(match hub {
            Some(hub) => Self::Shared(Rc::clone(hub)),
            None => {
                let store: Arc<MemoryStorage> = Arc::clone(&disk.tables);
                Self::Own(Box::new(State::open(store, &world.genesis)?))
            }
        })
    }

    /// The newest final block.
    pub(crate) fn tip(&self, world: &World, disk: &Disk) -> (BlockId, Header) {
        match self {
            Self::Own(state) => {
                let tip = state.tip();
                (tip.id, (*tip.header).clone())
            }
            Self::Shared(_) => disk.chain.blocks.last().map_or_else(
                || (world.root.id(), world.root.clone()),
                |last| (last.block.id(), last.block.header().clone()),
            ),
        }
    }

    /// Where the epoch in force began, and what it is run by. Where execution is shared there is one epoch.
    pub(crate) fn begin(&self, world: &World) -> Result<EpochBegin, StateError> {
        match self {
            Self::Own(state) => state.epoch_begin(),
            Self::Shared(_) => Ok(world.genesis_begin()),
        }
    }

    /// The newest commit certificate held.
    pub(crate) fn newest_certificate(&self, disk: &Disk) -> Option<Arc<CommitCert>> {
        match self {
            Self::Own(state) => state.newest_certificate().ok().flatten().map(Arc::new),
            Self::Shared(_) => disk.chain.blocks.last().map(|last| Arc::clone(&last.certificate)),
        }
    }

    /// The newest block that has a certificate of its own, and that.
    pub(crate) fn newest_final(&self, disk: &Disk) -> Option<(Header, Arc<CommitCert>)> {
        match self {
            Self::Own(state) => {
                state.newest_final().ok().flatten().map(|it| (it.header, Arc::new(it.certificate)))
            }
            Self::Shared(_) => {
                let own = |it: &&CertifiedBlock| it.certificate.block == it.block.id();
                let last = disk.chain.blocks.iter().rev().find(own)?;
                Some((last.block.header().clone(), Arc::clone(&last.certificate)))
            }
        }
    }

    fn with<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        match self {
            Self::Own(state) => look(state),
            Self::Shared(hub) => look(&hub.borrow().state),
        }
    }

    /// The keys that must sign `tx`, after `parent` or in the committed state.
    pub(crate) fn resolve_keys(
        &self,
        parent: Option<BlockId>,
        tx: &Transaction,
    ) -> Result<Vec<PublicKey>, TxRefusal> {
        self.with(|state| state.resolve_keys(parent, tx))
    }

    /// Whether the chain would take `tx` now.
    pub(crate) fn dry_run(&self, tx: &AuthenticatedTx, now_ms: u64) -> Result<(), TxRefusal> {
        self.with(|state| state.dry_run(None, tx, now_ms))
    }

    /// Whether a transaction is final here.
    pub(crate) fn has(&self, id: &TxId, tip: Height) -> bool {
        self.with(|state| state.transaction(id).ok().flatten().is_some_and(|at| at.height <= tip))
    }

    /// The header of a block that is final or executed.
    pub(crate) fn header_of(&self, id: &BlockId) -> Option<Header> {
        self.with(|state| match state.uncommitted(id) {
            Some(block) => Some(block.header().clone()),
            None => state.header_by_id(id).ok().flatten(),
        })
    }

    /// Builds and executes a block.
    pub(crate) fn build(
        &self,
        slot: Slot,
        time_ms: u64,
        candidates: Vec<Verified<AuthenticatedTx>>,
    ) -> Result<Built, StateError> {
        let built = self.with(|state| state.build(slot, time_ms, candidates))?;
        if let Self::Shared(hub) = self {
            hub.borrow_mut().verdicts.insert(built.block.id(), BlockVerdict::Valid);
        }
        Ok(built)
    }

    /// Verifies the transactions of a block and executes it.
    pub(crate) fn check(&self, world: &World, block: &Arc<Block>) -> Result<BlockVerdict, StateError> {
        if let Self::Shared(hub) = self
            && let Some(verdict) = hub.borrow().verdicts.get(&block.id())
        {
            return Ok(*verdict);
        }
        let verdict = self.with(|state| execute(world, state, block))?;
        if let Self::Shared(hub) = self
            && verdict != BlockVerdict::Unjudged
        {
            hub.borrow_mut().verdicts.insert(block.id(), verdict);
        }
        Ok(verdict)
    }

    /// Makes blocks final.
    pub(crate) fn commit(
        &self,
        disk: &mut Disk,
        blocks: &[CertifiedBlock],
        how: How<'_>,
    ) -> Result<Vec<Landed>, StateError> {
        match self {
            Self::Own(state) => {
                let done = match how {
                    How::Buffered => state.commit_buffered(blocks)?,
                    How::Synced => state.commit(blocks)?,
                    How::End(proof) => state.end_epoch(blocks, proof)?,
                };
                let landed = done.blocks.into_iter();
                Ok(landed.map(|it| Landed { height: it.height, transactions: it.transactions }).collect())
            }
            Self::Shared(hub) => {
                let hub = hub.borrow();
                let mut landed = Vec::new();
                for certified in blocks {
                    let header = certified.block.header();
                    if header.height.get() as usize != disk.chain.blocks.len() + 1 {
                        continue;
                    }
                    if hub.state.tip().header.height < header.height {
                        hub.state.commit_buffered(std::slice::from_ref(certified))?;
                    }
                    disk.chain.blocks.push(certified.clone());
                    let transactions = certified.block.transactions().iter();
                    let transactions = transactions.map(|tx| tx.transaction.id()).collect();
                    landed.push(Landed { height: header.height, transactions });
                }
                if !matches!(how, How::Buffered) {
                    disk.chain.synced = disk.chain.blocks.len();
                }
                Ok(landed)
            }
        }
    }

    /// Puts final blocks on disk, and gives the height up to which that holds.
    pub(crate) fn sync(&self, disk: &mut Disk) -> Result<Height, StateError> {
        match self {
            Self::Own(state) => state.sync(),
            Self::Shared(_) => {
                disk.chain.synced = disk.chain.blocks.len();
                Ok(Height::new(disk.chain.synced as u64))
            }
        }
    }

    /// A block that is executed here or final.
    pub(crate) fn block(&self, disk: &Disk, id: &BlockId) -> Option<Arc<Block>> {
        match self {
            Self::Own(state) => {
                let held =
                    state.uncommitted(id).or_else(|| state.block_by_id(id).ok().flatten().map(Arc::new));
                // Carriers are no part of the chain, yet whoever knows only their certificate asks for them.
                held.or_else(|| state.carrier(id).ok().flatten().map(Arc::new))
            }
            Self::Shared(_) => {
                disk.chain.blocks.iter().rev().find(|it| it.block.id() == *id).map(|it| Arc::clone(&it.block))
            }
        }
    }

    /// Final blocks from `from` on, at most `count`, with the certificates they have of their own.
    pub(crate) fn range(&self, disk: &Disk, from: Height, count: usize) -> Vec<Entry> {
        let heights = (from.get()..).take(count);
        let at = |height| self.at(disk, height).map(|(block, own)| (self.end_of(block.header()), block, own));
        let mut entries: Vec<Entry> = heights
            .map_while(|height| at(Height::new(height)))
            .map(|(end, block, certificate)| Entry { block, certificate, end, above: Vec::new() })
            .collect();
        let covering = |height| {
            let found = at(height);
            let found = found.map(|(end, block, certificate)| Covering {
                header: block.header().clone(),
                certificate,
                end,
            });
            Ok::<_, Infallible>(found)
        };
        if let Some(Err(never)) = entries.last_mut().map(|last| last.cover(covering)) {
            match never {}
        }
        entries
    }

    /// The proof of the end of its epoch, of a final block that ends one.
    fn end_of(&self, header: &Header) -> Option<Arc<EpochProof>> {
        let proof = header.ends_epoch().then(|| self.with(|state| state.epoch_proof(header.epoch)));
        proof?.ok().flatten().map(Arc::new)
    }

    /// The final block at this height, and its own certificate.
    fn at(&self, disk: &Disk, height: Height) -> Option<(Arc<Block>, Option<Arc<CommitCert>>)> {
        match self {
            Self::Own(state) => {
                let block = state.block(height).ok().flatten()?;
                let own = state.certificate(height).ok().flatten();
                Some((Arc::new(block), own.map(Arc::new)))
            }
            Self::Shared(_) => {
                let index = usize::try_from(height.get().checked_sub(1)?).ok()?;
                let it = disk.chain.blocks.get(index)?;
                let own = it.certificate.block == it.block.id();
                Some((Arc::clone(&it.block), own.then(|| Arc::clone(&it.certificate))))
            }
        }
    }

    /// Uncommitted blocks held.
    pub(crate) fn overlays(&self) -> usize {
        self.with(State::overlays)
    }

    /// The state, for what is looked at in the end.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.with(look)
    }
}

fn execute(world: &World, state: &State, block: &Arc<Block>) -> Result<BlockVerdict, StateError> {
    let parent = Some(block.header().parent);
    let mut verified = Vec::with_capacity(block.transactions().len());
    for (index, signed) in block.transactions().iter().enumerate() {
        let keys = match state.resolve_keys(parent, &signed.transaction) {
            Ok(keys) => keys,
            Err(refusal) => {
                let fault = BlockFault::Transaction { index, id: signed.id(), refusal: Box::new(refusal) };
                return Ok(if fault.blames_proposer() {
                    BlockVerdict::Invalid
                } else {
                    BlockVerdict::Unjudged
                });
            }
        };
        match world.authenticate(signed, keys) {
            Ok(tx) => verified.push(tx),
            Err(_) => return Ok(BlockVerdict::Invalid),
        }
    }
    match state.check(block, &verified) {
        Ok(()) => Ok(BlockVerdict::Valid),
        Err(fault) if fault.blames_proposer() => Ok(BlockVerdict::Invalid),
        Err(BlockFault::Unavailable(error @ (StateError::Storage(_) | StateError::Halted { .. }))) => {
            Err(error)
        }
        Err(_) => Ok(BlockVerdict::Unjudged),
    }
}
