//! The state machine: one input in, one step out.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_types::certificate::{First, Second};
use cairn_types::safety::SafetyRecord;
use cairn_types::{
    Block, BlockCert, BlockId, CommitCert, Epoch, EpochProof, Hash, Height, Proposal, TimeoutCert,
    ValidatorIndex, View,
};

use crate::action::{Timer, TimerKind};
use crate::catchup::Wanted;
use crate::config::Config;
use crate::input::Input;
use crate::pacemaker::Timers;
use crate::propose::Leading;
use crate::reject::Reject;
use crate::step::Step;
use crate::tally::{Tally, Timeouts};
use crate::tree::Tree;

/// One validator's, or follower's, part in the protocol. Deterministic: no clock, no randomness, no I/O.
#[derive(Debug)]
pub struct Replica {
    pub(crate) config: Config,
    pub(crate) set_digest: Hash,
    pub(crate) record: SafetyRecord,
    pub(crate) view: View,
    pub(crate) high_qc: BlockCert,
    pub(crate) high_tc: Option<Arc<TimeoutCert>>,
    /// The highest commit certificate seen; its block may still be missing here.
    pub(crate) commit_cert: Option<Arc<CommitCert>>,
    /// The proof that this epoch has ended, learnt before all of its blocks were committed here.
    pub(crate) epoch_proof: Option<Arc<EpochProof>>,
    /// The epoch's last block is committed: nothing of this epoch is signed or looked at any more.
    pub(crate) over: bool,
    pub(crate) tree: Tree,
    pub(crate) votes: Tally<First>,
    pub(crate) commit_votes: Tally<Second>,
    /// Of the current view.
    pub(crate) timeouts: Timeouts,
    /// Of the current view.
    pub(crate) proposals: Vec<Proposal>,
    pub(crate) wanted: BTreeMap<BlockId, Wanted>,
    /// Range sync was asked for.
    pub(crate) catching_up: bool,
    pub(crate) timers: Timers,
    /// `k`: timeout certificates since the last commit, or since work became true.
    pub(crate) timeouts_since: u32,
    /// The work predicate when it was last looked at.
    pub(crate) working: bool,
    /// The driver's answer about the pool, for `high_qc`'s block.
    pub(crate) pool_work: bool,
    pub(crate) leading: Leading,
    /// Answers given to each peer in this period.
    pub(crate) answers: BTreeMap<ValidatorIndex, u32>,
    /// The committed block's certificate of the last run, until the start.
    pub(crate) recovered_commit: Option<Arc<CommitCert>>,
    pub(crate) started: bool,
    pub(crate) halted: bool,
    pub(crate) out: Step,
}

impl Replica {
    /// Takes one input. The actions come out of the [`Step`] once it is durable; several steps may be merged
    /// first.
    ///
    /// # Errors
    /// When the input is refused. Nothing has changed then.
    pub fn step(&mut self, input: Input) -> Result<Step, Reject> {
        if self.halted {
            return Err(Reject::Halted);
        }
        if self.over {
            return Err(Reject::EpochOver { epoch: self.epoch() });
        }
        if self.started == matches!(input, Input::Start) {
            return Err(if self.started { Reject::Known } else { Reject::NotStarted });
        }
        self.dispatch(input)?;
        self.settle();
        Ok(std::mem::take(&mut self.out))
    }

    fn dispatch(&mut self, input: Input) -> Result<(), Reject> {
        match input {
            Input::Start => self.on_start(),
            Input::Proposal(proposal) => self.on_proposal(proposal.into_inner()),
            Input::Vote(vote) => self.on_vote(vote.into_inner()),
            Input::CommitVote(vote) => self.on_commit_vote(vote.into_inner()),
            Input::Timeout(timeout) => self.on_timeout(&timeout),
            Input::Certificate(certificate) => self.on_certificate(&certificate),
            Input::TimeoutCert(certificate) => self.on_timeout_cert(&certificate),
            Input::CommitCert(certificate) => self.on_commit_cert(&certificate),
            Input::EpochProof(proof) => self.on_epoch_proof(&proof),
            Input::Status { from, status } => self.on_status(from, &status),
            Input::Connected(peer) => self.on_connected(peer),
            Input::Work(work) => self.on_work(work),
            Input::PayloadReady { view, block } => self.on_payload(view, &block),
            Input::PayloadFailed { view } => self.on_payload_failed(view),
            Input::BlockChecked { id, verdict } => self.on_checked(id, verdict),
            Input::BlockFetched { block } => self.on_fetched(&block),
            Input::Committed { header, certificate } => self.on_committed(&header, &certificate),
            Input::TimerFired(timer) => self.on_timer(timer),
        }
    }

    fn on_timer(&mut self, timer: Timer) -> Result<(), Reject> {
        if !self.timers.fire(timer) {
            return Err(Reject::TimerReplaced);
        }
        match timer.kind {
            TimerKind::View => self.on_view_timer(),
            TimerKind::Pace => self.on_pace_timer(),
            TimerKind::Finish => self.on_finish_timer(),
            TimerKind::Repair => self.on_repair_timer(),
            TimerKind::Idle => self.on_idle_timer(),
        }
        Ok(())
    }

    /// What follows from the state, whatever the input was. C came before V: certificates were dealt with by
    /// the input's own handler.
    fn settle(&mut self) {
        self.start_checks();
        self.try_commit();
        if self.over {
            return;
        }
        self.pursue();
        self.try_vote();
        self.arm_timers();
        self.try_propose();
    }

    pub(crate) fn check_epoch(&self, got: Epoch) -> Result<(), Reject> {
        let expected = self.epoch();
        if got == expected { Ok(()) } else { Err(Reject::OtherEpoch { got, expected }) }
    }

    /// The epoch it is in.
    pub fn epoch(&self) -> Epoch {
        self.config.epoch()
    }

    /// The view it is in.
    pub const fn view(&self) -> View {
        self.view
    }

    /// Who leads the current view.
    pub fn leader(&self) -> ValidatorIndex {
        self.config.set.leader(self.view)
    }

    /// The highest certificate it knows.
    pub const fn high_qc(&self) -> &BlockCert {
        &self.high_qc
    }

    /// The highest timeout certificate it knows.
    pub const fn high_tc(&self) -> Option<&Arc<TimeoutCert>> {
        self.high_tc.as_ref()
    }

    /// The highest commit certificate it knows. Its block may not be committed here yet.
    pub const fn commit_certificate(&self) -> Option<&Arc<CommitCert>> {
        self.commit_cert.as_ref()
    }

    /// The last block given out in `Commit`, or reported by `Committed`.
    pub const fn committed(&self) -> (BlockId, Height) {
        let tip = self.tree.tip();
        (tip.id, tip.height)
    }

    /// The record `D` as it will be once the steps given out so far are durable.
    pub const fn record(&self) -> &SafetyRecord {
        &self.record
    }

    /// Whether its epoch has ended here: a replica of the next epoch is to take over.
    pub const fn is_over(&self) -> bool {
        self.over
    }

    /// Whether there is a reason to press on: the view timer runs.
    pub const fn is_working(&self) -> bool {
        self.working
    }

    /// The signed proposal of this block, when it is of the current view. Whoever asks for such a block is to be
    /// given this, so that it may vote.
    pub fn proposal_for(&self, id: &BlockId) -> Option<&Proposal> {
        self.proposals.iter().find(|proposal| proposal.block.id() == *id)
    }

    /// An uncommitted block it holds. Committed ones are the state's to serve.
    pub fn block(&self, id: &BlockId) -> Option<&Arc<Block>> {
        self.tree.get(id)
    }
}
