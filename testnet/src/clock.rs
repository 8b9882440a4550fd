//! The wall clock, for genesis times and transaction expiries.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix milliseconds now.
#[expect(
    clippy::disallowed_methods,
    reason = "networks and transactions made here are dated by this machine"
)]
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
