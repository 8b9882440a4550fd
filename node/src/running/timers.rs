//! The consensus loop's timers: one deadline per kind, the newest replaces the one before.

use std::collections::BTreeMap;
use std::time::Duration;

use cairn_consensus::{Timer, TimerKind};
use tokio::time::Instant;

/// Pending deadlines, at most one per kind.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    deadlines: BTreeMap<TimerKind, (Instant, Timer)>,
}

impl Timers {
    /// Arms `timer`, replacing an earlier deadline of the same kind.
    pub(crate) fn set(&mut self, timer: Timer, after: Duration) {
        self.deadlines.insert(timer.kind, (Instant::now() + after, timer));
    }

    /// Waits for the earliest deadline and takes that timer; waits for ever when none is armed.
    pub(crate) async fn next(&mut self) -> Timer {
        let Some((at, timer)) = self.deadlines.values().min_by_key(|(at, _)| *at).copied() else {
            return std::future::pending().await;
        };
        tokio::time::sleep_until(at).await;
        self.deadlines.remove(&timer.kind);
        timer
    }
}
