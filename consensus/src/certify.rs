//! Votes and certificates: rules C, H, A, and T at the receiver.

use std::sync::Arc;

use cairn_types::{BlockCert, CommitCert, CommitVote, Status, Timeout, TimeoutCert, View, Vote};

use crate::action::{Action, Equivocation, Fatal, Formed};
use crate::catchup::Proof;
use crate::reject::Reject;
use crate::replica::Replica;

/// Views ahead of the current one in which bare votes are counted. A certificate is looked at in any view.
pub(crate) const VIEWS_AHEAD_MAX: u64 = 8;
/// Views behind the current one in which first votes are counted: a certificate of the view just left still
/// spares its block.
const VOTE_VIEWS_BEHIND: u64 = 1;
/// Views behind the current one in which commit votes are counted. They come a message delay after the
/// certificate that ends their view, and later still when they had to be repeated. Those of the highest
/// certificate count however many views were given up since: rule R repeats exactly them.
const COMMIT_VOTE_VIEWS_BEHIND: u64 = 8;

impl Replica {
    fn check_window(&self, got: View, behind: u64) -> Result<(), Reject> {
        let current = self.view.get();
        let oldest = View::new(current.saturating_sub(behind).max(1));
        let newest = View::new(current.saturating_add(VIEWS_AHEAD_MAX));
        if got < oldest {
            return Err(Reject::Stale { got, oldest });
        }
        if got > newest {
            return Err(Reject::TooFarAhead { got, newest });
        }
        Ok(())
    }

    pub(crate) fn on_vote(&mut self, vote: Vote) -> Result<(), Reject> {
        self.check_epoch(vote.epoch)?;
        self.check_window(vote.view, VOTE_VIEWS_BEHIND)?;
        let (view, block, voter) = (vote.view, vote.block, vote.validator);
        let counted = self.votes.add(&self.config.set, vote)?;
        if let Some((first, second)) = counted.evidence {
            self.out.actions.push(Action::Accuse(Equivocation::Votes(first, second)));
        }
        if let Some(certificate) = counted.certificate {
            let certificate = Arc::new(certificate);
            self.out.actions.push(Action::Formed(Formed::Quorum(Arc::clone(&certificate))));
            self.learn_block_cert(&BlockCert::Quorum(certificate));
        } else if view >= self.view && voter != self.config.set.leader(view) {
            // The leader's own vote overtakes its block; any other voter has the block already.
            let weak = self.config.set.is_weak(counted.power);
            let proof = if weak { Proof::Weak } else { Proof::Vote };
            self.want(block, view, self.votes.voters(view, block), proof);
        }
        Ok(())
    }

    pub(crate) fn on_commit_vote(&mut self, vote: CommitVote) -> Result<(), Reject> {
        self.check_epoch(vote.epoch)?;
        if vote.view != self.high_qc.view() {
            self.check_window(vote.view, COMMIT_VOTE_VIEWS_BEHIND)?;
        }
        if self.commit_cert.as_ref().is_some_and(|known| known.view >= vote.view) {
            return Err(Reject::Known);
        }
        let counted = self.commit_votes.add(&self.config.set, vote)?;
        if let Some((first, second)) = counted.evidence {
            self.out.actions.push(Action::Accuse(Equivocation::CommitVotes(first, second)));
        }
        if let Some(certificate) = counted.certificate {
            let certificate = Arc::new(certificate);
            self.out.actions.push(Action::Formed(Formed::Commit(Arc::clone(&certificate))));
            self.learn_commit_cert(&certificate);
        }
        Ok(())
    }

    pub(crate) fn on_certificate(&mut self, certificate: &BlockCert) -> Result<(), Reject> {
        self.check_epoch(certificate.epoch())?;
        self.learn_block_cert(certificate);
        Ok(())
    }

    pub(crate) fn on_timeout_cert(&mut self, certificate: &Arc<TimeoutCert>) -> Result<(), Reject> {
        self.check_epoch(certificate.epoch)?;
        self.learn_timeout_cert(certificate);
        Ok(())
    }

    pub(crate) fn on_commit_cert(&mut self, certificate: &Arc<CommitCert>) -> Result<(), Reject> {
        self.check_epoch(certificate.epoch)?;
        self.learn_commit_cert(certificate);
        Ok(())
    }

    /// T at the receiver: certificates first, then proof of entry, then the count.
    pub(crate) fn on_timeout(&mut self, timeout: &Timeout) -> Result<(), Reject> {
        self.check_epoch(timeout.epoch)?;
        let (high_qc, tc) = check_timeout(timeout)?;
        if self.config.set.get(timeout.validator).is_none() {
            let (got, count) = (timeout.validator, self.config.set.count());
            return Err(Reject::UnknownValidator { got, count });
        }
        if timeout.view == self.view && high_qc.view() <= self.high_qc.view() {
            self.timeouts.check(&self.config.set, timeout)?;
        }
        let standing = Status {
            epoch: timeout.epoch,
            view: timeout.view,
            high_qc: high_qc.view(),
            high_tc: tc.map_or(View::ZERO, |tc| tc.view),
            commit_view: View::new(u64::MAX), // not said: the status that follows says it
            ..Status::default()
        };
        self.learn_block_cert(high_qc);
        if let Some(tc) = tc {
            self.learn_timeout_cert(tc);
        }
        if timeout.view < self.view {
            self.answer(timeout.validator, &standing);
            return Ok(());
        }
        if let Some(evidence) = self.timeouts.add(&self.config.set, timeout) {
            self.out.actions.push(Action::Accuse(evidence));
        }
        if self.config.set.is_weak(self.timeouts.power()) {
            self.time_out(); // T: weak power
        }
        if let Some(formed) = self.timeouts.certificate(&self.config.set, self.view, &self.high_qc) {
            let formed = Arc::new(formed);
            self.out.actions.push(Action::Formed(Formed::Timeout(Arc::clone(&formed))));
            self.learn_timeout_cert(&formed);
        }
        Ok(())
    }

    /// A verified certificate of a block: H, then C, then A.
    pub(crate) fn learn_block_cert(&mut self, certificate: &BlockCert) {
        match certificate {
            BlockCert::Root { .. } => {}
            BlockCert::Commit(commit) => self.learn_commit_cert(commit),
            BlockCert::Quorum(quorum) => {
                self.raise_high_qc(certificate); // H
                if self.commit_cert.as_ref().is_none_or(|commit| commit.view < quorum.view) {
                    self.commit_vote(quorum.view, quorum.block); // C
                }
                self.advance(quorum.view.next()); // A
            }
        }
    }

    /// A verified commit certificate. It serves as a block certificate; what it makes final is committed when
    /// the input has been dealt with (rule F).
    pub(crate) fn learn_commit_cert(&mut self, certificate: &Arc<CommitCert>) {
        if let Some(known) = self.commit_cert.as_ref().filter(|known| known.view >= certificate.view) {
            if known.view == certificate.view && known.block != certificate.block {
                let (id, view) = (certificate.block, certificate.view);
                let (tip, height) = (known.block, self.tree.tip().height);
                self.halt(Fatal::Fork { id, view, tip, height });
            }
            return;
        }
        self.commit_cert = Some(Arc::clone(certificate));
        self.commit_votes.keep_from(certificate.view.next(), None);
        self.raise_high_qc(&BlockCert::Commit(Arc::clone(certificate))); // H
        self.advance(certificate.view.next()); // A
    }

    /// A verified timeout certificate: its block certificate first, then A.
    pub(crate) fn learn_timeout_cert(&mut self, certificate: &Arc<TimeoutCert>) {
        self.learn_block_cert(&certificate.high_qc);
        if self.high_tc.as_ref().is_some_and(|known| known.view >= certificate.view) {
            return;
        }
        self.high_tc = Some(Arc::clone(certificate));
        self.record_high_tc(certificate);
        if certificate.view >= self.view {
            self.timeouts_since = self.timeouts_since.saturating_add(1);
            self.advance(certificate.view.next()); // A
        }
    }

    /// H.
    fn raise_high_qc(&mut self, certificate: &BlockCert) {
        if certificate.view() <= self.high_qc.view() {
            return;
        }
        if certificate.block() != self.high_qc.block() {
            self.pool_work = false; // the answer was about another block; the driver answers anew
        }
        self.high_qc = certificate.clone();
        self.record_high_qc(certificate);
    }

    /// A: called only with the view after a verified certificate's.
    pub(crate) fn advance(&mut self, to: View) {
        if to <= self.view {
            return;
        }
        self.view = to;
        self.proposals.clear();
        self.timeouts.clear();
        self.votes.keep_from(View::new(to.get().saturating_sub(VOTE_VIEWS_BEHIND)), None);
        let oldest = View::new(to.get().saturating_sub(COMMIT_VOTE_VIEWS_BEHIND));
        self.commit_votes.keep_from(oldest, Some(self.high_qc.view()));
        self.forget_unproven_wants();
        self.enter_view();
    }
}

/// The parts of a timeout that need no state: its certificates inline, in order, and proving entry.
fn check_timeout(timeout: &Timeout) -> Result<(&BlockCert, Option<&Arc<TimeoutCert>>), Reject> {
    let view = timeout.view;
    let high_qc = timeout.high_qc.inline().ok_or(Reject::Unresolved)?;
    let tc = match &timeout.tc {
        None => None,
        Some(tc) => Some(tc.inline().ok_or(Reject::Unresolved)?),
    };
    let (signed, carried) = (timeout.high_qc_view, high_qc.view());
    if carried < signed || carried >= view {
        return Err(Reject::TimeoutCertificate { view, signed, carried }); // T
    }
    if let Some(expected) = Some(timeout.epoch).filter(|epoch| high_qc.epoch() != *epoch) {
        return Err(Reject::OtherEpoch { got: high_qc.epoch(), expected });
    }
    let entered =
        view.follows(carried) || tc.is_some_and(|tc| view.follows(tc.view) && tc.epoch == timeout.epoch);
    if entered { Ok((high_qc, tc)) } else { Err(Reject::NoEntryProof { view }) } // T: proof of entry
}
