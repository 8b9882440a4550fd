//! One run from start to verdict.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use cairn_state::OVERLAYS_MAX;
use cairn_types::log::TreeHash;
use cairn_types::tree::root_from_path;
use cairn_types::{Epoch, Hash, Height};

use crate::cluster::Cluster;
use crate::invariants::{Invariant, Violation};
use crate::manifest::Manifest;
use crate::transcript::Transcript;

/// Final records whose proofs are verified on each node in the end, at most.
const PROOFS_VERIFIED_MAX: u64 = 16;

/// What came of a run.
pub struct Outcome {
    /// The name of everything that happened.
    pub hash: Hash,
    /// Events.
    pub events: u64,
    /// Virtual time.
    pub simulated: Duration,
    /// Wall time.
    pub took: Duration,
    /// The highest final block.
    pub height: u64,
    /// What must never happen, if it did.
    pub violation: Option<Violation>,
    /// Evidence of contradicting signatures seen.
    pub accusations: u64,
    /// Crashes.
    pub crashes: u64,
    /// Syncs of safety journals.
    pub syncs: u64,
    /// Views given up by a quorum.
    pub timeouts: u64,
    /// Final transactions.
    pub finals: u64,
    /// Epochs that ended.
    pub epochs: u64,
    /// Validators that evidence put out of the set.
    pub convicted: u64,
    pub(crate) cluster: Option<Box<Cluster>>,
}

/// Runs a manifest. `detailed` keeps what plots need; the transcript is written when it keeps lines.
///
/// # Errors
/// When the manifest contradicts itself, or what it names cannot be read.
pub fn run(manifest: &Manifest, detailed: bool, transcript: &Transcript) -> Result<Outcome, String> {
    let started = Instant::now();
    let mut cluster = Cluster::new(manifest, detailed, transcript.clone())?;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        cluster.start_all();
        cluster.run(manifest.duration.0, |_| false);
        cluster.look_at_the_end();
    }));
    if let Err(cause) = outcome {
        cluster.violate(Invariant::NoPanic, panic_text(cause.as_ref()));
    }
    Ok(outcome_of(cluster, started))
}

pub(crate) fn panic_text(cause: &(dyn std::any::Any + Send)) -> String {
    let text = cause.downcast_ref::<String>().cloned();
    text.or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

pub(crate) fn outcome_of(cluster: Cluster, started: Instant) -> Outcome {
    Outcome {
        hash: cluster.trace.hash(),
        events: cluster.trace.events,
        simulated: Duration::from_micros(cluster.now),
        took: started.elapsed(),
        height: cluster.checks.height().get(),
        violation: cluster.violation.clone(),
        accusations: cluster.checks.accusations,
        crashes: cluster.record.crashes,
        syncs: cluster.record.syncs,
        timeouts: cluster.record.timeouts,
        finals: cluster.clients.finals,
        epochs: cluster.record.epochs.len() as u64,
        convicted: cluster.record.epochs.iter().map(|row| row.convicted as u64).sum(),
        cluster: Some(Box::new(cluster)),
    }
}

impl Cluster {
    /// The longest that progress may take once nothing goes wrong any more: two largest timeouts and two views of
    /// honest leaders, one more timeout for each Byzantine leader that may come first, and what a client waits
    /// before it tries another node.
    pub(crate) fn progress_bound_us(&self) -> u64 {
        let params = &self.world.params;
        let faulty = self.nodes.iter().filter(|node| !node.honest).count() as u64;
        let retries = 2 * self.manifest.load.retry.0;
        ((2 + faulty) * params.timeout_cap_ms + 4 * params.timeout_base_ms) * 1_000 + retries
    }

    /// (g): nothing is beyond its bound.
    pub(crate) fn look_at_bounds(&mut self, node: usize) {
        let Some(live) = self.nodes[node].live.as_ref() else { return };
        let (stats, limits) = (live.pool.stats(), live.pool.limits());
        let log = live.journal.as_ref().map_or(0, cairn_journal::Journal::log_bytes);
        let log_max = cairn_journal::LOG_BYTES_MAX + cairn_journal::SEGMENT_BYTES;
        let what = if stats.transactions > limits.transactions_max || stats.bytes > limits.bytes_max {
            format!("pool holds {} transactions, {} bytes", stats.transactions, stats.bytes)
        } else if live.ledger.overlays() > OVERLAYS_MAX {
            format!("state holds {} uncommitted blocks", live.ledger.overlays())
        } else if log > log_max {
            format!("journal's log has {log} bytes")
        } else {
            return;
        };
        let what = format!("{}'s {what}", self.name(node));
        self.violate(Invariant::Bounds, what);
    }

    /// What can only be seen when everything is over: (e), and (f) where nothing stands in the way.
    pub(crate) fn look_at_the_end(&mut self) {
        if self.violation.is_some() {
            return;
        }
        let honest: Vec<usize> = self.honest().collect();
        for node in honest {
            if let Err(what) = self.holds_everything(node) {
                let what = format!("{} {what}", self.name(node));
                return self.violate(Invariant::NothingLost, what);
            }
        }
        let bound = self.progress_bound_us();
        let quiet_since = self.quiet_since();
        let overdue = |submitted: u64| submitted.max(quiet_since) + bound < self.now;
        let stuck = self.clients.pending(self.now).find(|it| overdue(it.submitted)).map(|it| it.id);
        if let Some(id) = stuck {
            let what =
                format!("transaction {id} is not final {:.1} s after the network could", bound as f64 / 1e6);
            return self.violate(Invariant::Progress, what);
        }
        if let Some(due) = self.change_overdue_since(quiet_since).filter(|due| due + bound < self.now) {
            let what = format!(
                "a change of the validators due at {:.1} s is not in force {:.1} s after the network could; {}",
                due as f64 / 1e6,
                bound as f64 / 1e6,
                self.describe()
            );
            self.violate(Invariant::Progress, what);
        }
    }

    /// When the last perturbation ended; never, while one is under way or messages are lost.
    fn quiet_since(&self) -> u64 {
        let noisy = self.network.loss > 0.0 || self.nodes.iter().any(|node| node.honest && !node.is_up());
        if self.ongoing.active() > 0 || noisy {
            return u64::MAX / 4;
        }
        let ends = |(index, it): (usize, &crate::manifest::Perturb)| match it.every {
            Some(_) => u64::MAX / 4,
            None => self.ongoing.over_at(index, it),
        };
        self.manifest.perturb.iter().enumerate().map(ends).max().unwrap_or_default()
    }

    /// (e): every transaction that was ever final is held, and proofs verify.
    fn holds_everything(&self, node: usize) -> Result<(), String> {
        let Some(live) = self.nodes[node].live.as_ref() else { return Ok(()) };
        let height = self.height_of(node);
        for submission in &self.clients.submissions {
            let is_final = submission.final_at.is_some() && submission.height <= height;
            if is_final && !live.ledger.has(&submission.id, height) {
                return Err(format!("lost transaction {} of height {}", submission.id, submission.height));
            }
        }
        if let Some(what) = self.lacks_an_epoch(node) {
            return Err(what);
        }
        live.ledger.look(|state| {
            let size = state.tip().header.anchors_size;
            let step = (size / PROOFS_VERIFIED_MAX).max(1);
            for seq in (0..size).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
                let proof = state.anchor_proof(seq).map_err(|why| why.to_string())?;
                let Some(proof) = proof else { continue };
                let leaf = TreeHash::Anchors.leaf(&proof.record.to_bytes());
                let size = proof.header.anchors_size;
                let root = root_from_path(TreeHash::Anchors, leaf, seq, size, &proof.path);
                if root.ok() != Some(proof.header.anchors_root) {
                    return Err(format!("gives a proof of record {seq} that does not verify"));
                }
                let regime = self.world.regime(proof.header.epoch);
                let certificate = std::sync::Arc::new(proof.certificate);
                let verifies = regime
                    .is_some_and(|it| self.world.verifier.commit_cert(&it.set, certificate.clone()).is_ok());
                if certificate.block != proof.header.id() || !verifies {
                    return Err(format!("gives record {seq} a certificate that does not verify"));
                }
            }
            Ok(())
        })
    }

    /// (e): whoever has come to an epoch holds the proofs of all ends before it, and their sets.
    fn lacks_an_epoch(&self, node: usize) -> Option<String> {
        let live = self.nodes[node].live.as_ref()?;
        live.ledger.look(|state| {
            let mut epoch = Epoch::ZERO;
            while epoch < state.epoch() {
                let regime = self.world.regime(epoch)?;
                let proof = state.epoch_proof(epoch).ok().flatten();
                let proven =
                    proof.is_some_and(|it| self.world.verifier.epoch_proof(&regime.set, it.into()).is_ok());
                let set = state.validators_of(epoch).ok().flatten();
                if !proven || set.as_deref() != Some(&*regime.set) {
                    return Some(format!("lost the end of epoch {epoch}, or its validators"));
                }
                epoch = epoch.next();
            }
            None
        })
    }

    /// Whether every honest node runs and has committed everything that is not expired.
    pub(crate) fn all_final(&self) -> bool {
        self.clients.pending(self.now).next().is_none() && self.all_hold(self.checks.height_of_work())
    }

    /// The same on a chain that fell idle, where a node may not know of what it missed: it hears of it with the next heartbeat,
    /// and nobody waits for it who knows more. Whoever does press on is behind all the same.
    pub(crate) fn all_final_or_unaware(&self) -> bool {
        let height = self.checks.height_of_work();
        let waits = |node: usize| self.nodes[node].live.as_ref().is_none_or(|live| live.replica.is_working());
        self.clients.pending(self.now).next().is_none()
            && self
                .honest()
                .all(|node| self.nodes[node].is_up() && (self.height_of(node) >= height || !waits(node)))
    }

    /// Whether every honest node runs and has committed what any of them has.
    pub(crate) fn all_level(&self) -> bool {
        self.all_hold(self.checks.height())
    }

    fn all_hold(&self, height: Height) -> bool {
        self.honest().all(|node| self.nodes[node].is_up() && self.height_of(node) >= height)
    }
}
