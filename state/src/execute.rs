//! Pure execution: the rules of FORMATS, "Transactions", applied to one transaction after another.
//!
//! A transaction is judged whole before anything of it is kept, so a refused one leaves no trace and
//! building simply goes on with the next.

use std::collections::HashSet;
use std::sync::Arc;

use cairn_types::block::BLOCK_TRANSACTIONS_MAX;
use cairn_types::delegation::DelegationOp;
use cairn_types::identity::{IdentityEntry, IdentityOp};
use cairn_types::log::TreeHash;
use cairn_types::multisig::{MultisigOp, Proposed};
use cairn_types::record::Landing;
use cairn_types::shortcut::{self, Step};
use cairn_types::state_key::state_value;
use cairn_types::{
    Address, ChainId, Evidence, GovernanceOp, Hash, Height, KeyRef, Motion, Payload, Proof, ProofId,
    PublicKey, Record, Regime, SignedTransaction, StateKey, Transaction, TxFault, TxId, tree,
};

use crate::authenticated;
use crate::delegation::{self, Spending};
use crate::error::StateError;
use crate::governance::{self, GovernanceRefusal, Rules};
use crate::identity::{Moment, change, check_admission, required_keys};
use crate::layout::{TxLocation, reference_prefix};
use crate::logs::Logs;
use crate::multisig::{self, Member};
use crate::overlay::{Effects, Head, NewRecord, View};
use crate::refusal::TxRefusal;
use crate::registry::Registry;

/// A transaction to execute.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) signed: &'a SignedTransaction,
    pub(crate) id: TxId,
    pub(crate) bytes: usize,
    /// The keys its signatures were checked against; `None` when a commit certificate attests them.
    pub(crate) keys: Option<&'a [PublicKey]>,
}

/// Why a transaction was not applied: a rule, or our own trouble.
#[derive(Clone, Debug)]
pub(crate) enum Halt {
    Refused(TxRefusal),
    Failed(StateError),
}

impl From<TxRefusal> for Halt {
    fn from(refusal: TxRefusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StateError> for Halt {
    fn from(error: StateError) -> Self {
        Self::Failed(error)
    }
}

/// The header fields that execution decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Roots {
    pub(crate) tx_root: Hash,
    pub(crate) tx_count: u32,
    pub(crate) state_root: Hash,
    pub(crate) anchors_root: Hash,
    pub(crate) anchors_size: u64,
    pub(crate) anchors_sha256: Hash,
    pub(crate) history_root: Hash,
}

/// A block's whole effect.
#[derive(Debug)]
pub(crate) struct Executed {
    pub(crate) transactions: Vec<TxId>,
    pub(crate) effects: Effects,
    pub(crate) logs: Logs,
    pub(crate) tree_version: u64,
    pub(crate) roots: Roots,
    /// The next epoch's rules, when the block ends its epoch or carries the end.
    pub(crate) next: Option<Arc<Rules>>,
}

impl Executed {
    /// A carrier of `parent`'s end: no transactions, everything else repeated (consensus rule E).
    pub(crate) fn carrier(parent: &Head) -> Self {
        let header = &parent.header;
        Self {
            transactions: Vec::new(),
            effects: Effects::default(),
            logs: parent.logs.clone(),
            tree_version: parent.tree_version,
            roots: Roots {
                tx_root: TreeHash::Transactions.empty(),
                tx_count: 0,
                state_root: header.state_root,
                anchors_root: header.anchors_root,
                anchors_size: header.anchors_size,
                anchors_sha256: header.anchors_sha256,
                history_root: header.history_root,
            },
            next: parent.next.clone(),
        }
    }
}

/// Who does something, in which transaction. `identity` is as the parent's state has it.
#[derive(Clone, Copy, Debug)]
struct Actor<'a> {
    tx_id: TxId,
    sender: Address,
    key_address: Address,
    identity: Option<&'a IdentityEntry>,
}

/// A block being executed on its parent.
pub(crate) struct Execution<'a> {
    rules: &'a Rules,
    view: &'a View<'a>,
    parent: &'a Head,
    height: Height,
    time_ms: u64,
    registry: Registry<'a>,
    proofs: HashSet<ProofId>,
    /// The open motions as this block leaves them; `None` while it has not touched them.
    motions: Option<Vec<Motion>>,
    /// What the next epoch is run by, once a transaction has ended this one.
    enacted: Option<Regime>,
    transactions: Vec<TxId>,
    leaves: Vec<Hash>,
    bytes: usize,
    logs: Logs,
    effects: Effects,
    /// Whether one transaction is only judged: then no record is made, and the logs are not looked at.
    judging: bool,
}

impl<'a> Execution<'a> {
    /// Starts the block after `parent`; `view` is the state after `parent`.
    pub(crate) fn new(rules: &'a Rules, view: &'a View<'a>, parent: &'a Head, time_ms: u64) -> Self {
        let mut execution = Self::on(rules, view, parent, time_ms);
        execution.logs = parent.logs.clone();
        execution.logs.append_block(&parent.id, &mut execution.effects.log_nodes);
        execution
    }

    /// As [`Execution::new`], for judging one transaction and nothing else.
    pub(crate) fn judging(rules: &'a Rules, view: &'a View<'a>, parent: &'a Head, time_ms: u64) -> Self {
        Self { judging: true, ..Self::on(rules, view, parent, time_ms) }
    }

    /// Without the parent's logs.
    fn on(rules: &'a Rules, view: &'a View<'a>, parent: &'a Head, time_ms: u64) -> Self {
        let height = parent.header.height.next();
        Self {
            rules,
            view,
            parent,
            height,
            time_ms,
            registry: Registry::new(view, Moment { height, time_ms }),
            proofs: HashSet::new(),
            motions: None,
            enacted: None,
            transactions: Vec::new(),
            leaves: Vec::new(),
            bytes: 0,
            logs: Logs::default(),
            effects: Effects::default(),
            judging: false,
        }
    }

    /// Judges one transaction and, when it is valid, applies it.
    pub(crate) fn apply(&mut self, candidate: &Candidate<'_>) -> Result<(), Halt> {
        let tx = &candidate.signed.transaction;
        let bytes = self.check_bounds(candidate)?;
        check_time(tx, self.time_ms, self.rules.params.replay_window_ms)?;
        self.check_replay(candidate.id, tx.expires_ms)?;
        self.registry.check_unchanged(tx.sender)?;
        let identity = self.registry.resolve(tx.sender)?;
        let identity = identity.as_deref();
        let keys = signing_keys(tx, identity, self.rules, Some(self.time_ms))?;
        check_given_keys(tx.sender, &keys, candidate.keys)?;
        let first_seq = self.logs.anchors.size();
        let by = Actor {
            tx_id: candidate.id,
            sender: tx.sender,
            key_address: keys.first().copied().unwrap_or_default(),
            identity,
        };
        match &tx.payload {
            Payload::Proofs(_) if shortcut::is_left_out(Step::Execution) => {}
            Payload::Proofs(proofs) => self.anchor(by, &proofs.0)?,
            Payload::Identity(op) => self.change_identity(by, inline_key(tx), op)?,
            Payload::Delegation(op) => self.delegate(by, op)?,
            Payload::Multisig(op) => self.share_control(by, tx, op)?,
            Payload::Governance(op) => self.govern(tx.sender, candidate.id, op)?,
            Payload::Evidence(evidence) => self.convict(evidence)?,
        }
        if self.judging {
            return Ok(());
        }
        let records = self.logs.anchors.size().saturating_sub(first_seq);
        let location = TxLocation {
            height: self.height,
            index: u32::try_from(self.transactions.len()).unwrap_or(u32::MAX),
            time_ms: self.time_ms,
            first_seq,
            records: u16::try_from(records).unwrap_or(u16::MAX),
        };
        self.effects.locations.insert(candidate.id, location);
        self.transactions.push(candidate.id);
        self.leaves.push(candidate.signed.block_leaf());
        self.bytes = bytes;
        Ok(())
    }

    /// Shape, size and room; gives the block's bytes with this transaction.
    fn check_bounds(&self, candidate: &Candidate<'_>) -> Result<usize, TxRefusal> {
        check_shape(candidate, self.rules)?;
        let max = usize::try_from(self.rules.params.block_bytes_max).unwrap_or(usize::MAX);
        let got = self.bytes.saturating_add(candidate.bytes);
        if got > max || self.transactions.len() >= BLOCK_TRANSACTIONS_MAX {
            return Err(TxRefusal::BlockFull { got, max });
        }
        Ok(got)
    }

    fn check_replay(&self, id: TxId, expires_ms: u64) -> Result<(), Halt> {
        if self.effects.locations.contains_key(&id) {
            return Err(TxRefusal::RepeatedInBlock { id }.into());
        }
        let window = self.rules.params.replay_window_ms;
        match self.view.transaction(&id, expires_ms)? {
            // In the window: ancestor time > block time - window.
            Some(found) if found.time_ms.saturating_add(window) > self.time_ms => {
                Err(TxRefusal::Replayed { id, height: found.height }.into())
            }
            _ => Ok(()),
        }
    }

    /// Anchors proofs, when each of them may be.
    fn anchor(&mut self, by: Actor<'_>, proofs: &[Proof]) -> Result<(), Halt> {
        check_admission(by.sender, by.identity, self.rules.admission)?;
        let mut spending = Spending::default();
        let mut ids = Vec::with_capacity(proofs.len());
        for (index, proof) in proofs.iter().enumerate() {
            let sender = (by.sender, by.identity);
            delegation::check_proof(&mut self.registry, &mut spending, sender, (index, proof))?;
            if self.judging {
                // Alone in its block, and a transaction that repeats a proof has no valid shape.
                continue;
            }
            let id = proof.id(self.rules.chain, by.sender);
            if self.proofs.contains(&id) {
                return Err(TxRefusal::ProofRepeatedInBlock { proof: id }.into());
            }
            ids.push(id);
        }
        spending.settle(&mut self.registry);
        self.append_records(by, proofs, &ids);
        Ok(())
    }

    fn change_identity(
        &mut self,
        by: Actor<'_>,
        inline: Option<&PublicKey>,
        op: &IdentityOp,
    ) -> Result<(), Halt> {
        let address = match op {
            IdentityOp::Admit(address) => *address,
            _ => by.sender,
        };
        let entry = self.registry.identity(address)?;
        let change = change((by.sender, inline), op, entry, self.rules.admission, self.registry.at)?;
        self.registry.apply(change, by.tx_id);
        Ok(())
    }

    fn delegate(&mut self, by: Actor<'_>, op: &DelegationOp) -> Result<(), Halt> {
        delegation::apply(&mut self.registry, by.sender, op, by.tx_id, self.rules.admission)
    }

    /// A step of shared control. The payload that it makes ready is carried out first: when it is refused, so
    /// is the step.
    fn share_control(&mut self, by: Actor<'_>, tx: &Transaction, op: &MultisigOp) -> Result<(), Halt> {
        let (Some(identity), [KeyRef::Registered(key)]) = (by.identity, tx.keys.as_slice()) else {
            return Err(TxRefusal::UnknownIdentity { address: by.sender }.into());
        };
        let member = Member { account: by.sender, identity, key: *key, tx_id: by.tx_id };
        let step = multisig::step(&self.registry, member, op)?;
        match step.ready.as_ref().map(|ready| &ready.payload) {
            None => {}
            Some(Proposed::Proofs(proofs)) => self.anchor(by, &proofs.0)?,
            Some(Proposed::Identity(op)) => self.change_identity(by, None, op)?,
            Some(Proposed::Delegation(op)) => self.delegate(by, op)?,
        }
        step.keep(&mut self.registry, member)
    }

    fn append_records(&mut self, by: Actor<'_>, proofs: &[Proof], ids: &[ProofId]) {
        if self.judging {
            return;
        }
        for (proof, id) in proofs.iter().zip(ids) {
            let at = Landing {
                seq: self.logs.anchors.size(),
                proof_id: *id,
                sender: by.sender,
                key_address: by.key_address,
                tx_id: by.tx_id,
                height: self.height,
                time_ms: self.time_ms,
            };
            let bytes = Record::new(proof, at).to_bytes();
            self.logs.append_record(&bytes, &mut self.effects.log_nodes);
            self.proofs.insert(*id);
            let reference =
                (!proof.reference.is_empty()).then(|| reference_prefix(&by.sender, &proof.reference).0);
            self.effects.records.push(NewRecord {
                seq: at.seq,
                kind: proof.kind,
                sender: by.sender,
                proof: *id.as_bytes(),
                root: proof.root.0,
                reference,
                previous: proof.previous,
                subject: proof.subject,
                bytes,
            });
        }
    }

    /// A step of governance. Once one has ended the epoch, the next waits for the next epoch.
    fn govern(&mut self, sender: Address, tx: TxId, op: &GovernanceOp) -> Result<(), Halt> {
        self.check_goes_on()?;
        let motions = match &self.motions {
            Some(motions) => motions.clone(),
            None => self.view.motions()?,
        };
        let at = governance::Moment { sender, tx, height: self.height, time_ms: self.time_ms };
        let governed = governance::govern(op, at, self.rules, motions).map_err(TxRefusal::from)?;
        self.motions = Some(governed.motions);
        self.enacted = governed.enacted;
        Ok(())
    }

    fn convict(&mut self, evidence: &Evidence) -> Result<(), TxRefusal> {
        self.check_goes_on()?;
        self.enacted = Some(governance::convict(evidence, self.rules)?);
        Ok(())
    }

    fn check_goes_on(&self) -> Result<(), TxRefusal> {
        if self.enacted.is_none() { Ok(()) } else { Err(GovernanceRefusal::EpochEnds.into()) }
    }

    /// What governance writes into the tree.
    fn governed_values(&self) -> Vec<(Hash, Vec<u8>)> {
        let mut values = Vec::new();
        if let Some(motions) = &self.motions {
            values.push((StateKey::Motions.hash(), state_value(motions)));
        }
        if let Some(Regime { set, params, protocol }) = &self.enacted {
            values.push((StateKey::Validators.hash(), state_value(set)));
            if *params != self.rules.params {
                values.push((StateKey::Params.hash(), state_value(params)));
            }
            if *protocol != self.rules.protocol {
                values.push((StateKey::Protocol.hash(), state_value(protocol)));
            }
        }
        values
    }

    /// Ends the block: writes the changed identities into the tree and works out every root.
    pub(crate) fn finish(mut self) -> Result<Executed, StateError> {
        let (mut state_root, mut tree_version) = (self.parent.header.state_root, self.parent.tree_version);
        let mut values = self.governed_values();
        let (identities, registry) = self.registry.finish();
        values.extend(identities);
        self.effects.registry = registry;
        if !values.is_empty() {
            let version = self.height.get();
            let (root, writes) = authenticated::update(self.view, Some(tree_version), version, values)?;
            (state_root, tree_version) = (root, version);
            self.effects.tree = writes;
        }
        let roots = Roots {
            tx_root: tree::tx_root(&self.leaves),
            tx_count: u32::try_from(self.leaves.len()).unwrap_or(u32::MAX),
            state_root,
            anchors_root: self.logs.anchors.root(TreeHash::Anchors),
            anchors_size: self.logs.anchors.size(),
            anchors_sha256: self.logs.anchors_sha256.root(TreeHash::AnchorsSha256),
            history_root: self.logs.history.root(TreeHash::History),
        };
        Ok(Executed {
            transactions: self.transactions,
            effects: self.effects,
            logs: self.logs,
            tree_version,
            roots,
            next: self.enacted.map(|regime| Arc::new(self.rules.next(regime))),
        })
    }
}

/// The address of each key that must have signed, in order, and after them that of the accused, whose
/// signatures evidence brings.
pub(crate) fn signing_keys(
    tx: &Transaction,
    identity: Option<&IdentityEntry>,
    rules: &Rules,
    time_ms: Option<u64>,
) -> Result<Vec<Address>, TxRefusal> {
    let mut keys = match rules.validator_key(tx)? {
        Some(key) => vec![key],
        None => {
            let keys = required_keys(tx, identity, time_ms)?;
            if matches!(tx.payload, Payload::Evidence(_)) {
                check_admission(tx.sender, identity, rules.admission)?;
            }
            keys
        }
    };
    if let Payload::Evidence(evidence) = &tx.payload {
        keys.push(rules.accused(evidence)?.key.address());
    }
    Ok(keys)
}

/// The key that an unregistered sender signs with.
fn inline_key(tx: &Transaction) -> Option<&PublicKey> {
    tx.keys.iter().find_map(|key| match key {
        KeyRef::Inline(key) => Some(key),
        KeyRef::Registered(_) => None,
    })
}

/// Everything that depends on the transaction and the parameters alone.
fn check_shape(candidate: &Candidate<'_>, rules: &Rules) -> Result<(), TxRefusal> {
    let tx = &candidate.signed.transaction;
    check_own_bytes(tx, rules.chain)?;
    let (got, expected) = (candidate.signed.signatures.len(), tx.keys.len());
    if got != expected {
        return Err(TxRefusal::Shape(TxFault::SignatureCount { got, expected }));
    }
    let max = usize::try_from(rules.params.transaction_bytes_max).unwrap_or(usize::MAX);
    if candidate.bytes > max {
        return Err(TxRefusal::TooLarge { got: candidate.bytes, max });
    }
    Ok(())
}

/// The rules on a transaction's own bytes.
pub(crate) fn check_own_bytes(tx: &Transaction, chain: ChainId) -> Result<(), TxRefusal> {
    tx.check_shape(chain).map_err(|fault| match fault {
        TxFault::WrongChain { got, expected } => TxRefusal::WrongChain { got, expected },
        other => TxRefusal::Shape(other),
    })
}

/// `time < expires <= time + window`.
fn check_time(tx: &Transaction, time_ms: u64, window_ms: u64) -> Result<(), TxRefusal> {
    let expires_ms = tx.expires_ms;
    if expires_ms <= time_ms {
        return Err(TxRefusal::AlreadyExpired { expires_ms, time_ms });
    }
    let latest_ms = time_ms.saturating_add(window_ms);
    if expires_ms > latest_ms {
        return Err(TxRefusal::ExpiresTooLate { expires_ms, latest_ms });
    }
    Ok(())
}

/// The keys the signatures were checked against must be those the parent's state asks for.
fn check_given_keys(
    sender: Address,
    required: &[Address],
    given: Option<&[PublicKey]>,
) -> Result<(), TxRefusal> {
    match given {
        None => Ok(()),
        Some(given)
            if given.len() == required.len()
                && given.iter().zip(required).all(|(key, address)| key.address() == *address) =>
        {
            Ok(())
        }
        Some(_) => Err(TxRefusal::StaleKeys { address: sender }),
    }
}
