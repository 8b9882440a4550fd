//! What one validator may send us: how fast, and how much may wait here at once. It outlives links, so
//! that reconnecting gains nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::message::Plane;

/// Unprocessed bytes of one validator on the hot plane: two of the largest proposals.
const HOT_WAITING_BYTES_MAX: usize = 8 * 1_024 * 1_024;
/// Unprocessed bytes of one validator on the bulk plane: what its own queue may hold.
const BULK_WAITING_BYTES_MAX: usize = 16 * 1_024 * 1_024;
/// Messages per second; a view takes about 6 of each validator, and views take tens of milliseconds.
const MESSAGES_PER_S: f64 = 2_000.0;
/// Messages at once after a pause.
const MESSAGES_BURST: f64 = 4_000.0;
/// Bytes per second: 20 blocks of the largest size.
const BYTES_PER_S: f64 = 64.0 * 1_024.0 * 1_024.0;
/// Bytes at once after a pause.
const BYTES_BURST: f64 = 32.0 * 1_024.0 * 1_024.0;

/// One validator's allowance on one plane.
#[derive(Debug)]
pub(crate) struct Allowance {
    /// Bytes that may still wait here. Taken before a frame is read, given back when the node drops it.
    pub(crate) credit: Arc<Semaphore>,
    rate: Mutex<Rate>,
}

#[derive(Debug)]
struct Rate {
    messages: TokenBucket,
    bytes: TokenBucket,
}

impl Allowance {
    pub(crate) fn new(plane: Plane) -> Self {
        let waiting = match plane {
            Plane::Hot => HOT_WAITING_BYTES_MAX,
            Plane::Bulk => BULK_WAITING_BYTES_MAX,
        };
        let now = Instant::now();
        let rate = Rate {
            messages: TokenBucket::new(MESSAGES_PER_S, MESSAGES_BURST, now),
            bytes: TokenBucket::new(BYTES_PER_S, BYTES_BURST, now),
        };
        Self { credit: Arc::new(Semaphore::new(waiting)), rate: Mutex::new(rate) }
    }

    /// Charges a received frame; gives how long to wait before reading the next.
    pub(crate) fn charge(&self, bytes: usize, now: Instant) -> Duration {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        rate.messages.charge(1.0, now).max(rate.bytes.charge(bytes as f64, now))
    }
}

/// Tokens that refill at a steady rate up to a burst, and may go into debt once: what has been received
/// is paid for by waiting, never thrown away.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    per_s: f64,
    burst: f64,
    tokens: f64,
    at: Instant,
}

impl TokenBucket {
    pub(crate) fn new(per_s: f64, burst: f64, now: Instant) -> Self {
        Self { per_s, burst, tokens: burst, at: now }
    }

    /// Takes `cost` tokens; gives the time until none are owed.
    pub(crate) fn charge(&mut self, cost: f64, now: Instant) -> Duration {
        self.refill(now);
        self.tokens -= cost;
        if self.tokens >= 0.0 {
            return Duration::ZERO;
        }
        // A cost is at most a frame's bytes, so this is a few seconds at most.
        Duration::try_from_secs_f64(-self.tokens / self.per_s).unwrap_or(Duration::ZERO)
    }

    /// Takes one token if there is one.
    pub(crate) fn try_take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let granted = self.tokens >= 1.0;
        if granted {
            self.tokens -= 1.0;
        }
        granted
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.tokens = (self.tokens + elapsed * self.per_s).min(self.burst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_a_burst_through_then_makes_wait() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(10.0, 20.0, start);
        assert_eq!(bucket.charge(20.0, start), Duration::ZERO);
        assert_eq!(bucket.charge(5.0, start), Duration::from_millis(500));
        assert!(!bucket.try_take(start + Duration::from_millis(500)));
        assert!(bucket.try_take(start + Duration::from_millis(601)));
    }

    #[test]
    fn a_pause_refills_no_more_than_the_burst() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(10.0, 2.0, start);
        let later = start + Duration::from_secs(3_600);
        assert_eq!(bucket.charge(2.0, later), Duration::ZERO);
        assert!(bucket.charge(1.0, later) > Duration::ZERO);
    }
}
