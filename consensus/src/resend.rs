//! Rule R: what was said is said again, and whoever is ahead answers whoever is behind.

use cairn_types::{BlockCert, Status, ValidatorIndex, View};

use crate::action::{Action, Outgoing};
use crate::reject::Reject;
use crate::replica::Replica;

/// Answers to one peer per period: until our view, repair or idle timer runs out, so a base timeout at most. An honest
/// peer needs one; a few more make up for lost ones, while a peer that asks in a loop gets no more than this.
const ANSWERS_PER_PERIOD_MAX: u32 = 4;

impl Replica {
    /// Where this replica stands.
    pub fn status(&self) -> Status {
        Status {
            epoch: self.epoch(),
            view: self.view,
            high_qc: self.high_qc.view(),
            high_tc: self.high_tc.as_ref().map_or(View::ZERO, |tc| tc.view),
            committed: self.tree.tip().height,
            commit_view: self.commit_cert.as_ref().map_or(View::ZERO, |certificate| certificate.view),
        }
    }

    /// The certificates that bring a replica with this status forward; none when it is not behind. The replica
    /// answers validators by itself; this serves followers, whose rate the driver limits.
    pub fn answer_to(&self, status: &Status) -> Vec<Outgoing> {
        let mut answer = Vec::new();
        if status.epoch != self.epoch() {
            return answer;
        }
        let commit = self.commit_cert.as_ref().filter(|certificate| certificate.view > status.commit_view);
        if let Some(certificate) = commit {
            answer.push(Outgoing::CommitCert(std::sync::Arc::clone(certificate)));
        }
        let said = commit.map_or(View::ZERO, |certificate| certificate.view).max(status.high_qc);
        if self.high_qc.view() > said && !matches!(self.high_qc, BlockCert::Root { .. }) {
            answer.push(Outgoing::Certificate(self.high_qc.clone()));
        }
        if let Some(tc) = self.high_tc.as_ref().filter(|tc| tc.view >= status.view) {
            answer.push(Outgoing::TimeoutCert(std::sync::Arc::clone(tc)));
        }
        answer
    }

    pub(crate) fn on_status(&mut self, from: ValidatorIndex, status: &Status) -> Result<(), Reject> {
        self.check_epoch(status.epoch)?;
        if self.config.set.get(from).is_none() {
            return Err(Reject::UnknownValidator { got: from, count: self.config.set.count() });
        }
        self.answer(from, status);
        Ok(())
    }

    /// Answers a peer that is behind, and shows a peer that is ahead where we stand, so that it answers.
    pub(crate) fn answer(&mut self, to: ValidatorIndex, theirs: &Status) {
        let ours = self.status();
        let behind = ours.view < theirs.view
            || ours.high_qc < theirs.high_qc
            || (theirs.commit_view.get() != u64::MAX && ours.commit_view < theirs.commit_view);
        let mut messages = self.answer_to(theirs);
        if behind {
            messages.push(Outgoing::Status(ours));
        }
        if messages.is_empty() || Some(to) == self.config.me {
            return;
        }
        let answered = self.answers.entry(to).or_default();
        if *answered < ANSWERS_PER_PERIOD_MAX {
            *answered = answered.saturating_add(1);
            self.out.actions.extend(messages.into_iter().map(|message| Action::Send(to, message)));
        }
    }

    /// Whether some peer gets no answer any more in this period. An idle chain has no view timer, so the repair timer
    /// ends the period: the peer may still lack the last commit certificate.
    pub(crate) fn answers_are_spent(&self) -> bool {
        self.answers.values().any(|answered| *answered >= ANSWERS_PER_PERIOD_MAX)
    }

    pub(crate) fn on_connected(&mut self, peer: ValidatorIndex) -> Result<(), Reject> {
        if self.config.set.get(peer).is_none() {
            return Err(Reject::UnknownValidator { got: peer, count: self.config.set.count() });
        }
        self.answers.remove(&peer);
        self.resend(Some(peer));
        Ok(())
    }

    /// R: the stored proposal, vote, commit vote and timeout, and a status; to everyone or to one.
    pub(crate) fn resend(&mut self, to: Option<ValidatorIndex>) {
        let stored =
            [self.stored_proposal(), self.stored_vote(), self.stored_commit_vote(), self.stored_timeout()];
        let messages = stored.into_iter().flatten().chain([Outgoing::Status(self.status())]);
        let actions = messages.map(|message| match to {
            Some(peer) => Action::Send(peer, message),
            None => Action::Broadcast(message),
        });
        let actions: Vec<Action> = actions.collect();
        self.out.actions.extend(actions);
    }

    /// The vote of the current view, once its block has been executed here, also in this run.
    pub(crate) fn stored_vote(&self) -> Option<Outgoing> {
        let (view, block) = self.record.last_voted.filter(|(view, _)| *view == self.view)?;
        let executed = self.tree.is_executed(&block);
        executed.then(|| Outgoing::Vote { epoch: self.epoch(), view, block })
    }

    /// The last commit vote, while no commit certificate of its view or a later one is known.
    fn stored_commit_vote(&self) -> Option<Outgoing> {
        let (view, block) = self.record.last_commit_voted?;
        let settled = self.commit_cert.as_ref().is_some_and(|certificate| certificate.view >= view);
        (!settled).then(|| Outgoing::CommitVote { epoch: self.epoch(), view, block })
    }
}
