//! Clients: they sign proofs, hand them to a validator, and try another one while theirs is not final.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use cairn_mempool::DIRECT_VALIDATORS_MAX;
use cairn_types::identity::IdentityOp;
use cairn_types::transaction::{Proofs, TRANSACTION_VERSION};
use cairn_types::{
    AuthenticatedTx, Context, Height, KeyRef, Payload, Proof, SignedTransaction, Transaction, TreeKind, TxId,
    Verified,
};
use rand::Rng;
use rand::seq::IndexedRandom;

use crate::cluster::Cluster;
use crate::events::Event;
use crate::ledger::Landed;
use crate::manifest::Manifest;
use crate::packet::Packet;
use crate::world::START_MS;

/// Copies of a transaction that its first node sends in a larger network, where others pass it on.
const GOSSIP_COPIES: usize = 8;
/// What comes within this time of the first waits and is passed on together, microseconds.
const FORWARD_EVERY_US: u64 = 2_000;
/// When a client whose transaction nobody took tries again, microseconds.
const REFUSED_RETRY_US: u64 = 250_000;

/// One transaction of a client.
pub(crate) struct Submission {
    pub(crate) signed: Arc<SignedTransaction>,
    pub(crate) id: TxId,
    pub(crate) submitted: u64,
    /// The node it was last handed to.
    pub(crate) entry: usize,
    pub(crate) tries: u32,
    /// When any honest node had it final.
    pub(crate) final_at: Option<u64>,
    /// When the node it was handed to had it final: what the client sees.
    pub(crate) seen_at: Option<u64>,
    pub(crate) height: Height,
    registers: Option<usize>,
}

/// What a client's key may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Registration {
    Unknown,
    Sent,
    Done,
}

/// All clients of a run.
pub(crate) struct Clients {
    pub(crate) submissions: Vec<Submission>,
    by_id: HashMap<TxId, usize>,
    registered: Vec<Registration>,
    nonce: u64,
    pub(crate) finals: u64,
}

impl Clients {
    pub(crate) fn new(manifest: &Manifest) -> Self {
        Self {
            submissions: Vec::new(),
            by_id: HashMap::new(),
            registered: vec![Registration::Unknown; manifest.load.clients as usize],
            nonce: 0,
            finals: 0,
        }
    }

    /// Transactions that are not final anywhere honest and may still become so.
    pub(crate) fn pending(&self, now: u64) -> impl Iterator<Item = &Submission> {
        self.submissions.iter().filter(move |it| it.final_at.is_none() && !expired(it, now))
    }
}

fn expired(submission: &Submission, now: u64) -> bool {
    submission.signed.transaction.expires_ms <= START_MS + now / 1_000
}

impl Cluster {
    pub(crate) fn plan_load(&mut self) {
        if self.manifest.load.rate > 0.0 {
            self.plan(self.manifest.load.start.0, Event::Submit);
        }
    }

    /// The next transaction of the load, and the one after it planned.
    pub(crate) fn submit_next(&mut self) {
        let load = self.manifest.load;
        let stop = load.stop.unwrap_or(self.manifest.duration);
        if self.now > stop.0 {
            return;
        }
        let _ = self.submit(); // nobody is ready: the next one comes anyway
        let mean = (1e6 / load.rate) as u64;
        let gap = if mean == 0 { 0 } else { self.rng.random_range(0..=2 * mean) };
        self.plan(self.now + gap.max(1), Event::Submit);
    }

    /// A new transaction of some client; `None` while all of them wait for their keys. A client's first one registers
    /// its key, and until that is final it sends nothing else: its key would have to be named in another way.
    pub(crate) fn submit(&mut self) -> Option<usize> {
        let registered = &self.clients.registered;
        let ready: Vec<usize> =
            (0..registered.len()).filter(|client| registered[*client] != Registration::Sent).collect();
        let client = *ready.choose(&mut self.rng)?;
        let (payload, key) = if self.clients.registered[client] == Registration::Unknown {
            self.clients.registered[client] = Registration::Sent;
            (Payload::Identity(IdentityOp::Register), self.inline_key(client))
        } else {
            (self.proofs(), KeyRef::Registered(0))
        };
        let registers = matches!(payload, Payload::Identity(_)).then_some(client);
        let index = self.sign(client, payload, key, registers);
        let entry = self.rng.random_range(0..self.manifest.net.n);
        self.hand_in(index, entry);
        Some(index)
    }

    fn inline_key(&self, client: usize) -> KeyRef {
        KeyRef::Inline(self.world.clients[client].public().clone())
    }

    fn proofs(&mut self) -> Payload {
        let count = self.manifest.load.proofs;
        let base = self.clients.nonce << 10;
        let proof = |index: u32| {
            Proof::batch(
                TreeKind::CairnB3V1,
                Context::BatchRoot.hash(&(base + u64::from(index)).to_le_bytes()),
                1,
            )
        };
        Payload::Proofs(Proofs((0..count).map(proof).collect()))
    }

    fn sign(&mut self, client: usize, payload: Payload, key: KeyRef, registers: Option<usize>) -> usize {
        self.clients.nonce += 1;
        let signer = &self.world.clients[client];
        // As long as clocks that are off allow.
        let window = self.world.params.replay_window_ms;
        let transaction = Transaction {
            version: TRANSACTION_VERSION,
            chain: self.world.chain,
            sender: signer.public().address(),
            nonce: self.clients.nonce,
            expires_ms: START_MS + self.now / 1_000 + window - window / 8,
            keys: vec![key],
            payload,
        };
        let signatures = vec![signer.sign(&transaction.preimage())];
        let signed = Arc::new(SignedTransaction::new(transaction, signatures));
        let (id, index) = (signed.transaction.id(), self.clients.submissions.len());
        self.clients.by_id.insert(id, index);
        self.clients.submissions.push(Submission {
            signed,
            id,
            submitted: self.now,
            entry: 0,
            tries: 0,
            final_at: None,
            seen_at: None,
            height: Height::ZERO,
            registers,
        });
        index
    }

    /// A client hands a transaction to a validator, and looks after it later.
    pub(crate) fn hand_in(&mut self, index: usize, entry: usize) {
        let submission = &mut self.clients.submissions[index];
        submission.entry = entry;
        submission.tries += 1;
        let signed = Arc::clone(&submission.signed);
        let taken = self.nodes[entry].is_up() && self.admit(entry, &signed);
        if taken {
            self.pass_on(entry, signed);
        }
        let after = if taken { self.manifest.load.retry.0 } else { REFUSED_RETRY_US };
        self.plan(self.now + after, Event::Retry { transaction: index });
    }

    /// A client whose transaction is not final goes to another validator.
    pub(crate) fn retry(&mut self, index: usize) {
        let submission = &self.clients.submissions[index];
        if submission.final_at.is_some() {
            return;
        }
        if expired(submission, self.now) {
            if let Some(client) = submission.registers {
                self.clients.registered[client] = Registration::Unknown;
            }
            return;
        }
        let n = self.manifest.net.n;
        let entry = if n == 1 { 0 } else { (submission.entry + self.rng.random_range(1..n)) % n };
        self.hand_in(index, entry);
    }

    /// Everything a node looks at before a transaction enters its pool.
    pub(crate) fn admit(&mut self, node: usize, signed: &Arc<SignedTransaction>) -> bool {
        let now_ms = self.clock_ms(node);
        let Some(live) = self.nodes[node].live.as_mut() else { return false };
        let Ok(keys) = live.ledger.resolve_keys(None, &signed.transaction) else { return false };
        let Ok(tx) = self.world.authenticate(signed, keys) else { return false };
        self.pool(node, tx, now_ms)
    }

    fn pool(&mut self, node: usize, tx: Verified<AuthenticatedTx>, now_ms: u64) -> bool {
        let Some(live) = self.nodes[node].live.as_mut() else { return false };
        if live.ledger.dry_run(&tx, now_ms).is_err() || live.pool.insert(tx, now_ms).is_err() {
            return false;
        }
        let told = live.told.0;
        self.look_at_bounds(node);
        if !told {
            self.tell_work(node);
        }
        true
    }

    pub(crate) fn pass_on(&mut self, node: usize, signed: Arc<SignedTransaction>) {
        let incarnation = self.nodes[node].incarnation;
        let Some(live) = self.nodes[node].live.as_mut() else { return };
        live.forward.push(signed);
        if !std::mem::replace(&mut live.forward_planned, true) {
            // The first goes at once; what comes while it is being sent waits for the next round.
            self.forward_now(node);
            self.plan(self.now + FORWARD_EVERY_US, Event::Forward { node, incarnation });
        }
    }

    pub(crate) fn forward(&mut self, node: usize) {
        let incarnation = self.nodes[node].incarnation;
        let Some(live) = self.nodes[node].live.as_mut() else { return };
        live.forward_planned = !live.forward.is_empty();
        if live.forward_planned {
            self.forward_now(node);
            self.plan(self.now + FORWARD_EVERY_US, Event::Forward { node, incarnation });
        }
    }

    /// To every validator of a small set; in a large one to the current and the next leader, and by gossip to
    /// the others, of which the first node sends a few copies itself.
    fn forward_now(&mut self, node: usize) {
        let regime = self.regime_of(node);
        let member = |to: &usize| regime.set.index_of(&self.world.holders[*to].address).is_some();
        let members: Vec<usize> = (0..self.world.holders.len()).filter(member).collect();
        let Some(live) = self.nodes[node].live.as_mut() else { return };
        let (list, view) = (std::mem::take(&mut live.forward), live.replica.view());
        let bytes: usize = list.iter().map(|tx| self.world.transaction_bytes(tx) + 4).sum();
        let packet = Packet::Transactions(Rc::new(list), bytes as u64);
        if members.len() <= DIRECT_VALIDATORS_MAX {
            for to in members.into_iter().filter(|to| *to != node) {
                self.send(node, to, packet.clone());
            }
            return;
        }
        let holder = |view| {
            let leader = regime.set.get(regime.set.leader(view));
            leader.and_then(|leader| self.world.holder_of(&leader.address)).unwrap_or_default()
        };
        let leaders = [view, view.next()].map(holder);
        for to in leaders.into_iter().filter(|to| *to != node) {
            self.send(node, to, packet.clone());
        }
        let others: Vec<usize> =
            members.into_iter().filter(|to| *to != node && !leaders.contains(to)).collect();
        for (position, to) in others.iter().enumerate() {
            // Whoever got an early copy passes it on: one hop more, on another node's line.
            let relay = if position < GOSSIP_COPIES { node } else { others[position % GOSSIP_COPIES] };
            if relay == node {
                self.send(node, *to, packet.clone());
            } else {
                let after = self.network.usual(node, relay);
                self.plan(self.now + after, Event::Late { from: relay, to: *to, packet: packet.clone() });
            }
        }
    }

    /// Transactions that another node passes on.
    pub(crate) fn receive_transactions(&mut self, node: usize, list: &[Arc<SignedTransaction>]) {
        let height = self.height_of(node);
        for signed in list {
            let Some(live) = self.nodes[node].live.as_ref() else { return };
            let id = match self.clients.by_id_of(signed) {
                Some(id) => id,
                None => signed.transaction.id(),
            };
            if !live.pool.contains(&id) && !live.ledger.has(&id, height) {
                self.admit(node, signed);
            }
        }
    }

    /// A node has made a block final.
    pub(crate) fn landed(&mut self, node: usize, block: &Landed) {
        if !self.nodes[node].honest {
            return;
        }
        for id in &block.transactions {
            let Some(index) = self.clients.by_id.get(id) else { continue };
            let submission = &mut self.clients.submissions[*index];
            if submission.final_at.is_none() {
                submission.final_at = Some(self.now);
                submission.height = block.height;
                self.clients.finals += 1;
                if let Some(client) = submission.registers {
                    self.clients.registered[client] = Registration::Done;
                }
            }
            if submission.entry == node && submission.seen_at.is_none() {
                submission.seen_at = Some(self.now);
            }
        }
    }
}

impl Clients {
    /// The id of a transaction of ours, without hashing it again.
    fn by_id_of(&self, signed: &Arc<SignedTransaction>) -> Option<TxId> {
        let nonce = usize::try_from(signed.transaction.nonce).ok()?;
        let found = self.submissions.get(nonce.checked_sub(1)?)?;
        Arc::ptr_eq(&found.signed, signed).then_some(found.id)
    }
}
