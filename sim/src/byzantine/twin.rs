//! Runs twice with one key and two disks. Neither instance knows of the other; what they do to each other and
//! to the network follows from two honest programs.

use std::rc::Rc;

use rand::Rng;

use super::{Role, Seat, Sending, pass};
use crate::packet::Sealed;

/// Of the messages of one instance, how many of a hundred reach a given node: the two share an address.
const REACHES_PERCENT: u32 = 60;

pub(super) struct Twin;

impl Role for Twin {
    fn sends(&mut self, seat: &mut Seat<'_>, to: &[usize], message: &Rc<Sealed>) -> Vec<Sending> {
        let reached: Vec<usize> =
            to.iter().copied().filter(|_| seat.rng.random_range(0..100) < REACHES_PERCENT).collect();
        pass(&reached, message)
    }

    fn has_two_instances(&self) -> bool {
        true
    }
}
