//! A whole network of replicas in virtual time, from one seed: the same seed gives the same events.

pub(crate) mod attack;
pub(crate) mod checks;
pub(crate) mod drive;
pub(crate) mod executor;
pub(crate) mod node;
pub(crate) mod partitions;
pub(crate) mod sabotage;
pub(crate) mod scenario;
pub(crate) mod transcript;
pub(crate) mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cairn_consensus::{Input, Timer};
use cairn_types::{Block, BlockId, CertifiedBlock, Context, EpochProof, Hash, Message, Params, Slot, TxId};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use attack::Attacker;
use checks::Checks;
use node::Node;
use partitions::Partitions;
use sabotage::Sabotage;
use transcript::Transcript;
use world::{START_MS, World};

/// What travels between nodes.
#[derive(Clone, Debug)]
pub(crate) enum Wire {
    Message(Message),
    Fetch(BlockId),
    Block(Arc<Block>),
    /// The heights after this one, please.
    Range(u64),
    /// Of one epoch, with its proof when they reach its end.
    Blocks(Vec<CertifiedBlock>, Option<Arc<EpochProof>>),
}

#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Nodes hear only those of their own group.
    Partition(Vec<u8>),
    /// The second no longer hears the first.
    OneWay(usize, usize),
    Heal,
    Crash(usize),
    Restart(usize),
    /// Every node at once; they restart one after the other within this time.
    PowerLoss(u64),
    /// Messages lost and repeated, of 1,000; crashes at each durable point, of 10,000.
    Noise {
        loss: u32,
        twice: u32,
        crash: u32,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum Event {
    Deliver { from: usize, to: usize, wire: Wire },
    Fires { node: usize, incarnation: u32, timer: Timer },
    Check { node: usize, incarnation: u32, block: Arc<Block>, lag_exponent: u32 },
    Build { node: usize, incarnation: u32, slot: Slot },
    Fault(Fault),
    Submit(u64),
    Attack,
}

/// Delays in ms, each drawn between its two ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delays {
    pub(crate) link: (u64, u64),
    pub(crate) execute: (u64, u64),
    pub(crate) build: (u64, u64),
}

pub(crate) struct Cluster {
    pub(crate) world: World,
    pub(crate) nodes: Vec<Node>,
    pub(crate) attacker: Option<Attacker>,
    pub(crate) checks: Checks,
    /// Links planned by view; `None` when only faults cut them.
    pub(crate) partitions: Option<Partitions>,
    /// What is wrong with the honest nodes on purpose.
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) transcript: Transcript,
    pub(crate) delays: Delays,
    pub(crate) now: u64,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) sent: BTreeMap<&'static str, u64>,
    pub(crate) submitted: BTreeMap<TxId, u64>,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    blocked: BTreeSet<(usize, usize)>,
    noise: (u32, u32, u32),
    trace: Hash,
    pub(crate) events: u64,
}

impl Cluster {
    /// `n` honest validators, all down.
    pub(crate) fn new(n: usize, params: Params, delays: Delays, seed: u64) -> Self {
        Self::of(World::new(n, params), delays, seed)
    }

    /// The honest validators of every epoch of this world's schedule, all down.
    pub(crate) fn of(world: World, delays: Delays, seed: u64) -> Self {
        let mut nodes: Vec<Node> = world.all().into_iter().map(|me| Node::new(Some(me), true, 0)).collect();
        for later in world.everyone().into_iter().filter(|who| world.set.index_of(who).is_none()) {
            nodes.push(Node { who: Some(later), ..Node::new(None, true, 0) });
        }
        Self {
            world,
            nodes,
            attacker: None,
            checks: Checks::default(),
            partitions: None,
            sabotage: None,
            transcript: Transcript::default(),
            delays,
            now: START_MS,
            rng: ChaCha8Rng::seed_from_u64(seed),
            sent: BTreeMap::new(),
            submitted: BTreeMap::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            blocked: BTreeSet::new(),
            noise: (0, 0, 0),
            trace: Hash::default(),
            events: 0,
        }
    }

    pub(crate) fn at(&mut self, time: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((time.max(self.now), self.sequence), event);
    }

    pub(crate) fn draw(&mut self, range: (u64, u64)) -> u64 {
        if range.0 == range.1 { range.0 } else { self.rng.random_range(range.0..=range.1) }
    }

    fn chance(&mut self, of: u32, per: u32) -> bool {
        of > 0 && self.rng.random_range(0..per) < of
    }

    pub(crate) fn crashes_now(&mut self) -> bool {
        self.chance(self.noise.2, 10_000)
    }

    /// Sends over the link, subject to partitions, loss and repetition.
    pub(crate) fn send(&mut self, from: usize, to: usize, wire: Wire) {
        if self.blocked.contains(&(from, to)) {
            return;
        }
        let standing = self.view_of(from).unwrap_or_default();
        if self.holds_back(from, to, &wire)
            || self.partitions.as_mut().is_some_and(|it| !it.pass(from, to, self.now, standing, &wire))
        {
            return;
        }
        let (loss, twice, _) = self.noise;
        if self.chance(loss, 1_000) {
            return;
        }
        let copies = if self.chance(twice, 1_000) { 2 } else { 1 };
        for _ in 0..copies {
            let delay = self.draw(self.delays.link);
            self.at(self.now + delay, Event::Deliver { from, to, wire: wire.clone() });
        }
    }

    /// Runs until nothing is left or `deadline`, or until `done` after an event. True when `done`.
    pub(crate) fn run(&mut self, deadline: u64, mut done: impl FnMut(&Self) -> bool) -> bool {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > deadline {
                break;
            }
            let ((time, sequence), event) = entry.remove_entry();
            self.now = time;
            self.events += 1;
            self.note(sequence, &event);
            self.handle(event);
            if done(self) {
                return true;
            }
        }
        self.now = self.now.max(deadline);
        false
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Deliver { from, to, wire } => self.deliver(from, to, wire),
            Event::Fires { node, incarnation, timer } => {
                self.if_current(node, incarnation, Input::TimerFired(timer));
            }
            Event::Check { node, incarnation, block, lag_exponent } => {
                self.check_block(node, incarnation, &block, lag_exponent);
            }
            Event::Build { node, incarnation, slot } => self.build(node, incarnation, slot),
            Event::Fault(fault) => self.fault(fault),
            Event::Submit(nonce) => self.submit(nonce),
            Event::Attack => self.attack(),
        }
    }

    fn if_current(&mut self, node: usize, incarnation: u32, input: Input) {
        if self.nodes[node].incarnation == incarnation {
            self.turn(node, vec![(None, input)]);
        }
    }

    pub(crate) fn start(&mut self, node: usize) {
        if self.nodes[node].live.is_some() {
            return;
        }
        let world = self.world.clone();
        for node in &mut self.nodes {
            let of = |me| world.set.get(me).map(|validator| validator.address);
            node.who = node.who.or_else(|| node.me.and_then(of));
        }
        self.lose_unsynced(node);
        self.nodes[node].open(&world);
        self.transcript.line(self.now, || format!("{} starts", self.name(node)));
        self.turn(node, vec![(None, Input::Start)]);
        for other in 0..self.nodes.len() {
            self.connect(node, other);
        }
    }

    pub(crate) fn start_all(&mut self) {
        for node in 0..self.nodes.len() {
            self.start(node);
        }
    }

    /// Two nodes find each other again.
    pub(crate) fn connect(&mut self, a: usize, b: usize) {
        for (at, peer) in [(a, b), (b, a)] {
            let reachable = !self.blocked.contains(&(a, b)) && !self.blocked.contains(&(b, a));
            let both = self.nodes[a].live.is_some() && self.nodes[b].live.is_some();
            if at != peer
                && reachable
                && both
                && let Some(index) = self.index_at(at, peer)
            {
                self.turn(at, vec![(None, Input::Connected(index))]);
            }
        }
    }

    fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Partition(groups) => {
                for (a, of_a) in groups.iter().enumerate() {
                    for (b, of_b) in groups.iter().enumerate() {
                        if of_a != of_b {
                            self.blocked.insert((a, b));
                        }
                    }
                }
            }
            Fault::OneWay(from, to) => {
                self.blocked.insert((from, to));
            }
            Fault::Heal => {
                let healed = std::mem::take(&mut self.blocked);
                for (a, b) in healed {
                    self.connect(a, b);
                }
            }
            Fault::Crash(node) => {
                self.transcript.line(self.now, || format!("{} crashes", self.name(node)));
                self.nodes[node].crash();
            }
            Fault::Restart(node) => self.start(node),
            Fault::PowerLoss(within) => {
                for node in 0..self.nodes.len() {
                    self.nodes[node].crash();
                    let delay = self.draw((0, within));
                    self.at(self.now + delay, Event::Fault(Fault::Restart(node)));
                }
            }
            Fault::Noise { loss, twice, crash } => self.noise = (loss, twice, crash),
        }
    }

    /// A client's transaction reaches every pool that is up; clients repeat what is not final.
    fn submit(&mut self, nonce: u64) {
        let transaction = self.world.transaction(nonce);
        let id = transaction.transaction.id();
        self.submitted.entry(id).or_insert(nonce);
        for node in 0..self.nodes.len() {
            let Some(live) = self.nodes[node].live.as_mut() else { continue };
            if !live.executor.has_committed(&id) {
                live.executor.pool.insert(id, transaction.clone());
                self.turn(node, Vec::new());
            }
        }
    }

    /// A node that has not crashed yet does not.
    pub(crate) fn cancel_crash(&mut self, node: usize) {
        self.queue.retain(|_, event| !matches!(event, Event::Fault(Fault::Crash(other)) if *other == node));
    }

    /// Whether every honest node is up and has committed everything submitted.
    pub(crate) fn all_committed(&self) -> bool {
        self.nodes.iter().filter(|node| node.honest).all(|node| {
            let live = node.live.as_ref();
            live.is_some_and(|live| self.submitted.keys().all(|id| live.executor.has_committed(id)))
        })
    }

    /// The same, and something was submitted.
    pub(crate) fn all_committed_some(&self) -> bool {
        !self.submitted.is_empty() && self.all_committed()
    }

    fn note(&mut self, sequence: u64, event: &Event) {
        let text: u64 = match event {
            Event::Deliver { from, to, wire } => {
                let view = if let Wire::Message(message) = wire { message.view().get() } else { 0 };
                ((*from as u64) << 48) | ((*to as u64) << 32) | view
            }
            Event::Fires { node, timer, .. } => ((*node as u64) << 32) | timer.generation,
            Event::Check { block, .. } => block.header().view.get(),
            Event::Build { slot, .. } => slot.view.get(),
            Event::Fault(_) | Event::Submit(_) | Event::Attack => 0,
        };
        let parts = [self.now.to_le_bytes(), sequence.to_le_bytes(), text.to_le_bytes()];
        self.trace = Context::Metadata.hash_parts(&[self.trace.as_bytes(), &parts[0], &parts[1], &parts[2]]);
    }

    /// Names everything that happened.
    pub(crate) const fn trace(&self) -> Hash {
        self.trace
    }
}
