//! As a leader, proposes beside its parent instead of on it: a block on the certificate that the parent itself rests on,
//! without a timeout certificate, or with one that names a higher certificate; and votes for it in both rounds.

use std::collections::VecDeque;
use std::rc::Rc;

use cairn_types::certificate::{First, Second};
use cairn_types::{BlockId, Message, Proposal, Slot};

use super::{Role, Seat, Sending, pass};
use crate::packet::Sealed;

/// Proposals of others it remembers: those whose blocks may not be final yet.
const KEPT_MAX: usize = 8;

#[derive(Default)]
pub(super) struct StaleProposer {
    heard: VecDeque<Proposal>,
}

impl StaleProposer {
    fn proposal_of(&self, block: BlockId) -> Option<&Proposal> {
        self.heard.iter().find(|proposal| proposal.block.id() == block)
    }

    /// The proposal beside the parent of the one that the honest software would send.
    fn beside(&self, seat: &Seat<'_>, wanted: &Proposal) -> Option<Rc<Sealed>> {
        let header = wanted.block.header();
        let parent = self.proposal_of(header.parent)?;
        let slot = Slot { view: header.view, proposer: header.proposer, ..parent.block.header().slot() };
        let block = seat.ledger?.build(slot, header.time_ms, Vec::new()).ok()?.block;
        let stale = Proposal { justify: parent.justify.clone(), ..wanted.clone() };
        seat.propose(&Message::Proposal(stale), block)
    }
}

impl Role for StaleProposer {
    fn sends(&mut self, seat: &mut Seat<'_>, to: &[usize], message: &Rc<Sealed>) -> Vec<Sending> {
        let Message::Proposal(wanted) = &message.message else { return pass(to, message) };
        let Some(stale) = self.beside(seat, wanted) else { return pass(to, message) };
        let Message::Proposal(proposal) = &stale.message else { return pass(to, message) };
        let (view, block) = (proposal.block.header().view, proposal.block.id());
        let vote = seat.seal(Message::Vote(seat.ballot::<First>(view, block)));
        let commit = seat.seal(Message::CommitVote(seat.ballot::<Second>(view, block)));
        [pass(to, &stale), pass(to, &vote), pass(to, &commit)].into_iter().flatten().collect()
    }

    fn hears(&mut self, _: &mut Seat<'_>, message: &Rc<Sealed>) -> Vec<Sending> {
        if let Message::Proposal(proposal) = &message.message {
            if self.heard.len() >= KEPT_MAX {
                self.heard.pop_front();
            }
            self.heard.push_back(proposal.clone());
        }
        Vec::new()
    }
}
