//! Whole networks in virtual time. `CAIRN_SEED=<n>` replays one seed, `CAIRN_SEEDS=<count>` plays more of them.

mod cluster;
mod epochs;
mod rules;
mod twins;

use std::panic::{AssertUnwindSafe, catch_unwind};

use cairn_types::Params;
use cluster::scenario::{Outcome, Scenario, params};
use cluster::world::START_MS;
use cluster::{Cluster, Delays, Event, Fault};

/// Seeds of an ordinary run.
const SEEDS: u64 = 400;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn play(seed: u64) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| Scenario::of(seed).run())).unwrap_or_else(|cause| {
        eprintln!(
            "seed {seed} failed: {:?}\nreplay: CAIRN_SEED={seed} cargo test --release -p cairn-consensus --test simulation seeds",
            Scenario::of(seed)
        );
        std::panic::resume_unwind(cause)
    })
}

/// (a), (b), (c), (d) and (f) under delay, loss, repetition, partitions, crashes at every durable point, power
/// loss of all, and one Byzantine validator.
#[test]
fn seeds_keep_every_invariant_and_recover() {
    let (first, count) = match number("CAIRN_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("CAIRN_SEEDS").unwrap_or(SEEDS)),
    };
    let (mut events, mut simulated_ms, mut slowest, mut heights, mut accusations, mut writes) =
        (0, 0, 0, 0, 0, 0);
    let started = std::time::Instant::now();
    for seed in first..first + count {
        let outcome = play(seed);
        events += outcome.events;
        simulated_ms += outcome.simulated_ms;
        slowest = slowest.max(outcome.recovery_ms);
        heights += outcome.height;
        accusations += outcome.accusations;
        writes += outcome.writes;
    }
    println!(
        "{count} seeds: {events} events, {} s simulated in {:.1} s, {heights} blocks, {writes} synced writes, {accusations} accusations, slowest recovery {slowest} ms",
        simulated_ms / 1_000,
        started.elapsed().as_secs_f64()
    );
}

#[test]
fn one_seed_gives_the_same_events_every_time() {
    for seed in [0, 2, 3, 21] {
        let (first, second) = (play(seed), play(seed));
        assert_eq!((first.trace, first.events), (second.trace, second.events), "seed {seed}");
    }
    assert_ne!(play(0).trace, play(4).trace);
}

/// Every message takes this long, and nothing else takes any time.
const UNIT: u64 = 10;

fn unit_delay(n: usize, params: Params) -> Cluster {
    let delays = Delays { link: (UNIT, UNIT), execute: (0, 0), build: (0, 0) };
    let mut cluster = Cluster::new(n, params, delays, 1);
    cluster.start_all();
    cluster
}

#[test]
fn one_anchor_is_final_three_message_delays_after_its_proposal_and_then_the_chain_idles() {
    let mut cluster = unit_delay(4, Params::default());
    let submitted = START_MS + 500;
    cluster.at(submitted, Event::Submit(1));
    assert!(cluster.run(submitted + 1_000, Cluster::all_committed_some));
    assert_eq!(cluster.now, submitted + 3 * UNIT);
    assert_eq!(cluster.checks.height().get(), 1);
    cluster.run(submitted + 50_000, |_| false);
    assert_eq!(cluster.checks.height().get(), 1, "an idle chain makes no blocks");
    assert_eq!(cluster.sent.get("timeout"), None, "an idle chain times out no view");
    assert!(cluster.nodes.iter().all(|node| !node.live.as_ref().expect("up").replica.is_working()));
}

#[test]
fn an_idle_chain_beats_once_per_idle_interval() {
    let mut cluster = unit_delay(4, Params::default());
    cluster.run(START_MS + 5 * 60_000 + 1_000, |_| false);
    assert_eq!(cluster.checks.height().get(), 5);
    assert_eq!(cluster.sent.get("timeout"), None);
}

#[test]
fn a_lone_validator_runs_a_chain() {
    let mut cluster = unit_delay(1, Params::default());
    for nonce in 0..20 {
        cluster.at(START_MS + 100 + 30 * nonce, Event::Submit(nonce));
    }
    assert!(
        cluster.run(START_MS + 5_000, |cluster| cluster.submitted.len() == 20 && cluster.all_committed())
    );
}

#[test]
fn all_nodes_losing_power_with_a_certified_uncommitted_block_go_on() {
    // At every tenth of a message delay from proposal to commit.
    for at in 0..=3 * UNIT + 1 {
        let mut cluster = unit_delay(4, params());
        cluster.at(START_MS + 500, Event::Submit(1));
        cluster.at(START_MS + 500 + at, Event::Fault(Fault::PowerLoss(0)));
        cluster.at(START_MS + 600 + at, Event::Submit(1));
        cluster.at(START_MS + 600 + at, Event::Submit(2));
        let done = cluster.run(START_MS + 10_000, |c| c.submitted.len() == 2 && c.all_committed());
        assert!(done, "power lost {at} ms after the proposal: {}", cluster.describe());
    }
}

#[test]
fn a_split_in_halves_that_loses_every_message_ends_with_a_commit() {
    for cut in 0..4 * UNIT {
        let mut cluster = unit_delay(4, params());
        cluster.at(START_MS + 500, Event::Submit(1));
        cluster.at(START_MS + 500 + cut, Event::Fault(Fault::Noise { loss: 1_000, twice: 0, crash: 0 }));
        cluster.at(START_MS + 500 + cut, Event::Fault(Fault::Partition(vec![0, 0, 1, 1])));
        // Both sides time out, and everything they say is lost.
        cluster.at(START_MS + 4_000, Event::Fault(Fault::Noise { loss: 0, twice: 0, crash: 0 }));
        cluster.at(START_MS + 4_000, Event::Fault(Fault::Heal));
        cluster.at(START_MS + 4_000, Event::Submit(2));
        let done = cluster.run(START_MS + 20_000, |c| c.submitted.len() == 2 && c.all_committed());
        assert!(done, "cut {cut} ms after the proposal: {}", cluster.describe());
    }
}

#[test]
fn a_network_restarted_all_at_once_converges_in_few_timeouts() {
    let mut cluster = unit_delay(7, params());
    for nonce in 0..30 {
        cluster.at(START_MS + 100 + 37 * nonce, Event::Submit(nonce));
    }
    cluster.run(START_MS + 700, |_| false);
    cluster.at(cluster.now, Event::Fault(Fault::PowerLoss(1_000)));
    let back = cluster.now + 1_000;
    for nonce in 0..30 {
        cluster.at(back, Event::Submit(nonce));
    }
    let done =
        cluster.run(back + 3 * params().timeout_base_ms, |c| c.submitted.len() == 30 && c.all_committed());
    assert!(done, "{}", cluster.describe());
}

#[test]
fn a_node_far_behind_and_a_follower_catch_up_by_range() {
    let mut cluster = unit_delay(4, params());
    cluster.nodes.push(cluster::node::Node::new(None, true, 0));
    cluster.at(START_MS, Event::Fault(Fault::Crash(0)));
    for nonce in 0..600 {
        cluster.at(START_MS + 100 + 90 * nonce, Event::Submit(nonce));
    }
    cluster.run(START_MS + 60_000, |_| false);
    let behind = cluster.checks.height().get();
    assert!(behind > 100, "only {behind} blocks");
    let back = cluster.now;
    cluster.at(back, Event::Fault(Fault::Restart(0)));
    cluster.at(back, Event::Fault(Fault::Restart(4)));
    cluster.at(back + 5_000, Event::Submit(600));
    let done = cluster.run(back + 30_000, |c| c.submitted.len() == 601 && c.all_committed());
    assert!(done, "{}", cluster.describe());
    assert!(cluster.sent.get("range").is_some_and(|asked| *asked >= 2));
}

#[test]
fn a_slow_executor_rejoins_and_commits_with_the_others() {
    let mut cluster = unit_delay(4, params());
    cluster.delays.execute = (0, 120); // longer than a whole view
    for nonce in 0..60 {
        cluster.at(START_MS + 100 + 50 * nonce, Event::Submit(nonce));
    }
    let done = cluster.run(START_MS + 30_000, |c| c.submitted.len() == 60 && c.all_committed());
    assert!(done, "{}", cluster.describe());
}

#[test]
fn skewed_clocks_and_slow_links_neither_halt_nor_stall_the_chain() {
    let mut cluster = unit_delay(4, Params::default());
    cluster.delays.link = (100, 250);
    for (node, skew) in [-450, 450, -200, 300].into_iter().enumerate() {
        cluster.nodes[node].skew_ms = skew;
    }
    for nonce in 0..60 {
        cluster.at(START_MS + 500 + 300 * nonce, Event::Submit(nonce));
    }
    let done = cluster.run(START_MS + 60_000, |c| c.submitted.len() == 60 && c.all_committed());
    assert!(done, "{}", cluster.describe());
}
