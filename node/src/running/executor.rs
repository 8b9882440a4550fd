//! The executor: one thread that owns every write to `state`. Consensus asks, it answers as inputs.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_consensus::{BlockVerdict, EpochEnd, Input};
use cairn_crypto::{Resolved, TransactionFault};
use cairn_mempool::JUDGED_MAX;
use cairn_p2p::Command;
use cairn_rpc::Fault;
use cairn_state::{BlockFault, Built, Committed, Intake, State, StateError, TxRefusal};
use cairn_testnet::rehearsal::Point;
use cairn_types::{
    AuthenticatedTx, Block, BlockId, CertifiedBlock, Header, SignedTransaction, Slot, TxId, Verified, encode,
};
use rayon::prelude::*;
use thiserror::Error;
use tokio::sync::mpsc;

use super::clock::now_ms;
use super::context::Context;
use super::epoch::{CannotBegin, EpochInForce};
use super::faults::fault_of_refusal;
use super::stages::{Moment, Stage};
use super::task::Task;
use super::transactions::CHECKED_TOGETHER;
use super::wire::Announcement;
use crate::exit::Exit;

/// Transactions whose signatures are worth waking other threads for: half a millisecond.
const PARALLEL_MIN: usize = 64;

/// Why a proposed block gets no vote.
#[derive(Debug, Error)]
enum Unfit {
    #[error(transparent)]
    Block(#[from] BlockFault),
    #[error("transaction {index}: {fault}")]
    Signature { index: usize, fault: TransactionFault },
}

impl Unfit {
    fn blames_proposer(&self) -> bool {
        match self {
            Self::Block(fault) => fault.blames_proposer(),
            Self::Signature { .. } => true,
        }
    }
}

/// The executor's thread.
pub(crate) struct Executor {
    context: Arc<Context>,
    verifiers: rayon::ThreadPool,
}

impl Executor {
    /// An executor that checks the signatures of many unknown transactions at once on `verifiers`.
    pub(crate) fn new(context: Arc<Context>, verifiers: rayon::ThreadPool) -> Self {
        Self { context, verifiers }
    }

    /// Works until the queue is closed or the node stops.
    pub(crate) fn run(&self, mut tasks: mpsc::Receiver<Task>) {
        while let Some(task) = tasks.blocking_recv() {
            if self.context.shutdown.is_cancelled() {
                return;
            }
            let done = match task {
                Task::Build(slot) => self.build(slot),
                Task::Check { block, lag_exponent } => self.check(&block, lag_exponent),
                Task::Commit { blocks, backed: true } => self.commit(&blocks, State::commit_backed),
                Task::Commit { blocks, backed: false } => self.commit(&blocks, State::commit_buffered),
                Task::Apply(blocks, reply) => {
                    let outcome = self.commit(&blocks, State::commit);
                    // The asker may have been stopped; then nobody needs the answer.
                    let _ = reply.send(outcome.clone());
                    outcome
                }
                Task::EndEpoch(end, reply) => {
                    let outcome = self.end_epoch(&end);
                    if let Some(reply) = reply {
                        let _ = reply.send(outcome.clone());
                    }
                    outcome
                }
                Task::Adopt(intake, reply) => {
                    let outcome = self.adopt(*intake);
                    let _ = reply.send(outcome.clone());
                    match outcome {
                        // Blocks were quicker.
                        Err(StateError::BadSnapshot { .. }) => Ok(()),
                        outcome => outcome,
                    }
                }
                Task::Expire => {
                    self.expire();
                    Ok(())
                }
            };
            if let Err(error) = done {
                self.context.fail(format!("the state cannot go on: {error}"));
                return;
            }
        }
    }

    fn tell(&self, input: Input) {
        // The loop is gone only when the node stops.
        let _ = self.context.inputs.blocking_send(input);
    }

    fn build(&self, slot: Slot) -> Result<(), StateError> {
        let started = Instant::now();
        let context = &self.context;
        let Some(parent) = self.header_of(&slot)? else {
            self.tell(Input::PayloadFailed { view: slot.view });
            return Ok(());
        };
        let time_ms = now_ms().max(parent.time_ms.saturating_add(1));
        let carried = context.uncommitted.transactions_up_to(slot.parent);
        let bytes_max = context.epoch().params.block_bytes_max as usize;
        let candidates = context.pool.lock().select(bytes_max, time_ms, &carried);
        match context.state.build(slot, time_ms, candidates) {
            Ok(Built { block, refused }) => {
                if self.drop_refused(&refused) {
                    context.pool_changed.notify_one();
                }
                let ids = block.transactions().iter().map(|tx| tx.id()).collect();
                context.uncommitted.insert(&block, ids);
                context.stages.note(block.id(), Moment::Proposed);
                context.stages.note(block.id(), Moment::Executed);
                context.metrics.build.observe(started.elapsed().as_secs_f64());
                self.tell(Input::PayloadReady { view: slot.view, block });
                Ok(())
            }
            Err(error @ (StateError::UnknownParent { .. } | StateError::TooManyUncommitted { .. })) => {
                tracing::debug!(%error, view = %slot.view, "no block can be built now");
                self.tell(Input::PayloadFailed { view: slot.view });
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The header of the slot's parent, wherever it is held.
    fn header_of(&self, slot: &Slot) -> Result<Option<Header>, StateError> {
        if let Some(block) = self.context.state.uncommitted(&slot.parent) {
            return Ok(Some(block.header().clone()));
        }
        self.context.state.header_by_id(&slot.parent)
    }

    /// Drops those that no later block can hold; whether there were any.
    fn drop_refused(&self, refused: &[(TxId, TxRefusal)]) -> bool {
        let hopeless: Vec<_> = refused.iter().filter(|(_, refusal)| !refusal.may_pass_later()).collect();
        for (id, refusal) in &hopeless {
            self.context.pool.lock().remove(std::slice::from_ref(id));
            // A transaction that landed in the meantime is refused as replayed: good news, told at its commit.
            if !matches!(refusal, TxRefusal::Replayed { .. }) {
                self.context.waiters.tell(id, &Err(fault_of_refusal(refusal)));
            }
        }
        !hopeless.is_empty()
    }

    /// Drops what waits and can no longer land after what has become final. The pool is not held meanwhile.
    fn drop_lapsed(&self) {
        let ids: Vec<TxId> = self.context.pool.lock().oldest(JUDGED_MAX).iter().map(|tx| tx.id()).collect();
        let waiting = ids.iter().filter_map(|id| self.context.pool.lock().checked(id).cloned());
        let lapsed = self.context.state.lapsed(waiting, now_ms());
        self.drop_refused(&lapsed);
    }

    fn check(&self, block: &Arc<Block>, lag_exponent: u32) -> Result<(), StateError> {
        let epoch = self.context.epoch();
        if block.header().epoch != epoch.number() {
            // Asked for by a replica whose epoch has ended since.
            self.tell(Input::BlockChecked { id: block.id(), verdict: BlockVerdict::Unjudged });
            return Ok(());
        }
        let params = &epoch.params;
        let (now, time) = (now_ms(), block.header().time_ms);
        let ahead = time.saturating_sub(now);
        if ahead > params.drift_ms {
            self.check_later(block, lag_exponent, ahead - params.drift_ms);
            return Ok(());
        }
        let started = Instant::now();
        let verdict = match self.execute(block) {
            Ok(ids) => {
                self.context.stages.note(block.id(), Moment::Executed);
                self.context.uncommitted.insert(block, ids);
                if params.too_old(time, now, lag_exponent) {
                    BlockVerdict::TooOld
                } else {
                    BlockVerdict::Valid
                }
            }
            Err(fault) if fault.blames_proposer() => {
                self.context.metrics.blocks_refused.inc();
                tracing::warn!(block = %block.id(), height = %block.header().height, %fault, "refused a block");
                BlockVerdict::Invalid
            }
            Err(Unfit::Block(BlockFault::Unavailable(
                error @ (StateError::Storage(_) | StateError::Halted { .. }),
            ))) => return Err(error),
            Err(fault) => {
                // Its parent was pruned or is not executed yet.
                tracing::debug!(block = %block.id(), %fault, "a block cannot be judged now");
                BlockVerdict::Unjudged
            }
        };
        self.context.metrics.check.observe(started.elapsed().as_secs_f64());
        self.tell(Input::BlockChecked { id: block.id(), verdict });
        Ok(())
    }

    /// A block from the future is not refused: it waits until the drift allows it.
    fn check_later(&self, block: &Arc<Block>, lag_exponent: u32, after_ms: u64) {
        if after_ms > self.context.epoch().params.timeout_cap_ms {
            tracing::warn!(block = %block.id(), after_ms, "a block from the far future; check the clocks");
            return self.tell(Input::BlockChecked { id: block.id(), verdict: BlockVerdict::Unjudged });
        }
        let (executor, block) = (self.context.executor.clone(), Arc::clone(block));
        self.context.runtime.spawn(async move {
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            // Only a node that stops has no executor.
            let _ = executor.send(Task::Check { block, lag_exponent }).await;
        });
    }

    /// Verifies and executes a block; gives the ids of its transactions.
    fn execute(&self, block: &Arc<Block>) -> Result<Vec<TxId>, Unfit> {
        let verified = self.verify_transactions(block)?;
        self.context.state.check(block, &verified)?;
        Ok(verified.iter().map(|tx| tx.id).collect())
    }

    /// Every transaction of the block with its signatures checked: those that are pending here were checked
    /// when they came.
    fn verify_transactions(&self, block: &Block) -> Result<Vec<Verified<AuthenticatedTx>>, Unfit> {
        let transactions = block.transactions();
        let mut checked: Vec<Option<Verified<AuthenticatedTx>>> = {
            let pool = self.context.pool.lock();
            let known = |signed: &Arc<SignedTransaction>| {
                pool.checked(&signed.id()).filter(|tx| tx.signed == *signed)
            };
            transactions.iter().map(|signed| known(signed).cloned()).collect()
        };
        let unknown: Vec<_> = (0..)
            .zip(transactions)
            .filter(|(index, _)| checked.get(*index).is_some_and(Option::is_none))
            .collect();
        for (index, tx) in self.verify_unknown(block.header().parent, &unknown)? {
            if let Some(place) = checked.get_mut(index) {
                *place = Some(tx);
            }
        }
        Ok(checked.into_iter().flatten().collect())
    }

    fn verify_unknown(
        &self,
        parent: BlockId,
        unknown: &[(usize, &Arc<SignedTransaction>)],
    ) -> Result<Vec<(usize, Verified<AuthenticatedTx>)>, Unfit> {
        let resolve = |(index, signed): &(usize, &Arc<SignedTransaction>)| {
            let keys = self.context.state.resolve_keys(Some(parent), &signed.transaction);
            let keys = keys.map_err(|refusal| BlockFault::Transaction {
                index: *index,
                id: signed.id(),
                refusal: Box::new(refusal),
            })?;
            Ok(Resolved { signed: Arc::clone(signed), bytes: signed.canonical().len(), keys })
        };
        let verify = |part: &[(usize, &Arc<SignedTransaction>)]| {
            let resolved = part.iter().map(resolve).collect::<Result<Vec<_>, Unfit>>()?;
            let verified = part.iter().zip(self.context.verifier.transactions(resolved));
            verified
                .map(|((index, _), checked)| {
                    let index = *index;
                    checked.map(|tx| (index, tx)).map_err(|fault| Unfit::Signature { index, fault })
                })
                .collect::<Result<Vec<_>, Unfit>>()
        };
        let verified: Vec<_> = if unknown.len() < PARALLEL_MIN {
            unknown.chunks(CHECKED_TOGETHER).map(verify).collect::<Result<_, _>>()?
        } else {
            let parts = unknown.par_chunks(CHECKED_TOGETHER);
            self.verifiers.install(|| parts.map(verify).collect::<Result<_, _>>())?
        };
        Ok(verified.into_iter().flatten().collect())
    }

    /// Writes final blocks with `write`, and tells everyone. A block that was voted for here is in the journal's
    /// block log until the state is synced, so its commit need not wait for the disk, nor its body go through the state's
    /// own log; fetched ones are not.
    fn commit(
        &self,
        blocks: &[CertifiedBlock],
        write: impl Fn(&State, &[CertifiedBlock]) -> Result<Committed, StateError>,
    ) -> Result<(), StateError> {
        let started = Instant::now();
        let context = &self.context;
        context.disaster.passes(Point::Final);
        let committed = write(&context.state, blocks)?;
        context.disaster.passes(Point::BatchWritten);
        context.metrics.commit.observe(started.elapsed().as_secs_f64());
        let fresh: HashSet<_> = committed.blocks.iter().map(|block| block.id).collect();
        let fresh = || blocks.iter().filter(|certified| fresh.contains(&certified.block.id()));
        let transactions = fresh().flat_map(|certified| certified.block.transactions());
        let landed = transactions.map(|signed| signed.canonical().len()).sum();
        let height = committed.tip.header.height;
        context.uncommitted.committed(height);
        context.position.learned(height);
        {
            let mut pool = context.pool.lock();
            for block in &committed.blocks {
                if let Some(proposed) = context.stages.committed(&block.id) {
                    let waited = block.transactions.iter().filter_map(|id| pool.waited(id, proposed));
                    waited.for_each(|waited| context.stages.observe(Stage::Wait, waited.as_secs_f64()));
                }
                pool.remove(&block.transactions);
            }
            context.drain.landed(landed, pool.stats().bytes, Instant::now());
            context.metrics.pool.set(i64::try_from(pool.len()).unwrap_or(i64::MAX));
        }
        context.final_height.send_replace(height);
        for block in &committed.blocks {
            context.metrics.transactions.inc_by(block.transactions.len() as u64);
            context.metrics.records.inc_by(block.records);
            for id in &block.transactions {
                context.waiters.tell(id, &Ok(()));
            }
        }
        let epoch = context.epoch();
        for certified in fresh() {
            context.turns.count(&epoch.set, certified.block.header());
            self.announce(certified);
        }
        context.metrics.height.set(i64::try_from(height.get()).unwrap_or(i64::MAX));
        self.drop_lapsed();
        context.pool_changed.notify_one();
        if !context.position.syncing() {
            context.snapshots.committed(height);
        }
        Ok(())
    }

    /// Makes the end of the epoch final and durable, then lets the next one begin (rule E).
    fn end_epoch(&self, EpochEnd { blocks, proof }: &EpochEnd) -> Result<(), StateError> {
        let context = &self.context;
        self.commit(blocks, |state, blocks| state.end_epoch(blocks, proof))?;
        context.position.made_durable(context.state.tip().header.height);
        if context.state.epoch() == context.epoch().number() {
            return Ok(()); // told of it before
        }
        context.disaster.passes(Point::EpochSynced);
        self.turn_epoch()
    }

    /// Makes a snapshot the state of a node that has no blocks.
    fn adopt(&self, intake: Intake) -> Result<(), StateError> {
        let context = &self.context;
        let height = context.state.adopt(&context.genesis, intake)?.height;
        context.uncommitted.committed(height);
        context.position.learned(height);
        context.position.made_durable(height);
        context.metrics.height.set(i64::try_from(height.get()).unwrap_or(i64::MAX));
        if context.state.epoch() != context.epoch().number() {
            self.turn_epoch()?;
        }
        // Whoever is told finds the epoch in force.
        context.final_height.send_replace(height);
        Ok(())
    }

    /// The epoch that the state is in begins.
    fn turn_epoch(&self) -> Result<(), StateError> {
        let context = &self.context;
        context.keys.look_again();
        match EpochInForce::of(&context.state, &context.keys) {
            Ok(epoch) => {
                self.begin_epoch(epoch);
                Ok(())
            }
            Err(CannotBegin::Protocol(fault)) => {
                context.fail_with(Exit::ProtocolTooNew, fault.to_string());
                Ok(())
            }
            Err(CannotBegin::State(error)) => Err(error),
        }
    }

    fn begin_epoch(&self, epoch: EpochInForce) {
        let context = Arc::clone(&self.context);
        let (number, mesh) = (epoch.number(), epoch.mesh());
        let role = if epoch.signer.is_some() { "validator" } else { "follower" };
        tracing::info!(epoch = %number, validators = epoch.set.count(), role, "an epoch begins");
        context.turns.begin_epoch(&epoch.set);
        context.pool.lock().set_params(&epoch.params);
        context.position.begin_epoch();
        context.metrics.epoch.set(i64::try_from(number.get()).unwrap_or(i64::MAX));
        context.in_force.turn(epoch);
        context.epoch_turned.notify_one();
        self.context.runtime.spawn(async move {
            // Networking is gone only when the node stops.
            let _ = context.net.send(Command::SetValidators { epoch: number, addresses: mesh }).await;
            let _ = context.net.send(Command::PublishNodeRecord).await;
        });
    }

    /// The proposer tells everyone outside the mesh that its block is final.
    fn announce(&self, certified: &CertifiedBlock) {
        let header = certified.block.header();
        let ours = self.context.epoch().signer.as_ref().is_some_and(|signer| signer.index == header.proposer);
        if !ours || certified.certificate.block != certified.block.id() || self.context.position.syncing() {
            return;
        }
        let certificate = Arc::clone(&certified.certificate);
        let announcement = Announcement { header: header.clone(), certificate };
        if self.context.net.try_send(Command::AnnounceBlock(encode(&announcement).into())).is_err() {
            tracing::debug!(height = %header.height, "an announcement was dropped; followers ask by themselves");
        }
    }

    fn expire(&self) {
        let now = now_ms();
        let expired = self.context.pool.lock().expire(now);
        for id in &expired {
            // Expiry has millisecond precision, and this runs often: the moment is as good as the deadline.
            let news = Err(Fault::AlreadyExpired { expires_ms: now, now_ms: now });
            self.context.waiters.tell(id, &news);
        }
        if !expired.is_empty() {
            tracing::debug!(count = expired.len(), "transactions expired unfinished");
            self.context.pool_changed.notify_one();
        }
    }
}
