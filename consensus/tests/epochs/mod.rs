//! Epochs: whole networks whose validators change, at every moment and under every fault of the simulation.
//! `CAIRN_EPOCHS=<count>` and `CAIRN_SEATS=<validators>` set the length of the long run.

mod boundary;
mod rules;

use cairn_types::Params;

use crate::cluster::scenario::params;
use crate::cluster::world::{START_MS, Schedule, TURNING_NONCE, World};
use crate::cluster::{Cluster, Delays, Event, Fault};

const UNIT: u64 = 10;

/// A network of this schedule in which every message takes one unit and nothing else any time.
fn network(schedule: Schedule, params: Params, seed: u64) -> Cluster {
    let delays = Delays { link: (UNIT, UNIT), execute: (0, 0), build: (0, 0) };
    Cluster::of(World::scheduled(schedule, params), delays, seed)
}

impl Cluster {
    /// Whether every node is up and in this epoch, or a later one.
    fn all_in_epoch(&self, epoch: u64) -> bool {
        self.nodes.iter().all(|node| node.live.is_some() && node.disk.chain.proofs.len() as u64 >= epoch)
    }
}

struct Figures {
    epochs: u64,
    events: u64,
    simulated_s: u64,
    wall_s: f64,
    blocks: u64,
}

/// Ends epoch after epoch, each by a transaction of its own, until everyone has come to `epochs`.
fn turn_over_and_over(schedule: Schedule, epochs: u64) -> Figures {
    let mut cluster = network(schedule, params(), 1);
    cluster.start_all();
    let started = std::time::Instant::now();
    for epoch in 0..epochs {
        cluster.at(cluster.now, Event::Submit(TURNING_NONCE + epoch));
        let deadline = cluster.now + 60_000;
        let turned = cluster.run(deadline, |it| it.all_in_epoch(epoch + 1));
        assert!(turned, "nobody comes to epoch {} of {schedule:?}", epoch + 1);
        // What nobody needs any more must not make a long run slow.
        cluster.submitted.clear();
    }
    assert_eq!(cluster.checks.epochs, epochs);
    Figures {
        epochs,
        events: cluster.events,
        simulated_s: (cluster.now - START_MS) / 1_000,
        wall_s: started.elapsed().as_secs_f64(),
        blocks: cluster.checks.height().get(),
    }
}

fn show(seats: usize, figures: &Figures) {
    println!(
        "{} epochs of {seats} validators: {} blocks, {} events, {} s simulated in {:.1} s",
        figures.epochs, figures.blocks, figures.events, figures.simulated_s, figures.wall_s
    );
}

#[test]
fn epochs_turn_at_the_smallest_size_and_with_a_new_validator_in_each() {
    show(1, &turn_over_and_over(Schedule { keys: 1, seats: 1, turns: true }, 300));
    show(1, &turn_over_and_over(Schedule { keys: 3, seats: 1, turns: true }, 60));
    show(4, &turn_over_and_over(Schedule { keys: 6, seats: 4, turns: true }, 60));
    show(22, &turn_over_and_over(Schedule { keys: 24, seats: 22, turns: true }, 4));
}

/// The long run: `scripts/epochs.sh`.
#[test]
#[ignore = "a campaign of its own: scripts/epochs.sh"]
fn ten_thousand_epochs() {
    let number = |name: &str, default| crate::number(name).unwrap_or(default);
    let epochs = number("CAIRN_EPOCHS", 10_000);
    let seats: Vec<usize> = match crate::number("CAIRN_SEATS") {
        Some(seats) => vec![seats as usize],
        None => vec![1, 4],
    };
    for seats in seats {
        // One more key than seats: one leaves and one joins in every epoch.
        let keys = if seats == 1 { 1 } else { seats + 1 };
        show(seats, &turn_over_and_over(Schedule { keys, seats, turns: true }, epochs));
    }
}

/// Loss, repetition, partitions, crashes at every durable point and power loss of all while epochs turn.
#[test]
fn epochs_turn_in_a_storm() {
    let seeds = crate::number("CAIRN_SEEDS").unwrap_or(150);
    let first = crate::number("CAIRN_SEED");
    let (mut epochs, mut carried) = (0, 0);
    for seed in first.map_or(0..seeds, |seed| seed..seed + 1) {
        let (turned, carriers) = storm(seed);
        epochs += turned;
        carried += carriers;
    }
    println!("{seeds} seeds: {epochs} epochs ended, {carried} times through a carrier");
    assert!(first.is_some() || carried > 0, "no seed ever needed a carrier: the storm is too mild");
}

fn storm(seed: u64) -> (u64, u64) {
    let schedule = Schedule { keys: 6, seats: if seed.is_multiple_of(5) { 3 } else { 4 }, turns: true };
    let delays = Delays { link: (1, 40), execute: (0, 15), build: (0, 10) };
    let mut cluster = Cluster::of(World::scheduled(schedule, params()), delays, seed);
    cluster.start_all();
    let noise = Fault::Noise {
        loss: cluster.draw((0, 150)) as u32,
        twice: cluster.draw((0, 100)) as u32,
        crash: cluster.draw((0, 60)) as u32,
    };
    cluster.at(START_MS, Event::Fault(noise));
    let calm = START_MS + 12_000;
    for number in 0..12 {
        let at = cluster.draw((START_MS, calm));
        let turning = if number % 3 == 0 { TURNING_NONCE } else { 0 };
        cluster.at(at, Event::Submit(turning + number));
    }
    for _ in 0..3 {
        let at = cluster.draw((START_MS, calm - 3_000));
        let groups = (0..cluster.nodes.len()).map(|_| cluster.draw((0, 1)) as u8).collect();
        cluster.at(at, Event::Fault(Fault::Partition(groups)));
        let healed = at + cluster.draw((200, 3_000));
        cluster.at(healed, Event::Fault(Fault::Heal));
    }
    let dark = cluster.draw((START_MS, calm));
    cluster.at(dark, Event::Fault(Fault::PowerLoss(1_000)));
    cluster.run(calm, |_| false);
    cluster.at(calm, Event::Fault(Fault::Noise { loss: 0, twice: 0, crash: 0 }));
    cluster.at(calm, Event::Fault(Fault::Heal));
    for node in 0..cluster.nodes.len() {
        cluster.at(calm, Event::Fault(Fault::Restart(node)));
    }
    for number in 0..12 {
        let turning = if number % 3 == 0 { TURNING_NONCE } else { 0 };
        cluster.at(calm + 4_000, Event::Submit(turning + number));
    }
    let done = cluster.run(calm + 240_000, |it| {
        it.now > calm + 4_000 && it.all_committed_some() && it.all_in_epoch(it.checks.epochs)
    });
    assert!(
        done,
        "seed {seed} does not recover: epochs {:?}, heights {:?}\nreplay: CAIRN_SEED={seed} cargo test --release -p \
         cairn-consensus --test simulation epochs_turn_in_a_storm",
        cluster.nodes.iter().map(|it| it.disk.chain.proofs.len()).collect::<Vec<_>>(),
        cluster.nodes.iter().map(|it| it.disk.chain.blocks.len()).collect::<Vec<_>>(),
    );
    (cluster.checks.epochs, cluster.checks.carried)
}
