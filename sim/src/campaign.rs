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
    Byzantine, Cpu, Epochs, Load, Manifest, Net, ParamsPlan, Perturb, PerturbKind, PlannedChange, Unsynced,
    Which,
};
use crate::run::{Outcome, outcome_of, panic_text};
use crate::transcript::Transcript;
use crate::units::{Between, Micros};

/// Faults of one storm, at most, for each ten seconds of it.
const FAULTS_PER_TEN_S: u64 = 6;
/// The shortest storm, microseconds: everything must have time to begin and end.
const STORM_MIN_US: u64 = 2_000_000;

/// Two or three small blocks, so that segments are closed and let go of all the time, as in long runs of large blocks.
const SEGMENT_BYTES: u64 = 2 << 10;
/// Of all seeds, in how many segments are as long as a node's, so that a log is never let go of.
const USUAL_SEGMENTS_SHARE: f64 = 0.25;
/// Of all seeds, how many have validators that change.
const EPOCHS_SHARE: f64 = 0.4;
/// Of all seeds, in how many the load ends before the storm does. The chain falls idle then, and in the calm only repetition
/// (rule R) brings forward whoever is behind.
const IDLE_SHARE: f64 = 0.3;
/// How long after the proposal of an epoch's last block a fault strikes there, at most, microseconds: the end takes about so long.
const BOUNDARY_US: u64 = 200_000;

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
        journal_segment_bytes: Some(SEGMENT_BYTES),
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
    if rng.random_bool(EPOCHS_SHARE) {
        change_validators(&mut rng, &mut manifest);
    }
    // A stream of its own, too, so that what was added later leaves everything else of a seed what it was.
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(2);
    if rng.random_bool(IDLE_SHARE) {
        fall_idle(&mut rng, &mut manifest);
    }
    if rng.random_bool(USUAL_SEGMENTS_SHARE) {
        manifest.journal_segment_bytes = None;
    }
    manifest
}

/// In some scenarios nothing is submitted any more from some moment of the storm on, and one validator hears nothing from
/// about then to the end: what it asks is heard, and the answers are lost.
fn fall_idle(rng: &mut ChaCha8Rng, manifest: &mut Manifest) {
    let storm = manifest.duration.0;
    let stop = rng.random_range(storm / 4..storm);
    manifest.load.stop = Some(Micros(stop));
    let at = rng.random_range(stop / 2..stop);
    manifest.perturb.push(Perturb {
        kind: PerturbKind::Deaf,
        nodes: vec![rng.random_range(0..manifest.net.n)],
        at: Micros(at),
        lasts: Some(Micros(storm - at)),
        ..Perturb::default()
    });
}

/// Gives a scenario candidates and changes, and faults at the ends of epochs. Honest power only grows beyond what it is at the
/// start, or comes back to it, so that the misbehaving stay below a third.
fn change_validators(rng: &mut ChaCha8Rng, manifest: &mut Manifest) {
    let (n, storm) = (manifest.net.n, manifest.duration.0);
    let faulty: Vec<usize> = match crate::byzantine::assign(manifest) {
        Ok(roles) => roles.into_iter().map(|(node, _)| node).collect(),
        Err(_) => return, // roles of a scenario are never refused
    };
    let candidates = rng.random_range(1..=2);
    // Followers are numbered after the candidates.
    let moved = |node: usize| if node < n { node } else { node + candidates };
    for perturb in &mut manifest.perturb {
        let named = perturb.nodes.iter_mut().chain(perturb.groups.iter_mut().flatten());
        named.chain(&mut perturb.from).chain(&mut perturb.to).for_each(|node| *node = moved(*node));
    }
    let mut inside: Vec<usize> = (0..n).filter(|node| !faulty.contains(node)).collect();
    let mut outside: Vec<usize> = (n..n + candidates).collect();
    let least = inside.len();
    let mut times: Vec<u64> = (0..rng.random_range(1..=5)).map(|_| rng.random_range(0..storm)).collect();
    times.sort_unstable();
    let mut heavy = None;
    let mut change = Vec::new();
    for at in times {
        let mut planned = PlannedChange { at: Micros(at), ..PlannedChange::default() };
        match rng.random_range(0..4) {
            0 | 1 if inside.len() > least => {
                let node = inside.swap_remove(rng.random_range(0..inside.len()));
                heavy = heavy.filter(|heavy| *heavy != node);
                outside.push(node);
                planned.leave = Some(node);
            }
            2 => planned.rotate = inside.choose(rng).copied(),
            3 => {
                (planned.weigh, planned.power) = match heavy.take() {
                    Some(node) => (Some(node), Some(1)),
                    None => {
                        heavy = inside.choose(rng).copied();
                        (heavy, Some(2))
                    }
                }
            }
            _ if outside.is_empty() => planned.rotate = inside.choose(rng).copied(),
            _ => {
                let node = outside.swap_remove(rng.random_range(0..outside.len()));
                inside.push(node);
                planned.join = Some(node);
            }
        }
        change.push(planned);
    }
    manifest.epochs = Some(Epochs { candidates, change, ..Epochs::default() });
    for _ in 0..rng.random_range(0..=3) {
        let mut perturb = perturbation(rng, manifest);
        perturb.boundary = Some(rng.random_range(0..4));
        // Some strike between the last block's proposal and its leader's own vote for it.
        let at_once = rng.random_bool(0.3);
        perturb.at = Micros(if at_once { 0 } else { rng.random_range(0..BOUNDARY_US) });
        if at_once && rng.random_bool(0.5) {
            (perturb.kind, perturb.nodes) = (PerturbKind::Crash, Vec::new());
            perturb.unsynced = Unsynced::Lost;
        }
        perturb.lasts = Some(Micros(rng.random_range(50_000..3_000_000)));
        manifest.perturb.push(perturb);
    }
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
            perturb.unsynced = *[Unsynced::Any, Unsynced::Lost].choose(rng).unwrap_or(&Unsynced::Any);
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
    // Where the load has ended the chain stays idle, which hides nothing from rule R.
    let idle = cluster.manifest.load.stop.is_some();
    let probe = if idle { None } else { cluster.submit() };
    cluster.close_epochs();
    // Changes are decided one after the other.
    let rounds = 1 + cluster.changes_pending() as u64;
    let bound = cluster.now + rounds * cluster.progress_bound_us();
    let done = cluster.run(bound, |cluster| {
        cluster.changes_pending() == 0
            && probe.is_none_or(|probe| cluster.clients.submissions[probe].final_at.is_some())
            && if idle { cluster.all_final_or_unaware() } else { cluster.all_final() }
    });
    // Whoever lacks an empty last block, or does not know that it lacks one, may be told of it by a heartbeat only; who lacks
    // both, by two.
    let heartbeats = 2 * cluster.world.params.interval_idle_ms * 1_000;
    let bound = cluster.now + heartbeats + cluster.progress_bound_us();
    let level = done && (cluster.all_level() || cluster.run(bound, Cluster::all_level));
    if !level && cluster.violation.is_none() {
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
                Some(live) => {
                    format!("epoch {} view {} height {height}", live.replica.epoch(), live.replica.view())
                }
                None => "down".to_owned(),
            };
            text.push_str(&format!(" {name}: {state};"));
        }
        text
    }
}
