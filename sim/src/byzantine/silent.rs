//! Hears everything and says nothing.

use std::rc::Rc;

use super::{Role, Seat, Sending};
use crate::packet::Sealed;

pub(super) struct Silent;

impl Role for Silent {
    fn sends(&mut self, _: &mut Seat<'_>, _: &[usize], _: &Rc<Sealed>) -> Vec<Sending> {
        Vec::new()
    }
}
