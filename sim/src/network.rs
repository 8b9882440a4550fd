//! The links: latency, loss, repetition, order, bandwidth, and cuts.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::manifest::Manifest;
use crate::matrix::Matrix;
use crate::units::{Bandwidth, Between, Micros};

/// Extra latency of an overtaken message, in latencies of its link: enough for several later ones.
const OVERTAKEN_LATENCIES: u64 = 3;
/// The least of it, microseconds, for links without latency.
const OVERTAKEN_MIN_US: u64 = 1_000;

/// Moments at which copies of a message arrive; empty when it is lost.
pub(crate) type Arrivals = [Option<u64>; 2];

/// All links of a run.
pub(crate) struct Network {
    nodes: usize,
    /// One way and without jitter, by sender and receiver; one draw of an interval without a matrix.
    latency: Vec<Between>,
    jitter: Between,
    pub(crate) loss: f64,
    pub(crate) duplicate: f64,
    pub(crate) reorder: f64,
    bandwidth: Bandwidth,
    /// How many cuts lie on each link.
    cuts: Vec<u16>,
    /// How often each node is deaf: what is sent to it is lost, and nobody notices.
    pub(crate) deaf: Vec<u16>,
    /// Added to everything a node sends or is sent.
    pub(crate) slow: Vec<Micros>,
    /// When each node's link is free again, outwards and inwards, for hot and for all traffic.
    out: Vec<[u64; 2]>,
    inwards: Vec<[u64; 2]>,
    /// When the last message of each link arrived, hot and other: links keep order.
    last: Vec<[u64; 2]>,
    /// The region of each node, when there is a matrix.
    pub(crate) regions: Vec<String>,
    pub(crate) lost: u64,
}

impl Network {
    /// The links of this manifest, for `nodes` nodes.
    ///
    /// # Errors
    /// When its matrix cannot be read or lacks a region.
    pub(crate) fn new(manifest: &Manifest, nodes: usize) -> Result<Self, String> {
        let net = &manifest.net;
        let (mut latency, mut regions) = (vec![net.latency; nodes * nodes], Vec::new());
        if let Some(name) = &net.matrix {
            let matrix = Matrix::named(name)?;
            let places = matrix.places(&net.regions, nodes)?;
            for from in 0..nodes {
                for to in 0..nodes {
                    latency[from * nodes + to] = Between::exactly(matrix.one_way(places[from], places[to]));
                }
            }
            regions = places.iter().map(|place| matrix.names[*place].clone()).collect();
        }
        Ok(Self {
            nodes,
            latency,
            jitter: net.jitter,
            loss: net.loss,
            duplicate: net.duplicate,
            reorder: net.reorder,
            bandwidth: net.bandwidth,
            cuts: vec![0; nodes * nodes],
            deaf: vec![0; nodes],
            slow: vec![Micros(0); nodes],
            out: vec![[0; 2]; nodes],
            inwards: vec![[0; 2]; nodes],
            last: vec![[0; 2]; nodes * nodes],
            regions,
            lost: 0,
        })
    }

    /// What a link adds when nothing goes wrong, jitter included.
    pub(crate) fn delay(&self, from: usize, to: usize) -> Between {
        let usual = self.latency[from * self.nodes + to];
        Between::of(Micros(usual.low.0 + self.jitter.low.0), Micros(usual.high.0 + self.jitter.high.0))
    }

    /// Whether `to` hears `from`.
    pub(crate) fn passes(&self, from: usize, to: usize) -> bool {
        self.cuts[from * self.nodes + to] == 0
    }

    /// One more cut of this direction, or one less.
    pub(crate) fn cut(&mut self, from: usize, to: usize, begins: bool) {
        let cuts = &mut self.cuts[from * self.nodes + to];
        *cuts = if begins { cuts.saturating_add(1) } else { cuts.saturating_sub(1) };
    }

    /// When a message of `bytes` sent at `now` comes to its receiver's line, which it then has to go through. Links are
    /// reliable streams: in order, except what is overtaken on purpose. Consensus messages do not queue behind
    /// transactions and old blocks.
    pub(crate) fn send(
        &mut self,
        rng: &mut ChaCha8Rng,
        now: u64,
        (from, to): (usize, usize),
        bytes: u64,
        hot: bool,
    ) -> Arrivals {
        if !self.passes(from, to) || self.deaf[to] > 0 {
            self.lost += 1;
            return [None, None];
        }
        let sent = self.through(now, bytes, hot, from, true);
        if self.loss > 0.0 && rng.random_bool(self.loss) {
            self.lost += 1;
            return [None, None];
        }
        let first = self.arrival(rng, sent, (from, to), hot);
        let twice = self.duplicate > 0.0 && rng.random_bool(self.duplicate);
        [Some(first), twice.then(|| self.arrival(rng, sent, (from, to), hot))]
    }

    /// When a message of `bytes` that came to the line of `to` now is through. What comes first goes first, whatever was
    /// sent first: a message from far away keeps no line busy while it is under way.
    pub(crate) fn take_in(&mut self, now: u64, to: usize, bytes: u64, hot: bool) -> u64 {
        self.through(now, bytes, hot, to, false)
    }

    fn arrival(&mut self, rng: &mut ChaCha8Rng, sent: u64, (from, to): (usize, usize), hot: bool) -> u64 {
        let link = from * self.nodes + to;
        let latency = draw(rng, self.latency[link]) + draw(rng, self.jitter);
        let late = self.slow[from].0 + self.slow[to].0;
        let at = sent + latency + late;
        if self.reorder > 0.0 && rng.random_bool(self.reorder) {
            return at + rng.random_range(0..=(OVERTAKEN_LATENCIES * latency).max(OVERTAKEN_MIN_US));
        }
        let last = &mut self.last[link][usize::from(!hot)];
        *last = at.max(*last);
        *last
    }

    /// When the node's link is through with these bytes that come at `at`.
    fn through(&mut self, at: u64, bytes: u64, hot: bool, node: usize, outwards: bool) -> u64 {
        let time = self.bandwidth.time_of(bytes).0;
        if time == 0 {
            return at;
        }
        let free = if outwards { &mut self.out[node] } else { &mut self.inwards[node] };
        let done = at.max(free[usize::from(!hot)]) + time;
        if hot {
            free[0] = done;
            // What waits behind gets the line later.
            free[1] = free[1].max(at) + time;
        } else {
            free[1] = done;
        }
        done
    }

    /// The shortest latency of a link, without anything extra.
    pub(crate) fn usual(&self, from: usize, to: usize) -> u64 {
        self.latency[from * self.nodes + to].low.0
    }

    /// A node that starts again has nothing under way.
    pub(crate) fn reset(&mut self, node: usize, now: u64) {
        self.out[node] = [now; 2];
        self.inwards[node] = [now; 2];
    }
}

/// A time between two ends.
pub(crate) fn draw(rng: &mut ChaCha8Rng, between: Between) -> u64 {
    if between.low == between.high { between.low.0 } else { rng.random_range(between.low.0..=between.high.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn network(text: &str) -> (Network, ChaCha8Rng) {
        let manifest = Manifest::parse(text, "test").unwrap();
        (Network::new(&manifest, manifest.nodes()).unwrap(), ChaCha8Rng::seed_from_u64(1))
    }

    #[test]
    fn a_message_takes_its_latency_and_the_time_of_its_bytes_on_both_links() {
        let (mut net, mut rng) = network("[net]\nlatency = \"10ms\"\nbandwidth = \"8Mbit\"");
        assert_eq!(net.send(&mut rng, 0, (0, 1), 1_000, true), [Some(11_000), None]);
        // The second waits for the first.
        assert_eq!(net.send(&mut rng, 0, (0, 1), 1_000, true), [Some(12_000), None]);
        // Another sender does not, but both then share the receiver's line.
        assert_eq!(net.send(&mut rng, 0, (2, 1), 1_000, true), [Some(11_000), None]);
        assert_eq!(
            [11_000, 11_000, 12_000].map(|at| net.take_in(at, 1, 1_000, true)),
            [12_000, 13_000, 14_000]
        );
    }

    #[test]
    fn what_is_still_far_away_keeps_no_line_busy() {
        let (mut net, mut rng) = network("[net]\nlatency = \"1ms..200ms\"\nbandwidth = \"8Mbit\"");
        for at in 0..50 {
            net.send(&mut rng, at, (2, 1), 1_000, true);
        }
        assert_eq!(net.take_in(2_000, 1, 1_000, true), 3_000);
    }

    #[test]
    fn votes_overtake_transactions_and_transactions_wait_for_votes() {
        let (mut net, mut rng) = network("[net]\nlatency = \"0s\"\nbandwidth = \"8Mbit\"");
        assert_eq!(net.send(&mut rng, 0, (0, 1), 10_000, false), [Some(10_000), None]);
        assert_eq!(net.send(&mut rng, 0, (0, 2), 1_000, true), [Some(1_000), None]);
        let [Some(next), None] = net.send(&mut rng, 0, (0, 3), 1_000, false) else { panic!("lost") };
        assert!(next > 11_000, "{next}");
        assert_eq!(net.take_in(0, 1, 10_000, false), 10_000);
        assert_eq!(net.take_in(0, 1, 1_000, true), 1_000);
    }

    #[test]
    fn links_keep_order_unless_told_otherwise() {
        let (mut net, mut rng) = network("[net]\nlatency = \"1ms..50ms\"");
        let times: Vec<u64> =
            (0..100).filter_map(|at| net.send(&mut rng, at, (0, 1), 100, true)[0]).collect();
        assert!(times.is_sorted());
        net.reorder = 0.5;
        let times: Vec<u64> =
            (0..100).filter_map(|at| net.send(&mut rng, at, (0, 1), 100, true)[0]).collect();
        assert!(!times.is_sorted());
    }

    #[test]
    fn a_deaf_node_is_heard_and_hears_nothing() {
        let (mut net, mut rng) = network("[net]\nlatency = \"10ms\"");
        net.deaf[1] = 1;
        assert_eq!(net.send(&mut rng, 0, (0, 1), 100, true), [None, None]);
        assert_eq!(net.send(&mut rng, 0, (1, 0), 100, true), [Some(10_000), None]);
        assert!(net.passes(0, 1), "its connections stand");
    }

    #[test]
    fn cuts_are_counted_so_that_two_over_one_link_heal_one_by_one() {
        let (mut net, _) = network("");
        net.cut(0, 1, true);
        net.cut(0, 1, true);
        net.cut(0, 1, false);
        assert!(!net.passes(0, 1) && net.passes(1, 0));
        net.cut(0, 1, false);
        assert!(net.passes(0, 1));
    }
}
