//! What happened in a run, one line each, for people.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use cairn_consensus::Outgoing;
use cairn_types::{BlockId, CertifiedBlock, Epoch, View};

use crate::cluster::Cluster;

/// Lines kept, at most; the oldest go first.
const LINES_MAX: usize = 200_000;

/// Lines of a run; nothing is written, and nothing worked out, unless it was asked for. Clones share the
/// lines, so that they outlive a run that panics.
#[derive(Clone, Default, Debug)]
pub struct Transcript(Option<Rc<RefCell<VecDeque<String>>>>);

impl Transcript {
    /// One that keeps its lines.
    pub fn kept() -> Self {
        Self(Some(Rc::default()))
    }

    pub(crate) fn line(&self, now: u64, text: impl FnOnce() -> String) {
        if let Some(lines) = &self.0 {
            let mut lines = lines.borrow_mut();
            if lines.len() >= LINES_MAX {
                lines.pop_front();
            }
            lines.push_back(format!("{:>11.3} ms  {}", now as f64 / 1e3, text()));
        }
    }

    /// What the run ended with.
    pub(crate) fn end(&self, text: &str) {
        if let Some(lines) = &self.0 {
            lines.borrow_mut().push_back(format!("BROKEN: {text}"));
        }
    }

    /// The last `lines` lines.
    pub fn tail(&self, lines: usize) -> String {
        let Some(all) = &self.0 else { return String::new() };
        let all = all.borrow();
        let skipped = all.len().saturating_sub(lines);
        all.iter().skip(skipped).cloned().collect::<Vec<_>>().join("\n")
    }
}

/// Enough of a block's id to tell it from the others of a run.
pub(crate) fn short(block: BlockId) -> String {
    block.to_string().chars().take(6).collect()
}

impl Cluster {
    pub(crate) fn note_sent(&self, node: usize, outgoing: &Outgoing) {
        if matches!(outgoing, Outgoing::Status(_)) {
            return; // hints; they decide nothing
        }
        self.note(|| format!("{}: {}", self.name(node), sentence(outgoing)));
    }

    pub(crate) fn note_committed(&self, node: usize, certified: &CertifiedBlock) {
        self.note(|| {
            let header = certified.block.header();
            format!(
                "{}: COMMITS {} at height {} (view {}, {} transactions, by the commit certificate of view {})",
                self.name(node),
                short(header.id()),
                header.height,
                header.view,
                header.tx_count,
                certified.certificate.view
            )
        });
    }

    /// A node's view, when it is another than before.
    pub(crate) fn note_view(&mut self, node: usize, before: Option<(Epoch, View)>) {
        let Some(live) = self.nodes[node].live.as_ref() else { return };
        let (epoch, view) = (live.replica.epoch(), live.replica.view());
        if Some((epoch, view)) == before {
            return;
        }
        let set = &live.voting.regime.set;
        let leader = set.get(set.leader(view)).and_then(|leader| self.world.holder_of(&leader.address));
        let leader = leader.unwrap_or_default();
        self.record.entered(self.now, (epoch, view), leader);
        self.note(|| format!("{} enters view {view}{}, led by v{leader}", self.name(node), of_epoch(epoch)));
    }
}

/// The epoch, where there are several.
fn of_epoch(epoch: Epoch) -> String {
    if epoch == Epoch::ZERO { String::new() } else { format!(" of epoch {epoch}") }
}

fn sentence(outgoing: &Outgoing) -> String {
    match outgoing {
        Outgoing::Proposal { block, justify, tc } => {
            let header = block.header();
            let with = tc.as_ref().map(|tc| format!(", with TC({})", tc.view)).unwrap_or_default();
            format!(
                "view {}: PROPOSES {} at height {} ({} transactions) on {} of view {}{with}",
                header.view,
                short(block.id()),
                header.height,
                header.tx_count,
                short(justify.block()),
                justify.view()
            )
        }
        Outgoing::Vote { view, block, .. } => format!("view {view}: votes {}", short(*block)),
        Outgoing::CommitVote { view, block, .. } => format!("view {view}: commit-votes {}", short(*block)),
        Outgoing::Timeout { view, high_qc_view, high_qc, .. } => {
            format!("view {view}: times out, signs QC view {high_qc_view}, carries QC({})", high_qc.view())
        }
        Outgoing::Certificate(cert) => format!("sends QC({}) of {}", cert.view(), short(cert.block())),
        Outgoing::TimeoutCert(tc) => format!("sends TC({})", tc.view),
        Outgoing::CommitCert(cert) => format!("sends the commit certificate of view {}", cert.view),
        Outgoing::Status(status) => format!("stands in view {}", status.view),
        Outgoing::EpochProof(proof) => format!("proves the end of epoch {}", proof.epoch()),
    }
}
