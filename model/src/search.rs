//! Breadth first through every state there is, so that the first counterexample is a shortest one.

use std::time::{Duration, Instant};

use crate::moves::{Move, Next, Properties, Property};
use crate::rules::Rules;
use crate::state::State;

/// States kept unless the caller says otherwise: about 4 GiB.
pub const STATES_MAX: usize = 60_000_000;

const FREE: u32 = u32::MAX;

/// How a search ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Every state within the bounds was visited, and none breaks a watched property.
    Holds,
    /// A shortest way to a broken property.
    Broken(Counterexample),
    /// There are more states than may be kept; nothing is known.
    OutOfRoom,
}

/// A shortest way from the beginning to a broken property.
#[derive(Clone, Debug)]
pub struct Counterexample {
    /// What is broken.
    pub property: Property,
    /// The moves, and what each led to.
    pub moves: Vec<(Move, State)>,
}

/// What a search found, and what it took.
#[derive(Clone, Debug)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// Different states visited.
    pub states: usize,
    /// Moves tried that changed something.
    pub moves: u64,
    /// The longest shortest way to a state.
    pub depth: usize,
    /// How long it took.
    pub elapsed: Duration,
}

/// The states found so far, in the order they were found.
struct Seen {
    states: Vec<State>,
    from: Vec<u32>,
    table: Vec<u32>,
}

impl Seen {
    fn new() -> Self {
        Self { states: Vec::new(), from: Vec::new(), table: vec![FREE; 1 << 16] }
    }

    /// Adds a state, unless it is known.
    fn add(&mut self, state: State, from: u32) {
        if self.states.len() * 2 >= self.table.len() {
            self.grow();
        }
        let spot = self.spot(&state);
        if self.table[spot] == FREE {
            self.table[spot] = self.states.len() as u32;
            self.states.push(state);
            self.from.push(from);
        }
    }

    fn spot(&self, state: &State) -> usize {
        let mask = self.table.len() - 1;
        let mut spot = state.hash() as usize & mask;
        while self.table[spot] != FREE && self.states[self.table[spot] as usize] != *state {
            spot = (spot + 1) & mask;
        }
        spot
    }

    fn grow(&mut self) {
        let mask = self.table.len() * 2 - 1;
        self.table = vec![FREE; mask + 1];
        for (index, state) in self.states.iter().enumerate() {
            let mut spot = state.hash() as usize & mask;
            while self.table[spot] != FREE {
                spot = (spot + 1) & mask;
            }
            self.table[spot] = index as u32;
        }
    }
}

/// Visits every state that the rules allow, until one breaks a property in `watched`.
pub fn explore(rules: &Rules, watched: Properties, states_max: usize) -> Report {
    let begun = Instant::now();
    let canonical = |state: &State| rules.canonical(state);
    let mut seen = Seen::new();
    seen.add(canonical(&State::initial()), FREE);
    let (mut at, mut tried, mut depth, mut level_end) = (0, 0, 0, 1);
    let mut found: Vec<Next> = Vec::new();
    let mut outcome = Outcome::Holds;
    'all: while at < seen.states.len() {
        if at == level_end {
            (depth, level_end) = (depth + 1, seen.states.len());
        }
        let state = seen.states[at];
        found.clear();
        rules.moves(&state, &mut found);
        tried += found.len() as u64;
        for next in &found {
            if let Some(property) = next.broken.first_in(watched) {
                let moves = retrace(rules, watched, property, &seen, at);
                outcome = Outcome::Broken(Counterexample { property, moves });
                break 'all;
            }
            seen.add(canonical(&next.state), at as u32);
        }
        at += 1;
        if seen.states.len() > states_max.min(FREE as usize) {
            outcome = Outcome::OutOfRoom;
            break;
        }
    }
    Report { outcome, states: seen.states.len(), moves: tried, depth, elapsed: begun.elapsed() }
}

/// Every state that the rules allow, for tests that compare explorations.
pub fn reachable(rules: &Rules) -> Vec<State> {
    let mut seen = Seen::new();
    seen.add(rules.canonical(&State::initial()), FREE);
    let (mut at, mut found) = (0, Vec::new());
    while at < seen.states.len() {
        found.clear();
        rules.moves(&seen.states[at], &mut found);
        for next in &found {
            seen.add(rules.canonical(&next.state), at as u32);
        }
        at += 1;
    }
    seen.states
}

/// The moves that led to the state at `last`, and the one that breaks `property`. Every state kept has its
/// own names for validators and blocks; the way is walked again with those of the beginning.
fn retrace(
    rules: &Rules,
    watched: Properties,
    property: Property,
    seen: &Seen,
    last: usize,
) -> Vec<(Move, State)> {
    let mut way: Vec<State> = Vec::new();
    let mut at = last as u32;
    while at != FREE {
        way.push(seen.states[at as usize]);
        at = seen.from[at as usize];
    }
    way.reverse();
    let mut state = State::initial();
    let mut moves = Vec::new();
    let mut found = Vec::new();
    for goal in way.iter().skip(1).map(Some).chain([None]) {
        found.clear();
        rules.moves(&state, &mut found);
        let fits = |next: &&Next| match goal {
            Some(goal) => rules.canonical(&next.state) == *goal,
            None => next.broken.first_in(watched) == Some(property),
        };
        let Some(next) = found.iter().find(fits) else {
            // Two names for one state that the renaming does not recognise: its own names then go on.
            state = goal.copied().unwrap_or(state);
            continue;
        };
        state = next.state;
        moves.push((next.step, next.state));
    }
    moves
}
