//! What a node fetches that it lacks: single blocks for its replica, and ranges of final blocks when it is far
//! behind. Wrong or unasked answers cost the peer, never the node.

use std::rc::Rc;
use std::sync::Arc;

use cairn_consensus::Input;
use cairn_types::{Block, BlockId, CertifiedBlock, CommitCert, Header, Height, ValidatorIndex, Verified};

use crate::cluster::Cluster;
use crate::events::Event;
use crate::invariants::Invariant;
use crate::node::Node;
use crate::packet::{Packet, Sealed, block_bytes, range_bytes};

/// Blocks in one range answer, at most.
const RANGE_BLOCKS_MAX: usize = 512;
/// Blocks being fetched at one moment, as in a node.
const FETCHES_MAX: usize = 32;
/// How long an answer may take before the next source is asked, microseconds.
const ANSWER_WITHIN_US: u64 = 400_000;
/// Sources asked before a fetch is given up; the replica asks again while it needs the block.
const ATTEMPTS_MAX: u32 = 20;

/// A block that is being fetched.
#[derive(Clone, Debug)]
pub(crate) struct Fetching {
    sources: Vec<usize>,
}

/// A range that is being fetched.
#[derive(Clone, Debug)]
pub(crate) struct RangeSync {
    goal: Height,
    certificate: Option<Arc<CommitCert>>,
    sources: Vec<usize>,
    /// Attempts without a block.
    idle: u32,
}

impl Cluster {
    /// The named validators first, then everyone else.
    fn sources(&mut self, node: usize, named: &[ValidatorIndex]) -> Vec<usize> {
        let mut sources: Vec<usize> =
            named.iter().flat_map(|index| self.nodes_of(*index)).filter(|source| *source != node).collect();
        let others = (0..self.nodes.len())
            .map(|offset| (node + 1 + offset) % self.nodes.len())
            .filter(|other| *other != node && !sources.contains(other));
        let others: Vec<usize> = others.collect();
        sources.extend(others);
        sources
    }

    pub(crate) fn fetch(&mut self, node: usize, id: BlockId, from: &[ValidatorIndex]) {
        let sources = self.sources(node, from);
        let Some(live) = self.nodes[node].live.as_mut() else { return };
        if live.fetching.len() >= FETCHES_MAX || live.fetching.contains_key(&id) {
            return;
        }
        live.fetching.insert(id, Fetching { sources });
        self.fetch_again(node, id, 0);
    }

    pub(crate) fn fetch_again(&mut self, node: usize, id: BlockId, attempt: u32) {
        let (now, incarnation) = (self.now, self.nodes[node].incarnation);
        let Some(live) = self.nodes[node].live.as_mut() else { return };
        let Some(fetching) = live.fetching.get(&id) else { return };
        if attempt >= ATTEMPTS_MAX || fetching.sources.is_empty() {
            live.fetching.remove(&id);
            return;
        }
        let source = fetching.sources[attempt as usize % fetching.sources.len()];
        self.send(node, source, Packet::Fetch(id));
        self.plan(now + ANSWER_WITHIN_US, Event::FetchAgain { node, incarnation, id, attempt: attempt + 1 });
    }

    pub(crate) fn serve_block(&mut self, node: usize, from: usize, id: BlockId) {
        let Node { live: Some(live), disk, .. } = &self.nodes[node] else { return };
        let packet = match live.replica.proposal_for(&id) {
            Some(proposal) => {
                let message = cairn_types::Message::Proposal(proposal.clone());
                Some(Packet::FoundProposal(Sealed::new(&self.world, message, self.manifest.cpu.verify.0 > 0)))
            }
            None => {
                let block = live.replica.block(&id).cloned().or_else(|| live.ledger.block(disk, &id));
                block.map(|block| {
                    let bytes = block_bytes(&self.world, &block);
                    Packet::Found(block, bytes)
                })
            }
        };
        if let Some(packet) = packet {
            self.send(node, from, packet);
        }
    }

    pub(crate) fn found_proposal(&mut self, node: usize, from: usize, sealed: &Rc<Sealed>) {
        let cairn_types::Message::Proposal(proposal) = &sealed.message else { return };
        let block = Arc::clone(&proposal.block);
        match (&sealed.fault, sealed.inputs.last()) {
            (None, Some(input)) if self.asked_for(node, &block) => {
                self.hand(node, Some(from), input.clone());
            }
            _ => self.found_block(node, from, block),
        }
    }

    pub(crate) fn found_block(&mut self, node: usize, from: usize, block: Arc<Block>) {
        if self.asked_for(node, &block) {
            self.hand(node, Some(from), Input::BlockFetched { block });
        }
    }

    fn asked_for(&mut self, node: usize, block: &Block) -> bool {
        let Some(live) = self.nodes[node].live.as_mut() else { return false };
        block.matches_tx_root() && live.fetching.remove(&block.id()).is_some()
    }

    /// Fetches final blocks up to `goal`, one range after another. One at a time.
    pub(crate) fn catch_up(&mut self, node: usize, goal: Height, certificate: Option<Arc<CommitCert>>) {
        let height = self.height_of(node);
        let sources = self.sources(node, &[]);
        let Some(live) = self.nodes[node].live.as_mut() else { return };
        if let Some(syncing) = live.syncing.as_mut() {
            syncing.goal = syncing.goal.max(goal);
            return;
        }
        live.syncing = Some(RangeSync { goal, certificate, sources, idle: 0 });
        if height >= goal {
            return self.end_range(node);
        }
        self.range_again(node, 0);
    }

    pub(crate) fn range_again(&mut self, node: usize, attempt: u32) {
        let from = self.height_of(node).next();
        let (now, incarnation) = (self.now, self.nodes[node].incarnation);
        let Some(live) = self.nodes[node].live.as_mut() else { return };
        let Some(syncing) = live.syncing.as_mut() else { return };
        if attempt < syncing.idle {
            return; // an answer came meanwhile
        }
        syncing.idle = attempt + 1;
        if from > syncing.goal || attempt >= ATTEMPTS_MAX || syncing.sources.is_empty() {
            return self.end_range(node);
        }
        let source = syncing.sources[attempt as usize % syncing.sources.len()];
        self.send(node, source, Packet::Range(from));
        let attempt = attempt + 1;
        self.plan(now + ANSWER_WITHIN_US, Event::RangeAgain { node, incarnation, attempt });
    }

    /// Tells the replica how far the state is.
    fn end_range(&mut self, node: usize) {
        let Node { live: Some(live), disk, .. } = &mut self.nodes[node] else { return };
        let syncing = live.syncing.take();
        let Some((header, own)) = live.ledger.newest_final(disk) else { return };
        let given =
            syncing.and_then(|syncing| syncing.certificate).filter(|given| given.block == header.id());
        let certificate = given.unwrap_or(own);
        self.tell_committed(node, header, certificate);
    }

    fn tell_committed(&mut self, node: usize, header: Header, certificate: Arc<CommitCert>) {
        match self.world.verifier.commit_cert(&self.world.set, certificate) {
            Ok(certificate) => self.hand(node, None, Input::Committed { header, certificate }),
            Err(fault) => {
                let what =
                    format!("{}: a stored commit certificate does not verify: {fault}", self.name(node));
                self.violate(Invariant::NothingLost, what);
            }
        }
    }

    pub(crate) fn serve_range(&mut self, node: usize, from: usize, height: Height) {
        let Node { live: Some(live), disk, .. } = &self.nodes[node] else { return };
        let blocks = live.ledger.range(disk, height, RANGE_BLOCKS_MAX);
        if !blocks.is_empty() {
            let bytes = range_bytes(&self.world, &blocks);
            self.send(node, from, Packet::Blocks(Rc::new(blocks), bytes));
        }
    }

    /// Checks that blocks follow the tip by hash and are final, applies them, and asks for more.
    pub(crate) fn received_range(&mut self, node: usize, from: usize, blocks: &[CertifiedBlock]) {
        let Node { live: Some(live), disk, .. } = &self.nodes[node] else { return };
        if live.syncing.is_none() || live.executing_until > self.now {
            return;
        }
        let (mut parent, tip) = live.ledger.tip(&self.world, disk);
        let mut height = tip.height;
        let fresh: Vec<CertifiedBlock> =
            blocks.iter().filter(|it| it.block.header().height > tip.height).cloned().collect();
        for it in &fresh {
            let header = it.block.header();
            let follows = header.parent == parent && header.height.follows(height);
            if !follows || !it.block.matches_tx_root() || !self.certified(it) {
                return self.record.refused += u64::from(!self.nodes[from].honest);
            }
            (parent, height) = (it.block.id(), header.height);
        }
        let Some(last) = fresh.last().filter(|last| last.certificate.block == last.block.id()) else {
            return;
        };
        let (header, certificate) = (last.block.header().clone(), Arc::clone(&last.certificate));
        if let Err(error) = self.commit(node, &fresh, true) {
            let what = format!("{} cannot apply final blocks: {error}", self.name(node));
            return self.violate(Invariant::NoFalseBlame, what);
        }
        self.tell_committed(node, header, certificate);
        if let Some(syncing) = self.nodes[node].live.as_mut().and_then(|live| live.syncing.as_mut()) {
            syncing.idle = 0;
            self.range_again(node, 0);
        }
    }

    fn certified(&self, it: &CertifiedBlock) -> bool {
        let certificate = Arc::clone(&it.certificate);
        let verified: Result<Verified<Arc<CommitCert>>, _> =
            self.world.verifier.commit_cert(&self.world.set, certificate);
        verified.is_ok()
    }

    /// News of a final block: believed when its certificate verifies.
    pub(crate) fn announced(&mut self, node: usize, header: &Header, certificate: Arc<CommitCert>) {
        let known = self.height_of(node);
        if certificate.block != header.id() || header.height <= known {
            return;
        }
        if self.world.verifier.commit_cert(&self.world.set, Arc::clone(&certificate)).is_ok() {
            self.catch_up(node, header.height, Some(certificate));
        }
    }

    /// A follower asks whoever is ahead for more; nobody is believed without certificates.
    pub(crate) fn poll(&mut self, node: usize) {
        if self.nodes[node].live.as_ref().is_some_and(|live| live.syncing.is_none()) {
            let goal = self.height_of(node).next();
            self.catch_up(node, goal, None);
        }
    }

    /// Sends, unless a role of the sender has other plans.
    pub(crate) fn send(&mut self, from: usize, to: usize, packet: Packet) {
        match self.late(from) {
            Some(after) => self.plan(self.now + after, Event::Late { from, to, packet }),
            None => self.send_now(from, to, packet),
        }
    }
}
