//! A run drawn from a seed: a network, faults for a while, then calm, in which everything must be committed.

use cairn_types::{Params, ValidatorIndex};
use rand::Rng;

use super::attack::Attacker;
use super::node::Node;
use super::world::START_MS;
use super::{Cluster, Delays, Event, Fault};

/// Faults end here, ms after the start.
const STORM_MS: u64 = 12_000;

/// The Byzantine part of a network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Byzantine {
    None,
    /// A validator that never says anything.
    Silent,
    /// Two honest programs with one key and two disks.
    Twin,
    /// A validator that follows no rule.
    Attacker,
}

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) n: usize,
    pub(crate) byzantine: Byzantine,
    pub(crate) follower: bool,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) trace: cairn_types::Hash,
    pub(crate) events: u64,
    pub(crate) simulated_ms: u64,
    /// From the calm to the last commit, ms.
    pub(crate) recovery_ms: u64,
    pub(crate) height: u64,
    pub(crate) accusations: u64,
    pub(crate) writes: u64,
}

/// Short timeouts keep a run short; the protocol knows only their ratios to the delays.
pub(crate) fn params() -> Params {
    Params {
        timeout_base_ms: 500,
        timeout_cap_ms: 4_000,
        drift_ms: 300,
        interval_idle_ms: 20_000,
        ..Params::default()
    }
}

impl Scenario {
    /// The scenario of this number: every seventh has seven validators.
    pub(crate) fn of(seed: u64) -> Self {
        let byzantine = match seed % 4 {
            0 => Byzantine::None,
            1 => Byzantine::Silent,
            2 => Byzantine::Twin,
            _ => Byzantine::Attacker,
        };
        Self {
            seed,
            n: if seed.is_multiple_of(7) { 7 } else { 4 },
            byzantine,
            follower: seed.is_multiple_of(3),
        }
    }

    fn build(self) -> Cluster {
        let delays = Delays { link: (1, 40), execute: (0, 15), build: (0, 10) };
        let mut cluster = Cluster::new(self.n, params(), delays, self.seed);
        for node in 0..self.n {
            cluster.nodes[node].skew_ms = cluster.rng.random_range(-100..=100);
        }
        let bad = cluster.rng.random_range(0..self.n);
        let key = cluster.nodes[bad].me;
        match self.byzantine {
            Byzantine::None => {}
            Byzantine::Silent => cluster.nodes[bad].honest = false,
            Byzantine::Twin => {
                cluster.nodes[bad].honest = false;
                cluster.nodes.push(Node::new(key, false, 50));
            }
            Byzantine::Attacker => {
                cluster.nodes[bad].honest = false;
                let root = cluster.world.root_cert();
                let me = key.unwrap_or(ValidatorIndex(0));
                cluster.attacker = Some(Attacker::new(bad, me, root));
                cluster.at(START_MS + 100, Event::Attack);
            }
        }
        if self.n == 7 && self.byzantine != Byzantine::None {
            // Seven bear two faults: the second validator says nothing, or is not asked what it did.
            cluster.nodes[(bad + 3) % 7].honest = false;
        }
        if self.follower {
            cluster.nodes.push(Node::new(None, true, 0));
        }
        cluster
    }

    /// Whether this node ever runs.
    fn runs(self, cluster: &Cluster, node: usize) -> bool {
        cluster.nodes[node].honest || self.byzantine == Byzantine::Twin
    }

    fn storm(self, cluster: &mut Cluster) {
        let noise = Fault::Noise {
            loss: cluster.rng.random_range(0..150),
            twice: cluster.rng.random_range(0..100),
            crash: cluster.rng.random_range(0..40),
        };
        cluster.at(START_MS, Event::Fault(noise));
        let count = cluster.nodes.len();
        for _ in 0..cluster.rng.random_range(1..6) {
            let at = START_MS + cluster.rng.random_range(0..STORM_MS);
            let node = cluster.rng.random_range(0..count);
            let fault = match cluster.rng.random_range(0..6) {
                0 | 1 => Fault::Partition((0..count).map(|_| cluster.rng.random_range(0..2)).collect()),
                2 => Fault::OneWay(node, cluster.rng.random_range(0..count)),
                3 => Fault::PowerLoss(2_000),
                4 => Fault::Heal,
                _ => Fault::Crash(node),
            };
            if let Fault::Crash(node) = fault {
                let back = at + cluster.rng.random_range(100..4_000);
                cluster.at(back, Event::Fault(Fault::Restart(node)));
            }
            cluster.at(at, Event::Fault(fault));
        }
        for nonce in 0..40 {
            let at = START_MS + cluster.rng.random_range(0..STORM_MS);
            cluster.at(at, Event::Submit(nonce));
        }
    }

    /// Plays it. Panics when something happens that must never happen.
    pub(crate) fn run(self) -> Outcome {
        let mut cluster = self.build();
        self.storm(&mut cluster);
        for node in 0..cluster.nodes.len() {
            if self.runs(&cluster, node) {
                cluster.start(node);
            }
        }
        cluster.run(START_MS + STORM_MS, |_| false);
        let calm = cluster.now;
        cluster.at(calm, Event::Fault(Fault::Noise { loss: 0, twice: 0, crash: 0 }));
        cluster.at(calm, Event::Fault(Fault::Heal));
        for node in 0..cluster.nodes.len() {
            if self.runs(&cluster, node) {
                cluster.at(calm, Event::Fault(Fault::Restart(node)));
            }
        }
        for nonce in 0..41 {
            cluster.at(calm, Event::Submit(nonce)); // clients repeat what is not final
        }
        // (f): two largest timeouts, then views of honest leaders; up to f Byzantine leaders may come first, and
        // 41 transactions need at least 14 blocks.
        let faulty = (self.n as u64 - 1) / 3;
        let bound = (2 + faulty) * params().timeout_cap_ms + 20 * params().timeout_base_ms;
        let last = cluster.world.transaction(40).transaction.id();
        let done = cluster
            .run(calm + bound, |cluster| cluster.submitted.contains_key(&last) && cluster.all_committed());
        assert!(done, "(f) not everything was committed {bound} ms after the calm: {}", cluster.describe());
        Outcome {
            trace: cluster.trace(),
            events: cluster.events,
            simulated_ms: cluster.now - START_MS,
            recovery_ms: cluster.now - calm,
            height: cluster.checks.height().get(),
            accusations: cluster.checks.accusations,
            writes: cluster.nodes.iter().map(|node| node.disk.writes).sum(),
        }
    }
}

impl Cluster {
    /// Where everybody stands, for a failing run.
    pub(crate) fn describe(&self) -> String {
        let nodes = self.nodes.iter().enumerate().map(|(at, node)| match &node.live {
            None => format!("\n  node {at}: down, honest {}", node.honest),
            Some(live) => {
                let replica = &live.replica;
                let lacking = self.submitted.keys().filter(|id| !live.executor.has_committed(id)).count();
                format!(
                    "\n  node {at} {:?}: honest {} {:?} leader {} lacks {lacking} works {} {:?}",
                    node.me,
                    node.honest,
                    replica.status(),
                    replica.leader(),
                    replica.is_working(),
                    replica.record()
                )
            }
        });
        nodes.collect()
    }
}
