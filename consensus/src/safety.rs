//! The predicates that decide whether this replica may sign. Pure, and the only place that says so.

use cairn_types::safety::SafetyRecord;
use cairn_types::{TimeoutCert, View};

use crate::reject::Reject;

fn below<T>(signed: &Option<(View, T)>, view: View) -> bool {
    signed.as_ref().is_none_or(|(signed, _)| *signed < view)
}

/// The part of V that is the same for every replica: whether a certificate of view `justify`, with this
/// timeout certificate, entitles to a proposal in `view`.
pub(crate) fn check_justified(view: View, justify: View, tc: Option<&TimeoutCert>) -> Result<(), Reject> {
    if justify >= view {
        return Err(Reject::Unjustified { view, justify });
    }
    if view.follows(justify) {
        return tc.map_or(Ok(()), |_| Err(Reject::NeedlessTimeoutCert { view })); // V: justify.view == view-1
    }
    let Some(tc) = tc.filter(|tc| view.follows(tc.view)) else {
        return Err(Reject::Unjustified { view, justify });
    };
    let allowed = tc.high_qc.view();
    if justify < allowed {
        return Err(Reject::JustifyTooLow { justify, allowed }); // V: justify.view >= tc.high_qc.view
    }
    Ok(())
}

/// V, this replica's part: nothing signed in this view or above, neither a vote nor a timeout.
pub(crate) fn may_vote(record: &SafetyRecord, view: View) -> bool {
    below(&record.last_voted, view) && below(&record.last_timeout, view) // V
}

/// C: a commit vote for a certificate of `view`.
pub(crate) fn may_commit_vote(record: &SafetyRecord, view: View) -> bool {
    below(&record.last_commit_voted, view) // C: v > last commit-voted
        && below(&record.last_timeout, view) // C: last timed out < v
        && below(&record.last_voted, view.next()) // C: last voted <= v
}

/// T: a first timeout of `view`. The same one may be repeated at any time.
pub(crate) fn may_time_out(record: &SafetyRecord, view: View) -> bool {
    below(&record.last_timeout, view) // T
}

/// A leader's block is also its own vote, so V must hold; and one block per view, also after a restart.
pub(crate) fn may_propose(record: &SafetyRecord, view: View) -> bool {
    below(&record.last_proposed, view) && may_vote(record, view)
}
