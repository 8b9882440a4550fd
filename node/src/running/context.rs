//! What every loop of a running node shares.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use cairn_consensus::Input;
use cairn_crypto::Verifier;
use cairn_state::State;
use cairn_types::safety::SafetyRecord;
use cairn_types::{Address, BlockId, ChainId, Evidence, Genesis, Height, View};
use lru::LruCache;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::activity::Turns;
use super::admission::Drain;
use super::compact::Assembling;
use super::epoch::{EpochInForce, InForce};
use super::keys::ValidatorKeys;
use super::metrics::NodeMetrics;
use super::pending::Pending;
use super::presence::Presence;
use super::recent::Recent;
use super::rehearsal::Disaster;
use super::snapshots::Snapshots;
use super::stages::Stages;
use super::task::{Job, Task};
use super::uncommitted::Uncommitted;
use super::waiters::Waiters;
use crate::exit::Exit;

/// Peers of another epoch whose last answer is remembered: more than the mesh ever links.
const ANSWERED_PEERS: NonZeroUsize = NonZeroUsize::new(1_024).expect("not zero");

/// Where consensus stands, for everyone but the consensus loop.
#[derive(Debug, Default)]
pub(crate) struct Position {
    view: AtomicU64,
    best_known: AtomicU64,
    signed_view: AtomicU64,
    durable: AtomicU64,
    told_of_work: AtomicBool,
    started: AtomicBool,
    syncing: AtomicBool,
    public_peers: AtomicUsize,
}

impl Position {
    /// At the start: the height of the last final block, and what the journal says was signed in its epoch.
    pub(crate) fn new(height: Height, record: Option<&SafetyRecord>) -> Self {
        let position = Self::default();
        position.learned(height);
        record.into_iter().for_each(|record| position.signed(record));
        position
    }

    /// The current view.
    pub(crate) fn view(&self) -> View {
        View::new(self.view.load(Ordering::Relaxed))
    }

    /// Publishes the current view.
    pub(crate) fn set_view(&self, view: View) {
        self.view.store(view.get(), Ordering::Relaxed);
    }

    /// The highest final block anyone told of with proof.
    pub(crate) fn best_known(&self) -> Height {
        Height::new(self.best_known.load(Ordering::Relaxed))
    }

    /// Raises [`Position::best_known`].
    pub(crate) fn learned(&self, height: Height) {
        self.best_known.fetch_max(height.get(), Ordering::Relaxed);
    }

    /// The highest view for which this process, or an earlier one by its journal, has signed anything.
    pub(crate) fn signed_view(&self) -> View {
        View::new(self.signed_view.load(Ordering::SeqCst))
    }

    /// A new epoch begins. Nothing that is heard counts as signed elsewhere until [`Position::signs_after`] says what the journal knows
    /// of its views.
    pub(crate) fn begin_epoch(&self) {
        self.signed_view.store(u64::MAX, Ordering::SeqCst);
        self.set_view(View::ZERO);
    }

    /// Sets [`Position::signed_view`] to what the journal says was signed in the epoch that begins.
    pub(crate) fn signs_after(&self, record: &SafetyRecord) {
        self.signed_view.store(record.highest_signed().get(), Ordering::SeqCst);
    }

    /// Raises [`Position::signed_view`] to what a safety record says. Done before anything signed leaves.
    pub(crate) fn signed(&self, record: &SafetyRecord) {
        self.signed_view.fetch_max(record.highest_signed().get(), Ordering::SeqCst);
    }

    /// Whether consensus takes part; false while the node listens for its own key elsewhere.
    pub(crate) fn started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
    }

    /// Publishes that consensus takes part.
    pub(crate) fn set_started(&self) {
        self.started.store(true, Ordering::Relaxed);
    }

    /// Whether consensus knows already that the pool holds work.
    pub(crate) fn told_of_work(&self) -> bool {
        self.told_of_work.load(Ordering::SeqCst)
    }

    /// Publishes whether consensus knows of work.
    pub(crate) fn set_told_of_work(&self, told: bool) {
        self.told_of_work.store(told, Ordering::SeqCst);
    }

    /// The height up to which the state survives a power cut.
    pub(crate) fn durable(&self) -> Height {
        Height::new(self.durable.load(Ordering::SeqCst))
    }

    /// Raises [`Position::durable`].
    pub(crate) fn made_durable(&self, height: Height) {
        self.durable.fetch_max(height.get(), Ordering::SeqCst);
    }

    /// Number of public peers that may be asked.
    pub(crate) fn public_peers(&self) -> usize {
        self.public_peers.load(Ordering::Relaxed)
    }

    /// Counts a public peer that has come (`came`) or gone; a validator's link is counted elsewhere.
    pub(crate) fn count_peer(&self, public: bool, came: bool) {
        if public {
            let change = |count: usize| if came { count.checked_add(1) } else { count.checked_sub(1) };
            // Fails only where nothing can change.
            let _ = self.public_peers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
        }
    }

    /// Whether the node is far behind what is proven to be final.
    pub(crate) fn syncing(&self) -> bool {
        self.syncing.load(Ordering::Relaxed)
    }

    /// Publishes whether the node is far behind.
    pub(crate) fn set_syncing(&self, syncing: bool) {
        self.syncing.store(syncing, Ordering::Relaxed);
    }
}

/// Shared by all loops. Everything inside is either immutable or guards itself.
pub(crate) struct Context {
    pub(crate) chain: ChainId,
    pub(crate) genesis: Genesis,
    pub(crate) genesis_text: Arc<str>,
    /// The epoch in force: see [`Context::epoch`].
    pub(crate) in_force: Arc<InForce>,
    pub(crate) keys: Arc<ValidatorKeys>,
    /// The epoch in force has changed.
    pub(crate) epoch_turned: Notify,
    /// What validators are to be convicted of.
    pub(crate) evidence: mpsc::Sender<Evidence>,
    /// When each peer of another epoch was last answered.
    pub(crate) answered: Mutex<LruCache<Address, Instant>>,
    pub(crate) state: Arc<State>,
    pub(crate) pool: Mutex<Pending>,
    pub(crate) verifier: Verifier,
    pub(crate) net: cairn_p2p::Handle,
    /// Where the networks' tasks run, for work that has to wait.
    pub(crate) runtime: Handle,
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) executor: mpsc::Sender<Task>,
    pub(crate) jobs: mpsc::Sender<Job>,
    pub(crate) uncommitted: Uncommitted,
    pub(crate) assembling: Assembling,
    pub(crate) drain: Drain,
    pub(crate) waiters: Waiters,
    pub(crate) turns: Turns,
    pub(crate) position: Position,
    /// Other processes with this node's validator key.
    pub(crate) presence: Presence,
    pub(crate) recent: Mutex<Recent>,
    pub(crate) final_height: watch::Sender<Height>,
    /// The pool may have become interesting, or boring, for consensus.
    pub(crate) pool_changed: Notify,
    pub(crate) metrics: NodeMetrics,
    pub(crate) stages: Stages,
    /// Whether it is still open if this node, which has no blocks, begins with a snapshot. Set before the loops start.
    pub(crate) may_join: watch::Sender<bool>,
    /// Snapshots: when one is due, and which are here.
    pub(crate) snapshots: Snapshots,
    pub(crate) shutdown: CancellationToken,
    /// Why the node stops, when it is not because it was asked to, and the exit code that tells so.
    pub(crate) failure: Mutex<Option<(Exit, String)>>,
    /// What a node on a rehearsing network dies of.
    pub(crate) disaster: Arc<Disaster>,
}

impl Context {
    /// An empty memory of whom was answered across epochs.
    pub(crate) fn nobody_answered() -> Mutex<LruCache<Address, Instant>> {
        Mutex::new(LruCache::new(ANSWERED_PEERS))
    }

    /// The epoch in force now. To be asked once for each piece of work.
    pub(crate) fn epoch(&self) -> Arc<EpochInForce> {
        self.in_force.get()
    }

    /// Stops the node because going on could do harm. The first reason stands.
    pub(crate) fn fail(&self, why: impl Into<String>) {
        self.fail_with(Exit::No, why);
    }

    /// [`Context::fail`] with the exit code that tells a supervisor more.
    pub(crate) fn fail_with(&self, exit: Exit, why: impl Into<String>) {
        let why = why.into();
        tracing::error!(%why, "stopping");
        self.failure.lock().get_or_insert((exit, why));
        self.shutdown.cancel();
    }

    /// Whether the pool holds a transaction that no block up to `tip` carries.
    pub(crate) fn has_work(&self, tip: BlockId) -> bool {
        let carried = self.uncommitted.transactions_up_to(tip);
        let pool = self.pool.lock();
        let waiting = pool.len();
        waiting > carried.len() || waiting > carried.iter().filter(|id| pool.contains(id)).count()
    }
}
