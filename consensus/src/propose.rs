//! The leader: when to propose, and on what.

use std::sync::Arc;
use std::time::Duration;

use cairn_types::{Block, BlockCert, Slot, TimeoutCert, View};

use crate::action::{Action, Outgoing, TimerKind};
use crate::reject::Reject;
use crate::replica::Replica;
use crate::safety::may_propose;

/// What this replica does about leading the current view.
#[derive(Debug, Default)]
pub(crate) struct Leading {
    /// The slot a payload was asked for, with what entitles to it.
    request: Option<Request>,
    /// There was nothing to build from; not asked again before something changes.
    pub(crate) refused: bool,
    /// `interval_min` is still running.
    pacing: bool,
    /// A quarter of the base timeout has passed with uncommitted work.
    finish_due: bool,
    /// `interval_idle` has passed without a commit.
    pub(crate) heartbeat: bool,
    /// The proposal made in this view, for rule R.
    own: Option<Outgoing>,
}

#[derive(Debug)]
struct Request {
    slot: Slot,
    justify: BlockCert,
    tc: Option<Arc<TimeoutCert>>,
}

impl Replica {
    /// Starts a view afresh.
    pub(crate) fn enter_view(&mut self) {
        self.leading = Leading::default();
        for kind in [TimerKind::View, TimerKind::Pace, TimerKind::Finish] {
            self.timers.disarm(kind);
        }
        let interval_ms = self.config.params.interval_min_ms;
        if interval_ms > 0 && self.leads() && self.view.follows(self.high_qc.view()) && self.started {
            self.leading.pacing = true;
            self.set_timer(TimerKind::Pace, Duration::from_millis(interval_ms));
        }
    }

    pub(crate) fn leads(&self) -> bool {
        self.config.me == Some(self.config.set.leader(self.view))
    }

    /// The timeout certificate that led into the current view.
    pub(crate) fn entry_tc(&self) -> Option<Arc<TimeoutCert>> {
        self.high_tc.as_ref().filter(|tc| self.view.follows(tc.view)).cloned()
    }

    /// What a block of this view builds on. `high_qc` is at least what TC(v-1) allows, for it was raised by
    /// that certificate's own.
    fn justification(&self) -> Option<(BlockCert, Option<Arc<TimeoutCert>>)> {
        if self.view.follows(self.high_qc.view()) {
            return Some((self.high_qc.clone(), None));
        }
        self.entry_tc().map(|tc| (self.high_qc.clone(), Some(tc)))
    }

    /// Whether an empty block has a reason in this view.
    fn may_be_empty(&self) -> bool {
        let owes = self.owes_first_block();
        self.leading.heartbeat
            || (self.leading.finish_due && (self.has_uncommitted_work() || owes))
            || (owes && self.high_qc.view() == View::ZERO) // E: at once
    }

    /// Asks for a payload when this replica leads, has a reason and nothing stands in the way.
    pub(crate) fn try_propose(&mut self) {
        let waits = self.leading.request.is_some() || self.leading.pacing;
        if !self.leads() || waits || !may_propose(&self.record, self.view) {
            return;
        }
        let has_payload = self.pool_work && !self.is_ending(); // E: a carrier holds none
        if self.leading.refused || !(has_payload || self.may_be_empty()) {
            let armed = self.leading.finish_due || self.timers.is_armed(TimerKind::Finish);
            if !armed && (self.has_uncommitted_work() || self.owes_first_block()) {
                let quarter_ms = self.config.params.timeout_base_ms >> 2;
                self.set_timer(TimerKind::Finish, Duration::from_millis(quarter_ms.max(1)));
            }
            return;
        }
        let Some((justify, tc)) = self.justification() else { return };
        let parent = justify.block();
        let Some(height) = self.tree.executed_height(&parent) else { return };
        let Some(proposer) = self.config.me else { return };
        let slot = Slot {
            epoch: self.epoch(),
            view: self.view,
            height: height.next(),
            parent,
            parent_view: justify.view(),
            proposer,
        };
        self.leading.request = Some(Request { slot, justify, tc });
        self.out.actions.push(Action::RequestPayload(slot));
    }

    pub(crate) fn on_payload(&mut self, view: View, block: &Arc<Block>) -> Result<(), Reject> {
        let asked = self.leading.request.as_ref().map(|request| request.slot);
        let open = view == self.view && may_propose(&self.record, view); // not given up meanwhile
        if !open || asked != Some(block.header().slot()) {
            return Err(Reject::WrongPayload);
        }
        self.check_header(block.header())?;
        self.tree.check_link(block.header())?;
        self.tree.check_room(&self.kept())?;
        let Some(request) = self.leading.request.take() else { return Err(Reject::WrongPayload) };
        if block.is_empty() && !self.may_be_empty() {
            self.leading.refused = true;
            return Ok(());
        }
        self.tree.insert(Arc::clone(block), true, &self.kept());
        let (justify, tc) = (request.justify, request.tc);
        self.leading.own =
            Some(Outgoing::Proposal { block: Arc::clone(block), justify: justify.clone(), tc: tc.clone() });
        self.propose(block, justify, tc);
        Ok(())
    }

    pub(crate) fn on_payload_failed(&mut self, view: View) -> Result<(), Reject> {
        if view != self.view || self.leading.request.take().is_none() {
            return Err(Reject::WrongPayload);
        }
        self.leading.refused = true;
        Ok(())
    }

    pub(crate) fn on_work(&mut self, work: bool) -> Result<(), Reject> {
        self.pool_work = work;
        if work {
            self.leading.refused = false;
        }
        Ok(())
    }

    pub(crate) fn on_pace_timer(&mut self) {
        self.leading.pacing = false;
    }

    pub(crate) fn on_finish_timer(&mut self) {
        self.leading.finish_due = true;
        self.leading.refused = false;
    }

    /// The proposal of this view as recorded, also in the run before (its body is then in the block log).
    pub(crate) fn stored_proposal(&self) -> Option<Outgoing> {
        let (_, id) = self.record.last_proposed.filter(|(view, _)| *view == self.view)?;
        if let Some(own) = &self.leading.own {
            return Some(own.clone());
        }
        let block = self.tree.get(&id)?;
        let (justify, tc) = self.justification()?;
        let header = block.header();
        (justify.block() == header.parent && justify.view() == header.parent_view)
            .then(|| Outgoing::Proposal { block: Arc::clone(block), justify, tc })
    }
}
