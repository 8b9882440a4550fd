//! Twins (Bano et al., *Twins: BFT Systems Made Robust*): some validators run twice with one key, behind
//! partitions that are generated per view. Every honest node must keep the invariants, and once the network heals
//! everything must be committed. No attacker is written: equivocation, amnesia and lost state come out by themselves.
//!
//! The paper also generates leaders. Here leaders follow from the set, so the scenario chooses which positions
//! are twinned, and mutes views: a mute view is timed out, which passes its leader over.

mod campaign;
mod plan;
mod play;

use std::collections::HashSet;

use campaign::{Campaign, FINDINGS_MAX, number};
use plan::Plan;
use play::play;

use crate::cluster::sabotage::Bug;
use crate::cluster::transcript::Transcript;

/// Distinct scenarios of an ordinary run.
const SCENARIOS: u64 = 2_500;
/// The campaign of an ordinary run.
const SEED: u64 = 1;

/// A fault to put into honest nodes, from the environment.
fn fault() -> Option<Bug> {
    let name = std::env::var("CAIRN_TWINS_FAULT").ok().filter(|name| !name.is_empty())?;
    Some(
        Bug::named(&name)
            .unwrap_or_else(|| panic!("CAIRN_TWINS_FAULT is {name:?}; expected one of {:?}", Bug::ALL)),
    )
}

#[test]
fn twins_behind_partitions_break_no_invariant() {
    let mut campaign = Campaign::new(SEED, None);
    campaign.scenarios(SCENARIOS, FINDINGS_MAX);
    println!("{campaign}");
    campaign.assert_clean();
    assert_eq!(campaign.distinct(), SCENARIOS);
    campaign.assert_telling();
}

/// `CAIRN_TWINS_SEED`, `CAIRN_TWINS_SCENARIO` and `CAIRN_TWINS_FAULT` play one scenario and print what happens in it.
#[test]
fn one_scenario_replays_exactly() {
    let scenario = number("CAIRN_TWINS_SCENARIO");
    let plan = Plan::generate(number("CAIRN_TWINS_SEED").unwrap_or(SEED), scenario.unwrap_or(3));
    let transcripts = [Transcript::kept(), Transcript::kept()];
    let outcomes = transcripts.each_ref().map(|transcript| play(&plan, fault(), transcript));
    if scenario.is_some() {
        println!("{plan}\n\n{}", transcripts[0].text());
    }
    assert!(transcripts[0].text().contains("COMMITS"));
    assert_eq!(transcripts[0].text(), transcripts[1].text());
    let [outcome, _] = outcomes;
    println!("{:#?}", outcome.expect("no invariant is broken"));
}

/// A campaign that finds nothing proves nothing unless it finds what is there.
#[test]
fn faults_put_into_honest_nodes_are_found() {
    for bug in Bug::ALL {
        let mut campaign = Campaign::new(SEED, Some(bug));
        campaign.scenarios(SCENARIOS, 1); // all clean without the fault
        let report = campaign.findings().first();
        let report = report.unwrap_or_else(|| panic!("{bug:?} was not found:\n{campaign}"));
        assert!(report.contains("BROKEN") && report.contains("replay: "), "{report}");
        println!("{bug:?} was found:\n{campaign}");
    }
}

#[test]
fn scenarios_that_differ_in_names_only_are_one() {
    let plan = Plan::generate(SEED, 3);
    let mut renamed = plan.clone();
    for links in &mut renamed.views {
        for groups in [&mut links.proposals, &mut links.votes, &mut links.commits, &mut links.timeouts] {
            groups.iter_mut().for_each(|group| *group = 9 - *group);
            groups.swap(plan.twinned[0], plan.n); // the two instances of one key
        }
    }
    assert_ne!(plan, renamed);
    assert_eq!(plan.canonical(), renamed.canonical());
    let many: HashSet<_> = (0..1_000).map(|index| Plan::generate(SEED, index).canonical()).collect();
    assert!(many.len() > 990, "only {} of 1,000 scenarios are distinct", many.len());
    assert_ne!(plan.canonical(), Plan::generate(SEED + 1, 3).canonical());
}

/// A campaign of `CAIRN_TWINS_MINUTES`; `scripts/twins.sh` starts it.
#[test]
#[ignore = "runs for a given time"]
fn campaign_for_a_given_time() {
    let minutes = number("CAIRN_TWINS_MINUTES").unwrap_or(1);
    let mut campaign = Campaign::new(number("CAIRN_TWINS_SEED").unwrap_or(SEED), fault());
    campaign.minutes(minutes);
    println!("{campaign}");
    campaign.assert_clean();
}
