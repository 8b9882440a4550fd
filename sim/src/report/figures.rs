//! A run in numbers.

use serde_json::{Value, json};

use crate::manifest::Manifest;
use crate::run::Outcome;

/// Percentiles shown: the middle, 95 and 99 of 100.
const PERCENTILES: [usize; 3] = [50, 95, 99];

/// What is worked out from a run's record.
pub(crate) struct Figures {
    /// From handing a transaction to a validator until that validator has it final, microseconds.
    pub(crate) finality: [Option<u64>; 3],
    /// From a proposal until its block is final somewhere, microseconds.
    pub(crate) block_finality: [Option<u64>; 3],
    pub(crate) submitted: u64,
    /// Per virtual second.
    pub(crate) transactions_per_s: f64,
    pub(crate) blocks_per_s: f64,
    /// Sent by one validator in one view, bytes: everything, and consensus messages alone.
    pub(crate) bytes_per_view: f64,
    pub(crate) consensus_bytes_per_view: f64,
    /// Signatures one validator checks in one view, and what that costs on one core, microseconds.
    pub(crate) verified_per_view: f64,
    pub(crate) verify_us_per_view: f64,
    pub(crate) views: u64,
}

/// The value below which so many of a hundred lie.
fn percentile(sorted: &[u64], of: usize) -> Option<u64> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((sorted.len() * of / 100).min(last)).copied()
}

fn percentiles(mut times: Vec<u64>) -> [Option<u64>; 3] {
    times.sort_unstable();
    PERCENTILES.map(|of| percentile(&times, of))
}

impl Figures {
    pub(crate) fn of(manifest: &Manifest, outcome: &Outcome) -> Self {
        let mut figures = Self {
            finality: [None; 3],
            block_finality: [None; 3],
            submitted: 0,
            transactions_per_s: 0.0,
            blocks_per_s: 0.0,
            bytes_per_view: 0.0,
            consensus_bytes_per_view: 0.0,
            verified_per_view: 0.0,
            verify_us_per_view: 0.0,
            views: 0,
        };
        let Some(cluster) = &outcome.cluster else { return figures };
        let warm = manifest.load.warmup.0;
        let after = cluster.clients.submissions.iter().filter(|it| it.submitted >= warm);
        figures.finality =
            percentiles(after.clone().filter_map(|it| Some(it.seen_at? - it.submitted)).collect());
        figures.submitted = cluster.clients.submissions.len() as u64;
        let record = &cluster.record;
        let views = record.views.values();
        figures.block_finality =
            percentiles(views.filter_map(|row| Some(row.final_at?.saturating_sub(row.proposed?))).collect());
        let seconds = outcome.simulated.as_secs_f64().max(1e-9);
        figures.transactions_per_s = outcome.finals as f64 / seconds;
        figures.blocks_per_s = outcome.height as f64 / seconds;
        figures.views = record.views.len() as u64;
        let (each, n) = (figures.views.max(1) as f64, manifest.net.n as f64);
        let bulk = ["transactions", "answer", "announcement"];
        for ((_, kind), traffic) in &record.traffic {
            figures.bytes_per_view += traffic.bytes as f64 / n / each;
            if !bulk.contains(kind) {
                figures.consensus_bytes_per_view += traffic.bytes as f64 / n / each;
            }
        }
        figures.verified_per_view = record.verified as f64 / n / each;
        figures.verify_us_per_view = figures.verified_per_view * manifest.cpu.verify.0 as f64;
        figures
    }

    pub(crate) fn json(&self, outcome: &Outcome) -> Value {
        let ms = |it: [Option<u64>; 3]| {
            let [p50, p95, p99] = it.map(|time| time.map(|us| us as f64 / 1e3));
            json!({ "p50": p50, "p95": p95, "p99": p99 })
        };
        let took = outcome.took.as_secs_f64().max(1e-9);
        json!({
            "finality_ms": ms(self.finality),
            "block_finality_ms": ms(self.block_finality),
            "submitted": self.submitted,
            "transactions": outcome.finals,
            "transactions_per_s": self.transactions_per_s,
            "blocks": outcome.height,
            "blocks_per_s": self.blocks_per_s,
            "views": self.views,
            "timed_out_views": outcome.timeouts,
            "crashes": outcome.crashes,
            "accusations": outcome.accusations,
            "epochs": outcome.epochs,
            "convicted": outcome.convicted,
            "bytes_per_validator_and_view": self.bytes_per_view,
            "consensus_bytes_per_validator_and_view": self.consensus_bytes_per_view,
            "signatures_verified_per_validator_and_view": self.verified_per_view,
            "verify_ms_per_validator_and_view": self.verify_us_per_view / 1e3,
            "events": outcome.events,
            "simulated_s": outcome.simulated.as_secs_f64(),
            "took_s": took,
            "simulated_s_per_s": outcome.simulated.as_secs_f64() / took,
        })
    }

    /// One line for a terminal.
    pub(crate) fn line(&self, name: &str, outcome: &Outcome) -> String {
        let ms = |time: Option<u64>| time.map_or("-".into(), |us| format!("{:.0} ms", us as f64 / 1e3));
        let epochs = match outcome.epochs {
            0 => String::new(),
            count => format!("{count} epochs ended, {} convicted, ", outcome.convicted),
        };
        format!(
            "{name}: {epochs}{} blocks, {} of {} transactions final, finality p50 {} p95 {} p99 {}, {} views timed out; {:.1} s simulated in {:.1} s; event hash {:.16}",
            outcome.height,
            outcome.finals,
            self.submitted,
            ms(self.finality[0]),
            ms(self.finality[1]),
            ms(self.finality[2]),
            outcome.timeouts,
            outcome.simulated.as_secs_f64(),
            outcome.took.as_secs_f64(),
            outcome.hash.to_string(),
        )
    }
}
