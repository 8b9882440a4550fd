//! The state: the committed tip, the overlays above it, and what consensus asks of the executor.

use std::sync::Arc;

use cairn_types::identity::Identity;
use cairn_types::receipt::AnchorProof;
use cairn_types::{
    Address, Admission, AuthenticatedTx, Block, BlockId, CertifiedBlock, ChainId, CommitCert, Epoch, Genesis,
    Hash, Header, Height, Params, ProofId, PublicKey, Record, SignedTransaction, Slot, Transaction, TxId,
    ValidatorSet, Verified,
};

use crate::commit::Committed;
use crate::error::StateError;
use crate::layout::TxLocation;
use crate::query::{FinalHeader, ListFilter, LogSizes, Matches, Page};
use crate::refusal::{BlockFault, TxRefusal};
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

/// The chain's state.
pub struct State {
    store: Arc<dyn Storage>,
}

const LATER: fn() -> StateError = || StateError::Halted { why: "under construction".into() };

impl State {
    /// Opens the state in `store`, or creates it from `genesis` when the store is empty. Recomputes every
    /// root at the committed height and compares it with the stored header.
    ///
    /// # Errors
    /// When the store is of another chain or schema, is damaged, or cannot be read.
    pub fn open(store: Arc<dyn Storage>, genesis: &Genesis) -> Result<Self, StateError> {
        let _ = (genesis, &store);
        Err(LATER())
    }

    /// The chain's identity.
    pub fn chain(&self) -> ChainId {
        let _ = &self.store;
        ChainId::ZERO
    }
    /// Network parameters.
    pub fn params(&self) -> Params {
        Params::default()
    }
    /// Who may anchor.
    pub fn admission(&self) -> Admission {
        Admission::Open
    }
    /// The validators of the current epoch.
    pub fn validators(&self) -> Result<Arc<ValidatorSet>, StateError> {
        Err(LATER())
    }
    /// The validators of an epoch; `None` for one that has not begun.
    pub fn validators_of(&self, epoch: Epoch) -> Option<Arc<ValidatorSet>> {
        let _ = epoch;
        None
    }
    /// The newest committed block.
    pub fn tip(&self) -> Result<Tip, StateError> {
        Err(LATER())
    }

    /// The public key of each entry of `tx.keys`, resolved in the state after `parent`, or in the committed
    /// state for `None`. Checks the sender's policy as well, so that no signature is verified in vain.
    ///
    /// # Errors
    /// The rule of the policy that is broken.
    pub fn resolve_keys(
        &self,
        parent: Option<BlockId>,
        tx: &Transaction,
    ) -> Result<Vec<PublicKey>, TxRefusal> {
        let _ = (parent, tx);
        Err(TxRefusal::Unavailable { why: LATER().to_string() })
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
        let _ = (parent, tx, time_ms);
        Err(TxRefusal::Unavailable { why: LATER().to_string() })
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
        let _ = (slot, time_ms, candidates);
        Err(LATER())
    }

    /// Executes a proposed block on its parent's overlay, compares every header field, and keeps the overlay.
    /// `txs` are the block's transactions, verified, in order.
    ///
    /// # Errors
    /// What is wrong with the block, or why it cannot be judged; see [`BlockFault::blames_proposer`].
    pub fn check(&self, block: &Arc<Block>, txs: &[Verified<AuthenticatedTx>]) -> Result<(), BlockFault> {
        let _ = (block, txs);
        Err(BlockFault::Unavailable(LATER()))
    }

    /// Commits blocks, oldest first: one atomic batch per block and one sync for all of them. A block whose
    /// overlay is gone is executed again and every root compared; its transactions need no verification,
    /// since a commit certificate attests them. Blocks that are committed already are passed over.
    ///
    /// The caller has verified each certificate, and that it names the block or a descendant of it.
    ///
    /// # Errors
    /// When the blocks do not follow the tip, when execution disagrees with the certificate, or when a
    /// write fails; after that every call that writes is refused until the state is opened again.
    pub fn commit(&self, blocks: &[CertifiedBlock]) -> Result<Committed, StateError> {
        let _ = blocks;
        Err(LATER())
    }

    /// [`State::commit`] of one old block while catching up.
    ///
    /// # Errors
    /// As [`State::commit`].
    pub fn apply_certified(&self, block: &CertifiedBlock) -> Result<Committed, StateError> {
        self.commit(std::slice::from_ref(block))
    }

    /// Whether the block is held as an overlay or is the committed tip: whether a child can be executed.
    pub fn can_extend(&self, id: &BlockId) -> bool {
        let _ = id;
        false
    }
    /// An uncommitted block that has been executed.
    pub fn uncommitted(&self, id: &BlockId) -> Option<Arc<Block>> {
        let _ = id;
        None
    }
    /// Number of uncommitted blocks held.
    pub fn overlays(&self) -> usize {
        0
    }

    /// The header at `height`; `None` above the tip.
    ///
    /// # Errors
    /// When storage fails; so for every query below.
    pub fn header(&self, height: Height) -> Result<Option<Header>, StateError> {
        let _ = height;
        Err(LATER())
    }
    /// The header of a committed block.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn header_by_id(&self, id: &BlockId) -> Result<Option<Header>, StateError> {
        let _ = id;
        Err(LATER())
    }
    /// The height of a committed block.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn height_of(&self, id: &BlockId) -> Result<Option<Height>, StateError> {
        let _ = id;
        Err(LATER())
    }
    /// The block at `height`.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn block(&self, height: Height) -> Result<Option<Block>, StateError> {
        let _ = height;
        Err(LATER())
    }
    /// A committed block by its id.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn block_by_id(&self, id: &BlockId) -> Result<Option<Block>, StateError> {
        let _ = id;
        Err(LATER())
    }
    /// The commit certificate that names exactly the block at `height`. `None` also for a block that was
    /// committed as an ancestor: see [`State::finality`].
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn certificate(&self, height: Height) -> Result<Option<CommitCert>, StateError> {
        let _ = height;
        Err(LATER())
    }
    /// The nearest header at or above `height` with a certificate of its own.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn finality(&self, height: Height) -> Result<Option<FinalHeader>, StateError> {
        let _ = height;
        Err(LATER())
    }
    /// The newest header with a certificate of its own; `None` while only block 0 exists.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn newest_final(&self) -> Result<Option<FinalHeader>, StateError> {
        Err(LATER())
    }
    /// The newest commit certificate; after a crash between the blocks of one commit it may name a block
    /// above the tip.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn newest_certificate(&self) -> Result<Option<CommitCert>, StateError> {
        Err(LATER())
    }
    /// Where a transaction landed.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn transaction(&self, id: &TxId) -> Result<Option<TxLocation>, StateError> {
        let _ = id;
        Err(LATER())
    }
    /// A committed transaction with its signatures.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn transaction_body(
        &self,
        id: &TxId,
    ) -> Result<Option<(TxLocation, Arc<SignedTransaction>)>, StateError> {
        let _ = id;
        Err(LATER())
    }
    /// The record at `seq`.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn record(&self, seq: u64) -> Result<Option<Record>, StateError> {
        let _ = seq;
        Err(LATER())
    }
    /// The records of a proof; the first is the canonical one.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn records_by_proof(&self, proof: &ProofId) -> Result<Option<Matches>, StateError> {
        let _ = proof;
        Err(LATER())
    }
    /// The records of a root, whoever sent them.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn records_by_root(&self, root: &Hash) -> Result<Option<Matches>, StateError> {
        let _ = root;
        Err(LATER())
    }
    /// The records one sender anchored under a reference. Empty references are not indexed.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn records_by_reference(
        &self,
        sender: &Address,
        reference: &str,
    ) -> Result<Option<Matches>, StateError> {
        let _ = (sender, reference);
        Err(LATER())
    }
    /// The records of a transaction, in order; empty when it is unknown or carried no proofs.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn records_by_tx(&self, id: &TxId) -> Result<Vec<Record>, StateError> {
        let _ = id;
        Err(LATER())
    }
    /// A page of at most `limit` records (never more than [`crate::QUERY_PAGE_MAX`]) from `cursor` on.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn list(&self, filter: &ListFilter, cursor: Option<u64>, limit: usize) -> Result<Page, StateError> {
        let _ = (filter, cursor, limit);
        Err(LATER())
    }
    /// The record at `seq` with its path to the newest header that has a certificate of its own. `None` when
    /// there is no such record, or no such header covers it yet.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn anchor_proof(&self, seq: u64) -> Result<Option<AnchorProof>, StateError> {
        let _ = seq;
        Err(LATER())
    }
    /// The same against the header at `height`, which must have a certificate of its own.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn anchor_proof_at(&self, seq: u64, height: Height) -> Result<Option<AnchorProof>, StateError> {
        let _ = (seq, height);
        Err(LATER())
    }
    /// A registered identity, with the heights each of its keys served.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn identity(&self, address: &Address) -> Result<Option<Identity>, StateError> {
        let _ = address;
        Err(LATER())
    }
    /// Sizes of the logs at the tip.
    pub fn log_sizes(&self) -> LogSizes {
        LogSizes { anchors: 0, history: 0 }
    }
}
