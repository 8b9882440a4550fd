//! What happened in a run, one line each, for people.

use std::cell::RefCell;
use std::rc::Rc;

use cairn_consensus::Outgoing;
use cairn_types::{BlockId, CertifiedBlock, View};

use super::Cluster;
use super::world::START_MS;

/// Lines of a run; nothing is written, and nothing worked out, unless it was asked for. Clones share the
/// lines, so that they outlive a run that panics.
#[derive(Clone, Default)]
pub(crate) struct Transcript(Option<Rc<RefCell<Vec<String>>>>);

impl Transcript {
    pub(crate) fn kept() -> Self {
        Self(Some(Rc::default()))
    }

    pub(crate) fn line(&self, now: u64, text: impl FnOnce() -> String) {
        if let Some(lines) = &self.0 {
            lines.borrow_mut().push(format!("{:>7} ms  {}", now - START_MS, text()));
        }
    }

    /// What the run ended with.
    pub(crate) fn end(&self, text: &str) {
        if let Some(lines) = &self.0 {
            lines.borrow_mut().push(format!("BROKEN: {text}"));
        }
    }

    pub(crate) fn text(&self) -> String {
        self.0.as_ref().map(|lines| lines.borrow().join("\n")).unwrap_or_default()
    }
}

/// Enough of a block's id to tell it from the others of a run.
pub(crate) fn short(block: BlockId) -> String {
    block.to_string().chars().take(6).collect()
}

impl Cluster {
    /// `v2` for the validator at position 2, `v2'` for its second instance, `f5` for a follower.
    pub(crate) fn name(&self, node: usize) -> String {
        match self.nodes[node].me {
            Some(me) if node < self.world.set.count() => format!("v{me}"),
            Some(me) => format!("v{me}'"),
            None => format!("f{node}"),
        }
    }

    pub(crate) fn note_sent(&self, node: usize, outgoing: &Outgoing) {
        if matches!(outgoing, Outgoing::Status(_)) {
            return; // hints; they decide nothing
        }
        self.transcript.line(self.now, || {
            let text = match outgoing {
                Outgoing::Proposal { block, justify, tc } => {
                    let header = block.header();
                    let with = tc.as_ref().map(|tc| format!(", with TC({})", tc.view)).unwrap_or_default();
                    format!(
                        "view {}: PROPOSES {} at height {} on {} of view {}{with}",
                        header.view,
                        short(block.id()),
                        header.height,
                        short(justify.block()),
                        justify.view()
                    )
                }
                Outgoing::Vote { view, block, .. } => format!("view {view}: votes {}", short(*block)),
                Outgoing::CommitVote { view, block, .. } => {
                    format!("view {view}: commit-votes {}", short(*block))
                }
                Outgoing::Timeout { view, high_qc_view, high_qc, .. } => format!(
                    "view {view}: times out, signs QC view {high_qc_view}, carries QC({})",
                    high_qc.view()
                ),
                Outgoing::Certificate(cert) => {
                    format!("sends QC({}) of {}", cert.view(), short(cert.block()))
                }
                Outgoing::TimeoutCert(tc) => format!("sends TC({})", tc.view),
                Outgoing::CommitCert(cert) => {
                    format!("sends the commit certificate of view {}", cert.view)
                }
                Outgoing::Status(status) => format!("stands in view {}", status.view),
                Outgoing::EpochProof(proof) => format!("proves the end of epoch {}", proof.epoch()),
            };
            format!("{}: {text}", self.name(node))
        });
    }

    pub(crate) fn note_committed(&self, node: usize, certified: &CertifiedBlock) {
        self.transcript.line(self.now, || {
            let header = certified.block.header();
            format!(
                "{}: COMMITS {} at height {} (view {}, by the commit certificate of view {})",
                self.name(node),
                short(header.id()),
                header.height,
                header.view,
                certified.certificate.view
            )
        });
    }

    /// The view a node is in, to be told when it changes.
    pub(crate) fn view_of(&self, node: usize) -> Option<View> {
        self.nodes[node].live.as_ref().map(|live| live.replica.view())
    }

    pub(crate) fn note_view(&self, node: usize, before: Option<View>) {
        let view = self.view_of(node);
        if let Some(view) = view.filter(|_| view != before) {
            self.transcript.line(self.now, || {
                let leader = self.world.set.leader(view);
                format!("{} enters view {view}, led by v{leader}", self.name(node))
            });
        }
    }
}
