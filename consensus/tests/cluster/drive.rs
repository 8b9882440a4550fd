//! The driver of a simulated node: what `cairn-node`'s loop does, in virtual time.

use std::collections::VecDeque;
use std::sync::Arc;

use cairn_consensus::{Across, Action, Blame, BlockVerdict, Input, Outgoing, Step, across};
use cairn_types::{Block, CertifiedBlock, EpochProof, Message, Slot, Verified};
use rand::Rng;

use super::{Cluster, Event, Wire};

/// Blocks in one answer of range sync.
const RANGE_BLOCKS: usize = 20;

/// An input, and the node whose message it was.
pub(crate) type From = (Option<usize>, Input);

impl Cluster {
    /// One turn of a node's loop, and the turns that its own messages bring.
    pub(crate) fn turn(&mut self, node: usize, inputs: Vec<From>) {
        let before = self.view_of(node);
        self.turns(node, inputs);
        self.note_view(node, before);
    }

    fn turns(&mut self, node: usize, inputs: Vec<From>) {
        let mut queue: VecDeque<From> = inputs.into();
        loop {
            let mut step = Step::default();
            for (from, input) in queue.drain(..) {
                let Some(live) = self.nodes[node].live.as_mut() else { return };
                match live.replica.step(input) {
                    Ok(next) => step.merge(next),
                    Err(reject) => {
                        let honest = from.is_none_or(|from| self.nodes[from].honest);
                        let blamed = reject.blame() == Blame::Peer && honest && self.nodes[node].honest;
                        assert!(!blamed, "node {node} blames honest {from:?}: {reject}");
                    }
                }
            }
            if self.nodes[node].honest && self.crashes_now() {
                return self.crash_and_restart(node); // everything unsynced is lost
            }
            let Ok(actions) = step.commit_to(&mut self.nodes[node].disk);
            for action in actions {
                if self.nodes[node].honest && self.crashes_now() {
                    return self.crash_and_restart(node); // synced, but only some of it was sent
                }
                self.act(node, action, &mut queue);
            }
            if let Some(vote) = self.vote_unguarded(node) {
                queue.push_back((Some(node), self.input(vote)));
            }
            if let Some(input) = self.work(node) {
                queue.push_back((None, input));
            }
            if queue.is_empty() {
                return;
            }
        }
    }

    fn crash_and_restart(&mut self, node: usize) {
        self.nodes[node].crash();
        let down = self.draw((50, 3_000));
        self.at(self.now + down, Event::Fault(super::Fault::Restart(node)));
    }

    /// The pool's answer, when it is another than the last or about another block.
    fn work(&mut self, node: usize) -> Option<Input> {
        let live = self.nodes[node].live.as_mut()?;
        let parent = live.replica.high_qc().block();
        let work =
            live.executor.candidates(&parent).is_some_and(|mut candidates| candidates.next().is_some());
        if live.told == Some((parent, work)) {
            return None;
        }
        live.told = Some((parent, work));
        Some(Input::Work(work))
    }

    fn act(&mut self, node: usize, action: Action, queue: &mut VecDeque<From>) {
        let incarnation = self.nodes[node].incarnation;
        match action {
            Action::Broadcast(outgoing) => {
                let signed = outgoing.preimage(self.world.chain).is_some();
                let message = self.seal(node, outgoing);
                for to in (0..self.nodes.len()).filter(|to| *to != node) {
                    if self.nodes[to].me.is_some() || self.index_at(node, to).is_some() {
                        self.send(node, to, Wire::Message(message.clone()));
                    }
                }
                if signed {
                    queue.extend(self.miscount(node, &message).map(|input| (None, input)));
                    queue.push_back((Some(node), self.input(message)));
                }
            }
            Action::Send(index, outgoing) => {
                let message = self.seal(node, outgoing);
                for to in self.nodes_of(node, index).into_iter().filter(|to| *to != node) {
                    self.send(node, to, Wire::Message(message.clone()));
                }
            }
            Action::RequestPayload(slot) => {
                let delay = self.draw(self.delays.build);
                self.at(self.now + delay, Event::Build { node, incarnation, slot });
            }
            Action::CheckBlock { block, lag_exponent } => {
                let delay = self.draw(self.delays.execute);
                self.at(self.now + delay, Event::Check { node, incarnation, block, lag_exponent });
            }
            Action::FetchBlock { id, from } => {
                *self.sent.entry("fetch").or_default() += 1;
                if let Some(peer) = self.pick(node, &from) {
                    self.send(node, peer, Wire::Fetch(id));
                }
            }
            Action::CatchUp(catch_up) => {
                *self.sent.entry("range").or_default() += 1;
                let signers: Vec<_> = catch_up.certificate.signer_indexes().collect();
                if let Some(peer) = self.pick(node, &signers) {
                    self.send(node, peer, Wire::Range(catch_up.from.get() - 1));
                }
            }
            Action::SetTimer { timer, after } => {
                let at = self.now + after.as_millis() as u64;
                self.at(at, Event::Fires { node, incarnation, timer });
            }
            Action::Commit(blocks) => self.commit(node, &blocks),
            Action::EndEpoch(end) => {
                self.end_epoch(node, &end.blocks, &end.proof);
                queue.clear(); // what the epoch's replica said last
                queue.push_back((None, Input::Start));
            }
            Action::Formed(_) => {}
            Action::Accuse(accusation) => {
                let accused = self.nodes_of(node, accusation.validator());
                let honest = accused.len() == 1 && self.nodes[accused[0]].honest;
                assert!(!honest, "node {node} accuses honest {accused:?}: {accusation:?}");
                self.checks.accusations += 1;
            }
            Action::Halt(fatal) => assert!(!self.nodes[node].honest, "node {node} halts: {fatal}"),
        }
    }

    fn seal(&mut self, node: usize, outgoing: Outgoing) -> Message {
        let index = self.nodes[node].me;
        if let Some(me) = index.filter(|_| self.nodes[node].honest) {
            self.checks.signed(me, &outgoing, &self.nodes[node].disk.record);
        }
        *self.sent.entry(kind(&outgoing)).or_default() += 1;
        self.note_sent(node, &outgoing);
        self.world.seal(index.unwrap_or_default(), outgoing)
    }

    /// The nodes with the key that stands at `index` in the epoch of `at`.
    fn nodes_of(&self, at: usize, index: cairn_types::ValidatorIndex) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.index_at(at, *node) == Some(index)).collect()
    }

    /// Where `peer` stands in the set of the epoch that `at` is in.
    pub(crate) fn index_at(&self, at: usize, peer: usize) -> Option<cairn_types::ValidatorIndex> {
        let world = self.nodes[at].live.as_ref().map_or(&self.world, |live| &live.world);
        self.nodes[peer].who.and_then(|who| world.set.index_of(&who))
    }

    fn pick(&mut self, node: usize, from: &[cairn_types::ValidatorIndex]) -> Option<usize> {
        let holds = |other: &usize| {
            let index = self.index_at(node, *other);
            *other != node && index.is_some_and(|index| from.is_empty() || from.contains(&index))
        };
        let holders: Vec<usize> = (0..self.nodes.len()).filter(holds).collect();
        (!holders.is_empty()).then(|| holders[self.rng.random_range(0..holders.len())])
    }

    fn commit(&mut self, node: usize, blocks: &[CertifiedBlock]) {
        for certified in blocks {
            self.note_committed(node, certified);
            if self.nodes[node].honest {
                self.checks.committed(node, certified);
            }
            let Some(live) = self.nodes[node].live.as_mut() else { return };
            live.executor.apply(&certified.block);
            let disk = &mut self.nodes[node].disk;
            disk.chain.blocks.push(certified.clone());
            let height = certified.block.header().height;
            disk.bodies.retain(|body| body.header().height > height);
        }
        let Some(last) = blocks.last() else { return };
        for to in 0..self.nodes.len() {
            if self.nodes[to].me.is_none() && to != node {
                self.send(node, to, Wire::Message(Message::CommitCert(last.certificate.clone())));
            }
        }
    }

    /// The blocks up to the epoch's end and its proof are synced at once; then the next epoch begins.
    fn end_epoch(&mut self, node: usize, blocks: &[CertifiedBlock], proof: &Arc<EpochProof>) {
        self.commit(node, blocks);
        let Some(live) = self.nodes[node].live.as_ref() else { return };
        assert!(
            live.world.verify(&Message::EpochProof(proof.clone())),
            "node {node} ends its epoch without a proof"
        );
        self.nodes[node].disk.chain.proofs.push(proof.clone());
        self.checks.epochs = self.checks.epochs.max(self.nodes[node].disk.chain.proofs.len() as u64);
        self.checks.carried += u64::from(proof.is_carried());
        let genesis = self.world.clone();
        self.nodes[node].turn(&genesis);
        for to in 0..self.nodes.len() {
            if self.nodes[to].me.is_none() && to != node {
                self.send(node, to, Wire::Message(Message::EpochProof(proof.clone())));
            }
        }
    }

    /// What a message of another epoch is answered with (rule E).
    fn answer_across(&mut self, from: usize, to: usize, message: &Message) -> bool {
        let Some(live) = self.nodes[to].live.as_ref() else { return true };
        let answer = match across(live.replica.epoch(), message.epoch()) {
            Across::Ours => return false,
            Across::AnswerWithProof if matches!(message, Message::EpochProof(_)) => return true,
            Across::AnswerWithProof => {
                let epoch = message.epoch().get() as usize;
                Message::EpochProof(self.nodes[to].disk.chain.proofs[epoch].clone())
            }
            Across::AskForProof => Message::Status(live.replica.status()),
        };
        *self.sent.entry("across").or_default() += 1;
        self.send(to, from, Wire::Message(answer));
        true
    }

    pub(crate) fn deliver(&mut self, from: usize, to: usize, wire: Wire) {
        if let Some(attacker) = self.attacker.as_mut()
            && let Wire::Message(message) = &wire
        {
            attacker.overhears(message);
            self.strike();
        }
        if let Wire::Message(message) = &wire
            && self.answer_across(from, to, message)
        {
            return;
        }
        let from_index = self.index_at(to, from);
        let Some(live) = self.nodes[to].live.as_ref() else { return };
        match wire {
            Wire::Message(Message::Status(status)) if from_index.is_none() => {
                let answer = live.replica.answer_to(&status);
                for outgoing in answer {
                    let message = self.seal(to, outgoing);
                    self.send(to, from, Wire::Message(message));
                }
            }
            Wire::Message(message) => {
                if !live.world.verify(&message) {
                    assert!(
                        !self.nodes[from].honest,
                        "honest node {from} sends a bad signature: {message:?}"
                    );
                    return;
                }
                let miscounted = self.miscount(to, &message).map(|input| (None, input));
                let input = match message {
                    Message::Status(status) => Input::Status { from: from_index.unwrap_or_default(), status },
                    message => self.input(message),
                };
                self.turn(to, [(Some(from), input)].into_iter().chain(miscounted).collect());
            }
            Wire::Fetch(id) => {
                let committed = || self.nodes[to].disk.chain.blocks.iter().find(|b| b.block.id() == id);
                let answer =
                    live.replica.proposal_for(&id).cloned().map(|p| Wire::Message(Message::Proposal(p)));
                let answer = answer.or_else(|| live.replica.block(&id).cloned().map(Wire::Block));
                let answer = answer.or_else(|| committed().map(|b| Wire::Block(b.block.clone())));
                if let Some(answer) = answer {
                    self.send(to, from, answer);
                }
            }
            Wire::Block(block) => self.turn(to, vec![(Some(from), Input::BlockFetched { block })]),
            Wire::Range(after) => {
                let chain = &self.nodes[to].disk.chain;
                let blocks = range(&chain.blocks, after as usize);
                let ends = blocks.last().map(|last| last.block.header()).filter(|last| last.ends_epoch());
                let proof = ends.map(|last| chain.proofs[last.epoch.get() as usize].clone());
                self.send(to, from, Wire::Blocks(blocks, proof));
            }
            Wire::Blocks(blocks, proof) => self.apply_range(to, blocks, proof),
        }
    }

    /// Range sync: heights after ours, ending at the block its commit certificate names.
    fn apply_range(&mut self, node: usize, blocks: Vec<CertifiedBlock>, proof: Option<Arc<EpochProof>>) {
        let Some(live) = self.nodes[node].live.as_ref() else { return };
        let (tip, height) = live.replica.committed();
        let Some(last) = blocks.last().cloned() else { return };
        let fits = blocks.first().is_some_and(|first| first.block.header().parent == tip);
        if let Some(proof) = proof.filter(|_| fits && last.block.header().epoch == live.replica.epoch()) {
            self.end_epoch(node, &blocks, &proof);
            return self.turn(node, vec![(None, Input::Start)]);
        }
        let certificate = Message::CommitCert(last.certificate.clone());
        if last.block.header().epoch != live.replica.epoch() {
            return;
        }
        if !fits || last.certificate.block != last.block.id() || !live.world.verify(&certificate) {
            return;
        }
        assert!(last.block.header().height > height);
        self.commit(node, &blocks);
        #[expect(clippy::disallowed_methods, reason = "checked above with the simulation's signatures")]
        let certificate = Verified::assume(last.certificate);
        let header = last.block.header().clone();
        self.turn(node, vec![(None, Input::Committed { header, certificate })]);
    }

    pub(crate) fn check_block(
        &mut self,
        node: usize,
        incarnation: u32,
        block: &Arc<Block>,
        lag_exponent: u32,
    ) {
        if self.nodes[node].incarnation != incarnation {
            return;
        }
        let clock = self.now.saturating_add_signed(self.nodes[node].skew_ms);
        let params = self.world.params;
        let ahead = block.header().time_ms.saturating_sub(clock + params.drift_ms);
        if ahead > 0 {
            let block = block.clone();
            return self.at(self.now + ahead, Event::Check { node, incarnation, block, lag_exponent });
        }
        let Some(live) = self.nodes[node].live.as_mut() else { return };
        let lag = params.lag_max_ms.saturating_mul(1 << lag_exponent.min(32));
        let verdict = live.executor.check(block, clock.saturating_sub(lag));
        if verdict == BlockVerdict::Valid {
            self.found_valid(node, block.id());
        }
        self.turn(node, vec![(None, Input::BlockChecked { id: block.id(), verdict })]);
    }

    pub(crate) fn build(&mut self, node: usize, incarnation: u32, slot: Slot) {
        if self.nodes[node].incarnation != incarnation {
            return;
        }
        let clock = self.now.saturating_add_signed(self.nodes[node].skew_ms);
        let Some(live) = self.nodes[node].live.as_mut() else { return };
        let input = match live.executor.build(slot, clock) {
            Some(block) => Input::PayloadReady { view: slot.view, block },
            None => Input::PayloadFailed { view: slot.view },
        };
        self.turn(node, vec![(None, input)]);
    }

    #[expect(clippy::disallowed_methods, reason = "checked with the simulation's signatures, or our own")]
    fn input(&self, message: Message) -> Input {
        match message {
            Message::Proposal(m) => Input::Proposal(Verified::assume(m)),
            Message::Vote(m) => Input::Vote(Verified::assume(m)),
            Message::CommitVote(m) => Input::CommitVote(Verified::assume(m)),
            Message::Timeout(m) => Input::Timeout(Verified::assume(m)),
            Message::Certificate(m) => Input::Certificate(Verified::assume(m)),
            Message::TimeoutCert(m) => Input::TimeoutCert(Verified::assume(m)),
            Message::CommitCert(m) => Input::CommitCert(Verified::assume(m)),
            Message::EpochProof(m) => Input::EpochProof(Verified::assume(m)),
            Message::Status(status) => Input::Status { from: cairn_types::ValidatorIndex(0), status },
        }
    }
}

/// Up to the end of one epoch; what ends it is proven by the epoch's commit proof.
fn range(chain: &[CertifiedBlock], after: usize) -> Vec<CertifiedBlock> {
    let mut blocks: Vec<CertifiedBlock> = chain.iter().skip(after).take(RANGE_BLOCKS).cloned().collect();
    if let Some(end) = blocks.iter().position(|it| it.block.header().ends_epoch()) {
        blocks.truncate(end + 1);
        return blocks;
    }
    while blocks.last().is_some_and(|last| last.certificate.block != last.block.id()) {
        blocks.pop();
    }
    blocks
}

fn kind(outgoing: &Outgoing) -> &'static str {
    match outgoing {
        Outgoing::Proposal { .. } => "proposal",
        Outgoing::Vote { .. } => "vote",
        Outgoing::CommitVote { .. } => "commit vote",
        Outgoing::Timeout { .. } => "timeout",
        Outgoing::Certificate(_) => "certificate",
        Outgoing::TimeoutCert(_) => "timeout certificate",
        Outgoing::CommitCert(_) => "commit certificate",
        Outgoing::Status(_) => "status",
        Outgoing::EpochProof(_) => "epoch proof",
    }
}
