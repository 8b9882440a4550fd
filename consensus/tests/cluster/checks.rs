//! What must never happen, looked at while a simulation runs.

use std::collections::BTreeMap;

use cairn_consensus::Outgoing;
use cairn_types::safety::SafetyRecord;
use cairn_types::{BlockId, CertifiedBlock, Epoch, Hash, Height, ValidatorIndex, View};

/// What was signed: votes name a block, timeouts a certificate's view.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Content {
    Block(BlockId),
    View(View),
}

/// The invariants (a) to (d) of a run. Each check panics with what it found.
#[derive(Default)]
pub(crate) struct Checks {
    committed: BTreeMap<Height, (BlockId, Hash)>,
    signed: BTreeMap<(Epoch, ValidatorIndex, &'static str, View), Content>,
    pub(crate) commits: u64,
    pub(crate) accusations: u64,
    /// The epoch that someone has come to.
    pub(crate) epochs: u64,
    /// Ends of epochs that were committed through a carrier, each node counted.
    pub(crate) carried: u64,
}

impl Checks {
    /// (a), (b): one block and one state root per height, over all honest nodes.
    pub(crate) fn committed(&mut self, node: usize, certified: &CertifiedBlock) {
        let header = certified.block.header();
        let found = (header.id(), header.state_root);
        let first = *self.committed.entry(header.height).or_insert(found);
        assert_eq!(first, found, "(a) node {node} committed another block at height {}", header.height);
        self.commits += 1;
    }

    /// (c), and durable before sent: an honest key signs one thing per view, and the disk knows it already.
    pub(crate) fn signed(&mut self, signer: ValidatorIndex, outgoing: &Outgoing, disk: &SafetyRecord) {
        let (kind, view, content, on_disk) = match outgoing {
            Outgoing::Proposal { block, .. } => {
                let (view, id) = (block.header().view, block.id());
                ("proposal", view, Content::Block(id), disk.last_proposed == Some((view, id)))
            }
            Outgoing::Vote { view, block, .. } => {
                ("vote", *view, Content::Block(*block), disk.last_voted == Some((*view, *block)))
            }
            Outgoing::CommitVote { view, block, .. } => {
                let known = disk.last_commit_voted.is_some_and(|(last, _)| last >= *view);
                ("commit vote", *view, Content::Block(*block), known)
            }
            Outgoing::Timeout { view, high_qc_view, high_qc, .. } => {
                assert!(high_qc.view() >= *high_qc_view, "a timeout carries less than it signs");
                let known = disk.last_timeout == Some((*view, *high_qc_view));
                ("timeout", *view, Content::View(*high_qc_view), known)
            }
            _ => return,
        };
        assert!(
            on_disk,
            "validator {signer} sends a {kind} of view {view} that is not on its disk: {disk:?}"
        );
        let first = *self.signed.entry((disk.epoch, signer, kind, view)).or_insert(content);
        assert_eq!(first, content, "(c) validator {signer} signs two {kind}s of view {view}");
    }

    /// (d): nothing in the record goes back.
    pub(crate) fn recorded(before: &SafetyRecord, after: &SafetyRecord) {
        if let Err(regression) = before.check_next(after) {
            panic!("(d) {regression}");
        }
    }

    pub(crate) fn height(&self) -> Height {
        self.committed.keys().next_back().copied().unwrap_or(Height::ZERO)
    }
}
