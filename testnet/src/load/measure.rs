//! When each transaction was due, sent, accepted and final, and what that makes.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use cairn_types::TxId;
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until};

use super::sending::Errors;
use super::{Finals, LoadArgs};
use crate::process;

/// How often the end of a run is looked for.
const DRAIN_POLL: Duration = Duration::from_millis(50);
/// Longest latency told apart, microseconds.
const LATENCY_US_MAX: u64 = 120_000_000;

/// The measured part of a run, from its start.
#[derive(Clone, Copy)]
pub(super) struct Window {
    from: Duration,
    to: Duration,
}

impl Window {
    pub(super) const fn new(warmup_s: u64, duration_s: u64) -> Self {
        Self {
            from: Duration::from_secs(warmup_s),
            to: Duration::from_secs(warmup_s.saturating_add(duration_s)),
        }
    }

    fn holds(&self, moment: Duration) -> bool {
        (self.from..self.to).contains(&moment)
    }

    fn seconds(&self) -> f64 {
        (self.to - self.from).as_secs_f64()
    }
}

/// The life of every transaction. Moments are microseconds since the start, 0 for not yet.
pub(super) struct Ledger {
    by_id: HashMap<TxId, usize>,
    interval: Duration,
    start: OnceLock<Instant>,
    sent: Vec<AtomicU64>,
    accepted: Vec<AtomicU64>,
    finals: Vec<AtomicU64>,
    final_count: AtomicUsize,
    accepted_count: AtomicUsize,
}

impl Ledger {
    pub(super) fn new(ids: Vec<TxId>, rate: f64) -> Self {
        let moments = || (0..ids.len()).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        Self {
            interval: Duration::from_secs_f64(rate.recip()),
            start: OnceLock::new(),
            sent: moments(),
            accepted: moments(),
            finals: moments(),
            final_count: AtomicUsize::new(0),
            accepted_count: AtomicUsize::new(0),
            by_id: ids.into_iter().enumerate().map(|(index, id)| (id, index)).collect(),
        }
    }

    pub(super) fn begin(&self, at: Instant) {
        // Only the first call counts; there is only one.
        let _ = self.start.set(at);
    }

    fn offset(&self, index: usize) -> Duration {
        self.interval.mul_f64(index as f64)
    }

    pub(super) fn due(&self, index: usize) -> Instant {
        self.start.get().copied().unwrap_or_else(Instant::now) + self.offset(index)
    }

    fn now_us(&self) -> u64 {
        let since = self.start.get().map(|start| Instant::now().saturating_duration_since(*start));
        since.map_or(1, |since| micros(since).max(1))
    }

    pub(super) fn sent(&self, index: usize) {
        self.sent[index].store(self.now_us(), Ordering::Relaxed);
    }

    pub(super) fn accepted(&self, index: usize) {
        self.accepted[index].store(self.now_us(), Ordering::Relaxed);
        self.accepted_count.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until everything accepted is final, at most `patience`.
    pub(super) async fn wait_final(&self, patience: Duration) {
        let until = Instant::now() + patience;
        while Instant::now() < until
            && self.final_count.load(Ordering::Relaxed) < self.accepted_count.load(Ordering::Relaxed)
        {
            sleep(DRAIN_POLL).await;
        }
    }

    pub(super) fn report(&self, args: &LoadArgs, window: Window, errors: Errors, uses: &Uses) -> LoadReport {
        let (mut finality, mut acceptance, mut lateness) = (histogram(), histogram(), histogram());
        let mut after_sending = histogram();
        let (mut due, mut final_in_window) = (0u64, 0u64);
        for index in 0..self.finals.len() {
            let offset = self.offset(index);
            let [sent, accepted, became_final] = [&self.sent, &self.accepted, &self.finals]
                .map(|moments| moments[index].load(Ordering::Relaxed));
            if became_final > 0 && window.holds(Duration::from_micros(became_final)) {
                final_in_window += 1;
            }
            if !window.holds(offset) {
                continue;
            }
            due += 1;
            if sent > 0 && became_final > 0 {
                after_sending.saturating_record(became_final.saturating_sub(sent).max(1));
            }
            let pairs = [(&mut finality, became_final), (&mut acceptance, accepted), (&mut lateness, sent)];
            for (histogram, moment) in pairs.into_iter().filter(|(_, moment)| *moment > 0) {
                histogram.saturating_record(moment.saturating_sub(micros(offset)).max(1));
            }
        }
        LoadReport {
            rate_asked: args.rate,
            seconds: window.seconds(),
            proofs_per_transaction: args.proofs,
            due,
            final_of_due: finality.len(),
            final_per_second: final_in_window as f64 / window.seconds(),
            finality: Latency::of(&finality),
            finality_after_sending: Latency::of(&after_sending),
            acceptance: Latency::of(&acceptance),
            send_lateness: Latency::of(&lateness),
            sent_total: self.sent.iter().filter(|moment| moment.load(Ordering::Relaxed) > 0).count() as u64,
            accepted_total: self.accepted_count.load(Ordering::Relaxed) as u64,
            final_total: self.final_count.load(Ordering::Relaxed) as u64,
            errors,
            cpu_ms_per_transaction: per(uses.nodes_cpu_seconds() * 1_000.0, final_in_window),
            load_cpu_ms_per_transaction: per(uses.own_cpu_seconds * 1_000.0, final_in_window),
            nodes: uses.nodes.clone(),
        }
    }
}

impl Finals for Ledger {
    /// A transaction was seen in a final block. Unknown ids belong to somebody else.
    fn became_final(&self, id: &TxId) {
        let Some(index) = self.by_id.get(id) else { return };
        let first =
            self.finals[*index].compare_exchange(0, self.now_us(), Ordering::Relaxed, Ordering::Relaxed);
        if first.is_ok() {
            self.final_count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn per(total: f64, count: u64) -> Option<f64> {
    (count > 0 && total > 0.0).then(|| total / count as f64)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A histogram of microseconds with three digits of precision.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are constants that fit")
}

/// Percentiles in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// Half were at most this, ms.
    pub p50_ms: f64,
    /// 95 % were at most this, ms.
    pub p95_ms: f64,
    /// 99 % were at most this, ms.
    pub p99_ms: f64,
    /// The longest, ms.
    pub max_ms: f64,
}

impl Latency {
    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
        Self {
            count: histogram.len(),
            p50_ms: at(0.5),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            max_ms: histogram.max() as f64 / 1_000.0,
        }
    }

    pub(super) fn to_text(self) -> String {
        let Self { p50_ms, p95_ms, p99_ms, max_ms, .. } = self;
        format!("p50 {p50_ms:>8.1}   p95 {p95_ms:>8.1}   p99 {p99_ms:>8.1}   max {max_ms:>8.1} ms")
    }
}

/// What one node used while measuring.
#[derive(Clone, Debug, Serialize)]
pub struct NodeUse {
    /// Its number in the local network.
    pub node: u16,
    /// CPU seconds during the measured window.
    pub cpu_seconds: f64,
    /// Resident memory at the window's end, MiB.
    pub resident_mib: f64,
}

/// What all processes used during the window.
pub(super) struct Uses {
    nodes: Vec<NodeUse>,
    own_cpu_seconds: f64,
}

impl Uses {
    fn nodes_cpu_seconds(&self) -> f64 {
        self.nodes.iter().map(|node| node.cpu_seconds).sum()
    }
}

/// Reads CPU use at both ends of the window.
pub(super) async fn sample(
    processes: Vec<(u16, u32)>,
    window: Window,
    ledger: std::sync::Arc<Ledger>,
) -> Uses {
    let start = loop {
        match ledger.start.get() {
            Some(start) => break *start,
            None => sleep(Duration::from_millis(1)).await,
        }
    };
    let own = std::process::id();
    let cpu = |pid: u32| process::cpu_seconds(pid).unwrap_or_default();
    sleep_until(start + window.from).await;
    let before: Vec<f64> = processes.iter().map(|(_, pid)| cpu(*pid)).collect();
    let own_before = cpu(own);
    sleep_until(start + window.to).await;
    let nodes = processes
        .iter()
        .zip(before)
        .map(|((node, pid), before)| NodeUse {
            node: *node,
            cpu_seconds: (cpu(*pid) - before).max(0.0),
            resident_mib: process::resident_kib(*pid).unwrap_or_default() as f64 / 1_024.0,
        })
        .collect();
    Uses { nodes, own_cpu_seconds: (cpu(own) - own_before).max(0.0) }
}

/// What a load run came to. Latencies count from the moment a transaction was due.
#[derive(Clone, Debug, Serialize)]
pub struct LoadReport {
    /// Transactions per second asked for.
    pub rate_asked: f64,
    /// Length of the measured window.
    pub seconds: f64,
    /// Proofs in each transaction.
    pub proofs_per_transaction: u16,
    /// Transactions due in the window.
    pub due: u64,
    /// Of those, how many became final.
    pub final_of_due: u64,
    /// Transactions that became final in the window, per second.
    pub final_per_second: f64,
    /// From due to final.
    pub finality: Latency,
    /// From sent to final: beyond what the sender's connections carry, the rest of `finality` is its own.
    pub finality_after_sending: Latency,
    /// From due to accepted.
    pub acceptance: Latency,
    /// From due to sent: what the sender itself added.
    pub send_lateness: Latency,
    /// Over the whole run, warm-up included.
    pub sent_total: u64,
    /// Over the whole run.
    pub accepted_total: u64,
    /// Over the whole run.
    pub final_total: u64,
    /// Submissions refused, by kind, over the whole run.
    pub errors: Errors,
    /// CPU of all measured nodes per final transaction, ms.
    pub cpu_ms_per_transaction: Option<f64>,
    /// CPU of the load generator per final transaction, ms.
    pub load_cpu_ms_per_transaction: Option<f64>,
    /// Each measured node.
    pub nodes: Vec<NodeUse>,
}

impl LoadReport {
    /// For people.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "final        {:.0} transactions/s ({:.0} proofs/s) of {:.0} asked, {} of {} due in {:.0} s",
            self.final_per_second,
            self.final_per_second * f64::from(self.proofs_per_transaction),
            self.rate_asked,
            self.final_of_due,
            self.due,
            self.seconds
        );
        for (name, latency) in [
            ("to final", self.finality),
            ("sent to final", self.finality_after_sending),
            ("to accepted", self.acceptance),
            ("sent late", self.send_lateness),
        ] {
            let _ = writeln!(text, "{name:<13}{}", latency.to_text());
        }
        let lost = self.accepted_total.saturating_sub(self.final_total);
        let _ = writeln!(
            text,
            "accepted     {} of {} sent, {lost} of them not final",
            self.accepted_total, self.sent_total
        );
        for (kind, count) in &self.errors {
            let _ = writeln!(text, "refused      {count} x {kind}");
        }
        if let Some(cpu) = self.cpu_ms_per_transaction {
            let own = self.load_cpu_ms_per_transaction.unwrap_or_default();
            let nodes = self.nodes.len();
            let _ = writeln!(
                text,
                "CPU          {cpu:.2} ms per transaction over {nodes} nodes, {own:.2} ms the sender"
            );
        }
        for node in &self.nodes {
            let share = 100.0 * node.cpu_seconds / self.seconds;
            let _ =
                writeln!(text, "node {:<7} {:.0} MiB, {share:.0} % of a core", node.node, node.resident_mib);
        }
        text.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_types::Hash;

    #[derive(clap::Parser)]
    struct LoadOnly {
        #[command(flatten)]
        load: LoadArgs,
    }

    fn id(byte: u8) -> TxId {
        TxId::new(Hash([byte; 32]))
    }

    #[tokio::test]
    async fn latency_counts_from_when_a_transaction_was_due_not_from_when_it_was_sent() {
        let ledger = Ledger::new(vec![id(0), id(1)], 1_000.0);
        ledger.begin(Instant::now() - Duration::from_millis(500));
        ledger.sent(1);
        ledger.accepted(1);
        ledger.became_final(&id(1));
        ledger.became_final(&id(1));
        ledger.became_final(&id(9));
        let mut args = <LoadOnly as clap::Parser>::parse_from(["load"]).load;
        args.rate = 1_000.0;
        let uses = Uses { nodes: Vec::new(), own_cpu_seconds: 0.0 };
        let report = ledger.report(&args, Window::new(0, 1), Errors::new(), &uses);
        assert_eq!((report.due, report.final_of_due, report.final_total), (2, 1, 1));
        assert!(report.finality.p50_ms >= 498.0, "{:?}", report.finality);
    }
}
