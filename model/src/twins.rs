//! Broken twins of the protocol, each of which the search must find, and guards that turned out to be spare.

use Fault as F;
use Property::{DoubleSign, Fork, LockBack, Uncertified};
use Views::{One, Two};

use crate::moves::{Properties, Property};
use crate::rules::{Fault, Rules};
use crate::search::{Outcome, Report, STATES_MAX, explore};

/// A protocol with something left out.
#[derive(Clone, Debug)]
pub struct Twin {
    /// What it is called.
    pub name: &'static str,
    /// The letter of the rule that is broken.
    pub rule: &'static str,
    /// What is left out.
    pub what: &'static str,
    /// The rules without it, in bounds large enough to show the harm.
    pub rules: Rules,
    /// The harm.
    pub harm: Property,
}

/// How many views there are: one epoch's, or two epochs'.
enum Views {
    One(u8),
    Two(u8, u8),
}

type Row = (&'static str, &'static str, &'static str, Views, &'static [Fault], Property);

/// Name, rule, what is left out, bounds, faults, harm.
#[rustfmt::skip]
const TWINS: &[Row] = &[
    ("commit_after_timeout", "C", "commit vote without looking at the last timeout", One(3), &[F::CommitAfterTimeout], Fork),
    ("commit_in_timed_out_view", "C", "last timed out <= v instead of < v", One(3), &[F::CommitInTimedOutView], Fork),
    ("commit_after_later_vote", "C+V+A", "commit vote after a later vote, where V is the lock alone and timers move views", One(2),
        &[F::CommitAfterLaterVote, F::VoteByLockAlone, F::ViewByTimerAlone], Fork),
    ("vote_unconditional", "V", "votes whatever the certificate", One(3), &[F::VoteUnconditional], Fork),
    ("vote_twice", "V", "votes without looking at the last vote", One(3), &[F::VoteTwice], Fork),
    ("tc_high_ignored", "V", "the timeout certificate's highest certificate is ignored", One(3), &[F::TcHighIgnored], Fork),
    ("tc_high_off_by_one", "V", "justify may be one view below what the timeout certificate allows", One(3), &[F::TcHighOffByOne], Fork),
    ("high_not_raised", "H", "a certificate learnt does not raise high_qc, only the one voted on does", One(3), &[F::HighOnlyByVote], Fork),
    ("timeout_names_root", "T", "a timeout names a lower certificate than its signer holds", One(3), &[F::TimeoutNamesRoot], Fork),
    ("timeout_twice", "T", "a repeated timeout is signed anew with the certificate of now", One(3), &[F::TimeoutTwice], DoubleSign),
    ("tc_below_its_entries", "T", "a timeout certificate below what its entries name is accepted", One(3), &[F::TcBelowItsEntries], Fork),
    ("vote_quorum_2f", "quorum", "2f votes certify", One(2), &[F::VoteQuorum2f], Fork),
    ("commit_quorum_2f", "quorum", "2f commit votes make final", One(3), &[F::CommitQuorum2f], Fork),
    ("timeout_quorum_2f", "quorum", "2f timeouts make a timeout certificate", One(3), &[F::TimeoutQuorum2f], Fork),
    ("vote_before_sync", "D", "a vote leaves before its record is synced", One(3), &[F::VoteBeforeSync], Fork),
    ("commit_vote_before_sync", "D", "a commit vote leaves before its record is synced", One(3), &[F::CommitVoteBeforeSync], Fork),
    ("timeout_before_sync", "D", "a timeout leaves before its record is synced", One(3), &[F::TimeoutBeforeSync], Fork),
    ("high_not_on_disk", "D", "high_qc is not in the record", One(3), &[F::HighNotOnDisk], Fork),
    ("lock_back", "D", "the same, seen by the lock itself", One(1), &[F::HighNotOnDisk], LockBack),
    ("view_not_signed", "certificate", "a certificate of one view is accepted as another's", One(3), &[F::ViewNotSigned], Fork),
    ("parent_uncertified", "certificate", "the parent's certificate is not verified", One(2), &[F::ParentUncertified], Fork),
    ("final_uncertified", "certificate", "the same, seen by the final block", One(2), &[F::ParentUncertified], Uncertified),
    ("epoch_unchecked", "E", "a certificate of the first epoch is accepted in the second", Two(1, 2), &[F::EpochUnchecked], Fork),
    ("epoch_on_certificate", "E", "the next epoch is entered on a certificate, not on a commit proof", Two(2, 1), &[F::EpochOnCertificate], Fork),
    ("carriers_in_chain", "E", "a commit certificate of a carrier makes the carrier final", Two(2, 1), &[F::CarriersInChain], Fork),
];

/// Name, rule, what is left out, faults.
#[rustfmt::skip]
const SPARES: &[(&str, &str, &str, &[Fault])] = &[
    ("commit_after_later_vote", "C", "last voted <= v dropped", &[F::CommitAfterLaterVote]),
    ("commit_again_below", "C", "v > last commit-voted dropped", &[F::CommitAgainBelow]),
    ("vote_after_timeout", "V", "view > last timed out dropped", &[F::VoteAfterTimeout]),
    ("vote_by_lock_alone", "V", "justify >= own high_qc instead of what the timeout certificate allows", &[F::VoteByLockAlone]),
    ("high_only_where_committing", "H", "high_qc is not raised where C refuses", &[F::HighOnlyWhereCommitting]),
    ("view_by_timer_alone", "A", "the timer alone moves to the next view", &[F::ViewByTimerAlone]),
    ("lock_and_timer_alone", "V+A", "the last two of V and A together, C whole", &[F::VoteByLockAlone, F::ViewByTimerAlone]),
];

/// Twins that lead to the harm they name.
pub fn twins() -> Vec<Twin> {
    let twin = |&(name, rule, what, ref views, faults, harm): &Row| {
        let rules = match *views {
            One(views) => Rules::new(views, 2),
            Two(first, second) => Rules::epochs(first, second, 2),
        };
        Twin { name, rule, what, rules: rules.with(faults), harm }
    };
    TWINS.iter().map(twin).collect()
}

/// Guards whose absence does no harm by itself within these bounds: another rule covers them.
pub fn spares(views: u8) -> Vec<Twin> {
    let spare = |&(name, rule, what, faults): &(_, _, _, &[Fault])| {
        let rules = Rules::new(views, 2).with(faults);
        Twin { name, rule, what, rules, harm: Fork }
    };
    SPARES.iter().map(spare).collect()
}

impl Twin {
    /// Looks for its harm.
    pub fn hunt(&self) -> Report {
        explore(&self.rules, Properties::of(&[self.harm]), STATES_MAX)
    }

    /// Whether the search did its work: it must have found this harm, by moves that can be shown.
    ///
    /// # Errors
    /// What it did instead, as a sentence.
    pub fn judge(&self, report: &Report) -> Result<(), String> {
        match &report.outcome {
            Outcome::Broken(found)
                if found.property == self.harm && found.moves.len() == report.depth + 1 =>
            {
                Ok(())
            }
            Outcome::Broken(found) => Err(format!(
                "{}: expected {}, found {} in {} moves",
                self.name,
                self.harm,
                found.property,
                found.moves.len()
            )),
            Outcome::Holds => Err(format!("{}: NOT FOUND in {} states", self.name, report.states)),
            Outcome::OutOfRoom => {
                Err(format!("{}: not found in the first {} states", self.name, report.states))
            }
        }
    }
}

/// Explores the protocol for every property.
pub fn verify(rules: &Rules, states_max: usize) -> Report {
    explore(rules, Properties::of(&Property::ALL), states_max)
}

/// Whether the protocol was shown to hold.
///
/// # Errors
/// What breaks, move by move, or that the bounds were not exhausted.
pub fn judge(rules: &Rules, report: &Report) -> Result<(), String> {
    match &report.outcome {
        Outcome::Holds => Ok(()),
        Outcome::OutOfRoom => Err(format!("not exhausted: more than {} states", report.states)),
        Outcome::Broken(found) => Err(format!("{}:\n{}", found.property, found.lines(rules).join("\n"))),
    }
}
