//! A node's executor: one task after another, each with its price in virtual time.

use std::rc::Rc;
use std::sync::Arc;

use cairn_consensus::{BlockVerdict, EpochEnd, Input};
use cairn_mempool::JUDGED_MAX;
use cairn_state::StateError;
use cairn_types::{Block, CertifiedBlock, Payload, SignedTransaction, Slot, TxId};

use crate::cluster::Cluster;
use crate::events::Event;
use crate::invariants::Invariant;
use crate::ledger::How;
use crate::packet::{Packet, Sealed};

/// Pause between a commit and the sync of the state, as in a node.
const SYNC_STATE_AFTER_US: u64 = 250_000;

/// Something for the executor to do.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    /// Build and execute a block for this slot.
    Build(Slot),
    /// Execute a block on its parent and compare its roots.
    Check { block: Arc<Block>, lag_exponent: u32 },
    /// Make these blocks final.
    Commit(Vec<CertifiedBlock>),
    /// Make these blocks final, and with them the end of their epoch.
    EndEpoch(EpochEnd),
}

impl Cluster {
    /// Puts a task in the node's queue.
    pub(crate) fn plan_task(&mut self, node: usize, task: Task) {
        let Some(live) = self.nodes[node].live.as_mut() else { return };
        live.tasks.push_back(task);
        self.execute_next(node);
    }

    /// Works off tasks as long as the executor is free.
    pub(crate) fn execute_next(&mut self, node: usize) {
        loop {
            let (now, incarnation) = (self.now, self.nodes[node].incarnation);
            let Some(live) = self.nodes[node].live.as_mut() else { return };
            if live.tasks.is_empty() || live.execution_planned {
                return;
            }
            if live.executing_until > now {
                live.execution_planned = true;
                let at = live.executing_until;
                return self.plan(at, Event::Execute { node, incarnation });
            }
            let Some(task) = live.tasks.pop_front() else { return };
            let outcome = match task {
                Task::Build(slot) => self.build(node, slot),
                Task::Check { block, lag_exponent } => self.check(node, &block, lag_exponent),
                Task::Commit(blocks) => self.commit(node, &blocks, How::Buffered, false),
                Task::EndEpoch(end) => {
                    let outcome = self.end_epoch(node, &end, false);
                    if outcome.is_ok() {
                        self.moved_on(node);
                    }
                    outcome
                }
            };
            if let Err(error) = outcome {
                return self.state_failed(node, &error);
            }
        }
    }

    /// The state cannot go on: fine for a disk that is full, a violation otherwise.
    fn state_failed(&mut self, node: usize, error: &StateError) {
        if self.nodes[node].disk_full {
            return self.halt(node, &format!("the state cannot be written: {error}"));
        }
        if self.nodes[node].honest {
            let what = format!("{} cannot go on with its state: {error}", self.name(node));
            self.violate(Invariant::NoFalseBlame, what);
        } else {
            self.halt(node, &error.to_string());
        }
    }

    /// Charges the executor, and gives the answer when it is through.
    fn answer(&mut self, node: usize, cost: u64, input: Input) {
        let (now, incarnation) = (self.now, self.nodes[node].incarnation);
        let Some(live) = self.nodes[node].live.as_mut() else { return };
        if cost == 0 {
            live.inbox.push_back((None, input));
            return self.wake(node);
        }
        live.executing_until = now + cost;
        self.plan(now + cost, Event::Executed { node, incarnation, input: Box::new(input) });
    }

    fn build(&mut self, node: usize, slot: Slot) -> Result<(), StateError> {
        let clock = self.clock_ms(node);
        let price = self.manifest.cpu.execute.0;
        let Some(live) = self.nodes[node].live.as_mut() else { return Ok(()) };
        let bytes_max = live.in_force.regime.params.block_bytes_max as usize;
        let Some(parent) = live.ledger.header_of(&slot.parent) else {
            self.answer(node, 0, Input::PayloadFailed { view: slot.view });
            return Ok(());
        };
        let time_ms = clock.max(parent.time_ms + 1);
        let carried = live.carried.up_to(slot.parent);
        let candidates = live.pool.select(bytes_max, time_ms, &carried);
        let mut dropped = false;
        let (cost, input) = match live.ledger.build(slot, time_ms, candidates) {
            Ok(built) => {
                let hopeless = built.refused.iter().filter(|(_, refusal)| !refusal.may_pass_later());
                let hopeless: Vec<TxId> = hopeless.map(|(id, _)| *id).collect();
                live.pool.remove(&hopeless);
                dropped = !hopeless.is_empty();
                live.carried.insert(&built.block);
                let cost = built.block.transactions().len() as u64 * price;
                self.trace.learn(&built.block);
                (cost, Input::PayloadReady { view: slot.view, block: built.block })
            }
            Err(StateError::UnknownParent { .. } | StateError::TooManyUncommitted { .. }) => {
                (0, Input::PayloadFailed { view: slot.view })
            }
            Err(error) => return Err(error),
        };
        if dropped {
            self.tell_work(node);
        }
        self.answer(node, cost, input);
        Ok(())
    }

    fn check(&mut self, node: usize, block: &Arc<Block>, lag_exponent: u32) -> Result<(), StateError> {
        let (clock, params, price) =
            (self.clock_ms(node), self.regime_of(node).params, self.manifest.cpu.execute.0);
        let (now, incarnation, id) = (self.now, self.nodes[node].incarnation, block.id());
        let time = block.header().time_ms;
        let early = time.saturating_sub(clock).saturating_sub(params.drift_ms);
        if early > params.timeout_cap_ms {
            self.answer(node, 0, Input::BlockChecked { id, verdict: BlockVerdict::Unjudged });
            return Ok(());
        }
        if early > 0 {
            let task = Box::new(Task::Check { block: Arc::clone(block), lag_exponent });
            self.plan(now + early * 1_000, Event::CheckLater { node, incarnation, task });
            return Ok(());
        }
        let Some(live) = self.nodes[node].live.as_mut() else { return Ok(()) };
        // Sibling transactions unknown to the pool are checked here; the pool's were checked on arrival.
        let fresh =
            block.transactions().iter().filter(|tx| !live.pool.contains(&tx.transaction.id())).count();
        let mut verdict = live.ledger.check(&self.world, block)?;
        if verdict == BlockVerdict::Valid {
            live.carried.insert(block);
            if params.too_old(time, clock, lag_exponent) {
                verdict = BlockVerdict::TooOld;
            }
        }
        let cores = u64::from(self.manifest.cpu.cores.max(1));
        let verify = fresh as u64 * self.manifest.cpu.verify.0 / cores;
        let cost = block.transactions().len() as u64 * price + verify;
        if verdict == BlockVerdict::Invalid {
            let name = self.name(node);
            self.note(|| format!("{name}: block {} is INVALID", crate::transcript::short(id)));
        }
        self.answer(node, cost, Input::BlockChecked { id, verdict });
        Ok(())
    }

    /// Makes blocks final and tells everyone concerned. Fetched ones are synced at once, the others are in the
    /// journal's block log until the state is.
    pub(crate) fn commit(
        &mut self,
        node: usize,
        blocks: &[CertifiedBlock],
        how: How<'_>,
        fetched: bool,
    ) -> Result<(), StateError> {
        let name = self.name(node);
        if self.nodes[node].honest {
            for certified in blocks {
                if let Err((invariant, what)) = self.checks.committed(&self.world, &name, certified) {
                    self.violate(invariant, what);
                    return Ok(());
                }
            }
        }
        let clock = self.clock_ms(node);
        let Node { live: Some(live), disk, incarnation, .. } = &mut self.nodes[node] else { return Ok(()) };
        let incarnation = *incarnation;
        let landed = live.ledger.commit(disk, blocks, how)?;
        for block in &landed {
            live.pool.remove(&block.transactions);
            live.carried.committed(block.height);
        }
        let lapsed = live.ledger.look(|state| state.lapsed(live.pool.oldest(JUDGED_MAX).cloned(), clock));
        live.pool.remove(lapsed.iter().map(|(id, _)| id));
        let buffered = matches!(how, How::Buffered);
        let plan_sync = buffered && !std::mem::replace(&mut live.state_sync_planned, true);
        if plan_sync {
            self.plan(self.now + SYNC_STATE_AFTER_US, Event::SyncState { node, incarnation });
        }
        for block in &landed {
            self.landed(node, block);
        }
        for certified in blocks {
            self.trace.learn(&certified.block);
            self.note_committed(node, certified);
            self.record.committed(&self.world, self.now, self.nodes[node].honest, certified);
            let governs =
                |tx: &Arc<SignedTransaction>| matches!(tx.transaction.payload, Payload::Governance(_));
            if certified.block.transactions().iter().any(governs) {
                self.governed();
            }
            if !fetched {
                self.announce(node, certified);
            }
        }
        self.look_at_bounds(node);
        self.tell_work(node);
        if buffered {
            self.moved_on(node);
        }
        Ok(())
    }

    /// The proposer tells those outside the mesh that its block is final.
    fn announce(&mut self, node: usize, certified: &CertifiedBlock) {
        let header = certified.block.header();
        let part = self.nodes[node].live.as_ref().map(|live| &live.in_force);
        let ours =
            part.is_some_and(|part| part.me == Some(header.proposer) && part.regime.number() == header.epoch);
        if !ours || certified.certificate.block != certified.block.id() {
            return;
        }
        for to in 0..self.nodes.len() {
            if !self.meshed(node, to) {
                let news = (header.clone(), Arc::clone(&certified.certificate));
                self.send(node, to, Packet::Announcement(Rc::new(news)));
            }
        }
    }

    /// Puts committed blocks on disk, and lets the journal forget their bodies.
    pub(crate) fn sync_state(&mut self, node: usize) {
        let Node { live: Some(live), disk, .. } = &mut self.nodes[node] else { return };
        live.state_sync_planned = false;
        match live.ledger.sync(disk) {
            Ok(height) => {
                if let Some(journal) = live.journal.as_mut() {
                    journal.prune(height);
                }
            }
            Err(error) => self.state_failed(node, &error),
        }
    }

    /// A message sealed with the node's key, verified for all receivers at once.
    pub(crate) fn seal(&mut self, node: usize, outgoing: cairn_consensus::Outgoing) -> Rc<Sealed> {
        let part = self.nodes[node].live.as_ref().map(|live| &live.voting);
        let message = self.world.seal(part, outgoing);
        Sealed::new(&self.world, message, self.manifest.cpu.verify.0 > 0)
    }
}

use crate::node::Node;
