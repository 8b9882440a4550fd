//! A Byzantine validator that follows no rule: it votes for everything, gives up and proposes at will, and
//! names the oldest certificates it may.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_types::certificate::{First, Second};
use cairn_types::{
    Block, BlockCert, BlockId, Context, Header, Message, Slot, TimeoutCert, ValidatorIndex, View,
};
use rand::Rng;
use rand::seq::IndexedRandom;

use super::{Cluster, Event, Wire};

/// Views it remembers.
const VIEWS_KEPT: usize = 6;

pub(crate) struct Attacker {
    pub(crate) node: usize,
    pub(crate) me: ValidatorIndex,
    headers: BTreeMap<(View, BlockId), Header>,
    certs: BTreeMap<View, BlockCert>,
    tcs: BTreeMap<View, Arc<TimeoutCert>>,
    /// The last view it led and struck in.
    struck: View,
}

impl Attacker {
    pub(crate) fn new(node: usize, me: ValidatorIndex, root: BlockCert) -> Self {
        let certs = BTreeMap::from([(View::ZERO, root)]);
        Self { node, me, headers: BTreeMap::new(), certs, tcs: BTreeMap::new(), struck: View::ZERO }
    }

    /// It hears everything, also what is not sent to it.
    pub(crate) fn overhears(&mut self, message: &Message) {
        match message {
            Message::Proposal(proposal) => {
                let header = proposal.block.header();
                self.headers.insert((header.view, proposal.block.id()), header.clone());
                self.keep(proposal.justify.inline(), proposal.tc.as_ref().and_then(|tc| tc.inline()));
            }
            Message::Timeout(timeout) => {
                self.keep(timeout.high_qc.inline(), timeout.tc.as_ref().and_then(|tc| tc.inline()));
            }
            Message::Certificate(cert) => self.keep(Some(cert), None),
            Message::TimeoutCert(tc) => self.keep(Some(&tc.high_qc), Some(tc)),
            Message::CommitCert(cert) => self.keep(Some(&BlockCert::Commit(cert.clone())), None),
            Message::Vote(_) | Message::CommitVote(_) | Message::Status(_) | Message::EpochProof(_) => {}
        }
        while self.headers.len() > 2 * VIEWS_KEPT {
            self.headers.pop_first();
        }
        while self.certs.len() > VIEWS_KEPT {
            self.certs.pop_first();
        }
        while self.tcs.len() > VIEWS_KEPT {
            self.tcs.pop_first();
        }
    }

    fn keep(&mut self, cert: Option<&BlockCert>, tc: Option<&Arc<TimeoutCert>>) {
        if let Some(cert) = cert {
            self.certs.entry(cert.view()).or_insert_with(|| cert.clone());
        }
        if let Some(tc) = tc {
            self.tcs.entry(tc.view).or_insert_with(|| tc.clone());
        }
    }

    /// The view that the certificates lead to.
    fn view(&self) -> View {
        let cert = self.certs.keys().next_back().copied().unwrap_or(View::ZERO);
        let tc = self.tcs.keys().next_back().copied().unwrap_or(View::ZERO);
        cert.max(tc).next()
    }
}

impl Cluster {
    /// One misdeed, and the next one planned.
    pub(crate) fn attack(&mut self) {
        let Some(attacker) = self.attacker.take() else { return };
        let messages = match self.rng.random_range(0..5) {
            0 | 1 => self.votes(&attacker),
            2 => self.timeout_of(&attacker).into_iter().collect(),
            3 => self.certificates(&attacker),
            _ => self.proposals_of(&attacker),
        };
        for message in messages {
            for to in 0..self.nodes.len() {
                if to != attacker.node && self.nodes[to].me.is_some() && self.rng.random_bool(0.6) {
                    self.send(attacker.node, to, Wire::Message(message.clone()));
                }
            }
        }
        self.attacker = Some(attacker);
        let pause = self.draw((5, 60));
        self.at(self.now + pause, Event::Attack);
    }

    /// The moment it leads after a timeout it builds on the lowest certificate it knows, twice, before
    /// anybody else says anything: what V must refuse.
    pub(crate) fn strike(&mut self) {
        let Some(mut attacker) = self.attacker.take() else { return };
        let view = attacker.view();
        let tc = view.previous().and_then(|before| attacker.tcs.get(&before).cloned());
        if attacker.struck < view && self.world.set.leader(view) == attacker.me && tc.is_some() {
            attacker.struck = view;
            let certs: Vec<BlockCert> = attacker.certs.values().take(2).cloned().collect();
            let proposals: Vec<Message> = certs
                .into_iter()
                .filter_map(|cert| self.proposal_on(&attacker, view, cert, tc.clone()))
                .collect();
            for to in (0..self.nodes.len()).filter(|to| *to != attacker.node) {
                for message in &proposals {
                    self.send(attacker.node, to, Wire::Message(message.clone()));
                }
            }
        }
        self.attacker = Some(attacker);
    }

    fn votes(&mut self, attacker: &Attacker) -> Vec<Message> {
        let known: Vec<(View, BlockId)> = attacker.headers.keys().copied().collect();
        let garbage = BlockId::new(Context::Block.hash(&self.now.to_le_bytes()));
        let ahead = attacker.view().get() + self.rng.random_range(0..12);
        let (view, block) = match known.choose(&mut self.rng) {
            Some(known) if self.rng.random_bool(0.9) => *known,
            _ => (View::new(ahead), garbage),
        };
        vec![
            Message::Vote(self.world.ballot::<First>(attacker.me, view, block)),
            Message::CommitVote(self.world.ballot::<Second>(attacker.me, view, block)),
        ]
    }

    fn timeout_of(&mut self, attacker: &Attacker) -> Option<Message> {
        let view = attacker.view();
        let tc = attacker.tcs.get(&view.previous()?).cloned();
        let certs: Vec<&BlockCert> = attacker.certs.range(..view).map(|(_, cert)| cert).collect();
        let cert =
            if tc.is_some() { (*certs.choose(&mut self.rng)?).clone() } else { (*certs.last()?).clone() };
        let signed = if self.rng.random_bool(0.5) { cert.view() } else { View::ZERO };
        Some(Message::Timeout(self.world.timeout(attacker.me, view, signed, cert, tc)))
    }

    fn certificates(&mut self, attacker: &Attacker) -> Vec<Message> {
        let certs: Vec<BlockCert> = attacker.certs.values().cloned().collect();
        let tcs: Vec<Arc<TimeoutCert>> = attacker.tcs.values().cloned().collect();
        let cert = certs.choose(&mut self.rng).cloned().map(Message::Certificate);
        cert.into_iter().chain(tcs.choose(&mut self.rng).cloned().map(Message::TimeoutCert)).collect()
    }

    /// Two blocks for a view it leads, on any certificates it knows.
    fn proposals_of(&mut self, attacker: &Attacker) -> Vec<Message> {
        let mut view = attacker.view();
        if self.world.set.leader(view) != attacker.me {
            return Vec::new();
        }
        if self.rng.random_bool(0.1) {
            view = View::new(view.get() + self.world.set.count() as u64);
        }
        let tc = view.previous().and_then(|before| attacker.tcs.get(&before).cloned());
        let certs: Vec<BlockCert> = attacker.certs.values().cloned().collect();
        let mut proposals = Vec::new();
        for _ in 0..2 {
            // The lower of two: building below what is final is what could fork the chain.
            let picks = [certs.choose(&mut self.rng), certs.choose(&mut self.rng)];
            let Some(justify) = picks.into_iter().flatten().min_by_key(|cert| cert.view()).cloned() else {
                break;
            };
            proposals.extend(self.proposal_on(attacker, view, justify, tc.clone()));
        }
        proposals
    }

    fn proposal_on(
        &mut self,
        attacker: &Attacker,
        view: View,
        justify: BlockCert,
        tc: Option<Arc<TimeoutCert>>,
    ) -> Option<Message> {
        let parent = match &justify {
            BlockCert::Root { .. } => self.world.root.clone(),
            cert => attacker.headers.get(&(cert.view(), cert.block()))?.clone(),
        };
        let slot = Slot {
            epoch: self.world.set.epoch(),
            view,
            height: parent.height.next(),
            parent: parent.id(),
            parent_view: justify.view(),
            proposer: attacker.me,
        };
        let time_ms = parent.time_ms + self.rng.random_range(0..200);
        let nonce = 1_000_000 + self.now * 16 + u64::from(self.rng.random_range(0..16u8));
        let mut block = self.world.block(&parent, slot, time_ms, vec![self.world.transaction(nonce)]);
        if self.rng.random_bool(0.2) {
            // Everything about it is right, but it does not execute to its root.
            let header = Header { state_root: Context::State.hash(b"wrong"), ..block.header().clone() };
            block = Arc::new(Block::new(header, block.transactions().to_vec()));
        }
        let tc = tc.filter(|_| !view.follows(justify.view()));
        Some(Message::Proposal(self.world.proposal(&block, justify, tc)))
    }
}
