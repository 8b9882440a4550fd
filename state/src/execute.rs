//! Pure execution: the rules of FORMATS, "Transactions", applied to one transaction after another.
//!
//! A transaction is judged whole before anything of it is kept, so a refused one leaves no trace and
//! building simply goes on with the next.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use cairn_types::block::BLOCK_TRANSACTIONS_MAX;
use cairn_types::identity::IdentityOp;
use cairn_types::log::TreeHash;
use cairn_types::record::Landing;
use cairn_types::{
    Address, ChainId, Evidence, GovernanceOp, Hash, Height, Motion, Payload, Proof, ProofId, PublicKey,
    Record, Regime, SignedTransaction, Transaction, TxFault, TxId, tree,
};

use jmt::KeyHash;

use crate::authenticated::{self, StateKey, value_bytes};
use crate::error::StateError;
use crate::governance::{self, GovernanceRefusal, Moment, Rules};
use crate::identity::{IdentityChange, IdentityEntry, change, check_admission, required_keys};
use crate::layout::{TxLocation, reference_prefix};
use crate::logs::Logs;
use crate::overlay::{Effects, Head, NewRecord, View};
use crate::refusal::TxRefusal;

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

/// A block being executed on its parent.
pub(crate) struct Execution<'a> {
    rules: &'a Rules,
    view: &'a View<'a>,
    parent: &'a Head,
    height: Height,
    time_ms: u64,
    /// Identities as the parent's state has them: what keys and policies resolve against.
    resolved: HashMap<Address, Option<Arc<IdentityEntry>>>,
    /// Identities as this block leaves them. Whoever is in here sends nothing more in this block.
    changed: BTreeMap<Address, IdentityEntry>,
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
    /// Whether transactions are only judged: then no record is made and no log grows.
    judging: bool,
}

impl<'a> Execution<'a> {
    /// Starts the block after `parent`; `view` is the state after `parent`.
    pub(crate) fn new(rules: &'a Rules, view: &'a View<'a>, parent: &'a Head, time_ms: u64) -> Self {
        let mut logs = parent.logs.clone();
        let mut effects = Effects::default();
        logs.append_block(&parent.id, &mut effects.log_nodes);
        Self {
            rules,
            view,
            parent,
            height: parent.header.height.next(),
            time_ms,
            resolved: HashMap::new(),
            changed: BTreeMap::new(),
            proofs: HashSet::new(),
            motions: None,
            enacted: None,
            transactions: Vec::new(),
            leaves: Vec::new(),
            bytes: 0,
            logs,
            effects,
            judging: false,
        }
    }

    /// As [`Execution::new`], for judging one transaction and nothing else.
    pub(crate) fn judging(rules: &'a Rules, view: &'a View<'a>, parent: &'a Head, time_ms: u64) -> Self {
        Self { judging: true, ..Self::new(rules, view, parent, time_ms) }
    }

    /// Judges one transaction and, when it is valid, applies it.
    pub(crate) fn apply(&mut self, candidate: &Candidate<'_>) -> Result<(), Halt> {
        let tx = &candidate.signed.transaction;
        let bytes = self.check_bounds(candidate)?;
        check_time(tx, self.time_ms, self.rules.params.replay_window_ms)?;
        self.check_replay(candidate.id)?;
        if self.changed.contains_key(&tx.sender) {
            return Err(TxRefusal::IdentityChangedInBlock { address: tx.sender }.into());
        }
        let identity = self.resolve(tx.sender)?;
        let keys = signing_keys(tx, identity.as_deref(), self.rules)?;
        check_given_keys(tx.sender, &keys, candidate.keys)?;
        let first_seq = self.logs.anchors.size();
        match &tx.payload {
            Payload::Proofs(proofs) => {
                check_admission(tx.sender, identity.as_deref(), self.rules.admission)?;
                let ids = self.check_proofs(tx.sender, &proofs.0)?;
                self.append_records(
                    candidate.id,
                    tx.sender,
                    keys.first().copied().unwrap_or_default(),
                    &proofs.0,
                    &ids,
                );
            }
            Payload::Governance(op) => self.govern(tx.sender, candidate.id, op)?,
            Payload::Evidence(evidence) => self.convict(evidence)?,
            Payload::Identity(op) => {
                let change = self.identity_change(tx, op)?;
                self.apply_change(change);
            }
        }
        let location = TxLocation {
            height: self.height,
            index: u32::try_from(self.transactions.len()).unwrap_or(u32::MAX),
            time_ms: self.time_ms,
            first_seq,
            records: u16::try_from(tx.proofs().len()).unwrap_or(u16::MAX),
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

    fn check_replay(&self, id: TxId) -> Result<(), Halt> {
        if self.effects.locations.contains_key(&id) {
            return Err(TxRefusal::RepeatedInBlock { id }.into());
        }
        let window = self.rules.params.replay_window_ms;
        match self.view.transaction(&id)? {
            // In the window: ancestor time > block time - window.
            Some(found) if found.time_ms.saturating_add(window) > self.time_ms => {
                Err(TxRefusal::Replayed { id, height: found.height }.into())
            }
            _ => Ok(()),
        }
    }

    fn resolve(&mut self, address: Address) -> Result<Option<Arc<IdentityEntry>>, StateError> {
        if let Some(known) = self.resolved.get(&address) {
            return Ok(known.clone());
        }
        let entry = self.view.identity(address)?.map(Arc::new);
        self.resolved.insert(address, entry.clone());
        Ok(entry)
    }

    fn check_proofs(&self, sender: Address, proofs: &[Proof]) -> Result<Vec<ProofId>, TxRefusal> {
        let mut ids = Vec::with_capacity(proofs.len());
        for (index, proof) in proofs.iter().enumerate() {
            // No payload of this release grants a delegation, so none is ever in force.
            if let Some(principal) = proof.on_behalf_of {
                return Err(TxRefusal::DelegationMissing { index, sender, principal });
            }
            let id = proof.id(self.rules.chain, sender);
            if self.proofs.contains(&id) {
                return Err(TxRefusal::ProofRepeatedInBlock { proof: id });
            }
            ids.push(id);
        }
        Ok(ids)
    }

    fn append_records(
        &mut self,
        tx_id: TxId,
        sender: Address,
        key: Address,
        proofs: &[Proof],
        ids: &[ProofId],
    ) {
        if self.judging {
            return;
        }
        for (proof, id) in proofs.iter().zip(ids) {
            let at = Landing {
                seq: self.logs.anchors.size(),
                proof_id: *id,
                sender,
                key_address: key,
                tx_id,
                height: self.height,
                time_ms: self.time_ms,
            };
            let bytes = Record::new(proof, at).to_bytes();
            self.logs.append_record(&bytes, &mut self.effects.log_nodes);
            self.proofs.insert(*id);
            let reference =
                (!proof.reference.is_empty()).then(|| reference_prefix(&sender, &proof.reference).0);
            self.effects.records.push(NewRecord {
                seq: at.seq,
                kind: proof.kind,
                sender,
                proof: *id.as_bytes(),
                root: proof.root.0,
                reference,
                bytes,
            });
        }
    }

    fn identity_change(&mut self, tx: &Transaction, op: &IdentityOp) -> Result<IdentityChange, Halt> {
        let address = match op {
            IdentityOp::Admit(address) => *address,
            _ => tx.sender,
        };
        let entry = match self.changed.get(&address) {
            Some(entry) => Some(entry.clone()),
            None => self.resolve(address)?.as_deref().cloned(),
        };
        Ok(change(tx, op, entry, self.rules.admission, self.height)?)
    }

    fn apply_change(&mut self, change: IdentityChange) {
        if let Some(key) = change.key {
            self.effects.public_keys.insert(key.address(), key);
        }
        self.changed.insert(change.address, change.entry);
    }

    /// A step of governance. Once one has ended the epoch, the next waits for the next epoch.
    fn govern(&mut self, sender: Address, tx: TxId, op: &GovernanceOp) -> Result<(), Halt> {
        self.check_goes_on()?;
        let motions = match &self.motions {
            Some(motions) => motions.clone(),
            None => self.view.motions()?,
        };
        let at = Moment { sender, tx, height: self.height, time_ms: self.time_ms };
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
    fn governed_values(&self) -> Vec<(KeyHash, Vec<u8>)> {
        let mut values = Vec::new();
        if let Some(motions) = &self.motions {
            values.push((StateKey::Motions.hash(), value_bytes(motions)));
        }
        if let Some(Regime { set, params, protocol }) = &self.enacted {
            values.push((StateKey::Validators.hash(), value_bytes(set)));
            if *params != self.rules.params {
                values.push((StateKey::Params.hash(), value_bytes(params)));
            }
            if *protocol != self.rules.protocol {
                values.push((StateKey::Protocol.hash(), value_bytes(protocol)));
            }
        }
        values
    }

    /// Ends the block: writes the changed identities into the tree and works out every root.
    pub(crate) fn finish(mut self) -> Result<Executed, StateError> {
        let (mut state_root, mut tree_version) = (self.parent.header.state_root, self.parent.tree_version);
        let mut values = self.governed_values();
        values.extend(
            self.changed
                .iter()
                .map(|(address, entry)| (StateKey::Identity(*address).hash(), value_bytes(entry))),
        );
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
) -> Result<Vec<Address>, TxRefusal> {
    let mut keys = match rules.validator_key(tx)? {
        Some(key) => vec![key],
        None => {
            let keys = required_keys(tx, identity)?;
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
