//! The one gate through which every signature goes: the record first, then the message.

use std::sync::Arc;

use cairn_types::codec::encode;
use cairn_types::safety::SafetyRecord;
use cairn_types::{Block, BlockCert, BlockId, TimeoutCert, View};

use crate::action::{Action, Fatal, Outgoing};
use crate::replica::Replica;
use crate::safety::{may_commit_vote, may_propose, may_time_out, may_vote};
use crate::step::Durable;

impl Replica {
    /// Changes the record `D`. False, and the replica stops, when that would take back a signature. A follower
    /// signs nothing and keeps no record.
    fn write(&mut self, change: impl FnOnce(&mut SafetyRecord)) -> bool {
        let mut next = self.record.clone();
        change(&mut next);
        if let Err(regression) = self.record.check_next(&next) {
            self.halt(Fatal::Regression(regression));
            return false;
        }
        self.record = next;
        if self.config.me.is_some() {
            self.durable();
        }
        true
    }

    /// The step's part to be written, holding the record as it is now.
    fn durable(&mut self) -> &mut Durable {
        let record = &self.record;
        let durable = self.out.durable.get_or_insert_with(|| Durable {
            record: record.clone(),
            certificates: Vec::new(),
            bodies: Vec::new(),
        });
        durable.record = record.clone();
        durable
    }

    /// H: a higher certificate.
    pub(crate) fn record_high_qc(&mut self, certificate: &BlockCert) {
        let (view, digest) = (certificate.view(), certificate.digest());
        if self.config.me.is_some() && self.write(|record| record.high_qc = Some((view, digest))) {
            self.durable().certificates.push(encode(certificate));
        }
    }

    /// A higher timeout certificate.
    pub(crate) fn record_high_tc(&mut self, certificate: &TimeoutCert) {
        let (view, digest) = (certificate.view, certificate.digest());
        if self.config.me.is_some() && self.write(|record| record.high_tc = Some((view, digest))) {
            self.durable().certificates.push(encode(certificate));
        }
    }

    /// V: votes for a valid block of the current view, if nothing forbids it.
    pub(crate) fn vote(&mut self, block: &Arc<Block>) {
        let (view, id) = (self.view, block.id());
        if self.config.me.is_none() || !may_vote(&self.record, view) {
            return;
        }
        if self.write(|record| record.last_voted = Some((view, id))) {
            self.durable().bodies.push(Arc::clone(block));
            self.send_vote(view, id);
        }
    }

    /// Proposes and votes for our own block, under one record.
    pub(crate) fn propose(&mut self, block: &Arc<Block>, justify: BlockCert, tc: Option<Arc<TimeoutCert>>) {
        let (view, id) = (self.view, block.id());
        if self.config.me.is_none() || !may_propose(&self.record, view) {
            return;
        }
        let written = self.write(|record| {
            record.last_proposed = Some((view, id));
            record.last_voted = Some((view, id));
        });
        if written {
            self.durable().bodies.push(Arc::clone(block));
            self.broadcast(Outgoing::Proposal { block: Arc::clone(block), justify, tc });
            self.send_vote(view, id);
        }
    }

    fn send_vote(&mut self, view: View, block: BlockId) {
        let epoch = self.epoch();
        self.broadcast(Outgoing::Vote { epoch, view, block });
    }

    /// C: commit-votes for a certified block, if nothing forbids it.
    pub(crate) fn commit_vote(&mut self, view: View, block: BlockId) {
        if self.config.me.is_none() || !may_commit_vote(&self.record, view) {
            return;
        }
        if self.write(|record| record.last_commit_voted = Some((view, block))) {
            let epoch = self.epoch();
            self.broadcast(Outgoing::CommitVote { epoch, view, block });
        }
    }

    /// T: gives the current view up, if that was not done yet. The timeout is then the stored one.
    pub(crate) fn give_up(&mut self) -> bool {
        let (view, high_qc_view) = (self.view, self.high_qc.view());
        self.config.me.is_some()
            && may_time_out(&self.record, view)
            && self.write(|record| record.last_timeout = Some((view, high_qc_view)))
    }

    /// T: gives the current view up and says so.
    pub(crate) fn time_out(&mut self) {
        if self.give_up()
            && let Some(timeout) = self.stored_timeout()
        {
            self.broadcast(timeout);
        }
    }

    /// The timeout of the current view as signed, with the certificates of now.
    pub(crate) fn stored_timeout(&self) -> Option<Outgoing> {
        let (view, high_qc_view) = self.record.last_timeout.filter(|(view, _)| *view == self.view)?;
        let high_qc = self.high_qc.clone();
        let tc = if view.follows(high_qc.view()) { None } else { self.entry_tc() };
        Some(Outgoing::Timeout { epoch: self.epoch(), view, high_qc_view, high_qc, tc })
    }

    pub(crate) fn broadcast(&mut self, message: Outgoing) {
        self.out.actions.push(Action::Broadcast(message));
    }

    /// Stops for good.
    pub(crate) fn halt(&mut self, fatal: Fatal) {
        if !self.halted {
            self.halted = true;
            self.out.actions.push(Action::Halt(fatal));
        }
    }
}
