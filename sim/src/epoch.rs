//! Epochs in a run: what each is run by, and the turn of a node from one to the next, with the node's rules.

use std::rc::Rc;
use std::sync::Arc;

use cairn_consensus::{Across, Config, EpochEnd, Input, Recovered, Replica, across};
use cairn_state::{EpochBegin, StateError};
use cairn_types::{
    Address, Block, BlockId, ChainId, Epoch, Hash, Header, Message, Params, Payload, Status, ValidatorIndex,
    ValidatorSet, View,
};

use crate::cluster::Cluster;
use crate::invariants::Invariant;
use crate::keys::Signer;
use crate::ledger::How;
use crate::node::Node;
use crate::packet::Sealed;
use crate::world::World;

/// Pause between two answers to one peer of another epoch, microseconds, as in a node.
const ANSWER_EVERY_US: u64 = 250_000;

/// What an epoch is run by: the same for everyone who is in it.
#[derive(Debug)]
pub(crate) struct Regime {
    pub(crate) set: Arc<ValidatorSet>,
    /// What its headers name the set by.
    pub(crate) set_digest: Hash,
    /// The validators of the epoch before, who may still have to be answered.
    pub(crate) previous: Option<Arc<ValidatorSet>>,
    pub(crate) params: Params,
    /// The block that the implicit certificate of view 0 names.
    pub(crate) root: Header,
    pub(crate) root_id: BlockId,
}

impl Regime {
    pub(crate) fn number(&self) -> Epoch {
        self.set.epoch()
    }

    /// Whether the mesh admits this validator: one of this epoch, or of the one before.
    pub(crate) fn admits(&self, address: &Address) -> bool {
        let mut sets = [Some(&self.set), self.previous.as_ref()].into_iter().flatten();
        sets.any(|set| set.index_of(address).is_some())
    }
}

/// An epoch, and a node's part in it.
#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) regime: Rc<Regime>,
    /// Its position in the set; `None` for whoever signs nothing.
    pub(crate) me: Option<ValidatorIndex>,
    /// The key that the set names.
    signer: Option<Signer>,
    /// Whether the epoch before ended through a carrier here.
    root_is_carried: bool,
}

impl Part {
    /// The part of the node with the keys of `holder` in the epoch that a state has come to.
    pub(crate) fn of(world: &World, holder: Option<usize>, begin: EpochBegin) -> Self {
        let EpochBegin { set, previous, params, root, root_is_carried, protocol: _ } = begin;
        let signer = holder.and_then(|holder| world.signer_in(holder, &set));
        let known = world.regime(set.epoch()).filter(|known| known.root == root && known.set == set);
        let regime = known.unwrap_or_else(|| {
            let (set_digest, root_id) = (set.digest(), root.id());
            Rc::new(Regime { set, set_digest, previous, params, root, root_id })
        });
        let (me, signer) = signer.unzip();
        Self { regime, me, signer, root_is_carried }
    }

    /// Signs nothing: the journal has left this epoch behind.
    pub(crate) fn silenced(mut self) -> Self {
        (self.me, self.signer) = (None, None);
        self
    }

    /// What a replica of it is made of.
    pub(crate) fn config(&self, chain: ChainId) -> Config {
        let (set, root) = (Arc::clone(&self.regime.set), self.regime.root.clone());
        Config {
            chain,
            set,
            me: self.me,
            params: self.regime.params,
            root,
            root_is_carried: self.root_is_carried,
        }
    }

    /// The key in use.
    pub(crate) const fn signer(&self) -> Option<&Signer> {
        self.signer.as_ref()
    }
}

impl Cluster {
    /// The epoch in force at a node; a node that is down has no say, and stands in the first.
    pub(crate) fn regime_of(&self, node: usize) -> Rc<Regime> {
        match &self.nodes[node].live {
            Some(live) => Rc::clone(&live.in_force.regime),
            None => Rc::clone(&self.world.first),
        }
    }

    /// Where the key of `peer` stands in the set of the epoch that `at` is in.
    pub(crate) fn index_at(&self, at: usize, peer: usize) -> Option<ValidatorIndex> {
        let address = self.address_of(peer)?;
        match &self.nodes[at].live {
            Some(live) => live.in_force.regime.set.index_of(&address),
            None => self.world.first.set.index_of(&address),
        }
    }

    /// The address under which a node is or could be a validator.
    pub(crate) fn address_of(&self, node: usize) -> Option<Address> {
        self.nodes[node].holder.map(|holder| self.world.holders[holder].address)
    }

    /// The nodes that run under the key that stands at `index` in the set of this epoch.
    pub(crate) fn nodes_of(&self, regime: &Regime, index: ValidatorIndex) -> Vec<usize> {
        let Some(address) = regime.set.get(index).map(|validator| validator.address) else {
            return Vec::new();
        };
        (0..self.nodes.len()).filter(|node| self.address_of(*node) == Some(address)).collect()
    }

    /// Whether `at` admits `peer` to its mesh.
    pub(crate) fn admits(&self, at: usize, peer: usize) -> bool {
        let Some(address) = self.address_of(peer) else { return false };
        match &self.nodes[at].live {
            Some(live) => live.in_force.regime.admits(&address),
            None => self.world.first.admits(&address),
        }
    }

    /// Whether the two have a link of the mesh.
    pub(crate) fn meshed(&self, a: usize, b: usize) -> bool {
        self.admits(a, b) && self.admits(b, a)
    }

    /// The position at which a node signs; `None` while it follows or is down.
    pub(crate) fn me(&self, node: usize) -> Option<ValidatorIndex> {
        self.nodes[node].live.as_ref().and_then(|live| live.voting.me)
    }

    /// Makes the end of an epoch final and durable, then lets the next one begin (rule E).
    pub(crate) fn end_epoch(&mut self, node: usize, end: &EpochEnd, fetched: bool) -> Result<(), StateError> {
        if self.nodes[node].honest && !self.proves_the_end(node, end) {
            return Ok(());
        }
        self.commit(node, &end.blocks, How::End(&end.proof), fetched)?;
        if self.violation.is_some() {
            return Ok(());
        }
        let holder = self.nodes[node].holder;
        let Node { live: Some(live), .. } = &mut self.nodes[node] else { return Ok(()) };
        let begin = live.ledger.begin(&self.world)?;
        if begin.set.epoch() == live.in_force.regime.number() {
            return Ok(()); // told of it before
        }
        if let Some(journal) = live.journal.as_mut() {
            journal.prune(begin.root.height);
        }
        let mut part = Part::of(&self.world, holder, begin);
        if live.silent_until.is_some_and(|signed| part.regime.number() < signed) {
            part = part.silenced();
        }
        let before: Vec<usize> = (0..self.nodes.len()).filter(|other| self.meshed(node, *other)).collect();
        let last = end.blocks.last().map(|last| Arc::clone(&last.block));
        self.learn_epoch(node, &part, last.as_deref(), end.proof.headers.len() - 1);
        let Node { live: Some(live), signed_view, .. } = &mut self.nodes[node] else { return Ok(()) };
        (live.in_force, live.turning, *signed_view) = (part, true, View::ZERO);
        self.link_up(node, &before);
        self.wake(node);
        Ok(())
    }

    /// Links come up with those whom the new epoch admits.
    fn link_up(&mut self, node: usize, before: &[usize]) {
        for other in 0..self.nodes.len() {
            let linked = self.nodes[node].live.as_ref().is_some_and(|live| live.linked.contains(&other));
            if other == node || !linked || before.contains(&other) || !self.meshed(node, other) {
                continue;
            }
            for (at, peer) in [(node, other), (other, node)] {
                if let Some(index) = self.index_at(at, peer) {
                    self.hand(at, None, Input::Connected(index));
                }
            }
        }
    }

    /// The loop goes on with a replica of the epoch in force.
    pub(crate) fn begin_replica(&mut self, node: usize) {
        let chain = self.world.chain;
        let Node { live: Some(live), .. } = &mut self.nodes[node] else { return };
        live.turning = false;
        let mut part = live.in_force.clone();
        let recovered = match (part.me, &live.journal) {
            (None, _) => Ok(Recovered::default()),
            (Some(_), Some(journal)) => {
                Ok(Recovered { record: journal.record().clone(), ..Recovered::default() })
            }
            (Some(_), None) => self.take_up_the_journal(node, &mut part),
        };
        let begun = recovered.and_then(|recovered| {
            Replica::new(part.config(chain), recovered).map_err(|fault| fault.to_string())
        });
        let replica = match begun {
            Ok(replica) => replica,
            Err(why) => {
                return self.write_failed(node, false, &format!("the next epoch cannot begin: {why}"));
            }
        };
        let Node { live: Some(live), .. } = &mut self.nodes[node] else { return };
        live.told = (false, replica.high_qc().block());
        (live.replica, live.voting) = (replica, part);
        live.timers.clear();
        // They name validators by their position in the set of the epoch before.
        live.inbox.retain(|(_, input)| !matches!(input, Input::Connected(_) | Input::Status { .. }));
        live.inbox.push_front((None, Input::Start));
    }

    /// A follower until now that this epoch's set names signs from here on, unless its journal has signed in a later epoch.
    fn take_up_the_journal(&mut self, node: usize, part: &mut Part) -> Result<Recovered, String> {
        let Node { disk, live: Some(live), holder, signed_view, .. } = &mut self.nodes[node] else {
            return Ok(Recovered::default());
        };
        let Some(holder) = *holder else { return Ok(Recovered::default()) };
        let (journal, recovered) = disk.recover_journal(&self.world, holder)?;
        let (signed, epoch) = (recovered.record.epoch, part.regime.number());
        if signed > epoch {
            live.silent_until = Some(signed);
            *part = part.clone().silenced();
            live.in_force = part.clone();
            return Ok(Recovered::default());
        }
        if signed == epoch {
            *signed_view = recovered.record.highest_signed();
        }
        disk.acknowledged = recovered.record.clone();
        live.journal = Some(journal);
        Ok(recovered)
    }

    /// What a message of another epoch is answered with (rule E). True when there is nothing else to do with it.
    pub(crate) fn answer_across(&mut self, node: usize, from: usize, sealed: &Sealed) -> bool {
        let Some(live) = self.nodes[node].live.as_ref() else { return true };
        let ours = live.in_force.regime.number();
        let theirs = sealed.message.epoch();
        let answer = match across(ours, theirs) {
            Across::Ours => return false,
            Across::AnswerWithProof if matches!(sealed.message, Message::EpochProof(_)) => return true,
            Across::AnswerWithProof => {
                let proof = live.ledger.look(|state| state.epoch_proof(theirs)).ok().flatten();
                let Some(proof) = proof else { return true };
                Message::EpochProof(Arc::new(proof))
            }
            Across::AskForProof => {
                let committed = live.ledger.tip(&self.world, &self.nodes[node].disk).1.height;
                let view = live.replica.view();
                Message::Status(Status { epoch: ours, view, committed, ..Status::default() })
            }
        };
        let now = self.now;
        let Some(live) = self.nodes[node].live.as_mut() else { return true };
        if live.answered.get(&from).is_some_and(|last| now < last + ANSWER_EVERY_US) {
            return true;
        }
        live.answered.insert(from, now);
        self.record.across += 1;
        let sealed = Sealed::new(&self.world, answer, self.manifest.cpu.verify.0 > 0);
        self.send_as_role(node, vec![from], sealed);
        true
    }

    /// (a), (e): the proof of an epoch's end verifies under the epoch's own set.
    fn proves_the_end(&mut self, node: usize, end: &EpochEnd) -> bool {
        let Some(regime) = self.world.regime(end.proof.epoch()) else { return false };
        let name = self.name(node);
        let fault = self.world.verifier.epoch_proof(&regime.set, Arc::clone(&end.proof)).err();
        if let Some(fault) = &fault {
            let what = format!("{name} ends epoch {} without a proof of it: {fault}", regime.number());
            self.violate(Invariant::OneBlock, what);
        }
        fault.is_none()
    }

    /// An epoch begins at a node: it is run by the same set everywhere, and whoever was convicted is out of it.
    fn learn_epoch(&mut self, node: usize, part: &Part, last: Option<&Block>, carriers: usize) {
        let (name, number) = (self.name(node), part.regime.number());
        self.note(|| format!("{name}: EPOCH {number} begins, of {}", self.names_in(&part.regime.set)));
        if !self.nodes[node].honest {
            return;
        }
        if let Some(first) = self.world.regime(number) {
            let (one, other) = (&*first, &*part.regime);
            if one.set != other.set || one.root_id != other.root_id || one.params != other.params {
                let what = format!("{name} begins epoch {number} on another block or with another set");
                self.violate(Invariant::OneBlock, what);
            }
            self.record.joined_epoch(self.now, number);
            return self.governed();
        }
        let culprits: Vec<Address> = last.map(|last| self.convicted(last)).unwrap_or_default();
        let kept = culprits.iter().find(|culprit| part.regime.set.index_of(culprit).is_some());
        if let Some(culprit) = kept {
            let what = format!("epoch {number} has {culprit}, against whom evidence ended the epoch before");
            self.violate(Invariant::NothingLost, what);
        }
        self.world.begin(Rc::clone(&part.regime));
        let members = self.names_in(&part.regime.set);
        self.record.began_epoch(self.now, part, members, carriers, culprits.len());
        self.epoch_began();
    }

    /// Whom evidence in a block convicts.
    fn convicted(&self, block: &Block) -> Vec<Address> {
        let accused = |payload: &Payload| {
            let Payload::Evidence(evidence) = payload else { return None };
            Some(self.world.regime(evidence.epoch)?.set.get(evidence.validator)?.address)
        };
        block.transactions().iter().filter_map(|tx| accused(&tx.transaction.payload)).collect()
    }

    /// `v0 v2:3 v4`: the validators of a set, with powers above 1.
    pub(crate) fn names_in(&self, set: &ValidatorSet) -> String {
        let name = |validator: &cairn_types::Validator| {
            let holder = self.world.holder_of(&validator.address).unwrap_or(usize::MAX);
            if validator.power == 1 { format!("v{holder}") } else { format!("v{holder}:{}", validator.power) }
        };
        set.validators().iter().map(name).collect::<Vec<_>>().join(" ")
    }
}
