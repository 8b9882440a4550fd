//! The heights just above the committed block: which are being asked for, which are here (rules S4 and S6).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cairn_types::{CertifiedBlock, EpochProof, Height};

use crate::output::RequestId;

/// Ranges asked for, held or being applied at a time. Each is at most one answer, 4 MiB.
pub const RANGES_MAX: usize = 8;
/// Blocks asked for at once: with certificates of four validators about one answer's bytes.
pub const RANGE_BLOCKS: u32 = 256;
/// Blocks asked for at once where fewer end in no certificate.
pub const RANGE_BLOCKS_MAX: u32 = 512;
/// How long one peer may take for the range that everything waits for before another is asked too; twice
/// what the quickest peer usually takes, where that is longer.
pub const HEDGE_AFTER: Duration = Duration::from_secs(1);

/// A range asked of one peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<P> {
    pub(crate) peer: P,
    pub(crate) from: Height,
    pub(crate) count: u32,
    pub(crate) at: Duration,
}

impl<P> Asked<P> {
    /// The first height above it.
    fn end(&self) -> u64 {
        self.from.get().saturating_add(u64::from(self.count))
    }
}

/// Blocks to ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Gap {
    pub(crate) from: Height,
    pub(crate) count: u32,
}

/// Certified blocks that wait to be applied, and the proof of their epoch's end when they reach it.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) blocks: Vec<CertifiedBlock>,
    pub(crate) end: Option<Arc<EpochProof>>,
}

impl Held {
    fn last(&self) -> Option<Height> {
        self.blocks.last().map(|last| last.block.header().height)
    }
}

/// The window itself.
#[derive(Clone, Debug)]
pub(crate) struct Window<P> {
    pub(crate) asked: BTreeMap<RequestId, Asked<P>>,
    /// Certified ranges by their first height.
    held: BTreeMap<Height, Held>,
    /// The last height being applied.
    applying: Option<Height>,
    /// Heights from which a range of the usual length ended in no certificate.
    wide: BTreeSet<Height>,
    /// Nothing from here on is asked for until blocks below are applied (S7).
    ceiling: Option<Height>,
}

impl<P: Copy + Ord> Window<P> {
    pub(crate) const fn new() -> Self {
        Self {
            asked: BTreeMap::new(),
            held: BTreeMap::new(),
            applying: None,
            wide: BTreeSet::new(),
            ceiling: None,
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.asked.is_empty() && self.held.is_empty() && self.applying.is_none()
    }

    /// The first height that is neither committed nor being applied: what everything waits for.
    pub(crate) fn first_missing(&self, tip: Height) -> Height {
        self.applying.map_or(tip, |applying| applying.max(tip)).next()
    }

    /// The highest height held or being applied.
    pub(crate) fn highest(&self) -> Height {
        self.held.values().filter_map(Held::last).chain(self.applying).max().unwrap_or(Height::ZERO)
    }

    pub(crate) fn hold(&mut self, held: Held) {
        let Some(first) = held.blocks.first().map(|first| first.block.header().height) else { return };
        if self.held.get(&first).is_none_or(|before| before.blocks.len() < held.blocks.len()) {
            self.held.insert(first, held);
        }
    }

    pub(crate) fn widen(&mut self, from: Height) {
        self.wide.insert(from);
    }

    pub(crate) fn set_ceiling(&mut self, at: Height) {
        self.ceiling = Some(self.ceiling.map_or(at, |held| held.min(at)));
    }

    /// The committed block has risen: what it covers is dropped.
    pub(crate) fn committed(&mut self, tip: Height, applied: bool) {
        if applied {
            self.applying = None;
        }
        self.ceiling = None;
        self.wide.retain(|from| *from > tip);
        self.held.retain(|_, held| held.last().is_some_and(|last| last > tip));
    }

    /// Takes the held blocks that follow `tip`, to be applied.
    pub(crate) fn take_next(&mut self, tip: Height) -> Option<Held> {
        if self.applying.is_some() {
            return None;
        }
        let next = tip.next();
        let (first, _) = self.held.range(..=next).next_back()?;
        let first = *first;
        let mut held = self.held.remove(&first)?;
        held.blocks.retain(|certified| certified.block.header().height > tip);
        self.applying = Some(held.last()?);
        Some(held)
    }

    /// Ranges asked for, held and applied; two questions for the same heights count once.
    fn ranges(&self) -> usize {
        let asked: BTreeSet<Height> = self.asked.values().map(|asked| asked.from).collect();
        asked.len().saturating_add(self.held.len()).saturating_add(usize::from(self.applying.is_some()))
    }

    /// What to ask for next, up to `top`, lowest first. The range that everything waits for always has room.
    pub(crate) fn gaps(&self, tip: Height, top: Height) -> Vec<Gap> {
        let first = self.first_missing(tip);
        let end = self.ceiling.map_or(top.next(), |ceiling| ceiling.min(top.next())).get();
        let mut covered: Vec<(u64, u64)> =
            self.asked.values().map(|asked| (asked.from.get(), asked.end())).collect();
        covered.extend(
            self.held.iter().filter_map(|(from, held)| Some((from.get(), held.last()?.next().get()))),
        );
        covered.sort_unstable();
        let mut room = RANGES_MAX.saturating_sub(self.ranges());
        let (mut gaps, mut at) = (Vec::new(), first.get());
        for (from, to) in covered.into_iter().chain([(end, end)]) {
            while at < from.min(end) && (room > 0 || at == first.get()) {
                let gap = self.gap(Height::new(at), from.min(end));
                at = at.saturating_add(u64::from(gap.count));
                gaps.push(gap);
                room = room.saturating_sub(1);
            }
            at = at.max(to);
        }
        gaps
    }

    fn gap(&self, from: Height, end: u64) -> Gap {
        if self.wide.contains(&from) {
            return Gap { from, count: RANGE_BLOCKS_MAX };
        }
        let left = end.saturating_sub(from.get()).min(u64::from(RANGE_BLOCKS));
        Gap { from, count: u32::try_from(left).unwrap_or(RANGE_BLOCKS) }
    }

    /// The questions for the range that everything waits for: its extent and the newest question's time.
    pub(crate) fn waited_for(&self, tip: Height) -> Option<(Gap, Duration)> {
        let first = self.first_missing(tip);
        let covers = |asked: &&Asked<P>| asked.from <= first && first.get() < asked.end();
        let newest = self.asked.values().filter(covers).max_by_key(|asked| asked.at)?;
        Some((self.gap(first, newest.end()), newest.at))
    }

    /// Whether this peer is asked for the block of this height already.
    pub(crate) fn is_asked(&self, peer: &P, height: Height) -> bool {
        self.asked
            .values()
            .any(|asked| asked.peer == *peer && asked.from <= height && height.get() < asked.end())
    }
}
