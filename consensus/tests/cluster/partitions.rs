//! Links that depend on the view a message is about, as in *Twins: BFT Systems Made Robust*: who hears whom is
//! planned per view, and per kind of message within it.

use std::collections::BTreeMap;

use cairn_types::{Message, View};

use super::Wire;

/// Nodes with the same number hear each other.
pub(crate) type Groups = Vec<u8>;

/// The links of one view, by what a message is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ViewLinks {
    /// Nobody hears the leader's proposal: the view is to be timed out, and its leader passed over.
    pub(crate) mute: bool,
    pub(crate) proposals: Groups,
    /// Also block certificates, questions and blocks.
    pub(crate) votes: Groups,
    /// Also commit certificates.
    pub(crate) commits: Groups,
    /// Also timeout certificates. A timeout that is said a second time is heard by everybody: otherwise a
    /// view whose groups hold no quorum would last for ever.
    pub(crate) timeouts: Groups,
}

/// The plan of a run: one entry per view from view 1 on; later views are whole.
#[derive(Default)]
pub(crate) struct Partitions {
    views: Vec<ViewLinks>,
    /// When each node first gave each view up.
    gave_up: BTreeMap<(usize, View), u64>,
}

impl Partitions {
    pub(crate) const fn new(views: Vec<ViewLinks>) -> Self {
        Self { views, gave_up: BTreeMap::new() }
    }

    /// Whether `to` hears what `from`, which is in the view `standing`, says now.
    pub(crate) fn pass(&mut self, from: usize, to: usize, now: u64, standing: View, wire: &Wire) -> bool {
        let view = if let Wire::Message(message) = wire { message.view() } else { standing };
        let planned = view.get().checked_sub(1).and_then(|at| self.views.get(at as usize));
        let Some(links) = planned else { return true };
        let groups = match wire {
            Wire::Message(Message::Proposal(_)) if links.mute => return false,
            Wire::Message(Message::Proposal(_)) => &links.proposals,
            Wire::Message(Message::CommitVote(_) | Message::CommitCert(_)) => &links.commits,
            Wire::Message(Message::Timeout(_)) => {
                if *self.gave_up.entry((from, view)).or_insert(now) < now {
                    return true;
                }
                &links.timeouts
            }
            Wire::Message(Message::TimeoutCert(_)) => &links.timeouts,
            _ => &links.votes,
        };
        groups[from] == groups[to]
    }
}
