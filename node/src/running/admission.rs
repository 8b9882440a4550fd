//! How much may wait: as many bytes of transactions as land within a bounded time. More would only wait longer, and
//! checking, storing and passing on what waits takes the processor from what lands. Bytes, since a transaction of
//! 256 proofs is the work of many with one.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long a transaction that is taken now may have to wait behind the others.
const WAIT_MAX: Duration = Duration::from_millis(1_500);
/// Bytes per second assumed before anything was measured: some 2,000 transactions.
const RATE_AT_FIRST: f64 = 8e6;
/// Bytes that may wait however slow the network is: a block's worth, so that one slow block refuses nobody.
const WAITING_MIN: usize = 3 << 20;
/// The time over which the rate is measured: some ten blocks.
const MEASURE_OVER: Duration = Duration::from_millis(500);
/// The part of the newest measurement in the rate: a few measurements make a new rate.
const NEWEST_PART: f64 = 0.3;
/// Bounds of what a refused client is told to wait, ms.
const RETRY_MS: (u64, u64) = (100, 10_000);

/// The rate at which pending transactions land.
#[derive(Debug)]
pub(crate) struct Drain {
    measured: Mutex<Measured>,
}

#[derive(Debug)]
struct Measured {
    per_s: f64,
    since: Instant,
    landed: usize,
}

impl Drain {
    /// Nothing measured yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self { measured: Mutex::new(Measured { per_s: RATE_AT_FIRST, since: now, landed: 0 }) }
    }

    /// `bytes` of transactions have landed, and `waiting` more wait. Time without any that wait says nothing about
    /// how many could land, and is left out.
    pub(crate) fn landed(&self, bytes: usize, waiting: usize, now: Instant) {
        let mut measured = self.measured.lock();
        measured.landed += bytes;
        let elapsed = now.saturating_duration_since(measured.since);
        if waiting == 0 {
            (measured.since, measured.landed) = (now, 0);
        } else if elapsed >= MEASURE_OVER {
            let newest = measured.landed as f64 / elapsed.as_secs_f64();
            measured.per_s += NEWEST_PART * (newest - measured.per_s);
            (measured.since, measured.landed) = (now, 0);
        }
    }

    /// Whether one more may wait behind `waiting` bytes of others.
    pub(crate) fn has_room(&self, waiting: usize) -> bool {
        waiting < WAITING_MIN || waiting as f64 <= self.per_s() * WAIT_MAX.as_secs_f64()
    }

    /// When a client that was refused should come again, ms: once half of those that wait have landed.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped, and not negative")]
    pub(crate) fn retry_after_ms(&self, waiting: usize) -> u64 {
        let ms = 1_000.0 * waiting as f64 / 2.0 / self.per_s().max(1.0);
        (ms as u64).clamp(RETRY_MS.0, RETRY_MS.1)
    }

    fn per_s(&self) -> f64 {
        self.measured.lock().per_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: usize = 1_000_000;

    /// A drain after `seconds` in which `per_s` bytes landed each second, in blocks of a tenth of that.
    fn drained(per_s: usize, seconds: u32, waiting: usize) -> Drain {
        let start = Instant::now();
        let drain = Drain::new(start);
        for block in 1..=10 * seconds {
            drain.landed(per_s / 10, waiting, start + Duration::from_millis(100) * block);
        }
        drain
    }

    #[test]
    fn room_follows_the_measured_rate() {
        let fast = drained(24 * MB, 20, 2 * MB);
        assert!(fast.has_room(32 * MB) && !fast.has_room(38 * MB));
        let slow = drained(MB / 10, 20, 2 * MB);
        let block = WAITING_MIN;
        assert!(slow.has_room(block - 1) && !slow.has_room(block), "a block's worth always has room");
    }

    #[test]
    fn an_idle_network_forgets_nothing() {
        let idle = drained(MB / 25, 20, 0);
        assert!(idle.has_room(11 * MB) && !idle.has_room(13 * MB), "what was assumed at first");
    }

    #[test]
    fn the_pause_is_the_time_in_which_half_lands() {
        let drain = drained(8 * MB, 20, 2 * MB);
        assert!((900..=1_100).contains(&drain.retry_after_ms(16 * MB)), "{}", drain.retry_after_ms(16 * MB));
        assert_eq!(drain.retry_after_ms(1), RETRY_MS.0);
        assert_eq!(drain.retry_after_ms(MB * MB), RETRY_MS.1);
    }
}
