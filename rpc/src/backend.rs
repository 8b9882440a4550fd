//! The one seam between this crate and the node: what the interfaces need, in terms of the chain's
//! own types. No JSON, no HTTP and no storage type crosses it.

use std::sync::Arc;
use std::time::Duration;

use cairn_types::event::IdentityEvent;
use cairn_types::receipt::EpochHandover;
use cairn_types::{
    Address, Admission, Block, BlockId, ChainId, CommitCert, Epoch, Hash, Header, Height, Motion, Params,
    ProofId, ProofKind, Record, SignedTransaction, TxId, ValidatorSet, View,
};
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::fault::Fault;
use crate::identity_backend::IdentityBackend;

/// What every asynchronous method of [`Backend`] gives. Implement with `Box::pin(async move { .. })`.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, Fault>>;

/// Records that one key of [`RecordKey`] may give, at most: the lowest `seq` first.
pub const RECORDS_PER_KEY_MAX: usize = 100;

/// What the node answers. Object safe: the servers hold an `Arc<dyn Backend>`.
///
/// A read of something that does not exist is `Ok(None)`: the servers turn it into `not_found`,
/// `pruned` or `future_height` by comparing with [`Backend::earliest`] and [`Backend::final_height`].
/// An `Err` is for what only the node can know.
pub trait Backend: IdentityBackend {
    /// Facts that never change while the node runs. Cheap.
    fn about(&self) -> &NodeAbout;

    /// The height of the last final block, and news of every later one. A height is published only after
    /// everything up to it can be read through this trait.
    fn final_height(&self) -> watch::Receiver<Height>;

    /// The earliest block this node still keeps. Cheap.
    fn earliest(&self) -> Height;

    /// A snapshot of the node's state for status displays.
    fn status(&self) -> Answer<'_, NodeStatus>;

    /// Whether the node can do its work, check by check.
    fn readiness(&self) -> Answer<'_, Vec<ReadyCheck>>;

    /// Verifies a transaction and puts it into the pool, unless all its proofs are known already.
    fn submit(&self, transaction: SignedTransaction) -> Answer<'_, Submitted>;

    /// Everything `submit` checks, with no effect.
    fn check(&self, transaction: SignedTransaction) -> Answer<'_, Submitted>;

    /// Waits until the transaction is final. `Ok(None)` when `timeout` passed first; an error when it became
    /// known that it never will be (expired, refused).
    fn wait_final(&self, tx: TxId, timeout: Duration) -> Answer<'_, Option<FinalTx>>;

    /// A pending or final transaction.
    fn transaction(&self, tx: TxId) -> Answer<'_, Option<TxLookup>>;

    /// The pending transaction that carries this proof, when there is one.
    fn pending_proof(&self, proof: ProofId) -> Answer<'_, Option<TxId>>;

    /// A final header.
    fn header(&self, at: At) -> Answer<'_, Option<Header>>;

    /// A final block with its transactions.
    fn block(&self, at: At) -> Answer<'_, Option<Arc<Block>>>;

    /// The commit certificate that made a block final: its own, or the next one of a descendant
    /// (`certificate.block` says which).
    fn certificate(&self, at: At) -> Answer<'_, Option<CommitCert>>;

    /// A final block as subscribers see it: header, transaction ids, records.
    fn final_block(&self, height: Height) -> Answer<'_, Option<FinalBlock>>;

    /// The records with this key, lowest `seq` first, at most [`RECORDS_PER_KEY_MAX`].
    fn records(&self, key: RecordKey) -> Answer<'_, Vec<Record>>;

    /// A page of records in `seq` order.
    fn list(&self, filter: RecordFilter) -> Answer<'_, RecordPage>;

    /// The receipt of a record's batch root, as JSON text; `None` when there is no such record.
    fn receipt(&self, seq: u64, form: ReceiptForm) -> Answer<'_, Option<String>>;

    /// The receipts of the batch roots of the records at `seqs` (strictly ascending, not empty) as one core of
    /// a bundle, JSON text, under the header of `at`, or the newest certified one. `None` when that header does
    /// not cover them all.
    fn receipts(&self, seqs: Vec<u64>, form: ReceiptForm, at: Option<At>) -> Answer<'_, Option<String>>;

    /// The proof (RFC 9162 section 2.1.4) that `second` records of an anchor log begin with `first`. `None` when
    /// the log is shorter.
    fn consistency(&self, log: AnchorLog, first: u64, second: u64) -> Answer<'_, Option<Vec<Hash>>>;

    /// The path of the record `seq` in the first `size` records of an anchor log. `None` when there is none.
    fn log_path(&self, log: AnchorLog, seq: u64, size: u64) -> Answer<'_, Option<Vec<Hash>>>;

    /// The SHA-256 log's checkpoint as of a block, signed with this node's note key.
    fn log_checkpoint(&self, at: At) -> Answer<'_, Option<LogCheckpoint>>;

    /// Final blocks from `from` on, at most `limit` of them and about `bytes_max` bytes, each with its own
    /// certificate where it has one.
    fn blocks(&self, from: Height, limit: usize, bytes_max: usize) -> Answer<'_, Vec<StoredBlock>>;

    /// Verifies a receipt against this node's chain: JSON text of at most 1 MiB, of a leaf or, as
    /// [`Backend::receipt`] gives it, of a batch's root.
    fn verify_receipt(&self, receipt: String) -> Answer<'_, Verdict>;

    /// The validators that sign the block `at`.
    fn validators(&self, at: At) -> Answer<'_, Option<ValidatorsAt>>;

    /// The network parameters in force at a block.
    fn params(&self, at: At) -> Answer<'_, Option<ParamsAt>>;

    /// The open motions of the validators.
    fn motions(&self) -> Answer<'_, Motions>;

    /// The genesis file, JSON text exactly as the operator has it.
    fn genesis(&self) -> Answer<'_, Arc<str>>;

    /// What a verifier needs to follow the validator sets from `from` on.
    fn trust(&self, from: Epoch) -> Answer<'_, Trust>;

    /// The pool's size and bounds.
    fn mempool(&self) -> Answer<'_, MempoolInfo>;

    /// Pending transactions, at most `limit`.
    fn pending(&self, limit: usize) -> Answer<'_, Vec<Arc<SignedTransaction>>>;

    /// The network side of the node.
    fn net(&self) -> Answer<'_, NetInfo>;
}

/// Facts about the node that never change while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAbout {
    /// The chain's identity.
    pub chain: ChainId,
    /// The chain's name in the genesis.
    pub chain_name: String,
    /// The node's name for people; may be empty.
    pub moniker: String,
    /// The software's version, for instance `0.1.0`.
    pub version: String,
    /// The address of its validator key; `None` for a follower.
    pub validator: Option<Address>,
    /// Who may anchor.
    pub admission: Admission,
}

/// The node's state at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// The last final block.
    pub tip: Header,
    /// Current epoch of consensus.
    pub epoch: Epoch,
    /// Current view of consensus.
    pub view: View,
    /// Milliseconds since the tip's time, by the node's clock.
    pub final_age_ms: u64,
    /// Connected peers, both planes.
    pub peers: usize,
    /// Validators of the current epoch.
    pub validators: usize,
    /// Pending transactions.
    pub pending: usize,
    /// Whether the node is far behind its peers and fetching blocks.
    pub syncing: bool,
    /// The highest final block any peer has told of.
    pub best_known: Height,
    /// Milliseconds since the node started.
    pub uptime_ms: u64,
}

/// One condition of readiness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyCheck {
    /// A short name: `database`, `peers`, `sync`, `finality`, ...
    pub name: &'static str,
    /// Whether it holds.
    pub ok: bool,
    /// What was found, for people.
    pub detail: String,
}

/// What became of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// The transaction that carries the proofs: the earlier one when they were known already.
    pub tx_id: TxId,
    /// The ids of its proofs, in their order; empty for other payloads.
    pub proof_ids: Vec<ProofId>,
    /// Whether it is new.
    pub state: SubmitState,
}

/// Whether a submission was new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubmitState {
    /// It is in the pool now (for a dry run: it would be).
    New,
    /// The same transaction, or one with the same proofs, was pending already.
    Pending,
    /// Every proof is on the chain already: their records, in the order of `proof_ids`. For a payload
    /// without proofs: the same transaction is on the chain already, and the list is empty.
    Final(Vec<Record>),
}

/// Where a transaction landed, with the records it made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalTx {
    /// The block's height.
    pub height: Height,
    /// The block.
    pub block: BlockId,
    /// The block's time, Unix milliseconds.
    pub time_ms: u64,
    /// Position in the block.
    pub index: u32,
    /// One record per proof, in the transaction's order.
    pub records: Vec<Record>,
}

/// A transaction found by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxLookup {
    /// The transaction; `None` when only its place is still kept.
    pub signed: Option<Arc<SignedTransaction>>,
    /// Where it landed; `None` while pending.
    pub landed: Option<FinalTx>,
}

/// Names one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// By height.
    Height(Height),
    /// By id.
    Id(BlockId),
}

/// A final block as subscribers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalBlock {
    /// The header.
    pub header: Header,
    /// Its id.
    pub id: BlockId,
    /// Its transactions, in order.
    pub transactions: Vec<TxId>,
    /// The records it made, in `seq` order.
    pub records: Vec<Record>,
    /// What it did to identities, in order.
    pub events: Vec<IdentityEvent>,
}

/// What a record is looked up by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordKey {
    /// Its position in the anchor log.
    Seq(u64),
    /// The proof's id.
    Proof(ProofId),
    /// The anchored root; several senders may have anchored one root.
    Root(Hash),
    /// The transaction that carried it.
    Tx(TxId),
    /// The sender's own id.
    Reference {
        /// Who anchored it.
        sender: Address,
        /// The id, not empty.
        reference: String,
    },
}

/// Which records a page holds.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RecordFilter {
    /// Only of this sender.
    pub sender: Option<Address>,
    /// Only of this kind.
    pub kind: Option<ProofKind>,
    /// Only from this height on.
    pub from: Option<Height>,
    /// Only up to this height, inclusive.
    pub to: Option<Height>,
    /// Start at this `seq`.
    pub start: u64,
    /// At most so many, 1 to 100.
    pub limit: usize,
}

/// A page of records.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RecordPage {
    /// In `seq` order.
    pub records: Vec<Record>,
    /// Where the next page starts; `None` when nothing can follow. A page may be short, even empty, and still
    /// name a next one (a scan bounded in work).
    pub next: Option<u64>,
}

/// What makes a receipt's header final for its verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiptForm {
    /// Carries the certificate.
    Standalone,
    /// Relies on a checkpoint that the verifier has pinned.
    Checkpoint,
}

/// Which of the two logs over the same records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnchorLog {
    /// The one receipts are about.
    Anchors,
    /// The one under plain RFC 9162 SHA-256.
    Sha256,
}

/// The SHA-256 log's checkpoint in the formats of other worlds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogCheckpoint {
    /// The header whose log it is.
    pub header: Header,
    /// A C2SP checkpoint: origin, size, root, and this node's signatures.
    pub note: String,
    /// The verifier key of this node's plain note signatures.
    pub verifier_key: String,
    /// The verifier key of its cosignatures.
    pub cosigner_key: String,
    /// This node's Ed25519 public note key.
    pub note_key: [u8; 32],
    /// Its signature for COSE receipts of this size.
    pub cose_signature: Vec<u8>,
    /// The validator whose note key it says this is, and that validator's signature over it.
    pub binding: Option<(Address, Vec<u8>)>,
}

/// A block as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBlock {
    /// The block.
    pub block: Arc<Block>,
    /// The certificate of exactly this block; `None` when it is final through a descendant.
    pub certificate: Option<CommitCert>,
}

/// The outcome of a verification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether every check passed.
    pub valid: bool,
    /// The checks made, in order, up to the first that failed.
    pub checks: Vec<VerdictCheck>,
    /// The record that a valid receipt proves to be anchored.
    pub record: Option<Box<Record>>,
}

/// One check of a verification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictCheck {
    /// A short name: `batch path`, `certificate`, ...
    pub name: String,
    /// Whether it passed.
    pub ok: bool,
    /// What was found, for people.
    pub detail: String,
}

/// The validators of an epoch with what they have done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatorsAt {
    /// The set.
    pub set: ValidatorSet,
    /// One entry per validator, in the set's order.
    pub activity: Vec<Activity>,
}

/// What one validator has done since this node started to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Activity {
    /// Final blocks it proposed.
    pub proposed: u64,
    /// Views it led that were given up.
    pub missed: u64,
}

/// Network parameters with the block they hold at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParamsAt {
    /// The block's height.
    pub height: Height,
    /// The parameters.
    pub params: Params,
}

/// What the validators are asked to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Motions {
    /// The open motions, oldest first.
    pub open: Vec<Motion>,
    /// The validators whose approvals count.
    pub set: ValidatorSet,
    /// The protocol version in force.
    pub protocol: u8,
}

/// How the validator sets follow each other.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Trust {
    /// The sets, from the one asked for on.
    pub sets: Vec<ValidatorSet>,
    /// The hand-over that leads to each set after the first.
    pub handovers: Vec<EpochHandover>,
}

/// The pool's size and bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MempoolInfo {
    /// Pending transactions.
    pub count: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Most transactions.
    pub count_max: usize,
    /// Most bytes.
    pub bytes_max: usize,
    /// Senders with at least one pending transaction.
    pub senders: usize,
}

/// The network side of a node.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NetInfo {
    /// This node's id on the public plane.
    pub peer_id: String,
    /// Addresses it listens on.
    pub listen: Vec<String>,
    /// Connected peers, at most a few hundred.
    pub peers: Vec<PeerInfo>,
}

/// One connected peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// Its peer id.
    pub peer_id: String,
    /// `mesh` or `public`.
    pub plane: &'static str,
    /// Its remote address.
    pub address: String,
    /// Whether this node dialed it; `None` when the link does not say.
    pub outbound: Option<bool>,
    /// Its validator address, when its link is authenticated.
    pub validator: Option<Address>,
    /// Round-trip time, ms.
    pub rtt_ms: Option<u32>,
}
