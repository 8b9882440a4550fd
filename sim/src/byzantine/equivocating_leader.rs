//! As a leader, proposes one block to some and another, just as valid, to the others; votes for both.

use std::rc::Rc;

use cairn_types::Message;
use cairn_types::certificate::First;
use rand::Rng;

use super::{Role, Seat, Sending, pass};
use crate::packet::Sealed;

pub(super) struct EquivocatingLeader;

impl Role for EquivocatingLeader {
    fn sends(&mut self, seat: &mut Seat<'_>, to: &[usize], message: &Rc<Sealed>) -> Vec<Sending> {
        let Message::Proposal(proposal) = &message.message else { return pass(to, message) };
        let sibling = seat.sibling(&proposal.block);
        let Some(second) = sibling.and_then(|block| seat.propose(&message.message, block)) else {
            return pass(to, message);
        };
        let Message::Proposal(other) = &second.message else { return pass(to, message) };
        let vote = seat.ballot::<First>(other.block.header().view, other.block.id());
        let vote = seat.seal(Message::Vote(vote));
        let mut sendings = Vec::new();
        for node in to {
            // Sometimes both, so that evidence exists.
            let (first, also) = match seat.rng.random_range(0..5) {
                0 => (true, true),
                1 | 2 => (true, false),
                _ => (false, true),
            };
            let node = std::slice::from_ref(node);
            if first {
                sendings.extend(pass(node, message));
            }
            if also {
                sendings.extend(pass(node, &second));
                sendings.extend(pass(node, &vote));
            }
        }
        sendings
    }
}
