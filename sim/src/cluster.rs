//! A whole network in virtual time: one thread, one seed, one queue of events.

use std::cell::RefCell;
use std::rc::Rc;

use cairn_types::Height;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::events::{EVENTS_MAX, Event, Queue};
use crate::faults::Ongoing;
use crate::governance::Operators;
use crate::invariants::{Checks, Invariant, Violation};
use crate::ledger::{Hub, hub};
use crate::load::Clients;
use crate::manifest::{Manifest, Unsynced};
use crate::network::Network;
use crate::node::Node;
use crate::packet::Packet;
use crate::record::Record;
use crate::trace::Trace;
use crate::transcript::Transcript;
use crate::world::{START_MS, World};

/// Everything of a run.
pub(crate) struct Cluster {
    pub(crate) manifest: Manifest,
    pub(crate) world: World,
    pub(crate) hub: Option<Rc<RefCell<Hub>>>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) network: Network,
    pub(crate) clients: Clients,
    pub(crate) ongoing: Ongoing,
    pub(crate) operators: Operators,
    pub(crate) checks: Checks,
    pub(crate) record: Record,
    pub(crate) trace: Trace,
    pub(crate) transcript: Transcript,
    pub(crate) rng: ChaCha8Rng,
    /// Virtual microseconds since the start.
    pub(crate) now: u64,
    pub(crate) violation: Option<Violation>,
    queue: Queue,
}

impl Cluster {
    /// The network of this manifest, nothing started yet. `detailed` keeps what figures and plots need.
    ///
    /// # Errors
    /// When the manifest contradicts itself or what it names cannot be read.
    pub(crate) fn new(manifest: &Manifest, detailed: bool, transcript: Transcript) -> Result<Self, String> {
        manifest.check()?;
        let world = World::new(manifest)?;
        let mut rng = ChaCha8Rng::seed_from_u64(manifest.seed);
        let mut nodes: Vec<Node> = (0..world.holders.len()).map(|holder| Node::new(Some(holder))).collect();
        nodes.extend((0..manifest.net.followers).map(|_| Node::new(None)));
        let roles = crate::byzantine::assign(manifest)?;
        for (node, kind) in &roles {
            nodes[*node].honest = false;
            if kind.has_twin() {
                let mut twin = Node::new(nodes[*node].holder);
                twin.honest = false;
                nodes.push(twin);
            }
        }
        let network = Network::new(manifest, nodes.len())?;
        let skew = i64::try_from(manifest.net.clock_skew.0).unwrap_or(i64::MAX);
        for node in &mut nodes {
            node.disk.segment_bytes = manifest.journal_segment_bytes;
            node.clock_us = if skew == 0 { 0 } else { rng.random_range(-skew..=skew) };
        }
        let hub = hub(&world, manifest.execution)?;
        let mut cluster = Self {
            clients: Clients::new(manifest),
            ongoing: Ongoing::default(),
            operators: Operators::default(),
            checks: Checks::default(),
            record: Record::new(&network, detailed),
            trace: Trace::new(world.root.id()),
            transcript,
            now: 0,
            violation: None,
            queue: Queue::default(),
            manifest: manifest.clone(),
            world,
            hub,
            nodes,
            network,
            rng,
        };
        for (node, kind) in roles {
            cluster.give_role(node, kind);
        }
        cluster.plan_perturbations();
        cluster.plan_load();
        cluster.plan_epochs();
        Ok(cluster)
    }

    /// Starts every node.
    pub(crate) fn start_all(&mut self) {
        for node in 0..self.nodes.len() {
            self.start(node);
        }
    }

    /// Starts a node from its disk, unless it runs or refuses to.
    pub(crate) fn start(&mut self, node: usize) {
        if self.nodes[node].live.is_some() || self.nodes[node].refuses.is_some() || self.nodes[node].disk_full
        {
            return;
        }
        let (now, hub) = (self.now, self.hub.clone());
        let name = self.name(node);
        let crash = self.fails_at_a_step(node);
        match self.nodes[node].open(&self.world, hub.as_ref(), now) {
            Ok(_) if crash => return self.crash_now(node, Unsynced::Any),
            Err(_) if crash => return self.crash_now(node, Unsynced::Any),
            Err(_) if self.ongoing.crash_at_write(node) => {
                let unsynced = self.ongoing.unsynced(node);
                return self.crash(node, unsynced); // whoever planned it starts the node again
            }
            Ok(silence) => {
                let heard = if silence.0 == 0 { String::new() } else { format!(", listens for {silence}") };
                self.note(|| format!("{name} starts{heard}"));
            }
            Err(why) if self.nodes[node].honest => {
                self.nodes[node].refuses = Some(why.clone());
                let what = format!("{name} does not start from what its disk holds: {why}");
                return self.violate(Invariant::NothingBack, what);
            }
            Err(why) => {
                self.note(|| format!("{name} refuses to start: {why}"));
                self.nodes[node].refuses = Some(why);
                return;
            }
        }
        self.look_at_recovery(node);
        self.network.reset(node, now);
        self.wake(node);
        for other in 0..self.nodes.len() {
            self.connect(node, other);
        }
    }

    /// (d): what was acknowledged before the crash is still there.
    fn look_at_recovery(&mut self, node: usize) {
        let Some(journal) = self.nodes[node].live.as_ref().and_then(|live| live.journal.as_ref()) else {
            return;
        };
        let recovered = journal.record().clone();
        // A write that failed may have reached the disk all the same: then it counts from now on.
        let acknowledged = std::mem::replace(&mut self.nodes[node].disk.acknowledged, recovered.clone());
        let lost = acknowledged.check_next(&recovered).err();
        if let Some(regression) = lost.filter(|_| self.nodes[node].honest) {
            let what = format!("{} starts with less than it had synced: {regression}", self.name(node));
            self.violate(Invariant::NothingBack, what);
        }
    }

    /// A node is gone, with what becomes of its unsynced writes.
    pub(crate) fn crash(&mut self, node: usize, unsynced: Unsynced) {
        let name = self.name(node);
        self.note(|| format!("{name} crashes, unsynced writes: {unsynced:?}"));
        self.record.crashes += 1;
        self.stop(node);
        let Node { disk, .. } = &mut self.nodes[node];
        disk.crash(unsynced, &mut self.rng);
    }

    /// A node stops by itself and says why; whoever ends what ails it starts it again.
    pub(crate) fn halt(&mut self, node: usize, why: &str) {
        let name = self.name(node);
        self.note(|| format!("{name} stops: {why}"));
        self.stop(node);
    }

    /// The process is gone, and everyone's connections to it.
    pub(crate) fn stop(&mut self, node: usize) {
        self.nodes[node].stop();
        for other in 0..self.nodes.len() {
            if self.nodes[other].live.as_mut().is_some_and(|live| live.linked.remove(&node)) {
                self.told(other, cairn_catchup::Input::Gone { peer: node });
            }
        }
    }

    /// Runs until nothing is left, `deadline`, a violation, or `done`. True when `done`.
    pub(crate) fn run(&mut self, deadline: u64, mut done: impl FnMut(&Self) -> bool) -> bool {
        while self.violation.is_none() {
            let Some((time, event)) = self.queue.pop(deadline) else {
                self.now = self.now.max(deadline);
                return false;
            };
            self.now = time;
            self.handle(event);
            if done(self) {
                return true;
            }
            if self.queue.len() > EVENTS_MAX {
                self.violate(Invariant::Bounds, format!("more than {EVENTS_MAX} events wait"));
            }
        }
        false
    }

    fn handle(&mut self, event: Event) {
        let (kind, place) = event.place();
        if let Some(incarnation) = event.incarnation()
            && self.nodes.get(place).is_none_or(|node| node.incarnation != incarnation)
        {
            return;
        }
        if kind <= 13
            && let Some(held) = self.nodes[place].paused.as_mut()
        {
            return held.push(event);
        }
        self.trace.event(self.now, kind, place, (0, 0));
        self.dispatch(event);
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Reach { from, to, packet } => self.reach(from, to, packet),
            Event::Arrive { from, to, packet } => self.arrive(from, to, packet),
            Event::Checked { node, from, packet, .. } => self.checked(node, from, packet),
            Event::Turn { node, .. } => self.turn_now(node),
            Event::Act { node, actions, .. } => self.act_all(node, &actions),
            Event::Timer { node, epoch, timer, .. } => self.fire(node, epoch, timer),
            Event::Execute { node, .. } => {
                if let Some(live) = self.nodes[node].live.as_mut() {
                    live.execution_planned = false;
                }
                self.execute_next(node);
            }
            Event::Executed { node, input, .. } => {
                self.hand(node, None, *input);
                self.execute_next(node);
            }
            Event::CheckLater { node, task, .. } => self.plan_task(node, *task),
            Event::SyncState { node, .. } => self.sync_state(node),
            Event::Forward { node, .. } => self.forward(node),
            Event::Tick { node, .. } => self.tick(node),
            Event::Unanswered { node, request, .. } => self.unanswered(node, request),
            Event::Rebuild { node, from, compact, tries, .. } => self.rebuild(node, from, &compact, tries),
            Event::Misbehave { node } => self.misbehave(node),
            Event::Late { from, to, packet } => self.send_now(from, to, packet),
            Event::Begin { perturbation } => self.begin(perturbation),
            Event::End { perturbation } => self.end(perturbation),
            Event::Restart { node } => self.start(node),
            Event::Submit => self.submit_next(),
            Event::Retry { transaction } => self.retry(transaction),
            Event::Govern => self.govern(),
        }
    }

    /// Something happens at `at`, or at once when that is over.
    pub(crate) fn plan(&mut self, at: u64, event: Event) {
        self.queue.push(at.max(self.now), event);
    }

    /// Sends over the link between two nodes.
    pub(crate) fn send_now(&mut self, from: usize, to: usize, packet: Packet) {
        let bytes = self.bytes_of(&packet);
        self.record.sent(from, packet.kind(), bytes);
        let arrivals = self.network.send(&mut self.rng, self.now, (from, to), bytes, packet.is_hot());
        let narrow = self.manifest.net.bandwidth.is_limited();
        for at in arrivals.into_iter().flatten() {
            let packet = packet.clone();
            let event =
                if narrow { Event::Reach { from, to, packet } } else { Event::Arrive { from, to, packet } };
            self.plan(at, event);
        }
    }

    /// A packet has come to the line of its receiver, and goes through it.
    fn reach(&mut self, from: usize, to: usize, packet: Packet) {
        let at = self.network.take_in(self.now, to, self.bytes_of(&packet), packet.is_hot());
        self.plan(at, Event::Arrive { from, to, packet });
    }

    /// Bytes on the wire, with certificates as the manifest wants them.
    fn bytes_of(&self, packet: &Packet) -> u64 {
        match (self.manifest.net.certificates, packet) {
            (crate::manifest::Certificates::Reference, Packet::Message(sealed)) => {
                sealed.bytes_by_reference()
            }
            (crate::manifest::Certificates::Reference, Packet::Compact(compact)) => {
                compact.bytes_by_reference()
            }
            _ => packet.bytes(),
        }
    }

    /// Two nodes find each other again.
    pub(crate) fn connect(&mut self, a: usize, b: usize) {
        let linked = self.network.passes(a, b) && self.network.passes(b, a);
        if a == b || !linked || self.nodes[a].live.is_none() || self.nodes[b].live.is_none() {
            return;
        }
        for (at, peer) in [(a, b), (b, a)] {
            let fresh = self.nodes[at].live.as_mut().is_some_and(|live| live.linked.insert(peer));
            if fresh {
                // Validators ask each other for blocks over the mesh; where a chain stands is asked outside of it.
                // Whoever was away for an epoch may have no link of the mesh left.
                let polled = self.manifest.epochs.is_some() || !self.meshed(at, peer);
                self.told(at, cairn_catchup::Input::Connected { peer, polled });
            }
            if let (Some(me), Some(index)) = (self.me(at), self.index_at(at, peer))
                && me != index
            {
                self.hand(at, None, cairn_consensus::Input::Connected(index));
            }
        }
    }

    /// What a node's clock says, Unix ms.
    pub(crate) fn clock_ms(&self, node: usize) -> u64 {
        let micros = (START_MS * 1_000 + self.now).saturating_add_signed(self.nodes[node].clock_us);
        micros / 1_000
    }

    /// Ends the run: something happened that must never happen.
    pub(crate) fn violate(&mut self, invariant: Invariant, what: String) {
        let violation = Violation { invariant, at_us: self.now, what };
        self.transcript.end(&violation.to_string());
        self.violation.get_or_insert(violation);
    }

    /// A line of the transcript.
    pub(crate) fn note(&self, text: impl FnOnce() -> String) {
        self.transcript.line(self.now, text);
    }

    /// `v2` for validator 2, `v2'` for its second instance, `f5` for a follower.
    pub(crate) fn name(&self, node: usize) -> String {
        match self.nodes[node].holder {
            Some(holder) if node == holder => format!("v{holder}"),
            Some(holder) => format!("v{holder}'"),
            None => format!("f{node}"),
        }
    }

    /// Honest nodes that run, and have a chance to: not paused, not stopped for good.
    pub(crate) fn honest(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].honest)
    }

    /// The height that a node has committed.
    pub(crate) fn height_of(&self, node: usize) -> Height {
        let live = self.nodes[node].live.as_ref();
        live.map_or(Height::ZERO, |live| live.ledger.tip(&self.world, &self.nodes[node].disk).1.height)
    }
}
