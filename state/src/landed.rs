//! Which transactions cannot have landed, without asking the tables: each block adds its own to filters in memory, and a
//! transaction's expiry says from which time on a block can hold it (`expires_ms` lies at most a replay window after the block).

use std::collections::VecDeque;

use cairn_types::TxId;
use parking_lot::RwLock;

/// Transactions of one filter: 16 bits each, of which a transaction sets 8, take one that it does not have for its own once in some
/// six hundred times.
const PART_IDS: usize = 65_536;
/// Filters kept, at most: 4 MiB, the replay window of 120 s at 17,000 transactions/s.
const PARTS_MAX: usize = 32;
/// Lines of a filter. A transaction's bits lie in one line, which is one of the processor's caches.
const LINES: usize = 2_048;
/// Bits that a transaction sets in its line.
const BITS: usize = 8;

/// A line of a processor's cache.
type Line = [u64; 8];

/// The transactions of the newest blocks.
pub(crate) struct Landed(RwLock<Recent>);

struct Recent {
    /// Oldest first.
    parts: VecDeque<Part>,
    /// Every block after this time is in `parts`.
    after_ms: u64,
    window_ms: u64,
}

struct Part {
    lines: Vec<Line>,
    held: usize,
    /// Time of the newest block in it.
    newest_ms: u64,
}

impl Landed {
    /// Knows the blocks that follow one of this time, on a chain with this replay window.
    pub(crate) fn after(time_ms: u64, window_ms: u64) -> Self {
        Self(RwLock::new(Recent { parts: VecDeque::new(), after_ms: time_ms, window_ms }))
    }

    /// Begins anew after a block of this time.
    pub(crate) fn begin_after(&self, time_ms: u64) {
        let mut recent = self.0.write();
        recent.parts.clear();
        recent.after_ms = time_ms;
    }

    /// Adds a block's transactions. To be called before the tables have them, so that no transaction is in the tables and not here.
    pub(crate) fn add(&self, ids: &[TxId], time_ms: u64) {
        self.0.write().add(ids, time_ms);
    }

    /// Whether no block has the transaction for certain, which expires then.
    pub(crate) fn excludes(&self, id: &TxId, expires_ms: u64) -> bool {
        let recent = self.0.read();
        let earliest_ms = expires_ms.saturating_sub(recent.window_ms);
        earliest_ms > recent.after_ms && !recent.parts.iter().any(|part| part.may_have(id))
    }
}

impl Recent {
    fn add(&mut self, ids: &[TxId], time_ms: u64) {
        for id in ids {
            if self.parts.back().is_none_or(|part| part.held >= PART_IDS) {
                self.parts.push_back(Part { lines: vec![[0; 8]; LINES], held: 0, newest_ms: time_ms });
            }
            if let Some(part) = self.parts.back_mut() {
                part.add(id, time_ms);
            }
        }
        while self.parts.len() > 1
            && let Some(oldest) = self.parts.front()
            && (self.parts.len() > PARTS_MAX || oldest.newest_ms.saturating_add(self.window_ms) < time_ms)
        {
            self.after_ms = oldest.newest_ms;
            self.parts.pop_front();
        }
    }
}

impl Part {
    fn add(&mut self, id: &TxId, time_ms: u64) {
        let (line, mask) = place(id);
        if let Some(line) = self.lines.get_mut(line) {
            line.iter_mut().zip(mask).for_each(|(word, bits)| *word |= bits);
        }
        self.held = self.held.saturating_add(1);
        self.newest_ms = time_ms;
    }

    fn may_have(&self, id: &TxId) -> bool {
        let (line, mask) = place(id);
        self.lines.get(line).is_none_or(|line| line.iter().zip(mask).all(|(word, bits)| word & bits == bits))
    }
}

/// The line of a transaction, and its bits there. An id is a hash: its bytes are as good as any other hash of it.
fn place(id: &TxId) -> (usize, Line) {
    let mut pairs = id.as_bytes().chunks_exact(2).map(|pair| {
        let [low, high] = *pair else { return 0 };
        usize::from(u16::from_le_bytes([low, high]))
    });
    let line = pairs.next().unwrap_or_default() % LINES;
    let mut mask = [0; 8];
    for bit in pairs.take(BITS) {
        if let Some(word) = mask.get_mut(bit % 512 / 64) {
            *word |= 1u64.wrapping_shl(u32::try_from(bit % 64).unwrap_or(0));
        }
    }
    (line, mask)
}

#[cfg(test)]
mod tests {
    use cairn_types::Hash;

    use super::*;

    const WINDOW_MS: u64 = 1_000;

    fn id(n: u64) -> TxId {
        TxId::new(Hash(*blake3::hash(&n.to_le_bytes()).as_bytes()))
    }

    /// What expires then can be in blocks from `time_ms` on.
    const fn possible_from(time_ms: u64) -> u64 {
        time_ms + WINDOW_MS
    }

    #[test]
    fn only_blocks_that_it_knows_are_spoken_for() {
        let landed = Landed::after(50_000, WINDOW_MS);
        landed.add(&[id(1)], 50_100);
        assert!(landed.excludes(&id(2), possible_from(50_001)));
        assert!(!landed.excludes(&id(2), possible_from(50_000)), "the block before the first may have it");
        assert!(!landed.excludes(&id(1), possible_from(50_001)));
        assert!(!landed.excludes(&id(1), u64::MAX));
        landed.begin_after(60_000);
        assert!(!landed.excludes(&id(2), possible_from(50_001)));
        assert!(landed.excludes(&id(1), possible_from(60_001)));
    }

    #[test]
    fn what_landed_is_never_excluded_and_little_else_is_suspected() {
        let landed = Landed::after(0, WINDOW_MS);
        let ids: Vec<TxId> = (0..PART_IDS as u64).map(id).collect();
        ids.chunks(200).for_each(|ids| landed.add(ids, 500));
        assert_eq!(landed.0.read().parts.len(), 1);
        assert!(ids.iter().all(|id| !landed.excludes(id, possible_from(1))));
        let others = PART_IDS as u64..2 * PART_IDS as u64;
        let suspected = others.filter(|n| !landed.excludes(&id(*n), possible_from(1))).count();
        assert!((20..400).contains(&suspected), "{suspected} of {PART_IDS}");
    }

    #[test]
    fn filters_go_when_nothing_asks_for_their_blocks_any_more() {
        let landed = Landed::after(0, WINDOW_MS);
        let ids: Vec<TxId> = (0..PART_IDS as u64).map(id).collect();
        landed.add(&ids, 5_000);
        landed.add(&[id(u64::MAX)], 5_000 + WINDOW_MS);
        assert!(!landed.excludes(&ids[0], possible_from(5_000)), "a block of that time is within the window");
        landed.add(&[], 5_001 + WINDOW_MS);
        assert_eq!(landed.0.read().parts.len(), 1);
        assert!(!landed.excludes(&ids[0], possible_from(5_000)), "nothing is said about blocks that went");
        assert!(landed.excludes(&ids[0], possible_from(5_001)));
        assert!(!landed.excludes(&id(u64::MAX), possible_from(5_001)));
    }

    #[test]
    fn whatever_the_blocks_and_the_moment_no_landed_transaction_is_excluded() {
        let landed = Landed::after(0, WINDOW_MS);
        let (mut time_ms, mut next) = (10, 0);
        let mut blocks: Vec<(u64, Vec<TxId>)> = Vec::new();
        for round in 0..40 {
            let chance = u64::from(blake3::hash(&u64::to_le_bytes(round)).as_bytes()[0]);
            time_ms += 1 + chance * 2;
            let ids: Vec<TxId> = (next..next + chance * 150).map(id).collect();
            next += chance * 150;
            landed.add(&ids, time_ms);
            blocks.push((time_ms, ids));
            // Valid in its block: it expires after the block, and at most a window after it.
            for (time_ms, ids) in &blocks {
                for id in ids.iter().step_by(97) {
                    assert!(!landed.excludes(id, time_ms + 1) && !landed.excludes(id, time_ms + WINDOW_MS));
                }
            }
        }
        assert!(landed.0.read().after_ms > 0, "filters went");
    }

    #[test]
    fn filters_are_bounded() {
        let landed = Landed::after(0, u64::MAX);
        for part in 0..=PARTS_MAX as u64 {
            landed.add(&vec![id(part); PART_IDS], 10 + part);
        }
        let recent = landed.0.read();
        assert_eq!((recent.parts.len(), recent.after_ms), (PARTS_MAX, 10));
    }
}
