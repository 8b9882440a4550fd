//! The rules of the protocol as predicates over a [`Record`], each with the ways it can be broken.

use crate::state::{Record, State};

/// One guard of the protocol left out, or one duty neglected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the table of twins describes each")]
pub enum Fault {
    CommitAfterTimeout,
    CommitInTimedOutView,
    CommitAfterLaterVote,
    CommitAgainBelow,
    VoteUnconditional,
    VoteByLockAlone,
    VoteTwice,
    VoteAfterTimeout,
    TcHighIgnored,
    TcHighOffByOne,
    HighOnlyWhereCommitting,
    HighOnlyByVote,
    TimeoutNamesRoot,
    TimeoutTwice,
    TcBelowItsEntries,
    VoteQuorum2f,
    CommitQuorum2f,
    TimeoutQuorum2f,
    VoteBeforeSync,
    CommitVoteBeforeSync,
    TimeoutBeforeSync,
    HighNotOnDisk,
    ViewNotSigned,
    ParentUncertified,
    ViewByTimerAlone,
    EpochUnchecked,
    EpochOnCertificate,
    CarriersInChain,
}

/// Which states are taken for one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// Those that differ in names, or in what cannot matter any more; the latter for the protocol as it is.
    Reduced,
    /// Those that differ in names.
    Plain,
    /// The same, and two moves more that only take possibilities away: giving up a view that leads nowhere, and
    /// crashing between sync and send.
    Everything,
}

/// How much is explored, and by which rules.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Views, the mark between two epochs included (see [`Rules::epochs`]).
    pub views: u8,
    /// Blocks that may be proposed in one view.
    pub blocks: u8,
    /// The mark: stands for view 0 of the second epoch, whose implicit certificate is the commit proof of the
    /// first. Views above it are those of the second epoch.
    pub mark: Option<u8>,
    /// What is broken.
    pub faults: Vec<Fault>,
    /// Which states are taken for one.
    pub extent: Extent,
}

impl Rules {
    /// The protocol as it is, in one epoch of `views` views.
    pub const fn new(views: u8, blocks: u8) -> Self {
        Self { views, blocks, mark: None, faults: Vec::new(), extent: Extent::Reduced }
    }

    /// The protocol as it is, over two epochs of so many views.
    pub const fn epochs(first: u8, second: u8, blocks: u8) -> Self {
        Self {
            views: first + 1 + second,
            blocks,
            mark: Some(first + 1),
            faults: Vec::new(),
            extent: Extent::Reduced,
        }
    }

    /// The same, broken.
    #[must_use]
    pub fn with(mut self, faults: &[Fault]) -> Self {
        self.faults.extend_from_slice(faults);
        self
    }

    /// The same, to this extent.
    #[must_use]
    pub const fn to(mut self, extent: Extent) -> Self {
        self.extent = extent;
        self
    }

    /// Whether this is broken.
    pub fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// Honest votes that make a quorum of three out of four, the Byzantine one always being there.
    pub fn quorum(&self, too_small: Fault) -> u8 {
        if self.has(too_small) { 1 } else { 2 }
    }

    /// The one state that stands for all that differ in names or in what cannot matter any more.
    pub fn canonical(&self, state: &State) -> State {
        if self.extent != Extent::Reduced || !self.faults.is_empty() {
            return state.canonical(self.views, self.blocks);
        }
        self.reduced(state).canonical(self.views, self.blocks)
    }

    /// The epoch of a view, 0 or 1.
    pub fn epoch(&self, view: u8) -> u8 {
        u8::from(self.mark.is_some_and(|mark| view >= mark))
    }

    /// The epoch of a validator: in the mark's view it still waits for the commit proof.
    pub fn epoch_of(&self, record: Record) -> u8 {
        u8::from(self.mark.is_some_and(|mark| record.view > mark))
    }

    /// Whether blocks are proposed in this view.
    pub fn is_view(&self, view: u8) -> bool {
        (1..=self.views).contains(&view) && self.mark != Some(view)
    }

    /// V, the part about what was signed: `view > last voted` and `view > last timed out`.
    pub fn may_vote(&self, record: Record) -> bool {
        (record.view > record.voted || self.has(Fault::VoteTwice))
            && (record.view > record.timed_out || self.has(Fault::VoteAfterTimeout))
    }

    /// V, the part about the certificate: of the view before, or not below what TC(view-1) allows. `allowed`
    /// gives the lowest view that some timeout certificate of the view before names as its highest.
    pub fn is_justified(&self, record: Record, justify: u8, allowed: impl Fn() -> Option<u8>) -> bool {
        if justify + 1 == record.view || self.has(Fault::VoteUnconditional) {
            return true;
        }
        if self.has(Fault::VoteByLockAlone) {
            return justify >= record.high;
        }
        match allowed() {
            None => false,
            Some(_) if self.has(Fault::TcHighIgnored) => true,
            Some(high) if self.has(Fault::TcHighOffByOne) => justify + 1 >= high,
            Some(high) => justify >= high,
        }
    }

    /// C: a commit vote for a certificate of `view`.
    pub fn may_commit_vote(&self, record: Record, view: u8) -> bool {
        let timed_out = if self.has(Fault::CommitInTimedOutView) {
            record.timed_out <= view
        } else {
            record.timed_out < view || self.has(Fault::CommitAfterTimeout)
        };
        timed_out
            && (view > record.committed || self.has(Fault::CommitAgainBelow))
            && (record.voted <= view || self.has(Fault::CommitAfterLaterVote))
    }

    /// T: a first timeout of the current view.
    pub fn may_time_out(&self, record: Record) -> bool {
        record.view > record.timed_out || self.has(Fault::TimeoutTwice)
    }

    /// T: the view of the certificate that a timeout names.
    pub fn timeout_names(&self, record: Record) -> u8 {
        if self.has(Fault::TimeoutNamesRoot) { 0 } else { record.high }
    }
}
