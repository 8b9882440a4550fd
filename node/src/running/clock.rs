//! The wall clock: the only place in the project that reads it for a running node.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix milliseconds now; 0 for a clock before 1970, which every time rule then refuses.
#[expect(clippy::disallowed_methods, reason = "the node is where time enters")]
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
