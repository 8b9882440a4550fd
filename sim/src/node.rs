//! A node: what survives a crash, and what does not.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use cairn_catchup::{CatchUp, Position};
use cairn_consensus::{CommittedTip, Input, Recovered, Replica, TimerKind};
use cairn_journal::Journal;
use cairn_mempool::{Limits, Pool};
use cairn_types::safety::SafetyRecord;
use cairn_types::{Block, BlockId, Epoch, Height, SignedTransaction, TxId, View};

use crate::byzantine::Role;
use crate::disk::Disk;
use crate::epoch::Part;
use crate::events::Event;
use crate::executor::Task;
use crate::ledger::{Hub, Ledger};
use crate::units::Micros;
use crate::world::World;

/// View timeouts for which a key that has signed before listens whether it is in use elsewhere.
const SILENT_TIMEOUTS: u64 = 2;
/// Names of checked signatures a node remembers, at most: those of several views of a hundred validators.
const SIGNATURES_KNOWN_MAX: usize = 65_536;

/// One node of a run.
pub(crate) struct Node {
    /// Whose keys it has; `None` for one that never signs.
    pub(crate) holder: Option<usize>,
    /// Whether the invariants are asked of it.
    pub(crate) honest: bool,
    /// What it does instead of the protocol.
    pub(crate) role: Option<Box<dyn Role>>,
    pub(crate) disk: Disk,
    pub(crate) live: Option<Live>,
    /// Rises with every start and crash; events of an earlier one are void.
    pub(crate) incarnation: u32,
    /// Its clock against the simulation's, microseconds.
    pub(crate) clock_us: i64,
    /// It does nothing until it goes on; what came meanwhile waits here.
    pub(crate) paused: Option<Vec<Event>>,
    /// The chance of a crash at each durable step.
    pub(crate) crashes: f64,
    /// The disk takes nothing.
    pub(crate) disk_full: bool,
    /// Why it does not start any more.
    pub(crate) refuses: Option<String>,
    /// The highest view of the epoch in force that its key has signed for, as far as this disk knows.
    pub(crate) signed_view: View,
}

/// What a crash loses.
pub(crate) struct Live {
    /// The epoch that the state has come to, under which messages are looked at.
    pub(crate) in_force: Part,
    /// The epoch of the replica, in which it signs. Behind `in_force` until the loop is free.
    pub(crate) voting: Part,
    /// The loop is to go on with a replica of the epoch in force.
    pub(crate) turning: bool,
    /// The epoch before which nothing is signed: the one that the journal names.
    pub(crate) silent_until: Option<Epoch>,
    /// When peers of other epochs were last answered.
    pub(crate) answered: BTreeMap<usize, u64>,
    pub(crate) replica: Replica,
    pub(crate) journal: Option<Journal>,
    pub(crate) ledger: Ledger,
    pub(crate) pool: Pool,
    pub(crate) carried: Carried,
    /// What the replica was last told about work, and for which certified block.
    pub(crate) told: (bool, BlockId),
    /// Inputs for the next turn, and the node whose message each was.
    pub(crate) inbox: VecDeque<(Option<usize>, Input)>,
    /// Until when the loop is at work or listens.
    pub(crate) busy_until: u64,
    pub(crate) turn_planned: bool,
    /// When the verifiers are through with consensus messages, and with everything.
    pub(crate) verifying: [u64; 2],
    pub(crate) known: HashSet<u64>,
    pub(crate) tasks: VecDeque<Task>,
    pub(crate) executing_until: u64,
    pub(crate) execution_planned: bool,
    /// The newest generation of each timer.
    pub(crate) timers: BTreeMap<TimerKind, u64>,
    pub(crate) catchup: CatchUp<usize>,
    /// Blocks whose proposals wait for transactions that they name. Each is here for half a second at most.
    pub(crate) assembling: BTreeSet<BlockId>,
    /// When it next looks whether answers are due.
    pub(crate) tick_at: u64,
    /// Nodes it is connected to.
    pub(crate) linked: BTreeSet<usize>,
    pub(crate) state_sync_planned: bool,
    pub(crate) forward: Vec<Arc<SignedTransaction>>,
    pub(crate) forward_planned: bool,
}

/// Which transactions the uncommitted blocks carry: no new work, and not to be built in twice.
#[derive(Default)]
pub(crate) struct Carried(HashMap<BlockId, (BlockId, Height, Vec<TxId>)>);

impl Carried {
    pub(crate) fn insert(&mut self, block: &Block) {
        let header = block.header();
        let ids = block.transactions().iter().map(|tx| tx.transaction.id()).collect();
        self.0.insert(block.id(), (header.parent, header.height, ids));
    }

    pub(crate) fn committed(&mut self, height: Height) {
        self.0.retain(|_, (_, held, _)| *held > height);
    }

    pub(crate) fn up_to(&self, tip: BlockId) -> HashSet<TxId> {
        let (mut found, mut at) = (HashSet::new(), tip);
        while let Some((parent, _, ids)) = self.0.get(&at) {
            found.extend(ids.iter().copied());
            at = *parent;
        }
        found
    }
}

impl Node {
    pub(crate) fn new(holder: Option<usize>) -> Self {
        Self {
            holder,
            honest: true,
            role: None,
            disk: Disk::new(),
            live: None,
            incarnation: 0,
            clock_us: 0,
            paused: None,
            crashes: 0.0,
            disk_full: false,
            refuses: None,
            signed_view: View::ZERO,
        }
    }

    /// Whether it runs and is not paused.
    pub(crate) const fn is_up(&self) -> bool {
        self.live.is_some() && self.paused.is_none()
    }

    /// Starts from what the disk holds; gives how long to listen before the first signature.
    ///
    /// # Errors
    /// Whatever a real node would refuse to start with.
    pub(crate) fn open(
        &mut self,
        world: &World,
        hub: Option<&Rc<RefCell<Hub>>>,
        now: u64,
    ) -> Result<Micros, String> {
        self.incarnation += 1;
        let ledger = Ledger::open(world, &self.disk, hub).map_err(|why| why.to_string())?;
        let begin = ledger.begin(world).map_err(|why| why.to_string())?;
        let mut part = Part::of(world, self.holder, begin);
        let epoch = part.regime.number();
        let opened = match self.holder.filter(|_| part.me.is_some()) {
            Some(holder) => Some(self.disk.recover_journal(world, holder)?),
            None => None,
        };
        let (journal, mut recovered, silent_until) = match opened {
            Some((journal, recovered)) if recovered.record.epoch <= epoch => (Some(journal), recovered, None),
            Some((_, recovered)) => {
                part = part.silenced();
                (None, Recovered::default(), Some(recovered.record.epoch))
            }
            None => (None, Recovered::default(), None),
        };
        let (tip_id, tip) = ledger.tip(world, &self.disk);
        let position = Position { height: tip.height, id: tip_id };
        recovered.blocks.retain(|block| block.header().height > tip.height);
        let newest =
            ledger.newest_certificate(&self.disk).filter(|it| it.epoch == epoch && tip.epoch == epoch);
        if let Some(certificate) = newest.filter(|_| tip.height > Height::ZERO) {
            recovered.commit = Some(CommittedTip { header: tip, certificate });
        }
        let of_this_epoch = recovered.record.epoch == epoch;
        self.signed_view = if of_this_epoch { recovered.record.highest_signed() } else { View::ZERO };
        let signed_before = recovered.record != SafetyRecord::default();
        let replica = Replica::new(part.config(world.chain), recovered).map_err(|fault| fault.to_string())?;
        let silence_ms = if signed_before { world.params.timeout_base_ms * SILENT_TIMEOUTS } else { 0 };
        let told = (false, replica.high_qc().block());
        debug_assert!(replica.committed().0 == tip_id, "the replica starts from the state's tip");
        self.live = Some(Live {
            in_force: part.clone(),
            voting: part,
            turning: false,
            silent_until,
            answered: BTreeMap::new(),
            replica,
            journal,
            ledger,
            pool: Pool::new(Limits::of_chain(&world.params)),
            carried: Carried::default(),
            told,
            inbox: VecDeque::from([(None, Input::Start)]),
            busy_until: now + silence_ms * 1_000,
            turn_planned: false,
            verifying: [now; 2],
            known: HashSet::new(),
            tasks: VecDeque::new(),
            executing_until: now,
            execution_planned: false,
            timers: BTreeMap::new(),
            catchup: CatchUp::new(position),
            assembling: BTreeSet::new(),
            tick_at: 0,
            linked: BTreeSet::new(),
            state_sync_planned: false,
            forward: Vec::new(),
            forward_planned: false,
        });
        Ok(Micros::ms(silence_ms))
    }

    /// The process is gone.
    pub(crate) fn stop(&mut self) {
        self.live = None;
        self.incarnation += 1;
        self.paused = None;
    }
}

impl Live {
    /// How many of these signatures were never checked here; they are from now on.
    pub(crate) fn unknown(&mut self, signatures: &[u64]) -> u64 {
        if self.known.len() > SIGNATURES_KNOWN_MAX {
            self.known.clear();
        }
        signatures.iter().filter(|name| self.known.insert(**name)).count() as u64
    }
}
