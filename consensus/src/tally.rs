//! Counting: votes of both phases by block, and the timeouts of the current view.

use std::collections::BTreeMap;

use cairn_types::certificate::{BallotCert, Phase};
use cairn_types::message::Ballot;
use cairn_types::{
    BlockCert, BlockId, Epoch, Timeout, TimeoutCert, TimeoutEntry, ValidatorIndex, ValidatorSet, View,
};

use crate::action::Equivocation;
use crate::reject::Reject;

/// Blocks kept per validator, view and phase: the second is the evidence, a third says nothing new.
const BLOCKS_PER_VALIDATOR_MAX: usize = 2;

/// Votes of one phase, by view and block. The caller bounds the views; within one, at most two votes of each
/// validator are kept, so it holds at most `2 * n` signatures per view.
#[derive(Debug)]
pub(crate) struct Tally<P> {
    views: BTreeMap<View, BTreeMap<BlockId, Bucket<P>>>,
}

#[derive(Debug)]
struct Bucket<P> {
    votes: BTreeMap<ValidatorIndex, Ballot<P>>,
    power: u64,
    formed: bool,
}

/// What one more vote brought.
#[derive(Debug)]
pub(crate) struct Counted<P> {
    /// The certificate, once, when this vote completed a quorum.
    pub(crate) certificate: Option<BallotCert<P>>,
    /// The validator's earlier vote for another block of the view, and this one.
    pub(crate) evidence: Option<(Ballot<P>, Ballot<P>)>,
    /// The power behind the block, this vote included.
    pub(crate) power: u64,
}

impl<P: Phase> Tally<P> {
    pub(crate) const fn new() -> Self {
        Self { views: BTreeMap::new() }
    }

    /// Counts a vote. The first one per validator and block counts and is never replaced; a vote for a second
    /// block counts for that block too, since otherwise an equivocator could split the quorum.
    pub(crate) fn add(&mut self, set: &ValidatorSet, vote: Ballot<P>) -> Result<Counted<P>, Reject> {
        let (validator, view, block) = (vote.validator, vote.view, vote.block);
        if set.get(validator).is_none() {
            return Err(Reject::UnknownValidator { got: validator, count: set.count() });
        }
        let blocks = self.views.get(&view);
        let mut earlier = blocks.into_iter().flatten().filter_map(|(_, bucket)| bucket.votes.get(&validator));
        let first = earlier.next().cloned();
        let second = earlier.next();
        if first.iter().chain(second).any(|known| known.block == block) {
            return Err(Reject::Known);
        }
        if usize::from(first.is_some()).saturating_add(usize::from(second.is_some()))
            >= BLOCKS_PER_VALIDATOR_MAX
        {
            return Err(Reject::TooManyBlocks { validator, view });
        }
        let evidence = first.map(|first| (first, vote.clone()));
        let empty = || Bucket { votes: BTreeMap::new(), power: 0, formed: false };
        let bucket = self.views.entry(view).or_default().entry(block).or_insert_with(empty);
        bucket.power = bucket.power.saturating_add(set.power(validator));
        bucket.votes.insert(validator, vote);
        let complete = !bucket.formed && set.is_quorum(bucket.power);
        bucket.formed |= complete;
        let certificate = complete.then(|| {
            let votes = bucket.votes.iter().map(|(index, vote)| (*index, vote.signature.clone())).collect();
            BallotCert::new(set.epoch(), view, block, set.count(), votes)
        });
        Ok(Counted { certificate, evidence, power: bucket.power })
    }

    /// Forgets the views below `oldest`, but not `also`.
    pub(crate) fn keep_from(&mut self, oldest: View, also: Option<View>) {
        self.views.retain(|view, _| *view >= oldest || Some(*view) == also);
    }

    /// The power of the validators that voted for anything in `view`.
    pub(crate) fn power_in(&self, set: &ValidatorSet, view: View) -> u64 {
        let voters: std::collections::BTreeSet<ValidatorIndex> =
            self.views.get(&view).into_iter().flatten().flat_map(|(_, b)| b.votes.keys().copied()).collect();
        voters.into_iter().fold(0, |sum, validator| sum.saturating_add(set.power(validator)))
    }

    /// Who voted for `block` in `view`.
    pub(crate) fn voters(&self, view: View, block: BlockId) -> Vec<ValidatorIndex> {
        let bucket = self.views.get(&view).and_then(|blocks| blocks.get(&block));
        bucket.map(|bucket| bucket.votes.keys().copied().collect()).unwrap_or_default()
    }
}

/// The timeouts of the current view. A timeout proves that its sender entered its view, which moves the
/// receiver there too, so those of later views never wait.
#[derive(Debug, Default)]
pub(crate) struct Timeouts {
    entries: BTreeMap<ValidatorIndex, TimeoutEntry>,
    power: u64,
    formed: bool,
}

impl Timeouts {
    /// Starts anew for the next view.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Refuses what [`Self::add`] would not count.
    pub(crate) fn check(&self, set: &ValidatorSet, timeout: &Timeout) -> Result<(), Reject> {
        if set.get(timeout.validator).is_none() {
            return Err(Reject::UnknownValidator { got: timeout.validator, count: set.count() });
        }
        match self.entries.get(&timeout.validator) {
            Some(known) if known.high_qc_view == timeout.high_qc_view => Err(Reject::Known),
            _ => Ok(()),
        }
    }

    /// Counts a timeout of the current view; the first of each validator counts. Gives the evidence when it
    /// signs another certificate's view than the first did.
    pub(crate) fn add(&mut self, set: &ValidatorSet, timeout: &Timeout) -> Option<Equivocation> {
        let validator = timeout.validator;
        let second = TimeoutEntry {
            validator,
            high_qc_view: timeout.high_qc_view,
            signature: timeout.signature.clone(),
        };
        if let Some(first) = self.entries.get(&validator).cloned() {
            let (epoch, view) = (timeout.epoch, timeout.view);
            return (first.high_qc_view != second.high_qc_view).then_some(Equivocation::Timeouts {
                epoch,
                view,
                first,
                second,
            });
        }
        self.power = self.power.saturating_add(set.power(validator));
        self.entries.insert(validator, second);
        None
    }

    /// The power that gave the view up.
    pub(crate) const fn power(&self) -> u64 {
        self.power
    }

    /// The certificate, once, when the timeouts make a quorum. `high_qc` is at least as high as any that
    /// they carried.
    pub(crate) fn certificate(
        &mut self,
        set: &ValidatorSet,
        view: View,
        high_qc: &BlockCert,
    ) -> Option<TimeoutCert> {
        if self.formed || !set.is_quorum(self.power) {
            return None;
        }
        self.formed = true;
        let epoch: Epoch = set.epoch();
        Some(TimeoutCert {
            epoch,
            view,
            entries: self.entries.values().cloned().collect(),
            high_qc: high_qc.clone(),
        })
    }
}
