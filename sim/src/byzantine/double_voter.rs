//! Votes and commit-votes for every block it hears of, whatever it voted for before.

use std::collections::BTreeSet;
use std::rc::Rc;

use cairn_types::certificate::{First, Second};
use cairn_types::{BlockId, Message, View};

use super::{Role, Seat, Sending};
use crate::packet::Sealed;

/// Views it remembers.
const VIEWS_KEPT: u64 = 16;

#[derive(Default)]
pub(super) struct DoubleVoter {
    voted: BTreeSet<(View, BlockId)>,
}

impl Role for DoubleVoter {
    fn hears(&mut self, seat: &mut Seat<'_>, message: &Rc<Sealed>) -> Vec<Sending> {
        let (view, block) = match &message.message {
            Message::Proposal(it) => (it.block.header().view, it.block.id()),
            Message::Vote(it) => (it.view, it.block),
            _ => return Vec::new(),
        };
        if !self.voted.insert((view, block)) {
            return Vec::new();
        }
        let oldest = View::new(view.get().saturating_sub(VIEWS_KEPT));
        self.voted.retain(|(view, _)| *view >= oldest);
        let vote = seat.seal(Message::Vote(seat.ballot::<First>(view, block)));
        let commit = seat.seal(Message::CommitVote(seat.ballot::<Second>(view, block)));
        [seat.to_all(&vote), seat.to_all(&commit)].into_iter().flatten().collect()
    }
}
