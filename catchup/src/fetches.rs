//! Single blocks that the replica lacks: asked of those who should have them, then of everyone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cairn_types::BlockId;

use crate::output::RequestId;
use crate::peers::Peers;

/// Blocks being fetched at one moment; the replica asks again for what it still needs.
pub const FETCHES_MAX: usize = 32;
/// How long one peer may take for a block before another is asked too.
pub const FETCH_HEDGE: Duration = Duration::from_millis(250);
/// Rounds over all peers before a block is given up; the replica asks again while it needs it.
pub const FETCH_ROUNDS: u32 = 10;
/// Longest life of a fetch: an answer that has not come by then will not come.
const FETCH_TIME_MAX: Duration = Duration::from_secs(60);
/// Pause between two rounds.
const ROUND_PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone, Debug)]
struct Fetch<P> {
    named: Vec<P>,
    asked: BTreeSet<P>,
    open: BTreeMap<RequestId, P>,
    round: u32,
    /// Nobody else is asked before this.
    next: Duration,
    /// Given up after this.
    end: Duration,
}

/// All fetches, by block.
#[derive(Clone, Debug)]
pub(crate) struct Fetches<P> {
    all: BTreeMap<BlockId, Fetch<P>>,
}

impl<P: Copy + Ord> Fetches<P> {
    pub(crate) const fn new() -> Self {
        Self { all: BTreeMap::new() }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn want(&mut self, now: Duration, block: BlockId, from: Vec<P>) {
        if let Some(fetch) = self.all.get_mut(&block) {
            fetch.named = from;
        } else if self.all.len() < FETCHES_MAX {
            let (asked, open) = (BTreeSet::new(), BTreeMap::new());
            let end = now.saturating_add(FETCH_TIME_MAX);
            self.all.insert(block, Fetch { named: from, asked, open, round: 0, next: now, end });
        }
    }

    /// Whom this question was for, and about which block.
    pub(crate) fn asked(&self, request: RequestId) -> Option<(BlockId, P)> {
        self.all.iter().find_map(|(block, fetch)| fetch.open.get(&request).map(|peer| (*block, *peer)))
    }

    /// The block is here, or is not wanted any more.
    pub(crate) fn done(&mut self, block: &BlockId) {
        self.all.remove(block);
    }

    /// No block came of this question: the next peer is asked at once.
    pub(crate) fn missed(&mut self, now: Duration, request: RequestId) {
        for fetch in self.all.values_mut() {
            if fetch.open.remove(&request).is_some() {
                fetch.next = fetch.next.min(now);
            }
        }
    }

    /// A peer is gone, and with it what it was asked.
    pub(crate) fn gone(&mut self, now: Duration, peer: P) {
        let lost = |fetch: &Fetch<P>| -> Vec<RequestId> {
            fetch.open.iter().filter(|(_, asked)| **asked == peer).map(|(request, _)| *request).collect()
        };
        for request in self.all.values().flat_map(lost).collect::<Vec<_>>() {
            self.missed(now, request);
        }
    }

    /// The questions that are due; `ask` names each.
    pub(crate) fn due(
        &mut self,
        now: Duration,
        peers: &Peers<P>,
        mut ask: impl FnMut(P, BlockId) -> RequestId,
    ) {
        let mut given_up = Vec::new();
        for (block, fetch) in self.all.iter_mut().filter(|(_, fetch)| fetch.next <= now) {
            match fetch.candidate(now, peers) {
                _ if fetch.end <= now => given_up.push(*block),
                Some(peer) => {
                    let request = ask(peer, *block);
                    fetch.asked.insert(peer);
                    fetch.open.insert(request, peer);
                    fetch.next = now.saturating_add(FETCH_HEDGE);
                }
                None if !fetch.open.is_empty() => fetch.next = now.saturating_add(FETCH_HEDGE),
                None if fetch.round >= FETCH_ROUNDS => given_up.push(*block),
                None => {
                    fetch.round = fetch.round.saturating_add(1);
                    fetch.asked.clear();
                    fetch.next = now.saturating_add(ROUND_PAUSE);
                }
            }
        }
        for block in given_up {
            self.all.remove(&block);
        }
    }
}

impl<P: Copy + Ord> Fetch<P> {
    /// The named first, in their order; from the second round on, or when none of them may be asked, everyone.
    fn candidate(&self, now: Duration, peers: &Peers<P>) -> Option<P> {
        let fresh = |peer: &P| !self.asked.contains(peer);
        let mut named = self.named.iter().copied().filter(|peer| peers.is_usable(now, peer)).peekable();
        let anyone = self.round > 0 || named.peek().is_none();
        if let Some(peer) = named.find(fresh) {
            return Some(peer);
        }
        if anyone { peers.for_blocks(now).into_iter().find(fresh) } else { None }
    }
}
