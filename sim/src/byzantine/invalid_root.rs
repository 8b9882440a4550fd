//! As a leader, proposes blocks that look right and are not: a root that execution does not give, a body that is not
//! the header's, a time that does not rise, a height that leaves a gap.

use std::rc::Rc;
use std::sync::Arc;

use cairn_types::{Block, Context, Header, Message};
use rand::Rng;

use super::{Role, Seat, Sending, pass};
use crate::packet::Sealed;

pub(super) struct InvalidRoot;

impl Role for InvalidRoot {
    fn sends(&mut self, seat: &mut Seat<'_>, to: &[usize], message: &Rc<Sealed>) -> Vec<Sending> {
        let Message::Proposal(proposal) = &message.message else { return pass(to, message) };
        let bad = spoil(seat, &proposal.block);
        match seat.propose(&message.message, Arc::new(bad)) {
            Some(bad) => pass(to, &bad),
            None => Vec::new(),
        }
    }
}

fn spoil(seat: &mut Seat<'_>, block: &Block) -> Block {
    let wrong = Context::State.hash(b"a root that nothing executes to");
    let mut header: Header = block.header().clone();
    let mut transactions = block.transactions().to_vec();
    match seat.rng.random_range(0..8) {
        0 => header.state_root = wrong,
        1 => header.anchors_root = wrong,
        2 => header.history_root = wrong,
        3 => header.tx_root = wrong,
        4 => header.time_ms = 1,
        5 => header.height = header.height.next(),
        6 => header.anchors_size += 1,
        _ if transactions.is_empty() => header.tx_count = 1,
        _ => {
            transactions.pop();
        }
    }
    Block::new(header, transactions)
}
