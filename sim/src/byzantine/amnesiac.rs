//! Honest software on the disk of an old backup: what it has signed since is forgotten. It should notice, while
//! it listens after its start, that its key has signed beyond what its journal knows, and refuse to sign.

use rand::Rng;

use super::{Deed, Role, Seat};

/// Between two deeds, microseconds.
const EVERY_US: u64 = 2_500_000;

#[derive(Default)]
pub(super) struct Amnesiac {
    deeds: u32,
}

impl Role for Amnesiac {
    fn every(&self) -> Option<u64> {
        Some(EVERY_US)
    }

    fn deed(&mut self, seat: &mut Seat<'_>) -> Deed {
        self.deeds += 1;
        match self.deeds {
            1 => Deed::BackUp,
            _ if seat.rng.random_bool(0.5) => Deed::Restore,
            _ => Deed::Nothing,
        }
    }
}
