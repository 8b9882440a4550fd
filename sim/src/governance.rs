//! Changes of the validators, decided on chain: honest validators propose, approve and bring evidence with transactions
//! of their own, as their operators and nodes would.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cairn_consensus::Equivocation;
use cairn_types::governance::Changes;
use cairn_types::transaction::TRANSACTION_VERSION;
use cairn_types::{
    Address, Change, Epoch, Evidence, GovernanceOp, KeyRef, Payload, SignedTransaction, Transaction, TxId,
};
use rand::seq::IndexedRandom;

use crate::cluster::Cluster;
use crate::epoch::Regime;
use crate::events::Event;
use crate::plan::Move;
use crate::world::START_MS;

/// How long a motion stays open, and how long the transactions about it are valid, ms.
const MOTION_LIFE_MS: u64 = 30_000;
/// When whoever sees nothing happen says the same again, microseconds.
const AGAIN_US: u64 = 1_000_000;

/// What the validators want next.
struct Wanted {
    changes: Vec<Change>,
    /// The transaction that proposes it: repeated as it is, so that it is never proposed twice at a time.
    proposal: Option<Said>,
    /// Approvals on their way, by node and motion.
    approvals: BTreeMap<(usize, TxId), Said>,
}

/// A transaction, and when it was handed in last.
struct Said {
    signed: Arc<SignedTransaction>,
    at: u64,
}

/// The operators of the honest validators.
#[derive(Default)]
pub(crate) struct Operators {
    /// Planned changes that are in force, or that evidence has made impossible.
    done: usize,
    wanted: Option<Wanted>,
    /// Changes of the endless round are made no more.
    closed: bool,
    nonce: u64,
    /// When everything is said again.
    again_at: u64,
    /// Of whom a node has brought evidence: bounded by the validators of a run and its epochs.
    accused: BTreeSet<(usize, Epoch, Address)>,
}

impl Cluster {
    /// Plans when the first change is due.
    pub(crate) fn plan_epochs(&mut self) {
        let Some(epochs) = &self.manifest.epochs else { return };
        let first = epochs.length.or(epochs.change.first().map(|change| change.at));
        if let Some(first) = first {
            self.plan(first.0, Event::Govern);
        }
    }

    /// Something that operators wait for has happened at a node: it has come to an epoch, or has a motion.
    pub(crate) fn governed(&mut self) {
        if self.operators.wanted.is_some() {
            self.plan(self.now, Event::Govern);
        }
    }

    /// No further change of the endless round is proposed.
    pub(crate) fn close_epochs(&mut self) {
        self.operators.closed = true;
    }

    /// Planned changes that are not in force. One of the endless round counts while it is being decided.
    pub(crate) fn changes_pending(&self) -> usize {
        let planned = self.manifest.epochs.as_ref().map_or(0, |epochs| epochs.change.len());
        (planned - self.operators.done.min(planned)).max(usize::from(self.operators.wanted.is_some()))
    }

    /// When the first planned change that is not in force could have been proposed, the network being quiet since then.
    pub(crate) fn change_overdue_since(&self, quiet_since: u64) -> Option<u64> {
        let epochs = self.manifest.epochs.as_ref()?;
        let newest = self.record.epochs.last().map_or(0, |row| row.began);
        let due = match epochs.length {
            Some(_) if epochs.count.is_some_and(|count| self.record.epochs.len() as u64 >= count) => {
                return None;
            }
            Some(length) => length.0 + newest,
            None => epochs.change.get(self.operators.done)?.at.0.max(newest),
        };
        Some(due.max(quiet_since))
    }

    /// An epoch has begun somewhere honest: what comes next is due at once, or when the epoch is old enough.
    pub(crate) fn epoch_began(&mut self) {
        let length = self.manifest.epochs.as_ref().and_then(|epochs| epochs.length);
        self.plan(self.now + length.unwrap_or_default().0, Event::Govern);
    }

    /// The operators look where the chain stands, and say what is missing.
    pub(crate) fn govern(&mut self) {
        let newest = self.world.newest();
        self.settle(&newest);
        if self.operators.wanted.is_none() {
            let Some(changes) = self.next_changes(&newest) else { return };
            self.operators.wanted = Some(Wanted { changes, proposal: None, approvals: BTreeMap::new() });
            self.look_again();
        }
        self.say(&newest);
        if self.operators.again_at <= self.now {
            self.look_again();
        }
    }

    /// Whoever sees nothing happen until then says everything again.
    fn look_again(&mut self) {
        self.operators.again_at = self.now + AGAIN_US;
        self.plan(self.operators.again_at, Event::Govern);
    }

    /// What is in force is not wanted any more.
    fn settle(&mut self, newest: &Regime) {
        let holds = |change: &Change| match change {
            Change::Join { key, .. } => newest.set.index_of(&key.address()).is_some(),
            Change::Leave(address) => newest.set.index_of(address).is_none(),
            Change::Power { validator, power } => {
                let index = newest.set.index_of(validator);
                index.is_none_or(|index| newest.set.power(index) == *power)
            }
            Change::Rotate { validator, key } => {
                let held = newest.set.index_of(validator).and_then(|index| newest.set.get(index));
                held.is_none_or(|held| held.key == *key)
            }
            Change::Params(_) | Change::Protocol(_) => true,
        };
        let in_force = self.operators.wanted.as_ref().is_some_and(|it| it.changes.iter().all(holds));
        if in_force {
            self.operators.wanted = None;
            self.operators.done += 1;
        }
    }

    /// The next change that is due; plans a look when it is not yet.
    fn next_changes(&mut self, newest: &Regime) -> Option<Vec<Change>> {
        let epochs = self.manifest.epochs.as_ref()?;
        if let Some(length) = epochs.length {
            let over =
                self.operators.closed || epochs.count.is_some_and(|count| newest.number().get() >= count);
            let young = self.record.epoch_age(self.now) < length.0;
            return (!over && !young).then(|| self.of_the_round(newest));
        }
        let change = *epochs.change.get(self.operators.done)?;
        if change.at.0 > self.now {
            self.plan(change.at.0, Event::Govern);
            return None;
        }
        let step = change.step().ok()?; // checked with the manifest
        Some(vec![self.change(newest, step)])
    }

    fn change(&self, newest: &Regime, step: Move) -> Change {
        let address = |holder: usize| self.world.holders[holder].address;
        match step {
            Move::Join(holder, power) => {
                Change::Join { key: self.world.holders[holder].first().clone(), power }
            }
            Move::Leave(holder) => Change::Leave(address(holder)),
            Move::Weigh(holder, power) => Change::Power { validator: address(holder), power },
            Move::Rotate(holder) => {
                Change::Rotate { validator: address(holder), key: self.world.next_key(holder, &newest.set) }
            }
        }
    }

    /// The endless round: one honest validator leaves for another, power and keys change, in turn.
    fn of_the_round(&self, newest: &Regime) -> Vec<Change> {
        let (epoch, count) = (newest.number().get() as usize, self.world.holders.len());
        let member = |holder: &usize| newest.set.index_of(&self.world.holders[*holder].address).is_some();
        let honest =
            || (0..count).map(|step| (epoch + step) % count).filter(|holder| self.nodes[*holder].honest);
        let (inside, outside) = (honest().find(member), honest().find(|holder| !member(holder)));
        let Some(inside) = inside else { return Vec::new() };
        match (epoch % 4, outside) {
            (0 | 2, Some(outside)) => {
                vec![self.change(newest, Move::Join(outside, 1)), self.change(newest, Move::Leave(inside))]
            }
            (1, _) => vec![self.change(newest, Move::Rotate(inside))],
            _ => {
                let power = newest.set.index_of(&self.world.holders[inside].address);
                let power = power.map_or(1, |index| newest.set.power(index));
                vec![self.change(newest, Move::Weigh(inside, if power == 1 { 2 } else { 1 }))]
            }
        }
    }

    /// Proposes what is wanted, or approves the motion about it.
    fn say(&mut self, newest: &Regime) {
        let Some(wanted) = &self.operators.wanted else { return };
        let changes = wanted.changes.clone();
        let seen =
            self.honest().filter(|node| self.nodes[*node].is_up()).max_by_key(|node| self.height_of(*node));
        let Some(live) = seen.and_then(|seen| self.nodes[seen].live.as_ref()) else { return };
        let motions = live.ledger.look(cairn_state::State::motions).unwrap_or_default();
        let motion = motions.into_iter().find(|motion| motion.changes.0 == changes);
        let voters: Vec<usize> = self.honest().filter(|node| self.may_govern(*node, newest)).collect();
        match motion {
            Some(motion) => {
                let silent = |node: &usize| {
                    self.address_of(*node).is_some_and(|address| !motion.approvals.contains(&address))
                };
                let silent: Vec<usize> = voters.into_iter().filter(silent).collect();
                // At first as many as it takes: one approval too many has no effect but to be refused. Later everybody.
                let mut missing = newest.set.total_power() * 2 / 3 + 1;
                missing = missing.saturating_sub(motion.power(&newest.set));
                for node in silent {
                    if missing == 0 && self.operators.again_at > self.now {
                        break;
                    }
                    let index = self.address_of(node).and_then(|address| newest.set.index_of(&address));
                    missing = missing.saturating_sub(index.map_or(0, |index| newest.set.power(index)));
                    self.approve(node, motion.id);
                }
            }
            None => {
                // Too early, whoever has not come to the epoch would pass it over.
                let index = |node: &usize| newest.set.index_of(&self.address_of(*node)?);
                let power = voters.iter().filter_map(index).map(|index| newest.set.power(index)).sum();
                if newest.set.is_quorum(power) || self.operators.again_at <= self.now {
                    self.propose(&voters, changes);
                }
            }
        }
    }

    /// Whether this node's operator can say something in the newest epoch.
    fn may_govern(&self, node: usize, newest: &Regime) -> bool {
        let live = self.nodes[node].live.as_ref().filter(|_| self.nodes[node].is_up());
        live.is_some_and(|live| {
            live.in_force.regime.number() == newest.number() && live.in_force.me.is_some()
        })
    }

    fn propose(&mut self, voters: &[usize], changes: Vec<Change>) {
        let Some(node) = voters.choose(&mut self.rng).copied() else { return };
        let before = self.operators.wanted.as_mut().and_then(|wanted| wanted.proposal.take());
        let op = GovernanceOp::Propose { changes: Changes(changes), life_ms: MOTION_LIFE_MS };
        let said = self.say_again(node, before, Payload::Governance(op));
        if let Some(wanted) = self.operators.wanted.as_mut() {
            wanted.proposal = said;
        }
    }

    fn approve(&mut self, node: usize, motion: TxId) {
        let key = (node, motion);
        let before = self.operators.wanted.as_mut().and_then(|wanted| wanted.approvals.remove(&key));
        let said = self.say_again(node, before, Payload::Governance(GovernanceOp::Approve(motion)));
        if let (Some(wanted), Some(said)) = (self.operators.wanted.as_mut(), said) {
            wanted.approvals.insert(key, said);
        }
    }

    /// Hands a transaction in: the one from before while it is valid, and not too often.
    fn say_again(&mut self, node: usize, before: Option<Said>, payload: Payload) -> Option<Said> {
        if let Some(said) = before.as_ref().filter(|said| said.at + AGAIN_US > self.now) {
            return Some(Said { signed: Arc::clone(&said.signed), at: said.at });
        }
        let valid = before.map(|said| said.signed).filter(|signed| !self.is_expired(signed));
        let signed = valid.or_else(|| self.signed(node, payload))?;
        self.bring(node, Arc::clone(&signed));
        Some(Said { signed, at: self.now })
    }

    fn is_expired(&self, signed: &SignedTransaction) -> bool {
        signed.transaction.expires_ms <= START_MS + self.now / 1_000
    }

    /// A node saw a validator sign two different things: with its own key it brings that on chain, as a node does.
    pub(crate) fn bring_evidence(&mut self, node: usize, equivocation: &Equivocation) {
        if !self.manifest.epochs.as_ref().is_some_and(|epochs| epochs.evidence) {
            return;
        }
        let Some(evidence) = equivocation.evidence() else { return };
        let Some(live) = self.nodes[node].live.as_ref() else { return };
        let regime = &live.in_force.regime;
        let culprit = regime.set.get(evidence.validator).map(|culprit| culprit.address);
        let (Some(culprit), true) = (culprit, evidence.epoch == regime.number()) else { return };
        if self.operators.accused.insert((node, evidence.epoch, culprit)) {
            self.accuse(node, evidence);
        }
    }

    fn accuse(&mut self, node: usize, evidence: Evidence) {
        let name = self.name(node);
        let (validator, view) = (evidence.validator, evidence.view);
        if let Some(signed) = self.signed(node, Payload::Evidence(evidence)) {
            self.note(|| format!("{name} brings evidence against validator {validator} of view {view}"));
            self.bring(node, signed);
        }
    }

    /// A transaction signed with the node's validator key; none from a node that has no part in its epoch.
    fn signed(&mut self, node: usize, payload: Payload) -> Option<Arc<SignedTransaction>> {
        let sender = self.address_of(node)?;
        let live = self.nodes[node].live.as_ref()?;
        let signer = live.in_force.signer()?.clone();
        self.operators.nonce += 1;
        let transaction = Transaction {
            version: TRANSACTION_VERSION,
            chain: self.world.chain,
            sender,
            nonce: self.operators.nonce,
            expires_ms: START_MS + self.now / 1_000 + MOTION_LIFE_MS,
            keys: vec![KeyRef::Inline(signer.public().clone())],
            payload,
        };
        let signatures = vec![signer.sign(&transaction.preimage())];
        Some(Arc::new(SignedTransaction::new(transaction, signatures)))
    }

    /// A validator hands a transaction of its own to its node.
    fn bring(&mut self, node: usize, signed: Arc<SignedTransaction>) {
        let held = |live: &crate::node::Live| live.pool.contains(&signed.transaction.id());
        let again = self.nodes[node].live.as_ref().is_some_and(held);
        if again || self.admit(node, &signed) {
            self.pass_on(node, signed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;
    use crate::transcript::Transcript;

    #[test]
    fn approvals_that_come_too_late_cost_no_view() {
        let text = "duration = \"20s\"\n[net]\nlatency = \"10ms\"\n[load]\nrate = 0\n[epochs]\n\
                    [[epochs.change]]\nat = \"1s\"\nweigh = 1\npower = 2";
        let manifest = Manifest::parse(text, "test").unwrap();
        let mut cluster = Cluster::new(&manifest, false, Transcript::default()).unwrap();
        cluster.start_all();
        let motions = |cluster: &Cluster, node: usize| {
            let live = cluster.nodes[node].live.as_ref().unwrap();
            live.ledger.look(cairn_state::State::motions).unwrap()
        };
        // As soon as everybody has the motion all approve, one more than it takes. What the last one says is in all pools when
        // the motion is enacted.
        assert!(cluster.run(5_000_000, |cluster| (0..4).all(|node| !motions(cluster, node).is_empty())));
        let motion = motions(&cluster, 0)[0].id;
        (0..4).for_each(|node| cluster.approve(node, motion));
        assert!(motions(&cluster, 0)[0].approvals.len() == 1 && cluster.operators.nonce >= 4);
        cluster.run(manifest.duration.0, |_| false);
        assert_eq!((cluster.violation.clone(), cluster.record.epochs.len()), (None, 1));
        let waiting = |node: &crate::node::Node| node.live.as_ref().unwrap().pool.stats().transactions;
        assert_eq!(cluster.nodes.iter().map(waiting).collect::<Vec<_>>(), [0; 4]);
        assert_eq!(cluster.record.timeouts, 0, "views were given up for what nobody could build in");
    }
}
