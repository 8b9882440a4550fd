//! Timers and work: when a view is pressed on, and for how long it may last.

use std::collections::BTreeMap;
use std::time::Duration;

use cairn_types::Params;

use crate::action::{Action, Timer, TimerKind};
use crate::replica::Replica;

/// The settings of all timers. A timer is armed when its latest generation has not fired yet.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    generations: BTreeMap<TimerKind, u64>,
    armed: BTreeMap<TimerKind, u64>,
}

impl Timers {
    /// Sets a timer anew.
    pub(crate) fn set(&mut self, kind: TimerKind, after: Duration) -> Action {
        let generation = self.generations.entry(kind).or_default();
        *generation = generation.saturating_add(1);
        self.armed.insert(kind, *generation);
        Action::SetTimer { timer: Timer { kind, generation: *generation }, after }
    }

    pub(crate) fn is_armed(&self, kind: TimerKind) -> bool {
        self.armed.contains_key(&kind)
    }

    /// Lets a timer run out unheeded.
    pub(crate) fn disarm(&mut self, kind: TimerKind) {
        self.armed.remove(&kind);
    }

    /// Whether this setting is the one that counts; if so the timer is no longer armed.
    pub(crate) fn fire(&mut self, timer: Timer) -> bool {
        let counts = self.armed.get(&timer.kind) == Some(&timer.generation);
        if counts {
            self.armed.remove(&timer.kind);
        }
        counts
    }
}

/// `base * 1.5^k`, capped.
pub(crate) fn view_timeout(params: &Params, k: u32) -> Duration {
    let mut timeout_ms = params.timeout_base_ms;
    for _ in 0..k {
        if timeout_ms >= params.timeout_cap_ms {
            break;
        }
        timeout_ms = timeout_ms.saturating_add(timeout_ms >> 1);
    }
    Duration::from_millis(timeout_ms.min(params.timeout_cap_ms).max(1))
}

impl Replica {
    /// The work predicate: whether there is a reason to press on with this view.
    pub(crate) fn has_work(&self) -> bool {
        self.pool_work || self.has_uncommitted_work() || self.owes_first_block() || self.view_has_begun()
    }

    /// E: the last commit was through a carrier, whose headers serve no receipt: a block of this epoch must follow.
    pub(crate) fn owes_first_block(&self) -> bool {
        self.config.root_is_carried
            && self.tree.tip().height == self.config.root.height
            && self.goal().is_none()
    }

    /// E: nothing but carriers may follow `high_qc`'s block.
    pub(crate) fn is_ending(&self) -> bool {
        self.epoch_proof.is_some()
            || self.tree.get(&self.high_qc.block()).is_some_and(|block| block.header().ends_epoch())
    }

    /// A block up to `high_qc`'s that is not known to be final, and is not empty, ends its epoch, or is not held.
    pub(crate) fn has_uncommitted_work(&self) -> bool {
        if self.epoch_proof.is_some() {
            return false; // final already; its blocks are being fetched
        }
        let is_final = self.pending_commit().map(|certificate| (certificate.view, certificate.block));
        if is_final.is_some_and(|(view, _)| view >= self.high_qc.view()) {
            return false;
        }
        let mut at = self.high_qc.block();
        for _ in 0..=self.tree.len() {
            if at == self.tree.tip().id || is_final.is_some_and(|(_, block)| at == block) {
                return false;
            }
            match self.tree.get(&at) {
                None => return true,
                Some(block) if !block.is_empty() || block.header().ends_epoch() => return true,
                Some(block) => at = block.header().parent,
            }
        }
        false
    }

    /// In this view: a proposal, votes or timeouts of weak power, or a signature of our own.
    fn view_has_begun(&self) -> bool {
        let set = &self.config.set;
        let proposed = self.proposals.iter().any(|proposal| !self.is_invalid(&proposal.block.id()));
        let signed = [
            self.record.last_voted.map(|(view, _)| view),
            self.record.last_timeout.map(|(view, _)| view),
            self.record.last_proposed.map(|(view, _)| view),
        ];
        proposed
            || set.is_weak(self.votes.power_in(set, self.view))
            || set.is_weak(self.timeouts.power())
            || signed.contains(&Some(self.view))
    }

    /// Arms or disarms the view timer, and the timer that asks again for what is missing.
    pub(crate) fn arm_timers(&mut self) {
        let work = self.has_work();
        if work && !self.working {
            self.timeouts_since = 0; // k counts from when work became true
        }
        self.working = work;
        if !work {
            self.timers.disarm(TimerKind::View);
        } else if !self.timers.is_armed(TimerKind::View) {
            self.set_timer(TimerKind::View, view_timeout(&self.config.params, self.timeouts_since));
        }
        if !self.needs_repair() {
            self.timers.disarm(TimerKind::Repair);
        } else if !self.timers.is_armed(TimerKind::Repair) {
            self.set_timer(
                TimerKind::Repair,
                Duration::from_millis(self.config.params.timeout_base_ms.max(1)),
            );
        }
    }

    pub(crate) fn set_timer(&mut self, kind: TimerKind, after: Duration) {
        let action = self.timers.set(kind, after);
        self.out.actions.push(action);
    }

    /// The idle timer measures from the last commit.
    pub(crate) fn set_idle_timer(&mut self) {
        // Below the base timeout an idle chain would repeat itself faster than a busy one.
        let params = &self.config.params;
        let idle_ms = params.interval_idle_ms.max(params.timeout_base_ms).max(1);
        self.set_timer(TimerKind::Idle, Duration::from_millis(idle_ms));
    }

    pub(crate) fn on_view_timer(&mut self) {
        self.answers.clear();
        self.leading.refused = false;
        self.give_up();
        self.resend(None); // the timeout among the rest
    }

    pub(crate) fn on_idle_timer(&mut self) {
        self.answers.clear();
        self.leading.refused = false;
        self.leading.heartbeat = !self.has_work();
        self.resend(None);
        self.set_idle_timer();
    }
}
