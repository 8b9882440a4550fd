//! What must never happen, looked at after every event.
//!
//! (a) two blocks final at one height; (b) two state roots for one height; (c) two different signatures of one honest
//! key where one is allowed, or one that is not on disk; (d) a record that moves back; (e) a final anchor lost, or one
//! whose proof does not verify; (f) no progress after the network heals; (g) anything beyond its bound; (h) a
//! panic. An honest node that blames, accuses or stops without a cause is a violation as well.

use std::collections::BTreeMap;
use std::fmt;

use cairn_consensus::Outgoing;
use cairn_types::safety::SafetyRecord;
use cairn_types::{BlockId, CertifiedBlock, Hash, Height, ValidatorIndex, View};
use serde::Serialize;

/// Which of the things that must never happen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[expect(missing_docs, reason = "`Invariant::letter` and `Invariant::sentence` say it")]
#[serde(rename_all = "snake_case")]
pub enum Invariant {
    OneBlock,
    OneRoot,
    OneSignature,
    NothingBack,
    NothingLost,
    Progress,
    Bounds,
    NoPanic,
    NoFalseBlame,
}

impl Invariant {
    /// The letter used in documents.
    pub const fn letter(self) -> char {
        match self {
            Self::OneBlock => 'a',
            Self::OneRoot => 'b',
            Self::OneSignature => 'c',
            Self::NothingBack => 'd',
            Self::NothingLost => 'e',
            Self::Progress => 'f',
            Self::Bounds => 'g',
            Self::NoPanic => 'h',
            Self::NoFalseBlame => 'i',
        }
    }

    /// What is broken.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::OneBlock => "two blocks are final at one height",
            Self::OneRoot => "one height has two state roots",
            Self::OneSignature => "an honest key signed what it must not",
            Self::NothingBack => "a durable record moved back",
            Self::NothingLost => "a final anchor is lost",
            Self::Progress => "no progress in time",
            Self::Bounds => "something grew beyond its bound",
            Self::NoPanic => "a panic",
            Self::NoFalseBlame => "an honest node was blamed, or stopped without a cause",
        }
    }
}

/// Something that must never happen, happened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Violation {
    /// What.
    pub invariant: Invariant,
    /// When, virtual microseconds.
    pub at_us: u64,
    /// Where and how.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (letter, sentence) = (self.invariant.letter(), self.invariant.sentence());
        write!(f, "({letter}) {sentence}: {} (at {:.3} s)", self.what, self.at_us as f64 / 1e6)
    }
}

/// What was signed: votes name a block, timeouts a certificate's view.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Content {
    Block(BlockId),
    View(View),
}

type Signed = (ValidatorIndex, &'static str, View);

/// What honest nodes have done so far.
#[derive(Default)]
pub(crate) struct Checks {
    committed: BTreeMap<Height, (BlockId, Hash)>,
    signed: BTreeMap<Signed, Content>,
    pub(crate) accusations: u64,
}

/// A broken invariant, before time is added.
pub(crate) type Broken = (Invariant, String);

impl Checks {
    /// (a), (b): one block and one state root at each height, over all honest nodes.
    pub(crate) fn committed(&mut self, name: &str, certified: &CertifiedBlock) -> Result<(), Broken> {
        let header = certified.block.header();
        let found = (header.id(), header.state_root);
        let first = *self.committed.entry(header.height).or_insert(found);
        let height = header.height;
        if first.0 != found.0 {
            let what =
                format!("{name} commits {} at height {height}, another committed {}", found.0, first.0);
            return Err((Invariant::OneBlock, what));
        }
        if first.1 != found.1 {
            return Err((Invariant::OneRoot, format!("{name} has {} at height {height}", found.1)));
        }
        Ok(())
    }

    /// (c): an honest key signs one thing in each view, and its disk knows it already.
    pub(crate) fn signed(
        &mut self,
        signer: ValidatorIndex,
        outgoing: &Outgoing,
        disk: &SafetyRecord,
    ) -> Result<(), Broken> {
        let (kind, view, content, last) = match outgoing {
            Outgoing::Proposal { block, .. } => {
                let last = disk.last_proposed.map(|(view, id)| (view, Content::Block(id)));
                ("proposal", block.header().view, Content::Block(block.id()), last)
            }
            Outgoing::Vote { view, block, .. } => {
                let last = disk.last_voted.map(|(view, id)| (view, Content::Block(id)));
                ("vote", *view, Content::Block(*block), last)
            }
            Outgoing::CommitVote { view, block, .. } => {
                let last = disk.last_commit_voted.map(|(view, id)| (view, Content::Block(id)));
                ("commit vote", *view, Content::Block(*block), last)
            }
            Outgoing::Timeout { view, high_qc_view, .. } => {
                let last = disk.last_timeout.map(|(view, high)| (view, Content::View(high)));
                ("timeout", *view, Content::View(*high_qc_view), last)
            }
            _ => return Ok(()),
        };
        // One sync covers a whole turn, so the disk may be further than what an early step of it says.
        let on_disk = last.is_some_and(|(last, known)| last > view || (last == view && known == content));
        if !on_disk {
            let what = format!("v{signer} sends a {kind} of view {view} that is not on its disk: {disk:?}");
            return Err((Invariant::OneSignature, what));
        }
        let first = *self.signed.entry((signer, kind, view)).or_insert(content);
        if first != content {
            let what = format!("v{signer} signs two {kind}s of view {view}: {first:?} and {content:?}");
            return Err((Invariant::OneSignature, what));
        }
        self.forget();
        Ok(())
    }

    /// Views far below the newest are not signed any more by anyone: keeps the map small in long runs.
    fn forget(&mut self) {
        const SIGNED_MAX: usize = 200_000;
        if self.signed.len() > SIGNED_MAX {
            let newest = self.signed.keys().map(|(_, _, view)| view.get()).max().unwrap_or_default();
            self.signed.retain(|(_, _, view), _| view.get() + 1_000 > newest);
        }
    }

    /// The highest height that an honest node committed.
    pub(crate) fn height(&self) -> Height {
        self.committed.keys().next_back().copied().unwrap_or(Height::ZERO)
    }
}
