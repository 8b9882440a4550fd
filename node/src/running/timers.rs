//! The consensus loop's timers: one deadline per kind, the newest replaces the one before.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// Pending deadlines, keyed by what fires.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    deadlines: HashMap<T, Instant>,
}

impl<T: Copy + Eq + Hash> Timers<T> {
    /// No timers.
    pub(crate) fn new() -> Self {
        Self { deadlines: HashMap::new() }
    }

    /// Arms `timer`, replacing an earlier deadline of the same timer.
    pub(crate) fn set(&mut self, timer: T, after: Duration) {
        self.deadlines.insert(timer, Instant::now() + after);
    }

    /// Forgets every timer that `stale` accepts.
    pub(crate) fn forget(&mut self, stale: impl Fn(&T) -> bool) {
        self.deadlines.retain(|timer, _| !stale(timer));
    }

    /// Waits for the earliest deadline and takes that timer; waits for ever when none is armed.
    pub(crate) async fn next(&mut self) -> T {
        let earliest = self.deadlines.iter().min_by_key(|(_, at)| **at).map(|(timer, at)| (*timer, *at));
        let Some((timer, at)) = earliest else { return std::future::pending().await };
        tokio::time::sleep_until(at).await;
        self.deadlines.remove(&timer);
        timer
    }
}
