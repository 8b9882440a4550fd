//! What the model leaves out loses nothing.

use std::collections::HashSet;

use cairn_model::rules::{Extent, Rules};
use cairn_model::search::{STATES_MAX, reachable};
use cairn_model::state::State;
use cairn_model::twins::{judge, verify};

/// The states reached with the reduction are exactly the reduced ones of those reached without it.
fn loses_nothing(rules: Rules) {
    let reduced: HashSet<State> = reachable(&rules).into_iter().collect();
    let plain = reachable(&rules.clone().to(Extent::Plain));
    assert!(plain.len() > reduced.len(), "nothing was reduced: {} states", plain.len());
    let mut reached = HashSet::new();
    for state in &plain {
        let state = rules.canonical(state);
        assert!(reduced.contains(&state), "lost: {state:?}");
        reached.insert(state);
    }
    assert_eq!(reached.len(), reduced.len(), "states that do not exist were added");
}

#[test]
fn reducing_two_views_loses_nothing() {
    loses_nothing(Rules::new(2, 3));
}

#[test]
fn reducing_three_views_loses_nothing() {
    loses_nothing(Rules::new(3, 2));
}

#[test]
fn reducing_two_epochs_loses_nothing() {
    loses_nothing(Rules::epochs(2, 1, 2));
    loses_nothing(Rules::epochs(1, 2, 2));
}

#[test]
fn crashes_between_sync_and_send_add_no_harm() {
    for rules in [Rules::new(2, 2), Rules::epochs(1, 1, 2)] {
        let everything = rules.clone().to(Extent::Everything);
        let report = verify(&everything, STATES_MAX);
        judge(&everything, &report).expect("the protocol holds");
        assert!(report.states > reachable(&rules.to(Extent::Plain)).len(), "crashes add states");
    }
}

#[test]
fn names_do_not_matter() {
    // Every successor of every state of a small model, renamed in every way, has one canonical form.
    let rules = Rules::new(2, 2).to(Extent::Plain);
    for state in reachable(&rules) {
        assert_eq!(rules.canonical(&state), state, "a canonical state is its own form");
        for who in [[0, 2, 1], [1, 0, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
            for swapped in [false, true] {
                let renamed = state.renamed(who, swapped.then_some(1));
                assert_eq!(rules.canonical(&renamed), state);
            }
        }
    }
}
