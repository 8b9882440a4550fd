//! Changes of the validators that an experiment asks for: `[epochs]`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::manifest::{Manifest, NODES_MAX};
use crate::units::Micros;

/// Changes of one experiment, at most: far more than anybody writes by hand.
const CHANGES_MAX: usize = 10_000;
/// A validator's power, at most: large enough for any ratio, and sums stay far from the protocol's bound.
const POWER_MAX: u64 = 1_000_000;

/// How the validators change. Without it the network stays in its first epoch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Epochs {
    /// Nodes with a validator key that follow the chain until a change lets them join. Their numbers come after those of
    /// the validators.
    pub candidates: usize,
    /// How old an epoch gets before the next of an endless round of changes is proposed; no round when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<Micros>,
    /// The round ends when this many epochs have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Whether honest validators bring contradicting signatures on chain, which ends the epoch without the culprit.
    pub evidence: bool,
    /// Changes in the order of their times; each is proposed when the one before is in force.
    pub change: Vec<PlannedChange>,
}

impl Default for Epochs {
    fn default() -> Self {
        Self { candidates: 0, length: None, count: None, evidence: true, change: Vec::new() }
    }
}

/// One change, proposed and approved on chain by the honest validators: exactly one of `join`, `leave`, `weigh` and `rotate`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlannedChange {
    /// When it is proposed, at the earliest.
    pub at: Micros,
    /// This node becomes a validator, of power `power`, or 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join: Option<usize>,
    /// This one is none any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leave: Option<usize>,
    /// This one has `power` from then on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weigh: Option<usize>,
    /// This one signs with its other key from then on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotate: Option<usize>,
    /// Of `join` and `weigh`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power: Option<u64>,
}

/// What a planned change does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Move {
    Join(usize, u64),
    Leave(usize),
    Weigh(usize, u64),
    Rotate(usize),
}

impl PlannedChange {
    /// What it does.
    ///
    /// # Errors
    /// When it asks for nothing, or for several things.
    pub(crate) fn step(&self) -> Result<Move, String> {
        let power = self.power.unwrap_or(1);
        let asked = [
            self.join.map(|node| Move::Join(node, power)),
            self.leave.map(Move::Leave),
            self.weigh.map(|node| Move::Weigh(node, power)),
            self.rotate.map(Move::Rotate),
        ];
        let mut asked = asked.into_iter().flatten();
        let (Some(step), None) = (asked.next(), asked.next()) else {
            return Err("expected one of `join`, `leave`, `weigh` and `rotate`".into());
        };
        match (step, self.power) {
            (Move::Leave(_) | Move::Rotate(_), Some(_)) => {
                Err("`power` belongs to `join` and `weigh`".into())
            }
            (Move::Weigh(..), None) => Err("`weigh` needs `power`".into()),
            (_, Some(power)) if !(1..=POWER_MAX).contains(&power) => {
                Err(format!("power = {power}; expected 1 to {POWER_MAX}"))
            }
            _ => Ok(step),
        }
    }
}

impl Manifest {
    /// Nodes with a validator key: validators and candidates.
    pub fn keyed(&self) -> usize {
        self.net.n + self.epochs.as_ref().map_or(0, |epochs| epochs.candidates)
    }

    /// Whether every change can be made, and leaves a network that the honest can carry on.
    pub(crate) fn check_epochs(&self, faulty: &[usize]) -> Result<(), String> {
        let Some(epochs) = &self.epochs else {
            return match self.perturb.iter().position(|it| it.boundary.is_some()) {
                Some(index) => {
                    Err(format!("perturb {index}: `boundary` needs `[epochs]`: no epoch ends without"))
                }
                None => Ok(()),
            };
        };
        if self.execution == crate::manifest::Execution::Shared {
            return Err(
                "epochs: expected execution = \"own\": nodes stand in different epochs while one ends".into(),
            );
        }
        if self.keyed() > NODES_MAX || epochs.change.len() > CHANGES_MAX {
            return Err(format!(
                "epochs: expected at most {NODES_MAX} validators and candidates, and {CHANGES_MAX} changes"
            ));
        }
        if epochs.length.is_some() && !epochs.change.is_empty() {
            return Err(
                "epochs: `length` makes changes by itself; expected either it or [[epochs.change]]".into()
            );
        }
        if epochs.count.is_some() && epochs.length.is_none() {
            return Err(
                "epochs: `count` ends the round of changes that `length` begins; expected `length`".into()
            );
        }
        if !epochs.change.is_sorted_by_key(|change| change.at) {
            return Err("epochs: expected changes in the order of their times".into());
        }
        let mut powers: BTreeMap<usize, u64> = (0..self.net.n).map(|node| (node, 1)).collect();
        for (index, change) in epochs.change.iter().enumerate() {
            let applied = change.step().and_then(|step| apply(&mut powers, step, self.keyed()));
            applied.map_err(|why| format!("epochs.change {index}: {why}"))?;
            let honest: u64 =
                powers.iter().filter(|(node, _)| !faulty.contains(node)).map(|(_, power)| power).sum();
            if 3 * honest <= 2 * powers.values().sum::<u64>() && !self.byzantine.beyond_f {
                return Err(format!(
                    "epochs.change {index}: leaves the honest without a quorum; expected more than two thirds of the \
                     power, or `byzantine.beyond_f = true` for a run that is meant to break"
                ));
            }
        }
        Ok(())
    }
}

/// Makes a change among the powers of those in the set.
fn apply(powers: &mut BTreeMap<usize, u64>, step: Move, keyed: usize) -> Result<(), String> {
    let (Move::Join(node, _) | Move::Leave(node) | Move::Weigh(node, _) | Move::Rotate(node)) = step;
    if node >= keyed {
        return Err(format!("node {node} has no validator key; expected 0 to {}", keyed - 1));
    }
    let member = powers.get(&node).copied();
    match (step, member) {
        (Move::Join(..), Some(_)) => Err(format!("node {node} is a validator already")),
        (Move::Leave(_) | Move::Weigh(..) | Move::Rotate(_), None) => {
            Err(format!("node {node} is no validator then"))
        }
        (Move::Weigh(_, power), Some(held)) if power == held => {
            Err(format!("node {node} has power {power} already"))
        }
        (Move::Leave(_), _) if powers.len() == 1 => Err("nobody would be left".into()),
        (Move::Join(_, power) | Move::Weigh(_, power), _) => {
            powers.insert(node, power);
            Ok(())
        }
        (Move::Leave(_), _) => {
            powers.remove(&node);
            Ok(())
        }
        (Move::Rotate(_), _) => Ok(()),
    }
}
