//! Repeats messages of long ago, its own and others', and invents votes of views far ahead.

use std::collections::VecDeque;
use std::rc::Rc;

use cairn_types::certificate::{First, Second};
use cairn_types::{BlockId, Context, Message, View};
use rand::Rng;
use rand::seq::IndexedRandom;

use super::{Role, Seat, Sending, pass};
use crate::packet::Sealed;

/// Messages it remembers.
const KEPT_MAX: usize = 2_000;
/// Of those it hears, one of so many.
const KEEPS_ONE_OF: u32 = 5;
/// Messages of one burst, to each node.
const BURST: usize = 4;
/// Between two bursts, microseconds.
const EVERY_US: u64 = 150_000;
/// How far ahead it invents, views.
const AHEAD_MAX: u64 = 1_000_000;

#[derive(Default)]
pub(super) struct StaleFlooder {
    kept: VecDeque<Rc<Sealed>>,
}

impl Role for StaleFlooder {
    fn hears(&mut self, seat: &mut Seat<'_>, message: &Rc<Sealed>) -> Vec<Sending> {
        let says_more = !matches!(message.message, Message::Status(_));
        if says_more && seat.rng.random_range(0..KEEPS_ONE_OF) == 0 {
            if self.kept.len() >= KEPT_MAX {
                self.kept.pop_front();
            }
            self.kept.push_back(Rc::clone(message));
        }
        Vec::new()
    }

    fn every(&self) -> Option<u64> {
        Some(EVERY_US)
    }

    fn speaks(&mut self, seat: &mut Seat<'_>) -> Vec<Sending> {
        let mut sendings = Vec::new();
        let kept = self.kept.make_contiguous();
        for to in seat.others {
            for _ in 0..BURST {
                if let Some(old) = kept.choose(seat.rng) {
                    sendings.extend(pass(std::slice::from_ref(to), old));
                }
            }
        }
        let ahead = seat.rng.random_range(0..AHEAD_MAX);
        let view = View::new(seat.view.get() + ahead);
        let block = BlockId::new(Context::Block.hash(&ahead.to_le_bytes()));
        let vote = seat.seal(Message::Vote(seat.ballot::<First>(view, block)));
        let commit = seat.seal(Message::CommitVote(seat.ballot::<Second>(view, block)));
        sendings.extend(seat.to_all(&vote));
        sendings.extend(seat.to_all(&commit));
        sendings
    }
}
