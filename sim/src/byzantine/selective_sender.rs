//! Says everything to a few, chosen anew from time to time, so that they know more than the others: often just
//! less than a quorum.

use std::rc::Rc;

use cairn_types::View;
use rand::Rng;
use rand::seq::SliceRandom;

use super::{Role, Seat, Sending, pass};
use crate::packet::Sealed;

/// Views for which it keeps to its choice, at most.
const VIEWS_MAX: u64 = 4;

#[derive(Default)]
pub(super) struct SelectiveSender {
    chosen: Vec<usize>,
    until: View,
}

impl Role for SelectiveSender {
    fn sends(&mut self, seat: &mut Seat<'_>, to: &[usize], message: &Rc<Sealed>) -> Vec<Sending> {
        if seat.view >= self.until {
            let n = seat.others.len();
            self.chosen = seat.others.to_vec();
            self.chosen.shuffle(seat.rng);
            self.chosen.truncate(seat.rng.random_range(0..=n * 2 / 3));
            self.until = View::new(seat.view.get() + seat.rng.random_range(1..=VIEWS_MAX));
        }
        let reached: Vec<usize> = to.iter().copied().filter(|to| self.chosen.contains(to)).collect();
        pass(&reached, message)
    }
}
