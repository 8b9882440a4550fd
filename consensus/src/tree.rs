//! The uncommitted blocks, above the last committed one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cairn_types::{Block, BlockId, Header, Height, View};

use crate::input::BlockVerdict;
use crate::reject::Reject;

/// Uncommitted blocks held. A commit follows each certificate within a message delay, so more than a few are
/// held only while commit votes are being lost; at 3 MiB each this bounds memory to 384 MiB.
pub(crate) const BLOCKS_MAX: usize = 128;

/// How far a held block has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// Its parent is not executed yet.
    Held,
    /// `CheckBlock` was asked for.
    Checking,
    /// Executes to its roots; may be voted for.
    Valid,
    /// Executes to its roots, but too late for a vote.
    Late,
    /// `CheckBlock` could not be answered; to be asked again.
    Deferred,
    /// Breaks a rule, or descends from a block that does.
    Invalid,
}

#[derive(Debug)]
struct Node {
    block: Arc<Block>,
    standing: Standing,
}

/// The last committed block.
#[derive(Clone, Debug)]
pub(crate) struct Tip {
    pub(crate) id: BlockId,
    pub(crate) height: Height,
    /// Its view in this epoch; 0 for the epoch's root.
    pub(crate) view: View,
    pub(crate) time_ms: u64,
}

/// The way from a block down to the committed one.
#[derive(Debug)]
pub(crate) enum Path {
    /// All uncommitted blocks of it, oldest first; none when it is the committed block.
    Linked(Vec<Arc<Block>>),
    /// This block is not held. Its height, when a child of it is.
    Missing(BlockId, Option<Height>),
    /// It does not descend from the committed block.
    Fork,
}

#[derive(Debug)]
pub(crate) struct Tree {
    tip: Tip,
    nodes: BTreeMap<BlockId, Node>,
}

impl Tree {
    pub(crate) const fn new(tip: Tip) -> Self {
        Self { tip, nodes: BTreeMap::new() }
    }

    pub(crate) const fn tip(&self) -> &Tip {
        &self.tip
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn get(&self, id: &BlockId) -> Option<&Arc<Block>> {
        self.nodes.get(id).map(|node| &node.block)
    }

    /// Whether the block is here or already committed as the tip.
    pub(crate) fn holds(&self, id: &BlockId) -> bool {
        *id == self.tip.id || self.nodes.contains_key(id)
    }

    pub(crate) fn standing(&self, id: &BlockId) -> Option<Standing> {
        self.nodes.get(id).map(|node| node.standing)
    }

    /// Whether children can be executed on it.
    pub(crate) fn is_executed(&self, id: &BlockId) -> bool {
        *id == self.tip.id || matches!(self.standing(id), Some(Standing::Valid | Standing::Late))
    }

    /// The height of an executed block or the tip.
    pub(crate) fn executed_height(&self, id: &BlockId) -> Option<Height> {
        self.place(id).filter(|_| self.is_executed(id)).map(|(height, _)| height)
    }

    /// Height and time of a held block or the tip.
    fn place(&self, id: &BlockId) -> Option<(Height, u64)> {
        if *id == self.tip.id {
            return Some((self.tip.height, self.tip.time_ms));
        }
        self.get(id).map(|block| (block.header().height, block.header().time_ms))
    }

    /// Checks height and time against the parent, when that is known, and against the committed height.
    pub(crate) fn check_link(&self, header: &Header) -> Result<(), Reject> {
        let got = header.height;
        if got <= self.tip.height {
            return Err(Reject::WrongHeight { got, parent: self.tip.height });
        }
        let Some((height, time_ms)) = self.place(&header.parent) else { return Ok(()) };
        if !got.follows(height) {
            return Err(Reject::WrongHeight { got, parent: height });
        }
        if header.time_ms <= time_ms {
            return Err(Reject::TimeNotRising { got: header.time_ms, parent: time_ms });
        }
        Ok(())
    }

    /// Whether one more block fits, letting go of a block that none of `keep` descends from if need be.
    pub(crate) fn check_room(&self, keep: &[BlockId]) -> Result<(), Reject> {
        if self.len() < BLOCKS_MAX || self.expendable(keep).is_some() {
            return Ok(());
        }
        Err(Reject::TreeFull { held: self.len() })
    }

    /// Holds a block, already executed or not. Let go of the oldest block that none of `keep` descends from
    /// when there is no room. Nothing happens to a block held already.
    pub(crate) fn insert(&mut self, block: Arc<Block>, executed: bool, keep: &[BlockId]) {
        if self.holds(&block.id()) {
            return;
        }
        if self.len() >= BLOCKS_MAX {
            let Some(expendable) = self.expendable(keep) else { return };
            self.nodes.remove(&expendable);
        }
        let standing = if executed { Standing::Valid } else { Standing::Held };
        self.nodes.insert(block.id(), Node { block, standing });
    }

    fn expendable(&self, keep: &[BlockId]) -> Option<BlockId> {
        let mut kept = BTreeSet::new();
        for id in keep {
            let mut at = *id;
            while let Some(block) = self.get(&at)
                && kept.insert(at)
            {
                at = block.header().parent;
            }
        }
        let outside = self.nodes.iter().filter(|(id, _)| !kept.contains(*id));
        outside.min_by_key(|(_, node)| node.block.header().view).map(|(id, _)| *id)
    }

    /// The held blocks whose parent is executed, now marked as being checked. Those that break a rule which
    /// needs no execution, or descend from an invalid block, are marked invalid instead.
    pub(crate) fn start_checks(&mut self) -> Vec<Arc<Block>> {
        let mut ready = Vec::new();
        loop {
            let changed: Vec<(BlockId, Standing)> = self
                .nodes
                .iter()
                .filter(|(_, node)| node.standing == Standing::Held)
                .filter_map(|(id, node)| self.next_standing(&node.block).map(|standing| (*id, standing)))
                .collect();
            if changed.is_empty() {
                ready.sort_by_key(|block: &Arc<Block>| (block.header().view, block.id()));
                return ready;
            }
            for (id, standing) in changed {
                if let Some(node) = self.nodes.get_mut(&id) {
                    node.standing = standing;
                    if standing == Standing::Checking {
                        ready.push(Arc::clone(&node.block));
                    }
                }
            }
        }
    }

    fn next_standing(&self, block: &Block) -> Option<Standing> {
        let parent = block.header().parent;
        if self.standing(&parent) == Some(Standing::Invalid) {
            return Some(Standing::Invalid);
        }
        if !self.is_executed(&parent) {
            return None;
        }
        Some(if self.check_link(block.header()).is_ok() { Standing::Checking } else { Standing::Invalid })
    }

    /// Records a verdict.
    pub(crate) fn checked(&mut self, id: BlockId, verdict: BlockVerdict) -> Result<(), Reject> {
        let node = self.nodes.get_mut(&id).filter(|node| node.standing == Standing::Checking);
        let node = node.ok_or(Reject::NotChecking { id })?;
        node.standing = match verdict {
            BlockVerdict::Valid => Standing::Valid,
            BlockVerdict::TooOld => Standing::Late,
            BlockVerdict::Invalid => Standing::Invalid,
            BlockVerdict::Unjudged => Standing::Deferred,
        };
        Ok(())
    }

    /// Whether any block's check is to be asked for again.
    pub(crate) fn has_deferred(&self) -> bool {
        self.nodes.values().any(|node| node.standing == Standing::Deferred)
    }

    /// Lets those checks be asked for again.
    pub(crate) fn retry_deferred(&mut self) {
        for node in self.nodes.values_mut().filter(|node| node.standing == Standing::Deferred) {
            node.standing = Standing::Held;
        }
    }

    /// Walks from `to` by parent hash down to the committed block (rule F).
    pub(crate) fn path(&self, to: BlockId) -> Path {
        let mut blocks = Vec::new();
        let mut at = to;
        let mut height: Option<Height> = None;
        while at != self.tip.id {
            if height.is_some_and(|height| height <= self.tip.height) {
                return Path::Fork;
            }
            let Some(block) = self.get(&at) else { return Path::Missing(at, height) };
            if height.is_some_and(|height| height != block.header().height)
                || block.header().height <= self.tip.height
            {
                return Path::Fork;
            }
            blocks.push(Arc::clone(block));
            height = block.header().height.previous();
            at = block.header().parent;
        }
        if height.is_some_and(|height| height != self.tip.height) {
            return Path::Fork;
        }
        blocks.reverse();
        Path::Linked(blocks)
    }

    /// Moves the committed block up and forgets every block that does not descend from it.
    pub(crate) fn commit(&mut self, tip: Tip) {
        self.tip = tip;
        let mut by_height: Vec<(Height, BlockId, BlockId)> = self
            .nodes
            .iter()
            .map(|(id, n)| (n.block.header().height, *id, n.block.header().parent))
            .collect();
        by_height.sort_unstable();
        let mut gone = BTreeSet::new();
        for (height, id, parent) in by_height {
            let linked = parent == self.tip.id;
            let orphan = height.follows(self.tip.height) || gone.contains(&parent);
            if height <= self.tip.height || (orphan && !linked) {
                gone.insert(id);
                self.nodes.remove(&id);
            }
        }
    }
}
