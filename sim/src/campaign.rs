//! Many seeds, each a network with faults and a misbehaving part drawn from it, then calm, in which everything must
//! become final.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::byzantine::RoleKind;
use crate::cluster::Cluster;
use crate::invariants::Invariant;
use crate::manifest::{
    Byzantine, Cpu, Load, Manifest, Net, ParamsPlan, Perturb, PerturbKind, Unsynced, Which,
};
use crate::run::{Outcome, outcome_of, panic_text};
use crate::transcript::Transcript;
use crate::units::{Between, Micros};

/// Faults of one storm, at most, for each ten seconds of it.
const FAULTS_PER_TEN_S: u64 = 6;
/// The shortest storm, microseconds: everything must have time to begin and end.
const STORM_MIN_US: u64 = 2_000_000;

/// The experiment that a seed stands for.
pub fn scenario(seed: u64, n: usize, duration: Micros) -> Manifest {
    // A stream apart from the run's own, so that the two share no draws.
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(1);
    let mut manifest = Manifest {
        name: format!("seed-{seed}"),
        seed,
        duration: Micros(duration.0.max(STORM_MIN_US)),
        net: net(&mut rng, n),
        // Short timeouts keep a run short; the protocol knows only their ratios to the delays.
        params: ParamsPlan {
            timeout_base: Some(Micros::ms(500)),
            timeout_cap: Some(Micros::ms(4_000)),
            drift: Some(Micros::ms(240)),
            interval_idle: Some(Micros::secs(20)),
            ..ParamsPlan::default()
        },
        load: Load { rate: 3.0, clients: 3, retry: Micros::secs(2), ..Load::default() },
        byzantine: byzantine(&mut rng, n),
        ..Manifest::default()
    };
    if rng.random_bool(0.2) {
        manifest.cpu = Cpu {
            verify: Micros(51),
            sign: Micros(150),
            cores: 2,
            execute: Micros(rng.random_range(10..3_000)),
            sync: Micros(rng.random_range(100..8_000)),
        };
    }
    let count = rng.random_range(1..=(manifest.duration.0 * FAULTS_PER_TEN_S).div_ceil(10_000_000).max(1));
    manifest.perturb = (0..count).map(|_| perturbation(&mut rng, &manifest)).collect();
    if rng.random_bool(0.5) {
        // Crashes at durable steps, more of them in shorter storms.
        let share = rng.random_range(0.0..0.004);
        manifest.perturb.push(Perturb {
            kind: PerturbKind::Crashes,
            nodes: (0..n).collect(),
            share: Some(share),
            lasts: Some(manifest.duration),
            ..Perturb::default()
        });
    }
    manifest
}

fn net(rng: &mut ChaCha8Rng, n: usize) -> Net {
    let latency = if rng.random_bool(0.3) { (1, 5) } else { (1, 40) };
    Net {
        n,
        followers: usize::from(rng.random_bool(0.3)),
        latency: Between::of(Micros::ms(latency.0), Micros::ms(latency.1)),
        loss: if rng.random_bool(0.6) { rng.random_range(0.0..0.15) } else { 0.0 },
        duplicate: if rng.random_bool(0.5) { rng.random_range(0.0..0.1) } else { 0.0 },
        reorder: if rng.random_bool(0.5) { rng.random_range(0.0..0.2) } else { 0.0 },
        clock_skew: Micros::ms(rng.random_range(0..=110)),
        ..Net::default()
    }
}

fn byzantine(rng: &mut ChaCha8Rng, n: usize) -> Byzantine {
    let mut byzantine = Byzantine::default();
    let faulty = rng.random_range(0..=(n - 1) / 3);
    let mut free: Vec<usize> = (0..n).collect();
    for _ in 0..faulty {
        let kind = *RoleKind::ALL.choose(rng).unwrap_or(&RoleKind::Silent);
        let node = free.swap_remove(rng.random_range(0..free.len()));
        match byzantine.roles.entry(kind).or_insert(Which::Nodes(Vec::new())) {
            Which::Nodes(nodes) => nodes.push(node),
            Which::Count(count) => *count += 1,
        }
    }
    byzantine
}

/// Something that goes wrong in the storm and ends with it at the latest.
fn perturbation(rng: &mut ChaCha8Rng, manifest: &Manifest) -> Perturb {
    let (n, nodes, storm) = (manifest.net.n, manifest.nodes(), manifest.duration.0);
    let at = rng.random_range(0..storm * 3 / 4);
    let lasts = rng.random_range(50_000..5_000_000).min(storm - at);
    let node = rng.random_range(0..nodes);
    let mut perturb =
        Perturb { at: Micros(at), lasts: Some(Micros(lasts)), nodes: vec![node], ..Perturb::default() };
    perturb.unsynced = *[Unsynced::Any, Unsynced::Any, Unsynced::Kept].choose(rng).unwrap_or(&Unsynced::Any);
    match rng.random_range(0..12) {
        0 | 1 => {
            perturb.kind = PerturbKind::Partition;
            perturb.nodes = Vec::new();
            perturb.groups = vec![Vec::new(), Vec::new()];
            (0..nodes).for_each(|node| perturb.groups[rng.random_range(0..2)].push(node));
        }
        2 => {
            perturb.kind = PerturbKind::OneWay;
            let to = (node + rng.random_range(1..nodes.max(2))) % nodes;
            (perturb.from, perturb.to) = (Some(node), Some(to));
        }
        3 => perturb.kind = PerturbKind::Isolate,
        4 => perturb.kind = PerturbKind::Pause,
        5 => {
            // Power loss of all.
            perturb.kind = PerturbKind::Crash;
            perturb.nodes = Vec::new();
            perturb.unsynced = Unsynced::Any;
        }
        6 | 7 => perturb.kind = PerturbKind::Crash,
        8 => {
            perturb.kind = PerturbKind::CrashAtWrite;
            perturb.nodes = vec![rng.random_range(0..n)];
            perturb.operation = Some(rng.random_range(0..60));
        }
        9 => {
            perturb.kind = PerturbKind::DiskFull;
            perturb.nodes = vec![rng.random_range(0..n)];
        }
        10 => {
            perturb.kind = PerturbKind::ClockJump;
            perturb.by = Some(Micros::ms(rng.random_range(1..3_000)));
            perturb.back = rng.random_bool(0.5);
        }
        _ => {
            perturb.kind = PerturbKind::Slow;
            perturb.by = Some(Micros::ms(rng.random_range(1..1_500)));
        }
    }
    perturb
}

/// Plays the scenario of a seed: its storm, then calm until everything is final or the bound on progress is over.
///
/// # Errors
/// When the scenario cannot be set up: a fault of the generator.
pub fn play(manifest: &Manifest, transcript: &Transcript) -> Result<Outcome, String> {
    let started = Instant::now();
    let mut cluster = Cluster::new(manifest, false, transcript.clone())?;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        cluster.start_all();
        cluster.run(manifest.duration.0, |_| false);
        calm(&mut cluster);
    }));
    if let Err(cause) = outcome {
        cluster.violate(Invariant::NoPanic, panic_text(cause.as_ref()));
    }
    Ok(outcome_of(cluster, started))
}

/// (f): nothing goes wrong any more, everybody is up, and everything must become final in time.
fn calm(cluster: &mut Cluster) {
    if cluster.violation.is_some() {
        return;
    }
    cluster.note(|| "=== calm: no more faults, everybody is up".to_owned());
    cluster.end_everything();
    (cluster.network.loss, cluster.network.duplicate, cluster.network.reorder) = (0.0, 0.0, 0.0);
    for node in 0..cluster.nodes.len() {
        cluster.start(node);
    }
    let probe = cluster.submit();
    let bound = cluster.now + cluster.progress_bound_us();
    let done = cluster.run(bound, |cluster| {
        probe.is_none_or(|probe| cluster.clients.submissions[probe].final_at.is_some()) && cluster.all_final()
    });
    if !done && cluster.violation.is_none() {
        let what = cluster.describe();
        cluster.violate(Invariant::Progress, what);
    }
    cluster.look_at_the_end();
}

impl Cluster {
    /// Where everybody stands, for a run that does not get on.
    pub(crate) fn describe(&self) -> String {
        let waiting = self.clients.pending(self.now).count();
        let mut text = format!("{waiting} transactions wait;");
        for node in 0..self.nodes.len() {
            let (name, height) = (self.name(node), self.height_of(node));
            let state = match &self.nodes[node].live {
                Some(live) => format!("view {} height {height}", live.replica.view()),
                None => "down".to_owned(),
            };
            text.push_str(&format!(" {name}: {state};"));
        }
        text
    }
}
