//! The state: the committed head, the overlays above it, and what consensus asks of the executor.

use std::collections::HashMap;
use std::sync::Arc;

use cairn_types::{
    Admission, AuthenticatedTx, Block, BlockId, CertifiedBlock, ChainId, Epoch, Genesis, Header, Height,
    Params, PublicKey, SignedTransaction, Slot, Transaction, TxId, ValidatorSet, Verified,
};
use parking_lot::{Mutex, RwLock};

use crate::check;
use crate::commit::Committed;
use crate::epochs;
use crate::error::StateError;
use crate::execute::{Candidate, Executed, Execution, Halt, check_own_bytes, signing_keys};
use crate::governance::Rules;
use crate::keys::Keys;
use crate::landed::Landed;
use crate::overlay::{Head, Memory, Overlay, View};
use crate::prune::Kept;
use crate::refusal::{BlockFault, TxRefusal};
use crate::startup;
use crate::storage::Storage;

/// Uncommitted blocks held in memory, at most. Consensus keeps two blocks per view and looks eight views
/// ahead; the rest is room for a chain of certified blocks that still wait for a commit certificate.
/// Each may weigh a block body (3 MiB) and as much again in indexes.
pub const OVERLAYS_MAX: usize = 64;

/// A committed block, by its header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tip {
    /// Its id.
    pub id: BlockId,
    /// Its header.
    pub header: Arc<Header>,
}

/// What [`State::build`] made.
#[derive(Clone, Debug)]
pub struct Built {
    /// The block, already executed and held as an overlay.
    pub block: Arc<Block>,
    /// The candidates left out, with the reason. [`TxRefusal::may_pass_later`] says which to keep.
    pub refused: Vec<(TxId, TxRefusal)>,
}

/// The chain's state. All methods take `&self`; blocks are executed and committed one at a time, queries
/// and key resolution never wait for that.
pub struct State {
    pub(crate) store: Arc<dyn Storage>,
    /// The rules of epoch 0.
    pub(crate) genesis: Arc<Rules>,
    pub(crate) live: RwLock<Live>,
    pub(crate) landed: Landed,
    pub(crate) keys: Keys,
    /// Held while a block is executed or committed.
    pub(crate) writer: Mutex<()>,
}

/// What changes with every block. Locked for moments only.
pub(crate) struct Live {
    pub(crate) head: Arc<Head>,
    pub(crate) overlays: HashMap<BlockId, Arc<Overlay>>,
    /// Why nothing more may be written.
    pub(crate) halted: Option<String>,
    /// From where on the past is here.
    pub(crate) kept: Kept,
}

impl State {
    /// Opens the state in `store`, or creates it from `genesis` when the store is empty. Recomputes every
    /// root at the committed height and compares it with the stored header.
    ///
    /// # Errors
    /// When the store is of another chain or schema, is damaged, or cannot be read.
    pub fn open(store: Arc<dyn Storage>, genesis: &Genesis) -> Result<Self, StateError> {
        let (genesis, head) = startup::open(store.as_ref(), genesis)?;
        let kept = Kept::load(store.as_ref())?;
        // Block 0 has no transactions, so that everything about a chain at its start is known.
        let began = head.header.height == Height::ZERO;
        let known_after = if began { 0 } else { head.header.time_ms };
        let landed = Landed::after(known_after, genesis.params.replay_window_ms);
        let live = Live { head: Arc::new(head), overlays: HashMap::new(), halted: None, kept };
        let keys = Keys::new();
        Ok(Self { store, genesis, live: RwLock::new(live), landed, keys, writer: Mutex::new(()) })
    }

    /// The chain's identity.
    pub fn chain(&self) -> ChainId {
        self.genesis.chain
    }

    /// Network parameters of the next block.
    pub fn params(&self) -> Params {
        self.rules().params
    }

    /// Who may anchor.
    pub fn admission(&self) -> Admission {
        self.genesis.admission
    }

    /// The validators that sign the next block.
    pub fn validators(&self) -> Arc<ValidatorSet> {
        self.rules().set.clone()
    }

    /// The validators of an epoch; `None` for one that has not begun.
    ///
    /// # Errors
    /// When storage fails.
    pub fn validators_of(&self, epoch: Epoch) -> Result<Option<Arc<ValidatorSet>>, StateError> {
        let rules = self.rules();
        let known = [Some(&rules.set), rules.previous.as_ref()].into_iter().flatten();
        if let Some(set) = known.into_iter().find(|set| set.epoch() == epoch) {
            return Ok(Some(set.clone()));
        }
        if epoch > rules.set.epoch() {
            return Ok(None);
        }
        Ok(epochs::load_rules(self.store.as_ref(), &self.genesis, epoch)?.map(|rules| rules.set.clone()))
    }

    /// The newest committed block.
    pub fn tip(&self) -> Tip {
        let live = self.live.read();
        Tip { id: live.head.id, header: live.head.header.clone() }
    }

    /// Whether the block is held as an overlay or is the committed tip: whether a child can be executed.
    pub fn can_extend(&self, id: &BlockId) -> bool {
        let live = self.live.read();
        live.head.id == *id || live.overlays.contains_key(id)
    }

    /// An uncommitted block that has been executed.
    pub fn uncommitted(&self, id: &BlockId) -> Option<Arc<Block>> {
        self.live.read().overlays.get(id).map(|overlay| overlay.block.clone())
    }

    /// Number of uncommitted blocks held, at most [`OVERLAYS_MAX`].
    pub fn overlays(&self) -> usize {
        self.live.read().overlays.len()
    }

    /// The public key of each entry of `tx.keys`, resolved in the state after `parent`, or in the committed
    /// state for `None`. Checks the transaction's shape and the sender's policy as well, so that no signature is verified in vain.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn resolve_keys(
        &self,
        parent: Option<BlockId>,
        tx: &Transaction,
    ) -> Result<Vec<PublicKey>, TxRefusal> {
        check_own_bytes(tx, self.genesis.chain)?;
        let (head, view) = self.state_after(parent).map_err(unavailable)?;
        let entry = view.identity(tx.sender).map_err(unavailable)?;
        let rules = head.rules_after();
        let addresses = signing_keys(tx, entry.as_ref(), rules, None)?;
        let mut keys = tx
            .keys
            .iter()
            .zip(addresses)
            .map(|(key, address)| match key {
                cairn_types::KeyRef::Inline(key) => Ok(key.clone()),
                cairn_types::KeyRef::Registered(_) => view.public_key(&address).map_err(unavailable),
            })
            .collect::<Result<Vec<_>, _>>()?;
        if let cairn_types::Payload::Evidence(evidence) = &tx.payload {
            keys.push(rules.accused(evidence).map_err(TxRefusal::from)?.key.clone());
        }
        Ok(keys)
    }

    /// Whether `tx` would be valid alone in a block with this time on `parent` (the committed tip for `None`).
    ///
    /// # Errors
    /// The first rule broken.
    pub fn dry_run(
        &self,
        parent: Option<BlockId>,
        tx: &AuthenticatedTx,
        time_ms: u64,
    ) -> Result<(), TxRefusal> {
        let (head, view) = self.state_after(parent).map_err(unavailable)?;
        let mut execution = Execution::judging(head.rules_after(), &view, &head, time_ms);
        execution.apply(&candidate(tx)).map_err(|halt| match halt {
            Halt::Refused(refusal) => refusal,
            Halt::Failed(error) => unavailable(error),
        })
    }

    /// Of transactions that wait, those that no later block can hold, as the newest final block leaves the state. They are
    /// judged in the order given, up to the first that is valid: a block that is built for that one shows the rest. To be
    /// asked whenever blocks become final: what waits and never lands keeps validators waiting for a block that nobody builds.
    pub fn lapsed(
        &self,
        waiting: impl IntoIterator<Item = Verified<AuthenticatedTx>>,
        time_ms: u64,
    ) -> Vec<(TxId, TxRefusal)> {
        let mut lapsed = Vec::new();
        for tx in waiting {
            match self.dry_run(None, &tx, time_ms) {
                Ok(()) => break,
                Err(refusal) if refusal.may_pass_later() => {}
                Err(refusal) => lapsed.push((tx.id, refusal)),
            }
        }
        lapsed
    }

    /// Builds and executes a block for `slot`, leaving out what is not valid, and keeps its overlay.
    ///
    /// # Errors
    /// When the parent is unknown, the slot does not fit it, or storage fails.
    pub fn build(
        &self,
        slot: Slot,
        time_ms: u64,
        candidates: Vec<Verified<AuthenticatedTx>>,
    ) -> Result<Built, StateError> {
        let _writer = self.writer.lock();
        self.check_running()?;
        let (head, view) = self.state_after(Some(slot.parent))?;
        let place = self.place(&head, slot.epoch);
        check::slot_fits(&slot, time_ms, &head, &place.rules)?;
        if place.carries {
            let executed = Executed::carrier(&head);
            let header = header_of(&slot, time_ms, &place.rules, &executed);
            let block = Arc::new(Block::new(header, Vec::new()));
            self.keep(overlay(block.clone(), executed, place.rules))?;
            return Ok(Built { block, refused: Vec::new() });
        }
        let mut execution = Execution::new(&place.rules, &view, &head, time_ms);
        let (mut kept, mut refused) = (Vec::with_capacity(candidates.len()), Vec::new());
        for tx in candidates {
            match execution.apply(&candidate(&tx)) {
                Ok(()) => kept.push(tx.signed.clone()),
                Err(Halt::Refused(refusal)) => refused.push((tx.id, refusal)),
                Err(Halt::Failed(error)) => return Err(error),
            }
        }
        let executed = execution.finish()?;
        let header = header_of(&slot, time_ms, &place.rules, &executed);
        let block = Arc::new(Block::new(header, kept));
        self.keep(overlay(block.clone(), executed, place.rules))?;
        Ok(Built { block, refused })
    }

    /// Executes a proposed block on its parent's overlay, compares every header field, and keeps the overlay.
    /// `txs` are the block's transactions, verified, in order.
    ///
    /// # Errors
    /// What is wrong with the block, or why it cannot be judged; see [`BlockFault::blames_proposer`].
    pub fn check(&self, block: &Arc<Block>, txs: &[Verified<AuthenticatedTx>]) -> Result<(), BlockFault> {
        let _writer = self.writer.lock();
        self.check_running().map_err(BlockFault::Unavailable)?;
        if self.holds(block) {
            return Ok(());
        }
        check::same_transactions(block, txs)?;
        let candidates = txs.iter().map(|tx| candidate(tx));
        let overlay = self.execute(block, candidates)?;
        self.keep(overlay).map_err(BlockFault::Unavailable)?;
        Ok(())
    }

    /// [`State::commit`] of one old block while catching up.
    ///
    /// # Errors
    /// As [`State::commit`].
    pub fn apply_certified(&self, block: &CertifiedBlock) -> Result<Committed, StateError> {
        self.commit(std::slice::from_ref(block))
    }

    /// Executes a block whose validity a commit certificate attests. That it fails here can only mean that
    /// this node is wrong.
    pub(crate) fn execute_certified(&self, block: &Arc<Block>) -> Result<Arc<Overlay>, StateError> {
        let candidates = block.transactions().iter().map(|signed| attested(signed));
        self.execute(block, candidates).map(Arc::new).map_err(|fault| match fault {
            BlockFault::Unavailable(error) => error,
            fault => StateError::Diverged { block: block.id(), fault: Box::new(fault) },
        })
    }

    /// Executes `block` on its parent and compares every field of its header.
    fn execute<'a>(
        &self,
        block: &Arc<Block>,
        candidates: impl Iterator<Item = Candidate<'a>>,
    ) -> Result<Overlay, BlockFault> {
        let header = block.header();
        let (head, view) = self.state_after(Some(header.parent)).map_err(BlockFault::Unavailable)?;
        let Place { rules, carries } = self.place(&head, header.epoch);
        check::before_execution(block, &head, &rules)?;
        if carries {
            let executed = Executed::carrier(&head);
            check::outcome(header, &rules, &executed)?;
            return Ok(overlay(block.clone(), executed, rules));
        }
        let mut execution = Execution::new(&rules, &view, &head, header.time_ms);
        for (index, candidate) in candidates.enumerate() {
            execution.apply(&candidate).map_err(|halt| match halt {
                Halt::Refused(refusal) => {
                    BlockFault::Transaction { index, id: candidate.id, refusal: Box::new(refusal) }
                }
                Halt::Failed(error) => BlockFault::Unavailable(error),
            })?;
        }
        let executed = execution.finish().map_err(BlockFault::Unavailable)?;
        check::outcome(header, &rules, &executed)?;
        Ok(overlay(block.clone(), executed, rules))
    }

    /// What a block of `epoch` on `head` is executed under. On an uncommitted end of an epoch only carriers
    /// stand; the next epoch begins on a committed one alone.
    fn place(&self, head: &Head, epoch: Epoch) -> Place {
        let ends = head.next.is_some();
        let committed = self.live.read().head.id == head.id;
        if ends && !(committed && epoch != head.rules.set.epoch()) {
            return Place { rules: head.rules.clone(), carries: true };
        }
        Place { rules: head.rules_after().clone(), carries: false }
    }

    /// Whether exactly this block, transactions included, has been executed or is the committed tip.
    fn holds(&self, block: &Block) -> bool {
        let live = self.live.read();
        let id = block.id();
        live.overlays.get(&id).is_some_and(|held| held.block.transactions() == block.transactions())
            || (live.head.id == id && block.matches_tx_root())
    }

    /// The block `parent` and the state after it; the committed tip for `None`.
    fn state_after(&self, parent: Option<BlockId>) -> Result<(Arc<Head>, View<'_>), StateError> {
        let live = self.live.read();
        let mut at = parent.unwrap_or(live.head.id);
        let mut chain: Vec<Arc<Overlay>> = Vec::new();
        while at != live.head.id {
            let overlay = live.overlays.get(&at).ok_or(StateError::UnknownParent { block: at })?;
            at = overlay.head.header.parent;
            chain.push(overlay.clone());
        }
        let head = chain.first().map_or_else(|| live.head.clone(), |newest| Arc::new(newest.head.clone()));
        let memory = Memory { landed: &self.landed, keys: &self.keys };
        Ok((head, View { store: self.store.as_ref(), chain, memory: Some(memory) }))
    }

    /// Keeps an overlay, giving up the oldest one that nothing builds on when there is no room.
    fn keep(&self, overlay: Overlay) -> Result<(), StateError> {
        let mut live = self.live.write();
        let id = overlay.head.id;
        if live.overlays.len() >= OVERLAYS_MAX && !live.overlays.contains_key(&id) {
            let parents: std::collections::HashSet<BlockId> = live
                .overlays
                .values()
                .map(|held| held.head.header.parent)
                .chain([overlay.head.header.parent])
                .collect();
            let victim = live
                .overlays
                .iter()
                .filter(|(held, _)| !parents.contains(held))
                .min_by_key(|(held, overlay)| (overlay.head.header.view, **held))
                .map(|(held, _)| *held);
            let count = live.overlays.len();
            let victim = victim.ok_or(StateError::TooManyUncommitted { count })?;
            live.overlays.remove(&victim);
        }
        live.overlays.insert(id, Arc::new(overlay));
        Ok(())
    }

    pub(crate) fn check_running(&self) -> Result<(), StateError> {
        match &self.live.read().halted {
            None => Ok(()),
            Some(why) => Err(StateError::Halted { why: why.clone() }),
        }
    }
}

/// The rules of a block, and whether it only carries the end of its epoch.
struct Place {
    rules: Arc<Rules>,
    carries: bool,
}

fn header_of(slot: &Slot, time_ms: u64, rules: &Rules, executed: &Executed) -> Header {
    let roots = &executed.roots;
    Header {
        version: rules.protocol,
        chain: rules.chain,
        epoch: slot.epoch,
        view: slot.view,
        height: slot.height,
        parent: slot.parent,
        parent_view: slot.parent_view,
        time_ms,
        proposer: slot.proposer,
        tx_root: roots.tx_root,
        tx_count: roots.tx_count,
        state_root: roots.state_root,
        anchors_root: roots.anchors_root,
        anchors_size: roots.anchors_size,
        anchors_sha256: roots.anchors_sha256,
        history_root: roots.history_root,
        validators: rules.set_digest,
        next_validators: executed.next.as_ref().map_or(rules.set_digest, |next| next.set_digest),
    }
}

fn overlay(block: Arc<Block>, executed: Executed, rules: Arc<Rules>) -> Overlay {
    let head = Head {
        id: block.id(),
        header: Arc::new(block.header().clone()),
        logs: executed.logs,
        tree_version: executed.tree_version,
        rules,
        next: executed.next,
    };
    Overlay { block, head, transactions: executed.transactions, effects: executed.effects }
}

fn candidate(tx: &AuthenticatedTx) -> Candidate<'_> {
    Candidate { signed: &tx.signed, id: tx.id, bytes: tx.bytes, keys: Some(&tx.keys) }
}

fn attested(signed: &SignedTransaction) -> Candidate<'_> {
    Candidate { signed, id: signed.id(), bytes: signed.canonical().len(), keys: None }
}

fn unavailable(error: StateError) -> TxRefusal {
    match error {
        StateError::UnknownParent { block } => TxRefusal::UnknownParent { block },
        other => TxRefusal::Unavailable { why: other.to_string() },
    }
}
