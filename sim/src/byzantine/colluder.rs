//! Works with others of its kind to fork the chain: their leader shows one block to one half of the honest and another
//! to the other half, and all of them vote and commit-vote for both. Up to `f` of them can do nothing; beyond, they
//! must succeed, which shows that a fork is noticed.

use std::collections::BTreeSet;
use std::rc::Rc;

use cairn_types::certificate::{First, Second};
use cairn_types::{BlockId, Message, View};

use super::{Role, Seat, Sending, pass};
use crate::packet::Sealed;

#[derive(Default)]
pub(super) struct Colluder {
    voted: BTreeSet<(View, BlockId)>,
}

impl Colluder {
    /// Both votes, once for each block.
    fn votes(&mut self, seat: &Seat<'_>, view: View, block: BlockId) -> Vec<Sending> {
        if !self.voted.insert((view, block)) {
            return Vec::new();
        }
        while self.voted.len() > 64 {
            self.voted.pop_first();
        }
        let vote = seat.seal(Message::Vote(seat.ballot::<First>(view, block)));
        let commit = seat.seal(Message::CommitVote(seat.ballot::<Second>(view, block)));
        [seat.to_all(&vote), seat.to_all(&commit)].into_iter().flatten().collect()
    }
}

impl Role for Colluder {
    fn sends(&mut self, seat: &mut Seat<'_>, to: &[usize], message: &Rc<Sealed>) -> Vec<Sending> {
        let Message::Proposal(proposal) = &message.message else {
            return match message.message {
                Message::Vote(_) | Message::CommitVote(_) => Vec::new(), // said for every block anyway
                _ => pass(to, message),
            };
        };
        let block = &proposal.block;
        let sibling = seat.sibling(block);
        let Some(second) = sibling.and_then(|block| seat.propose(&message.message, block)) else {
            return pass(to, message);
        };
        let Message::Proposal(other) = &second.message else { return pass(to, message) };
        let view = block.header().view;
        let mut sendings = Vec::new();
        for node in to {
            let accomplice = seat.accomplices.contains(node);
            let node_slice = std::slice::from_ref(node);
            if accomplice || node % 2 == 0 {
                sendings.extend(pass(node_slice, message));
            }
            if accomplice || node % 2 == 1 {
                sendings.extend(pass(node_slice, &second));
            }
        }
        sendings.extend(self.votes(seat, view, block.id()));
        sendings.extend(self.votes(seat, view, other.block.id()));
        sendings
    }

    fn hears(&mut self, seat: &mut Seat<'_>, message: &Rc<Sealed>) -> Vec<Sending> {
        let Message::Proposal(it) = &message.message else { return Vec::new() };
        let by_accomplice = seat.is_accomplice(it.block.header().proposer);
        if by_accomplice { self.votes(seat, it.block.header().view, it.block.id()) } else { Vec::new() }
    }
}
