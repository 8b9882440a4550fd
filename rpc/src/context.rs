//! What every interface shares while the node runs.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use cairn_types::Height;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, FinalBlock};
use crate::config::{CALLS_IN_FLIGHT_MAX, RpcConfig};
use crate::fault::Fault;
use crate::metrics::RpcMetrics;

/// Final blocks kept for subscribers, so that many of them cost one read.
const RECENT_BLOCKS_MAX: usize = 32;
/// Records in them, at most, beside the newest block: about half a kB each.
const RECENT_RECORDS_MAX: usize = 32_768;
/// Addresses whose allowance is remembered; beyond it, strangers share one allowance.
const CALLERS_MAX: usize = 65_536;
/// How long a caller waits for a free place when too many calls are being answered, ms.
const BUSY_RETRY_MS: u64 = 500;

/// Shared by all interfaces.
pub(crate) struct Context {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) config: RpcConfig,
    pub(crate) metrics: RpcMetrics,
    pub(crate) shutdown: CancellationToken,
    allowance: DefaultKeyedRateLimiter<IpAddr>,
    in_flight: Semaphore,
    recent: Mutex<BTreeMap<u64, Arc<FinalBlock>>>,
}

impl Context {
    pub(crate) fn new(
        config: RpcConfig,
        backend: Arc<dyn Backend>,
        metrics: RpcMetrics,
        shutdown: CancellationToken,
    ) -> Self {
        let one = NonZeroU32::MIN;
        let quota = Quota::per_second(NonZeroU32::new(config.calls_per_second).unwrap_or(one))
            .allow_burst(NonZeroU32::new(config.calls_burst).unwrap_or(one));
        Self {
            backend,
            config,
            metrics,
            shutdown,
            allowance: RateLimiter::keyed(quota),
            in_flight: Semaphore::new(CALLS_IN_FLIGHT_MAX),
            recent: Mutex::new(BTreeMap::new()),
        }
    }

    /// Charges `calls` calls to the caller at once: all of them or none.
    ///
    /// # Errors
    /// [`Fault::RateLimited`] with the time to wait.
    pub(crate) fn charge(&self, caller: IpAddr, calls: u32) -> Result<(), Fault> {
        let Some(calls) = NonZeroU32::new(calls) else { return Ok(()) };
        if caller.is_loopback() && self.config.loopback_unlimited {
            return Ok(());
        }
        let mut key = subscriber_line(caller);
        if self.allowance.len() >= CALLERS_MAX {
            self.allowance.retain_recent();
            if self.allowance.len() >= CALLERS_MAX {
                key = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            }
        }
        match self.allowance.check_key_n(&key, calls) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(refused)) => {
                use governor::clock::Clock;
                let wait = refused.wait_time_from(governor::clock::DefaultClock::default().now());
                let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
                Err(Fault::RateLimited { retry_after_ms: wait_ms })
            }
            // More calls than an allowance can ever hold: the batch limit is below it, so never by a batch.
            Err(_) => Err(Fault::RateLimited { retry_after_ms: 60_000 }),
        }
    }

    /// A place among the calls being answered.
    ///
    /// # Errors
    /// [`Fault::NotReady`] when all are taken.
    pub(crate) fn enter(&self) -> Result<SemaphorePermit<'_>, Fault> {
        self.in_flight.try_acquire().map_err(|_| Fault::NotReady {
            reason: format!("{CALLS_IN_FLIGHT_MAX} calls are being answered already"),
            retry_after_ms: BUSY_RETRY_MS,
        })
    }

    /// A final block for subscribers, read at most a few times however many they are.
    pub(crate) async fn final_block(&self, height: Height) -> Result<Option<Arc<FinalBlock>>, Fault> {
        if let Some(block) = self.lock_recent().get(&height.get()) {
            return Ok(Some(block.clone()));
        }
        let Some(block) = self.backend.final_block(height).await?.map(Arc::new) else { return Ok(None) };
        let mut recent = self.lock_recent();
        recent.insert(height.get(), block.clone());
        let mut records: usize = recent.values().map(|block| block.records.len()).sum();
        while (recent.len() > RECENT_BLOCKS_MAX || records > RECENT_RECORDS_MAX) && recent.len() > 1 {
            let oldest = recent.pop_first();
            records = records.saturating_sub(oldest.map_or(0, |(_, block)| block.records.len()));
        }
        Ok(Some(block))
    }

    fn lock_recent(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<FinalBlock>>> {
        // The map stays whole whatever panicked while it was held: every change is one call.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What counts as one caller: an IPv4 address, or an IPv6 /64, which is what one subscriber line gets.
fn subscriber_line(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}
