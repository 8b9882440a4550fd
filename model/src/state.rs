//! What the world looks like: everything honest validators ever signed, what each remembers and has on disk,
//! and which blocks were proposed. Packed, since millions of states are kept.

/// Honest validators. The fourth is Byzantine and has no state: it may have signed anything.
pub const HONEST: usize = 3;
/// Views that fit into the packed state, the mark between two epochs included.
pub const VIEWS_MAX: u8 = 5;
/// Blocks per view: three honest validators can vote for no more than three.
pub const BLOCKS_MAX: u8 = HONEST as u8;

const SLOTS: usize = (VIEWS_MAX * BLOCKS_MAX) as usize;
const COMMITS_AT: u32 = SLOTS as u32;
const TIMEOUTS_AT: u32 = 2 * SLOTS as u32;
const PARENT_BITS: u32 = 4;
const PARENT_MASK: u64 = (1 << PARENT_BITS) - 1;
const FIELD_BITS: u32 = 3;
const FIELD_MASK: u32 = (1 << FIELD_BITS) - 1;
const RECORD_BITS: u32 = 5 * FIELD_BITS;

/// A block: the root of the chain, or one of the few that may be proposed in a view.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Block(u8);

impl Block {
    /// The chain's root, with the implicit certificate of view 0.
    pub const ROOT: Self = Self(1);

    /// The block in `slot` of `view`.
    pub const fn new(view: u8, slot: u8) -> Self {
        Self(2 + (view - 1) * BLOCKS_MAX + slot)
    }

    /// The view it was proposed in.
    pub const fn view(self) -> u8 {
        if self.0 < 2 { 0 } else { (self.0 - 2) / BLOCKS_MAX + 1 }
    }

    /// Its place among the blocks of its view.
    pub const fn slot(self) -> u8 {
        if self.0 < 2 { 0 } else { (self.0 - 2) % BLOCKS_MAX }
    }

    const fn index(self) -> u32 {
        debug_assert!(self.0 >= 2, "the root has no slot");
        self.0 as u32 - 2
    }
}

/// What a validator goes by: the durable record `D`, and the view that its certificates lead to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Record {
    /// The current view.
    pub view: u8,
    /// The view of `high_qc`.
    pub high: u8,
    /// The last view voted in.
    pub voted: u8,
    /// The last view timed out in.
    pub timed_out: u8,
    /// The last view commit-voted in.
    pub committed: u8,
}

impl Record {
    const fn pack(self) -> u32 {
        self.view as u32
            | (self.high as u32) << FIELD_BITS
            | (self.voted as u32) << (2 * FIELD_BITS)
            | (self.timed_out as u32) << (3 * FIELD_BITS)
            | (self.committed as u32) << (4 * FIELD_BITS)
    }

    const fn unpack(bits: u32) -> Self {
        Self {
            view: (bits & FIELD_MASK) as u8,
            high: (bits >> FIELD_BITS & FIELD_MASK) as u8,
            voted: (bits >> (2 * FIELD_BITS) & FIELD_MASK) as u8,
            timed_out: (bits >> (3 * FIELD_BITS) & FIELD_MASK) as u8,
            committed: (bits >> (4 * FIELD_BITS) & FIELD_MASK) as u8,
        }
    }
}

/// The two kinds of votes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Phase {
    /// A vote; a quorum certifies.
    Vote,
    /// A commit vote; a quorum makes final.
    Commit,
}

impl Phase {
    const fn at(self) -> u32 {
        match self {
            Self::Vote => 0,
            Self::Commit => COMMITS_AT,
        }
    }
}

/// One state of the whole network.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct State {
    /// By validator: a bit for each message it ever signed.
    signed: [u64; HONEST],
    /// By block: its parent, 0 while it was not proposed.
    parents: u64,
    /// By validator: in memory (low bits) and on disk (high bits).
    records: [u32; HONEST],
    /// By block: whether it ends its epoch.
    ends: u32,
}

impl State {
    /// Nothing signed, everyone in view 1.
    pub fn initial() -> Self {
        let record = Record { view: 1, ..Record::default() }.pack();
        Self { signed: [0; HONEST], parents: 0, records: [record | record << RECORD_BITS; HONEST], ends: 0 }
    }

    /// What `who` goes by now.
    pub const fn memory(&self, who: usize) -> Record {
        Record::unpack(self.records[who])
    }

    /// What `who` would find after a crash.
    pub const fn disk(&self, who: usize) -> Record {
        Record::unpack(self.records[who] >> RECORD_BITS)
    }

    /// Replaces both.
    pub const fn remember(&mut self, who: usize, memory: Record, disk: Record) {
        self.records[who] = memory.pack() | disk.pack() << RECORD_BITS;
    }

    /// The block's parent, or `None` while it was not proposed.
    pub const fn parent(&self, block: Block) -> Option<Block> {
        if block.0 < 2 {
            return None;
        }
        match (self.parents >> (block.index() * PARENT_BITS) & PARENT_MASK) as u8 {
            0 => None,
            code => Some(Block(code)),
        }
    }

    /// Whether the block was declared to end its epoch.
    pub const fn ends_epoch(&self, block: Block) -> bool {
        block.0 >= 2 && self.ends >> block.index() & 1 == 1
    }

    /// Proposes a block.
    pub const fn propose(&mut self, block: Block, parent: Block, ends_epoch: bool) {
        self.parents |= (parent.0 as u64) << (block.index() * PARENT_BITS);
        self.ends |= (ends_epoch as u32) << block.index();
    }

    /// The slots of `view` that `who` voted for, as bits.
    pub const fn voted_slots(&self, who: usize, phase: Phase, view: u8) -> u64 {
        let shift = phase.at() + (view as u32 - 1) * BLOCKS_MAX as u32;
        self.signed[who] >> shift & ((1 << BLOCKS_MAX) - 1)
    }

    /// Records a vote. True when it differs from an earlier one of the same view.
    pub const fn sign_vote(&mut self, who: usize, phase: Phase, block: Block) -> bool {
        let earlier = self.voted_slots(who, phase, block.view());
        self.signed[who] |= 1 << (phase.at() + block.index());
        earlier & !(1 << block.slot()) != 0
    }

    /// The views of certificates that `who` signed timeouts of `view` with, as bits.
    pub const fn timeouts(&self, who: usize, view: u8) -> u64 {
        self.signed[who] >> timeouts_at(view) & ((1 << view) - 1)
    }

    /// Records a timeout. True when it differs from an earlier one of the same view.
    pub const fn sign_timeout(&mut self, who: usize, view: u8, high: u8) -> bool {
        let earlier = self.timeouts(who, view);
        self.signed[who] |= 1 << (timeouts_at(view) + high as u32);
        earlier & !(1 << high) != 0
    }

    /// Honest validators that voted for `block`.
    pub fn voters(&self, phase: Phase, block: Block) -> impl Iterator<Item = usize> {
        let bit = 1u64 << (phase.at() + block.index());
        let signed = self.signed;
        (0..HONEST).filter(move |who| signed[*who] & bit != 0)
    }

    /// How many honest validators voted for `block`.
    pub const fn votes(&self, phase: Phase, block: Block) -> u8 {
        let shift = phase.at() + block.index();
        ((self.signed[0] >> shift & 1) + (self.signed[1] >> shift & 1) + (self.signed[2] >> shift & 1)) as u8
    }

    /// Forgets every timeout of `view`.
    pub fn forget_timeouts(&mut self, view: u8) {
        let bits = ((1u64 << view) - 1) << timeouts_at(view);
        self.signed.iter_mut().for_each(|signed| *signed &= !bits);
    }

    /// Lets everyone, or no one, have voted for `block`.
    pub fn set_votes(&mut self, phase: Phase, block: Block, by_all: bool) {
        let bit = 1u64 << (phase.at() + block.index());
        for signed in &mut self.signed {
            *signed = if by_all { *signed | bit } else { *signed & !bit };
        }
    }

    /// Forgets a block that nothing was built on, and the votes for it.
    pub fn forget_block(&mut self, block: Block) {
        self.set_votes(Phase::Vote, block, false);
        self.parents &= !(PARENT_MASK << (block.index() * PARENT_BITS));
        self.ends &= !(1 << block.index());
    }

    /// The same state under names that do not depend on who is who: validators, and the blocks of a view, are
    /// interchangeable. States that differ in nothing but names become equal (nearly all of them; one
    /// that escapes is explored twice, never skipped).
    pub fn canonical(&self, views: u8, blocks: u8) -> Self {
        const ORDERS: [[usize; HONEST]; 6] =
            [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        let marks = [0, 1, 2].map(|who| self.mark(who));
        let mut best: Option<Self> = None;
        for order in ORDERS {
            if marks[order[0]] > marks[order[1]] || marks[order[1]] > marks[order[2]] {
                continue;
            }
            let mut renamed = self.renamed(order, None);
            for view in 1..=views {
                renamed.sort_blocks(view, blocks);
            }
            if best.is_none_or(|best| renamed < best) {
                best = Some(renamed);
            }
        }
        best.unwrap_or(*self)
    }

    /// The same under other names: validators in this order, and the first two blocks of a view exchanged.
    #[must_use]
    pub fn renamed(&self, order: [usize; HONEST], exchanged: Option<u8>) -> Self {
        let mut renamed = *self;
        renamed.signed = order.map(|who| self.signed[who]);
        renamed.records = order.map(|who| self.records[who]);
        if let Some(view) = exchanged {
            renamed.swap_blocks(Block::new(view, 0), Block::new(view, 1));
        }
        renamed
    }

    /// What a validator is told apart by, whatever the blocks are called.
    const fn mark(&self, who: usize) -> u64 {
        let mut counts = 0;
        let mut view = 1;
        while view <= VIEWS_MAX {
            let votes = self.voted_slots(who, Phase::Vote, view).count_ones();
            let commits = self.voted_slots(who, Phase::Commit, view).count_ones();
            counts = counts << 4 | (votes as u64) << 2 | commits as u64;
            view += 1;
        }
        (self.signed[who] >> TIMEOUTS_AT) << 50 | (self.records[who] as u64) << 20 | counts
    }

    fn sort_blocks(&mut self, view: u8, blocks: u8) {
        for end in (1..blocks).rev() {
            for slot in 0..end {
                let (left, right) = (Block::new(view, slot), Block::new(view, slot + 1));
                if self.block_key(left) < self.block_key(right) {
                    self.swap_blocks(left, right);
                }
            }
        }
    }

    const fn block_key(&self, block: Block) -> u64 {
        let at = block.index();
        let mut key = (self.parents >> (at * PARENT_BITS) & PARENT_MASK) << 1 | (self.ends >> at & 1) as u64;
        let mut who = 0;
        while who < HONEST {
            key = key << 2 | (self.signed[who] >> at & 1) << 1 | self.signed[who] >> (COMMITS_AT + at) & 1;
            who += 1;
        }
        key
    }

    /// Exchanges the names of two blocks of one view.
    fn swap_blocks(&mut self, left: Block, right: Block) {
        let (low, high) = (left.index(), right.index());
        for signed in &mut self.signed {
            for at in [0, COMMITS_AT] {
                *signed = swap_bits(*signed, at + low, at + high, 1);
            }
        }
        self.ends = swap_bits(u64::from(self.ends), low, high, 1) as u32;
        self.parents = swap_bits(self.parents, low * PARENT_BITS, high * PARENT_BITS, PARENT_MASK);
        // Only blocks of later views can name them as parents.
        for index in (left.view() as u32 * BLOCKS_MAX as u32)..SLOTS as u32 {
            let shift = index * PARENT_BITS;
            let parent = (self.parents >> shift & PARENT_MASK) as u8;
            if parent == left.0 || parent == right.0 {
                self.parents ^= u64::from(left.0 ^ right.0) << shift;
            }
        }
    }

    /// A number that differs, as a rule, from that of any other state.
    pub fn hash(&self) -> u64 {
        const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
        let [a, b, c] = self.records.map(u64::from);
        let words = [
            self.signed[0],
            self.signed[1],
            self.signed[2],
            self.parents,
            a | b << 32,
            c | (self.ends as u64) << 32,
        ];
        let mixed = words.into_iter().fold(0u64, |hash, word| {
            let hash = (hash ^ word).wrapping_mul(MIX);
            hash ^ hash >> 29
        });
        mixed ^ mixed >> 32
    }
}

/// Timeouts of view `v` name a certificate of one of the `v` views below.
const fn timeouts_at(view: u8) -> u32 {
    TIMEOUTS_AT + view as u32 * (view as u32 - 1) / 2
}

const fn swap_bits(word: u64, low: u32, high: u32, mask: u64) -> u64 {
    let differing = (word >> low ^ word >> high) & mask;
    word ^ (differing << low | differing << high)
}
