//! Proposes and gives up views like everyone, and never votes.

use std::rc::Rc;

use cairn_types::Message;

use super::{Role, Seat, Sending, pass};
use crate::packet::Sealed;

pub(super) struct VoteWithholder;

impl Role for VoteWithholder {
    fn sends(&mut self, _: &mut Seat<'_>, to: &[usize], message: &Rc<Sealed>) -> Vec<Sending> {
        match message.message {
            Message::Vote(_) | Message::CommitVote(_) => Vec::new(),
            _ => pass(to, message),
        }
    }
}
