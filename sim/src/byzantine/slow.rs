//! Says everything, late.

use std::rc::Rc;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{Role, Seat, Sending};
use crate::packet::Sealed;

/// How late, at most, in view timeouts.
const TIMEOUTS_MAX: u64 = 2;
/// How late answers to requests are, at most, microseconds.
const ANSWERS_MAX_US: u64 = 2_000_000;

pub(super) struct Slow;

impl Role for Slow {
    fn sends(&mut self, seat: &mut Seat<'_>, to: &[usize], message: &Rc<Sealed>) -> Vec<Sending> {
        let most = TIMEOUTS_MAX * seat.regime.params.timeout_base_ms * 1_000;
        to.iter()
            .map(|to| Sending { to: *to, sealed: Rc::clone(message), after: seat.rng.random_range(1..=most) })
            .collect()
    }

    fn late(&self, rng: &mut ChaCha8Rng) -> Option<u64> {
        Some(rng.random_range(1..=ANSWERS_MAX_US))
    }
}
