//! Scenarios: generated from a seed and a number, and told apart by their canonical form.

use std::fmt;

use cairn_types::{Context, Hash, ValidatorIndex};
use rand::seq::index::sample;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::cluster::partitions::{Groups, ViewLinks};

/// Planned views of a scenario, at least and at most.
const VIEWS: std::ops::RangeInclusive<usize> = 2..=12;
/// Crashes of honest nodes happen within this time, ms: about as long as the planned views last.
const CRASHES_WITHIN_MS: u64 = 8_000;

/// A crash of an honest node, and how long it is down, ms.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Restart {
    pub(crate) node: usize,
    pub(crate) at_ms: u64,
    pub(crate) down_ms: u64,
}

/// One scenario. Node `i` runs validator `i`; after the `n` validators come the second instances, in the
/// order of `twinned`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Plan {
    pub(crate) n: usize,
    /// Positions of the validators that run twice, ascending.
    pub(crate) twinned: Vec<usize>,
    /// View 1 and those after it. The leader of view `v` is position `(v - 1) mod n`: which effective views
    /// a twin leads is decided by `twinned` and by the mute views.
    pub(crate) views: Vec<ViewLinks>,
    pub(crate) restarts: Vec<Restart>,
    /// Whether links are made anew when the network heals; otherwise repetition (rule R) must do.
    pub(crate) reconnects: bool,
}

impl Plan {
    /// Scenario `index` of the campaign `seed`: three of four have 4 validators and one twin, the others 7
    /// validators and two twins.
    pub(crate) fn generate(seed: u64, index: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(index);
        let n = if index % 4 == 3 { 7 } else { 4 };
        let mut twinned = sample(&mut rng, n, (n - 1) / 3).into_vec();
        twinned.sort_unstable();
        let mut plan =
            Self { n, twinned, views: Vec::new(), restarts: Vec::new(), reconnects: rng.random_bool(0.5) };
        for _ in 0..rng.random_range(VIEWS) {
            let links = match plan.views.last() {
                Some(last) if rng.random_bool(0.2) => last.clone(), // partitions tend to last
                _ => plan.links(&mut rng),
            };
            plan.views.push(links);
        }
        if rng.random_bool(0.3) {
            for _ in 0..rng.random_range(1..=2) {
                plan.restarts.extend(plan.restart(&mut rng));
            }
        }
        plan
    }

    /// How many instances run.
    pub(crate) const fn instances(&self) -> usize {
        self.n + self.twinned.len()
    }

    /// The validator that an instance runs.
    pub(crate) fn validator(&self, node: usize) -> usize {
        node.checked_sub(self.n).map_or(node, |second| self.twinned[second])
    }

    pub(crate) fn is_honest(&self, node: usize) -> bool {
        !self.twinned.contains(&self.validator(node))
    }

    fn links(&self, rng: &mut ChaCha8Rng) -> ViewLinks {
        let proposals = self.groups(rng);
        // The later phases of a view often run into the same partition, and often into another.
        let mut phase = |same: f64| if rng.random_bool(same) { proposals.clone() } else { self.groups(rng) };
        let (votes, commits, timeouts) = (phase(0.6), phase(0.4), phase(0.4));
        ViewLinks { mute: rng.random_bool(0.1), proposals, votes, commits, timeouts }
    }

    fn groups(&self, rng: &mut ChaCha8Rng) -> Groups {
        let count = self.instances();
        match rng.random_range(0..10) {
            0 | 1 => vec![0; count],
            2..=5 => self.quorum_and_rest(rng),
            6 | 7 => (0..count).map(|_| rng.random_range(0..2)).collect(),
            8 => (0..count).map(|_| rng.random_range(0..3)).collect(),
            _ => {
                let alone = rng.random_range(0..count);
                (0..count).map(|node| u8::from(node == alone)).collect()
            }
        }
    }

    /// One instance each of just enough validators for a quorum on one side, everybody else on the other.
    fn quorum_and_rest(&self, rng: &mut ChaCha8Rng) -> Groups {
        let quorum = 2 * self.n / 3 + 1;
        let inside = sample(rng, self.n, quorum).into_vec();
        let mut groups = vec![1; self.instances()];
        for validator in inside {
            let mut instances: Vec<usize> =
                (0..self.instances()).filter(|node| self.validator(*node) == validator).collect();
            let chosen = instances.swap_remove(rng.random_range(0..instances.len()));
            groups[chosen] = 0;
        }
        groups
    }

    fn restart(&self, rng: &mut ChaCha8Rng) -> Option<Restart> {
        let node = rng.random_range(0..self.n);
        let (at_ms, down_ms) = (rng.random_range(0..CRASHES_WITHIN_MS), rng.random_range(1..1_000));
        self.is_honest(node).then_some(Restart { node, at_ms, down_ms })
    }

    /// A name that scenarios share when they differ only in the numbers of groups, in which of two instances of
    /// one key is called the second, in whole views at the end, or in the order of crashes.
    pub(crate) fn canonical(&self) -> Hash {
        let swaps = 1usize << self.twinned.len();
        let smallest = (0..swaps).map(|swap| self.bytes(swap)).min().unwrap_or_default();
        Context::Metadata.hash(&smallest)
    }

    /// The scenario with the instances of those twins exchanged whose bit is set in `swap`.
    fn bytes(&self, swap: usize) -> Vec<u8> {
        let mut order: Vec<usize> = (0..self.instances()).collect();
        for (second, first) in self.twinned.iter().enumerate().filter(|(at, _)| swap >> at & 1 == 1) {
            order.swap(*first, self.n + second);
        }
        let mut bytes = vec![self.n as u8, u8::from(self.reconnects)];
        bytes.extend(self.twinned.iter().map(|validator| *validator as u8));
        let is_whole = |links: &ViewLinks| {
            let groups = [&links.proposals, &links.votes, &links.commits, &links.timeouts];
            !links.mute && groups.into_iter().all(|groups| groups.iter().all(|group| *group == groups[0]))
        };
        let planned = self.views.iter().rposition(|links| !is_whole(links)).map_or(0, |last| last + 1);
        for links in &self.views[..planned] {
            bytes.push(u8::from(links.mute));
            for groups in [&links.proposals, &links.votes, &links.commits, &links.timeouts] {
                bytes.extend(relabelled(order.iter().map(|node| groups[*node])));
            }
        }
        let mut restarts = self.restarts.clone();
        restarts.sort_unstable();
        for Restart { node, at_ms, down_ms } in restarts {
            bytes.push(0xff);
            bytes.push(node as u8);
            bytes.extend((at_ms as u16).to_le_bytes());
            bytes.extend((down_ms as u16).to_le_bytes());
        }
        bytes
    }

    /// Scenarios with one thing less, the boldest first.
    pub(crate) fn smaller(&self) -> Vec<Self> {
        let mut smaller = Vec::new();
        let mut with = |change: &dyn Fn(&mut Self)| {
            let mut plan = self.clone();
            change(&mut plan);
            if plan != *self {
                smaller.push(plan);
            }
        };
        with(&|plan| plan.restarts.clear());
        with(&|plan| plan.views.truncate(plan.views.len() / 2));
        with(&|plan| plan.views.truncate(plan.views.len().saturating_sub(1)));
        for at in 0..self.restarts.len() {
            with(&|plan| {
                plan.restarts.remove(at);
            });
        }
        let whole = vec![0; self.instances()];
        for at in 0..self.views.len() {
            with(&|plan| {
                let [proposals, votes, commits, timeouts] = std::array::from_fn(|_| whole.clone());
                plan.views[at] = ViewLinks { mute: false, proposals, votes, commits, timeouts };
            });
            with(&|plan| plan.views[at].mute = false);
            with(&|plan| plan.views[at].proposals.clone_from(&whole));
            with(&|plan| plan.views[at].votes.clone_from(&whole));
            with(&|plan| plan.views[at].commits.clone_from(&whole));
            with(&|plan| plan.views[at].timeouts.clone_from(&whole));
        }
        smaller
    }

    fn name(&self, node: usize) -> String {
        format!("v{}{}", self.validator(node), if node < self.n { "" } else { "'" })
    }

    fn show(&self, groups: &Groups) -> String {
        let mut labels = groups.clone();
        labels.sort_unstable();
        labels.dedup();
        let members = |label: u8| {
            let inside = (0..groups.len()).filter(|node| groups[*node] == label);
            inside.map(|node| self.name(node)).collect::<Vec<_>>().join(" ")
        };
        labels.into_iter().map(|label| format!("{{{}}}", members(label))).collect()
    }
}

/// Groups numbered in the order in which they first appear.
fn relabelled(groups: impl Iterator<Item = u8>) -> Vec<u8> {
    let mut seen = Vec::new();
    let number = |group| match seen.iter().position(|known| *known == group) {
        Some(at) => at as u8,
        None => {
            seen.push(group);
            seen.len() as u8 - 1
        }
    };
    groups.map(number).collect()
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let twinned: Vec<String> = self.twinned.iter().map(|validator| format!("v{validator}")).collect();
        writeln!(f, "{} validators, twinned: {}", self.n, twinned.join(", "))?;
        for (at, links) in self.views.iter().enumerate() {
            let leader = ValidatorIndex((at % self.n) as u16);
            let mute = if links.mute { ", mute" } else { "" };
            writeln!(f, "view {} (leader v{leader}{mute}):", at + 1)?;
            let phases = [("votes", &links.votes), ("commit votes", &links.commits)];
            writeln!(f, "    proposal     {}", self.show(&links.proposals))?;
            for (name, groups) in phases.into_iter().chain([("timeouts", &links.timeouts)]) {
                writeln!(f, "    {name:<12} {}", self.show(groups))?;
            }
        }
        for Restart { node, at_ms, down_ms } in &self.restarts {
            writeln!(f, "{} crashes at {at_ms} ms and is down for {down_ms} ms", self.name(*node))?;
        }
        let again = if self.reconnects { "links are made anew" } else { "links only let everything through" };
        write!(f, "then the network heals: {again}")
    }
}
