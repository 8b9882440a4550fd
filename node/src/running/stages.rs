//! Where the time of one finality goes, stage by stage, as this node sees it.

use std::num::NonZeroUsize;
use std::time::Instant;

use cairn_types::BlockId;
use lru::LruCache;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

/// Blocks whose moments are remembered: those of the eight views a replica looks ahead, two for each, and as
/// many that wait for a commit certificate.
const BLOCKS: NonZeroUsize = NonZeroUsize::new(32).expect("not zero");
/// Bucket bounds, seconds.
const BUCKETS: [f64; 13] =
    [0.000_05, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0];

/// One stretch of the way from submission to finality. In order, each begins where the one before ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// A client's transaction, from its decoded request to the pool: keys, signature, rules.
    Admit,
    /// From the pool to a proposed block that holds it.
    Wait,
    /// From the proposal to the executed block: missing transactions, queues, execution.
    Execute,
    /// From the executed block to a quorum of votes: sync, signature, links, others' execution.
    Vote,
    /// From the votes to a quorum of commit votes.
    CommitVote,
    /// From the commit votes to the written state.
    Commit,
}

impl Stage {
    const fn name(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Wait => "wait",
            Self::Execute => "execute",
            Self::Vote => "vote",
            Self::CommitVote => "commit_vote",
            Self::Commit => "commit",
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Labels {
    stage: &'static str,
}

/// What can be noted of a block, in the order in which it happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub(crate) enum Moment {
    /// Its proposal came, or its making began.
    Proposed,
    /// It was executed here.
    Executed,
    /// A quorum voted for it.
    Certified,
    /// A quorum commit-voted for it.
    Final,
}

const MOMENTS: usize = 4;

/// The moments of recent blocks, and the histograms that they end in.
#[derive(Debug)]
pub(crate) struct Stages {
    blocks: Mutex<LruCache<BlockId, [Option<Instant>; MOMENTS]>>,
    seconds: Family<Labels, Histogram, fn() -> Histogram>,
}

impl Stages {
    /// Nothing noted yet, registered.
    pub(crate) fn new(registry: &mut prometheus_client::registry::Registry) -> Self {
        let make: fn() -> Histogram = || Histogram::new(BUCKETS);
        let seconds = Family::new_with_constructor(make);
        let chain = registry.sub_registry_with_prefix("cairn");
        chain.register(
            "stage_seconds",
            "One stretch of the way from submission to finality",
            seconds.clone(),
        );
        Self { blocks: Mutex::new(LruCache::new(BLOCKS)), seconds }
    }

    /// Adds to a stage.
    pub(crate) fn observe(&self, stage: Stage, seconds: f64) {
        self.seconds.get_or_create(&Labels { stage: stage.name() }).observe(seconds);
    }

    /// Notes a moment of a block; the first time counts.
    pub(crate) fn note(&self, block: BlockId, moment: Moment) {
        let now = Instant::now();
        let mut blocks = self.blocks.lock();
        if let Some(place) = blocks.get_or_insert_mut(block, Default::default).get_mut(moment as usize) {
            place.get_or_insert(now);
        }
    }

    /// A block was written: adds its stretches. Gives when it was proposed.
    pub(crate) fn committed(&self, block: &BlockId) -> Option<Instant> {
        let moments = self.blocks.lock().pop(block)?;
        let stretches = [Stage::Execute, Stage::Vote, Stage::CommitVote, Stage::Commit];
        let ends = moments.iter().skip(1).copied().chain([Some(Instant::now())]);
        for ((stage, from), to) in stretches.into_iter().zip(moments).zip(ends) {
            // A quorum may be heard of before the own execution ends: then that stretch took no time.
            if let (Some(from), Some(to)) = (from, to) {
                self.observe(stage, to.saturating_duration_since(from).as_secs_f64());
            }
        }
        moments.first().copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use cairn_types::Hash;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn a_blocks_moments_become_stretches_once() {
        let mut registry = Registry::default();
        let stages = Stages::new(&mut registry);
        let block = BlockId::new(Hash([1; 32]));
        assert!(stages.committed(&block).is_none());
        for moment in [Moment::Proposed, Moment::Certified, Moment::Executed, Moment::Final, Moment::Proposed]
        {
            stages.note(block, moment);
        }
        assert!(stages.committed(&block).is_some());
        assert!(stages.committed(&block).is_none(), "counted once");
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for stage in ["execute", "vote", "commit_vote", "commit"] {
            let line = format!("cairn_stage_seconds_count{{stage=\"{stage}\"}} 1");
            assert!(text.contains(&line), "{line} in {text}");
        }
    }
}
