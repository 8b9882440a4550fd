//! Who proposed and who missed its turn, counted from final headers since this node started.

use cairn_rpc::Activity;
use cairn_types::{Header, ValidatorSet, View};
use parking_lot::Mutex;

/// Views between two blocks that are looked at, at most: a longer gap says nothing more about anyone.
const GAP_VIEWS_MAX: u64 = 10_000;

/// One counter per validator of the set.
#[derive(Debug)]
pub(crate) struct Turns {
    counts: Mutex<Vec<Activity>>,
}

impl Turns {
    /// No turns yet.
    pub(crate) fn new(set: &ValidatorSet) -> Self {
        Self { counts: Mutex::new(vec![Activity::default(); set.count()]) }
    }

    /// Starts anew with the validators of the epoch that begins.
    pub(crate) fn begin_epoch(&self, set: &ValidatorSet) {
        *self.counts.lock() = vec![Activity::default(); set.count()];
    }

    /// Counts a final block, and the given-up views between it and its parent. One of an earlier epoch is
    /// passed over: its positions mean other validators.
    pub(crate) fn count(&self, set: &ValidatorSet, header: &Header) {
        if header.epoch != set.epoch() {
            return;
        }
        let mut counts = self.counts.lock();
        if let Some(activity) = counts.get_mut(usize::from(header.proposer.0)) {
            activity.proposed += 1;
        }
        let first = header.parent_view.get().saturating_add(1);
        let skipped = header.view.get().saturating_sub(first).min(GAP_VIEWS_MAX);
        for offset in 0..skipped {
            let leader = set.leader(View::new(first.saturating_add(offset)));
            if let Some(activity) = counts.get_mut(usize::from(leader.0)) {
                activity.missed += 1;
            }
        }
    }

    /// The counts, in the set's order.
    pub(crate) fn counts(&self) -> Vec<Activity> {
        self.counts.lock().clone()
    }
}
