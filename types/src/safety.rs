//! The durable record `D`: what a validator has signed (consensus.md, "The durable record").

use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

use crate::hash::Hash;
use crate::id::{BlockId, Epoch, View};

/// Everything a validator must remember before a signature leaves. It holds preimages, not signatures:
/// signing the same preimage again is allowed.
#[derive(Clone, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct SafetyRecord {
    /// The epoch all other fields belong to.
    pub epoch: Epoch,
    /// The last vote.
    pub last_voted: Option<(View, BlockId)>,
    /// The last timeout: its view and the `high_qc` view it was signed with.
    pub last_timeout: Option<(View, View)>,
    /// The last commit vote.
    pub last_commit_voted: Option<(View, BlockId)>,
    /// The last proposal.
    pub last_proposed: Option<(View, BlockId)>,
    /// The highest certificate: its view and digest. Its bytes are in the certificate file.
    pub high_qc: Option<(View, Hash)>,
    /// The highest timeout certificate: its view and digest.
    pub high_tc: Option<(View, Hash)>,
}

/// A record that would take back something already signed.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("refusing to sign: {what} would go from {from} to {to}; a signed view is never lowered or changed")]
pub struct Regression {
    /// Which field.
    pub what: &'static str,
    /// What is recorded.
    pub from: String,
    /// What was asked for.
    pub to: String,
}

impl SafetyRecord {
    /// The highest view that something was signed for, in the record's epoch.
    pub fn highest_signed(&self) -> View {
        let views = [
            self.last_voted.map(|(view, _)| view),
            self.last_commit_voted.map(|(view, _)| view),
            self.last_proposed.map(|(view, _)| view),
            self.last_timeout.map(|(view, _)| view),
        ];
        views.into_iter().flatten().max().unwrap_or(View::ZERO)
    }

    /// Checks that `next` may follow this record: no field falls, and no signed view changes its content.
    ///
    /// # Errors
    /// Names the first field that would go back.
    pub fn check_next(&self, next: &Self) -> Result<(), Regression> {
        if next.epoch != self.epoch {
            let (from, to) = (self.epoch.to_string(), next.epoch.to_string());
            return if next.epoch > self.epoch {
                Ok(())
            } else {
                Err(Regression { what: "epoch", from, to })
            };
        }
        check_field("last_voted", &self.last_voted, &next.last_voted)?;
        check_field("last_timeout", &self.last_timeout, &next.last_timeout)?;
        check_field("last_commit_voted", &self.last_commit_voted, &next.last_commit_voted)?;
        check_field("last_proposed", &self.last_proposed, &next.last_proposed)?;
        check_view("high_qc", self.high_qc.map(|(view, _)| view), next.high_qc.map(|(view, _)| view))?;
        check_view("high_tc", self.high_tc.map(|(view, _)| view), next.high_tc.map(|(view, _)| view))
    }
}

fn check_field<T: PartialEq + std::fmt::Debug>(
    what: &'static str,
    from: &Option<(View, T)>,
    to: &Option<(View, T)>,
) -> Result<(), Regression> {
    let fine = match (from, to) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(from), Some(to)) => to.0 > from.0 || to == from,
    };
    if fine { Ok(()) } else { Err(Regression { what, from: format!("{from:?}"), to: format!("{to:?}") }) }
}

fn check_view(what: &'static str, from: Option<View>, to: Option<View>) -> Result<(), Regression> {
    if to >= from {
        return Ok(());
    }
    Err(Regression { what, from: format!("{from:?}"), to: format!("{to:?}") })
}
