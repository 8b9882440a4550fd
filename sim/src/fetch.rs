//! What a node fetches that it lacks, decided by `cairn-catchup` as in a node; here are its questions and answers over
//! the simulated links.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cairn_catchup::{
    Answer, Claim, Entry, Failure, Input as Told, Judge, Output, Position, Proof, Question, RequestId,
    check_range,
};
use cairn_consensus::{EpochEnd, Input};
use cairn_types::{
    Block, BlockId, CertifiedBlock, CommitCert, EpochProof, Header, Height, Message, ValidatorIndex,
};

use crate::cluster::Cluster;
use crate::events::Event;
use crate::invariants::Invariant;
use crate::ledger::How;
use crate::node::Node;
use crate::packet::{Packet, Sealed, block_bytes, range_bytes};

/// Bytes of blocks in one range answer, unless a single block has more, as in a node.
const RANGE_BYTES_MAX: u64 = 3 << 20;

/// When the network gives up on an answer, microseconds.
const UNANSWERED_AFTER_US: u64 = 2_000_000;

/// A question on its way, or its answer's address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) request: RequestId,
    pub(crate) question: Question,
    /// Of the asking process: an answer to an earlier one says nothing to it.
    incarnation: u32,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    asked: Asked,
    body: Body,
    pub(crate) bytes: u64,
}

#[derive(Clone, Debug)]
enum Body {
    Tip(Claim),
    Range(Vec<Entry>),
    Block(Option<Arc<Block>>),
    Proposal(Rc<Sealed>),
}

impl Reply {
    /// Whether it answers for one block, which goes before ranges.
    pub(crate) fn is_block(&self) -> bool {
        matches!(self.asked.question, Question::Block(_))
    }

    /// The proposal inside, whose signatures a receiver checks.
    pub(crate) fn proposal(&self) -> Option<&Rc<Sealed>> {
        if let Body::Proposal(sealed) = &self.body { Some(sealed) } else { None }
    }

    /// The blocks inside.
    pub(crate) fn blocks(&self) -> Vec<&Block> {
        match &self.body {
            Body::Range(entries) => entries.iter().map(|entry| entry.block.as_ref()).collect(),
            Body::Block(block) => block.iter().map(AsRef::as_ref).collect(),
            Body::Tip(_) | Body::Proposal(_) => Vec::new(),
        }
    }
}

impl Cluster {
    /// Tells a node's machine something, and does what it asks for.
    pub(crate) fn told(&mut self, node: usize, input: Told<usize>) {
        let now = Duration::from_micros(self.now);
        let Some(live) = self.nodes[node].live.as_mut() else { return };
        let outputs = live.catchup.step(now, input);
        for output in outputs {
            self.carry_out(node, output);
        }
        self.plan_tick(node);
    }

    fn plan_tick(&mut self, node: usize) {
        let (now, incarnation) = (self.now, self.nodes[node].incarnation);
        let Some(live) = self.nodes[node].live.as_mut() else { return };
        let patience = live.catchup.patience(Duration::from_micros(now));
        let at = now + u64::try_from(patience.as_micros()).unwrap_or(u64::MAX / 4);
        if live.tick_at > now && live.tick_at <= at {
            return;
        }
        live.tick_at = at;
        self.plan(at, Event::Tick { node, incarnation });
    }

    pub(crate) fn tick(&mut self, node: usize) {
        // A pause may have held it up.
        if self.nodes[node].live.as_ref().is_some_and(|live| live.tick_at <= self.now) {
            self.told(node, Told::Tick);
        }
    }

    /// No answer came; the machine knows whether one still could.
    pub(crate) fn unanswered(&mut self, node: usize, request: RequestId) {
        self.told(node, Told::Failed { request, failure: Failure::Refused });
    }

    fn carry_out(&mut self, node: usize, output: Output<usize>) {
        match output {
            Output::Ask { peer, request, question } => {
                let incarnation = self.nodes[node].incarnation;
                let asked = Rc::new(Asked { request, question, incarnation });
                self.send(node, peer, Packet::Ask(asked));
                // A lost message stands for a connection that broke, which its user is told of.
                self.plan(self.now + UNANSWERED_AFTER_US, Event::Unanswered { node, incarnation, request });
            }
            Output::Apply { blocks, end } => self.apply(node, blocks, end),
            Output::Punish { peer, why } => {
                self.record.refused += 1;
                if self.nodes[node].honest && self.nodes[peer].honest {
                    let what = format!("{} punishes {}: {why}", self.name(node), self.name(peer));
                    self.violate(Invariant::NoFalseBlame, what);
                }
            }
            Output::Behind(_) => {}
            Output::Fork { height, committed, parent } => {
                if self.nodes[node].honest {
                    let what = format!(
                        "{} has {committed} below height {height}, where a final block has parent {parent}",
                        self.name(node)
                    );
                    self.violate(Invariant::OneBlock, what);
                }
            }
        }
    }

    /// Makes fetched blocks final, and tells machine and replica.
    fn apply(&mut self, node: usize, blocks: Vec<CertifiedBlock>, end: Option<Arc<EpochProof>>) {
        let ends = end.is_some();
        let applied = match end {
            Some(proof) => self.end_epoch(node, &EpochEnd { blocks, proof }, true),
            None => self.commit(node, &blocks, How::Synced, true),
        };
        if let Err(error) = applied {
            if self.nodes[node].disk_full {
                return self.halt(node, &format!("the state cannot be written: {error}"));
            }
            let what = format!("{} cannot apply final blocks: {error}", self.name(node));
            return self.violate(Invariant::NoFalseBlame, what);
        }
        let tip = self.position(node);
        self.told(node, Told::Committed { tip, applied: true });
        // The next epoch's replica begins at its root by itself.
        if !ends {
            self.tell_committed(node);
        }
    }

    fn position(&self, node: usize) -> Position {
        let Node { live: Some(live), disk, .. } = &self.nodes[node] else {
            return Position { height: Height::ZERO, id: self.world.root.id() };
        };
        let (id, header) = live.ledger.tip(&self.world, disk);
        Position { height: header.height, id }
    }

    /// The state has moved on by the replica's own commits.
    pub(crate) fn moved_on(&mut self, node: usize) {
        let tip = self.position(node);
        self.told(node, Told::Committed { tip, applied: false });
    }

    /// Tells the replica how far the state is.
    fn tell_committed(&mut self, node: usize) {
        let Node { live: Some(live), disk, .. } = &self.nodes[node] else { return };
        let Some((header, certificate)) = live.ledger.newest_final(disk) else { return };
        let regime = &live.in_force.regime;
        if header.epoch != regime.number() || certificate.epoch != regime.number() {
            return; // the replica of that epoch is over
        }
        match self.world.verifier.commit_cert(&regime.set, certificate) {
            Ok(certificate) => self.hand(node, None, Input::Committed { header, certificate }),
            Err(fault) => {
                let what =
                    format!("{}: a stored commit certificate does not verify: {fault}", self.name(node));
                self.violate(Invariant::NothingLost, what);
            }
        }
    }

    /// The replica lacks a block.
    pub(crate) fn fetch(&mut self, node: usize, block: BlockId, from: &[ValidatorIndex]) {
        let Some(live) = self.nodes[node].live.as_ref() else { return };
        if live.assembling.contains(&block) {
            return; // its transactions are being collected
        }
        let regime = Rc::clone(&live.in_force.regime);
        let sources = from.iter().flat_map(|index| self.nodes_of(&regime, *index));
        let from: Vec<usize> = sources.filter(|source| *source != node).collect();
        self.told(node, Told::Want { block, from });
    }

    /// The replica knows of a final block that is far above what it holds.
    pub(crate) fn catch_up(&mut self, node: usize, height: Height, by: Option<usize>) {
        if self.height_of(node) >= height {
            return self.tell_committed(node);
        }
        self.told(node, Told::Proven { height, by });
    }

    /// News of a final block: believed when its certificate verifies.
    pub(crate) fn announced(
        &mut self,
        node: usize,
        from: usize,
        header: &Header,
        certificate: Arc<CommitCert>,
    ) {
        if certificate.block != header.id() || header.height <= self.height_of(node) {
            return;
        }
        let regime = self.regime_of(node);
        let height = header.height;
        // The signers of a later epoch are unknown here: looked after, and only what is proven from here on is believed.
        let later = certificate.epoch > regime.number();
        let verified = self.world.verifier.commit_cert(&regime.set, certificate);
        match (verified, self.me(node)) {
            _ if later => self.told(node, Told::Proven { height, by: Some(from) }),
            (Ok(_), None) => self.told(node, Told::Proven { height, by: Some(from) }),
            (Ok(certificate), Some(_)) => self.hand(node, Some(from), Input::CommitCert(certificate)),
            (Err(_), _) => {}
        }
    }

    /// Answers a question.
    pub(crate) fn serve(&mut self, node: usize, from: usize, asked: Asked) {
        let Node { live: Some(live), disk, .. } = &self.nodes[node] else { return };
        let (body, bytes) = match asked.question {
            Question::Tip => {
                let height = live.ledger.tip(&self.world, disk).1.height;
                (Body::Tip(Claim { height, earliest: Height::ZERO }), 16)
            }
            Question::Range { from, count } => {
                let mut entries = live.ledger.range(disk, from, count as usize);
                let mut bytes = range_bytes(&self.world, &entries);
                while bytes > RANGE_BYTES_MAX && entries.len() > 1 {
                    entries.truncate(entries.len() / 2);
                    bytes = range_bytes(&self.world, &entries);
                }
                (Body::Range(entries), bytes)
            }
            Question::Block(id) => match live.replica.proposal_for(&id) {
                Some(proposal) => {
                    let message = Message::Proposal(proposal.clone());
                    let sealed = Sealed::new(&self.world, message, self.manifest.cpu.verify.0 > 0);
                    let bytes = sealed.bytes;
                    (Body::Proposal(sealed), bytes)
                }
                None => {
                    let block = live.replica.block(&id).cloned().or_else(|| live.ledger.block(disk, &id));
                    let bytes = block.as_ref().map_or(1, |block| block_bytes(&self.world, block));
                    (Body::Block(block), bytes)
                }
            },
        };
        self.send(node, from, Packet::Reply(Rc::new(Reply { asked, body, bytes })));
    }

    /// An answer: what it holds is checked before the machine hears of it.
    pub(crate) fn answered(&mut self, node: usize, from: usize, reply: &Reply) {
        let Asked { request, question, incarnation } = reply.asked;
        if self.nodes[node].incarnation != incarnation {
            return;
        }
        let wrong = |why: String| Told::Failed { request, failure: Failure::Wrong(why) };
        let told = match (question, &reply.body) {
            (Question::Tip, Body::Tip(claim)) => Told::Answer { request, answer: Answer::Tip(*claim) },
            (Question::Range { from, count }, Body::Range(entries)) => {
                let bytes = usize::try_from(reply.bytes).unwrap_or(usize::MAX);
                let (verifier, regime) = (&self.world.verifier, self.regime_of(node));
                let set = &regime.set;
                let mut judge = |header: &Header, proof: Proof<'_>| {
                    // The validators of later epochs become known with the blocks that name them.
                    if header.epoch != set.epoch() {
                        return Judge::EpochUnknown;
                    }
                    let verified = match proof {
                        Proof::Certificate(it) => verifier.commit_cert(set, Arc::clone(it)).map(drop),
                        Proof::End(it) => verifier.epoch_proof(set, Arc::clone(it)).map(drop),
                    };
                    verified.map_or_else(|fault| Judge::Bad(fault.to_string()), |()| Judge::Good)
                };
                match check_range(from, count, entries.clone(), bytes, &mut judge) {
                    Ok(range) => Told::Answer { request, answer: Answer::Range(range) },
                    Err(fault) => wrong(fault.to_string()),
                }
            }
            (Question::Block(id), Body::Block(block)) => {
                let found = block.as_ref().filter(|block| block.id() == id && block.matches_tx_root());
                if let Some(block) = found {
                    self.hand(node, Some(from), Input::BlockFetched { block: Arc::clone(block) });
                }
                match (block, found) {
                    (Some(_), None) => wrong("another block than the one asked for".to_owned()),
                    (_, found) => Told::Answer { request, answer: Answer::Block(found.is_some()) },
                }
            }
            (Question::Block(id), Body::Proposal(sealed)) => {
                let good = self.proposal_found(node, from, id, sealed);
                let answer = Told::Answer { request, answer: Answer::Block(true) };
                if good { answer } else { wrong("another block than the one asked for".to_owned()) }
            }
            _ => wrong("an answer to another question".to_owned()),
        };
        self.told(node, told);
    }

    /// A block with everything a replica needs to judge it as if its leader had sent it.
    fn proposal_found(&mut self, node: usize, from: usize, id: BlockId, sealed: &Rc<Sealed>) -> bool {
        let Message::Proposal(proposal) = &sealed.message else { return false };
        let block = Arc::clone(&proposal.block);
        if block.id() != id || !block.matches_tx_root() {
            return false;
        }
        let ours = sealed.message.epoch() == self.regime_of(node).number();
        match (&sealed.fault, sealed.inputs.last().filter(|_| ours)) {
            (None, Some(input)) => self.hand(node, Some(from), input.clone()),
            _ => self.hand(node, Some(from), Input::BlockFetched { block }),
        }
        true
    }

    /// Sends, unless a role of the sender has other plans.
    pub(crate) fn send(&mut self, from: usize, to: usize, packet: Packet) {
        match self.late(from) {
            Some(after) => self.plan(self.now + after, Event::Late { from, to, packet }),
            None => self.send_now(from, to, packet),
        }
    }
}
