//! A node's loop in virtual time: what `cairn-node` does around its replica, with the same rules.

use std::rc::Rc;
use std::sync::Arc;

use cairn_consensus::{Action, Blame, Equivocation, Input, Outgoing, Step, Timer};
use cairn_crypto::Certificate;
use cairn_types::{BlockCert, Epoch, Message, ValidatorIndex, View};
use rand::Rng;

use crate::cluster::Cluster;
use crate::disk::Store;
use crate::events::Event;
use crate::executor::Task;
use crate::invariants::Invariant;
use crate::manifest::Unsynced;
use crate::node::Node;
use crate::packet::{Packet, Sealed};

/// Inputs taken in one turn, as in a node.
const TURN_INPUTS_MAX: usize = 256;
/// Inputs that wait while the loop is at work, as in a node.
const INPUTS_MAX: usize = 8_192;
/// Views behind the current one in which a bare vote may still complete a certificate.
const VIEWS_BEHIND: u64 = 1;
/// Views ahead of the current one that are looked at.
const VIEWS_AHEAD: u64 = 8;
/// Disk operations ahead at which a crash in the middle of a write strikes, at most.
const CRASH_OPERATIONS_MAX: u64 = 6;
/// How long a node that crashed at a durable step stays away, microseconds.
const CRASH_DOWN_US: std::ops::Range<u64> = 50_000..3_000_000;

impl Cluster {
    /// Gives a node's replica something, now or when its loop is free.
    pub(crate) fn hand(&mut self, node: usize, from: Option<usize>, input: Input) {
        let Some(live) = self.nodes[node].live.as_mut() else { return };
        if live.inbox.len() < INPUTS_MAX {
            live.inbox.push_back((from, input));
        }
        self.wake(node);
    }

    /// Takes the next turn at once when the loop is free, or plans it.
    pub(crate) fn wake(&mut self, node: usize) {
        let (now, incarnation) = (self.now, self.nodes[node].incarnation);
        let Some(live) = self.nodes[node].live.as_mut() else { return };
        if live.turn_planned || (live.inbox.is_empty() && !live.turning) {
            return;
        }
        live.turn_planned = true;
        let at = live.busy_until.max(now);
        self.plan(at, Event::Turn { node, incarnation });
    }

    /// One turn: whatever waits is stepped through, made durable with one sync, and only then acted upon.
    pub(crate) fn turn_now(&mut self, node: usize) {
        let Some(live) = self.nodes[node].live.as_mut() else { return };
        live.turn_planned = false;
        let turns = live.turning;
        if turns {
            self.begin_replica(node);
        }
        let before = self.nodes[node].live.as_ref().map(|live| (live.replica.epoch(), live.replica.view()));
        let Some(live) = self.nodes[node].live.as_mut() else { return };
        let count = live.inbox.len().min(TURN_INPUTS_MAX);
        let inputs: Vec<_> = live.inbox.drain(..count).collect();
        let mut step = Step::default();
        for (from, input) in inputs {
            let Some(live) = self.nodes[node].live.as_mut() else { return };
            match live.replica.step(input) {
                Ok(next) => step.merge(next),
                Err(reject) if reject.blame() == Blame::Peer => self.blamed(node, from, &reject.to_string()),
                Err(_) => {}
            }
        }
        let Some(cost) = self.make_durable(node, step) else { return };
        let (actions, cost) = cost;
        self.note_view(node, before);
        let incarnation = self.nodes[node].incarnation;
        let now = self.now;
        let Some(live) = self.nodes[node].live.as_mut() else { return };
        if cost == 0 {
            self.act_all(node, &actions);
        } else {
            live.busy_until = now + cost;
            self.plan(now + cost, Event::Act { node, incarnation, actions: Rc::new(actions) });
        }
        // Otherwise the pool says when it has changed.
        if self.nodes[node]
            .live
            .as_ref()
            .is_some_and(|live| turns || live.replica.high_qc().block() != live.told.1)
        {
            self.tell_work(node);
        }
        self.wake(node);
    }

    /// Syncs what a turn decided; gives its actions and what syncing and signing cost. `None` when the node is
    /// gone.
    fn make_durable(&mut self, node: usize, step: Step) -> Option<(Vec<Action>, u64)> {
        // The disk fails somewhere in the middle of the write, or just after it.
        let crash = self.fails_at_a_step(node);
        let syncs = self.nodes[node].disk.journal.syncs();
        let Node { live: Some(live), disk, .. } = &mut self.nodes[node] else { return None };
        let mut store =
            Store { journal: live.journal.as_mut(), acknowledged: &mut disk.acknowledged, regression: None };
        let outcome = step.commit_to(&mut store);
        let regression = store.regression;
        let syncs = disk.journal.syncs() - syncs;
        self.record.syncs += syncs;
        if let Some(what) = regression.filter(|_| self.nodes[node].honest) {
            let what = format!("{}: {what}", self.name(node));
            self.violate(Invariant::NothingBack, what);
            return None;
        }
        match outcome {
            Ok(_) if crash => {
                self.crash_now(node, Unsynced::Any); // synced, nothing sent
                None
            }
            Ok(actions) => {
                let signed = actions.iter().filter(|action| is_signed(action)).count() as u64;
                let cpu = &self.manifest.cpu;
                let Node { live: Some(live), disk, signed_view, .. } = &mut self.nodes[node] else {
                    return None;
                };
                if disk.acknowledged.epoch == live.in_force.regime.number() {
                    *signed_view = (*signed_view).max(disk.acknowledged.highest_signed());
                }
                Some((actions, syncs * cpu.sync.0 + signed * cpu.sign.0))
            }
            Err(error) => {
                self.write_failed(node, crash, &error.to_string());
                None
            }
        }
    }

    pub(crate) fn write_failed(&mut self, node: usize, crash: bool, error: &str) {
        if crash {
            return self.crash_now(node, Unsynced::Any);
        }
        if self.ongoing.crash_at_write(node) {
            return self.crash_now(node, self.ongoing.unsynced(node));
        }
        if !self.nodes[node].disk_full && self.nodes[node].honest {
            let what = format!("{}'s journal refuses a write: {error}", self.name(node));
            return self.violate(Invariant::NoFalseBlame, what);
        }
        self.halt(
            node,
            &format!("the safety journal cannot be written, so nothing more may be signed: {error}"),
        );
    }

    fn crashes_now(&mut self, node: usize) -> bool {
        let chance = self.nodes[node].crashes;
        chance > 0.0 && self.rng.random_bool(chance)
    }

    /// Whether a node is to crash at this durable step; its disk is set to fail somewhere in it then.
    pub(crate) fn fails_at_a_step(&mut self, node: usize) -> bool {
        let crash = self.crashes_now(node);
        if crash {
            let operation = self.rng.random_range(0..CRASH_OPERATIONS_MAX);
            self.nodes[node].disk.journal.fail_at(operation);
        }
        crash
    }

    pub(crate) fn crash_now(&mut self, node: usize, unsynced: Unsynced) {
        self.crash(node, unsynced);
        let down = self.rng.random_range(CRASH_DOWN_US);
        self.plan(self.now + down, Event::Restart { node });
    }

    fn blamed(&mut self, node: usize, from: Option<usize>, why: &str) {
        let honest = from.is_none_or(|from| self.nodes[from].honest) && self.nodes[node].honest;
        if honest {
            let from = from.map_or("itself".to_owned(), |from| self.name(from));
            let what = format!("{} blames {from}: {why}", self.name(node));
            self.violate(Invariant::NoFalseBlame, what);
        }
    }

    /// Carries out what became durable, in order.
    pub(crate) fn act_all(&mut self, node: usize, actions: &[Action]) {
        let incarnation = self.nodes[node].incarnation;
        for action in actions {
            if self.nodes[node].incarnation != incarnation || self.violation.is_some() {
                return;
            }
            if self.nodes[node].crashes > 0.0 && self.crashes_now(node) {
                return self.crash_now(node, Unsynced::Any); // only some of it was sent
            }
            self.act(node, action.clone());
        }
        self.wake(node);
    }

    fn act(&mut self, node: usize, action: Action) {
        let incarnation = self.nodes[node].incarnation;
        match action {
            Action::Broadcast(outgoing) => self.broadcast(node, outgoing),
            Action::Send(index, outgoing) => {
                let Some(live) = self.nodes[node].live.as_ref() else { return };
                let regime = Rc::clone(&live.voting.regime);
                if let Some(sealed) = self.sealed(node, outgoing) {
                    let to = self.nodes_of(&regime, index);
                    self.send_as_role(node, to, sealed);
                }
            }
            Action::RequestPayload(slot) => self.plan_task(node, Task::Build(slot)),
            Action::CheckBlock { block, lag_exponent } => {
                self.plan_task(node, Task::Check { block, lag_exponent });
            }
            Action::FetchBlock { id, from } => self.fetch(node, id, &from),
            Action::CatchUp(goal) => self.catch_up(node, goal.to, None),
            Action::SetTimer { timer, after } => {
                let Some(live) = self.nodes[node].live.as_mut() else { return };
                live.timers.insert(timer.kind, timer.generation);
                let epoch = live.replica.epoch();
                let after = u64::try_from(after.as_micros()).unwrap_or(u64::MAX / 2);
                self.plan(self.now + after, Event::Timer { node, incarnation, epoch, timer });
            }
            Action::Commit(blocks) => self.plan_task(node, Task::Commit(blocks)),
            Action::EndEpoch(end) if self.manifest.epochs.is_none() => {
                let what =
                    format!("{} ends epoch {}, which nothing asked for", self.name(node), end.proof.epoch());
                self.violate(Invariant::OneBlock, what);
            }
            Action::EndEpoch(end) => self.plan_task(node, Task::EndEpoch(end)),
            Action::Formed(formed) => self.formed(node, &formed),
            Action::Accuse(accusation) => self.accused(node, &accusation),
            Action::Halt(fatal) => {
                if self.nodes[node].honest {
                    let what = format!("{} stops: {fatal}", self.name(node));
                    return self.violate(Invariant::OneBlock, what);
                }
                self.halt(node, &fatal.to_string());
            }
        }
    }

    fn accused(&mut self, node: usize, accusation: &Equivocation) {
        let Some(live) = self.nodes[node].live.as_ref() else { return };
        let regime = Rc::clone(&live.voting.regime);
        let accused = self.nodes_of(&regime, accusation.validator());
        self.checks.accusations += 1;
        if accused.iter().any(|accused| self.nodes[*accused].honest) {
            let what = format!("{} accuses an honest validator: {accusation:?}", self.name(node));
            return self.violate(Invariant::NoFalseBlame, what);
        }
        self.bring_evidence(node, accusation);
    }

    fn broadcast(&mut self, node: usize, outgoing: Outgoing) {
        if self.me(node).is_none() {
            return;
        }
        let signed = outgoing.preimage(self.world.chain).is_some();
        let Some(sealed) = self.sealed(node, outgoing) else { return };
        let to: Vec<usize> =
            (0..self.nodes.len()).filter(|to| *to != node && self.admits(node, *to)).collect();
        let packet = self.broadcasting(node, &sealed);
        self.send_packet_as_role(node, to, &sealed, &packet);
        if signed && let Some(input) = sealed.inputs.last() {
            let input = input.clone();
            if let Some(live) = self.nodes[node].live.as_mut() {
                let _ = live.unknown(&sealed.signatures); // our own need no checking
            }
            self.hand(node, None, input);
        }
    }

    /// The finished message, looked at before it leaves.
    fn sealed(&mut self, node: usize, outgoing: Outgoing) -> Option<Rc<Sealed>> {
        if let Node { holder: Some(holder), honest: true, disk, live: Some(live), .. } = &self.nodes[node] {
            let signer = (*holder, &live.voting);
            if let Err((invariant, what)) =
                self.checks.signed(&self.world, signer, &outgoing, &disk.acknowledged)
            {
                self.violate(invariant, what);
                return None;
            }
        }
        self.note_sent(node, &outgoing);
        let sealed = self.seal(node, outgoing);
        if let Message::Proposal(proposal) = &sealed.message {
            self.trace.learn(&proposal.block);
            let header = proposal.block.header();
            if header.ends_epoch() {
                self.at_boundary(header.epoch);
            }
        }
        self.record.said(self.now, self.nodes[node].holder, &sealed);
        Some(sealed)
    }

    fn formed(&mut self, node: usize, formed: &cairn_consensus::Formed) {
        if let cairn_consensus::Formed::Timeout(certificate) = formed {
            self.record.timed_out(self.now, certificate.epoch, certificate.view);
        }
        let _ = node;
    }

    /// A timer runs out, unless it was set anew.
    pub(crate) fn fire(&mut self, node: usize, epoch: Epoch, timer: Timer) {
        let Some(live) = self.nodes[node].live.as_ref() else { return };
        if live.replica.epoch() == epoch && live.timers.get(&timer.kind) == Some(&timer.generation) {
            self.hand(node, None, Input::TimerFired(timer));
        }
    }

    /// A packet comes in: consensus messages wait for their signatures to be checked.
    pub(crate) fn arrive(&mut self, from: usize, to: usize, packet: Packet) {
        self.trace.packet(&packet);
        let (now, incarnation) = (self.now, self.nodes[to].incarnation);
        let cpu = self.manifest.cpu;
        let Some(live) = self.nodes[to].live.as_mut() else { return };
        let fresh = match &packet {
            Packet::Message(sealed) => live.unknown(&sealed.signatures),
            Packet::Compact(compact) => live.unknown(&compact.sealed.signatures),
            Packet::Reply(reply) => reply.proposal().map_or(0, |sealed| live.unknown(&sealed.signatures)),
            Packet::Transactions(list, _) if cpu.verify.0 > 0 => {
                let known =
                    |tx: &&Arc<cairn_types::SignedTransaction>| !live.pool.contains(&tx.transaction.id());
                list.iter().filter(known).count() as u64
            }
            _ => 0,
        };
        self.record.verified += fresh;
        let cost = fresh * cpu.verify.0 / u64::from(cpu.cores.max(1));
        if cost == 0 {
            return self.checked(to, from, packet);
        }
        let hot = packet.is_hot();
        let free = &mut live.verifying;
        let done = if hot { free[0].max(now) + cost } else { free[0].max(free[1]).max(now) + cost };
        if hot {
            free[0] = done;
        } else {
            free[1] = done;
        }
        self.plan(done, Event::Checked { node: to, incarnation, from, packet });
    }

    /// A packet whose signatures were checked.
    pub(crate) fn checked(&mut self, node: usize, from: usize, packet: Packet) {
        match packet {
            Packet::Message(sealed) => self.hear(node, from, &sealed),
            Packet::Compact(compact) => self.rebuild(node, from, &compact, 0),
            Packet::Lacking(lacking) => self.complete(node, from, lacking),
            Packet::Bodies(lacking) => self.completed(node, from, &lacking),
            Packet::Transactions(list, _) => self.receive_transactions(node, &list),
            Packet::Ask(asked) => self.serve(node, from, *asked),
            Packet::Reply(reply) => self.answered(node, from, &reply),
            Packet::Announcement(news) => self.announced(node, from, &news.0, Arc::clone(&news.1)),
        }
    }

    pub(crate) fn hear(&mut self, node: usize, from: usize, sealed: &Rc<Sealed>) {
        // Of those with a validator key, the mesh has links only to whom its sets name; others follow without.
        let stranger = self.nodes[from].holder.is_some() && !self.admits(node, from);
        let status = matches!(sealed.message, Message::Status(_));
        if (stranger && !status) || self.answer_across(node, from, sealed) {
            return;
        }
        if let Some(fault) = &sealed.fault {
            if self.nodes[from].honest {
                let what = format!("{} sends what does not verify: {fault}", self.name(from));
                return self.violate(Invariant::NoFalseBlame, what);
            }
            self.record.refused += 1;
        }
        if self.signs_elsewhere(node, sealed) {
            return;
        }
        self.overhear(node, sealed);
        let Some(live) = self.nodes[node].live.as_ref() else { return };
        match &sealed.message {
            Message::Status(status) => {
                let status = *status;
                match self.index_at(node, from) {
                    Some(index) => self.hand(node, Some(from), Input::Status { from: index, status }),
                    None => self.answer_follower(node, from, &status),
                }
            }
            Message::Vote(_) | Message::CommitVote(_)
                if !in_window(live.replica.view(), sealed.message.view()) => {}
            _ => {
                for input in &sealed.inputs {
                    self.hand(node, Some(from), input.clone());
                }
            }
        }
    }

    fn answer_follower(&mut self, node: usize, from: usize, status: &cairn_types::Status) {
        let Some(live) = self.nodes[node].live.as_ref() else { return };
        for outgoing in live.replica.answer_to(status) {
            let sealed = self.seal(node, outgoing);
            self.send_as_role(node, vec![from], sealed);
        }
    }

    /// Whether this message shows the node's own key signing beyond what its journal knows. The node stops then.
    fn signs_elsewhere(&mut self, node: usize, sealed: &Sealed) -> bool {
        let part = self.nodes[node].live.as_ref().map(|live| &live.in_force);
        let Some(me) = part.and_then(|part| part.me) else { return false };
        if self.nodes[node].role.as_ref().is_some_and(|role| role.has_two_instances()) {
            return false;
        }
        let signed_view = self.nodes[node].signed_view;
        let own = sealed.signer().is_some_and(|(signer, view)| signer == me && view > signed_view);
        let verified = sealed.fault.is_none();
        let carried =
            || Certificate::of(&sealed.message).iter().any(|certificate| names(certificate, me, signed_view));
        if !verified || !(own || carried()) {
            return false;
        }
        let why = "its key has signed beyond what its journal knows".to_owned();
        if self.nodes[node].honest {
            let what = format!("{}: {why}", self.name(node));
            self.violate(Invariant::OneSignature, what);
        } else {
            self.record.refused_to_sign += 1;
            self.halt(node, &why);
            self.nodes[node].refuses = Some(why);
        }
        true
    }

    /// Tells the replica about work when the answer, or the block it is about, has changed.
    pub(crate) fn tell_work(&mut self, node: usize) {
        let Some(live) = self.nodes[node].live.as_mut() else { return };
        let tip = live.replica.high_qc().block();
        let waiting = live.pool.stats().transactions;
        let carried = if waiting == 0 { Default::default() } else { live.carried.up_to(tip) };
        let work =
            waiting > carried.len() || waiting > carried.iter().filter(|id| live.pool.contains(id)).count();
        let known = live.told.0 && live.told.1 == tip;
        live.told = (work, tip);
        if work != known {
            self.hand(node, None, Input::Work(work));
        }
    }
}

const fn in_window(current: View, view: View) -> bool {
    view.get().saturating_add(VIEWS_BEHIND) >= current.get()
        && view.get() <= current.get().saturating_add(VIEWS_AHEAD)
}

/// Whether a certificate above `signed_view` holds this validator's signature.
fn names(certificate: &Certificate, me: ValidatorIndex, signed_view: View) -> bool {
    let (view, mut signers): (View, Box<dyn Iterator<Item = ValidatorIndex>>) = match certificate {
        Certificate::Block(BlockCert::Root { .. }) => return false,
        Certificate::Block(BlockCert::Quorum(it)) => (it.view, Box::new(it.signer_indexes())),
        Certificate::Block(BlockCert::Commit(it)) => (it.view, Box::new(it.signer_indexes())),
        Certificate::Timeout(it) => (it.view, Box::new(it.entries.iter().map(|entry| entry.validator))),
        Certificate::Commit(it) => (it.view, Box::new(it.signer_indexes())),
    };
    view > signed_view && signers.any(|signer| signer == me)
}

const fn is_signed(action: &Action) -> bool {
    matches!(
        action,
        Action::Broadcast(
            Outgoing::Proposal { .. }
                | Outgoing::Vote { .. }
                | Outgoing::CommitVote { .. }
                | Outgoing::Timeout { .. }
        )
    )
}
